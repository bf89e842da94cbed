"""The bench's arithmetic, apart from what measures: medians, corrections, bounds, tables."""
import statistics

PYTHON_JOINED_PER_SECOND = 95   # the original's design on two cores (FastAPI, OpenCV, ONNX Runtime)
IN_BUDGET = {"median 5", "mean 3", "rotate 90"}  # operations that must be as fast as OpenCV's
FLAT = 1.05                     # growth over the second half that still counts as none


def median(values):
    return statistics.median(values) if values else None


def corrected(per_second, seconds, other_cpu_s, cores):
    """Throughput had the CPUs not also been busy for `other_cpu_s` with what is not measured (client,
    sink): in `seconds` the cores gave seconds x cores, of which only the rest was the service's."""
    left = seconds - other_cpu_s / cores
    return per_second * seconds / left if left > 0 else None


def in_series(*rates):
    """Per second, if each request costs what one at each of these rates costs, one after the other."""
    return 1 / sum(1 / rate for rate in rates)


def share(part, whole):
    return part / whole if whole > 0 else 0


def ratios(rounds, above, below):
    """One ratio a round: what is compared was measured within seconds of each other."""
    return [share(above(r), below(r)) for r in rounds]


def growth(samples):
    """Last quarter over third quarter, each by its median; None if there are too few samples."""
    if len(samples) < 8:
        return None
    quarter = len(samples) // 4
    return median(samples[-quarter:]) / median(samples[-2 * quarter:-quarter])


def front_sum(r):
    return in_series(r["a"], r["c"], r["e"])


def classify_sum(r):
    return in_series(r["tensor"], r["b"])


def joined_sum(r):
    """Codec, front, put and commit; fetch is left out; decode of what is stored, model, second put."""
    return in_series(r["a"], r["c"], r["e"], r["stored_tensor"], r["b"], r["put"])


def cpu_ratio(floors, service, front=False):
    """What the floors' work costs in CPU time, over what a request costs the service: says less than
    throughput (nothing of waiting), but holds on a machine that others load too. `front`: the floors have
    the client in them."""
    def of(r):
        spent = r[service]["cpu_ms_per_request"] + (r[service]["client_cpu_ms_per_request"] if front else 0)
        return sum(r["cpu_ms"][name] for name in floors) / spent if spent > 0 else 0
    return of


def tail(slices):
    """p99 over p50, by slice."""
    return median([s["latency_ms"]["p99"] / s["latency_ms"]["p50"] for s in slices if s["latency_ms"]["p50"]])


class Bound:
    def __init__(self, name, figure, limit=None, at_most=False, unit=""):
        self.name, self.figure, self.limit, self.at_most, self.unit = name, figure, limit, at_most, unit

    @property
    def verdict(self):
        if self.figure is None:
            return "missing"
        if self.limit is None:
            return ""
        return "met" if (self.figure <= self.limit if self.at_most else self.figure >= self.limit) else "short"

    def as_json(self):
        return {"name": self.name, "figure": self.figure, "bound": self.limit,
                "direction": None if self.limit is None else "<=" if self.at_most else ">=", "unit": self.unit,
                "verdict": self.verdict}


def bounds(rounds, cold, memory):
    """Every line of the table. rounds: a list of {floor: per second, "cpu_ms": {floor: ms}, "preprocess_8":
    slice, …}; cold: {service: [ms]}; memory: {service: {"sustained_mb": [samples]}}."""
    def ratio(above, below):
        return median(ratios(rounds, above, below))

    def by_cpu(floors, service, front=False):
        return median([cpu_ratio(floors, service, front)(r) for r in rounds])

    def of(name, field="corrected_per_second"):
        return lambda r: r[name][field]

    table = [
        Bound("/preprocess 500 px, 8 connections, vs 1/(a + c + e)",
              ratio(of("preprocess_8", "less_sink_per_second"), front_sum), 0.90),
        Bound("  the same by CPU time", by_cpu(("a", "c", "e"), "preprocess_8", front=True)),
        Bound("  (a) and (e) in one loop, vs 1/(a + e)", ratio(lambda r: r["a+e"], lambda r: in_series(r["a"], r["e"]))),
        Bound("  the same vs bare codec (a)", ratio(of("preprocess_8"), lambda r: r["a"])),
        Bound("/preprocess vs libvips (d)", ratio(of("preprocess_8"), lambda r: r["d"]), 1.5),
        Bound("/classify raw, 8 connections, vs 1/(decode + b)", ratio(of("classify_8"), classify_sum), 0.95),
        Bound("  the same by CPU time", by_cpu(("tensor", "b"), "classify_8")),
        Bound("  decode and (b) in one loop, vs 1/(decode + b)", ratio(lambda r: r["tensor+b"], classify_sum)),
        Bound("joined, 8 connections, vs 1/(its floors)", ratio(of("joined_8", "per_second"), joined_sum), 0.80),
        Bound("  the same by CPU time",
              by_cpu(("a", "c", "e", "stored_tensor", "b", "put"), "joined_8", front=True)),
        Bound(f"joined vs Python's {PYTHON_JOINED_PER_SECOND}/s",
              ratio(of("joined_8", "per_second"), lambda r: PYTHON_JOINED_PER_SECOND), unit="x"),
    ]
    for service in ("preprocess", "classify"):
        table += [
            Bound(f"{service}: p99 / p50 at 8 connections", tail([r[service + "_8"] for r in rounds]), 2, at_most=True),
            Bound(f"{service}: 64 connections vs 8", ratio(of(service + "_64", "per_second"),
                                                           of(service + "_8", "per_second")), 0.95),
        ]
    for service, ms, mb in (("preprocess", 20, 120), ("classify", 60, 150)):
        samples = memory[service]["sustained_mb"]
        table += [
            Bound(f"{service}: exec to ready", median(cold[service]), ms, at_most=True, unit="ms"),
            Bound(f"{service}: PSS after sustained load", samples[-1] if samples else None, mb, at_most=True, unit="MB"),
            Bound(f"{service}: PSS, last quarter / third quarter", growth(samples), FLAT, at_most=True),
        ]
    return table


def operation_bounds(operations):
    """operations: operations.measure(). How many times OpenCV's CPU time ours goes into; nothing without OpenCV."""
    return [Bound(f"{name}, 2 MP, one thread, vs OpenCV",
                  median([theirs / ours for ours, theirs in zip(o["cpu_ms"], o["opencv_cpu_ms"])]),
                  1.0 if name in IN_BUDGET else None, unit="x")
            for name, o in operations.items() if o["opencv_cpu_ms"]]


def of_an_upload(cpu_us, rounds):
    """The part of an upload's CPU time that this is."""
    return cpu_us / 1e3 / median([r["preprocess_8"]["cpu_ms_per_request"] for r in rounds])


def catalogue_bounds(catalogue, rounds):
    """catalogue: what the program of that name prints. The row's cost is CPU time, as part of a whole upload's."""
    row = catalogue["upload_cpu_us"]["with"] - catalogue["upload_cpu_us"]["without"]
    return [
        Bound(f"catalogue of {catalogue['rows']}: p99 of the slowest kind of page",
              max(page["p99_ms"] for page in catalogue["pages"].values()), 10, at_most=True, unit="ms"),
        Bound("catalogue: an upload's row, part of the upload's CPU time",
              of_an_upload(row, rounds), 0.03, at_most=True),
    ]


def sealed_bounds(sealed, rounds):
    """sealed: what the program of that name prints."""
    return [Bound("seal=1: a picture sealed and opened, part of the upload's CPU time",
                  of_an_upload(sealed["seal_cpu_us"] + sealed["open_cpu_us"], rounds), 0.03, at_most=True)]


def bounds_text(table):
    width = max(len(b.name) for b in table)
    lines = []
    for b in table:
        figure = "missing" if b.figure is None else f"{b.figure:.2f}{' ' + b.unit if b.unit else ''}"
        limit = "" if b.limit is None else f"{'<=' if b.at_most else '>='} {b.limit:g}"
        lines.append(f"{b.name:<{width}}  {figure:>10}  {limit:>8}  {b.verdict}".rstrip())
    return "\n".join(lines)


def services_text(services):
    """services: {name: [slices]}"""
    lines = [f"{'service':<22} {'conn':>4} {'req/s':>8} {'less client':>11} {'p50 ms':>8} {'p95':>8} {'p99':>8} "
             f"{'CPU ms':>7} {'failed':>6}"]
    for name, slices in services.items():
        def mid(get):
            return median([get(s) for s in slices])
        lines.append(
            f"{name.rsplit('_', 1)[0]:<22} {slices[0]['connections']:>4} {mid(lambda s: s['per_second']):>8.1f} "
            f"{mid(lambda s: s['corrected_per_second']):>11.1f} "
            + " ".join(f"{mid(lambda s, p=p: s['latency_ms'][p]):>8.2f}" for p in ("p50", "p95", "p99"))
            + f" {mid(lambda s: s['cpu_ms_per_request']):>7.2f} {sum(s['failed'] for s in slices):>6}")
    return "\n".join(lines)


def floors_text(per_second, cpu_ms, names):
    lines = [f"{'floor':<14} {'per second':>10} {'ms each':>9} {'CPU ms':>8}"]
    for key, what in names.items():
        rate = median(per_second[key])
        lines.append(f"{key:<14} {rate:>10.1f} {1e3 / rate:>9.3f} {median(cpu_ms[key]):>8.3f}  {what}")
    return "\n".join(lines)


def rest_text(result):
    """Mixed load, batching, memory, cold start, operations."""
    mixed, batching = result["mixed"], result["batching"]

    def mid(name, get):
        return median([get(s) for s in mixed[name]])

    def rate(s):
        return s["per_second"]

    def p99(s):
        return s["latency_ms"]["p99"]
    shares = (share(mid("together", rate), mid("alone", rate)), share(mid("large_together", rate), mid("large_alone", rate)))
    commits = batching["commits_per_second"]
    lines = [
        f"mixed load: thumbnails {mid('alone', rate):.0f}/s, p99 {mid('alone', p99):.1f} ms alone; "
        f"{mid('together', rate):.0f}/s, p99 {mid('together', p99):.1f} ms beside 12 MP uploads",
        f"  12 MP {mid('large_alone', rate):.1f}/s alone, {mid('large_together', rate):.1f}/s beside thumbnails; "
        f"shares of what each did alone: {shares[0]:.2f} + {shares[1]:.2f}",
        f"commits: an fsync takes {batching['fsync_ms']:.2f} ms ({1e3 / batching['fsync_ms']:.0f}/s); "
        + ", ".join(f"{n} threads {value:.0f}/s" for n, value in commits.items()),
    ]
    for service, memory in result["memory"].items():
        lines.append(f"memory, {service}: PSS {memory['idle_mb']:.0f} MB idle, {memory['peak_mb']:.0f} at most, "
                     f"{memory['sustained_mb'][-1]:.0f} after {memory['sustained_requests']} requests "
                     f"(peak RSS {memory['peak_rss_mb']:.0f})")
    catalogue = result["catalogue"]
    lines.append(f"catalogue, {catalogue['rows']} rows: p50 and p99 of a page, ms: " + "; ".join(
        f"{name} {page['p50_ms']:.2f}, {page['p99_ms']:.2f}" for name, page in catalogue["pages"].items()) +
        f"; an upload's event {catalogue['upload_cpu_us']['without']:.0f} us of CPU, with its row "
        f"{catalogue['upload_cpu_us']['with']:.0f}")
    sealed = result["sealed"]
    lines.append(f"sealing {sealed['bytes']} bytes: {sealed['seal_cpu_us']:.0f} us of CPU, opening them "
                 f"{sealed['open_cpu_us']:.0f}")
    for name, o in result["operations"].items():
        theirs = f"OpenCV {median(o['opencv_cpu_ms']):.2f} ms" if o["opencv_cpu_ms"] else "NOT COMPARED: no OpenCV here"
        lines.append(f"{name}, 2 MP, one thread: {median(o['cpu_ms']):.2f} ms of CPU; {theirs}")
    for service, ms in result["cold_start_ms"].items():
        lines.append(f"cold start, {service}: {median(ms):.1f} ms (least {min(ms):.1f}, most {max(ms):.1f}, {len(ms)} runs)")
    return "\n".join(lines)

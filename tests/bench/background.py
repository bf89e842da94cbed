"""remove_background: beside its floor, one picture at a time as the service does it (decode and encode by hand, and the bare
model, on one thread each); its memory; and thumbnails beside eight at a time."""
import concurrent.futures
import http.client
import sys
import time

import figures
import processes
from processes import ROOT, run

MODEL = ROOT / "build/models/u2netp.json"
CUT_OUT = "/transform?remove_background=1"
AT_A_TIME = 8


def load(service, path, connections, photos, *length):
    cpu = service.cpu_s()
    got = run("load", "--port", service.port, "--path", path, "--connections", connections, *length, *photos)
    if got["failed"]:
        raise RuntimeError(f"{path}: requests failed: {got['failures']}")
    got["cpu_ms_per_request"] = 1e3 * (service.cpu_s() - cpu) / got["answered"]
    return got


def post(service, path, photo):
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    connection.request("POST", path, photo.read_bytes(), {"Content-Type": "image/jpeg"})
    reply = connection.getresponse()
    reply.read()
    connection.close()
    if reply.status != 200:
        raise RuntimeError(f"{path}: {reply.status}")


def peak_mb(service, photos):
    """The most memory that pictures take which stay as large as they are."""
    peak = 0
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(post, service, f"{CUT_OUT}&fit=none&format=png", photo) for photo in photos + photos]
        while not all(job.done() for job in jobs):
            peak = max(peak, service.pss_mb())
            time.sleep(0.02)
        for job in jobs:
            job.result()
    return peak


def beside(service, seconds, photos):
    """Thumbnails alone, then beside cut-outs, which take longer."""
    def thumbnails():
        return load(service, "/transform", 8, photos["small"], "--seconds", seconds, "--warmup", seconds / 8)

    alone = thumbnails()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        cut_outs = pool.submit(load, service, CUT_OUT, AT_A_TIME, photos["2mp"], "--count", AT_A_TIME + 4)
        together = thumbnails()
        cut_outs.result()
    return {"alone": alone, "together": together}


def measure(folder, photos, like, unit, times):
    """None, after a line on stderr, where the model could not be had. like: what the codec's floor encodes like."""
    if not MODEL.exists():
        print("NO remove_background: `make model` could not get its model", file=sys.stderr, flush=True)
        return None
    service = processes.service("preprocess", "background", folder, BACKGROUND_MODEL=MODEL, QUEUE_MAX=64)
    result = {"idle_mb": service.pss_mb(), "rounds": [], "beside": []}
    try:
        post(service, CUT_OUT, photos["2mp"][0])  # loads the model
        for _ in range(times):
            codec = run("floor", "jpeg", 1, 0.5 * unit, like, *photos["2mp"])
            ours = load(service, CUT_OUT, 2, photos["2mp"], "--count", 4 if unit < 1 else 12)
            result["rounds"].append({"codec": codec, "model": run("floor", "mask", 1, unit, MODEL), "ours": ours})
            result["beside"].append(beside(service, 1.5 * unit, photos))
        result["peak_mb"] = peak_mb(service, photos["2mp"])
    finally:
        service.stop()
    return result


def bounds(result, cores):
    """Of what measure() returned; nothing without a model."""
    if result is None:
        return []
    rounds = result["rounds"]

    def of_floor(r):
        return figures.share(r["ours"]["per_second"], figures.in_series(r["codec"]["per_second"], r["model"]["per_second"]))

    def of_floor_cpu(r):
        return figures.share(r["codec"]["cpu_ms"] + r["model"]["cpu_ms"], r["ours"]["cpu_ms_per_request"])

    def of_workers(r):
        return figures.share(r["together"]["per_second"], r["alone"]["per_second"] * (cores - 1) / cores) if cores > 1 else None

    return [
        figures.Bound("remove_background, 2 MP, vs 1/(codec + model), one thread", figures.median([of_floor(r) for r in rounds]), 0.9),
        figures.Bound("  the same by CPU time", figures.median([of_floor_cpu(r) for r in rounds])),
        figures.Bound("  PSS at most, fit=none, 4 at a time", result["peak_mb"], 400, at_most=True, unit="MB"),
        figures.Bound(f"thumbnails beside {AT_A_TIME} of these, of all workers but one",
                      figures.median([of_workers(r) for r in result["beside"]]) if cores > 1 else 1, 0.9),
    ]


def text(result):
    """For the table's foot."""
    if result is None:
        return "remove_background: NOT MEASURED: no model here"

    def mid(get):
        return figures.median([get(r) for r in result["rounds"]])

    def p99(name):
        return figures.median([r[name]["latency_ms"]["p99"] for r in result["beside"]])
    return (f"remove_background, 2 MP: {mid(lambda r: r['ours']['per_second']):.2f}/s, "
            f"{mid(lambda r: r['ours']['cpu_ms_per_request']):.0f} ms of CPU (codec {mid(lambda r: r['codec']['cpu_ms']):.1f}, "
            f"model {mid(lambda r: r['model']['cpu_ms']):.0f}); PSS {result['idle_mb']:.0f} MB before, {result['peak_mb']:.0f} at most; "
            f"p99 of thumbnails {p99('alone'):.1f} ms alone, {p99('together'):.1f} ms beside {AT_A_TIME} at a time")

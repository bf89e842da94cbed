#!/usr/bin/python3
"""`make bench`: floors and services, in alternation, on the same photographs. See README.md beside this.

    bench.py [--quick] [--out build/bench.json] [--rounds N]

--quick takes about 30 s and only checks that everything runs: its figures mean little.
"""
import argparse
import contextlib
import json
import os
import pathlib
import platform
import sys
import tempfile
import threading
import time

import background
import figures
import inputs
import operations
import processes
import request_cost
from processes import PROGRAMS, ROOT, run

CORES = len(os.sched_getaffinity(0))
FLOORS = {
    "a": "best codec: JPEG in, JPEG out, 500 px",
    "b": "ONNX Runtime on ready tensors",
    "c": "our HTTP server with SHA-256, client included, 8 connections",
    "d": "libvips thumbnail + save, 500 px",
    "e": "durable put, then grouped commit, 8 threads",
    "put": "durable put alone, 8 threads",
    "a+e": "(a), then (e), in one loop, 8 threads",
    "tensor": "decode + crop + tensor, 500 px",
    "tensor+b": "that, then (b), in one loop",
    "stored_tensor": "the same of a stored image, 256 px",
    "a_2mp": "codec (a), 2 MP", "a_12mp": "codec (a), 12 MP",
    "d_2mp": "libvips (d), 2 MP", "d_12mp": "libvips (d), 12 MP",
}
# (service or input, connections): measured in every round, because a bound needs them; and once
IN_ROUNDS = [("preprocess", 8), ("preprocess", 64), ("classify", 8), ("classify", 64), ("joined", 8)]
OTHERS = [("preprocess", 1), ("classify", 1), ("joined", 1), ("joined", 64)] + [
    (name, connections) for name in ("uri", "2mp", "12mp", "png", "webp") for connections in (1, 8, 64)]


class Bench:
    def __init__(self, quick, folder):
        self.quick, self.folder = quick, folder
        self.floors = {name: [] for name in FLOORS}  # per second
        self.floors_cpu_ms = {name: [] for name in FLOORS}
        self.services = {}
        self.photos = inputs.make(ROOT.parent / "shared/photos", folder, quick)
        self.started = time.monotonic()
        self.programs = []

    # ---- what runs

    def open(self):
        self.sink = processes.sink(self.folder)
        self.classify = processes.service("classify", "classify", self.folder)
        self.programs += [self.sink, self.classify]
        to_sink = f"push+http://127.0.0.1:{self.sink.port}/pubsub"
        to_classify = f"push+http://127.0.0.1:{self.classify.port}/pubsub"
        for name, url, env in (("preprocess", to_sink, {}), ("joined", to_classify, {}),
                               # 64 bodies of 12 MP are more than the default lets in at a time
                               ("large", to_sink, {"BODY_BUDGET_BYTES": 1 << 30})):
            program = processes.service("preprocess", name, self.folder, EVENTS_URL=url,
                                        OUTBOX_PATH=self.folder / f"{name}.db",
                                        CATALOGUE_URL=f"sqlite:{self.folder}/{name}-catalogue.db", **env)
            setattr(self, name, program)
            self.programs.append(program)
        time.sleep(0.3)
        self.memory = {s: {"idle_mb": getattr(self, s).pss_mb(), "peak_mb": 0, "sustained_mb": []}
                       for s in ("preprocess", "classify")}
        self.prepare()

    def prepare(self):
        """Stored objects for /classify by URI, and one to encode like."""
        self.replies = self.folder / "replies"
        run("load", "--port", self.preprocess.port, "--count", 32 if self.quick else 200, "--replies", self.replies,
            *self.photos["small"])
        lines = self.replies.read_text().splitlines()
        stored = [json.loads(line)["gcs_path"].removeprefix("file://") for line in lines]
        self.stored = stored[:len(self.photos["small"])]
        self.stored_as = inputs.jpeg_settings(self.stored[0])
        self.stored_bytes = int(figures.median([os.path.getsize(path) for path in self.stored]))
        self.front = processes.front(self.folder, len(lines[0]))
        self.programs.append(self.front)

    def close(self):
        for program in self.programs:
            program.stop()

    # ---- one slice

    def note(self, name, per_second, cpu_ms):
        self.floors[name].append(per_second)
        self.floors_cpu_ms[name].append(cpu_ms)

    def floor(self, name, program, *arguments):
        got = run(program, *arguments)
        self.note(name, got["per_second"], got["cpu_ms"])

    def codec(self, name, kind, seconds, photos):
        self.floor(name, "floor", kind, CORES, seconds, self.stored[0], *photos)

    def vips(self, name, seconds, photos):
        self.floor(name, "floor-vips", CORES, seconds, *self.stored_as, *photos)

    def durable(self, what, threads, seconds):
        folder = self.folder / "durable"
        folder.mkdir(exist_ok=True)
        return ("floor", what, threads, seconds, folder, self.stored_bytes)

    def load(self, program, connections, seconds, *arguments, busy=()):
        """One slice of load on a service: what the client says, corrected, and the service's CPU time."""
        programs = [program, *busy]
        sink, cpu = self.sink.thread_cpu_s(), sum(p.cpu_s() for p in programs)
        # a quick run needs some figure of each kind, however slow the machine is
        length = ("--count", connections + 8) if self.quick else ("--seconds", seconds, "--warmup", seconds / 8)
        got = run("load", "--port", program.port, "--connections", connections, *length, *arguments)
        # /proc and the sink were read around the whole run, of which the window is a part
        answered = max(got["answered"], 1)
        cpu, sink = sum(p.cpu_s() for p in programs) - cpu, self.sink.thread_cpu_s() - sink
        sink *= got["requests"] / answered
        rate, took = got["per_second"], got["seconds"]
        got["sink_cpu_s"] = sink
        got["less_sink_per_second"] = figures.corrected(rate, took, sink, CORES)
        got["corrected_per_second"] = figures.corrected(rate, took, sink + got["client_cpu_s"], CORES)
        got["cpu_ms_per_request"] = 1e3 * cpu / answered
        got["client_cpu_ms_per_request"] = 1e3 * got["client_cpu_s"] / max(got["requests"], 1)
        return got

    def slice(self, name, connections, seconds):
        small = self.photos["small"]
        if name == "preprocess":
            got = self.load(self.preprocess, connections, seconds, *small)
        elif name == "classify":
            got = self.load(self.classify, connections, seconds, "--path", "/classify", *small)
        elif name == "uri":
            got = self.load(self.classify, connections, seconds, "--path", "/classify", "--json", self.replies)
        elif name == "joined":
            got = self.load(self.joined, connections, seconds, "--results", self.folder / "objects", *small,
                            busy=[self.classify])
        else:
            got = self.load(self.large, connections, seconds, *self.photos[name])
        self.services.setdefault(f"{name}_{connections}", []).append(got)
        for service, memory in self.memory.items():
            memory["peak_mb"] = max(memory["peak_mb"], getattr(self, service).pss_mb())
        return got

    # ---- the parts of a run

    def round(self, unit):
        """Each of the bounds' figures once, next to the floors it is compared with."""
        got, small = {}, self.photos["small"]
        self.codec("a", "jpeg", 0.6 * unit, small)
        got["preprocess_8"] = self.slice("preprocess", 8, 1.4 * unit)
        front = self.load(self.front, 8, 0.5 * unit, *small)
        self.note("c", front["per_second"], front["cpu_ms_per_request"] + front["client_cpu_ms_per_request"])
        self.floor("e", *self.durable("both", 8, 0.4 * unit))
        self.floor("put", *self.durable("put", 8, 0.3 * unit))
        folder, size = self.durable("both", 8, 0)[-2:]
        self.floor("a+e", "floor", "jpeg+both", 8, 0.5 * unit, folder, size, self.stored[0], *small)
        self.vips("d", 0.6 * unit, small)
        got["preprocess_64"] = self.slice("preprocess", 64, 1.2 * unit)
        self.codec("tensor", "tensor", 0.5 * unit, small)
        got["classify_8"] = self.slice("classify", 8, 1.4 * unit)
        self.floor("b", "floor", "model", CORES, 0.6 * unit, processes.MODEL)
        self.floor("tensor+b", "floor", "tensor+model", CORES, 0.5 * unit, processes.MODEL, "-", *small)
        got["classify_64"] = self.slice("classify", 64, 1.2 * unit)
        self.codec("stored_tensor", "tensor", 0.3 * unit, self.stored)
        got["joined_8"] = self.slice("joined", 8, 1.5 * unit)
        return got | {name: values[-1] for name, values in self.floors.items() if values} | {
            "cpu_ms": {name: values[-1] for name, values in self.floors_cpu_ms.items() if values}}

    def others(self, unit):
        for size in ("2mp", "12mp"):
            self.codec(f"a_{size}", "jpeg", 0.6 * unit, self.photos[size])
            self.vips(f"d_{size}", 0.6 * unit, self.photos[size])
        for name, connections in OTHERS:
            self.slice(name, connections, (2.0 if name == "12mp" else 1.0) * unit)

    def mixed(self, unit, times):
        """Thumbnails alone, then beside one connection that uploads 12 MP photographs all the time."""
        small, large = self.photos["small"], self.photos["12mp"]
        result = {"alone": [], "together": [], "large_alone": [], "large_together": []}
        for _ in range(times):
            result["alone"].append(self.load(self.preprocess, 8, 1.5 * unit, *small))
            result["large_alone"].append(self.load(self.preprocess, 1, 1.0 * unit, *large))
            other = []
            thread = threading.Thread(target=lambda o=other: o.append(run(
                "load", "--port", self.preprocess.port, "--connections", 1, "--seconds", 1.5 * unit,
                "--warmup", unit / 4, *large)))
            thread.start()
            result["together"].append(self.load(self.preprocess, 8, 1.5 * unit, *small))
            thread.join()
            result["large_together"] += other
        return result

    def batching(self, unit):
        """What an fsync costs here, and how commits share it."""
        took = []
        for i in range(30):
            descriptor = os.open(self.folder / f"fsync{i}", os.O_CREAT | os.O_WRONLY)
            os.write(descriptor, b"x" * 4096)
            start = time.perf_counter()
            os.fsync(descriptor)
            took.append(1e3 * (time.perf_counter() - start))
            os.close(descriptor)
        return {"fsync_ms": figures.median(took),
                "commits_per_second": {n: run(*self.durable("commit", n, 0.5 * unit))["per_second"] for n in (1, 8, 64)}}

    def sustained(self, seconds):
        """An hour of one or two requests a second, in as much time as there is, while memory is watched."""
        for service, path in (("preprocess", "/preprocess"), ("classify", "/classify")):
            program, memory = getattr(self, service), self.memory[service]
            over = threading.Event()

            def watch(program=program, memory=memory, over=over):
                while not over.wait(seconds / 40):
                    memory["sustained_mb"].append(program.pss_mb())
            thread = threading.Thread(target=watch)
            thread.start()
            try:
                got = run("load", "--port", program.port, "--connections", 8, "--seconds", seconds, "--path", path,
                          *self.photos["small"])
            finally:
                over.set()
                thread.join()
            memory["sustained_requests"] = got["requests"]
            memory["peak_mb"] = max([memory["peak_mb"], *memory["sustained_mb"]])
            memory["peak_rss_mb"] = program.peak_rss_mb()

    def catalogue(self):
        """Pages of a large catalogue, and what an upload's row costs beside its event."""
        folder = self.folder / "catalogue"
        folder.mkdir()
        return run("catalogue", *((10000, 50, 100) if self.quick else (1000000, 1000, 3000)), folder, timeout=240)

    def cold(self, runs):
        folder = self.folder / "cold"
        folder.mkdir()
        url = f"push+http://127.0.0.1:{self.sink.port}/pubsub"
        return {"preprocess": processes.cold_start("preprocess", runs, folder, EVENTS_URL=url),
                "classify": processes.cold_start("classify", runs, folder)}


def measure(bench, rounds):
    """Everything, as the dictionary that becomes bench.json."""
    unit = 0.22 if bench.quick else 1.0
    begin = os.times()
    done = []
    for i in range(rounds):
        done.append(bench.round(unit))
        progress(f"round {i + 1} of {rounds}", bench.started)
    bench.others(unit)
    progress("other sizes and formats", bench.started)
    cold = bench.cold(3 if bench.quick else 20)
    mixed = bench.mixed(unit, 1 if bench.quick else 3)
    batching = bench.batching(unit)
    operated = operations.measure(0.3 * unit, 1 if bench.quick else 5)
    cut_out = background.measure(bench.folder, bench.photos, bench.stored[0], unit, 1 if bench.quick else 3)
    bench.sustained(1.5 if bench.quick else 12)
    progress("cold start, mixed load, operations, remove_background, memory", bench.started)
    catalogue = bench.catalogue()
    called = request_cost.measure(bench.folder, 0 if bench.quick else 1, 1 if bench.quick else 3)
    progress("catalogue, calls", bench.started)
    return {
        "machine": machine(), "quick": bench.quick, "rounds": done, "floors_per_second": bench.floors,
        "floors_cpu_ms": bench.floors_cpu_ms,
        "services": bench.services, "cold_start_ms": cold, "mixed": mixed, "batching": batching, "operations": operated,
        "background": cut_out, "catalogue": catalogue, "calls": called,
        "memory": bench.memory, "seconds": time.monotonic() - bench.started,
        "driver_cpu_s": os.times().user + os.times().system - begin.user - begin.system,
        "bounds": [b.as_json() for b in all_bounds(done, cold, bench.memory, operated, cut_out, catalogue, called)],
    }


def all_bounds(rounds, cold, memory, operated, cut_out, catalogue, called):
    return (figures.bounds(rounds, cold, memory) + figures.operation_bounds(operated) + background.bounds(cut_out, CORES) +
            figures.catalogue_bounds(catalogue, rounds) + request_cost.bounds(called))


def machine():
    model = next((line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    return {"cpu": model, "cores": CORES, "kernel": platform.release(), "load": os.getloadavg()[0]}


def progress(text, started):
    print(f"[{time.monotonic() - started:5.1f} s] {text}", file=sys.stderr, flush=True)


def report(result):
    print(figures.floors_text(result["floors_per_second"], result["floors_cpu_ms"], FLOORS), "\n")
    print(figures.services_text(result["services"]), "\n")
    print(f"{figures.rest_text(result)}\n{background.text(result['background'])}\n\n{request_cost.text(result['calls'])}\n")
    print(figures.bounds_text(all_bounds(result["rounds"], result["cold_start_ms"], result["memory"], result["operations"],
                                         result["background"], result["catalogue"], result["calls"])))


def expected_services():
    return IN_ROUNDS + OTHERS


def complaints(result):
    """What must not be, however slow the machine is."""
    missing = [f"no figure: {b['name']}" for b in result["bounds"] if b["figure"] is None]
    missing += [f"no figure: floor {name}" for name, values in result["floors_per_second"].items() if not values]
    for service, connections in expected_services():
        name = f"{service}_{connections}"
        slices = result["services"].get(name, [])
        if not slices or not all(s["requests"] for s in slices):
            missing.append(f"no request was answered: {name}")
        for s in slices:
            if s["failed"]:
                missing.append(f"{name}: requests failed: {s['failures']}")
    return missing


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build/bench.json")
    parser.add_argument("--rounds", type=int, default=None, help="alternations (default 6; 1 with --quick)")
    arguments = parser.parse_args()
    if not (PROGRAMS / "load").exists():
        parser.error("`make bench` builds what this runs")

    with tempfile.TemporaryDirectory(prefix="darkroom-bench.", ignore_cleanup_errors=True) as folder, \
            contextlib.closing(Bench(arguments.quick, pathlib.Path(folder))) as bench:
        progress("inputs are made", bench.started)
        bench.open()
        result = measure(bench, arguments.rounds or (1 if arguments.quick else 6))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    report(result)
    wrong = complaints(result)
    for line in wrong:
        print("WRONG:", line)
    print(f"\n{result['seconds']:.0f} s; all figures are in {arguments.out}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

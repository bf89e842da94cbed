#!/usr/bin/env python3
"""Ten times what the service can do: what becomes of those it accepts, of those it refuses, and of
everybody afterwards. `make overload`; figures go to build/overload.json.

Arrivals are an open loop: they come at their times, whatever became of those before, and latencies count
from these times. Little to upload and much to do: a drawn JPEG of 12 megapixels in under 200 KB,
progressive, since what is decoded at an eighth of its size is hardly any work otherwise (--baseline). The
client is niced, and its CPU time is deducted, as is everybody else's on the machine."""
import argparse
import contextlib
import http.client
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time

from PIL import Image

import figures
import processes
from processes import PROGRAMS, ROOT

TIMES = 10               # as many arrivals as there is capacity for
OUTSTANDING = 3000       # requests at most that the client waits for
REFUSED_MS = HEALTH_MS = 50
GOODPUT = 0.90
MEMORY_MB = 120          # the budget under load
RECOVERY_S = 2           # after the last arrival
WARMUP_S = 1
NICE = 10                # workers run at 5


def picture(path, size=(4000, 3000), progressive=True):
    """Gradients and rings: few bytes for their size."""
    red = Image.linear_gradient("L").resize(size)
    Image.merge("RGB", (red, red.rotate(180), Image.radial_gradient("L").resize(size))).save(
        path, quality=75, optimize=True, progressive=progressive)
    return path


def busy_s():
    """CPU time that anybody on this machine has used, in seconds. Interrupts are left out: they work for
    the service."""
    user, nice, system = map(int, pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


class Health:
    """Asks /healthz on a connection of its own, over and over, until it is left."""

    def __init__(self, port):
        self.port, self.ms, self.failed = port, [], 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def ask(self):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)) as connection:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200

    def run(self):
        while not self.over.wait(0.05):
            started = time.monotonic()
            try:
                self.failed += not self.ask()
            except OSError:
                self.failed += 1
            self.ms.append(1e3 * (time.monotonic() - started))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def percentile(self, p):
        return sorted(self.ms)[int(len(self.ms) * p)]


class Memory:
    """The largest PSS until it is left, looked at once a second: it holds up the service for a moment."""

    def __init__(self, program):
        self.program, self.mb = program, [program.pss_mb()]
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over.wait(1):
            self.mb.append(self.program.pss_mb())

    __enter__, __exit__ = Health.__enter__, Health.__exit__


def metric(port, name):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    found = re.search(rf"^{re.escape(name)} (\S+)", text, re.M)
    return float(found[1]) if found else 0.0


class Overload:
    def __init__(self, folder, workers=0, queue=64, progressive=True):
        self.cores = len(os.sched_getaffinity(0))
        self.workers, self.queue = workers or self.cores, queue
        self.photo = picture(folder / "picture.jpg", progressive=progressive)
        assert self.photo.stat().st_size < 200_000
        self.service = processes.service("preprocess", "preprocess", folder, WORKERS=self.workers, QUEUE_MAX=queue)
        time.sleep(0.2)

    def load(self, *arguments):
        """One run of the client: what it says, and its throughput had nobody else used the CPUs."""
        busy, own, began = busy_s(), self.service.cpu_s(), time.monotonic()
        command = ["nice", "-n", NICE, PROGRAMS / "load", "--port", self.service.port, *arguments, self.photo]
        done = subprocess.run([str(part) for part in command], timeout=150, text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode != 0:
            raise RuntimeError(f"load: exit status {done.returncode}\n{done.stderr}")
        got = json.loads(done.stdout)
        took, own = time.monotonic() - began, self.service.cpu_s() - own
        others = max(got["client_cpu_s"], (busy_s() - busy - own) * got["seconds"] / took)
        got["service_cpu_s"], got["others_cpu_s"] = own, others
        got["corrected_per_second"] = figures.corrected(got["per_second"], got["seconds"], others, self.cores)
        return got

    def capacity(self, seconds):
        return self.load("--connections", 4 * self.workers, "--seconds", seconds, "--warmup", seconds / 5)

    def recovery_s(self, since, normal_ms):
        """Until uploads take what they took before, and nobody waits."""
        while time.monotonic() - since < 30:
            started = time.monotonic()
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=20)) as c:
                c.request("POST", "/preprocess?quality=70", self.photo.read_bytes(), {"Content-Type": "image/jpeg"})
                status = c.getresponse().status
            took = 1e3 * (time.monotonic() - started)
            if status == 200 and took <= 2 * normal_ms and metric(self.service.port, "worker_queue_depth") == 0:
                return started - since
            time.sleep(0.02)
        return float("inf")

    def measure(self, seconds, capacity_s):
        port, result = self.service.port, {}
        result["unloaded"] = self.load("--connections", 1, "--seconds", capacity_s)
        before = self.capacity(capacity_s)
        rate = TIMES * figures.corrected(before["per_second"], before["seconds"], before["client_cpu_s"], self.cores)
        with Health(port) as health, Memory(self.service) as memory:
            end = time.monotonic() + WARMUP_S + seconds
            over = self.load("--connections", OUTSTANDING, "--rate", round(rate), "--seconds", seconds, "--warmup", WARMUP_S)
            recovery = self.recovery_s(end, result["unloaded"]["latency_ms"]["p99"])
        after = self.capacity(capacity_s)
        return result | {"capacity": [before, after], "overload": over,
                         "workers": self.workers, "queue_max": self.queue, "recovery_s": recovery,
                         "health_ms": {"p99": health.percentile(0.99), "p50": health.percentile(0.5), "max": max(health.ms), "failed": health.failed,
                                       "asked": len(health.ms)}, "memory_mb": max(memory.mb)}


def capacity_of(result):
    """The mean of before and after: a machine that slows down meanwhile is no fault of the service's."""
    return sum(run["corrected_per_second"] for run in result["capacity"]) / len(result["capacity"])


def mean_service_ms(result):
    """What an image takes of a worker during the overload, when none is ever idle, by the clock: what
    there is to wait for are the services of those ahead."""
    return 1e3 * result["workers"] / max(result["overload"]["per_second"], 1e-9)


def bounds(result):
    """(what, measured, bound, whether it is met)"""
    over, capacity = result["overload"], capacity_of(result)
    wait = result["unloaded"]["latency_ms"]["p99"] + (result["queue_max"] / result["workers"] + 1) * mean_service_ms(result)
    goodput = over["corrected_per_second"] / capacity
    health = result["health_ms"]
    broken = over["failed"] + over["without_retry_after"]
    return [
        ("goodput, of capacity", f"{goodput:.3f}", f">= {GOODPUT:.2f}", goodput >= GOODPUT),
        ("neither 200 nor 503 with Retry-After", f"{broken}", "0", broken == 0),
        ("refused, p99 (ms)", f"{over['refused_ms']['p99']:.1f}", f"< {REFUSED_MS}", over["refused_ms"]["p99"] < REFUSED_MS),
        ("accepted, p99 (ms), for what is ahead", f"{over['latency_ms']['p99']:.0f}", f"<= {wait:.0f}", over["latency_ms"]["p99"] <= wait),
        ("health, p99 (ms)", f"{health['p99']:.1f}", f"< {HEALTH_MS}", health["p99"] < HEALTH_MS),
        ("health, not answered", f"{health['failed']} of {health['asked']}", "0", health["failed"] == 0),
        ("PSS at most (MB)", f"{result['memory_mb']:.0f}", f"<= {MEMORY_MB}", result["memory_mb"] <= MEMORY_MB),
        ("recovered after (s)", f"{result['recovery_s']:.2f}", f"<= {RECOVERY_S}", result["recovery_s"] <= RECOVERY_S),
    ]


def report(result):
    over, unloaded = result["overload"], result["unloaded"]["latency_ms"]
    print(f"capacity {capacity_of(result):.1f}/s ({result['workers']} workers), "
          f"unloaded p50 {unloaded['p50']:.1f} ms, p99 {unloaded['p99']:.1f} ms\n"
          f"offered {over['rate']:.0f}/s for {over['seconds']:.0f} s: {over['per_second']:.1f}/s answered 200 "
          f"({over['corrected_per_second']:.1f}/s less what others used of the CPUs), {over['refused']} refused "
          f"(p50 {over['refused_ms']['p50']:.1f} ms, max {over['refused_ms']['max']:.0f} ms), "
          f"mean service {mean_service_ms(result):.1f} ms, the client late by {over['late_ms']['p99']:.1f} ms at p99, "
          f"health at most {result['health_ms']['max']:.0f} ms\n")
    for what, measured, bound, met in bounds(result):
        print(f"{what:40} {measured:>12}   {bound:>10}   {'met' if met else 'short'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8 s of overload instead of 60")
    parser.add_argument("--seconds", type=int, help="of overload")
    parser.add_argument("--baseline", action="store_true")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--queue", type=int, default=64)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build/overload.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="darkroom-overload.", ignore_cleanup_errors=True) as folder:
        overload = Overload(pathlib.Path(folder), arguments.workers, arguments.queue, not arguments.baseline)
        try:
            result = overload.measure(arguments.seconds or (8 if arguments.quick else 60), 2 if arguments.quick else 6)
        finally:
            overload.service.stop()
    result["bounds"] = [dict(zip(("what", "measured", "bound", "met"), b)) for b in bounds(result)]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    report(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())

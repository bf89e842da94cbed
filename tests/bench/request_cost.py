"""What a request costs by itself: REST and calls of our server, beside grpc-go's and python grpcio's, in turn. Each
takes bytes and answers with nothing; gRPC also takes an upload in pieces. By h2load, 4 connections of 8 requests at a
time; CPU time of the server.

As a script: gets the peers, which takes minutes once on a machine."""
import hashlib
import os
import re
import shutil
import struct
import subprocess
import sys
import time

import pytest

import processes
from figures import Bound, median
from processes import ROOT

sys.path.append(str(ROOT / "tests/integration"))
from tools import environment, foreign_python  # noqa: E402

SIZES = {"100 B": 100, "200 KB": 200_000}
UPLOAD, PIECES, PIECE = "1 MiB by stream", 16, 65536
GRPC_GO, GRPCIO = "v1.85.0", "grpcio-health-checking==1.85.0"  # the latter asks for grpcio and protobuf
# as the services set it (common/app/service.c)
MALLOC = os.environ | {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": str(1 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 20)}
# server, path, Content-Type, HTTP/1.1, whether the message has gRPC's prefix
KINDS = {
    "REST, HTTP/1.1": ("ours", "/in", "application/octet-stream", True),
    "REST, HTTP/2": ("ours", "/in", "application/octet-stream", False),
    "gRPC": ("ours", "/bench.Bench/In", "application/grpc", False),
    "gRPC-Web, HTTP/1.1": ("ours", "/bench.Bench/In", "application/grpc-web+proto", True),
    "Connect, HTTP/1.1": ("ours", "/bench.Bench/In", "application/proto", True),
    "grpc-go": ("go", "/bench.Bench/In", "application/grpc", False),
    "python grpcio": ("python", "/bench.Bench/In", "application/grpc", False),
}


def body(content_type, size):
    """google.protobuf.BytesValue with gRPC's prefix, or what of that the type has."""
    payload = bytes(size)
    if content_type == "application/octet-stream":
        return payload
    length, n = b"", size
    while n >= 128:
        length, n = length + bytes([n % 128 + 128]), n // 128
    message = b"\x0a" + length + bytes([n]) + payload
    return message if content_type == "application/proto" else struct.pack(">BI", 0, len(message)) + message


def requests():
    """(row, server, path, Content-Type, HTTP/1.1, body) of each."""
    for label, size in SIZES.items():
        for kind, (server, path, content_type, http1) in KINDS.items():
            yield f"{kind}, {label}", server, path, content_type, http1, body(content_type, size)
    for kind, (server, _, content_type, http1) in KINDS.items():
        if content_type == "application/grpc":
            yield f"{kind}, {UPLOAD}", server, "/bench.Bench/Upload", content_type, http1, PIECES * body(content_type, PIECE)


def built_go():
    if not shutil.which("go"):
        pytest.skip("no grpc-go here: Go is not installed")
    source = ROOT / "tests/bench/peer_grpc.go"
    name = f"peer-grpc-go-{GRPC_GO}-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}"
    return environment(name, lambda folder: (
        ["mkdir", "-p", folder], ["cp", source, folder / "main.go"], ["rm", "-f", folder / "go.mod"],
        ["go", "-C", folder, "mod", "init", "peer"], ["go", "-C", folder, "get", f"google.golang.org/grpc@{GRPC_GO}"],
        ["env", "CGO_ENABLED=0", "go", "-C", folder, "build", "-o", "peer", "."])) / "peer"


def peers():
    """{name: its command} of those that can be had; a line on stderr for the others."""
    found = {}
    for name, command in (("go", lambda: [built_go()]), ("python", lambda: [foreign_python(GRPCIO), ROOT / "tests/bench/peer_grpc.py"])):
        try:
            found[name] = command()
        except pytest.skip.Exception as why:
            print(f"NOT COMPARED WITH {name.upper()}'S gRPC: {why}", file=sys.stderr, flush=True)
    return found


def start(folder):
    """{name: Program}, ours and the peers."""
    servers = {"ours": processes.front(folder, 0, MALLOC)}
    for name, command in peers().items():
        port = processes.free_port()
        servers[name] = processes.Program(f"peer-{name}", [*command, port], folder, port=port)
    return servers


def check(program, path, content_type, http1, sent):
    """Once by curl, since h2load sees no grpc-status."""
    done = subprocess.run(
        ["curl", "-sS", "-i", "--http1.1" if http1 else "--http2-prior-knowledge", "-H", f"Content-Type: {content_type}", "-H", "TE: trailers",
         "--data-binary", f"@{sent}", f"http://127.0.0.1:{program.port}{path}"], capture_output=True, check=True)
    told = done.stdout.decode("latin-1")
    assert re.match(r"HTTP/\S+ 200", told) and ("grpc-status: 0" in told) == ("grpc" in content_type), told


def cpu_s(program):
    """Of all its threads, in nanoseconds' precision: the clock of clock_getcpuclockid(3). It has no other process."""
    return time.clock_gettime(~program.process.pid << 3 | 2)


def load(program, path, content_type, http1, sent, seconds):
    """{"per_second", "cpu_us"} of a slice of whole seconds; 0: of 200 requests"""
    options = ["--h1"] if http1 else ["-m", "8", "-w", "22", "-W", "24", "-H", "te: trailers"]
    before = cpu_s(program)
    done = subprocess.run(
        ["h2load", "-c", "32" if http1 else "4", "-t", "1", "-d", sent, *(["-D", str(seconds)] if seconds else ["-n", "200"]), *options,
         "-H", f"content-type: {content_type}", f"http://127.0.0.1:{program.port}{path}"],
        capture_output=True, text=True, check=True, timeout=60)
    used = cpu_s(program) - before
    found = re.search(r", ([\d.]+) req/s, .*\nrequests: .* (\d+) done, (\d+) succeeded", done.stdout)
    answered, good = int(found[2]), int(found[3])
    assert good == answered > 0, done.stdout
    return {"per_second": float(found[1]), "cpu_us": 1e6 * used / good}


def measure(folder, seconds, times):
    """{"gRPC, 100 B": [slices]}; nothing of servers that this machine does not have."""
    result = {}
    servers = start(folder)
    try:
        for n in range(times):
            for row, server, path, content_type, http1, sent in requests():
                if server not in servers:
                    continue
                file = folder / "call"
                file.write_bytes(sent)
                if n == 0:
                    check(servers[server], path, content_type, http1, file)
                result.setdefault(row, []).append(load(servers[server], path, content_type, http1, file, seconds))
    finally:
        for program in servers.values():
            program.stop()
    return result


def bounds(calls):
    """How many times our CPU time theirs is: of calls that were measured within seconds of each other."""
    def ratio(above, below):
        return median([a["cpu_us"] / b["cpu_us"] for a, b in zip(calls[above], calls[below])])
    pairs = [("REST, HTTP/1.1", "REST, HTTP/2"), ("REST, HTTP/2", "gRPC"), ("grpc-go", "gRPC"), ("python grpcio", "gRPC")]
    return [Bound(f"{above} vs {below}, {label}, CPU time a request", ratio(f"{above}, {label}", f"{below}, {label}"), unit="x")
            for above, below in pairs for label in (*SIZES, UPLOAD) if f"{above}, {label}" in calls]


def text(calls):
    lines = [f"{'a request by itself':<31} {'per second':>10} {'CPU us':>8}"]
    for name, slices in calls.items():
        lines.append(f"{name:<31} {median([s['per_second'] for s in slices]):>10.0f} {median([s['cpu_us'] for s in slices]):>8.1f}")
    missing = {kind for kind in KINDS if not any(name.startswith(kind + ",") for name in calls)}
    return "\n".join(lines + [f"NOT COMPARED: no {kind} here" for kind in sorted(missing)])


if __name__ == "__main__":
    peers()

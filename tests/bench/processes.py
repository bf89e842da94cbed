"""The programs that are measured: the release services and the bench's own, started and stopped here."""
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("DARKROOM_BUILD", ROOT / "build/release")).resolve()
PROGRAMS = BUILD / "bench"
MODEL = ROOT / "build/models/model.json"
PASSED_ON = ("SANDBOX", "WORKERS", "MALLOC_ARENA_MAX", "LD_PRELOAD", "GLIBC_TUNABLES")  # to compare by


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def tree(pid):
    """The process and its descendants."""
    pids = [pid]
    for parent in pids:
        for task in pathlib.Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                pids += [int(child) for child in task.read_text().split()]
    return pids


def _field_kb(path, name):
    for line in path.read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    return 0


class Program:
    """A server on a port of its own, started at once; its output is in `folder`."""

    def __init__(self, name, command, folder, env=None, port=None):
        self.name, self.port = name, port
        self.log_path = folder / f"{name}.log"
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([str(part) for part in command], env=env, cwd=folder, stdout=log, stderr=log)
        self.wait()

    def wait(self, timeout=10):
        deadline = time.monotonic() + timeout
        while True:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not start\n{self.log()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.005)

    def log(self):
        return self.log_path.read_text(errors="replace")[-4000:]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(12)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _sum(self, read):
        total = 0
        for pid in tree(self.process.pid):
            with contextlib.suppress(OSError):  # a process that has just ended
                total += read(pathlib.Path(f"/proc/{pid}"))
        return total

    def pss_mb(self):
        return self._sum(lambda proc: _field_kb(proc / "smaps_rollup", "Pss")) / 1024

    def peak_rss_mb(self):
        return self._sum(lambda proc: _field_kb(proc / "status", "VmHWM")) / 1024

    def cpu_s(self):
        """User and system time of all processes, in clock ticks' precision."""
        def read(proc):
            fields = (proc / "stat").read_text().rsplit(")", 1)[1].split()
            return int(fields[11]) + int(fields[12])
        return self._sum(read) / os.sysconf("SC_CLK_TCK")

    def thread_cpu_s(self):
        """Of the first thread, in nanoseconds' precision."""
        return int(pathlib.Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0]) / 1e9


def environment(folder, **env):
    base = {"PATH": os.environ["PATH"], "HOST": "127.0.0.1", "STORAGE_URL": f"file://{folder}/objects",
            "MODEL": str(MODEL), "OUTBOX_PATH": str(folder / "outbox.db"), "EVENTS_URL": "none:",
            "CATALOGUE_URL": f"sqlite:{folder}/catalogue.db"}
    return base | {k: os.environ[k] for k in PASSED_ON if k in os.environ} | {k: str(v) for k, v in env.items()}


def service(kind, name, folder, **env):
    port = free_port()
    return Program(name, [BUILD / f"{kind}-service"], folder, environment(folder, PORT=port, **env), port)


def sink(folder):
    port = free_port()
    return Program("sink", [PROGRAMS / "sink", port], folder, port=port)


def front(folder, reply_bytes, env=None):
    port = free_port()
    return Program("floor-front", [PROGRAMS / "floor-front", port, reply_bytes], folder, env, port)


def run(program, *arguments, timeout=120, env=None):
    """One of the bench's programs, to its end: the JSON that it prints."""
    done = subprocess.run([str(PROGRAMS / program), *map(str, arguments)], env=env, timeout=timeout, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{program} {' '.join(map(str, arguments[:8]))}: exit status {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout)


def cold_start(kind, runs, folder, **env):
    port = free_port()
    return run("cold-start", runs, port, BUILD / f"{kind}-service", env=environment(folder, PORT=port, **env))["ms"]

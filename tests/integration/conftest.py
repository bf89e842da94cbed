"""Starts the real binaries for the integration tests.

    DARKROOM_BUILD   folder of the binaries (default build/release)
    DARKROOM_SLOW    factor on time limits (sanitizer builds, busy machines; default 1)
"""
import contextlib
import fcntl
import http.client
import importlib
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time
import zlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("DARKROOM_BUILD", ROOT / "build/release")).resolve()
MODEL = ROOT / "build/models/model.json"
PROTO = ROOT / "common/grpc/proto"
METRICS = set(re.findall(r'X\(METRIC_\w+, "(\w+)"', (ROOT / "common/base/metrics.h").read_text()))
PHOTOS = ROOT.parent / "shared/photos"
SLOW = float(os.environ.get("DARKROOM_SLOW", "1"))
sys.path.insert(0, str(ROOT / "tests/servers"))
from ports import free_port  # noqa: E402

needs_photos = pytest.mark.skipif(not PHOTOS.is_dir(), reason="no photographs at hand")


def wait_for(condition, what, timeout=60.0):
    """Poll until condition() is true; its value is returned. The timeout is only for tests that fail."""
    deadline, pause = time.monotonic() + timeout * SLOW, 0.005
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"timed out waiting for {what}"
        time.sleep(pause)
        pause = min(pause * 1.2, 0.1)  # a look costs a request and its log line


def tree(pid):
    """The process and its descendants."""
    pids = [pid]
    for parent in pids:
        for task in pathlib.Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                pids += map(int, task.read_text().split())
    return pids


def state_of(pid):
    """A letter of proc(5): T is stopped, Z and X are ended."""
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    return "X"


def is_running(pid):
    return state_of(pid) not in "ZX"


def kilobytes(path, field):
    lines = pathlib.Path(path).read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(field + ":")), 0)


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {dict(self.headers)} {self.body[:300]!r}>"


class Service:
    """One running service. Every instance is stopped by its fixture, which expects exit status 0."""

    def __init__(self, name, folder, port=None, **env):
        self.name, self.folder, self.port = name, pathlib.Path(folder), port or free_port()
        # prefix: a command that runs the service; `make valgrind` has one
        self.host, self.prefix = "127.0.0.1", os.environ.get("DARKROOM_UNDER", "").split()
        self.program = BUILD / name
        self.log_path = self.folder / f"{name}-{self.port}.log"
        self.env = {
            "PATH": os.environ["PATH"], "HOST": "127.0.0.1", "PORT": str(self.port),
            "STORAGE_URL": f"file://{self.folder}/objects",
            # the defaults, for a build that is slow
            "SHUTDOWN_GRACE_MS": str(int(8000 * SLOW)), "REQUEST_TIMEOUT_MS": str(int(30000 * SLOW)),
        }
        if name == "preprocess-service":
            self.env["OUTBOX_PATH"] = str(self.folder / "outbox.db")
            self.env["CATALOGUE_URL"] = f"sqlite:{self.folder}/catalogue.db"
        else:
            self.env["MODEL"] = str(MODEL)
        self.env |= {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS") or k == "G_SLICE"}
        self.env |= {k: str(v) for k, v in env.items()}
        self.process = None

    @property
    def url(self):
        return f"http://{self.host}:{self.port}"

    def launch(self):
        """Start without waiting."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, self.program], env=self.env, cwd=self.folder, stdout=log, stderr=log)
        return self

    def start(self, timeout=60.0):
        self.launch()
        return self.wait_alive(timeout)

    def wait_alive(self, timeout=60.0):
        wait_for(self.is_alive, f"{self.name} to answer\n{self.log()[-8000:]}", timeout)
        return self

    def is_alive(self):
        assert self.process.poll() is None, f"{self.name} exited: {self.process.returncode}\n{self.log()[-8000:]}"
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.get("/healthz").status == 200

    def stop(self, timeout=30.0):
        """SIGTERM; the exit status must be 0 (sanitizers make it something else)."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout * SLOW)
        self.process = None
        assert code == 0, f"{self.name} exited with {code}\n{self.log()[-8000:]}"

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process = None

    def restart(self, **env):
        """Start again on the same port and folder, e.g. after kill()."""
        self.env |= {k: str(v) for k, v in env.items()}
        return self.start()

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_lines(self):
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]

    def request(self, method, path, body=None, headers=None, timeout=120.0):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout * SLOW)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())

    def get(self, path, headers=None):
        return self.request("GET", path, headers=headers)

    def post_image(self, path, data, content_type="image/jpeg", **headers):
        return self.request("POST", path, data,
                            {"Content-Type": content_type} | {k.replace("_", "-"): v for k, v in headers.items()})

    def upload(self, data, query="", content_type="image/jpeg"):
        return self.post_image("/preprocess" + query, data, content_type)

    def metric(self, sample):
        """The value of one sample, e.g. 'events_total{outcome="delivered"}'; 0 when it has none yet."""
        text, name = self.get("/metrics").body.decode(), sample.partition("{")[0]
        assert METRICS & {name, name.rpartition("_")[0]}, f"there is no metric {name}"
        for line in text.splitlines():
            if line.startswith(sample + " "):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def settles(self, sample, value, timeout=60.0):
        """Until one sample is that: bytes, places, connections and requests are counted when the reply has gone."""
        wait_for(lambda: self.metric(sample) == value, f"{sample} {value}", timeout)

    def memory_kb(self, field="Pss", pids=None):
        """PSS of the process and of those that decode for it (or of `pids`), from /proc/PID/smaps_rollup; of
        processes that only a full root may look into, RSS, which grows by as much. Beside other tests what grew is
        told by "Pss_Anon": pages of files are shared with services that come and go. Sandbox processes that begin
        meanwhile are growth, too: wait for `sandboxes`."""
        total = 0
        for pid in pids or self.processes():
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it has just ended
                try:
                    total += kilobytes(f"/proc/{pid}/smaps_rollup", field)
                except PermissionError:
                    total += kilobytes(f"/proc/{pid}/status", "RssAnon" if field == "Pss_Anon" else "VmRSS")
        return total

    def processes(self):
        """The service's pid, its zygote's, and those of its sandbox processes."""
        return tree(self.process.pid)

    def sandboxes(self):
        """The pids of all sandbox processes: each worker begins its own when the service is ready already."""
        workers = int(re.search(r"\bWORKERS=(\d+)", self.log())[1])
        wait_for(lambda: len(self.processes()) >= 2 + workers, "the sandbox processes")
        return self.processes()[2:]


class Stack:
    """Both services on one folder, wired to each other."""

    def __init__(self, folder, preprocess_env=None, classify_env=None):
        self.folder = pathlib.Path(folder)
        self.classify = Service("classify-service", folder, **(classify_env or {}))
        self.preprocess = Service(
            "preprocess-service", folder, EVENTS_URL=f"push+{self.classify.url}/pubsub",
            **(preprocess_env or {}))

    @property
    def objects(self):
        return self.folder / "objects"

    def start(self):
        self.classify.start()
        self.preprocess.start()
        return self

    def stop(self):
        try:
            self.preprocess.stop()
        finally:
            self.classify.stop()

    def result(self, reply, timeout=60.0):
        """The stored result of a /preprocess reply, once it is there."""
        def look():
            got = self.classify.get("/results/" + reply["id"])
            return got if got.status != 202 else None
        return wait_for(look, f"the result of {reply['id']}", timeout).json()


def made_once(tmp_path_factory, name, make):
    """A folder of that name, filled by make(folder) once for all workers of pytest-xdist."""
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / name
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            (folder / "complete").touch()
    return folder


@pytest.fixture
def services(tmp_path):
    """A list: every Service or Stack put into it is stopped at the end, exit status 0."""
    running = []
    yield running
    for service in running:
        parts = [service.preprocess, service.classify] if isinstance(service, Stack) else [service]
        for part in parts:
            part.stop()


class Measurement:
    """Of what happens from now on: what misses its limit fails the test, or skips it on a machine that was
    busy with something else."""

    def __init__(self):
        self.since = self.processor_seconds()

    @staticmethod
    def processor_seconds():
        """(when, of all processes on this machine, of ours and those of ours that have ended)"""
        cpu = pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
        user, nice, system, _, _, *rest = map(int, cpu)
        ours = 0
        for pid in tree(os.getpid()):
            with contextlib.suppress(OSError):
                stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                ours += sum(map(int, stat[11:15]))  # its own, and of children that it has waited for
        ticks = os.sysconf("SC_CLK_TCK")
        return time.monotonic(), (user + nice + system + sum(rest)) / ticks, ours / ticks

    def must(self, met, what):
        if met:
            return
        when, everybody, ours = (now - then for now, then in zip(self.processor_seconds(), self.since))
        others = (everybody - ours) / when
        if others > 0.3:
            pytest.skip(f"NOT MEASURED, since other processes kept {others:.1f} processors busy: {what}")
        pytest.fail(what)


@pytest.fixture
def measurement():
    return Measurement()


@pytest.fixture
def stack(tmp_path, services):
    services.append(Stack(tmp_path))
    return services[0].start()


@pytest.fixture(name="start")
def fixture_start(tmp_path, services):
    """start(SETTING=…): preprocess-service alone, its events dropped unless they have a URL."""
    def start(**env):
        services.append(Service("preprocess-service", tmp_path, **{"EVENTS_URL": "none:"} | env))
        return services[-1].start()
    return start


@pytest.fixture
def preprocess(tmp_path, services):
    """preprocess-service alone, its events dropped."""
    services.append(Service("preprocess-service", tmp_path, EVENTS_URL="none:"))
    return services[0].start()


@pytest.fixture
def classify(tmp_path, services):
    services.append(Service("classify-service", tmp_path))
    return services[0].start()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Both services, started once for a test file: for tests that leave no traces in each other."""
    both = Stack(tmp_path_factory.mktemp("shared"))
    try:
        both.start()
        yield both
    finally:
        both.stop()


@pytest.fixture(scope="session")
def messages(tmp_path_factory):
    """messages("darkroom.v1.images"): the Python module of a .proto."""
    folder = tmp_path_factory.mktemp("proto")
    files = [str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto")]
    subprocess.run(["protoc", f"--proto_path={PROTO}", f"--python_out={folder}", *files], check=True)
    sys.path.insert(0, str(folder))
    yield lambda name: importlib.import_module(name + "_pb2")
    sys.path.remove(str(folder))


def pytest_addoption(parser):
    parser.addoption("--only", metavar="MARK", help="the tests with this mark; other than -m, beside a -m of your own")
    parser.addoption("--without", metavar="MARK", action="append", default=[], help="not the tests with this mark")


# What a sanitizer's build runs: what the sanitizer is for, or with EVERYTHING=1 all but `once`.
SANITIZED = {"asan": "memory", "tsan": "threads"}


def pytest_configure(config):
    config.addinivalue_line("markers", "memory: bytes of strangers, for AddressSanitizer")
    config.addinivalue_line("markers", "threads: much at a time, for ThreadSanitizer")
    config.addinivalue_line("markers", "once: what a sanitizer build would only repeat")
    config.addinivalue_line("markers", "faults: part of `make faults`")
    config.addinivalue_line("markers", "long: begins first")
    config.addinivalue_line("markers", "measures_time: what runs beside it would be measured, too")
    config.addinivalue_line("markers", "idle: measures_time, too, but itself hardly computes: some may run side by side")
    config.addinivalue_line("markers", "namespaces: mounts or networks of its own, which need root or a user namespace")
    config.pluginmanager.register(Notes())
    os.environ["SEED"] = os.environ.get("SEED") or str(random.SystemRandom().randrange(10**6))  # the workers', too


class Notes:
    """What modules have for the end of the output, also when they ran in workers of pytest-xdist."""

    def __init__(self):
        self.lines = []

    def pytest_sessionfinish(self, session):
        if "fault_world" in sys.modules:
            self.lines += sys.modules["fault_world"].summary()
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["notes"] = self.lines

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node):
        self.lines += getattr(node, "workeroutput", {}).get("notes", [])

    def pytest_terminal_summary(self, terminalreporter):
        for line in self.lines:
            terminalreporter.write_line(line)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(config, items):
    wanted, without = {config.getoption("--only")} - {None}, set(config.getoption("--without"))
    if BUILD.name in SANITIZED:
        without.add("once")
        if not os.environ.get("EVERYTHING"):
            wanted.add(SANITIZED[BUILD.name])
    marks = {item: {mark.name for mark in item.iter_markers()} for item in items}
    unwanted = [item for item in items if marks[item] & without or not wanted <= marks[item]]
    config.hook.pytest_deselected(items=unwanted)
    items[:] = [item for item in items if item not in set(unwanted)]
    if getattr(config.option, "loadgroup", False):  # a worker of pytest-xdist
        groups = {item: group_of(item) for item in items}
        # The long ones first, then whole modules, so that no worker is last by far; the faults' among these first.
        # Then those of all files mixed, since those of one all wait, or all compute.
        items.sort(key=lambda item: ("long" not in marks[item], not groups[item],
                                     "faults" not in marks[item] if groups[item] else zlib.crc32(item.nodeid.encode())))
        for item, group in groups.items():
            if group:
                item.add_marker(pytest.mark.xdist_group(group))


def pytest_make_parametrize_id(val):
    """A test's name goes from worker to worker and into reports; a body of 34 MB as part of it took minutes."""
    return f"{ascii(val[:40])}... {len(val)}" if isinstance(val, (str, bytes)) and len(val) > 100 else None


def group_of(item):
    """Tests of a module that share a fixture or a server are one worker's; None for the others."""
    shared = [name for name, defs in item._fixtureinfo.name2fixturedefs.items()  # pylint: disable=protected-access
              if defs[-1].scope == "module" or name == "kind"]
    params = item.callspec.params if hasattr(item, "callspec") else {}
    kinds = [str(params[name]) for name in shared if name in params]
    # a server has kinds for each of its signatures
    return " ".join([item.module.__name__, *(re.sub(r"-v\d$", "", kind) for kind in kinds)]) if shared else None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the end of every log in its folder."""
    report = (yield).get_result()
    folder = item.funcargs.get("tmp_path") if hasattr(item, "funcargs") else None
    if report.failed and folder is not None:
        for path in sorted(folder.glob("*.log")):
            report.sections.append((path.name, path.read_text(errors="replace")[-8000:]))

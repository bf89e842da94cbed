"""Images are decoded in processes that can do nothing else: whatever an image makes its decoder do, and
whatever befalls these processes, costs that image's request alone. What a worker can and cannot do is in
tests/unit/sandbox/; the attacks here are in tests/programs/hostile_decoder.c."""
import contextlib
import ctypes
import http.client
import operator
import os
import pathlib
import platform
import random
import signal
import struct
import subprocess
import threading
import time

import pytest

from conftest import BUILD, SLOW, Service, is_running, wait_for
from images import encode, gradient
from ledger import Ledger

pytestmark = pytest.mark.memory

KINDS = ("preprocess-service", "classify-service")
ROUTES = {"preprocess-service": "/preprocess", "classify-service": "/classify"}
SANITIZED = BUILD.name in ("asan", "tsan")
PICTURE = encode(gradient(400, 300))
# How a service's log and metric tell of each. A sanitizer reports a fault and exits.
FAULT = ("crashed", "exited") if SANITIZED else ("crashed",)
ATTACKS = {  # name: (status, reasons of which one is told; none: the worker goes on)
    "open": (422, ()), "write": (422, ()), "connect": (422, ("forbidden",)), "exec": (422, ("forbidden",)),
    "fork": (422, ("forbidden",)), "kill": (422, ("forbidden",)), "spin": (503, ("timed-out",)),
    "allocate": (422, ("memory",)), "crash": (422, FAULT), "overrun": (422, FAULT), "exit": (422, ("exited",)),
}
ONLY = {"preprocess-service": {"lie": (422, ("nonsense",))},
        "classify-service": {"overrun-output": (422, FAULT)}}
each = pytest.mark.parametrize("name", KINDS)


def service_of(name, folder, **env):
    if name == "preprocess-service":
        env = {"EVENTS_URL": "none:"} | env
    return Service(name, folder, WORKERS=2, **env)


def hostile(name, folder, **env):
    service = service_of(name, folder, **env)
    service.program = BUILD / "hostile" / name
    if not service.program.exists():
        pytest.skip("the hostile builds are not there (make unit-binaries)")
    return service


def attack_image(attack):
    comment = b"darkroom-attack:" + attack.encode() + b"\0"
    return PICTURE[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + PICTURE[2:]


class Traffic:
    """4 connections of ordinary uploads, two a worker, that pause: there is always another soon, and the machine has
    others to serve. Every upload must be answered with 200."""

    def __init__(self, service, expected=(200,)):
        self.service, self.expected = service, expected
        self.each, self.bad, self.stop = [0] * 4, [], threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(4)]

    @property
    def good(self):
        return sum(self.each)

    def run(self, i):
        while not self.stop.wait(0.03):
            try:
                reply = self.service.post_image(ROUTES[self.service.name], PICTURE)
            except (OSError, http.client.HTTPException) as e:
                reply = e
            if getattr(reply, "status", None) == 200:
                self.each[i] += 1
            elif getattr(reply, "status", None) not in self.expected:
                self.bad.append(reply)
                return

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        wait_for(lambda: self.good > 8 or self.bad, "traffic")
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(60 * SLOW)
        assert not self.bad, self.bad[:3]

    def goes_on(self):
        """Each client's request of now has been answered, and two more of each."""
        enough = [n + 3 for n in self.each]
        wait_for(lambda: self.bad or all(map(operator.ge, self.each, enough)), "traffic to go on")
        assert not self.bad, self.bad[:3]


def losses(service, reasons):
    return sum(service.metric(f'sandbox_losses_total{{reason="{reason}"}}') for reason in reasons)


def zygote(service):
    children = pathlib.Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
    assert len(children) == 1
    return int(children[0])


def workers(service):
    with contextlib.suppress(OSError):
        pid = zygote(service)
        return [int(p) for p in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def assert_gone(pids):
    wait_for(lambda: not any(map(is_running, pids)), f"none of {pids} to be left")


@each
def test_hostile_images(tmp_path, services, name):
    service = hostile(name, tmp_path, REQUEST_TIMEOUT_MS=int(4000 * SLOW))
    services.append(service.start())
    seen = {}
    with Traffic(service) as traffic:
        for attack, (status, reasons) in (ATTACKS | ONLY[name]).items():
            if SANITIZED and attack == "allocate":
                continue  # no limit there
            before = losses(service, reasons)
            reply = service.post_image(ROUTES[name], attack_image(attack), X_Request_Id=f"attack-{attack}")
            assert reply.status == status, (attack, reply)
            assert losses(service, reasons) == before + bool(reasons), attack
            lines = [line for line in service.log_lines() if line["message"] == "sandbox process lost" and
                     line["request_id"] == f"attack-{attack}"]
            assert len(lines) == bool(reasons), (attack, lines)
            for line in lines:
                assert line["reason"] in reasons and line["severity"] == "WARNING"
                assert isinstance(line["status" if line["reason"] in ("exited", "memory") else "signal"], int)
                seen[attack] = line
            if status == 422:
                assert "cannot be decoded" in reply.json()["detail"] or not reasons
            traffic.goes_on()
    assert not pathlib.Path("/tmp/darkroom-escaped").exists()
    assert SANITIZED or seen["crash"]["signal"] == signal.SIGSEGV
    assert seen["connect"]["signal"] == signal.SIGSYS
    # nothing that was not meant
    total = sum(1 for line in service.log_lines() if line["message"] == "sandbox process lost")
    assert total == len(seen)
    print(f"\n{name}: {len(seen)} workers lost, {traffic.good} uploads of others answered, all with 200")


def test_these_attacks_work_without_a_sandbox(tmp_path, services):
    """Or the above would prove nothing."""
    service = hostile("preprocess-service", tmp_path, SANDBOX="off")
    services.append(service.start())
    assert zygote_free(service)
    for attack in ("open", "connect", "fork"):
        assert service.upload(attack_image(attack)).status == 200, attack
    with contextlib.suppress(OSError, http.client.HTTPException):
        service.upload(attack_image("crash"))
    assert service.process.wait(10 * SLOW) != 0
    service.process = None


def zygote_free(service):
    return service.processes() == [service.process.pid]


@each
def test_no_hook_in_what_is_released(name):
    assert b"darkroom-attack" not in (BUILD / name).read_bytes()
    hostile_build = BUILD / "hostile" / name
    assert not hostile_build.exists() or b"darkroom-attack" in hostile_build.read_bytes()


@each
def test_killed_workers(tmp_path, services, name):
    """By whomever: nobody's request fails for it, since an image gets a second worker."""
    service = service_of(name, tmp_path)
    services.append(service.start())
    killed = set()
    with Traffic(service) as traffic:
        for _ in range(30):
            alive = wait_for(lambda: [pid for pid in workers(service) if pid not in killed], "a worker")
            victim = random.choice(alive)
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            killed.add(victim)
            traffic.goes_on()  # or one image is taken for the killer of two
    lost = losses(service, ["killed"])
    assert len(killed) - 2 <= lost <= len(killed)  # the last ones may not have been missed yet
    print(f"\n{name}: {len(killed)} workers killed, {traffic.good} uploads, all answered with 200")


@each
def test_killed_zygote(tmp_path, name, measurement):
    """The service says so, answers what it has, and ends, to be started again."""
    service = service_of(name, tmp_path).start()
    ledger = Ledger(tmp_path / "objects")
    if name == "preprocess-service":
        ledger.upload(service, PICTURE)
    pids = service.processes()
    traffic = Traffic(service, expected=(200, 503))
    with contextlib.suppress(AssertionError), traffic:
        os.kill(zygote(service), signal.SIGKILL)
        began = time.monotonic()
        code = service.process.wait(60 * SLOW)
        took = time.monotonic() - began
    assert code == 1
    service.process = None
    # connections that come after the end are refused; nothing else goes wrong
    assert all(isinstance(bad, (OSError, http.client.HTTPException)) for bad in traffic.bad), traffic.bad[:3]
    errors = [line for line in service.log_lines() if line["severity"] == "ERROR"]
    assert any("zygote is gone" in line["message"] for line in errors), errors
    assert service.log_lines()[-1]["message"] == "stopped"
    assert_gone(pids)
    service.start()
    if name == "preprocess-service":
        ledger.upload(service, PICTURE)
    else:
        assert service.post_image("/classify", PICTURE).status == 200
    service.stop()
    measurement.must(took < 9 * SLOW, f"ended after {took:.1f} s")


@each
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind(tmp_path, name, end):
    """Also in the middle of work, and with a worker that hangs."""
    service = hostile(name, tmp_path, SHUTDOWN_GRACE_MS=int(2000 * SLOW)).start()
    hang = threading.Thread(target=ask, args=(service, attack_image("spin")))
    hang.start()
    wait_for(lambda: service.metric("worker_busy") > 0, "work")
    pids = service.processes()
    assert len(pids) >= 3
    service.process.send_signal(end)
    code = service.process.wait(12 * SLOW)
    service.process = None
    assert code == (0 if end == signal.SIGTERM else -signal.SIGKILL)
    hang.join(10 * SLOW)
    assert_gone(pids)


def ask(service, image):
    with contextlib.suppress(OSError, http.client.HTTPException):
        reply = service.post_image(ROUTES[service.name], image)
        assert reply.status == 503, reply


@each
def test_off(tmp_path, services, name):
    service = service_of(name, tmp_path, SANDBOX="off")
    services.append(service.start())
    assert service.post_image(ROUTES[name], PICTURE).status == 200
    assert zygote_free(service)


def test_same_bytes_with_and_without(tmp_path, services):
    queries = ("", "?format=png&width=333", "?format=webp&fit=contain", "?format=avif&height=90", "?fit=inside&quality=40")
    sources = [PICTURE, encode(gradient(300, 200, "RGBA"), "PNG"), encode(gradient(64, 64), "WEBP"), encode(gradient(), "TIFF")]
    stored = []
    for setting in ("on", "off"):
        service = service_of("preprocess-service", tmp_path / setting, SANDBOX=setting)
        (tmp_path / setting).mkdir()
        services.append(service.start())
        replies = [service.upload(data, query).json() for data in sources for query in queries]
        stored.append([(r["id"], r["width"], r["height"], r["bytes"], service.get("/images/" + r["id"]).body) for r in replies])
    assert stored[0] == stored[1]


def test_stages_are_still_measured(preprocess):
    began = time.monotonic()
    assert preprocess.upload(PICTURE).status == 200
    took = time.monotonic() - began
    for stage in ("queue", "decode", "transform", "encode"):
        assert preprocess.metric(f'stage_duration_seconds_count{{stage="{stage}"}}') == 1
        assert 0 < preprocess.metric(f'stage_duration_seconds_sum{{stage="{stage}"}}') < took


def test_workers_have_nothing(preprocess):
    """No environment, no file, one socket, which only a full root may see: they cannot be traced."""
    preprocess.upload(PICTURE)
    hidden = 0
    wait_for(lambda: all("\nSeccomp:\t2\n" in pathlib.Path(f"/proc/{pid}/status").read_text()
                         for pid in workers(preprocess)), "the other worker, too, to shut itself in")
    for pid in workers(preprocess):
        folder = pathlib.Path(f"/proc/{pid}")
        status = (folder / "status").read_text()
        assert "\nSeccomp:\t2\n" in status and "\nNoNewPrivs:\t1\n" in status
        assert "\nUid:\t0\t" not in status and "CapEff:\t0000000000000000\n" in status
        try:
            assert not (folder / "environ").read_bytes().strip(b"\0")
            links = [os.readlink(fd) for fd in (folder / "fd").iterdir()]
            assert [link for link in links if not link.startswith("socket:") and not SANITIZED] == []
        except PermissionError:
            hidden += 1
    if hidden:
        pytest.skip("no right to look into sandbox processes (CAP_SYS_PTRACE)")


# --- where there is no sandbox ---

NUMBERS = {"x86_64": {"seccomp": 317, "prctl": 157, "clone": 56, "clone3": 435, "fork": 57},
           "aarch64": {"seccomp": 277, "prctl": 167, "clone": 220, "clone3": 435, "fork": -2}}
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER, EPERM = 38, 22, 2, 1


def refuse(*names, only_first_argument=None):
    """For preexec_fn: these system calls fail with EPERM from here on (a filter of classic BPF)."""
    numbers = NUMBERS.get(platform.machine())
    if numbers is None:
        pytest.skip("no numbers of system calls for this machine")

    def instruction(code, if_true, if_false, k):
        return struct.pack("=HBBI", code, if_true, if_false, k)

    def install():
        program = instruction(0x20, 0, 0, 0)  # its number
        for name in names:
            if name == "prctl":  # only for filters
                program += instruction(0x15, 0, 3, numbers[name]) + instruction(0x20, 0, 0, 16)
                program += instruction(0x15, 0, 1, PR_SET_SECCOMP) + instruction(0x06, 0, 0, 0x50000 | EPERM)
                program += instruction(0x20, 0, 0, 0)
            else:
                program += instruction(0x15, 0, 1, numbers[name] & 0xFFFFFFFF) + instruction(0x06, 0, 0, 0x50000 | EPERM)
        program += instruction(0x06, 0, 0, 0x7FFF0000)
        code = ctypes.create_string_buffer(program, len(program))
        header = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, FILTER, header, 0, 0):
            os._exit(99)
    return install


def launch(service, preexec, *arguments):
    with open(service.log_path, "ab") as log:
        service.process = subprocess.Popen([service.program, *arguments], env=service.env, cwd=service.folder, stdout=log,
                                           stderr=log, preexec_fn=preexec)
    return service


@each
def test_a_system_that_cannot(tmp_path, services, name):
    """Refuses to start, says why and what to do; without a sandbox it starts, when told so."""
    service = launch(service_of(name, tmp_path), refuse("seccomp", "prctl"))
    assert service.process.wait(20 * SLOW) == 2, service.log()
    assert "seccomp" in service.log() and "SANDBOX=off" in service.log()
    service.env["SANDBOX"] = "off"
    launch(service, refuse("seccomp", "prctl"))
    services.append(service.wait_alive())
    assert service.post_image(ROUTES[name], PICTURE).status == 200


@pytest.mark.once  # and LeakSanitizer wants to fork
@pytest.mark.parametrize("name, argument", [
    *((name, argument) for name in KINDS for argument in ("--help", "--version", "--nonsense")), ("preprocess-service", "--outbox")])
def test_no_zygote_for_commands(tmp_path, name, argument):
    """Where nothing can be forked, a service does not start, but these do."""
    nothing = refuse("clone", "clone3", "fork")
    service = launch(service_of(name, tmp_path), nothing)
    assert service.process.wait(20 * SLOW) == 1 and "fork" in service.log()
    launch(service, nothing, argument, *(["list"] if argument == "--outbox" else []))
    assert service.process.wait(20 * SLOW) == {"--nonsense": 2, "--outbox": 1}.get(argument, 0), service.log()
    assert service.log().count("fork") == 1 and (argument != "--outbox" or "no outbox" in service.log())

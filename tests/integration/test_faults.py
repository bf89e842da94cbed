"""Nothing is lost: storage and outbox read-only, full or gone; and everything dying at random."""
import contextlib
import itertools
import os
import signal
import subprocess
import time

import pytest

import fault_world
import store_servers
from conftest import Service, Stack, wait_for
from fault_world import s3_server
from images import encode, gradient, numbered_jpeg
from ledger import Bucket, Ledger, all_results, drain
from models import tiny_model
from store_servers import servers

pytestmark = pytest.mark.faults
PICTURE = encode(gradient(), quality=85)


def test_old_temporaries_are_removed(tmp_path, services):
    """What a killed service left is gone once it is certain that nobody is still writing it."""
    folder = tmp_path / "objects/.tmp"
    folder.mkdir(parents=True)
    (folder / "recent").write_bytes(b"half")
    (folder / "old").write_bytes(b"half")
    os.utime(folder / "old", (time.time() - 7200,) * 2)
    services.append(Service("preprocess-service", tmp_path, EVENTS_URL="none:").start())
    assert [p.name for p in folder.iterdir()] == ["recent"]


# ---- storage that refuses

class FileSystem:
    """A small file system of its own, in memory, that can be made read-only or full."""

    def __init__(self, path, size):
        self.path = path
        path.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path],
                              capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"FULL AND READ-ONLY DISKS NOT TESTED: {done.stderr.strip().rpartition(': ')[2]}")

    def remount(self, mode):
        """Refused while a file is open for writing: not for long."""
        wait_for(lambda: subprocess.run(["mount", "-o", f"remount,{mode}", self.path],
                                        capture_output=True).returncode == 0, f"remount,{mode}")

    def fill(self):
        with open(self.path / "filler", "ab", buffering=0) as f, contextlib.suppress(OSError):
            while True:
                f.write(bytes(4096))

    def free(self):
        (self.path / "filler").unlink()

    def unmount(self):
        subprocess.run(["umount", "-l", self.path], check=True)


@pytest.fixture
def small(tmp_path):
    """Made before `services`, so that it goes after them."""
    fs = FileSystem(tmp_path / "small", "2m")
    yield fs
    fs.unmount()


BREAKS = {
    "read-only": (lambda fs: fs.remount("ro"), lambda fs: fs.remount("rw")),
    "full": (FileSystem.fill, FileSystem.free),
}


def refused(reply):
    assert reply.status == 503, reply
    assert int(reply.headers["Retry-After"]) >= 1
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert "/" not in reply.json()["detail"]  # no paths, nothing internal


@contextlib.contextmanager
def frozen(service):
    service.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        service.process.send_signal(signal.SIGCONT)


@pytest.mark.namespaces
@pytest.mark.parametrize("how", BREAKS)
def test_store_refuses(tmp_path, small, services, how):
    damage, mend = BREAKS[how]
    url = f"file://{small.path}/objects"
    stack = Stack(tmp_path, {"STORAGE_URL": url}, {"STORAGE_URL": url})
    services.append(stack)
    ledger = Ledger(small.path / "objects")
    stack.start()
    with frozen(stack.classify):  # so that results are still to be stored when storage breaks
        for n in range(8):
            ledger.upload(stack.preprocess, numbered_jpeg(n, PICTURE))
        damage(small)
    before = {p.name for p in ledger.files()}
    for n in range(100, 105):
        refused(stack.preprocess.upload(numbered_jpeg(n, PICTURE)))
    ready = stack.preprocess.get("/readyz")
    assert ready.status == 503 and ready.json()["failing"] == "storage", ready
    wait_for(lambda: stack.preprocess.metric('events_total{outcome="endpoint_error"}') >= 2,
             "results to be refused")
    assert {p.name for p in ledger.files()} == before
    assert not list((ledger.objects / ".tmp").iterdir())
    assert stack.preprocess.get("/healthz").status == 200
    id = next(iter(ledger.acknowledged))
    assert stack.preprocess.get("/images/" + id).status == 200  # what is there can be read
    assert len(ledger.missing()) == 8

    mend(small)
    for n in range(100, 105):
        ledger.upload(stack.preprocess, numbered_jpeg(n, PICTURE))
    assert stack.preprocess.get("/readyz").status == 200
    drain(stack.preprocess)
    ledger.check()


@pytest.mark.namespaces
@pytest.mark.parametrize("how", BREAKS)
def test_storage_server_refuses(tmp_path, small, services, how):
    """The disk is its, and so are the answers that it makes of that."""
    name = s3_server()
    if name is None:
        pytest.skip("STORAGE SERVER'S DISK NOT TESTED: no S3 server at hand")
    damage, mend = BREAKS[how]
    try:
        server = store_servers.SERVERS[name](small.path / "server")
    except servers.Unavailable as e:
        pytest.skip(f"STORAGE SERVER'S DISK NOT TESTED: {e}")
    server.log_path = tmp_path / "server.log"
    with server:
        env = store_servers.s3_env(server)
        stack = Stack(tmp_path, env, env | {"MODEL": tiny_model(tmp_path)})
        services.append(stack)
        ledger = Ledger(Bucket(servers.boto(server), server.bucket))
        stack.start()
        with frozen(stack.classify):
            for n in range(8):
                ledger.upload(stack.preprocess, numbered_jpeg(n, PICTURE))
            damage(small)
        for n in range(100, 104):
            refused(stack.preprocess.upload(numbered_jpeg(n, PICTURE)))
        assert stack.preprocess.get("/readyz").status == 503
        wait_for(lambda: stack.preprocess.metric('events_total{outcome="endpoint_error"}') >= 2, "results to be refused")
        image = "/images/" + next(iter(ledger.acknowledged))
        wait_for(lambda: stack.preprocess.get(image).status == 200, "the server to read, having looked at its disk")
        assert len(ledger.missing(listed=())) == 8  # Swift's lists need a disk that it can write to
        mend(small)
        for n in range(100, 104):
            ledger.upload(stack.preprocess, numbered_jpeg(n, PICTURE))
        all_results(ledger)
        drain(stack.preprocess)
        ledger.check()
        stack.stop()


@pytest.mark.namespaces
def test_ready_again_without_a_request(tmp_path, small, services):
    service = Service("preprocess-service", tmp_path, EVENTS_URL="none:",
                      STORAGE_URL=f"file://{small.path}/objects").start()
    services.append(service)
    small.remount("ro")
    for n in range(2):
        refused(service.upload(numbered_jpeg(n, PICTURE)))
    assert service.get("/readyz").status == 200  # may have been chance
    refused(service.upload(numbered_jpeg(2, PICTURE)))
    assert service.get("/readyz").json() == {"status": "not ready", "failing": "storage"}
    small.remount("rw")
    wait_for(lambda: service.get("/readyz").status == 200, "readiness")
    assert service.upload(numbered_jpeg(0, PICTURE)).status == 200


@pytest.mark.namespaces
def test_outbox_has_no_room(tmp_path, small, services):
    stack = Stack(tmp_path, {"OUTBOX_PATH": small.path / "outbox.db"})
    services.append(stack)
    ledger = Ledger(stack.objects)
    stack.preprocess.start()
    for n in range(8):
        ledger.upload(stack.preprocess, numbered_jpeg(n, PICTURE))
    small.fill()
    stack.classify.start()
    numbers = itertools.count(100)
    while True:  # pages that the files own already may take a few more
        data = numbered_jpeg(next(numbers), PICTURE)
        reply = stack.preprocess.upload(data)
        if reply.status != 200:
            break
        ledger.record(reply)
        assert len(ledger) < 1000
    refused(reply)
    stored = {p for p in ledger.files() if p.suffix == ".jpg"}
    unannounced = stored - {ledger.path(p) for p in ledger.acknowledged.values()}
    assert len(unannounced) == 1  # nothing was promised for it, so it is repeated
    assert stack.preprocess.get("/healthz").status == 200

    small.free()
    assert {ledger.path(ledger.upload(stack.preprocess, data))} == unannounced
    drain(stack.preprocess)
    ledger.check()


@pytest.mark.namespaces
def test_outbox_on_a_read_only_disk(tmp_path, small, services):
    """It cannot start, says so, and has harmed nothing. (While it runs, the kernel refuses to make
    the disk read-only.)"""
    stack = Stack(tmp_path, {"OUTBOX_PATH": small.path / "outbox.db"})
    services.append(stack)
    ledger = Ledger(stack.objects)
    stack.preprocess.start()
    for n in range(8):
        ledger.upload(stack.preprocess, numbered_jpeg(n, PICTURE))
    stack.preprocess.kill()
    small.remount("ro")
    process, stack.preprocess.process = stack.preprocess.launch().process, None
    assert process.wait(10) == 2
    assert "OUTBOX_PATH" in stack.preprocess.log_lines()[-1]["message"]
    small.remount("rw")
    stack.start()
    drain(stack.preprocess)
    ledger.check()


def test_store_directory_goes_and_comes_back(tmp_path, services):
    """As when a volume is unmounted and mounted again: 503 meanwhile, no restart needed."""
    stack = Stack(tmp_path)
    services.append(stack)
    stack.start()
    ledger = Ledger(stack.objects)
    ledger.upload(stack.preprocess, numbered_jpeg(1, PICTURE))
    drain(stack.preprocess)
    stack.objects.rename(tmp_path / "away")
    reply = stack.preprocess.upload(numbered_jpeg(2, PICTURE))
    assert reply.status == 503 and "Retry-After" in reply.headers
    assert stack.classify.get("/results/" + "0" * 64).status == 503
    (tmp_path / "away").rename(stack.objects)
    ledger.upload(stack.preprocess, numbered_jpeg(2, PICTURE))
    drain(stack.preprocess)
    ledger.check()


@pytest.mark.threads
@pytest.mark.parametrize("kind, number", fault_world.rounds())
def test_round(tmp_path, services, kind, number):
    """Services, storage and the network between them die at random moments during 300 uploads: nothing that was
    acknowledged is lost or doubled. `make faults` plays 50 rounds of 1,000."""
    fault_world.play(kind, number, tmp_path, services)

"""Nothing is lost: processes killed at any moment, storage and outbox read-only or full."""
import contextlib
import os
import random
import subprocess
import time

import pytest

from conftest import Service, Stack, wait_for
from images import encode, gradient, numbered_jpeg
from ledger import Ledger, Load, all_results, drain

UPLOADS = 200
THREADS = 6
PICTURE = encode(gradient(), quality=85)


def is_alive(service):
    """Whether it answers, without minding when it does not."""
    with contextlib.suppress(AssertionError):
        return service.is_alive()


def kill_at_random(rng, stack, load):
    """Kill either service now and then, the restarted one perhaps before it is up. How often."""
    kills = 0
    while load.running():
        time.sleep(rng.uniform(0.02, 0.5))
        victim = rng.choice([stack.preprocess, stack.classify])
        victim.kill()
        kills += 1
        victim.launch()
        if rng.random() < 0.8:  # else the next kill may meet it while it starts
            victim.start_wait()
    return kills


@pytest.mark.parametrize("attempt", range(3))
def test_kill_9(tmp_path, services, attempt):
    seed = int(os.environ.get("DARKROOM_SEED", random.SystemRandom().randrange(10**6)))
    print(f"DARKROOM_SEED={seed}")
    rng = random.Random(seed)
    stack = Stack(tmp_path)
    services.append(stack)
    ledger = Ledger(stack.objects)
    stack.start()
    with Load(stack.preprocess, ledger, UPLOADS, THREADS, PICTURE) as load:
        kills = 0
        while load.running():
            time.sleep(rng.uniform(0.02, 0.5))
            victim = rng.choice([stack.preprocess, stack.classify])
            victim.kill()
            kills += 1
            if rng.random() < 0.2:  # and again while it starts
                victim.launch()
                time.sleep(rng.uniform(0, 0.1))
                victim.kill()
                kills += 1
            victim.start()
    print(f"{kills} kills, {len(load.attempts)} attempts at {len(ledger)} uploads")
    assert kills >= 3 and len(ledger) == UPLOADS
    drain(stack.preprocess)
    ledger.check(temporaries=kills * THREADS)

    before = ledger.results()
    for n in range(0, UPLOADS, 10):  # duplicates: the object, its event and its result again
        ledger.upload(stack.preprocess, numbered_jpeg(n, PICTURE))
    drain(stack.preprocess)
    assert len(ledger) == UPLOADS
    assert ledger.results() == before


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
            pytest.skip(f"cannot mount a file system here: {done.stderr.strip()}")

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


def break_read_only(fs):
    fs.remount("ro")


def mend_read_only(fs):
    fs.remount("rw")


BREAKS = {"read-only": (break_read_only, mend_read_only), "full": (FileSystem.fill, FileSystem.free)}


def refused(reply):
    assert reply.status == 503, reply
    assert int(reply.headers["Retry-After"]) >= 1
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert "/" not in reply.json()["detail"]  # no paths, nothing internal
    return reply


@pytest.mark.parametrize("how", BREAKS)
def test_store_refuses(tmp_path, small, services, how):
    damage, mend = BREAKS[how]
    objects = small.path / "objects"
    stack = Stack(tmp_path, {"STORAGE_URL": f"file://{objects}"}, {"STORAGE_URL": f"file://{objects}"})
    services.append(stack)
    ledger = Ledger(objects)
    stack.preprocess.start()  # the classifier comes later: events are waiting when storage breaks
    for n in range(5):
        ledger.upload(stack.preprocess, numbered_jpeg(n, PICTURE))
    stack.classify.start()
    stack.classify.stop()
    for n in range(5, 8):
        ledger.upload(stack.preprocess, numbered_jpeg(n, PICTURE))
    stack.classify.start()

    damage(small)
    known = {p.name for p in ledger.files()}
    for n in range(100, 105):
        refused(stack.preprocess.upload(numbered_jpeg(n, PICTURE)))
    assert {p.name for p in ledger.files() if p.suffix == ".jpg"} <= known
    assert not list((objects / ".tmp").iterdir())
    ready = stack.preprocess.get("/readyz")
    assert ready.status == 503 and ready.json()["failing"] == "storage", ready
    assert stack.preprocess.get("/healthz").status == 200
    assert stack.preprocess.get("/images/" + next(iter(ledger.acknowledged))).status == 200  # reads work

    mend(small)
    for n in range(100, 105):
        ledger.upload(stack.preprocess, numbered_jpeg(n, PICTURE))
    assert stack.preprocess.get("/readyz").status == 200
    drain(stack.preprocess)
    wait_for(lambda: stack.classify.get("/readyz").status == 200, "the classifier to be ready")
    ledger.check()


@pytest.mark.parametrize("how", BREAKS)
def test_classifier_cannot_store(tmp_path, small, services, how):
    """Its results find no room: the events wait, nothing is given up, and it says so."""
    damage, mend = BREAKS[how]
    objects = small.path / "objects"
    stack = Stack(tmp_path, {"STORAGE_URL": f"file://{objects}"}, {"STORAGE_URL": f"file://{objects}"})
    services.append(stack)
    ledger = Ledger(objects)
    stack.preprocess.start()
    stack.classify.start()
    wait_for(lambda: not list((objects / ".tmp").iterdir()), "quiet")
    stack.classify.stop()
    for n in range(8):
        ledger.upload(stack.preprocess, numbered_jpeg(n, PICTURE))
    stack.classify.launch()
    wait_for(lambda: is_alive(stack.classify), "the classifier")
    damage(small)
    waiting = len(ledger.missing())
    if waiting == 0:  # it was quicker: more work, that storage of preprocess cannot take either
        pytest.fail("the classifier was done before storage broke")
    mend(small)
    drain(stack.preprocess)
    ledger.check()

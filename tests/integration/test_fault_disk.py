"""Disks that fail in the middle of things: sync errors, no room half-way through a commit, reads that fail,
and death before each single call that changes a file. Nothing acknowledged is lost, nothing false is
acknowledged, and all is well once the disk is."""
import contextlib
import http.client
import itertools

import pytest

import fault_world
from conftest import Stack, wait_for
from disk import CHANGE, DIE, EIO, ENOSPC, NAME, READ, SYNC, WRITE, Disk
from images import coloured_jpeg
from ledger import Ledger, Load, all_results, drain
from models import tiny_model

# once: the shim cannot be loaded before a sanitizer
pytestmark = [pytest.mark.faults, pytest.mark.once]
QUERY = "?width=64&height=64"
STEP = 2 if fault_world.ROUND_COUNT else 13  # of some 90 calls
KILLED = 8  # temporaries that a service may leave behind when it is killed


class Uploads:
    """Numbered pictures, and what became of them."""

    def __init__(self, stack):
        self.stack, self.ledger, self.numbers = stack, Ledger(stack.objects), itertools.count()
        self.refused = []

    def once(self):
        """One new upload: acknowledged, or refused as what will pass."""
        n = next(self.numbers)
        reply = self.stack.preprocess.upload(coloured_jpeg(n), QUERY)
        if reply.status == 200:
            self.ledger.record(reply, n)
        else:
            assert reply.status == 503 and int(reply.headers["Retry-After"]) >= 1, reply
            self.refused.append(n)
        return reply.status

    def broken(self):
        """One that may be cut off; True when it was answered."""
        n = next(self.numbers)
        self.refused.append(n)
        try:
            reply = self.stack.preprocess.upload(coloured_jpeg(n), QUERY)
        except (OSError, http.client.HTTPException):
            return False
        assert reply.status == 200, reply
        self.ledger.record(reply, n)
        self.refused.remove(n)
        return True

    def many(self, count, threads=8):
        first = next(self.numbers)
        self.numbers = itertools.count(first + count)
        with Load(self.stack.preprocess, self.ledger, count, threads, first=first, coloured=coloured_jpeg,
                  query=QUERY):
            pass

    def settle(self, temporaries=0):
        """Clients repeat what was refused; then everything is there."""
        for n in self.refused:
            self.ledger.record(self.stack.preprocess.upload(coloured_jpeg(n), QUERY), n)
        self.refused = []
        all_results(self.ledger)
        drain(self.stack.preprocess)
        assert len(self.ledger) == next(self.numbers)
        self.numbers = itertools.count(len(self.ledger))
        self.ledger.check(temporaries)


@pytest.fixture
def disks(tmp_path):
    """One of each service's own."""
    made = {}
    for name in ("preprocess", "classify"):
        (tmp_path / name).mkdir()
        made[name] = Disk(tmp_path / name)
    yield made
    for disk in made.values():
        disk.mend()


@pytest.fixture
def stack(tmp_path, services, disks):
    """On the two disks; the outbox has a folder of its own."""
    services.append(Stack(tmp_path, disks["preprocess"].env | {"OUTBOX_PATH": tmp_path / "events/outbox.db"},
                          disks["classify"].env | {"MODEL": tiny_model(tmp_path)}))
    yield services[0].start()
    for disk in disks.values():  # before the services stop
        disk.mend()


@pytest.mark.parametrize("error", [EIO, ENOSPC])
@pytest.mark.parametrize("ops, path", [
    (SYNC, "objects/.tmp/*"), (SYNC, "objects"), (WRITE, "objects/.tmp/*"), (SYNC, "events/outbox.db-wal"),
    (WRITE, "events/outbox.db-wal"), (CHANGE, "objects/*"), (CHANGE, "events/*"),
])
def test_nothing_can_be_made_durable(stack, disks, tmp_path, ops, path, error):
    uploads = Uploads(stack)
    assert uploads.once() == 200
    disk = disks["preprocess"]
    disk.fail(ops, error, tmp_path / path)
    assert [uploads.once() for _ in range(4)] == [503] * 4
    assert disk.failed >= 4
    assert stack.preprocess.get("/healthz").status == 200
    disk.mend()
    assert uploads.once() == 200
    uploads.settle(temporaries=4 if ops & NAME else 0)  # they could not be removed either


@pytest.mark.parametrize("ops, path, error", [
    (SYNC, "objects/.tmp/*", EIO), (SYNC, "objects", EIO), (WRITE, "objects/.tmp/*", ENOSPC), (READ, "objects/*.jpg", EIO),
])
def test_results_cannot_be_stored(stack, disks, tmp_path, ops, path, error):
    """Nor, the last one, pictures be read: the events wait."""
    uploads, disk = Uploads(stack), disks["classify"]
    disk.fail(ops, error, tmp_path / path)
    for _ in range(5):
        assert uploads.once() == 200
    wait_for(lambda: disk.failed >= 3, "some attempts")
    assert stack.preprocess.metric("outbox_dead") == 0
    disk.mend()
    uploads.settle()


def test_pictures_cannot_be_read(stack, disks, tmp_path):
    uploads, disk = Uploads(stack), disks["preprocess"]
    assert uploads.once() == 200
    id = next(iter(uploads.ledger.acknowledged))
    disk.fail(READ, EIO, tmp_path / "objects/*")
    assert stack.preprocess.get("/images/" + id).status == 503
    disk.mend()
    assert stack.preprocess.get("/images/" + id).status == 200
    uploads.settle()


@pytest.mark.parametrize("torn", [False, True], ids=["none", "half"])
@pytest.mark.parametrize("killed", [False, True], ids=["goes on", "killed"])
def test_no_room_in_the_middle_of_a_commit(stack, disks, tmp_path, torn, killed):
    """At each write of a transaction in turn; the next one finds room."""
    uploads, disk, broken = Uploads(stack), disks["preprocess"], 0
    for skip in range(12):
        uploads.once()
        disk.fail(WRITE, ENOSPC, tmp_path / "events/outbox.db*", skip=skip, count=1, torn=torn)
        while disk.failed == 0:
            uploads.once()
        broken += len(uploads.refused) > 0
        if killed:
            stack.preprocess.kill()
            disk.mend()
            stack.preprocess.start()
        uploads.settle(temporaries=KILLED * killed * (skip + 1))
    assert broken >= 4  # the others hit what no client waits for


@pytest.mark.parametrize("error", [EIO, ENOSPC])
@pytest.mark.parametrize("ops", [SYNC, WRITE])
def test_a_checkpoint_fails(stack, disks, tmp_path, ops, error):
    """Commits go to the -wal; moving them to the database fails, for long, and nobody notices."""
    uploads, disk = Uploads(stack), disks["preprocess"]
    disk.fail(ops, error, tmp_path / "events/outbox.db")
    for _ in range(20):  # how much each upload adds to the -wal depends on how many share a commit
        uploads.many(100)
        if disk.failed > 0:
            break
    wait_for(lambda: disk.failed > 0, "a checkpoint")
    stack.classify.kill()
    uploads.many(20)
    stack.preprocess.kill()
    disk.mend()
    stack.start()
    uploads.settle(temporaries=2 * KILLED)


def is_delivered(service):
    with contextlib.suppress(OSError, http.client.HTTPException):
        return service.metric("outbox_pending") == 0


def test_death_before_each_change_of_an_upload(stack, disks, tmp_path):
    uploads, disk = Uploads(stack), disks["preprocess"]
    assert uploads.once() == 200
    uploads.settle()
    for skip in itertools.count():
        assert skip < 200
        disk.fail(CHANGE, DIE, tmp_path / "*", skip=skip, count=1)
        uploads.broken()
        wait_for(lambda: disk.failed or is_delivered(stack.preprocess), "the event to be settled, or death")
        disk.mend()
        if not disk.failed:
            break
        stack.preprocess.process.wait(10)
        stack.preprocess.start()
        uploads.settle(temporaries=skip + 1)
    uploads.settle(temporaries=skip + 1)
    assert skip >= 8  # file, its data, its name, their syncs; the commit's writes and sync


def test_death_before_each_change_of_a_result(stack, disks, tmp_path):
    uploads, disk = Uploads(stack), disks["classify"]
    for skip in itertools.count():
        assert skip < 50
        disk.fail(CHANGE, DIE, tmp_path / "*", skip=skip, count=1)
        assert uploads.once() == 200
        wait_for(lambda: disk.failed or stack.preprocess.metric("outbox_pending") == 0, "an answer, or death")
        if not disk.failed:
            break
        stack.classify.process.wait(10)
        disk.mend()
        stack.classify.start()
        uploads.settle(temporaries=skip + 1)
    disk.mend()
    assert skip >= 4
    uploads.settle(temporaries=skip + 1)


def spoil(path):
    with open(path, "r+b") as f:
        f.write(b"\xff" * max(path.stat().st_size, 8192))


def outage(stack, uploads):
    """Events that are waiting, and a damaged file."""
    stack.classify.kill()
    uploads.many(6)
    stack.preprocess.kill()
    spoil(stack.folder / "events/outbox.db")


@pytest.mark.parametrize("error", [EIO, ENOSPC])
def test_a_damaged_outbox_and_no_room_to_mend_it(stack, disks, tmp_path, error):
    uploads, disk = Uploads(stack), disks["preprocess"]
    outage(stack, uploads)
    disk.fail(WRITE, error, tmp_path / "events/*.new*")
    for _ in range(2):  # its supervisor starts it again and again
        process = stack.preprocess.launch().process
        assert process.wait(10) == 2
        assert "OUTBOX_PATH" in stack.preprocess.log_lines()[-1]["message"]
    disk.mend()
    stack.start()
    uploads.settle(temporaries=KILLED)
    assert list((tmp_path / "events").glob("outbox.db.corrupt-*"))


def test_an_outbox_deleted_while_there_is_no_room(stack, disks, tmp_path):
    """Refused meanwhile, and mended without a restart."""
    uploads, disk = Uploads(stack), disks["preprocess"]
    stack.classify.kill()
    uploads.many(30)
    disk.fail(WRITE, ENOSPC, tmp_path / "events/*.new*")
    (tmp_path / "events/outbox.db").unlink()
    wait_for(lambda: uploads.once() == 503 and disk.failed > 0, "the damage to be noticed")
    assert uploads.once() == 503
    disk.mend()
    wait_for(lambda: uploads.once() == 200, "room")
    stack.classify.start()
    uploads.settle(temporaries=KILLED)


def test_death_before_each_change_of_a_recovery(stack, disks, tmp_path):
    uploads, disk = Uploads(stack), disks["preprocess"]
    for skip in itertools.count():
        assert skip < 300
        outage(stack, uploads)
        disk.fail(CHANGE, DIE, tmp_path / "events/*", skip=STEP * skip, count=1)
        stack.preprocess.launch()
        wait_for(lambda: disk.failed or stack.preprocess.is_alive(), "death, or a start")
        disk.mend()
        if disk.failed:
            stack.preprocess.process.wait(10)
            stack.preprocess.start()
        stack.classify.start()
        uploads.settle(temporaries=2 * KILLED * (skip + 1))
        if not disk.failed:
            break
    assert skip >= 3

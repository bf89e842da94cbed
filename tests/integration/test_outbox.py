"""The outbox in service: outages, refusals, dead letters, the operator's commands, damage."""
import contextlib
import json
import os
import random
import subprocess
import time

import pytest

from conftest import BUILD, Service, free_port, wait_for
from endpoint import Endpoint
from images import encode, gradient, numbered_jpeg
from ledger import Ledger, Load, all_results, drain

pytestmark = [pytest.mark.memory, pytest.mark.threads]

PICTURE = encode(gradient(), quality=85)
DEAD = "outbox_dead"
PENDING = "outbox_pending"


def picture(n):
    return numbered_jpeg(n, PICTURE)


@pytest.fixture
def endpoint():
    e = Endpoint()
    yield e
    e.close()


def sender(folder, services, port, **env):
    """preprocess-service, pushing to that port."""
    services.append(Service("preprocess-service", folder,
                            EVENTS_URL=f"push+http://127.0.0.1:{port}/pubsub", **env))
    return services[-1].start()


def operator(service, *arguments, status=0, **env):
    """`preprocess-service --outbox ...`, with the service's own environment."""
    done = subprocess.run([BUILD / "preprocess-service", "--outbox", *arguments], text=True,
                          env=service.env | env, cwd=service.folder, capture_output=True, timeout=60)
    assert done.returncode == status, done
    assert (done.stderr == "") == (status == 0), done
    return done.stdout if status == 0 else done.stderr


def wait_for_counts(service, counts):
    """Until the file has them: the metrics are a commit ahead of it. The operator's list is returned."""
    return wait_for(lambda: (listed := operator(service, "list")).endswith(counts + "\n") and listed, counts)


def wait_until_empty(service):
    """Other than drain(): letters that are no longer dead may be counted for a while."""
    wait_for(lambda: service.metric(PENDING) == service.metric(DEAD) == 0, "an empty outbox")


# ---- outages

@pytest.mark.faults
def test_classifier_down_for_long(tmp_path, stack):
    ledger = Ledger(stack.objects)
    stack.classify.stop()
    with Load(stack.preprocess, ledger, 60, threads=3) as load:
        wait_for(lambda: stack.preprocess.metric('events_total{outcome="endpoint_error"}') >= 5,
                 "some attempts", 30)
    assert {a.status for a in load.attempts} == {200}  # uploads do not care
    assert stack.preprocess.metric(PENDING) == 60
    assert stack.preprocess.get("/readyz").status == 200
    stack.classify.start()
    drain(stack.preprocess)
    ledger.check()
    messages = [line["message"] for line in stack.preprocess.log_lines()]
    assert messages.count("push endpoint is down") == messages.count("push endpoint is back") == 1


@pytest.mark.parametrize("status", [500, 503, 429])
def test_endpoint_in_trouble(tmp_path, services, endpoint, status):
    """Its trouble, not the messages': one attempt at a time, ever rarer, none given up."""
    endpoint.answer = lambda envelope: status
    service = sender(tmp_path, services, endpoint.port, MAX_DELIVERY_ATTEMPTS=2, PUSH_CONCURRENCY=1)
    ledger = Ledger(tmp_path / "objects")
    for n in range(20):
        ledger.upload(service, picture(n))
    wait_for(lambda: endpoint.count() >= 5, "attempts")
    tried = [at for at, _, _ in endpoint.received]
    assert tried[4] - tried[0] > 0.02  # four pauses of up to 0.1, 0.2, 0.4, 0.8 s
    assert service.metric(PENDING) == 20 and service.metric(DEAD) == 0
    endpoint.answer = lambda envelope: 204
    drain(service)
    delivered = endpoint.message_ids(204)
    assert sorted(delivered) == sorted(set().union(*ledger.message_ids.values()))  # once each


def test_dead_letter(tmp_path, services, endpoint):
    """One message is refused for good, the others are not affected."""
    ledger = Ledger(tmp_path / "objects")
    unwanted = []
    endpoint.answer = lambda envelope: 400 if envelope["message"]["messageId"] in unwanted else 204
    with held(endpoint):
        service = sender(tmp_path, services, endpoint.port, MAX_DELIVERY_ATTEMPTS=3)
        for n in range(10):
            ledger.upload(service, picture(n))
        id, = ledger.message_ids[next(iter(ledger.acknowledged))]
        unwanted.append(id)
    listed = wait_for_counts(service, "0 pending, 1 dead")
    assert service.metric(DEAD) == 1 and service.metric(PENDING) == 0
    assert endpoint.message_ids(400) == [id] * 3
    assert len(endpoint.message_ids(204)) == 9
    attempts = [e["deliveryAttempt"] for _, e, s in endpoint.received if s == 400 and "deliveryAttempt" in e]
    assert attempts == sorted(attempts)
    assert f"{id}" in listed and "HTTP status 400" in listed

    unwanted.clear()
    assert operator(service, "requeue", id) == "1 requeued\n"
    wait_for(lambda: endpoint.count(204) == 10, "the requeued one")
    wait_until_empty(service)


@contextlib.contextmanager
def held(endpoint):
    """Meanwhile every delivery is answered with 503."""
    answer, endpoint.answer = endpoint.answer, lambda envelope: 503
    try:
        yield
    finally:
        endpoint.answer = answer


# ---- the operator

def dead_letters(tmp_path, services, endpoint, count):
    endpoint.answer = lambda envelope: 400
    service = sender(tmp_path, services, endpoint.port, MAX_DELIVERY_ATTEMPTS=1)
    ledger = Ledger(tmp_path / "objects")
    for n in range(count):
        ledger.upload(service, picture(n))
    wait_for_counts(service, f"0 pending, {count} dead")
    endpoint.answer = lambda envelope: 204
    return service, [next(iter(ids)) for ids in ledger.message_ids.values()]


@pytest.mark.parametrize("live", [True, False], ids=["live", "stopped"])
def test_operator(tmp_path, services, endpoint, live):
    service, ids = dead_letters(tmp_path, services, endpoint, 5)
    if not live:
        service.stop()
    listed = operator(service, "list").splitlines()
    assert listed[0].split() == ["seq", "state", "attempts", "age", "event_id", "gcs_path", "last_error"]
    assert [line.split()[4] for line in listed[1:-1]] == ids
    assert {line.split()[1] for line in listed[1:-1]} == {"dead"}
    assert listed[-1] == "0 pending, 5 dead"

    assert "no dead letter" in operator(service, "requeue", "nobody", status=1)
    assert "no dead letter" in operator(service, "purge", "nobody", status=1)
    assert operator(service, "purge", ids[0]) == "1 purged\n"
    assert operator(service, "requeue", ids[1]) == "1 requeued\n"
    if not live:
        assert operator(service, "list").splitlines()[-1] == "1 pending, 3 dead"
        service.start()
    wait_for(lambda: endpoint.message_ids(204) == [ids[1]], "the requeued one")
    wait_for(lambda: service.metric(DEAD) == 3, "the count")
    if not live:
        service.stop()
    assert operator(service, "requeue") == "3 requeued\n"
    assert operator(service, "requeue") == "0 requeued\n"
    if not live:
        service.start()
    wait_for(lambda: sorted(endpoint.message_ids(204)) == sorted(ids[1:]), "all requeued ones")
    wait_until_empty(service)
    assert operator(service, "purge") == "0 purged\n"
    wait_for_counts(service, "0 pending, 0 dead")


@pytest.mark.parametrize("live", [True, False], ids=["live", "stopped"])
def test_operator_purges_all(tmp_path, services, endpoint, live):
    service, _ = dead_letters(tmp_path, services, endpoint, 3)
    if not live:
        service.stop()
    assert operator(service, "purge") == "3 purged\n"
    if not live:
        service.start()
    wait_for(lambda: service.metric(DEAD) == 0, "the count")
    assert endpoint.count(204) == 0


@pytest.mark.parametrize("live", [True, False], ids=["live", "stopped"])
def test_operator_reconciles(stack, live):
    """Results that are gone come again; those that are there stay as they are."""
    ledger = Ledger(stack.objects)
    for n in range(6):
        ledger.upload(stack.preprocess, picture(n))
    all_results(ledger)
    gone = [p for p in ledger.files() if p.suffix == ".json"][:3]
    for path in gone:
        path.unlink()
    kept = ledger.results()
    if not live:
        stack.preprocess.stop()
    assert "requested" in operator(stack.preprocess, "reconcile")
    if not live:
        assert operator(stack.preprocess, "list").endswith(", to be reconciled\n")
        stack.preprocess.start()
    all_results(ledger)
    drain(stack.preprocess)
    ledger.check()
    assert kept.items() <= ledger.results().items()
    wait_for(lambda: operator(stack.preprocess, "list").endswith("0 pending, 0 dead\n"), "it to be done")


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["list", "x"], ["reconcile", "x"],
                                       ["requeue", "x", "y"], ["purge", "x", "y"], ["--help", "x"]])
def test_operator_misuse(tmp_path, arguments):
    service = Service("preprocess-service", tmp_path)
    assert operator(service, *arguments, status=2).startswith("Usage: preprocess-service --outbox")
    assert not list(tmp_path.iterdir())  # nothing is made on the way


@pytest.mark.parametrize("command", ["list", "requeue", "purge", "reconcile"])
def test_operator_without_outbox(tmp_path, command):
    service = Service("preprocess-service", tmp_path)
    assert f"there is no outbox at {tmp_path}/outbox.db" in operator(service, command, status=1)
    (tmp_path / "outbox.db").write_bytes(b"no database at all, but a file\n" * 100)
    said = operator(service, command, status=1)
    assert "outbox" in said
    assert (tmp_path / "outbox.db").read_bytes().startswith(b"no database")  # not the operator's to mend
    assert "PORT" in operator(service, command, status=2, PORT="many")


# ---- bounds and secrets

def test_too_many_pending(tmp_path, services, endpoint):
    ledger = Ledger(tmp_path / "objects")
    with held(endpoint):
        service = sender(tmp_path, services, endpoint.port, OUTBOX_MAX_PENDING=5)
        for n in range(5):
            ledger.upload(service, picture(n))
        for n in range(5, 8):
            reply = service.upload(picture(n))
            assert reply.status == 503 and int(reply.headers["Retry-After"]) >= 1, reply
        assert service.metric(PENDING) == 5
        assert service.get("/readyz").status == 200
        again = ledger.upload(service, picture(0))  # announced already: nothing to add
        assert ledger.message_ids[again["id"]] == {again["message_id"]}
    drain(service)
    for n in range(5, 8):
        ledger.upload(service, picture(n))
    drain(service)
    assert len(ledger) == 8
    assert set(endpoint.message_ids(204)) == set().union(*ledger.message_ids.values())


def test_tokens_differ(tmp_path, services):
    """Refused deliveries become dead letters, that a requeue delivers once the mistake is mended."""
    port = free_port()
    classify = Service("classify-service", tmp_path, port, PUSH_TOKEN="theirs")
    services.append(classify.start())
    service = sender(tmp_path, services, port, PUSH_TOKEN="ours", MAX_DELIVERY_ATTEMPTS=2)
    ledger = Ledger(tmp_path / "objects")
    for n in range(10):
        ledger.upload(service, picture(n))
    wait_for_counts(service, "0 pending, 10 dead")
    assert "HTTP status 401" in operator(service, "list")
    assert len(ledger.missing()) == 10
    classify.stop()
    classify.restart(PUSH_TOKEN="ours")
    assert operator(service, "requeue") == "10 requeued\n"
    all_results(ledger)
    wait_until_empty(service)
    ledger.check()
    for text in (service.log(), classify.log(), operator(service, "list"),
                 service.get("/metrics").body.decode()):
        assert "ours" not in text.replace("yours", "") and "theirs" not in text


# ---- damage

RNG = random.Random(20260101)


def garbage(path):
    """In place: whoever has the file open sees it."""
    size = max(path.stat().st_size, 8192) if path.exists() else 8192
    with open(path, "r+b" if path.exists() else "wb") as f:
        f.write(RNG.randbytes(size))


def middle(path):
    """All but the first page."""
    with open(path, "r+b") as f:
        f.seek(4096)
        f.write(RNG.randbytes(max(path.stat().st_size - 4096, 4096)))


def truncated(path):
    os.truncate(path, path.stat().st_size // 2 + 100)


def emptied(path):
    os.truncate(path, 0)


DAMAGE = {
    "garbage": (garbage, ""), "garbage past the header": (middle, ""), "truncated": (truncated, ""),
    "emptied": (emptied, ""), "deleted": (os.unlink, ""),
    "wal garbage": (garbage, "-wal"), "wal truncated": (truncated, "-wal"), "wal deleted": (os.unlink, "-wal"),
}


CASES = [("running", how) for how in DAMAGE] + [
    ("killed", "garbage"), ("killed", "truncated"), ("killed", "deleted"), ("killed", "wal garbage"),
    ("stopped", "garbage"), ("stopped", "truncated"), ("stopped", "deleted"), ("stopped", "wal garbage"),
]


@pytest.mark.parametrize("state, how", CASES)
@pytest.mark.faults
def test_damage(stack, state, how):
    """Set aside, salvaged, reconciled: nothing that was acknowledged is lost."""
    damage, suffix = DAMAGE[how]
    service, ledger = stack.preprocess, Ledger(stack.objects)
    stack.classify.stop()
    for n in range(15):
        ledger.upload(service, picture(n))
    if state == "stopped":
        service.stop()
    if state == "killed":
        service.kill()
    path = stack.folder / ("outbox.db" + suffix)
    damage(path)
    if state != "running":
        service.start()
    with Load(service, ledger, 15, threads=3, first=1000) as load:  # it goes on answering
        pass
    assert {a.status for a in load.attempts} <= {200, 503}
    assert service.get("/readyz").status == 200
    stack.classify.start()
    all_results(ledger)
    drain(service)
    ledger.check()
    service.stop()
    service.start()  # SQLite reads the whole file
    if "wal" not in how and (state == "running" or how != "deleted"):
        assert list(stack.folder.glob("outbox.db.corrupt-*"))
    ledger.upload(service, picture(5000))
    all_results(ledger)
    drain(service)
    wait_for(lambda: operator(service, "list").splitlines()[-1] == "0 pending, 0 dead", "the last commit")
    service.stop()
    service.start()  # and the new one is whole
    ledger.upload(service, picture(5001))
    all_results(ledger)


@pytest.mark.faults
def test_damage_under_load(stack):
    """Again and again, while uploads and deliveries go on."""
    service, ledger = stack.preprocess, Ledger(stack.objects)
    path = stack.folder / "outbox.db"
    with Load(service, ledger, 150, threads=4) as load:
        for n in range(5):
            wait_for(lambda: len(ledger) >= (n + 1) * 20 or not load.running(), "uploads")
            if path.exists():
                garbage(path)
    all_results(ledger)
    drain(service)
    ledger.check()

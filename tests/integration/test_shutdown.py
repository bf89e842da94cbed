"""SIGTERM while requests come in, and the outbox handed from one instance to the next."""
import contextlib
import threading
import time

import pytest

from conftest import SLOW, Service, Stack, wait_for
from images import encode, gradient, numbered_jpeg
from ledger import Ledger, Load, drain

pytestmark = pytest.mark.threads

MARGIN_S = 0.2  # sent this long before the signal, a request's headers have been read
SHRINK = 1 if SLOW == 1 else 4  # a sanitizer has as much work with fewer pixels


@pytest.fixture(scope="session")
def slow_picture():
    """Some 50 ms of work: at any moment several requests are waiting or in progress."""
    return encode(gradient(4000 // SHRINK, 3000 // SHRINK), quality=90, progressive=True)


def terminate(service):
    """SIGTERM; returns when it was sent. The exit status must be 0, in time."""
    sent = time.monotonic()
    service.stop(timeout=float(service.env["SHUTDOWN_GRACE_MS"]) / 1000 + 1)
    return sent


def check_attempts(attempts, signalled):
    """Whoever was accepted got an answer; afterwards a refusal, never a broken promise."""
    for a in attempts:
        assert a.status in (200, 503, None), a
        if a.sent and a.sent < signalled - MARGIN_S:
            assert a.status is not None, f"no answer to {a}, the signal came at {signalled}"


def test_preprocess_terminated_under_load(stack, slow_picture):
    ledger = Ledger(stack.objects)
    with Load(stack.preprocess, ledger, 10**6, threads=12, picture=slow_picture) as load:
        wait_for(lambda: len(ledger) >= 10, "some uploads")
        signalled = terminate(stack.preprocess)
        acknowledged = len(ledger)
        stack.preprocess.start()
        wait_for(lambda: len(ledger) >= acknowledged + 10, "uploads to go on")
        load.stop()
    check_attempts(load.attempts, signalled)
    in_progress = [a for a in load.attempts if a.began < signalled - MARGIN_S / 2 and a.status == 200]
    assert in_progress
    drain(stack.preprocess)
    ledger.check()


def test_classify_terminated_under_load(stack, slow_picture):
    """Pushes and direct requests: the events come again, the requests are answered."""
    ledger = Ledger(stack.objects)
    answers, stopped = [], threading.Event()

    def classify():
        n = 0
        while not stopped.is_set():
            began, status, n = time.monotonic(), None, n + 1
            with contextlib.suppress(OSError):
                status = stack.classify.post_image("/classify", numbered_jpeg(n, slow_picture)).status
            answers.append((began, status))
            if status is None:
                stopped.wait(0.02)

    clients = [threading.Thread(target=classify, daemon=True) for _ in range(4)]
    with Load(stack.preprocess, ledger, 60, threads=3):
        for client in clients:
            client.start()
        wait_for(lambda: len(answers) >= 10 and len(ledger) >= 10
                 and time.monotonic() - answers[0][0] > 2 * MARGIN_S, "some work", 30)
        signalled = terminate(stack.classify)
        stack.classify.start()
    count = len(answers)
    wait_for(lambda: len(answers) > count + 4, "answers from the new instance")
    stopped.set()
    for client in clients:
        client.join(60)
    before = [status for began, status in answers if began < signalled - MARGIN_S]
    assert before and set(before) <= {200, 503}, before
    assert {status for _, status in answers} <= {200, 503, None}
    assert answers[-1][1] == 200
    drain(stack.preprocess)
    ledger.check()


@pytest.mark.parametrize("name", ["preprocess-service", "classify-service"])
def test_work_goes_on_during_the_notice(tmp_path, services, name):
    """A gateway that looks at /readyz sends no more before the first refusal."""
    env = {"EVENTS_URL": "none:"} if name == "preprocess-service" else {}
    service = Service(name, tmp_path, SHUTDOWN_NOTICE_MS=int(1500 * SLOW), **env)
    services.append(service)
    service.start()
    service.process.terminate()
    wait_for(lambda: service.get("/readyz").status == 503, "readyz 503")
    reply = service.post_image("/transform" if env else "/classify", encode(gradient(64, 48)))
    assert reply.status == 200, reply
    assert service.process.wait(9 * SLOW) == 0
    service.process = None


@pytest.mark.long
def test_readiness_and_new_work_after_sigterm(tmp_path, services, slow_picture):
    """While the last requests are finished: not ready, alive, new work refused with Retry-After."""
    stack = Stack(tmp_path, {"SHUTDOWN_GRACE_MS": int(60000 * SLOW)})  # a busy machine finishes some, too
    services.append(stack.start())
    service, ledger, replies = stack.preprocess, Ledger(stack.objects), []
    threads = [threading.Thread(target=lambda n=n: replies.append(
        service.upload(numbered_jpeg(n, slow_picture), f"?format=webp&width={2400 // SHRINK}"))) for n in range(12)]
    for thread in threads:
        thread.start()
    wait_for(lambda: service.metric("worker_queue_depth") >= 4, "a queue")
    service.process.terminate()
    ready = wait_for(lambda: (r := service.get("/readyz")).status == 503 and r, "readyz 503")
    assert ready.json()["failing"] == "shutting down"
    assert service.get("/healthz").status == 200
    refused = service.upload(numbered_jpeg(99, slow_picture))
    assert refused.status == 503 and refused.headers["Retry-After"]
    assert refused.headers["Connection"] == "close"
    assert service.process.wait(90 * SLOW) == 0
    service.process = None
    for thread in threads:
        thread.join(60 * SLOW)
    assert len(replies) == 12  # each was answered
    for reply in replies:
        assert reply.status in (200, 503)
        if reply.status == 200:
            ledger.record(reply)
    assert len(ledger) > 0
    stack.preprocess.start()
    drain(stack.preprocess)
    ledger.check()


def test_pending_events_go_to_the_next_instance(stack):
    ledger = Ledger(stack.objects)
    stack.classify.stop()
    for n in range(20):
        ledger.upload(stack.preprocess, numbered_jpeg(n, encode(gradient())))
    stack.preprocess.stop()
    stack.start()
    drain(stack.preprocess)
    ledger.check()


# ---- the outbox's lock

def second(stack, services, grace_ms):
    """Another instance for the same outbox, on a port of its own."""
    env = {k: stack.preprocess.env[k] for k in ("EVENTS_URL", "OUTBOX_PATH", "STORAGE_URL")}
    services.append(Service("preprocess-service", stack.folder, SHUTDOWN_GRACE_MS=grace_ms, **env))
    return services[-1].launch()


def test_second_instance_gives_up(stack, services, measurement):
    began = time.monotonic()
    other = second(stack, services, 1500)
    process, other.process = other.process, None
    assert process.wait(60 * SLOW) == 2
    took = time.monotonic() - began
    assert 1.4 < took
    measurement.must(took < 1.5 + 2 * SLOW, f"it gave up after {took:.1f} s")
    said = other.log_lines()[-1]
    assert said["severity"] == "ERROR" and said["message"].startswith("OUTBOX_PATH /"), said
    assert "/outbox.db: another process has it" in said["message"], said
    ledger = Ledger(stack.objects)  # the first has not noticed
    ledger.upload(stack.preprocess, encode(gradient()))
    drain(stack.preprocess)
    ledger.check()


def test_second_instance_takes_over(stack, services):
    ledger = Ledger(stack.objects)
    stack.classify.stop()
    other = second(stack, services, 8000)
    for n in range(10):
        ledger.upload(stack.preprocess, numbered_jpeg(n, encode(gradient())))
    stack.preprocess.stop()
    wait_for(other.is_alive, "the second instance")
    for n in range(10, 20):
        ledger.upload(other, numbered_jpeg(n, encode(gradient())))
    stack.classify.start()
    drain(other)
    ledger.check()


def test_second_instance_after_kill(stack, services):
    """The lock goes with the process, not with a file."""
    ledger = Ledger(stack.objects)
    stack.classify.stop()
    for n in range(10):
        ledger.upload(stack.preprocess, numbered_jpeg(n, encode(gradient())))
    stack.preprocess.kill()
    other = second(stack, services, 600)
    wait_for(other.is_alive, "the second instance")
    stack.classify.start()
    drain(other)
    ledger.check()

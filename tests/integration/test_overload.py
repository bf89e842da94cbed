"""Too much, too slow, too many: limits hold, neighbours are unharmed, and every refusal reaches its
client, over HTTP/1.1 and over HTTP/2. All against 127.0.0.1, all bounded."""
import contextlib
import ctypes
import http.client
import json
import os
import re
import resource
import socket
import statistics
import struct
import subprocess
import threading
import time

import pytest
from PIL import Image

import h2_client as h2
from conftest import SLOW, Measurement, Reply, Service, wait_for
from images import encode, gradient
from raw_clients import CLIENTS, Http1, curl
from test_http import assert_problem, connect, receive, responses

pytestmark = pytest.mark.threads

JPEG = encode(gradient(64, 48))
MIB = 1 << 20
HEAD = b"POST /preprocess HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"


@pytest.fixture
def start(tmp_path, services):
    def start_with(**env):
        services.append(Service("preprocess-service", tmp_path, EVENTS_URL="none:", **env))
        return services[-1].start()
    return start_with


def health_ms(service, n=15):
    """The median time of a health check on a connection of its own."""
    times = []
    for _ in range(n):
        started = time.monotonic()
        assert service.get("/healthz").status == 200
        times.append((time.monotonic() - started) * 1000)
    return statistics.median(times)


def assert_health_is_quick(service):
    """50 ms, sooner or later: other processes share this machine. The median of some is returned."""
    measured, since, ms = Measurement(), time.monotonic(), health_ms(service)
    while ms >= 50 * SLOW and time.monotonic() - since < 10 * SLOW:
        ms = health_ms(service)
    measured.must(ms < 50 * SLOW, f"health took {ms:.1f} ms")
    return ms


def descriptors(service):
    """But the catalogue's: it keeps a session for each of those that once read at a time, itself among them."""
    folder, found = f"/proc/{service.process.pid}/fd", 0
    for fd in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            found += "/catalogue.db" not in os.readlink(f"{folder}/{fd}")
    return found


def base_values(service):
    """What every request takes and must give back, with no connection but the one that asks."""
    service.sandboxes()  # each worker keeps a socket to its own
    wait_for(lambda: service.metric("connections") == 1, "earlier connections to be gone")
    return values(service)


def values(service):
    return (service.metric("connections"), service.metric("body_bytes_in_flight"), descriptors(service))


def assert_back_to(service, base, timeout=60.0):
    wait_for(lambda: all(now <= then for now, then in zip(values(service), base)),
             f"{base}, now {values(service)}", timeout)


@pytest.fixture(params=CLIENTS.values(), ids=CLIENTS)
def protocol(request):
    """Http1 or Http2 of raw_clients.py: the test runs with both."""
    return request.param


class Holder:
    """A request in flight for as long as the test wants: its body arrives at 64 KiB/s, quick enough."""

    def __init__(self, protocol, service, length=100 * MIB // 4):
        self.client = protocol(service)
        self.left = length
        self.client.post(length, expect=True)
        self.client.wait_accepted()
        self.send(len(JPEG))
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def send(self, n):
        if n := min(n, self.left):
            self.client.send(JPEG[:n] if n == len(JPEG) else bytes(n))
            self.left -= n

    def run(self):
        since, sent = time.monotonic(), 0
        with contextlib.suppress(OSError):
            while self.left and not self.done.wait(0.1):
                due = int((time.monotonic() - since) * 65536)  # with what was missed while others had the processor
                self.send(due - sent)
                sent = due

    def finish(self, **options):
        """Send what is left; (status, body)."""
        self.done.set()
        self.thread.join()
        with contextlib.suppress(OSError):
            self.send(self.left)
        return self.client.reply(**options)

    def close(self):
        self.done.set()
        self.thread.join()
        self.client.close()


@pytest.fixture
def hold(protocol):
    with contextlib.ExitStack() as stack:
        def hold_one(*args, **kwargs):
            return stack.enter_context(contextlib.closing(Holder(protocol, *args, **kwargs)))
        yield hold_one


# ---- refusals reach their client ----

def post(protocol, service, path, body):
    """A whole upload by a client that somebody uses; a body that is iterated has no length beforehand."""
    if protocol.name == "http1":
        return service.request("POST", path, body, {"Content-Type": "image/jpeg"})
    length, measured, began = isinstance(body, bytes), Measurement(), time.monotonic()
    try:
        status, headers, got = curl(service, path, "-H", "Content-Type: image/jpeg", body=body if length else b"".join(body), length=length)
    except subprocess.CalledProcessError as failed:
        # a refusal waits so long for the end of the body; curl shows none that comes earlier
        if time.monotonic() - began < 2:
            raise
        measured.must(False, f"curl took longer than 2 s to send its body: {failed.stderr}")
    return Reply(status, {"-".join(part.capitalize() for part in k.split("-")): v for k, v in headers.items()}, got)


def refused(protocol, service, body, status, slug, times=30):
    for _ in range(times):
        reply = post(protocol, service, "/preprocess", body() if callable(body) else body)
        assert_problem(reply, status, slug)
        assert protocol.name == "http2" or reply.headers["Connection"] == "close"
        assert status != 503 or reply.headers["Retry-After"].isdigit()


def test_early_413_reaches_its_client(start, protocol):
    service = start(MAX_BODY_BYTES=MIB)
    base = base_values(service)
    measured, started = Measurement(), time.monotonic()
    refused(protocol, service, bytes(5 * MIB), 413, "too-large")
    measured.must(time.monotonic() - started < 30 * SLOW, "accepting does not wait for the lingering")
    assert_back_to(service, base)


def test_chunked_body_over_the_limit_gets_its_413(start, protocol):
    service = start(MAX_BODY_BYTES=MIB)
    base = base_values(service)
    refused(protocol, service, lambda: iter([bytes(65536)] * 80), 413, "too-large")
    assert_back_to(service, base)


@pytest.mark.parametrize("path, status, slug", [("/nothing", 404, "not-found"), ("/healthz", 405, "method-not-allowed")])
def test_early_404_and_405_reach_their_client(preprocess, protocol, path, status, slug):
    for _ in range(10):
        assert_problem(post(protocol, preprocess, path, bytes(5 * MIB)), status, slug)


def test_early_503_when_too_many_are_in_flight(start, protocol, hold):
    service = start(MAX_INFLIGHT=1)
    holder = hold(service, length=8 * MIB)
    wait_for(lambda: service.metric("body_bytes_in_flight") > 0, "the held request")
    refused(protocol, service, bytes(5 * MIB), 503, "overloaded")
    refused(protocol, service, b"", 503, "overloaded")
    assert_health_is_quick(service)
    assert service.get("/readyz").status == 200
    assert holder.finish()[0] in (200, 422), "the one that was accepted is finished"
    # its place is free when its reply has been sent; the client may have read that a moment before
    wait_for(lambda: service.upload(JPEG).status == 200, "its place")


def test_early_503_when_the_queue_is_full(start, protocol):
    service = start(WORKERS=1, QUEUE_MAX=1)
    slow = encode(gradient(2400, 1600))
    stop = threading.Event()
    seen = []

    def work(n):
        for i in range(1000):
            if stop.is_set():
                return
            seen.append(service.upload(slow, f"?format=avif&quality={n * 20 + i % 20 + 1}").status)
            if seen[-1] == 503:
                stop.wait(0.02)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    try:
        def one():
            wait_for(lambda: service.metric("worker_queue_depth") >= 1, "a full queue", 30)
            return post(protocol, service, "/preprocess", bytes(5 * MIB))
        refused = 0
        for _ in range(60):
            reply = one()  # an error here is a lost reply
            assert reply.status in (503, 415), reply
            refused += reply.status == 503
            if refused == 30:
                break
        assert refused == 30
        assert_health_is_quick(service)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(seen) <= {200, 503} and 200 in seen
    assert service.metric("worker_queue_depth") == 0 and service.metric("worker_busy") == 0


def test_an_open_loop_over_http2(start, tmp_path):
    """The twin of test_ten_times_more_than_there_is_capacity_for: requests come whether there are replies or not. Each
    is told, some are done, health is quick, and it is over at once."""
    service = start(WORKERS=1, QUEUE_MAX=2)
    assert service.upload(JPEG).status == 200  # the worker's process is there
    base = base_values(service)
    picture, uris = tmp_path / "picture.jpg", tmp_path / "uris"
    picture.write_bytes(encode(gradient(1200, 900)))
    uris.write_text("".join(f"{service.url}/transform?quality={n}\n" for n in range(1, 101)))
    with subprocess.Popen(["h2load", "-n", "4000", "-c", "8", "-m", "90", "--rps", "200", "-d", picture,
                           "-H", "content-type: image/jpeg", "-i", uris], stdout=subprocess.PIPE, text=True) as load:
        wait_for(lambda: service.metric('http_requests_total{route="/transform",code="503"}') > 0, "a refusal", 30)
        assert_health_is_quick(service)
        told = load.communicate(timeout=120 * SLOW)[0]
    assert "4000 done," in told and ", 0 errored, 0 timeout" in told, told
    done, refused = map(int, re.search(r"status codes: (\d+) 2xx, 0 3xx, 0 4xx, (\d+) 5xx", told).groups())
    assert done + refused == 4000 and refused > done > 0, told
    assert service.upload(JPEG).status == 200
    assert_back_to(service, base)


def test_lingering_does_not_hold_up_others(start, protocol):
    """Clients that were refused but go on holding their connections cost their own threads only, or none."""
    service = start(MAX_BODY_BYTES=MIB)
    base = base_values(service)
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(40):
            client = stack.enter_context(protocol(service))
            client.post(5 * MIB, first=bytes(1000))
            clients.append(client)
            assert service.get("/healthz").status == 200
        assert_health_is_quick(service)
        for client in clients:
            assert client.reply()[0] == 413
        if protocol.name == "http1":
            assert_back_to(service, base, timeout=15)  # the server gave up on all of them
    assert_back_to(service, base)


# ---- the budget of bodies ----

def test_budget_takes_the_slowest_body(start, hold):
    """A slow body of 8 MiB has to go when quick ones need the room; those succeed."""
    service = start(BODY_BUDGET_BYTES=12 * MIB, MAX_BODY_BYTES=10 * MIB)
    base = base_values(service)
    slow = hold(service, length=10 * MIB)
    slow.send(4 * MIB)
    wait_for(lambda: service.metric("body_bytes_in_flight") >= 4 * MIB, "4 MiB of the slow body")
    time_to_look_slow = time.monotonic() + 1.0
    wait_for(lambda: time.monotonic() > time_to_look_slow, "its rate to sink", 3)
    reply = service.upload(JPEG + bytes(9 * MIB), "?quality=77")
    assert reply.status in (200, 422), reply
    status, body = slow.finish()
    assert status == 503 and json.loads(body)["type"].endswith(":overloaded")
    slow.close()
    assert_back_to(service, base)


def test_many_bodies_over_the_budget(start, protocol):
    """20 x 1.5 MB at once with room for 8 MiB: each is answered, some with 503, and nothing is kept."""
    service = start(BODY_BUDGET_BYTES=8 * MIB)
    base = base_values(service)
    gate = threading.Barrier(20)
    replies = []

    def upload(_):
        with protocol(service) as client:
            client.post(1_500_000, first=JPEG + bytes(800_000))
            gate.wait()
            with contextlib.suppress(OSError):
                client.send(bytes(700_000 - len(JPEG)))
            replies.append(client.reply()[0])

    threads = [threading.Thread(target=upload, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    good = sum(status in (200, 422) for status in replies)
    assert len(replies) == 20 and set(replies) <= {200, 422, 503}
    assert 503 in replies and good >= 2, replies
    assert_back_to(service, base)


# ---- slow clients ----

def in_threads(*tasks):
    """Run them at the same time; the first failure is the test's."""
    failures = []

    def guarded(task):
        try:
            task()
        except BaseException as failure:  # assertion errors too: this is another thread
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_slow_clients_are_cut_off(start, protocol):
    """A body may pause for BODY_STALL_MS and has to average BODY_MIN_RATE after 5 s."""
    service = start(BODY_STALL_MS=1000)
    base = base_values(service)
    measured = Measurement()

    def cut_off(client, started, least, most):
        """Answered, and the connection closed where others could not go on with it."""
        patience = 0 if protocol.name == "http1" else 2  # HTTP/2's answer waits so long for the rest
        assert client.reply(closed=True)[0] == 408
        took = time.monotonic() - started
        assert least < took
        measured.must(took < (most + patience) * SLOW, f"cut off after {took:.1f} s")

    def body_stops():
        with protocol(service) as client:
            client.post(MIB, first=bytes(200_000))
            cut_off(client, time.monotonic(), 0.9, 3)

    def body_never_starts():
        with protocol(service) as client:
            client.post(10)
            cut_off(client, time.monotonic(), 0.9, 3)

    def body_drips(length):
        with protocol(service) as client:
            started = time.monotonic()
            client.post(length)
            client.drip(bytes(1000), 0.1)
            cut_off(client, started, 4.5, 8)

    def quick_enough():
        """4 KiB/s for 6 s is not slow."""
        body = JPEG + bytes(24576 - len(JPEG))
        with protocol(service) as client:
            client.post(len(body))
            begun = time.monotonic()
            for i in range(0, len(body), 820):
                client.send(body[i:i + 820])
                client.has_answer(begun + (i / 820 + 1) * 0.2 - time.monotonic())
            status = client.reply()[0]
            assert status in (200, 422, 408)
            measured.must(status != 408, "4 KiB/s were too slow")  # if that was the pace

    def health():
        for _ in range(4):
            assert_health_is_quick(service)

    in_threads(body_stops, body_never_starts, lambda: body_drips(100_000), lambda: body_drips(None), quick_enough, health)
    assert_back_to(service, base)


@pytest.mark.long
def test_slow_headers_are_cut_off(start):
    """They have 10 s. test_h2.py has the twin: prefaces, settings and header blocks."""
    service = start()
    base = base_values(service)
    measured = Measurement()

    def cut_off(client, started):
        (status, headers, _), = responses(receive(client.sock))
        assert (status, headers["connection"]) == (408, "close")
        took = time.monotonic() - started
        assert 9 < took
        measured.must(took < 16 * SLOW, f"cut off after {took:.1f} s")

    def headers_drip():
        with Http1(service) as client:
            started = time.monotonic()
            client.sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            client.drip(b"a" * 1000, 0.3)
            cut_off(client, started)

    def headers_after_a_request():
        with Http1(service) as client:
            client.get("/healthz")
            assert client.reply()[0] == 200
            started = time.monotonic()
            client.sock.sendall(b"GET /heal")
            cut_off(client, started)

    in_threads(headers_drip, headers_after_a_request)
    assert_back_to(service, base)


def test_the_time_of_a_request_begins_when_its_body_is_there(start, protocol):
    """REQUEST_TIMEOUT_MS does not end an upload that is slow and moves."""
    timeout_ms = int(1500 * SLOW)
    service = start(REQUEST_TIMEOUT_MS=timeout_ms, BODY_MIN_RATE=1)
    with protocol(service) as client:
        client.post(len(JPEG))
        begun = time.monotonic()
        for i in range(len(JPEG)):
            client.send(JPEG[i:i + 1])
            left = begun + 1.5 * timeout_ms / 1000 * (i + 1) / len(JPEG) - time.monotonic()
            if left > 0:
                time.sleep(left)  # the body's own pace
        assert time.monotonic() - begun > timeout_ms / 1000
        measured, status = Measurement(), client.reply()[0]
        assert status in (200, 503)
        measured.must(status == 200, "the work took all of its time")


def test_slow_readers_hold_up_nobody(start, protocol):
    """A client that does not read its reply costs its own thread only (or none), and leaves nothing behind."""
    service = start()
    noise = encode(Image.frombytes("RGB", (1500, 1500), os.urandom(1500 * 1500 * 3)), "PNG", compress_level=0)
    image = "/images/" + service.upload(noise, "?width=1500&format=png", "image/png").json()["id"]
    size = len(service.get(image).body)
    assert size > 6 * MIB, "more than the sockets' buffers hold"
    base = base_values(service)
    stalled = []
    for _ in range(8):
        client = protocol(service, receive_buffer=4096)
        client.get(image)
        stalled.append(client)
    wait_for(lambda: service.metric("body_bytes_in_flight") >= 8 * size, "eight replies under way")
    assert_health_is_quick(service)
    assert service.upload(JPEG).status == 200
    first = stalled.pop()
    first.read_on()
    assert len(first.reply()[1]) == size
    first.close()
    for client in stalled:
        client.close()
    assert_back_to(service, base)


# ---- clients that go away ----

BEGINNINGS = {  # of uploads and of what is none: how they go on, nobody will know
    "http1": (lambda whole: [
        b"", b"P", whole[:30], whole[:len(HEAD)], whole[:-300_000], whole[:-299_000], whole[:-1], whole, whole + b"GET /he",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", HEAD + b"Content-Length: 9999999\r\n\r\nab",
        HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n"])(
            HEAD + b"Content-Length: %d\r\n\r\n" % (len(JPEG) + 300_000) + JPEG + bytes(300_000)),
    "http2": (lambda head, data: [
        b"P", b"PRI", h2.PREFACE[:20], h2.PREFACE, head[:-9], head, head + data[:5], head + data[:12_000], head + data[:-1], head + data,
        head + data * 9, head + data * 9 + h2.frame(h2.DATA, h2.END_STREAM, 1), head + h2.frame(h2.DATA, h2.END_STREAM, 1, JPEG),
        head + h2.frame(h2.DATA, h2.END_STREAM, 1, JPEG) + head[len(h2.PREFACE):][:20]])(
            h2.PREFACE + h2.settings() + h2.frame(h2.HEADERS, h2.END_HEADERS, 1, h2.request("POST", "/preprocess", ("content-type", "image/jpeg"))),
            h2.frame(h2.DATA, 0, 1, JPEG + bytes(16384 - len(JPEG)))),
}


@pytest.mark.parametrize("beginnings", BEGINNINGS.values(), ids=BEGINNINGS)
def test_disconnects_leave_nothing_behind(start, beginnings):
    service = start(MAX_BODY_BYTES=2 * MIB)
    assert service.upload(JPEG).status == 200
    base = base_values(service)
    for _ in range(3):
        for beginning in beginnings:
            for abort in (False, True):
                client = Http1(service)
                client.sock.sendall(beginning)
                (client.abort if abort else client.close)()
    assert_back_to(service, base)
    assert service.upload(JPEG).status == 200
    service.settles("worker_busy", 0)


def test_half_closed_clients_get_their_reply(preprocess):
    """HTTP/1.1 only: a client of HTTP/2 ends its stream and not its connection."""
    with connect(preprocess) as sock:
        sock.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(JPEG) + JPEG)
        sock.shutdown(socket.SHUT_WR)
        assert responses(receive(sock))[0][0] == 200


# ---- many connections ----

@contextlib.contextmanager
def idle_connections(protocol, service, n, speak):
    """n keep-alive connections, each with a request behind it if `speak`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(n):
            client = stack.enter_context(protocol(service))
            if speak:
                client.get("/healthz")
                assert client.reply()[0] == 200
            clients.append(client)
        yield clients


@pytest.mark.parametrize("speak", [False, True], ids=["silent", "keep-alive"])
@pytest.mark.parametrize("n", [1000, 1500])
def test_idle_connections(start, protocol, record_property, n, speak):
    """At the default limit of 1,000: health is quick, new work is done, the longest idle make room."""
    service = start()
    before = service.memory_kb("Pss_Anon")
    with idle_connections(protocol, service, n, speak) as clients:
        if n == 1000:
            assert service.metric("connections") >= 1000
        latency = assert_health_is_quick(service)
        kb = service.memory_kb("Pss_Anon") - before
        for _ in range(10):
            assert service.upload(JPEG).status == 200
        wait_for(lambda: service.metric("connections") <= 1001, "room to be made")
        print(f"\n{n} idle connections: health {latency:.1f} ms, {kb} KiB more")
        record_property("health_ms", latency)
        record_property("pss_kb", kb)
        clients[-1].get("/healthz")
        assert clients[-1].reply()[0] == 200
        if n == 1500:
            clients[0].wait_closed()  # the longest idle
    wait_for(lambda: service.metric("connections") <= 2, "all to be gone")


def test_when_all_connections_are_busy(start, protocol, hold):
    """Nobody is idle: work gets 503 and close, health and readiness are answered."""
    service = start(MAX_CONNECTIONS=4)

    def held():
        with contextlib.suppress(AssertionError):  # one that is about to end has a place, too
            return hold(service, length=4 * MIB)
    holders = [wait_for(held, "a place") for _ in range(4)]
    wait_for(lambda: service.metric("body_bytes_in_flight") > 3 * 65536, "four bodies under way")
    refused(protocol, service, bytes(5 * MIB), 503, "overloaded")
    assert service.get("/readyz").status == 200
    assert_health_is_quick(service)
    with contextlib.ExitStack() as stack:  # far more than the spare places: refused, and still there for health
        for _ in range(150):
            client = stack.enter_context(contextlib.closing(Http1(service)))
            with contextlib.suppress(OSError):  # may have had to make room already
                client.sock.sendall(BEGINNINGS[protocol.name][5])
        assert_health_is_quick(service)
    for holder in holders:
        assert holder.finish()[0] in (200, 422)
    assert service.upload(JPEG).status == 200


# ---- SIGTERM ----

class Termination:
    """SIGTERM, and when the process has ended."""

    def __init__(self, service):
        self.service, self.process = service, service.process
        self.measured, self.since = Measurement(), time.monotonic()
        self.process.terminate()
        self.watcher = threading.Thread(target=self.watch)
        self.watcher.start()

    def watch(self):
        self.code = self.process.wait()
        self.took = time.monotonic() - self.since

    def exits_within(self, seconds):
        """Exit status 0 in time. A sanitizer may add its own check for leaks at the end."""
        self.watcher.join(30 * SLOW)
        assert not self.watcher.is_alive(), self.service.log()
        self.service.process = None
        assert self.code == 0, self.service.log()
        self.measured.must(self.took < seconds + (0 if SLOW == 1 else 2 * SLOW), f"ended after {self.took:.2f} s")
        return self.took


def test_sigterm_idle(start, protocol):
    service = start()
    with connect(service), protocol(service), protocol(service) as spoke:
        spoke.get("/healthz")
        assert spoke.reply()[0] == 200
        assert Termination(service).exits_within(2) < 2 * SLOW


def test_sigterm_drains(start, protocol, hold):
    """A request in flight keeps the listener open: readiness and new work are 503, health is 200, the
    request is finished."""
    service = start(SHUTDOWN_GRACE_MS=int(30000 * SLOW))
    holder = hold(service, length=2 * MIB)
    wait_for(lambda: service.metric("body_bytes_in_flight") > 0, "the body")
    with connect(service) as idle:
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        idle.recv(65536)
        end = Termination(service)
        wait_for(lambda: service.get("/readyz").status == 503, "not ready")
        refused(protocol, service, bytes(5 * MIB), 503, "shutting-down", times=5)  # the drain goes on meanwhile
        health = service.get("/healthz")
        assert (health.status, health.headers["Connection"]) == (200, "close")
        idle.sendall(b"POST /preprocess HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        (status, headers, _), = responses(receive(idle))
        assert (status, headers["connection"]) == (503, "close")
    status, body = holder.finish(closed=True)
    assert status in (200, 422), body
    end.exits_within(8)


@pytest.mark.idle
@pytest.mark.measures_time
def test_sigterm_cuts_a_body_that_does_not_end(start, hold):
    """With idle, stalled, slow and slowly reading clients it still ends in time, and bodies that are on
    their way at the deadline are told."""
    service = start(SHUTDOWN_GRACE_MS=3000)
    bodies = [hold(service, length=20 * MIB) for _ in range(3)]
    with connect(service), connect(service) as half:
        half.sendall(b"GET /hea")
        wait_for(lambda: service.metric("body_bytes_in_flight") > 0, "the bodies")
        end = Termination(service)
        for holder in bodies:
            status, body = holder.client.reply(closed=True)
            assert status == 503 and json.loads(body)["type"].endswith(":shutting-down")
        assert end.exits_within(3) > 2.0


SO_ATTACH_FILTER = 26


def may_filter():
    """Whether a socket may have a filter of its own; some kernels want CAP_NET_ADMIN for that."""
    everything = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0xFFFFFFFF))
    with socket.socket() as sock, contextlib.suppress(PermissionError):
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", 1, ctypes.addressof(everything)))
        return True
    return False


def test_sigterm_under_load_loses_nothing(start):
    """Every connection that was accepted or waited in the backlog gets an answer; every 200 is true."""
    service = start()
    port = service.port
    stop = threading.Event()
    outcomes = []

    def client(n):
        k = 0
        while not stop.is_set():
            k += 1
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30 * SLOW)
            try:
                connection.connect()
            except ConnectionRefusedError:
                return  # the listener is gone: a load balancer goes elsewhere
            except OSError as failure:
                outcomes.append(failure)
                return
            with contextlib.closing(connection):
                try:
                    connection.request("POST", f"/preprocess?quality={n * 10 + k % 10 + 1}", JPEG, {"Content-Type": "image/jpeg"})
                    response = connection.getresponse()
                    outcomes.append((response.status, json.loads(response.read())))
                except OSError as failure:
                    outcomes.append(failure)
                    return

    threads = [threading.Thread(target=client, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(outcomes) > 50, "load", 30)
    Termination(service).exits_within(8)
    stop.set()
    for thread in threads:
        thread.join()
    failures = [o for o in outcomes if not isinstance(o, tuple)]
    # a connect that completes between the last accept and the close of the listener cannot be answered: a rarity,
    # or one of each client where the service may not keep newcomers away
    assert len(failures) <= (1 if may_filter() else len(threads)), failures
    answers = [o for o in outcomes if isinstance(o, tuple)]
    assert {status for status, _ in answers} <= {200, 503}
    for status, reply in answers:
        if status == 200:
            assert (service.folder / "objects" / f"{reply['id']}.jpg").is_file()


@pytest.mark.measures_time
@pytest.mark.parametrize("protocol", [Http1], ids=["http1"])  # nobody's first bytes are read
def test_sigterm_answers_the_backlog(start, hold):
    """More clients than threads can be accepted in time: whoever connected before the end is told."""
    service = start(SHUTDOWN_GRACE_MS=1500)
    hold(service, length=20 * MIB)
    wait_for(lambda: service.metric("body_bytes_in_flight") > 0, "the body")
    end = Termination(service)
    wait_for(lambda: service.get("/readyz").status == 503, "not ready")
    statuses = []
    while True:
        try:
            sock = connect(service)
        except ConnectionRefusedError:
            break
        with sock:
            sock.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(JPEG) + JPEG)
            statuses.append(responses(receive(sock))[0][0])
    assert set(statuses) == {503} and len(statuses) > 10
    end.exits_within(1.5)

"""HTTP/2 on the same port (h2c with prior knowledge): REST as over HTTP/1.1, and clients that abuse it."""
import contextlib
import itertools
import json
import os
import re
import struct
import subprocess
import threading
import time

import pytest
from PIL import Image

import h2_client as h2
from conftest import SLOW, wait_for
from images import encode, gradient
from raw_clients import curl
from servers import Unavailable, built_binary
from tools import foreign_python

pytestmark = [pytest.mark.memory, pytest.mark.threads]

JPEG = encode(gradient(64, 48))
MIB = 1 << 20
IMAGE = ("content-type", "image/jpeg")


# ---- REST, by curl ----

@pytest.fixture(name="picture")
def fixture_picture(tmp_path):
    path = tmp_path / "picture.jpg"
    path.write_bytes(JPEG)
    return path


CALLS = {
    "get": ["/healthz"], "head": ["/healthz", "-I"], "unknown": ["/nope?a=b"], "method": ["/preprocess"],
    "options": ["/preprocess", "-X", "OPTIONS"], "parameter": ["/preprocess?width=7&width=8", "-F", "file=@PICTURE"],
    "decoded": ["/%68ealthz?x=%41+%zz"], "nul": ["/healthz%00"], "blank": ["/healthz%20"],
    "encoded": ["/preprocess?format=%77ebp&width=2%30", "-F", "file=@PICTURE"],
    "raw": ["/preprocess?format=png", "--data-binary", "@PICTURE", "-H", "Content-Type: image/jpeg"],
    "not an image": ["/preprocess", "--data-binary", "x" * 1000, "-H", "Content-Type: image/jpeg"],
    "fields": ["/healthz", *(f"-HX-{n}: 1" for n in range(70))],
    "content type": ["/preprocess", "-H", "Content-Type: image/jpeg", "-H", "Content-Type: image/png", "-d", "x"],
}


@pytest.mark.parametrize("options", CALLS.values(), ids=CALLS)
def test_the_same_as_over_http_1_1(shared, picture, options):
    path, *options = (option.replace("PICTURE", str(picture)) for option in options)
    options[:0] = ["-H", "X-Request-Id: same"]
    status, headers, body = curl(shared.preprocess, path, *options)
    status1, headers1, body1 = curl(shared.preprocess, path, *options, http1=True)
    assert status == status1
    vary = {"date", "connection", "server-timing", "content-length"}
    assert {k: v for k, v in headers.items() if k not in vary} == {k: v for k, v in headers1.items() if k not in vary}
    assert ("server-timing" in headers) == ("server-timing" in headers1)
    varying = rb'"message_id":"[^"]*"|no blank|at most \d+ fields.*'
    assert re.sub(varying, b"", body) == re.sub(varying, b"", body1)


def test_an_upload_is_stored_and_read_back(shared, picture):
    status, _, body = curl(shared.preprocess, "/preprocess", "-F", f"file=@{picture}")
    assert status == 200
    stored = json.loads(body)
    status, headers, body = curl(shared.preprocess, "/images/" + stored["id"])
    assert status == 200 and len(body) == stored["bytes"] == int(headers["content-length"])
    status, headers, body = curl(shared.preprocess, "/images/" + stored["id"], "-r", "5-9")
    assert status == 206 and headers["content-range"].startswith("bytes 5-9/") and len(body) == 5
    status, _, body = curl(shared.preprocess, "/images/" + stored["id"], "-H", f'If-None-Match: {headers["etag"]}')
    assert status == 304 and body == b""
    assert shared.result(stored)["id"] == stored["id"]


def test_expect_100_continue(shared, picture):
    status, _, _ = curl(shared.preprocess, "/preprocess", "-F", f"file=@{picture}", "-H", "Expect: 100-continue",
                        "--expect100-timeout", "30")
    assert status == 200


def test_early_refusals_reach_curl(start, picture, tmp_path):
    """413 at the headers and in the body, 404: curl shows the answer though it is still sending."""
    service = start(MAX_BODY_BYTES=MIB)
    big = tmp_path / "big"
    big.write_bytes(bytes(20 * MIB))
    for options, expected in ([["/preprocess", "-F", f"file=@{big}"], 413],
                              [["/preprocess", "-T", "-", "-X", "POST", "-H", "Content-Type: image/jpeg"], 413],
                              [["/nope", "-F", f"file=@{picture}"], 404],
                              [["/healthz", "-H", "X-Long: " + "x" * 20000], 431]):
        with open(big, "rb") as stdin:
            done = subprocess.run(["curl", "-sS", "-o", tmp_path / "reply", "-w", "%{http_code}",
                                   "--http2-prior-knowledge", service.url + options[0], *options[1:]],
                                  stdin=stdin, capture_output=True, text=True, timeout=60 * SLOW, check=False)
        assert done.stdout == str(expected), done
        problem = json.loads((tmp_path / "reply").read_text())
        assert problem["status"] == expected
    assert "at most 64 fields, and 16384 bytes" in problem["detail"]  # of the last
    service.settles("body_bytes_in_flight", 0)


NEWER_CURL = '''
import io
import sys

import pycurl

assert pycurl.version_info()[1] >= "8.14", pycurl.version
url, picture = sys.argv[1], open(sys.argv[2], "rb").read()


def post(path, body, known, *fields):
    """The status, of a reply that came whole."""
    got, c = io.BytesIO(), pycurl.Curl()
    for option, value in ((c.URL, url + path), (c.HTTP_VERSION, c.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE), (c.POST, 1), (c.TIMEOUT, 60),
                          (c.READFUNCTION, io.BytesIO(body).read), (c.POSTFIELDSIZE_LARGE, len(body) if known else -1),
                          (c.HTTPHEADER, ["Content-Type: image/jpeg", *fields]), (c.WRITEFUNCTION, got.write)):
        c.setopt(option, value)
    c.perform()
    assert c.getinfo(c.INFO_HTTP_VERSION) == c.CURL_HTTP_VERSION_2_0 and got.getvalue()
    return c.getinfo(c.RESPONSE_CODE)


large = bytes(20 << 20)
print([post("/transform", picture, True), post("/transform", picture, False), post("/transform", large, True), post("/transform", large, False),
       post("/nope", large, False), post("/transform", picture, True, "X-Long: " + "x" * 20000)])
'''


def test_a_newer_curl(start, picture):
    """libcurl of at least 8.14, which sees a reset where 7.88 waits: uploads, and refusals before they end."""
    python = foreign_python("pycurl==7.49.0")  # its wheel has libcurl 8.23
    service = start(MAX_BODY_BYTES=MIB)
    done = subprocess.run([python, "-c", NEWER_CURL, service.url, picture], capture_output=True, text=True, timeout=120 * SLOW, check=False)
    assert done.stdout == "[200, 200, 413, 413, 404, 431]\n", done
    service.settles("body_bytes_in_flight", 0)


def test_h2load_loses_nothing(shared, picture):
    """Many requests on a few connections: each is answered with 200."""
    for options in (["-n", "2000", "-c", "4", "-m", "32", shared.preprocess.url + "/healthz"],
                    ["-n", "60", "-c", "3", "-m", "8", "-d", picture, "-H", "content-type: image/jpeg",
                     shared.preprocess.url + "/transform?width=20"]):
        done = subprocess.run(["h2load", *options], capture_output=True, text=True, timeout=120 * SLOW, check=True)
        n = options[1]
        assert f"requests: {n} total, {n} started, {n} done, {n} succeeded, 0 failed, 0 errored" in done.stdout, done


KNOWN = {
    # a bad preface on a port that is HTTP/1.1's, too: it gets a 400
    "2: Sends invalid connection preface",
    # nghttp2's own
    "2: Sends stream identifier that is numerically smaller than previous",
}


def test_h2spec(shared):
    try:
        h2spec = built_binary("h2spec")
    except Unavailable as why:
        pytest.skip(str(why))
    done = subprocess.run([h2spec, "-h", shared.preprocess.host, "-p", str(shared.preprocess.port),
                           "-P", "/healthz", "-o", str(int(2 * SLOW))],
                          capture_output=True, text=True, timeout=300 * SLOW, check=False)
    text = re.sub(r"\x1b\[[\d;]*m", "", done.stdout)
    assert "145 tests" in text, done
    assert set(re.findall(r"× (.*)", text.split("Failures:")[-1])) <= KNOWN, text


# ---- abuse: how each ends, and that others do not feel it ----

def assert_unharmed(service):
    """Health over both protocols, and nothing left behind."""
    assert service.get("/healthz").status == 200
    with h2.Client(service) as client:
        client.open(1, "GET", "/healthz")
        assert client.reply(1)[0] == 200
    wait_for(lambda: service.metric("connections") == 1, "the client's connections to be gone")
    service.settles("body_bytes_in_flight", 0)


def flood(client, data):
    """Send, and read what comes, until the service has had enough of it."""
    with contextlib.suppress(OSError):
        for _ in range(2000):
            client.send(data)
            client.read(0.001)
            if client.closed or client.of(h2.GOAWAY):
                break
    return client.goaway()


def test_rapid_reset(start):
    """A HEADERS and a RST_STREAM each: the work is dropped, and at last the connection."""
    service = start()
    with h2.Client(service) as client:
        def pairs(first):
            return b"".join(
                h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, n, h2.request("GET", "/healthz"))
                + h2.frame(h2.RST_STREAM, 0, n, struct.pack(">I", h2.CANCEL)) for n in range(first, first + 400, 2))
        with contextlib.suppress(OSError):
            for first in range(1, 100000, 400):
                client.send(pairs(first))
                client.read(0.0005)
                if client.closed or client.of(h2.GOAWAY):
                    break
        client.wait_closed()  # who never stops sending may see a reset instead of GOAWAY
    assert_unharmed(service)


def test_uploads_that_are_reset_are_given_back(start):
    """Bodies, and handlers in the queue: 100 a connection, however often it resets."""
    service = start(WORKERS=1)
    with h2.Client(service) as client:
        for n in range(1, 801, 2):
            client.open(n, "POST", "/transform?width=32", IMAGE, body=JPEG)
            client.send(h2.frame(h2.RST_STREAM, 0, n, struct.pack(">I", h2.CANCEL)))
        wait_for(lambda: service.metric("worker_queue_depth") == 0 == service.metric("worker_busy"), "an empty queue")
        for n in itertools.count(801, 2):  # refused for as long as handlers of reset streams end
            client.open(n, "GET", "/healthz")
            client.wait(lambda n=n: any(f[2] == n and f[0] in (h2.HEADERS, h2.RST_STREAM) for f in client.frames), n)
            if any(f[2] == n and f[0] == h2.HEADERS for f in client.frames):
                break
        assert client.reply(n)[0] == 200
    assert_unharmed(service)


@pytest.mark.measures_time
def test_a_client_that_is_gone_gives_its_worker_back(start, measurement):
    """A reset ends the work within a moment, as a deadline does."""
    slow = ("POST", "/transform?median=15&width=32", IMAGE)
    picture = encode(gradient(3000, 3000))
    service = start(WORKERS=1)
    with h2.Client(service) as client:
        began = time.monotonic()
        client.open(1, *slow, body=picture)
        assert client.reply(1)[0] == 200
        takes = time.monotonic() - began
        client.open(3, *slow, body=picture)
        wait_for(lambda: service.metric("worker_busy") == 1, "the worker")
        began = time.monotonic()
        client.send(h2.frame(h2.RST_STREAM, 0, 3, struct.pack(">I", h2.CANCEL)))
        wait_for(lambda: service.metric("worker_busy") == 0, "the worker to be free")
        ended = time.monotonic() - began
    assert_unharmed(service)
    measurement.must(ended < takes / 2, f"{ended:.2f} s of {takes:.2f}")


def test_made_you_reset(start):
    """Requests that we must reset for the client's error (CVE-2025-8671): 100, then the connection ends."""
    service = start()
    with h2.Client(service) as client:
        for n in range(1, 2001, 2):
            client.send_if_open(
                h2.frame(h2.HEADERS, h2.END_HEADERS, n, h2.request("POST", "/transform", IMAGE))
                + h2.frame(h2.WINDOW_UPDATE, 0, n, struct.pack(">I", 0x7FFFFFFF)))
        code, why = client.goaway()
        assert code == h2.ENHANCE_YOUR_CALM and why == b"too_many_errors"
        client.wait_closed()
    assert_unharmed(service)


@pytest.mark.parametrize("data", [
    h2.frame(h2.PING, 0, 0, b"12345678") * 10,
    h2.frame(h2.SETTINGS, 0, 0, struct.pack(">HI", 3, 100) * 40),
    h2.frame(h2.HEADERS, 0, 1, h2.request("GET", "/")) + h2.frame(h2.CONTINUATION, 0, 1) * 20,
], ids=["ping", "settings", "continuation"])
def test_floods_end_the_connection(start, data):
    service = start()
    with h2.Client(service) as client:
        client.wait(lambda: client.of(h2.SETTINGS), "SETTINGS")
        assert flood(client, data)[0] == h2.ENHANCE_YOUR_CALM
        client.wait_closed()
    assert_unharmed(service)


def test_pings_that_are_read_are_counted(start):
    """One at a time, and its answer is read: no more than 100 without a request."""
    service = start()
    with h2.Client(service) as client:
        for n in range(1, 101):
            client.send(h2.frame(h2.PING, 0, 0, b"12345678"))
            client.wait(lambda n=n: len(client.of(h2.PING)) == n, "the answer")
        client.send(h2.frame(h2.PING, 0, 0, b"12345678"))
        assert client.goaway() == (h2.ENHANCE_YOUR_CALM, b"too_many_pings")
        client.wait_closed()
    assert_unharmed(service)


def test_pings_between_requests_are_welcome(start):
    service = start()
    with h2.Client(service) as client:
        for n in range(1, 21, 2):
            for _ in range(50):
                client.send(h2.frame(h2.PING, 0, 0, b"12345678"))
            client.open(n, "GET", "/healthz")
            assert client.reply(n)[0] == 200
        client.wait(lambda: len(client.of(h2.PING)) == 500, "the answers")
        assert not client.of(h2.GOAWAY)


def test_a_header_bomb_is_answered(start):
    """4 KB that are remembered once and referred to 4,000 times: 16 MB, of which 16 KiB are kept."""
    service = start()
    service.sandboxes()
    with h2.Client(service) as client:
        before = service.memory_kb("Pss_Anon")
        remembered = b"\x40" + h2.text("x-bomb") + h2.text("b" * 3900)  # becomes the table's first, 62
        client.send(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 1, h2.request("GET", "/healthz") + remembered))
        assert client.reply(1)[0] == 200
        for n in range(3, 203, 2):
            client.send(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, n,
                                 h2.request("GET", "/healthz") + b"\xbe" * 4000))
            assert client.reply(n)[0] == 431
        assert service.memory_kb("Pss_Anon") - before < 4096 * SLOW
    assert_unharmed(service)


@pytest.mark.parametrize("begin", [True, False], ids=["settings known", "settings not yet known"])
def test_more_streams_than_allowed(start, begin):
    """100: what a client that does not know yet opens beyond is refused; one that knows has made an error."""
    service = start()
    with h2.Client(service, begin=begin) as client:
        if begin:
            client.wait(lambda: client.of(h2.SETTINGS), "SETTINGS")
        else:
            client.send(h2.PREFACE + h2.settings())
        for n in range(1, 301, 2):
            client.open(n, "POST", "/transform", IMAGE, more=True)
        if begin:
            assert client.goaway()[0] == h2.PROTOCOL_ERROR
        else:
            client.wait(lambda: len(client.of(h2.RST_STREAM)) == 50, "50 refusals")
            assert {f[3] for f in client.of(h2.RST_STREAM)} == {struct.pack(">I", h2.REFUSED_STREAM)}
    assert_unharmed(service)


def test_unread_replies_are_within_the_budget(start):
    """A window of 0 and replies of 1 MB: what the budget has no room for is answered with a short 503."""
    picture = encode(gradient(1200, 1000), "PNG")
    service = start(BODY_BUDGET_BYTES=8 * MIB)
    with h2.Client(service, INITIAL_WINDOW_SIZE=0) as client:
        for n in range(1, 41, 2):
            client.open(n, "POST", "/transform?format=png&width=1200", IMAGE[:1] + ("image/png",), body=picture)
            client.wait(lambda n=n: client.of(h2.HEADERS, n), "headers")
        statuses = [h2.status(client.of(h2.HEADERS, n)[0][3]) for n in range(1, 41, 2)]
        assert set(statuses) <= {200, 503} and 200 in statuses
        assert service.metric("body_bytes_in_flight") <= 8 * MIB
    assert_unharmed(service)


def test_a_reply_that_is_replaced_is_charged_no_more(start):
    """There is room for the picture, and none for the request's fields, which are kept as long."""
    noise = encode(Image.frombytes("RGB", (450, 450), os.urandom(450 * 450 * 3)), "PNG", compress_level=0)
    service = start(BODY_BUDGET_BYTES=MIB)
    image = "/images/" + service.upload(noise, "?fit=none&format=png", "image/png").json()["id"]
    half = MIB // 2
    with h2.Client(service, INITIAL_WINDOW_SIZE=0) as client:
        for n, length, cookie in ((1, half, ""), (3, half - 2000, "c" * 5000)):
            client.open(n, "GET", image, ("range", f"bytes=0-{length - 1}"), ("cookie", cookie))
            client.wait(lambda n=n: client.of(h2.HEADERS, n), "headers")
        assert [h2.status(client.of(h2.HEADERS, n)[0][3]) for n in (1, 3)] == [206, 503]
    assert_unharmed(service)


def test_a_body_that_stops_is_answered(start):
    service = start(BODY_STALL_MS=1000)
    with h2.Client(service) as client:
        client.open(1, "POST", "/transform", IMAGE, body=JPEG[:100], more=True)
        assert client.reply(1)[0] == 408
        assert client.reset_code(1) == h2.NO_ERROR
        client.open(3, "GET", "/healthz")  # others on the connection go on
        assert client.reply(3)[0] == 200
    assert_unharmed(service)


def test_empty_frames_keep_no_body_alive(start):
    """Frames are not bytes: DATA of no bytes, or of padding only."""
    service = start(BODY_STALL_MS=1000)
    padding = h2.frame(h2.DATA, 8, 1, b"\x0a" + bytes(10))
    with h2.Client(service) as client:
        client.open(1, "POST", "/transform", IMAGE, body=JPEG[:100], more=True)
        deadline = time.monotonic() + 30 * SLOW
        while not client.of(h2.HEADERS, 1):
            assert time.monotonic() < deadline
            client.send_if_open(h2.frame(h2.DATA, 0, 1) + padding)
            client.read(0.05)
        assert h2.status(client.of(h2.HEADERS, 1)[0][3]) == 408
    assert_unharmed(service)


def test_a_full_budget_ends_the_slowest_body(start):
    service = start(BODY_BUDGET_BYTES=2 * MIB, MAX_BODY_BYTES=2 * MIB)
    with h2.Client(service) as client:
        client.open(1, "POST", "/transform", IMAGE, body=bytes(MIB), more=True)
        wait_for(lambda: service.metric("body_bytes_in_flight") >= MIB, "the first body")
        time.sleep(0.1)  # lint: it is the slower one
        client.open(3, "POST", "/transform", IMAGE, body=bytes(MIB + MIB // 2), more=True)
        assert client.reply(1)[0] == 503
        client.data(3, b"", end=True)
        assert client.reply(3)[0] in (415, 422)
    assert_unharmed(service)


def rejected(service, *frames):
    """A client with a stream of its own, and one that was reset for its headers."""
    client = h2.Client(service)
    client.open(1, "POST", "/transform", IMAGE, body=JPEG[:50], more=True)
    for data in frames:
        client.send(data)
    assert client.reset_code(3) == h2.PROTOCOL_ERROR
    return client


@pytest.mark.long
def test_preface_settings_and_headers_have_a_clock(start):
    """10 s: to acknowledge our SETTINGS, and from the beginning of headers to their end. Headers that are rejected
    have ended."""
    service = start(BODY_STALL_MS=100000, BODY_MIN_RATE=1)
    others = [
        rejected(service, h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 3,
                                   h2.request("GET", "/healthz", ("connection", "close")))),
        rejected(service, h2.frame(h2.HEADERS, h2.END_HEADERS, 3, h2.request("POST", "/transform", IMAGE)),
                 h2.frame(h2.HEADERS, h2.END_HEADERS, 3, h2.block([("trailers", "that do not end")]))),
    ]
    beginnings = {b"PRI": h2.SETTINGS_TIMEOUT, h2.PREFACE: h2.SETTINGS_TIMEOUT}
    silent = [h2.Client(service, begin=False) for _ in beginnings]
    slow = h2.Client(service)
    started = time.monotonic()
    for client, data in zip(silent, beginnings):
        client.send(data)
    slow.wait(lambda: slow.of(h2.SETTINGS), "SETTINGS")
    slow.send(h2.frame(h2.HEADERS, 0, 1, h2.request("GET", "/healthz")[:20]))
    for client, code in [*zip(silent, beginnings.values()), (slow, h2.ENHANCE_YOUR_CALM)]:
        assert client.goaway()[0] == code
        client.wait_closed()
        client.socket.close()
        assert time.monotonic() - started > 9
    for client in others:
        client.data(1, JPEG[50:])
        assert client.reply(1)[0] == 200
        client.socket.close()
    assert_unharmed(service)


def test_max_connections_evicts_idle_ones(start):
    service = start(MAX_CONNECTIONS=4)
    wait_for(lambda: service.metric("connections") == 1, "earlier connections to be gone")
    with contextlib.ExitStack() as stack:
        def connect():
            client = stack.enter_context(h2.Client(service))
            client.open(1, "GET", "/healthz")
            assert client.reply(1)[0] == 200
            return client
        busy = connect()
        busy.open(3, "POST", "/transform", IMAGE, body=JPEG[:50], more=True)
        wait_for(lambda: service.metric("body_bytes_in_flight") > 0, "the body")
        wait_for(lambda: service.metric("connections") == 2, "earlier connections to be gone")
        idle = connect()
        for _ in range(4):
            connect()
        idle.wait_closed()
        busy.data(3, JPEG[50:])
        assert busy.reply(3)[0] == 200


def test_max_inflight_counts_streams(start):
    service = start(MAX_INFLIGHT=2)
    with h2.Client(service) as client:
        for n in (1, 3):
            client.open(n, "POST", "/transform", IMAGE, body=JPEG[:50], more=True)
        client.open(5, "POST", "/transform", IMAGE, body=JPEG)
        assert client.reply(5)[0] == 503
        client.open(7, "GET", "/healthz")
        assert client.reply(7)[0] == 200
        for n in (1, 3):
            client.data(n, JPEG[50:])
            assert client.reply(n)[0] == 200
    assert_unharmed(service)


# ---- what an idle one costs ----

def test_an_idle_connection_costs_40_kb(start, measurement):
    service = start()
    service.sandboxes()
    count = 400
    with contextlib.ExitStack() as stack:
        def connect():
            client = stack.enter_context(h2.Client(service))
            client.open(1, "GET", "/healthz")
            assert client.reply(1)[0] == 200
        for _ in range(20):
            connect()  # what the first ones cost once
        before = service.memory_kb("Pss_Anon")
        for _ in range(count):
            connect()
        each = (service.memory_kb("Pss_Anon") - before) / count
    if "san" not in os.environ.get("DARKROOM_BUILD", ""):
        assert each <= 40, f"{each:.1f} KB an idle connection"


# ---- the end ----

def test_sigterm_finishes_what_was_accepted(start):
    """GOAWAY, the running streams are answered, new ones are refused; exit status 0."""
    service = start()
    with h2.Client(service) as client:
        client.open(1, "POST", "/transform?width=32", IMAGE, body=JPEG[:50], more=True)
        client.open(3, "GET", "/healthz")
        assert client.reply(3)[0] == 200
        service.process.terminate()
        assert client.goaway()[0] == h2.NO_ERROR
        client.open(5, "POST", "/transform?width=32", IMAGE, body=JPEG)
        assert client.reply(5)[0] == 503
        client.open(7, "GET", "/healthz")
        assert client.reply(7)[0] == 200
        client.data(1, JPEG[50:])
        assert client.reply(1)[0] == 200
        client.wait_closed()
    assert service.process.wait(9 * SLOW) == 0
    service.process = None


def test_sigterm_while_work_comes_in(start):
    """Every stream gets an answer: 200 or 503, or the connection says that it was not looked at."""
    service = start()
    answers = []

    def work():
        with h2.Client(service) as client:
            with contextlib.suppress(OSError):
                for n in range(1, 4000, 2):
                    client.open(n, "POST", "/transform?width=32", IMAGE, body=JPEG)
                    while not client.closed and not client.of(h2.HEADERS, n):
                        client.read(0.1)
                    if client.closed:
                        return
                    answers.append(h2.status(client.of(h2.HEADERS, n)[0][3]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(answers) > 20, "some work")
    service.stop(timeout=9)
    for thread in threads:
        thread.join(60 * SLOW)
    assert set(answers) <= {200, 503}
    assert answers.count(200) > 20

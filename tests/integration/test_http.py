"""HTTP as both services speak it: routes, errors, framing, headers, bodies. Raw sockets where a client
library would be too polite."""
import ctypes
import json
import pathlib
import re
import shutil
import socket
import uuid

import pytest

from conftest import SLOW, Service, wait_for
from images import decode, encode, gradient

pytestmark = [pytest.mark.memory, pytest.mark.threads]

JPEG = encode(gradient(64, 48))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("http")


@pytest.fixture(scope="module")
def server(folder):
    """One preprocess-service for all the tests that leave it as it was."""
    service = Service("preprocess-service", folder, EVENTS_URL="none:", MAX_BODY_BYTES=1 << 20,
                      LOG_LEVEL="debug").start()
    yield service
    service.stop()


def connect(service):
    return socket.create_connection(("127.0.0.1", service.port), timeout=15 * SLOW)


def receive(sock):
    """Everything until the server closes."""
    data = b""
    while chunk := sock.recv(65536):
        data += chunk
    return data


def exchange(service, request, half_close=False):
    """Send raw bytes; the server must be the one that closes."""
    with connect(service) as sock:
        sock.sendall(request)
        if half_close:
            sock.shutdown(socket.SHUT_WR)
        return receive(sock)


def responses(data):
    """(status, headers with lower-case names, body) of every response in `data`."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
        length = int(headers.get("content-length", 0))
        assert len(data) >= length, (lines, data)
        found.append((status, headers, data[:length]))
        data = data[length:]
    return found


def statuses(data):
    """The set of status codes on the wire. For replies of libmicrohttpd's own: 0.9.75 sends their head
    twice."""
    return {int(code) for code in re.findall(rb"HTTP/1\.[01] (\d{3}) ", data)}


def assert_problem(reply, status, slug):
    problem = reply.json()
    assert reply.status == status, reply
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert set(problem) == {"type", "title", "status", "detail", "request_id"}
    assert problem["type"] == "urn:darkroom:problem:" + slug
    assert problem["status"] == status
    assert problem["title"] and problem["detail"]
    assert problem["request_id"] == reply.headers["X-Request-Id"]
    return problem


# ---- routes and methods ----

@pytest.mark.parametrize("method, path, allow", [
    ("POST", "/", "GET, HEAD, OPTIONS"),
    ("DELETE", "/healthz", "GET, HEAD, OPTIONS"),
    ("PUT", "/readyz", "GET, HEAD, OPTIONS"),
    ("PATCH", "/metrics", "GET, HEAD, OPTIONS"),
    ("POST", "/openapi.json", "GET, HEAD, OPTIONS"),
    ("GET", "/preprocess", "POST, OPTIONS"),
    ("HEAD", "/preprocess", None),
    ("POST", "/images/" + "0" * 64, "GET, HEAD, OPTIONS"),
    ("get", "/healthz", "GET, HEAD, OPTIONS"),
])
def test_wrong_method_is_405_and_says_which(server, method, path, allow):
    reply = server.request(method, path)
    if allow is None:
        assert (reply.status, reply.headers["Allow"], reply.body) == (405, "POST, OPTIONS", b"")
        return
    assert_problem(reply, 405, "method-not-allowed")
    assert reply.headers["Allow"] == allow


@pytest.mark.parametrize("path", ["/nothing", "/healthz/", "//healthz", "/healthz/x", "/images/", "/images",
                                  "/images/a/b", "/preprocess/", "/images/../healthz", "/%2568ealthz"])
def test_unknown_path_is_404(server, path):
    problem = assert_problem(server.get(path), 404, "not-found")
    assert problem["detail"] == "no such path; /openapi.json lists the paths"


def test_classifier_routes(classify):
    for method, path, status, allow in [
        ("GET", "/classify", 405, "POST, OPTIONS"), ("GET", "/pubsub", 405, "POST, OPTIONS"),
        ("POST", "/results", 405, "GET, HEAD, OPTIONS"), ("GET", "/preprocess", 404, None),
        ("POST", "/results/" + "0" * 64, 405, "GET, HEAD, OPTIONS"), ("HEAD", "/healthz", 200, None),
        ("HEAD", "/results/" + "0" * 64, 404, None),
    ]:
        reply = classify.request(method, path)
        assert (reply.status, reply.headers.get("Allow")) == (status, allow), (method, path, reply)


def test_head_is_get_without_the_body(server):
    image = "/images/" + server.upload(JPEG).json()["id"]
    for path in ["/", "/healthz", "/readyz", "/openapi.json", "/metrics", image, "/nothing"]:
        got, head = server.get(path), server.request("HEAD", path)
        assert (head.status, head.body) == (got.status, b""), path
        for name in ["Content-Type", "ETag", "Cache-Control"]:
            assert head.headers.get(name) == got.headers.get(name), (path, name)
        if path != "/metrics":  # it grows from request to request
            assert head.headers["Content-Length"] == str(len(got.body)), path


def test_head_sends_no_body_on_the_wire(server):
    data = exchange(server, b"HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert data.endswith(b"\r\n\r\n") and b"alive" not in data


def test_options_lists_the_methods(server):
    reply = server.request("OPTIONS", "/preprocess")
    assert (reply.status, reply.headers["Allow"], reply.body) == (204, "POST, OPTIONS", b"")
    assert "Content-Length" not in reply.headers  # RFC 9110, 8.6: not in a 204
    assert server.request("OPTIONS", "/healthz").headers["Allow"] == "GET, HEAD, OPTIONS"
    assert_problem(server.request("OPTIONS", "/nothing"), 404, "not-found")


# ---- CORS ----

CORS_HEADERS = ["Access-Control-Allow-Origin", "Access-Control-Allow-Methods",
                "Access-Control-Allow-Headers", "Access-Control-Max-Age", "Vary"]


@pytest.mark.parametrize("configured, origin, allowed, vary", [
    ("", "https://a.example", None, None),
    ("*", "https://a.example", "*", None),
    ("https://a.example, https://b.example", "https://b.example", "https://b.example", "Origin"),
    ("https://a.example,https://b.example", "https://a.example", "https://a.example", "Origin"),
    ("https://a.example", "https://a.example.evil", None, "Origin"),
    ("https://a.example", "https://a.exampl", None, "Origin"),
    ("https://a.example", "null", None, "Origin"),
    ("https://a.example", None, None, "Origin"),
])
def test_cors(tmp_path, services, configured, origin, allowed, vary):
    services.append(Service("preprocess-service", tmp_path, EVENTS_URL="none:", CORS_ORIGINS=configured))
    service = services[0].start()
    headers = {"Origin": origin} if origin else {}
    for reply in [service.get("/healthz", headers), service.get("/nothing", headers),
                  service.post_image("/preprocess", b"", **headers)]:
        assert reply.headers.get("Access-Control-Allow-Origin") == allowed
        assert reply.headers.get("Vary") == vary
    if allowed:
        assert "X-Request-Id" in service.get("/", headers).headers["Access-Control-Expose-Headers"]
    preflight = service.request("OPTIONS", "/preprocess", headers=headers | {
        "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"})
    assert preflight.status == 204
    assert preflight.headers.get("Access-Control-Allow-Origin") == allowed
    if allowed:
        assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
        assert "content-type" in preflight.headers["Access-Control-Allow-Headers"].lower()
    elif not configured:
        assert not any(name in preflight.headers for name in CORS_HEADERS)


# ---- errors ----

def test_errors_are_problems(server):
    assert_problem(server.upload(JPEG, "?nonsense=1"), 400, "bad-request")
    assert_problem(server.upload(b""), 415, "unsupported-media")
    assert_problem(server.upload(JPEG[:-40]), 422, "bad-image")
    assert_problem(server.upload(bytes((1 << 20) + 1)), 413, "too-large")


def test_error_that_quotes_bytes_which_are_not_text(server):
    problem = assert_problem(server.upload(JPEG, "?w%ff%c3=1"), 400, "bad-request")
    assert problem["detail"].startswith("w??")


def test_5xx_tell_nothing_of_the_inside(tmp_path, preprocess):
    shutil.rmtree(wait_for(lambda: next(tmp_path.glob("objects"), None), "the store's folder"))
    reply = preprocess.upload(JPEG)
    problem = assert_problem(reply, 503, "unavailable")
    assert reply.headers["Retry-After"].isdigit()
    text = reply.body.decode()
    assert str(tmp_path) not in text and "objects" not in text and "directory" not in text.lower()
    logged = [line for line in preprocess.log_lines() if line.get("request_id") == problem["request_id"]]
    assert any(line["severity"] == "WARNING" and line.get("error") == "unavailable" for line in logged), logged


@pytest.mark.parametrize("given, kept", [
    ("abc", True), ("A-b_c.9", True), ("x" * 64, True), ("x" * 65, False), ("", False),
    ("with space", False), ("semi;colon", False), ("\xe9", False), ('"quoted"', False),
])
def test_request_id(server, given, kept):
    for path in ["/healthz", "/nothing"]:
        answered = server.get(path, {"X-Request-Id": given}).headers["X-Request-Id"]
        if kept:
            assert answered == given
        else:
            assert answered != given and uuid.UUID(answered).version == 4


# ---- framing ----

POST = b"POST /preprocess HTTP/1.1\r\n"
HOST = b"Host: x\r\n"
TYPE = b"Content-Type: image/jpeg\r\n"
CHUNKS = b"\r\n3\r\nabc\r\n0\r\n\r\n"


@pytest.mark.parametrize("request_bytes", [
    POST + HOST + TYPE + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n" + CHUNKS,
    POST + HOST + TYPE + b"Transfer-Encoding: chunked\r\nContent-Length: 13\r\n" + CHUNKS,
    POST + HOST + TYPE + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    POST + HOST + TYPE + b"Content-Length: 3\r\ncontent-length: 4\r\n\r\nabc",
    POST + HOST + TYPE + b"Content-Length: 3, 3\r\n\r\nabc",
    POST + HOST + TYPE + b"Content-Length: +3\r\n\r\nabc",
    POST + HOST + TYPE + b"Content-Length: -3\r\n\r\nabc",
    POST + HOST + TYPE + b"Content-Length: 0x3\r\n\r\nabc",
    POST + HOST + TYPE + b"Content-Length: 3 4\r\n\r\nabc",
    POST + HOST + TYPE + b"Content-Length:\r\n\r\nabc",
    POST + HOST + HOST + TYPE + b"Content-Length: 3\r\n\r\nabc",
    POST + HOST + b"hOST: y\r\n" + TYPE + b"Content-Length: 3\r\n\r\nabc",
    POST + TYPE + b"Content-Length: 3\r\n\r\nabc",
    POST + HOST + TYPE + TYPE + b"Content-Length: 3\r\n\r\nabc",
    POST + HOST + TYPE + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" + CHUNKS,
    POST + HOST + TYPE + b"Transfer-Encoding: identity\r\n" + CHUNKS,
    POST + HOST + TYPE + b"Transfer-Encoding: gzip, chunked\r\n" + CHUNKS,
    POST + HOST + TYPE + b"Transfer-Encoding: chunked, chunked\r\n" + CHUNKS,
    POST + HOST + TYPE + b"Transfer-Encoding: xchunked\r\n" + CHUNKS,
    POST + HOST + TYPE + b"Transfer-Encoding:\r\n" + CHUNKS,
    b"POST /preprocess HTTP/1.0\r\n" + HOST + TYPE + b"Transfer-Encoding: chunked\r\n" + CHUNKS,
    b"GET /healthz HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n" + CHUNKS,
    b"OPTIONS /preprocess HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n" + CHUNKS,
    b"GET /nothing HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
], ids=lambda r: r.split(b"\r\n\r\n")[0].replace(b"\r\n", b"|")[:150].decode())
def test_ambiguous_framing_is_refused(server, request_bytes):
    """400 and close: what follows must never be taken for a second request."""
    data = exchange(server, request_bytes + b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
    assert statuses(data) == {400}, data
    assert "/smuggled" not in server.log()


def test_a_length_beyond_all_numbers(server):
    assert statuses(exchange(server, POST + HOST + TYPE + b"Content-Length: 99999999999999999999\r\n\r\n")) <= {400, 413}


@pytest.mark.parametrize("request_bytes", [
    b"GET /healthz HTTP/1.1\r\nHost : x\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\n Host: x\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
    b"GET  /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /healthz\r\n\r\n",
    b"GET /healthz HTTP/3.7\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\x00" * 64,
])
def test_malformed_requests_do_no_harm(server, request_bytes):
    """libmicrohttpd answers these in its own ways; they must not reach a handler twice, nor hang."""
    assert statuses(exchange(server, request_bytes, half_close=True)) <= {200, 400, 505}
    assert server.get("/healthz").status == 200


def http_library(service):
    """The version of libmicrohttpd that the service runs with: (0, 9, 75), (1, 0, 1)."""
    maps = pathlib.Path(f"/proc/{service.process.pid}/maps").read_text()
    version = ctypes.CDLL(re.search(r"(/\S*libmicrohttpd\.so\S*)", maps)[1]).MHD_get_version
    version.restype = ctypes.c_char_p
    major, minor, patch = version().decode().split(".")[:3]
    return (int(major), int(minor), int(patch))


@pytest.mark.parametrize("request_bytes", [
    b"GET /healthz HTTP/1.1\nHost: x\n\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
    POST + HOST + TYPE + b"X: y\nTransfer-Encoding: chunked\r\nContent-Length: 3" + CHUNKS,
    POST + HOST + TYPE + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n",
    POST + HOST + TYPE + b"X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 13" + CHUNKS,
    POST + HOST + TYPE + b"Transfer-Encoding:\r\n chunked\r\nContent-Length: 13" + CHUNKS,
    POST + HOST + TYPE + b"X: y\0z\r\nContent-Length: 3\r\n\r\nabc",
    POST + HOST + TYPE + b"Content-Length: 3\0\r\n\r\nabc",
    b"GET /healthz\0 HTTP/1.1\r\nHost: x\r\n\r\n",
], ids=["lf", "lf-after-a-field", "lf-before-a-field", "lf-in-chunks", "fold", "folded-encoding", "nul-in-a-field",
        "nul-in-length", "nul-in-target"])
def test_bare_lf_folds_and_nuls_are_refused(server, request_bytes):
    """What other servers may take for the end of a line, or of a value. libmicrohttpd 0.9 takes some of it, too; from 1.0 on
    it is 400, or the end of the connection, and what follows is never a request."""
    data = exchange(server, request_bytes + b"GET /after HTTP/1.1\r\nHost: x\r\n\r\n", half_close=True)
    if http_library(server) >= (1, 0, 0):
        assert statuses(data) <= {400}, data
        assert "/after" not in server.log()
    else:
        assert statuses(data) <= {200, 400, 404, 415}, data
    assert server.get("/healthz").status == 200


def test_pipelining(server):
    upload = POST + HOST + TYPE + b"Content-Length: %d\r\n\r\n" % len(JPEG) + JPEG
    health = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
    last = b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    found = responses(exchange(server, health + upload + health + health + upload + last))
    assert [status for status, _, _ in found] == [200] * 6
    assert [b"alive" in body for _, _, body in found] == [True, False, True, True, False, False]
    assert found[1][2] == found[4][2]


def chunked(data, size):
    parts = [data[i:i + size] for i in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_chunked_upload(server, size):
    head = POST + HOST + TYPE + b"Connection: close\r\nTransfer-Encoding: Chunked\r\n\r\n"
    (status, _, body), = responses(exchange(server, head + chunked(JPEG, size)))
    assert status == 200, body
    assert json.loads(body)["id"] == server.upload(JPEG).json()["id"]


def test_chunk_extensions_and_trailers_are_no_content(server):
    head = POST + HOST + TYPE + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"%x;name=value\r\n%s\r\n0\r\nContent-Length: 5\r\nX-Request-Id: trailer\r\n\r\n" % (len(JPEG), JPEG)
    (status, headers, _), = responses(exchange(server, head + body))
    assert status in (200, 400)  # libmicrohttpd 1.0 refuses framing headers in a trailer by itself
    assert headers.get("x-request-id") != "trailer"


@pytest.mark.parametrize("chunk", [b"zz\r\n", b"-1\r\nab\r\n", b"3\r\nabcdef\r\n", b"fffffffffffffffff\r\n"])
def test_malformed_chunks(server, chunk):
    head = POST + HOST + TYPE + b"Transfer-Encoding: chunked\r\n\r\n"
    data = exchange(server, head + chunk + b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n", half_close=True)
    assert statuses(data) <= {400, 413}
    assert "/smuggled" not in server.log()


def test_expect_100_continue(server):
    head = POST + HOST + TYPE + b"Expect: 100-continue\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    with connect(server) as sock:
        sock.sendall(head % len(JPEG))
        assert sock.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(JPEG)
        assert responses(receive(sock))[0][0] == 200
    for request, status in [(head % (1 << 30), 413), (head.replace(b"/preprocess", b"/nothing") % 10, 404),
                            (head.replace(b"POST", b"PUT") % 10, 405)]:
        found = responses(exchange(server, request))
        assert [s for s, _, _ in found] == [status], "refused without 100, then closed"


# ---- URLs and headers ----

@pytest.mark.parametrize("target, status", [
    ("/%68ealthz", 200), ("/healthz?a=b&c", 200), ("/healthz?", 200), ("/healthz%2f", 404),
    ("/healthz%00", 400), ("/healthz%00.png", 400), ("/images/%00", 400), ("/healthz?a=b%00c", 400),
    ("/healthz?a%00=b", 400), ("/%zz", 404), ("/%", 404), ("/%c3%28", 404), ("/images/%2e%2e%2fetc", 404),
    ("/images/%ff", 404), ("/images/" + "a" * 2000, 404), ("/healthz?" + "&".join(f"k{i}=1" for i in range(64)), 200),
    ("/healthz?" + "&".join(f"k{i}=1" for i in range(65)), 400),
])
def test_targets(server, target, status):
    assert server.get(target).status == status


def test_malformed_percent_encoding_in_the_query(server):
    assert server.get("/healthz?%zz").status in (200, 400)  # libmicrohttpd 0.9 takes it as it stands, 1.0 does not


def test_option_without_value_is_named(server):
    for query in ["?width", "?width=", "?quality&fit=cover"]:
        problem = assert_problem(server.upload(JPEG, query), 400, "bad-request")
        assert re.match("width|quality", problem["detail"]), problem


@pytest.mark.parametrize("request_bytes", [
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /?" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 20_000 + b"\r\n",
], ids=["path", "query", "header", "headers"])
def test_too_long_heads_are_refused(server, request_bytes):
    with connect(server) as sock:
        try:
            sock.sendall(request_bytes)
            data = receive(sock)
        except ConnectionError:
            data = b""  # libmicrohttpd refuses and closes without reading the rest
    assert statuses(data) <= {400, 413, 414, 431}
    assert server.get("/healthz").status == 200


def test_number_of_headers(server):
    def get(n):
        return server.get("/healthz", {f"X-{i}": "1" for i in range(n)})
    assert get(60).status == 200  # and two of http.client's own
    problem = assert_problem(get(70), 431, "headers-too-large")
    assert "at most 64 fields, and 30720 bytes" in problem["detail"]


def cookies(count, total):
    return "; ".join(f"c{i:03}={'v' * (total // count - 7)}" for i in range(count))


@pytest.mark.parametrize("count, total, status", [
    (1, 8000, 200), (80, 8000, 200), (200, 8000, 200), (200, 1600, 200), (80, 12000, 200), (80, 13500, 431), (400, 8000, 431),
    (1000, 10000, 431), (1, 15900, 431), (50, 15000, 431), (1, 30000, 431), (300, 30000, 431)])
def test_cookies(server, count, total, status):
    """8 KB of them are served. What is too much is answered: libmicrohttpd by itself closes without a word where its
    memory for a connection holds the request and no reply."""
    cookie = {"Cookie": cookies(count, total)}
    assert server.get("/healthz", cookie).status == status
    body = JPEG if status == 200 else bytes(900_000)  # a refusal reaches a client that is still sending
    for _ in range(5):
        upload = server.request("POST", "/preprocess", body, {"Content-Type": "image/jpeg"} | cookie)
        assert upload.status == status, upload


def test_no_size_of_a_head_is_left_without_an_answer(server):
    for size in range(14000, 18000, 50):
        for head in (f"Cookie: a={'v' * size}", f"X: {'v' * 2 * size}", f"Cookie: {cookies(size // 100, size // 2)}"):
            data = exchange(server, f"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n\r\n".encode())
            assert data[:12] in (b"HTTP/1.1 200", b"HTTP/1.1 431"), (size, head[:10])


@pytest.mark.parametrize("target, status", [
    ("http://x/healthz", 200), ("http://other.example:8080/healthz?a=b", 200), ("HTTPS://x/healthz", 200),
    ("http://x", 200), ("http://x?a=b", 200), ("http://x/nothing", 404), ("http:/healthz", 404),
    ("ftp://x/healthz", 404), ("http://x//healthz", 404)])
def test_absolute_form(server, target, status):
    """As clients send it that take us for a proxy (RFC 9112, 3.2.2)."""
    data = exchange(server, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    (got, _, body), = responses(data)
    assert got == status
    if target in ("http://x", "http://x?a=b"):
        assert json.loads(body)["name"] == "preprocess-service"


def test_a_host_is_needed_in_every_form(server):
    for head in (b"GET /healthz HTTP/1.1\r\n", b"GET http://x/healthz HTTP/1.1\r\n"):
        assert statuses(exchange(server, head + b"Connection: close\r\n\r\n")) == {400}
    assert statuses(exchange(server, b"GET /healthz HTTP/1.0\r\n\r\n")) == {200}
    assert statuses(exchange(server, b"GET /heal thz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) == {400}


# ---- what an upload may look like ----

@pytest.mark.parametrize("headers", [{"Content-Type": "application/octet-stream"}, {}])
def test_a_raw_body_is_judged_by_its_first_bytes(server, headers):
    as_image = server.request("POST", "/preprocess", JPEG, {"Content-Type": "image/png"}).json()
    assert server.request("POST", "/preprocess", JPEG, headers).json()["id"] == as_image["id"]
    assert_problem(server.request("POST", "/preprocess", b"%PDF-1.7 not an image", headers), 415, "unsupported-media")
    assert_problem(server.request("POST", "/preprocess", b"", headers), 415, "unsupported-media")
    assert_problem(server.request("POST", "/preprocess", JPEG, headers | {"Content-Encoding": "gzip"}), 415, "unsupported-media")


def form(*parts):
    body = b"".join(b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % (
        name, b'; filename="f"' if name in (b"file", b"image") else b"", value) for name, value in parts)
    return body + b"--b--\r\n", {"Content-Type": "multipart/form-data; boundary=b"}


def test_a_form_without_file_names_what_it_has(server):
    problem = assert_problem(server.request("POST", "/preprocess", *form((b"image", JPEG[:100]), (b"width", b"9"))), 400, "bad-request")
    assert "image, width" in problem["detail"] and "`file`" in problem["detail"]


def test_blank_form_fields_are_unset(server):
    """As browsers send the fields that nobody filled in."""
    plain = server.upload(JPEG).json()
    blank = server.request("POST", "/preprocess", *form(
        (b"file", JPEG), (b"width", b""), (b"height", b" "), (b"fit", b""), (b"format", b""), (b"background", b"\t")))
    assert (blank.status, blank.json()) == (200, plain)
    half = server.request("POST", "/preprocess?width=64", *form((b"file", JPEG), (b"width", b""), (b"height", b"")))
    assert half.json()["width"] == 64


def test_jpg_is_jpeg(server):
    assert server.upload(JPEG, "?format=jpg").json() == server.upload(JPEG, "?format=jpeg").json()


# ---- connections ----

def test_a_connection_is_reused(server):
    before = wait_for(lambda: server.metric("connections") == 1, "earlier connections to be gone")
    with connect(server) as sock:
        for i in range(50):
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: n%d\r\n\r\n" % i)
            data = sock.recv(65536)
            assert b"n%d\r\n" % i in data and b"alive" in data
            sock.sendall(POST + HOST + TYPE + b"Content-Length: 3\r\n\r\nabc")
            assert sock.recv(65536).startswith(b"HTTP/1.1 415 ")
        server.settles("connections", before + 1)  # that which looked before may still be going
    wait_for(lambda: server.metric("connections") <= before, "the connection to be gone")


@pytest.mark.parametrize("head", [b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                                  b"GET /healthz HTTP/1.0\r\n\r\n"])
def test_the_server_closes_when_asked_to(server, head):
    assert responses(exchange(server, head))[0][0] == 200


# ---- what is told about requests ----

def test_access_log(preprocess):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    preprocess.post_image("/preprocess", JPEG, X_Request_Id="one", traceparent=trace)
    preprocess.get("/nothing", {"X-Request-Id": "two", "User-Agent": "caf\xe9 \"quoted\""})
    exchange(preprocess, b"GET /a\xff%0a%22b HTTP/1.1\r\nHost: x\r\nX-Request-Id: three\r\n"
                         b"traceparent: 00-0-0-00\r\nConnection: close\r\n\r\n")
    ids = {"one", "two", "three"}  # each is logged by its connection's thread, after the reply

    def requests():
        found = [line for line in preprocess.log_lines() if line["message"] == "request"]
        return found if ids <= {line["request_id"] for line in found} else None
    found = wait_for(requests, "the log")
    lines = {line["request_id"]: line for line in found}
    assert len(lines) == len(found)
    assert lines["one"]["status"] == 200
    assert lines["one"]["logging.googleapis.com/trace"] == trace[3:35]
    assert lines["one"]["httpRequest"]["requestMethod"] == "POST"
    assert lines["two"]["status"] == 404
    assert lines["three"]["status"] == 404
    assert "logging.googleapis.com/trace" not in lines["three"]


def test_metrics_are_valid_and_bounded(server):
    for i in range(20):
        server.get(f"/made-up-{i}")
    text = server.get("/metrics").body.decode()
    name = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
    sample = re.compile(rf'({name})(\{{({name}="[^"\\\n]*",?)+\}})? [-+0-9.eInf]+')
    typed, samples = {}, set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, family, kind = line.split(" ")
            assert family not in typed
            typed[family] = kind
        elif not line.startswith("# HELP "):
            match = sample.fullmatch(line)
            assert match, line
            assert line.rsplit(" ", 1)[0] not in samples
            samples.add(line.rsplit(" ", 1)[0])
            assert any(match[1] in (f, f + "_bucket", f + "_sum", f + "_count") for f in typed), line
    assert "made-up" not in text
    assert 'http_requests_total{route="none",code="404"}' in samples
    for family in ["http_request_duration_seconds", "stage_duration_seconds", "worker_queue_depth", "worker_busy",
                   "body_bytes_in_flight", "connections", "process_open_fds", "process_resident_memory_bytes",
                   "process_cpu_seconds_total"]:
        assert family in typed, family


def test_multipart_and_raw_bodies_are_the_same_upload(server):
    form = (b"--B\r\nContent-Disposition: form-data; name=\"width\"\r\n\r\n80\r\n"
            b"--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.jpg\"\r\n\r\n" + JPEG + b"\r\n--B--")
    reply = server.request("POST", "/preprocess", form, {"Content-Type": "multipart/form-data; boundary=B"})
    raw = server.upload(JPEG, "?width=80")
    assert reply.status == raw.status == 200
    assert reply.json()["id"] == raw.json()["id"]
    assert decode(server.get("/images/" + raw.json()["id"]).body).width == 80
    both = server.request("POST", "/preprocess?width=80", form, {"Content-Type": "multipart/form-data; boundary=B"})
    assert "width" in assert_problem(both, 400, "bad-request")["detail"]

"""Calls as gRPC-Web and as Connect, over both protocols: by curl, by Connect's own client for node, by a browser's
preflight, and by bodies that no client would send."""
import base64
import contextlib
import gzip
import json
import socket
import struct
import subprocess

import pytest

from conftest import PROTO, ROOT, SLOW, wait_for
from images import encode, gradient
from raw_clients import curl
from tools import foreign_node

pytestmark = [pytest.mark.memory, pytest.mark.threads]

JPEG = encode(gradient(64, 48))
MIB = 1 << 20
TRANSFORM = "/darkroom.v1.Images/Transform"
HEALTH = "/grpc.health.v1.Health/Check"
both_protocols = pytest.mark.parametrize("http1", [True, False], ids=["http1", "http2"])


def prefixed(message, flag=0):
    return struct.pack(">BI", flag, len(message)) + message


def frames(body):
    """[(flag, message)]"""
    found = []
    while body:
        flag, size = struct.unpack(">BI", body[:5])
        assert len(body) >= 5 + size, body
        found.append((flag, body[5:5 + size]))
        body = body[5 + size:]
    return found


def post(service, http1, path, content_type, body, *fields):
    """(status, headers, body)"""
    return curl(service, path, *(part for field in (f"Content-Type: {content_type}", "Expect:", *fields) for part in ("-H", field)),
                http1=http1, body=body)


@pytest.fixture(name="web")
def fixture_web():
    """web(service, http1, path, frames, "Name: value", …): (grpc-status, grpc-message, the message or None)"""
    def web(service, http1, path, body, *fields):
        status, headers, got = post(service, http1, path, "application/grpc-web+proto", body, *fields)
        assert (status, headers["content-type"]) == (200, "application/grpc-web+proto"), got
        *messages, (flag, trailers) = frames(got)
        assert flag == 0x80 and all(flag == 0 for flag, _ in messages) and trailers.endswith(b"\r\n")
        values = dict(line.split(": ", 1) for line in trailers.decode().split("\r\n")[:-1])
        return int(values["grpc-status"]), values.get("grpc-message"), messages[0][1] if messages else None
    return web


@pytest.fixture(name="connect")
def fixture_connect():
    """connect(service, http1, path, message, "Name: value", …): (status, the message, or the error's object)"""
    def connect(service, http1, path, body, *fields):
        status, headers, got = post(service, http1, path, "application/proto", body, *fields)
        assert headers["content-type"] == ("application/proto" if status == 200 else "application/json"), got
        return status, got if status == 200 else json.loads(got)
    return connect


@pytest.fixture(name="image")
def fixture_image(messages):
    def image(data=JPEG, **options):
        return messages("darkroom.v1.images").ImageRequest(image=data, options=options).SerializeToString()
    return image


# ---- by curl

@both_protocols
def test_a_call(shared, messages, image, web, connect, http1):
    """The handler's message, the same in each encoding, compressed or not."""
    expected = shared.preprocess.post_image("/transform?width=200&format=png", JPEG).body
    request = image(width="200", format="png")
    reply = messages("darkroom.v1.images").TransformResponse(content_type="image/png", image=expected).SerializeToString()
    packed = gzip.compress(request)
    assert web(shared.preprocess, http1, TRANSFORM, prefixed(request)) == (0, None, reply)
    assert web(shared.preprocess, http1, TRANSFORM, prefixed(packed, 1), "grpc-encoding: gzip") == (0, None, reply)
    assert connect(shared.preprocess, http1, TRANSFORM, request, "Connect-Protocol-Version: 1") == (200, reply)
    assert connect(shared.preprocess, http1, TRANSFORM, packed, "Content-Encoding: gzip") == (200, reply)
    serving = messages("health").HealthCheckResponse(status=1).SerializeToString()
    assert web(shared.classify, http1, HEALTH, prefixed(b"")) == (0, None, serving)
    assert connect(shared.classify, http1, HEALTH, b"") == (200, serving)


@both_protocols
def test_errors(shared, image, messages, web, connect, http1):
    """Status and message are those of gRPC."""
    uri = messages("darkroom.v1.labels").ClassifyRequest(gcs_path="s3://elsewhere/x").SerializeToString()
    unknown = messages("health").HealthCheckRequest(service="none").SerializeToString()
    for service, path, request, grpc, http, code, message in [
            (shared.preprocess, TRANSFORM, image(nonsense="1"), 3, 400, "invalid_argument", "nonsense: no such option"),
            (shared.preprocess, TRANSFORM, image(b""), 3, 400, "invalid_argument", "the image is empty"),
            (shared.preprocess, HEALTH, unknown, 5, 404, "not_found", "there is no service none"),
            (shared.preprocess, "/darkroom.v1.Images/None", b"", 12, 501, "unimplemented", "there is no method /darkroom.v1.Images/None"),
            (shared.preprocess, "/transform", b"", 12, 501, "unimplemented", "there is no method /transform"),
            (shared.classify, "/darkroom.v1.Labels/Classify", uri, 7, 403, "permission_denied", None)]:
        status, text, reply = web(service, http1, path, prefixed(request))
        assert (status, reply) == (grpc, None) and message in (None, text)
        status, error = connect(service, http1, path, request)
        assert (status, error["code"]) == (http, code) and message in (None, error["message"])
    shared.preprocess.settles("body_bytes_in_flight", 0)


GZIPPED, BOMB = gzip.compress(b""), gzip.compress(bytes(40 * MIB), 1)
WEB_BODIES = {  # body, fields, grpc-status
    "nothing": (b"", [], 3), "half a prefix": (b"\0\0", [], 3), "cut": (prefixed(bytes(9))[:-1], [], 3),
    "two": (prefixed(b"") * 2, [], 3), "trailers behind it": (prefixed(b"") + prefixed(b"a: b\r\n", 0x80), [], 3),
    "trailers alone": (prefixed(b"a: b\r\n", 0x80), [], 3), "base64": (base64.b64encode(prefixed(b"")), [], 3),
    "length of 4 GB": (b"\0\xff\xff\xff\xff", [], 8), "not a message": (prefixed(b"\xff" * 20), [], 3),
    "in many pieces": (prefixed(b"\x12\0" * 5000), [], 3), "bomb": (prefixed(BOMB, 1), ["grpc-encoding: gzip"], 8),
    "compressed without a word": (prefixed(GZIPPED, 1), [], 13), "unknown encoding": (prefixed(GZIPPED, 1), ["grpc-encoding: br"], 12),
    "bad timeout": (prefixed(b""), ["grpc-timeout: 5"], 3),
}
CONNECT_BODIES = {  # body, fields, status
    "not a message": (b"\xff" * 20, [], 400), "in many pieces": (b"\x12\0" * 5000, [], 400), "with a prefix": (prefixed(b""), [], 400),
    "bomb": (BOMB, ["Content-Encoding: gzip"], 429), "not gzip": (b"xyz", ["Content-Encoding: gzip"], 400),
    "unknown coding": (b"xyz", ["Content-Encoding: br"], 501), "version": (b"", ["Connect-Protocol-Version: 2"], 400),
    "bad timeout": (b"", ["Connect-Timeout-Ms: 5m"], 400), "long timeout": (b"", ["Connect-Timeout-Ms: 12345678901"], 400),
}


@both_protocols
@pytest.mark.parametrize("body, fields, status", WEB_BODIES.values(), ids=WEB_BODIES)
def test_malformed_web(shared, web, http1, body, fields, status):
    assert web(shared.preprocess, http1, TRANSFORM, body, *fields)[0] == status
    shared.preprocess.settles("body_bytes_in_flight", 0)


@both_protocols
@pytest.mark.parametrize("body, fields, status", CONNECT_BODIES.values(), ids=CONNECT_BODIES)
def test_malformed_connect(shared, connect, http1, body, fields, status):
    assert connect(shared.preprocess, http1, TRANSFORM, body, *fields)[0] == status
    shared.preprocess.settles("body_bytes_in_flight", 0)


@both_protocols
def test_too_large(start, web, connect, http1):
    """At the headers, and in a body whose length is not told: the client sees the status of its encoding."""
    service = start(MAX_BODY_BYTES=MIB)
    for fields in ([], ["Transfer-Encoding: chunked"]):
        assert web(service, http1, TRANSFORM, bytes(20 * MIB), *fields)[0] == 8
        status, error = connect(service, http1, TRANSFORM, bytes(20 * MIB), *fields)
        assert (status, error["code"]) == (429, "resource_exhausted")
    service.settles("body_bytes_in_flight", 0)


@both_protocols
def test_deadlines(shared, image, web, connect, http1):
    """0 ms have passed when the call comes."""
    assert web(shared.preprocess, http1, TRANSFORM, prefixed(image()), "grpc-timeout: 0m")[0] == 4
    assert connect(shared.preprocess, http1, TRANSFORM, image(), "Connect-Timeout-Ms: 0")[0] == 504
    for timeout in ("grpc-timeout: 50S", "Connect-Timeout-Ms: 50000"):  # each encoding has its own
        assert web(shared.preprocess, http1, TRANSFORM, prefixed(image()), timeout)[0] == 0
        assert connect(shared.preprocess, http1, TRANSFORM, image(), timeout)[0] == 200


@both_protocols
def test_overload_and_access(start, image, web, connect, http1):
    """What is refused at the headers says so in the call's encoding, and when to come again."""
    busy = start(MAX_INFLIGHT=1)
    with socket.create_connection((busy.host, busy.port), 30 * SLOW) as holder:
        holder.sendall(b"POST /transform HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 9\r\n\r\nx")
        wait_for(lambda: busy.metric("body_bytes_in_flight") > 0, "the body")
        status, headers, body = post(busy, http1, TRANSFORM, "application/grpc-web", prefixed(image()))
        assert status == 200 and b"grpc-status: 14\r\n" in body and b"grpc-retry-pushback-ms: 1000\r\n" in body
        status, headers, body = post(busy, http1, TRANSFORM, "application/proto", image())
        assert (status, headers["retry-after"], json.loads(body)["code"]) == (503, "1", "unavailable")
        assert connect(busy, http1, HEALTH, b"")[0] == 200
    closed = start(AUTH_AUDIENCE="https://darkroom.test", AUTH_EMAILS="a@darkroom.test",
                   OIDC_ISSUER="https://issuer.test", OIDC_JWKS_URL="http://127.0.0.1:1/keys")
    assert web(closed, http1, TRANSFORM, prefixed(image()))[0] == 16
    status, headers, body = post(closed, http1, TRANSFORM, "application/proto", image())
    assert (status, headers["www-authenticate"], json.loads(body)["code"]) == (401, "Bearer", "unauthenticated")
    assert connect(closed, http1, HEALTH, b"")[0] == 200


@pytest.mark.parametrize("content_type, ending", [
    ("application/grpc-web", b"grpc-status: 4\r\ngrpc-message: "), ("application/proto", b'{"code":"deadline_exceeded"')])
def test_a_slow_body_is_answered_as_a_call(start, content_type, ending):
    """On the socket of HTTP/1.1, behind libmicrohttpd's back."""
    service = start(BODY_STALL_MS=int(300 * SLOW))
    with socket.create_connection((service.host, service.port), 30 * SLOW) as client:
        client.sendall(f"POST {TRANSFORM} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: 9\r\n\r\nx".encode())
        reply = b""
        with contextlib.suppress(ConnectionError):
            while data := client.recv(65536):
                reply += data
    head, _, body = reply.partition(b"\r\n\r\n")
    status = 200 if content_type == "application/grpc-web" else 504
    assert head.startswith(b"HTTP/1.1 %d " % status) and b"\r\nContent-Length: %d" % len(body) in head
    assert ending in body


def test_a_call_is_a_post_of_its_type(shared, image):
    """Nothing else reaches a call's handler; what is no call is REST."""
    for method, content_type in (("GET", "application/proto"), ("PUT", "application/grpc-web"), ("call", "application/proto"),
                                 ("POST", "application/json"), ("POST", "application/grpc-web-text"), ("POST", "application/grpc")):
        reply = shared.preprocess.request(method, TRANSFORM, image(), {"Content-Type": content_type})
        assert reply.status == 404 and reply.json()["status"] == 404, (method, content_type)


# ---- browsers

@both_protocols
def test_browsers(start, image, http1):
    """The preflights that clients for browsers cause, and what their pages may read then."""
    service = start(CORS_ORIGINS="https://shop.example")
    origin = "Origin: https://shop.example"
    for asked in ("content-type,x-grpc-web,x-user-agent,grpc-timeout", "connect-protocol-version,connect-timeout-ms,content-type"):
        status, lines, _ = curl(service, TRANSFORM, "-X", "OPTIONS", "-H", origin, "-H", "Access-Control-Request-Method: POST",
                                "-H", f"Access-Control-Request-Headers: {asked}", http1=http1)
        assert status == 204 and lines["access-control-allow-origin"] == "https://shop.example"
        assert "POST" in lines["access-control-allow-methods"].split(", ")
        assert set(asked.split(",")) <= set(lines["access-control-allow-headers"].lower().split(", "))
    for content_type, body in (("application/grpc-web+proto", prefixed(image())), ("application/proto", image()), ("application/proto", b"\xff")):
        _, headers, _ = post(service, http1, TRANSFORM, content_type, body, origin)
        assert headers["access-control-allow-origin"] == "https://shop.example"
        assert {"Grpc-Status", "Grpc-Message"} <= set(headers["access-control-expose-headers"].split(", "))
    _, headers, _ = post(service, http1, TRANSFORM, "application/proto", image(), "Origin: https://evil.example")
    assert "access-control-allow-origin" not in headers


# ---- Connect's own client

def test_connects_own_client(shared, tmp_path):
    """Over gRPC, gRPC-Web and Connect, HTTP/1.1 and HTTP/2, with and without gzip."""
    folder = foreign_node("@connectrpc/connect-node@2.1.2", "@connectrpc/connect@2.1.2", "@bufbuild/protobuf@2.17.0")
    picture, descriptors = tmp_path / "picture.jpg", tmp_path / "descriptors"
    picture.write_bytes(JPEG)
    subprocess.run(["protoc", f"--proto_path={PROTO}", f"--descriptor_set_out={descriptors}", "--include_imports",
                    *PROTO.rglob("*.proto")], check=True)
    done = subprocess.run(["node", ROOT / "tests/integration/connect_client.mjs", shared.preprocess.url, shared.classify.url, descriptors, picture],
                          cwd=folder, capture_output=True, text=True, timeout=300 * SLOW, check=False)
    assert done.stdout == "done\n", done

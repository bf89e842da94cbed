"""Debian's haproxy with our configuration before real instances, which DNS lists."""
import collections
import contextlib
import http.server
import json
import re
import signal
import socket
import ssl
import subprocess
import threading
import time

import grpc
import pytest
import yaml

from conftest import ROOT, SLOW, free_port, wait_for
from gateway_world import CONFIGURATION, Gateway, World
from images import encode, gradient
from ledger import Ledger, Load
from name_server import Dns
from tools import tool

JPEG = encode(gradient(64, 48))
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module", name="world")
def fixture_world(tmp_path_factory):
    with World(tmp_path_factory.mktemp("gateway")) as world:
        world.start(preprocess=("127.0.0.2", "127.0.0.3"), classify=("127.0.0.2",))
        yield world


@contextlib.contextmanager
def uploads(world):
    """Clients that upload through the gateway until the end of the block: each attempt must be a 200, and what was
    acknowledged is stored."""
    ledger = Ledger(world.folder / "objects")
    first = int(time.monotonic() * 1000)
    with Load(world.gateway, ledger, 10**6, threads=4, picture=JPEG, first=first, query="?width=16&height=16",
              pace_s=0.05) as load:  # some 80 a second: what is measured is not speed
        wait_for(lambda: len(ledger) >= 10, "some uploads")
        yield ledger
        soon = len(ledger) + 10
        wait_for(lambda: len(ledger) >= soon or load.failures, "uploads to go on")
        load.stop()
    unhappy = [attempt for attempt in load.attempts if attempt.status != 200]
    assert not unhappy, unhappy[:5]
    keys = ledger.view.keys()
    assert all(ledger.key(promised) in keys for promised in ledger.acknowledged.values())


def requests_to(service):
    """Its log of uploads."""
    return [line for line in service.log_lines() if line.get("path", "").startswith("/preprocess")]


# ---- one port

def test_compose_has_it_under_two_names():
    services = yaml.safe_load((ROOT / "minio-compose.yml").read_text())["services"]
    found = {profile: {name for name, service in services.items() if profile in service.get("profiles", ())}
             for profile in ("scale", "gateway")}
    assert found["gateway"] == found["scale"] >= {"gateway", "preprocess-service", "classify-service"}


def test_every_route_goes_to_a_service_that_has_it():
    """What both have goes to preprocess."""
    rules = re.findall(r"^ +acl to_classify (path|path_beg) (.*)", CONFIGURATION.read_text(), re.M)
    exact, begins = (tuple(" ".join(words for kind, words in rules if kind == which).split()) for which in ("path", "path_beg"))
    preprocess, classify = (set(re.findall(r'"(/[^"]*)"', (ROOT / f"{name}_service/routes.c").read_text()))
                            for name in ("preprocess", "classify"))
    to_classify = {route for route in preprocess | classify if route in exact or route.startswith(begins)}
    assert to_classify == classify - preprocess and exact and begins


def test_the_configuration_has_no_warnings(tmp_path):
    program, environment = tool("haproxy")
    make_certificate(tmp_path)
    for variant in ({}, {"TLS_CERTIFICATE": str(tmp_path / "both.pem")}, {"DNS": "127.0.0.11:53"}):
        done = subprocess.run([program, "-c", "-dW", "-f", CONFIGURATION], env=environment | variant,
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr


@pytest.mark.parametrize("method, path, pool, status", [
    ("POST", "/preprocess", "preprocess", 200), ("POST", "/transform?width=8", "preprocess", 200),
    ("GET", "/openapi.json", "preprocess", 200), ("GET", "/page.gallery.js", "preprocess", 200),
    ("GET", "/images/" + "0" * 64, "preprocess", 404),
    ("POST", "/classify", "classify", 200), ("GET", "/results?gcs_path=file:///x", "classify", 403),
    ("GET", "/results/" + "0" * 64, "preprocess", 404), ("POST", "/v1/tokens", "preprocess", 404),
    ("GET", "/v2", "classify", 200), ("GET", "/v2/health/ready", "classify", 200), ("POST", "/pubsub", "classify", 400),
    ("GET", "/v1/images", "preprocess", 404), ("GET", "/nothing", "preprocess", 404)])
def test_rest_routes(world, method, path, pool, status):
    request_id = f"route-{method}{path}".replace("/", ".").replace("?", ".").replace("=", ".").replace(":", ".")[:60]
    body, kind = (JPEG, {"Content-Type": "image/jpeg"}) if method == "POST" and path != "/pubsub" else (
        b"{}" if method == "POST" else None, JSON if method == "POST" else {})
    reply = world.gateway.request(method, path, body, kind | {"X-Request-Id": request_id})
    assert reply.status == status, reply
    line = wait_for(lambda: world.gateway.access(request_id=request_id), "the access log")[0]
    assert (line["pool"], line["status"], line["method"], line["path"]) == (pool, status, method, path.partition("?")[0])


def test_the_gateways_own_routes(world):
    assert world.gateway.get("/healthz").json() == {"status": "alive"}
    assert world.gateway.get("/readyz").json() == {"status": "ready"}
    hidden = world.gateway.get("/metrics")
    assert hidden.status == 404 and hidden.json()["request_id"] == hidden.headers["X-Request-Id"]


def test_http2_without_tls(world):
    done = subprocess.run(["curl", "-sS", "--noproxy", "*", "--http2-prior-knowledge", "-o", "/dev/null", "-w",
                           "%{http_code} %{http_version}", "-H", "Content-Type: image/jpeg", "--data-binary", "@-",
                           world.gateway.url + "/preprocess"], input=JPEG, capture_output=True, check=True)
    assert done.stdout == b"200 2"


def test_grpc_reaches_both_services(world):
    with grpc.insecure_channel(f"127.0.0.1:{world.gateway.port}") as channel:
        def call(method, message=b""):
            return channel.unary_unary(method)(message, timeout=60 * SLOW)
        field = bytes([0x0A, len(JPEG) & 0x7F | 0x80, len(JPEG) >> 7]) + JPEG  # `image`, the first of ImageRequest
        assert JPEG[:2] in call("/darkroom.v1.Images/Transform", field)
        assert call("/inference.GRPCInferenceService/ServerReady") == b"\x08\x01"
        assert call("/grpc.health.v1.Health/Check") == b"\x08\x01"
        with pytest.raises(grpc.RpcError) as failed:
            call("/darkroom.v1.Labels/Classify")
        assert failed.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    pools = {line["path"]: line["pool"] for line in world.gateway.log_lines() if "pool" in line}
    assert pools["/darkroom.v1.Images/Transform"] == "preprocess_grpc"
    assert pools["/darkroom.v1.Labels/Classify"] == "classify_grpc"


def make_certificate(folder):
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=gateway",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
                   check=True, capture_output=True)
    (folder / "both.pem").write_bytes(certificate.read_bytes() + key.read_bytes())
    return certificate


def test_tls_limits_and_a_list_of_instances(world, tmp_path):
    """Each is one variable or one line of the configuration."""
    certificate, port = make_certificate(tmp_path), free_port()
    first = world.of("preprocess")[0]
    listed = tmp_path / "haproxy.cfg"
    listed.write_text(CONFIGURATION.read_text().replace(
        'server-template preprocess 20 "${PREPROCESS}"', f"server one {first.host}:{first.port}"))
    gateway = Gateway(tmp_path, world.dns, listed, TLS_CERTIFICATE=tmp_path / "both.pem",
                      TLS_LISTEN=f"127.0.0.1:{port}", CLIENT_REQUESTS=20, CLASSIFY=world.gateway.env["CLASSIFY"],
                      PREPROCESS=world.gateway.env["PREPROCESS"])
    try:
        gateway.start()
        wait_for(lambda: gateway.up("preprocess") == 1, "the instance")
        done = subprocess.run(["curl", "-sS", "--noproxy", "*", "--http2", "--cacert", certificate, "-o", "/dev/null",
                               "-w", "%{http_code} %{http_version}", f"https://127.0.0.1:{port}/openapi.json"],
                              capture_output=True, check=True)
        assert done.stdout == b"200 2"
        with pytest.raises(ssl.SSLError), socket.create_connection(("127.0.0.1", port), 10) as plain:
            old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
            with pytest.deprecated_call():
                old.maximum_version = ssl.TLSVersion.TLSv1_1
            old.wrap_socket(plain)
        replies = [gateway.get("/openapi.json") for _ in range(25)]
        assert replies[0].status == 200 and replies[-1].status == 429
        assert replies[-1].headers["Retry-After"] == "10" and replies[-1].json()["status"] == 429
        assert replies[-1].json()["type"] == "urn:darkroom:problem:too-many"  # as the services say
        assert gateway.get("/healthz").status == 200  # whatever the limits
    finally:
        gateway.stop()


def test_ids_are_kept_and_logged_as_json(world):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    reply = world.gateway.post_image("/preprocess", JPEG, X_Request_Id="mine-1", traceparent=trace)
    assert reply.headers["X-Request-Id"] == "mine-1"
    line = wait_for(lambda: world.gateway.access(request_id="mine-1"), "the access log")[0]
    assert line["traceparent"] == trace and line["client"] == "127.0.0.1" and line["instance"].startswith("127.0.0.")
    instance, = [service for service in world.of("preprocess") if line["instance"].startswith(service.host + ":")]
    seen = wait_for(lambda: [entry for entry in requests_to(instance) if "mine-1" in entry.values()], "its log")[0]
    assert trace.split("-")[1] in json.dumps(seen)
    # what no service would accept is replaced, and no quote breaks the line
    reply = world.gateway.get('/x%22y"z', {"X-Request-Id": 'a"b'})
    assert reply.headers["X-Request-Id"] != 'a"b'
    assert wait_for(lambda: world.gateway.access(request_id=reply.headers["X-Request-Id"]), "the access log")


def test_it_has_metrics(world):
    text = world.gateway.metrics()
    for name in ("haproxy_frontend_http_requests_total", "haproxy_backend_active_servers",
                 "haproxy_server_retry_warnings_total", "haproxy_backend_http_responses_total"):
        assert f"\n{name}{{" in text, name


# ---- instances come and go

def test_a_killed_instance_costs_no_client_an_error(world):
    _, second = world.of("preprocess")[:2]
    with uploads(world):
        place = world.gateway.name_of(second)
        second.process.send_signal(signal.SIGSTOP)  # so that requests are with it when it dies
        wait_for(lambda: world.gateway.sum("haproxy_server_current_sessions", f'server="{place}"'), "requests with it")
        second.kill()
        world.gateway.wait_up(1)
    assert any(int(line["retries"]) > 0 for line in world.gateway.access(path="/preprocess", status=200))
    second.start()
    world.gateway.wait_up(2)


def test_a_new_instance_gets_traffic_and_a_draining_one_none(world, measurement):
    first, second = world.of("preprocess")[:2]
    third = world.instance("preprocess", "127.0.0.4")
    with uploads(world) as ledger:
        begun = time.monotonic()
        world.listed("preprocess", first, second, third)
        wait_for(lambda: requests_to(third), "requests to the third")
        after = time.monotonic() - begun
        third.process.terminate()
        world.gateway.wait_up(2)
        assert third.process.poll() is None, "it was gone before the gateway noticed"
        wait_for(lambda: third.process.poll() is not None, "its end")
        count = len(ledger)
        wait_for(lambda: len(ledger) >= count + 10, "uploads without it")
    assert third.process.returncode == 0
    third.process = None
    world.listed("preprocess", first, second)
    assert {line["status"] for line in requests_to(third)} == {200}  # it refused none
    measurement.must(after < 2 * SLOW, f"the first request came after {after:.1f} s")


def test_a_rolling_restart_loses_nothing(world):
    with uploads(world):
        for service in world.of("preprocess")[:2]:
            service.stop()
            service.start()
            world.gateway.wait_up(2)


# ---- when an instance dies in the middle

class Dying(http.server.BaseHTTPRequestHandler):
    """Ready, but ends the connection of every other request before a reply."""
    protocol_version = "HTTP/1.1"
    seen = collections.Counter()

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def end(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen[f"{self.command} {self.path}"] += 1
        self.close_connection = True

    do_POST = do_PATCH = do_DELETE = end

    def log_message(self, *_):
        pass


def test_only_what_may_be_done_twice_is_sent_twice(tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dying)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with Dns() as dns:
        dns.names |= {"preprocess": ["127.0.0.1"], "classify": []}
        gateway = Gateway(tmp_path, dns, PREPROCESS=f"preprocess:{server.server_port}", CLASSIFY="classify:1")
        try:
            gateway.start()
            wait_for(lambda: gateway.up("preprocess") == 1, "the instance")
            for method, path, size, times in (("POST", "/preprocess", 1000, 5), ("POST", "/process", 1000, 1),
                                              ("PATCH", "/v1/images/x", 10, 1), ("DELETE", "/v1/images/x", 0, 1),
                                              ("POST", "/transform", 200000, 1)):  # more than a buffer
                reply = gateway.request(method, path, bytes(size))
                assert (reply.status, reply.headers["Retry-After"]) == (502, "1"), reply
                assert reply.json()["request_id"] == reply.headers["X-Request-Id"]
                assert Dying.seen[f"{method} {path}"] == times, (method, path, Dying.seen)
            lost = gateway.post_image("/classify", JPEG)
            assert lost.status == 503 and lost.headers["Retry-After"] == "1"
            assert gateway.get("/readyz").status == 503
        finally:
            gateway.stop()
            server.shutdown()
            server.server_close()

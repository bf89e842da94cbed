"""Names that do not resolve, peers that vanish without a word, storage at one byte a second: 503 in time,
nothing acknowledged is lost, and nobody has to do anything."""
import concurrent.futures
import contextlib
import pathlib
import socket
import struct
import subprocess
import threading
import time
import uuid

import pytest

import store_servers
from conftest import SLOW, Measurement, Stack, wait_for
from fault_world import s3_server
from images import coloured_jpeg
from ledger import Bucket, Ledger, Load, all_results, drain
from models import tiny_model
from network import Network, need
from proxy import DRIP, HOLE, PASS, Proxy
from store_servers import servers

pytestmark = [pytest.mark.faults, pytest.mark.once]
QUERY = "?width=64&height=64"
TIMEOUT_MS = 2000
LIMITS = {"REQUEST_TIMEOUT_MS": TIMEOUT_MS}


def s3():
    name = s3_server()
    if name is None:
        pytest.skip("NETWORK FAULTS NOT TESTED: no S3 server at hand")
    return name


def refused_in_time(service, numbers):
    """503 at the deadline, and the rest of the service does not notice."""
    measured, began, slowest = Measurement(), time.monotonic(), 0
    with concurrent.futures.ThreadPoolExecutor(len(numbers)) as pool:
        uploads = [pool.submit(service.upload, coloured_jpeg(n), QUERY) for n in numbers]
        while not all(u.done() for u in uploads):
            asked = time.monotonic()
            assert service.get("/healthz").status == 200
            slowest = max(slowest, time.monotonic() - asked)
            time.sleep(0.05)
        for upload in uploads:
            reply = upload.result()
            assert reply.status == 503 and int(reply.headers["Retry-After"]) >= 1, reply
    took = time.monotonic() - began
    measured.must(slowest < TIMEOUT_MS / 2000 * SLOW and took < TIMEOUT_MS / 1000 + 3 * SLOW,
                  f"refused after {took:.1f} s, health after {slowest:.1f} s")


def acknowledged(ledger, service, numbers):
    """As a client does that repeats what is refused: a busy machine may take longer than TIMEOUT_MS."""
    for n in numbers:
        def taken(n=n):
            reply = service.upload(coloured_jpeg(n), QUERY)
            assert reply.status == 200 or reply.status == 503 and reply.headers["Retry-After"], reply
            return reply.status == 200 and reply
        ledger.record(wait_for(taken, f"upload {n} to be taken"), n)


def settled(ledger, stack):
    all_results(ledger, 120)
    drain(stack.preprocess, 120)
    ledger.check()


# ---- one byte a second, or none

@pytest.fixture
def proxied(tmp_path, services):
    """Both services with a proxy before their storage, and one before the classifier."""
    server, prefix = store_servers.server(s3()), uuid.uuid4().hex[:12] + "/"
    storage = Proxy(server.port)
    env = store_servers.s3_env(server) | LIMITS | {"S3_ENDPOINT": storage.endpoint}
    env["STORAGE_URL"] += "/" + prefix.rstrip("/")
    stack = Stack(tmp_path, env, env | {"MODEL": tiny_model(tmp_path)})
    services.append(stack)
    push = Proxy(stack.classify.port)
    stack.preprocess.env["EVENTS_URL"] = f"push+http://127.0.0.1:{push.port}/pubsub"
    yield stack.start(), storage, push, Ledger(Bucket(servers.boto(server), server.bucket, prefix))
    storage.mood = push.mood = PASS
    storage.close()
    push.close()


@pytest.mark.parametrize("mood", [DRIP, HOLE])
def test_storage_at_one_byte_a_second(proxied, mood):
    stack, storage, push, ledger = proxied
    push.mood = HOLE  # so that results are to be stored when storage is slow
    acknowledged(ledger, stack.preprocess, range(4))
    storage.mood, push.mood = mood, PASS
    refused_in_time(stack.preprocess, range(100, 104))
    assert (storage.dripped > 0) == (mood == DRIP)
    assert stack.preprocess.get("/images/" + next(iter(ledger.acknowledged))).status == 503
    ready = stack.preprocess.get("/readyz")
    assert ready.status == 503 and ready.json()["failing"] == "storage", ready
    wait_for(lambda: stack.preprocess.metric('events_total{outcome="endpoint_error"}') >= 1, "a refused event")
    assert len(ledger.missing()) == 4
    storage.mood = PASS
    acknowledged(ledger, stack.preprocess, range(100, 104))
    wait_for(lambda: stack.preprocess.get("/readyz").status == 200, "readiness")
    settled(ledger, stack)


@pytest.mark.parametrize("mood", [DRIP, HOLE])
def test_a_classifier_at_one_byte_a_second(proxied, mood):
    """Uploads do not care; what was classified already is not classified twice."""
    stack, _, push, ledger = proxied
    push.mood = mood
    acknowledged(ledger, stack.preprocess, range(12))
    if mood == DRIP:
        wait_for(lambda: push.dripped >= 4, "answers to trickle")
    before = ledger.results()
    assert stack.preprocess.metric("outbox_pending") == 12
    push.mood = PASS
    settled(ledger, stack)
    assert before.items() <= ledger.results().items()


def test_connections_stall_now_and_then(proxied):
    """Of both kinds, on both ways, while uploads go on."""
    stack, storage, push, ledger = proxied
    with Load(stack.preprocess, ledger, 150, 6, coloured=coloured_jpeg, query=QUERY) as load:
        moods = [DRIP, PASS, HOLE, PASS]
        while load.running():
            storage.mood, push.mood = moods[0], moods[1]
            moods.append(moods.pop(0))
            time.sleep(0.3)
        storage.mood = push.mood = PASS
    settled(ledger, stack)


# ---- peers that are gone

@pytest.fixture
def apart(tmp_path, services):
    """Services and storage on hosts of their own."""
    need()
    with Network(("preprocess", "classify", "storage")) as network:
        server = store_servers.SERVERS[s3()](tmp_path / "server")
        server.host, server.prefix = network.address("storage"), network.run("storage")
        with server:
            env = store_servers.s3_env(server) | LIMITS
            stack = Stack(tmp_path, env, env | {"MODEL": tiny_model(tmp_path)})
            for name, service in (("preprocess", stack.preprocess), ("classify", stack.classify)):
                service.host, service.prefix = network.address(name), network.run(name)
                service.env["HOST"] = service.host
            stack.preprocess.env["EVENTS_URL"] = f"push+{stack.classify.url}/pubsub"
            yield network, server, stack, Ledger(Bucket(servers.boto(server), server.bucket))
            network.mend()
            stack.stop()


def kept_connections(service, host):
    """How many it has to that host: asked of the kernel, where the service lives."""
    lines = pathlib.Path(f"/proc/{service.process.pid}/net/tcp").read_text().splitlines()[1:]
    wanted = f"{struct.unpack('=I', socket.inet_aton(host))[0]:08X}:"
    established = "01"
    return sum(words[2].startswith(wanted) and words[3] == established for words in map(str.split, lines))


@pytest.mark.namespaces
def test_half_open_connections(apart):
    """Both peers die behind a cut cable and are started again: the kept connections lead nowhere, and
    whoever uses them has heard nothing."""
    network, server, stack, ledger = apart
    stack.start()
    acknowledged(ledger, stack.preprocess, range(4))
    settled(ledger, stack)
    assert kept_connections(stack.preprocess, server.host) and kept_connections(stack.classify, server.host)
    for a, b in (("preprocess", "storage"), ("classify", "storage"), ("preprocess", "classify")):
        network.cut(a, b)
    server.kill()
    server.start()
    stack.classify.kill()
    stack.classify.start()
    assert kept_connections(stack.preprocess, server.host) and kept_connections(stack.preprocess, stack.classify.host)
    refused_in_time(stack.preprocess, range(100, 104))
    network.mend()
    acknowledged(ledger, stack.preprocess, range(100, 104))  # at once
    settled(ledger, stack)


@pytest.mark.namespaces
def test_clients_that_are_gone(apart):
    """In the middle of a body, and between requests; their resets never arrive."""
    network, _, stack, ledger = apart
    stack.start()
    clients = []
    for n in range(20):
        client = socket.create_connection((stack.preprocess.host, stack.preprocess.port))
        client.sendall(b"POST /preprocess HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 1000\r\n\r\n"
                       + b"x" * 500 if n % 2 else b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        clients.append(client)
    wait_for(lambda: stack.preprocess.metric("body_bytes_in_flight") > 0, "the bodies")
    network.cut("preprocess", "hub")
    for client in clients:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    network.mend()
    stack.preprocess.settles("body_bytes_in_flight", 0)
    acknowledged(ledger, stack.preprocess, range(4))
    settled(ledger, stack)


# ---- names

class NameServer:
    """A records of `names`, on port 53 of this network; broken as `mood` says for those in `broken`."""

    def __init__(self, address, names):
        self.names, self.broken, self.mood, self.asked = names, set(), "", 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 53))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                query, peer = self.socket.recvfrom(512)
                reply = len(query) > 16 and self.answer(query)  # else it is no question
                if reply:
                    self.socket.sendto(reply, peer)

    def answer(self, query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        question, kind = query[12:at + 5], query[at + 1:at + 3]
        name = ".".join(labels)
        if name in self.broken:
            self.asked += 1
            if self.mood == "silent":
                return None
            code = {"servfail": 2, "nxdomain": 3, "refused": 5}[self.mood]
            return query[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, 0, 0, 0) + question
        records = b""
        if kind == b"\0\1" and name in self.names:
            records = b"\xc0\x0c\0\1\0\1" + struct.pack(">IH", 0, 4) + socket.inet_aton(self.names[name])
        return query[:2] + struct.pack(">HHHHH", 0x8180, 1, bool(records), 0, 0) + question + records

    def close(self):
        self.socket.close()


@pytest.fixture
def private_mounts():
    """The beginning of a command line whose mounts are its own."""
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True)
    if done.returncode != 0:  # in a chroot, whose root is no mount point
        pytest.skip(f"NAMES THAT DO NOT RESOLVE NOT TESTED: {done.stderr.strip()}")
    return ["unshare", "--mount"]


RESOLV_CONF = 'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'


@pytest.mark.namespaces
@pytest.mark.long
@pytest.mark.parametrize("mood", ["nxdomain", "servfail", "refused", "silent"])
def test_names_do_not_resolve(private_mounts, apart, tmp_path, mood):
    network, server, stack, ledger = apart
    storage, classify = "storage.darkroom.test", "classify.darkroom.test"
    names = NameServer(network.address("hub"), {storage: server.host, classify: stack.classify.host})
    names.mood = mood
    conf = tmp_path / "resolv.conf"
    conf.write_text(f"nameserver {network.address('hub')}\noptions timeout:1 attempts:2\n")
    for service in (stack.preprocess, stack.classify):
        service.prefix = service.prefix + [*private_mounts, "sh", "-c", RESOLV_CONF, "sh", conf]
        service.env["S3_ENDPOINT"] = f"http://{storage}:{server.port}"
    stack.preprocess.env["EVENTS_URL"] = f"push+http://{classify}:{stack.classify.port}/pubsub"

    names.broken = {storage, classify}  # from the start
    stack.start()
    refused_in_time(stack.preprocess, range(100, 104))
    assert names.asked
    names.broken = {classify}
    acknowledged(ledger, stack.preprocess, range(6))
    wait_for(lambda: stack.preprocess.metric('events_total{outcome="endpoint_error"}') >= 2, "some attempts")
    assert len(ledger.missing()) == 6
    names.broken = {storage}
    for service in (stack.preprocess, stack.classify):  # they remember what they resolved
        service.kill()
        service.start()
    refused_in_time(stack.preprocess, range(100, 104))
    assert stack.preprocess.metric("outbox_dead") == 0
    names.broken = set()
    acknowledged(ledger, stack.preprocess, range(100, 104))
    settled(ledger, stack)
    names.close()

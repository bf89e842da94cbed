"""Very many at once, and far more than there is capacity for: thousands of idle connections, clients that
vanish, readers that do not read, and an open loop of uploads (tests/bench/overload.py, in short)."""
import contextlib
import os
import pathlib
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import time

import pytest
from PIL import Image

import network
from conftest import BUILD, ROOT, Service, wait_for
from images import encode
from raw_clients import Http1
from test_overload import JPEG, assert_health_is_quick, assert_back_to, base_values, in_threads
from test_overload import protocol, start  # noqa: F401 (fixtures)

sys.path.insert(0, str(ROOT / "tests/bench"))
import overload  # noqa: E402


def threads_of(service):
    return len(os.listdir(f"/proc/{service.process.pid}/task"))


@pytest.fixture
def descriptors():
    """Raise this process's limit; a test that needs more than there may be is skipped."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def at_least(n):
        if before[1] != resource.RLIM_INFINITY and before[1] < n:
            pytest.skip(f"the limit on descriptors is {before[1]}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], n), before[1]))

    yield at_least
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.once
def test_5000_idle_connections(start, protocol, descriptors, record_property):  # noqa: F811
    """Each with a request behind it. Nobody is closed, health is quick, and work is done."""
    descriptors(6500)
    service = start(MAX_CONNECTIONS=6000)
    base, threads, memory = base_values(service), threads_of(service), service.memory_kb("Pss_Anon")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(protocol(service)) for _ in range(5000)]
        for client in clients:
            client.get("/healthz")
        for client in clients:
            assert client.reply()[0] == 200
        assert service.metric("connections") >= 5000
        latency = assert_health_is_quick(service)
        assert service.upload(JPEG).status == 200
        kb = service.memory_kb("Pss_Anon") - memory
        print(f"\n5000 idle connections: health {latency:.1f} ms, {kb} KiB more PSS")
        record_property("pss_kb", kb)
        for client in clients[::500]:
            client.get("/healthz")
            assert client.reply()[0] == 200
    assert_back_to(service, base, timeout=30)
    wait_for(lambda: threads_of(service) <= threads, "their threads to end", 30)


def test_1000_clients_that_vanish_in_the_middle_of_an_upload(start, protocol):  # noqa: F811
    """A hundred at a time; every other one with a reset. They leave no thread, descriptor or byte."""
    service = start()
    assert service.upload(JPEG).status == 200
    base, threads = base_values(service), threads_of(service)
    body = JPEG + bytes(150_000)
    for wave in range(10):
        clients = [protocol(service) for _ in range(100)]
        for client in clients:
            client.post(2 * len(body), first=body)
        if wave == 0:
            wait_for(lambda: service.metric("body_bytes_in_flight") >= 100 * 65536, "a hundred bodies under way")
        for i, client in enumerate(clients):
            if i % 2:
                client.abort()
            else:
                client.close()
    assert_back_to(service, base, timeout=20)
    wait_for(lambda: threads_of(service) <= threads, "their threads to end", 20)
    assert service.metric("worker_busy") == service.metric("worker_queue_depth") == 0
    assert service.upload(JPEG).status == 200


@pytest.fixture
def narrow(tmp_path, services):
    """A service on a host whose sockets send from 16 KiB, in a network of our own."""
    network.need()
    with network.Network(["service"]) as net:
        subprocess.run([*net.run("service"), "sh", "-c", "echo 4096 16384 16384 >/proc/sys/net/ipv4/tcp_wmem"], check=True)
        service = Service("preprocess-service", tmp_path, EVENTS_URL="none:", HOST="0.0.0.0")
        service.host, service.prefix = net.address("service"), net.run("service")
        services.append(service)
        yield service.start()
        services.remove(service)
        service.stop()


@pytest.mark.namespaces
@pytest.mark.once
@pytest.mark.long
def test_a_reply_that_is_not_read_ends(narrow, protocol):  # noqa: F811
    """30 s, and longer only by what the reply's length takes at 16 KiB/s. Some 40 s of waiting, for all
    three readers at once; nobody else waits."""
    noise = encode(Image.frombytes("RGB", (300, 150), os.urandom(300 * 150 * 3)), "PNG", compress_level=0)
    image = "/images/" + narrow.upload(noise, "?width=300&height=150&format=png", "image/png").json()["id"]
    size = len(narrow.get(image).body)
    limit = 30 + size / 16_000
    base = base_values(narrow)

    def ask(window):
        client = protocol(narrow, receive_buffer=window)
        client.sock.settimeout(2 * limit)
        client.get(image)
        return client, time.monotonic()

    def cut_off(client, started, got):
        """What the kernel still has comes, and then an end, much too soon."""
        seconds = time.monotonic() - started
        assert limit - 1 < seconds < limit + 6, seconds
        assert got + client.rest() < size

    def reads_nothing():
        client, started = ask(2048)
        with client:
            wait_for(lambda: narrow.metric("body_bytes_in_flight") >= 2 * size, "both replies under way")
            wait_for(lambda: narrow.metric("body_bytes_in_flight") == 0, "the server to give up", limit + 10)
            cut_off(client, started, 0)

    def reads_a_byte_now_and_then():
        client, started = ask(2048)
        with client:
            got = 0
            while time.monotonic() - started < limit + 2:
                got += client.take(1)
                time.sleep(0.2)
            cut_off(client, started, got)

    def reads_slowly_but_enough():
        client, _ = ask(None if protocol is Http1 else 6000)
        with client:
            got = 0
            while got < size:
                taken = client.take(6000)
                assert taken, f"cut off after {got} bytes"
                got += taken
                time.sleep(0.25)

    def health():
        for _ in range(10):
            assert_health_is_quick(narrow)
            time.sleep(1)

    in_threads(reads_nothing, reads_a_byte_now_and_then, reads_slowly_but_enough, health)
    assert_back_to(narrow, base)


@pytest.fixture
def quick_disk(tmp_path):
    """A folder in memory: how others load the disk is not what is measured."""
    shared = "/dev/shm" if os.path.isdir("/dev/shm") else tmp_path
    with tempfile.TemporaryDirectory(dir=shared, ignore_cleanup_errors=True) as folder:
        yield pathlib.Path(folder)


def overload_complaints(result):
    """Bounds that hold on a machine that others load, too: medians, not the 99th percentile."""
    over, health = result["overload"], result["health_ms"]
    unloaded = result["unloaded"]["latency_ms"]["p99"]
    most = 2 * (unloaded + (result["queue_max"] / result["workers"] + 1) * overload.mean_service_ms(result))
    checks = {"refused late": over["refused_ms"]["p50"] < 250, "health": health["p50"] < 50,
              "goodput": over["corrected_per_second"] > 0.5 * overload.capacity_of(result),
              "accepted late": over["latency_ms"]["p50"] <= most, "recovery": result["recovery_s"] < 10,
              "memory": result["memory_mb"] <= overload.MEMORY_MB}
    return [name for name, met in checks.items() if not met]


@pytest.mark.measures_time
@pytest.mark.once
def test_ten_times_more_than_there_is_capacity_for(quick_disk, measurement):
    """`make overload` in short: everybody is told, soon; what was accepted is done, and it is over at once."""
    if BUILD.name != "release":
        pytest.skip("figures are of the release build")
    for _ in range(3):
        run = overload.Overload(quick_disk, workers=2, queue=16)
        try:
            result = run.measure(seconds=4, capacity_s=1.5)
        finally:
            run.service.stop()
        overload.report(result)
        over = result["overload"]
        assert over["failed"] == over["without_retry_after"] == result["health_ms"]["failed"] == 0, over
        assert over["refused"] > over["requests"] > 0
        complaints = overload_complaints(result)
        if not complaints:
            return
    measurement.must(False, ", ".join(complaints))

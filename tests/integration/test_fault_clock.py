"""Clocks that jump by a day, forwards and backwards, in either service or both, while uploads go on.
libfaketime moves the services' clocks; the machine's own is never touched."""
import contextlib
import email.utils
import itertools
import pathlib
import random
import time
import uuid

import pytest

import fault_world
import store_servers
from conftest import Service, Stack, wait_for
from endpoint import Endpoint
from images import coloured_jpeg
from ledger import Bucket, Ledger, Load, all_results, drain
from models import tiny_model
from store_servers import servers

# once: libfaketime cannot be loaded before a sanitizer
pytestmark = [pytest.mark.faults, pytest.mark.once]
QUERY = "?width=64&height=64"
DAY = 86400
JUMPS = (-DAY, 0, DAY)
UPLOADS = 400 if fault_world.ROUND_COUNT else 40
SKEWED = [(name, signature) for name, signature in (("minio", "v4"), ("versitygw", "v4"), ("swift", "v2"))
          if not store_servers.why_not(name)]
LIBRARIES = list(pathlib.Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


class Clock:
    """What a service takes for the time of day. Timers (the monotonic clock) and the times of files stay."""

    def __init__(self, path):
        if not LIBRARIES:
            pytest.skip("CLOCK FAULTS NOT TESTED: install libfaketime")
        self.path = path
        self.jump(0)
        self.env = {"LD_PRELOAD": LIBRARIES[0], "FAKETIME_TIMESTAMP_FILE": path, "FAKETIME_NO_CACHE": "1",
                    "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}

    def jump(self, seconds):
        other = self.path.with_suffix(".new")
        other.write_text(f"{seconds:+d}\n")
        other.rename(self.path)


@pytest.fixture
def clocks(tmp_path):
    yield [Clock(tmp_path / f"{name}.clock") for name in ("preprocess", "classify")]
    for left in pathlib.Path("/dev/shm").glob("*faketime_*"):  # by services that were killed
        if not pathlib.Path("/proc", left.name.rsplit("_", 1)[1]).exists():
            left.unlink(missing_ok=True)


def make_stack(tmp_path, services, clocks, env):
    services.append(Stack(tmp_path, clocks[0].env | env, clocks[1].env | env | {"MODEL": tiny_model(tmp_path)}))
    return services[-1].start()


def tells(service, seconds):
    """Whether its clock is so far ahead of ours."""
    told = email.utils.parsedate_to_datetime(service.get("/healthz").headers["Date"]).timestamp()
    return abs(told - time.time() - seconds) < 600


def settled(ledger, stack, temporaries=0):
    all_results(ledger)
    drain(stack.preprocess)
    ledger.check(temporaries)


def test_jumps_under_load(tmp_path, services, clocks):
    """And a service is killed now and then: it starts again on another day."""
    rng = random.Random(fault_world.SEED)
    print(f"SEED={fault_world.SEED}")
    stack, ledger, kills = make_stack(tmp_path, services, clocks, {}), Ledger(tmp_path / "objects"), 0
    with Load(stack.preprocess, ledger, UPLOADS, 6, coloured=coloured_jpeg, query=QUERY) as load:
        for n in itertools.count():
            rng.choice(clocks).jump(rng.choice(JUMPS))
            time.sleep(rng.uniform(0, 0.15))
            if n % 4 == 3:
                victim = rng.choice([stack.preprocess, stack.classify])
                victim.kill()
                victim.start()
                kills += 1
            if n >= 12 and not load.running():
                break
    settled(ledger, stack, temporaries=10 * kills)


@pytest.mark.parametrize("before, after", [(DAY, -DAY), (-DAY, DAY)], ids=["back", "ahead"])
def test_waiting_events(tmp_path, services, clocks, before, after):
    """What was to be delivered soon, and what was refused and put off, is delivered soon whatever the clock
    says now; nothing is given up for its age."""
    clock, endpoint = clocks[0], Endpoint(lambda envelope: 400)
    with contextlib.closing(endpoint):
        services.append(Service("preprocess-service", tmp_path, MAX_DELIVERY_ATTEMPTS=50, **clock.env,
                                EVENTS_URL=f"push+http://127.0.0.1:{endpoint.port}/pubsub"))
        service, ledger = services[-1].start(), Ledger(tmp_path / "objects")
        clock.jump(before)
        for n in range(10):
            ledger.record(service.upload(coloured_jpeg(n), QUERY), n)
        wait_for(lambda: endpoint.count(400) >= 30, "refusals")
        wait_for(lambda: tells(service, before), "the clock")
        clock.jump(after)
        endpoint.answer = lambda envelope: 204
        wait_for(lambda: endpoint.count(204) >= 10, "the deliveries")
        wait_for(lambda: tells(service, after), "the clock")
        drain(service)
        assert set(endpoint.message_ids(204)) == set().union(*ledger.message_ids.values())


@pytest.mark.parametrize("name, signature", SKEWED)
def test_storage_has_another_time(tmp_path, services, clocks, name, signature):
    """Signatures are made for the server's time, which it tells when it refuses ours."""
    server, prefix = store_servers.server(name), uuid.uuid4().hex[:12] + "/"
    env = store_servers.s3_env(server, signature)
    env["STORAGE_URL"] += "/" + prefix.rstrip("/")
    stack = make_stack(tmp_path, services, clocks, env)
    ledger, numbers = Ledger(Bucket(servers.boto(server), server.bucket, prefix)), itertools.count()
    for *jumps, restart in ((DAY, 0, False), (DAY, -DAY, False), (-DAY, DAY, True), (0, 0, True)):
        for clock, seconds, service in zip(clocks, jumps, (stack.preprocess, stack.classify)):
            clock.jump(seconds)
            if restart:
                service.kill()
                service.start()
        for n in itertools.islice(numbers, 3):
            ledger.record(stack.preprocess.upload(coloured_jpeg(n), QUERY), n)
        all_results(ledger)
    settled(ledger, stack)

"""More instances do more, until the processors are used. Each instance is a small machine: it gets a share of two
processors, and whatever it does is paid from that."""
import contextlib
import os
import signal
import subprocess
import threading
import time

import pytest

from conftest import BUILD, SLOW, wait_for
from gateway_world import World, processor_s
from images import encode, gradient

SHARE = 0.15  # of all processors, so that seven instances use them up
TICK_S, BURST_S = 0.005, 0.02
WINDOW_S = 1.5 * SLOW
STEPS = (1, 2, 4, 8)

pytestmark = [pytest.mark.once, pytest.mark.measures_time]


class Budget(threading.Thread):
    """Stops an instance when it has used more than its share of a processor, and lets it go on when that is paid
    back. It takes no privilege, as a limit by cgroup would."""

    def __init__(self, services, share):
        super().__init__(daemon=True)
        self.pids, self.share, self.over = [service.processes() for service in services], share, threading.Event()

    def run(self):
        credit = [0.0 for _ in self.pids]
        stopped, used, then = [False for _ in self.pids], [processor_s(pids) for pids in self.pids], time.monotonic()
        while not self.over.wait(TICK_S):
            now = time.monotonic()
            for n, pids in enumerate(self.pids):
                seconds = processor_s(pids)
                credit[n] = min(BURST_S, credit[n] + self.share * (now - then) - (seconds - used[n]))
                used[n] = seconds
                if stopped[n] != (credit[n] < 0):
                    stopped[n] = not stopped[n]
                    self.signal(pids, signal.SIGSTOP if stopped[n] else signal.SIGCONT)
            then = now

    @staticmethod
    def signal(pids, number):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()
        for pids in self.pids:
            self.signal(pids, signal.SIGCONT)


class Sample:
    def __init__(self, world, pool):
        self.when = time.monotonic()
        self.done = world.gateway.sum("haproxy_backend_http_responses_total", f'proxy="{pool}"', 'code="2xx"')
        self.used_s = [processor_s(service.processes()) for service in world.of(pool)]

    def since(self, then):
        """(uploads a second, processors that each instance used)"""
        seconds = self.when - then.when
        return (self.done - then.done) / seconds, [(b - a) / seconds for a, b in zip(then.used_s, self.used_s)]


def measure(world, pool, path, photo, share):
    """What the listed instances do in a while, with more clients than they can serve."""
    services = [service for service in world.of(pool) if service.host in world.dns.names[pool]]
    world.gateway.wait_up(len(services), pool)
    load = subprocess.Popen([BUILD / "bench/load", "--port", str(world.gateway.port), "--path", path, "--connections",
                             "24", "--seconds", "600", "--timeout", "700", photo], stdout=subprocess.DEVNULL)
    try:
        with Budget(services, share):
            begun = Sample(world, pool)
            # past the first burst, and all have work
            wait_for(lambda: Sample(world, pool).done >= begun.done + 3 * len(services), "the load")
            first = Sample(world, pool)
            time.sleep(WINDOW_S)
            return Sample(world, pool).since(first)
    finally:
        load.kill()
        load.wait()


@pytest.fixture(name="processors")
def fixture_processors():
    """How many there are for all that the test starts: at most two, whatever machine this is."""
    all_of_them = os.sched_getaffinity(0)
    ours = sorted(all_of_them)[:2]
    os.sched_setaffinity(0, ours)
    yield len(ours)
    os.sched_setaffinity(0, all_of_them)


@pytest.mark.parametrize("pool, path", [("preprocess", "/preprocess?width=512&format=webp"), ("classify", "/classify")])
def test_more_instances_do_more_until_the_processors_are_used(tmp_path, processors, measurement, pool, path):
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(encode(gradient(640, 480), quality=90))
    addresses = [f"127.0.0.{2 + n}" for n in range(max(STEPS))]
    share = SHARE * processors
    with World(tmp_path) as world:
        for address in addresses:
            world.instance(pool, address, SHUTDOWN_NOTICE_MS=0)
        world.gateway.start()
        rates, used = {}, {}
        for count in STEPS:
            world.listed(pool, *world.of(pool)[:count])
            rates[count], each = measure(world, pool, path, photo, share)
            used[count] = sum(each[:count])
            print(f"{pool}: {count} instances, each with {share:.2f} of {processors} processors: "
                  f"{rates[count]:.1f} a second, {used[count]:.2f} processors in use, "
                  f"{used[count] / rates[count] * 1000:.1f} ms each")
            assert min(each[:count]) > 0, f"some have no work: {each}"
            measurement.must(min(each[:count]) >= 0.5 * used[count] / count, f"some have less work: {each}")
    for count in STEPS[1:]:
        # one among many does no less with a second of a processor than one alone
        measurement.must(rates[count] / used[count] >= 0.7 * rates[1] / used[1], f"{count} instances: {rates}, processors: {used}")
    for count in STEPS:
        measurement.must(used[count] <= 1.2 * share * count, f"more than its share: {used}")
    for fewer, count in zip(STEPS, STEPS[1:-1]):
        measurement.must(rates[count] >= 1.6 * rates[fewer], f"{count} instances: {rates}, processors: {used}")
    # now there is nothing left to grow into, and nothing breaks down
    assert used[STEPS[-1]] < 1.02 * processors
    measurement.must(rates[STEPS[-1]] >= 0.9 * rates[STEPS[-2]], f"{rates}, processors: {used}")

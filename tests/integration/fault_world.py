"""Both services, the storage they use and the network between them, and what can happen to all of these
while clients upload. Whatever was killed is started again, as a supervisor would, and nothing else is
ever done to help.

    SEED=n          the random choices (default: new ones each time, by conftest.py; printed at the end)
    FAULT_ROUNDS=n  rounds in all, of 1,000 uploads, or 10,000 for `engines` (default: five, of some hundreds)
"""
import collections
import http.client
import importlib.util
import os
import random
import shutil
import signal
import subprocess
import threading
import time

import pytest

import gateway_world
import network
import rabbitmq
import store_servers
from conftest import BUILD, Stack, wait_for
from disk import ENOSPC, WRITE, Disk
from images import coloured_jpeg
from ledger import Bucket, Directory, Ledger, Load, all_results, drain
from models import tiny_model
from postgres import Postgres
from proxy import HOLE, PASS, Proxy
from store_servers import servers

SEED = int(os.environ["SEED"])
SMALL = BUILD.name in ("asan", "tsan")
ROUND_COUNT = int(os.environ.get("FAULT_ROUNDS") or 0)
UPLOADS = 1000 if ROUND_COUNT else 150 if SMALL else 300
THREADS = 8
QUERY = "?width=64&height=64"
PATIENCE_S = 120
TOTALS = collections.Counter()
KINDS = collections.Counter()


def s3_server():
    """The first at hand. MinIO is what people run, so it comes first."""
    return next((name for name in ("minio", "versitygw", "swift") if not store_servers.why_not(name)), None)


class World:
    """On a directory: only the services can be killed, the outbox damaged and the disk full."""
    storage = "a directory"
    immutable = True  # a result stays as it is, whatever duplicates come
    uploads = UPLOADS
    most_faults = 200  # on a busy machine faults must not go on faster than what they interrupt
    refusals = (503,)  # what clients repeat
    pace_s = 0.0  # between a client's uploads
    ledger = ()
    slowest_start_s = 0.0
    disk = None

    def __init__(self, folder, services, seed):
        self.folder, self.random, self.counts = folder, random.Random(seed), collections.Counter()
        env = self.make_storage()
        self.stack = self.make_stack(env | self.make_own(), env | {"MODEL": tiny_model(folder)})
        services.append(self.stack)
        self.faults = [self.kill_service] * 3
        if self.random.random() < 0.3:  # not always: after it everything without a result is announced again
            self.faults.append(self.damage_outbox)

    def make_storage(self):
        self.ledger = Ledger(Directory(self.folder / "objects"))
        return {}

    def make_own(self):
        """The environment of preprocess_service alone."""
        if SMALL:  # the shim cannot be loaded before a sanitizer
            return {}
        self.disk = Disk(self.folder)
        return self.disk.env

    def make_stack(self, preprocess_env, classify_env):
        return Stack(self.folder, preprocess_env, classify_env)

    @property
    def front(self):
        """What clients talk to."""
        return self.stack.preprocess

    def instances(self, name=""):
        """All that is killed like a service; of one kind by its name."""
        return [service for service in (self.stack.preprocess, self.stack.classify) if service.name.startswith(name)]

    def start(self):
        if self.disk:
            self.faults += [self.fill_disk] * 2
        self.stack.start()

    def stop(self):
        self.stack.stop()

    def pause(self, most):
        time.sleep(self.random.uniform(0, most))

    def revive(self, service):
        began = time.monotonic()
        service.start(PATIENCE_S)
        self.slowest_start_s = max(self.slowest_start_s, time.monotonic() - began)

    # ---- faults

    def kill_service(self):
        victim = self.random.choice(self.instances())
        victim.kill()
        self.counts["kills of " + victim.name] += 1
        self.pause(0.2)
        if self.random.random() < 0.2:  # and again while it starts
            victim.launch()
            self.pause(0.1)
            victim.kill()
            self.counts["kills of " + victim.name] += 1
        self.revive(victim)

    def damage_outbox(self):
        """Killed, and its file has garbage in it: what is lost is found again in the store."""
        service = self.random.choice(self.instances("preprocess"))
        service.kill()
        self.counts["kills of " + service.name] += 1
        path = service.folder / "outbox.db"
        at = self.random.choice([0, self.random.randrange(path.stat().st_size)])
        with open(path, "r+b") as f:
            f.seek(at)
            f.write(self.random.randbytes(20_000))
        self.counts["damaged outboxes"] += 1
        self.revive(service)

    def fill_disk(self):
        """Of objects, outbox or catalogue, or of all; sometimes the service dies meanwhile."""
        name = self.random.choice(["objects", "outbox.db", "catalogue.db", "[oc]"])
        self.disk.fail(WRITE, ENOSPC, f"{self.folder}/{name}*", torn=self.random.random() < 0.5)
        self.counts["full disks"] += 1
        self.pause(0.6)
        killed = self.random.random() < 0.3
        if killed:
            self.stack.preprocess.kill()
            self.counts["kills of " + self.stack.preprocess.name] += 1
        self.counts["writes without room"] += self.disk.failed
        self.disk.mend()
        if killed:
            self.revive(self.stack.preprocess)

    # ---- a round

    def assert_nobody_gave_up(self):
        for service in self.instances():
            assert service.process.poll() is None, f"{service.name} ended by itself: {service.process.returncode}"

    def assert_untouched(self, before):
        after = self.ledger.results()
        changed = {key: (version, after.get(key)) for key, version in before.items() if after.get(key) != version}
        assert not changed, f"{len(changed)} results were written again: {dict(list(changed.items())[:3])}"

    def run(self, fewest=10):
        uploads, faults = self.uploads, 0
        with Load(self.front, self.ledger, uploads, THREADS, coloured=coloured_jpeg, query=QUERY,
                  patience=PATIENCE_S, refusals=self.refusals, pace_s=self.pace_s) as load:
            # also while the last events are being delivered
            while faults < fewest or (load.running() and faults < self.most_faults):
                self.pause(0.3)
                self.random.choice(self.faults)()
                self.assert_nobody_gave_up()
                faults += 1
        self.counts["attempts"] = len(load.attempts)
        assert len(self.ledger) == uploads, f"{len(self.ledger)} acknowledged"
        self.settle()

    def wait_until_up(self):
        for service in self.instances():
            service.wait_alive(PATIENCE_S)

    def drain(self):
        """Until no event is under way."""
        for service in self.instances("preprocess"):
            drain(service, PATIENCE_S)

    def settle(self):
        """All is well again: then everything that was promised is there, and stays."""
        self.wait_until_up()
        before = self.ledger.results() if self.immutable else {}
        all_results(self.ledger, PATIENCE_S)
        self.drain()
        self.assert_untouched(before)
        before = self.ledger.results()
        for n in range(0, len(self.ledger), 50):  # duplicates: the object, its event and its result again
            self.ledger.upload(self.front, coloured_jpeg(n), QUERY)
        self.drain()
        self.assert_untouched(before)
        self.delete_some()
        self.wait_until_up()
        self.assert_nobody_gave_up()
        kills = sum(n for name, n in self.counts.items() if name.startswith("kills"))
        self.ledger.check(temporaries=kills * (THREADS + 4))
        self.ledger.check_listed(self.front, PATIENCE_S)
        self.check_rebuild()

    def delete_some(self, faults=3):
        """Every tenth picture, while what deletes them dies: client after client asks until it is gone."""
        ids = list(self.ledger.acknowledged)[::10]
        failures = []

        def delete():
            try:
                for id in ids:
                    self.delete(id)
            except AssertionError as why:
                failures.append(why)
        thread = threading.Thread(target=delete)
        thread.start()
        for _ in range(faults):
            self.pause(0.1)
            self.random.choice(self.faults)()
        thread.join()
        assert not failures, failures
        self.ledger.forget(ids)
        self.counts["deletions"] += len(ids)

    def delete(self, id):
        deadline, answered = time.monotonic() + PATIENCE_S, True
        while True:
            assert time.monotonic() < deadline, f"never deleted: {id}"
            try:
                status = self.front.request("DELETE", f"/v1/images/{id}").status
            except (OSError, http.client.HTTPException):
                answered = False
                time.sleep(0.02)
                continue
            # one that was not answered may have been done
            assert status in (204, *self.refusals) or (status == 404 and not answered), (id, status)
            if status not in self.refusals:
                return
            answered = False
            time.sleep(0.02)

    def check_rebuild(self):
        """The store's listing, seen by the service's own command, has what the catalogue has."""
        if not isinstance(self.ledger.view, Directory):
            return
        done = subprocess.run([self.stack.preprocess.program, "--catalogue", "rebuild"], text=True, check=True,
                              env=self.stack.preprocess.env, cwd=self.folder, capture_output=True, timeout=PATIENCE_S)
        assert done.stdout == "0 added, 0 removed\n", done


class OnPostgres(World):
    """The catalogue is PostgreSQL's, which is killed, too."""

    def make_own(self):
        self.database = Postgres(fsync=True).start()
        self.uploads = UPLOADS if ROUND_COUNT else UPLOADS // 2
        return super().make_own() | {"CATALOGUE_URL": self.database.new_database()}

    def start(self):
        self.faults += [self.kill_database] * 3
        super().start()

    def stop(self):
        super().stop()
        self.database.remove()

    def kill_database(self):
        self.database.stop(signal.SIGKILL)
        self.counts["kills of PostgreSQL"] += 1
        self.pause(0.3)
        self.database.start()


class OnBroker(World):
    """Events go through RabbitMQ, which is killed, too, and the network to it is cut. It starts in five seconds."""

    def make_own(self):
        import broker  # pylint: disable=import-outside-toplevel # which skips, here and not for all kinds, without pika
        self.look, self.broker = broker, broker.new_broker(self.folder / "broker").start()
        self.cables = {name: Proxy(self.broker.port) for name in ("preprocess", "classify")}
        return super().make_own()

    def url_for(self, name):
        """By its cable. Silence is noticed after two heartbeats."""
        return self.broker.url_at(self.cables[name].port) + "?heartbeat=1"

    def waiting(self):
        return self.look.count(self.broker, self.look.IMAGES)

    def use_broker(self):
        self.stack.preprocess.env["EVENTS_URL"] = self.url_for("preprocess")
        self.stack.classify.env["SOURCE_URL"] = self.url_for("classify")

    def start(self):
        self.use_broker()
        self.faults = [self.kill_service] * 3 + [self.kill_broker] * 2 + [self.cut_cable] * 2  # there is no outbox
        super().start()
        wait_for(lambda: self.waiting() == 0, "the queue")

    def stop(self):
        super().stop()
        for cable in self.cables.values():
            cable.close()
        self.broker.stop()

    def kill_broker(self):
        self.broker.kill()
        self.counts["kills of RabbitMQ"] += 1
        self.pause(0.3)
        self.broker.start()

    def cut_cable(self):
        """To all services of a kind; sometimes one of them or the broker dies meanwhile. What was sent before arrives
        when it is mended, or never."""
        cable = self.random.choice(list(self.cables.values()))
        cable.mood = HOLE
        self.counts["cuts"] += 1
        self.pause(4)
        if self.random.random() < 0.4:
            self.random.choice([self.kill_service, self.kill_broker])()
        cable.mood = PASS
        self.wait_until_up()

    def drain(self):
        """What a consumer has taken and not acknowledged is counted by nobody until the consumer has gone."""
        while True:
            wait_for(lambda: self.waiting() == 0, "the queue to be empty", PATIENCE_S)
            for service in self.instances("classify"):
                service.stop()
            left = self.waiting()
            for service in self.instances("classify"):
                service.start()
            if left == 0:
                break
        assert self.look.count(self.broker, self.look.DEAD) == 0


class OnServer(World):
    """On a storage server, which is killed, too."""
    name, signature = None, "v4"

    def make_storage(self):
        name = self.name or s3_server()
        if name is None or store_servers.why_not(name):
            pytest.skip(f"FAULTS NOT TESTED on {name or 'S3'}: {store_servers.why_not(name or 'minio')}")
        self.server = store_servers.SERVERS[name](self.folder / "server")
        self.storage = self.server.version()
        if name == "swift":  # slow, and of two writers at once the last one wins
            self.uploads, self.immutable = UPLOADS if ROUND_COUNT else UPLOADS // 6, False
            self.most_faults = self.uploads // 8
        return self.where_storage_is()

    def make_own(self):
        return {}

    def where_storage_is(self):
        return store_servers.s3_env(self.server, self.signature) | {"STORAGE_URL": f"s3://{self.server.bucket}/p"}

    def start(self):
        self.server.start()
        self.ledger = Ledger(Bucket(servers.boto(self.server), self.server.bucket, "p/"))
        self.faults += [self.kill_storage, self.kill_storage, self.pause_storage]
        if self.server.name == "swift":  # reconciling reads its listings, which are not to be trusted after a kill
            self.faults = [fault for fault in self.faults if fault != self.damage_outbox]
        super().start()

    def stop(self):
        super().stop()
        self.server.stop()

    def kill_storage(self):
        self.server.kill()
        self.counts["kills of storage"] += 1
        self.pause(1)
        self.server.start()

    def pause_storage(self):
        """It takes connections and says nothing."""
        self.server.pause()
        self.counts["silences of storage"] += 1
        self.pause(1)
        self.server.resume()


class OnSwift(OnServer):
    """By SigV2."""
    name, signature = "swift", "v2"


class OnNetwork(OnServer):
    """Every process a host of its own, and the cables between them are cut, too."""

    def make_storage(self):
        network.need()
        self.network = network.Network(("preprocess", "classify", "storage"))
        return super().make_storage()

    def where_storage_is(self):
        self.server.host = self.network.address("storage")
        return super().where_storage_is()

    def start(self):
        self.network.__enter__()
        self.server.prefix = self.network.run("storage")
        for name, service in (("preprocess", self.stack.preprocess), ("classify", self.stack.classify)):
            service.host, service.prefix = self.network.address(name), self.network.run(name)
            service.env["HOST"] = service.host
        self.stack.preprocess.env["EVENTS_URL"] = f"push+{self.stack.classify.url}/pubsub"
        super().start()
        self.faults += [self.cut] * 4 + [self.unplug] * 2

    def stop(self):
        try:
            super().stop()
        finally:
            self.network.__exit__()

    def cut(self):
        """Between two of them; sometimes one dies meanwhile, and the other is never told."""
        a, b = self.random.sample(self.network.hosts, 2)
        self.network.cut(a, b)
        self.counts["cuts"] += 1
        self.pause(1.5)
        if self.random.random() < 0.4:
            self.kill_host(self.random.choice([a, b]))
        self.network.mend()
        self.wait_until_up()

    def unplug(self):
        host = self.random.choice(self.network.hosts)
        self.network.unplug(host)
        self.counts["cables unplugged"] += 1
        self.pause(1.5)
        self.network.mend()

    def kill_host(self, host):
        if host == "storage":
            self.kill_storage()
            return
        service = getattr(self.stack, host)
        service.kill()
        self.counts["kills of " + service.name] += 1
        service.launch()


class OnMachines(OnPostgres, OnServer):
    """Two preprocess and three classify instances behind the gateway. They share a storage server and PostgreSQL, and
    each announces through the gateway. All of these are killed."""
    refusals = (502, 503, 504)  # by the gateway, too
    pace_s = 0.0 if ROUND_COUNT else 0.05  # or the uploads are over before the first fault
    work = {"preprocess-service": "/preprocess", "classify-service": "/pubsub"}  # what each of a kind must have done
    hosts = {"preprocess": ("127.0.0.2", "127.0.0.3"), "classify": ("127.0.0.2", "127.0.0.3", "127.0.0.4")}

    def make_own(self):
        own = super().make_own()
        self.uploads = UPLOADS
        return own

    def make_stack(self, preprocess_env, classify_env):
        machines = gateway_world.World(self.folder)
        push = {"EVENTS_URL": f"push+{machines.gateway.url}/pubsub"}
        self.settings = {name: env | {"SHUTDOWN_NOTICE_MS": 0} for name, env in (
            ("preprocess", preprocess_env | push), ("classify", classify_env))}
        return machines.__enter__()

    @property
    def front(self):
        return self.stack.gateway

    def instances(self, name=""):
        return [service for service in (*self.stack.instances, self.front) if service.name.startswith(name)]

    def start(self):
        super().start()
        for name, hosts in self.hosts.items():
            self.stack.listed(name, *[self.stack.instance(name, host, **self.settings[name]) for host in hosts])
        self.faults += [self.kill_service] * 3
        self.wait_until_up()

    def wait_until_up(self):
        super().wait_until_up()
        for name, hosts in self.hosts.items():
            self.front.wait_up(len(hosts), name)

    def settle(self):
        super().settle()
        for name, path in self.work.items():
            for service in self.instances(name):
                assert any(line.get("path") == path and line["status"] == 200 for line in service.log_lines()), \
                    f"{name} at {service.host} did nothing"


class OnAllEngines(OnBroker, OnMachines):
    """These instances, with RabbitMQ between them."""
    work = {"preprocess-service": "/preprocess"}

    def make_own(self):
        own = super().make_own()
        self.uploads = 10 * UPLOADS if ROUND_COUNT else UPLOADS
        return own

    def use_broker(self):
        self.settings["preprocess"]["EVENTS_URL"] = self.url_for("preprocess")
        self.settings["classify"]["SOURCE_URL"] = self.url_for("classify")


ROUNDS = {"directory": World, "database": OnPostgres, "broker": OnBroker, "server": OnServer, "network": OnNetwork,
          "swift": OnSwift, "machines": OnMachines, "engines": OnAllEngines}
# Swift takes its time
CYCLE = (*ROUNDS, *("network", "directory", "server", "database", "broker") * 5)


def has_rabbitmq():
    try:
        return bool(rabbitmq.find("usr/lib/rabbitmq/lib/rabbitmq_server-*") and importlib.util.find_spec("pika"))
    except servers.Unavailable:
        return False


def rounds():
    """What to run: (kind, number) of each round."""
    if SMALL:
        return [("directory", 0)]
    if not ROUND_COUNT:
        cycle = ("directory", "database", "server" if network.why_not() else "network", "swift", "engines" if has_rabbitmq() else "machines")
    else:
        cycle = [CYCLE[n % len(CYCLE)] for n in range(ROUND_COUNT)]
    return [pytest.param(kind, n, marks=[pytest.mark.namespaces] * (kind == "network")) for n, kind in enumerate(cycle)]


def play(kind, number, folder, services):
    print(f"SEED={SEED}, round {number}: {kind}")
    began = time.monotonic()
    world = ROUNDS[kind](folder, services, f"{SEED}-{number}-{kind}")
    try:
        world.start()
        world.run()
    finally:
        print(f"{time.monotonic() - began:.1f} s, {dict(world.counts)}, {len(world.ledger)} acknowledged, "
              f"slowest start {world.slowest_start_s:.2f} s")
        world.stop()
    TOTALS.update(world.counts)
    TOTALS.update(rounds=1, uploads=len(world.ledger) + len(world.ledger.deleted))
    KINDS[f"{kind} ({world.storage})"] += 1
    shutil.rmtree(folder, ignore_errors=True)  # thousands of files


def summary():
    """Lines for the end of the tests' output."""
    if not TOTALS:
        return
    counts = ", ".join(f"{n} {name}" for name, n in sorted(TOTALS.items()) if name not in ("rounds", "uploads"))
    yield f"fault rounds survived: {TOTALS['rounds']}, {TOTALS['uploads']} uploads acknowledged, " \
          f"0 lost, 0 doubled; {counts}"
    yield f"fault rounds on: {', '.join(f'{n} x {kind}' for kind, n in KINDS.items())}; repeat with SEED={SEED}"
    if store_servers.why_not("minio"):
        yield f"FAULT ROUNDS NOT RUN on MinIO: {store_servers.why_not('minio')}"

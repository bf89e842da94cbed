"""Debian's haproxy with our configuration, before instances of both services that DNS lists."""
import contextlib
import http.client
import re
import subprocess
import time

from conftest import ROOT, SLOW, Service, free_port, wait_for
from name_server import Dns
from tools import tool

CONFIGURATION = ROOT / "infra/gateway/haproxy.cfg"
NOTICE_MS = int(2000 * SLOW)  # the gateway looks every 500 ms


def processor_s(pids):
    """Of all threads, also those that have ended: by the clock of each process, see clock_getcpuclockid(3)."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):  # it has just ended
            total += time.clock_gettime(~pid << 3 | 2)
    return total


class Gateway(Service):
    """haproxy in the place of a service, with the same helpers to talk to it."""

    def __init__(self, folder, dns, configuration=CONFIGURATION, **env):
        super().__init__("gateway", folder)
        self.program, environment = tool("haproxy")
        self.prefix, self.configuration = [], configuration
        self.metrics_port = free_port()
        self.env = environment | {
            "DNS": f"127.0.0.1:{dns.port}", "LISTEN": f"127.0.0.1:{self.port}",
            "METRICS_LISTEN": f"127.0.0.1:{self.metrics_port}", "CLIENT_REQUESTS": "100000"
        } | {name: str(value) for name, value in env.items()}

    def launch(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([self.program, "-db", "-f", self.configuration], env=self.env,
                                            cwd=self.folder, stdout=log, stderr=log)
        return self

    def stop(self, timeout=30.0):
        if self.process:
            self.process.terminate()
            self.process.wait(timeout)
            self.process = None

    def metrics(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()

    def up(self, pool):
        """How many of its instances get requests."""
        return self.sum("haproxy_server_status", f'proxy="{pool}"', 'state="UP"')

    def sum(self, name, *labels):
        return sum(float(line.rsplit(" ", 1)[1]) for line in self.metrics().splitlines()
                   if line.startswith(name + "{") and all(label in line for label in labels))

    def name_of(self, service):
        """Which of the pool's places the service's address has."""
        return re.findall(rf"/(preprocess\d+) changed its IP from \S+ to {service.host} ", self.log())[-1]

    def wait_up(self, count, pool="preprocess"):
        for name in (pool, pool + "_grpc"):
            wait_for(lambda name=name: self.up(name) == count, f"{count} instances of {name}\n{self.log()[-2000:]}")

    def access(self, **fields):
        return [line for line in self.log_lines() if fields.items() <= line.items()]


class World:
    """Instances at 127.0.0.2, .3 and so on, all of a service on one port, with one store and one DNS."""

    def __init__(self, folder, **gateway):
        self.folder, self.dns, self.instances = folder, Dns(), []
        self.ports = {"preprocess": free_port(), "classify": free_port()}
        self.dns.names |= {name: [] for name in self.ports}
        self.gateway = Gateway(folder, self.dns, **{
            name.upper(): f"{name}:{port}" for name, port in self.ports.items()} | gateway)

    def __enter__(self):
        self.dns.__enter__()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.gateway.stop()
        for service in self.instances:
            service.stop()
        self.dns.__exit__()

    def start(self, **pools):
        """start(preprocess=[addresses], …), and all of them get requests."""
        for name, addresses in pools.items():
            self.listed(name, *[self.instance(name, address) for address in addresses])
        self.gateway.start()
        for name, addresses in pools.items():
            self.gateway.wait_up(len(addresses), name)

    def instance(self, name, address, **env):
        folder = self.folder / f"{name}-{address}"
        folder.mkdir()
        own = {"EVENTS_URL": "none:", "CATALOGUE_URL": "none:"} if name == "preprocess" else {}
        service = Service(f"{name}-service", folder, self.ports[name], **{
            "HOST": address, "WORKERS": 1, "STORAGE_URL": f"file://{self.folder}/objects",
            "SHUTDOWN_NOTICE_MS": NOTICE_MS} | own | env)
        service.host = address
        self.instances.append(service)
        return service.start()

    def listed(self, name, *services):
        self.dns.names[name] = [service.host for service in services]

    def of(self, name):
        return [service for service in self.instances if service.name == f"{name}-service"]

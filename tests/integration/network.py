"""A network of our own: every host a network namespace, joined by a bridge in another one, in which the
tests themselves live meanwhile. Nothing of the machine's own network is touched.

    with Network(("preprocess", "storage")) as network:
        service.host, service.prefix = network.address("preprocess"), network.run("preprocess")
        network.cut("preprocess", "storage")    # packets between them vanish
        network.unplug("storage")               # its cable is out
        network.mend()

Needs root. What an earlier run left behind, killed before it could clean up, is removed first.
"""
import contextlib
import ctypes
import itertools
import os
import pathlib
import re
import shutil
import subprocess

import pytest

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
NAMESPACES = pathlib.Path("/run/netns")
OURS = re.compile(r"darkroom-(\d+)-\d+-\w+")
_numbers = itertools.count()


def why_not():
    """The reason why this machine cannot have such a network, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in ("ip", "iptables", "nsenter") if shutil.which(tool) is None]
    if missing:
        return f"no {' and no '.join(missing)}"
    name = f"darkroom-{os.getpid()}-{next(_numbers)}-try"
    done = _try("ip", "netns", "add", name)
    if done.returncode == 0:
        done = _try("nsenter", f"--net={NAMESPACES / name}", "iptables", "-w", "-A", "INPUT", "-j", "DROP")
        _try("ip", "netns", "del", name)
    return None if done.returncode == 0 else done.stderr.strip()


def need():
    """Skips the test, loudly, where there cannot be one."""
    reason = why_not()
    if reason:
        pytest.skip(f"NETWORK FAULTS NOT TESTED: {reason}")


def _try(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True)


def _do(*command):
    done = _try(*command)
    assert done.returncode == 0, done


def _enter(fd):
    """This thread, and what it starts from now on."""
    if LIBC.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def sweep():
    """Remove the namespaces of processes that are gone."""
    for path in NAMESPACES.glob("darkroom-*"):
        owner = OURS.fullmatch(path.name)
        if owner and not pathlib.Path(f"/proc/{owner[1]}").exists():
            _try("ip", "netns", "del", path.name)


class Network:
    def __init__(self, hosts):
        self.hosts, self.number = list(hosts), next(_numbers)
        self.home = None

    def address(self, host):
        """Of one of the hosts, or of "hub", where the tests are."""
        return f"10.77.0.{1 + ['hub', *self.hosts].index(host)}"

    def namespace(self, host):
        return f"darkroom-{os.getpid()}-{self.number}-{host}"

    def run(self, host):
        """The beginning of a command line that runs the rest on that host."""
        return ["nsenter", f"--net={NAMESPACES / self.namespace(host)}", "--"]

    def __enter__(self):
        sweep()
        self.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            self.build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def build(self):
        hub = self.namespace("hub")
        _do("ip", "netns", "add", hub)
        for arguments in (("link", "set", "lo", "up"), ("link", "add", "bridge", "type", "bridge"),
                          ("address", "add", "10.77.0.1/24", "dev", "bridge"),
                          ("link", "set", "bridge", "up")):
            _do("ip", "-n", hub, *arguments)
        for host in self.hosts:
            name = self.namespace(host)
            _do("ip", "netns", "add", name)
            _do("ip", "-n", hub, "link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", name)
            _do("ip", "-n", hub, "link", "set", host, "master", "bridge", "up")
            _do("ip", "-n", name, "address", "add", f"{self.address(host)}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                _do("ip", "-n", name, "link", "set", link, "up")
        with contextlib.closing(open(NAMESPACES / hub, "rb")) as there:
            _enter(there.fileno())

    def __exit__(self, *_):
        if self.home is None:
            return
        _enter(self.home)
        os.close(self.home)
        self.home = None
        for host in ("hub", *self.hosts):
            _try("ip", "netns", "del", self.namespace(host))

    def _filter(self, host, *arguments):
        _do(*self.run(host), "iptables", "-w", *arguments)

    def cut(self, a, b):
        """Packets between the two vanish, both ways: nobody is told."""
        for here, there in ((a, b), (b, a)):
            self._filter(here, "-A", "INPUT", "-s", self.address(there), "-j", "DROP")

    def unplug(self, host):
        _do("ip", "-n", self.namespace("hub"), "link", "set", host, "down")

    def mend(self):
        for host in ("hub", *self.hosts):
            self._filter(host, "-F", "INPUT")
        for host in self.hosts:
            _do("ip", "-n", self.namespace("hub"), "link", "set", host, "up")

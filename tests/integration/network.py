"""A network of our own: every host a network namespace, joined by a bridge in another one, in which the
tests themselves live meanwhile. Nothing of the machine's own network is touched.

    with Network(("preprocess", "storage")) as network:
        service.host, service.prefix = network.address("preprocess"), network.run("preprocess")
        network.cut("preprocess", "storage")    # packets between them vanish
        network.unplug("storage")               # its cable is out
        network.mend()

Needs root, or a user namespace's. A namespace lives as long as its one process, and that as long as the
tests: nothing is mounted, and nothing is left behind.
"""
import contextlib
import ctypes
import functools
import os
import shutil
import signal
import subprocess

import pytest

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1


class Namespace:
    """A network namespace and the process that keeps it."""

    def __init__(self):
        def leave():
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if LIBC.unshare(CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "unshare")
        self.keeper = subprocess.Popen(["sleep", "infinity"], preexec_fn=leave)
        self.path = f"/proc/{self.keeper.pid}/ns/net"

    def run(self):
        """The beginning of a command line that runs the rest in it."""
        return ["nsenter", f"--net={self.path}", "--"]

    def attempt(self, *command):
        return subprocess.run([*self.run(), *map(str, command)], capture_output=True, text=True)

    def do(self, *command):
        done = self.attempt(*command)
        assert done.returncode == 0, done

    def close(self):
        self.keeper.kill()
        self.keeper.wait()


@functools.lru_cache
def why_not():
    """The reason why this machine cannot have such a network, or None."""
    missing = [tool for tool in ("ip", "iptables", "nsenter") if shutil.which(tool) is None]
    if missing:
        return f"no {' and no '.join(missing)}"
    try:
        with contextlib.closing(Namespace()) as one, contextlib.closing(Namespace()) as other:
            tried = [one.attempt("ip", "link", "add", "try", "type", "veth", "peer", "name", "eth0", "netns", other.keeper.pid),
                     one.attempt("iptables", "-w", "-A", "INPUT", "-j", "DROP")]
    except subprocess.SubprocessError:
        return "network namespaces need root or a user namespace"
    return next((done.stderr.strip() for done in tried if done.returncode != 0), None)


def need():
    """Skips the test, loudly, where there cannot be one."""
    reason = why_not()
    if reason:
        pytest.skip(f"NETWORK FAULTS NOT TESTED: {reason}")


def _enter(fd):
    """This thread, and what it starts from now on."""
    if LIBC.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Network:
    def __init__(self, hosts):
        self.hosts = list(hosts)
        self.namespaces, self.home = {}, None

    def address(self, host):
        """Of one of the hosts, or of "hub", where the tests are."""
        return f"10.77.0.{1 + ['hub', *self.hosts].index(host)}"

    def run(self, host):
        """The beginning of a command line that runs the rest on that host."""
        return self.namespaces[host].run()

    def __enter__(self):
        self.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            self.build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def build(self):
        hub = self.namespaces["hub"] = Namespace()
        for arguments in (("link", "set", "lo", "up"), ("link", "add", "bridge", "type", "bridge"),
                          ("address", "add", "10.77.0.1/24", "dev", "bridge"),
                          ("link", "set", "bridge", "up")):
            hub.do("ip", *arguments)
        for host in self.hosts:
            there = self.namespaces[host] = Namespace()
            hub.do("ip", "link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", there.keeper.pid)
            hub.do("ip", "link", "set", host, "master", "bridge", "up")
            there.do("ip", "address", "add", f"{self.address(host)}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                there.do("ip", "link", "set", link, "up")
        with open(hub.path, "rb") as net:
            _enter(net.fileno())

    def __exit__(self, *_):
        if self.home is None:
            return
        _enter(self.home)
        os.close(self.home)
        self.home = None
        for namespace in self.namespaces.values():
            namespace.close()

    def cut(self, a, b):
        """Packets between the two vanish, both ways: nobody is told."""
        for here, there in ((a, b), (b, a)):
            self.namespaces[here].do("iptables", "-w", "-A", "INPUT", "-s", self.address(there), "-j", "DROP")

    def unplug(self, host):
        self.namespaces["hub"].do("ip", "link", "set", host, "down")

    def mend(self):
        for namespace in self.namespaces.values():
            namespace.do("iptables", "-w", "-F", "INPUT")
        for host in self.hosts:
            self.namespaces["hub"].do("ip", "link", "set", host, "up")

"""Ports for what the tests start: below those that the kernel gives to outgoing connections, so that none
of these takes one while its server is restarted, and others for each worker of pytest-xdist."""
import itertools
import os
import pathlib
import random
import re
import socket

LOWEST, WORKERS = 10000, 16


def _candidates():
    outgoing = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    worker = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0) % WORKERS
    ours = range(LOWEST + worker, outgoing, WORKERS) or [0]  # 0: the kernel's choice
    first = random.SystemRandom().randrange(len(ours))  # other runs on this machine have theirs
    return itertools.cycle([*ours[first:], *ours[:first]])


_ports = _candidates()


def free_port():
    for port in _ports:
        try:
            with socket.socket() as s:
                s.bind(("127.0.0.1", port))
                return s.getsockname()[1]
        except OSError:
            continue  # taken

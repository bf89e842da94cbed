#!/usr/bin/python3
"""OpenStack Swift with its S3 API, for tests: all of it in one process and one folder.

    swift_server.py FOLDER PORT [HOST]

Needs Debian's python3-swift alone. The packages swift-proxy, swift-object and so on would add system
services and configuration in /etc; all that they have beyond python3-swift is what stands here.
One replica on one plain directory, tempauth, the account test with the user test:tester/testing.
"""
import os
import pathlib
import signal
import socket
import sys
import warnings

import eventlet
import eventlet.patcher
import eventlet.wsgi

# before anything of Swift's is imported, and with what its own servers patch
eventlet.patcher.monkey_patch(all=False, socket=True, select=True, thread=True)
warnings.simplefilter("ignore", DeprecationWarning)

import swift.common.utils  # noqa: E402
swift.common.utils.HASH_PATH_SUFFIX = b"darkroom"  # instead of /etc/swift/swift.conf
from swift.common.ring import RingBuilder  # noqa: E402
from swift.common.wsgi import SwiftHttpProtocol, loadapp  # noqa: E402

# The innermost three store, each in FOLDER/DEVICE.
DEVICE = "disk"
BACKENDS = ("account", "container", "object")
BACKEND_CONF = """
[DEFAULT]
swift_dir = {folder}
devices = {folder}
mount_check = false
fallocate_reserve = 0
log_name = {name}
log_udp_host = 127.0.0.1
log_udp_port = {log_port}
[app:main]
use = egg:swift#{name}
replication_server = false
"""
PROXY_CONF = """
[DEFAULT]
swift_dir = {folder}
log_name = proxy
log_level = INFO
log_udp_host = 127.0.0.1
log_udp_port = {log_port}
[pipeline:main]
pipeline = catch_errors gatekeeper cache listing_formats s3api tempauth copy bulk slo proxy-server
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:cache]
paste.filter_factory = swift_server:cache_filter
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
# a put takes 10 ms of processor: lists of several pages need not be of thousands
max_bucket_listing = 100
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:copy]
use = egg:swift#copy
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
# after ten errors it would do without its only disk for a minute
error_suppression_limit = 1000000
"""


class Cache:
    """What tempauth and the proxy want of memcached."""

    def __init__(self):
        self.values = {}

    def get(self, key, raise_on_error=False):
        return self.values.get(key)

    def set(self, key, value, **_):
        self.values[key] = value

    def delete(self, key, server_key=None):
        self.values.pop(key, None)

    def incr(self, key, delta=1, time=0):
        self.values[key] = max(0, self.values.get(key, 0) + delta)
        return self.values[key]


def cache_filter(*_, **__):
    cache = Cache()

    def add_cache(app):
        def with_cache(env, start_response):
            env["swift.cache"] = cache
            return app(env, start_response)
        return with_cache
    return add_cache


def listen(port=0, host="127.0.0.1"):
    return eventlet.listen((host, port), backlog=512)


def write_ring(folder, name, port):
    builder = RingBuilder(part_power=2, replicas=1, min_part_hours=0)
    builder.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": DEVICE, "weight": 1.0,
                     "replication_ip": "127.0.0.1", "replication_port": port, "meta": ""})
    builder.rebalance()
    builder.get_ring().save(str(folder / f"{name}.ring.gz"))


def print_log(log):
    """Swift logs to syslog: here to a socket of our own, and so to stderr."""
    while True:
        line = log.recv(65536).decode(errors="replace").rstrip("\0\n")
        print(line.partition(">")[2] or line, file=sys.stderr, flush=True)


def serve(sock, app):
    eventlet.wsgi.server(sock, app, open(os.devnull, "w"), protocol=SwiftHttpProtocol,
                         custom_pool=eventlet.GreenPool(512), socket_timeout=60, capitalize_response_headers=False)


def main(folder, port, host="127.0.0.1"):
    folder = pathlib.Path(folder).resolve()
    (folder / DEVICE).mkdir(parents=True, exist_ok=True)
    sys.modules["swift_server"] = sys.modules["__main__"]  # for paste.filter_factory
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

    log = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    log.bind(("127.0.0.1", 0))
    eventlet.spawn(print_log, log)

    sockets = {name: listen() for name in BACKENDS}
    values = {"folder": folder, "log_port": log.getsockname()[1]}
    for name, sock in sockets.items():
        write_ring(folder, name, sock.getsockname()[1])
        (folder / f"{name}.conf").write_text(BACKEND_CONF.format(name=name, **values))
    (folder / "proxy.conf").write_text(PROXY_CONF.format(**values))

    for name, sock in sockets.items():
        eventlet.spawn(serve, sock, loadapp(str(folder / f"{name}.conf")))
    app = loadapp(str(folder / "proxy.conf"))
    serve(listen(port, host), app)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])

"""Debian's RabbitMQ for the tests: a broker on free ports of 127.0.0.1, with its files in a folder of its own.

    with rabbitmq.RabbitMQ(folder) as broker:
        broker.url                     amqp://USER:PASSWORD@127.0.0.1:PORT/darkroom
        broker.kill(); broker.start()  what was confirmed is still there

`tls`: (CA, certificate, key) for broker.tls_url, at `localhost`. It runs as whoever starts it. A machine without it
raises Unavailable, with the reason.
"""
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

from ports import free_port
from servers import SLOW, Server, Unavailable

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "darkroom"
ROOTS = (pathlib.Path("/"), CACHE / "tools")  # installed, or unpacked by infra/setup/install.sh


def find(pattern):
    for root in ROOTS:
        found = sorted(root.glob(pattern))
        if found:
            return found[-1]
    raise Unavailable(f"NO RABBITMQ HERE ({pattern} is missing): `infra/setup/install.sh test` gets it from Debian")


class RabbitMQ(Server):
    name = "rabbitmq"
    user, password = "darkroom", "darkroom-test-secret"

    def __init__(self, folder, port=None, tls=None, settings=""):
        self.home = find("usr/lib/rabbitmq/lib/rabbitmq_server-*")
        self.erlexec = find("usr/lib/erlang/erts-*/bin/erlexec")
        super().__init__(folder, port)
        self.names_port, self.node_port = free_port(), free_port()
        self.tls, self.tls_port = tls, free_port() if tls else None
        self.names, self.vhost, self.vhosts = None, "darkroom", 0
        (self.folder / "enabled_plugins").write_text("[].\n")
        self.link_libraries()
        self.write_settings(settings)

    def link_libraries(self):
        """What the broker is made of, without the plugins that it comes with: Erlang looks for each of a thousand
        modules in every folder that it knows."""
        links = self.folder / "libraries"
        links.mkdir(exist_ok=True)
        own = self.erlexec.parents[2] / "lib"  # Erlang looks there by itself
        known = {path.name.partition("-")[0]: path for libraries in (CACHE / "tools/usr/lib/erlang/lib", own, self.home / "plugins")
                 for path in libraries.glob("*-*")}
        wanted = ["rabbit"]
        for name in wanted:
            if name not in known:
                continue
            if known[name].parent != own and not (links / known[name].name).exists():
                (links / known[name].name).symlink_to(known[name])
            application = (known[name] / f"ebin/{name}.app").read_text()
            more = re.search(r"\{\s*applications\s*,\s*\[(.*?)\]", application, re.DOTALL)
            wanted += [word for word in re.findall(r"\w+", more[1]) if word not in wanted]

    def write_settings(self, more):
        lines = [f"listeners.tcp.1 = 127.0.0.1:{self.port}", f"default_user = {self.user}",
                 f"default_pass = {self.password}", f"default_vhost = {self.vhost}",
                 "log.console = true", "log.console.level = info", "log.file = false",
                 "disk_free_limit.absolute = 10MB", "vm_memory_high_watermark.absolute = 1GB",
                 "loopback_users = none"]
        if self.tls:
            authority, certificate, key = self.tls
            lines += [f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}", f"ssl_options.cacertfile = {authority}",
                      f"ssl_options.certfile = {certificate}", f"ssl_options.keyfile = {key}"]
        (self.folder / "rabbitmq.conf").write_text("\n".join([*lines, more, ""]))

    @property
    def endpoint(self):
        return f"{self.host}:{self.port}"

    def url_at(self, port):
        return f"amqp://{self.user}:{self.password}@127.0.0.1:{port}/{self.vhost}"

    @property
    def url(self):
        return self.url_at(self.port)

    @property
    def tls_url(self):
        return f"amqps://{self.user}:{self.password}@localhost:{self.tls_port}/{self.vhost}"

    def version(self):
        return "RabbitMQ " + self.home.name.partition("-")[2]

    def command(self):
        # what the package's own script starts, without the shell around it and without its paths
        return [self.erlexec, "-noinput", "-s", "rabbit", "boot", "-boot", "start_sasl", "+W", "w", "+S", "1:1", "+sbwt", "none",
                "+sbwtdcpu", "none", "+sbwtdio", "none", "+MBas", "ageffcbf", "+MHas", "ageffcbf",
                "-start_epmd", "false", "-kernel", "inet_dist_use_interface", "{127,0,0,1}",
                "-kernel", "prevent_overlapping_partitions", "false",
                "-syslog", "logger", "[]", "-syslog", "syslog_error_logger", "false"]

    def environment(self):
        erlang = self.erlexec.parents[2]
        return {
            "ROOTDIR": str(erlang), "BINDIR": str(self.erlexec.parent), "EMU": "beam", "PROGNAME": "erl",
            "HOME": str(self.folder), "ERL_LIBS": str(self.folder / "libraries"), "ERL_CRASH_DUMP_SECONDS": "0",
            "ERL_EPMD_PORT": str(self.names_port), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_MAX_PORTS": "1024", "ERL_MAX_ETS_TABLES": "50000",
            "RABBITMQ_HOME": str(self.home), "RABBITMQ_PLUGINS_DIR": str(self.folder / "libraries"),
            "RABBITMQ_NODENAME": f"darkroom{self.port}@localhost", "RABBITMQ_DIST_PORT": str(self.node_port),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "none.config"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "none.env"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"), "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.folder / "config"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"), "RABBITMQ_LOGS": "-",
            "SYS_PREFIX": str(self.folder),
        }

    def make_bucket(self):
        pass

    def start(self):
        if self.names is None:  # the node finds its own address there; left to it, it would start one that stays
            epmd = self.erlexec.parent / "epmd"
            self.names = subprocess.Popen(["/usr/bin/setpriv", "--pdeathsig=SIGKILL", epmd, "-port", str(self.names_port), "-address",
                                           "127.0.0.1"], env={"HOME": str(self.folder)}, stdin=subprocess.DEVNULL,
                                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return super().start()

    def is_ready(self):
        """Whether it speaks AMQP: to a protocol that it does not know it answers with its own."""
        try:
            with socket.create_connection((self.host, self.port), 5) as s:
                s.settimeout(5 * SLOW)
                s.sendall(b"AMQP\x00\x00\x00\x00")
                return s.recv(8) == b"AMQP\x00\x00\x09\x01"
        except OSError:
            return False

    def wait_until_written(self):
        """Quorum queues that are new have their names on the disk: RabbitMQ 3.10 writes them half a second later, and
        a queue whose name is lost never answers again."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and any(
                time.time() - path.stat().st_mtime < 1.5 for path in self.folder.glob("data/*/quorum/*/*.dets")):
            time.sleep(0.05)

    def evaluate(self, expression):
        """What `rabbitmqctl eval` does, without Elixir."""
        done = subprocess.run([self.erlexec.parents[2] / "bin/erl_call", "-c", (self.folder / ".erlang.cookie").read_text(),
                               "-sname", f"darkroom{self.port}@localhost", "-e"], input=expression + ".\n", env=self.environment(),
                              capture_output=True, text=True, timeout=30 * SLOW, check=False)
        assert done.stdout == "{ok, ok}", done

    def alarm(self, on=True):
        """A memory alarm: it takes no messages."""
        self.evaluate(f"vm_memory_monitor:set_vm_memory_high_watermark({0.0001 if on else 0.4})")

    def begin_anew(self):
        """In a vhost without queues, and without an alarm; the vhost before it ends."""
        self.vhosts += 1
        before, self.vhost = self.vhost, f"darkroom{self.vhosts}"
        self.evaluate(f'''
            vm_memory_monitor:set_vm_memory_high_watermark(0.4),
            rabbit_vhost:delete(<<"{before}">>, <<"tests">>),
            ok = rabbit_vhost:add(<<"{self.vhost}">>, <<"tests">>),
            rabbit_auth_backend_internal:set_permissions(
                <<"{self.user}">>, <<"{self.vhost}">>, <<".*">>, <<".*">>, <<".*">>, <<"tests">>)''')

    def kill(self):
        """kill -9."""
        self.wait_until_written()
        super().kill()

    def stop(self):
        super().kill()  # an orderly end takes seconds, and nothing here needs one
        if self.names is not None:
            self.names.send_signal(signal.SIGKILL)
            self.names.wait()
            self.names = None

    def remove(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

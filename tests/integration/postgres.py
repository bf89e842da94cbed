"""PostgreSQL for the tests: Debian's, in a folder of its own."""
import contextlib
import itertools
import os
import pathlib
import signal
import shutil
import subprocess
import tempfile

import pytest

from conftest import ROOT, free_port, is_running, state_of, tree, wait_for

# Debian's own `psql` is a Perl script that looks for this one, and takes ten times as long as it.
PSQL = [*sorted(map(str, pathlib.Path("/usr/lib/postgresql").glob("*/bin/psql"))), "psql"][0]


@contextlib.contextmanager
def beside(server, url, statements):
    """A transaction on the catalogue, its pictures locked as the service does, that is open until something waits for
    it; what waits goes on behind it. Gives what waits for that."""
    def wait():
        waiting = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"
        wait_for(lambda: server.sql(waiting, url.rpartition("/")[2]).stdout == "t\n", "something to wait for it")
    with subprocess.Popen([PSQL, "-qAt", url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        other.stdin.write("BEGIN;\nSELECT count(pg_advisory_xact_lock(1684107891, hashtext(id))) > 0 FROM image;\n"
                          f"{statements};\nSELECT 'open';\n")
        other.stdin.flush()
        assert [other.stdout.readline() for _ in range(2)] == ["t\n", "open\n"]
        yield wait
        wait()
        other.communicate("COMMIT;\n", timeout=30)


class Postgres:
    """Its user, nobody when we are root, may not enter pytest's folders."""

    def __init__(self, fsync=False):
        self.folder, self.port, self.process = pathlib.Path(tempfile.mkdtemp(prefix="postgres-")), free_port(), None
        self.fsync, self.numbers = fsync, itertools.count()

    def start(self):
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [ROOT / "tests/servers/postgres.sh", self.folder, str(self.port)], stdout=log, stderr=log,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "POSTGRES_FSYNC": "on" if self.fsync else "off"})
        wait_for(self.answers, "PostgreSQL to answer")
        return self

    def answers(self):
        if self.process.poll() == 77:
            pytest.skip("PostgreSQL is not installed (Debian's package: postgresql)")
        assert self.process.poll() is None, (self.folder / "log").read_text()[-4000:]
        return self.sql("SELECT 1", check=False).returncode == 0

    def sql(self, text, database="postgres", check=True):
        return subprocess.run([PSQL, "-qAt", self.url(database), "-c", text], check=check, capture_output=True,
                              text=True, timeout=60)

    def url(self, database):
        return f"postgresql://darkroom@127.0.0.1:{self.port}/{database}"

    def new_database(self):
        name = f"catalogue{next(self.numbers)}"
        self.sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def stop(self, sig=signal.SIGQUIT):
        if self.process:
            pids = [self.process.pid]
            if sig == signal.SIGKILL:  # of the first process alone it leaves others, which may do one more thing
                self.process.send_signal(signal.SIGSTOP)
                wait_for(lambda: state_of(self.process.pid) in "TZX", "the first process to make no more of them")
                pids = tree(self.process.pid)
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sig)
            self.process.wait(30)
            # one that is still writing to a slow disk has the memory without which the next server does not start
            wait_for(lambda: not any(map(is_running, pids)), "PostgreSQL's processes to end")
            self.process = None

    def remove(self):
        self.stop()
        shutil.rmtree(self.folder)


@pytest.fixture(scope="module", name="postgres")
def fixture_postgres():
    server = Postgres()
    try:
        yield server.start()
    finally:
        server.remove()

#!/usr/bin/python3
"""Real storage servers for the tests, each on a free port of 127.0.0.1 and in a folder of its own.

    with servers.Minio(folder) as server:
        server.endpoint, server.access_key, server.secret_key, server.region, server.bucket
        servers.boto(server).get_object(Bucket=server.bucket, Key="…")

Minio, Swift (Debian's python3-swift), FakeGcs (get() and put() of its own), and
External: the server of your own that S3_TEST_ENDPOINT names, with S3_TEST_ACCESS_KEY,
S3_TEST_SECRET_KEY, S3_TEST_BUCKET and S3_TEST_REGION. One that this machine does not have raises
Unavailable, with the reason.

Run as a script, it starts each, round-trips an object through it, and prints one line for each.
"""
import contextlib
import ctypes
import functools
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

import gcs_relay
from ports import free_port

HERE = pathlib.Path(__file__).resolve().parent
PYTHON = "/usr/bin/python3"  # Debian's, which is the one that has Debian's python3-swift
SLOW = float(os.environ.get("DARKROOM_SLOW", "1"))
START_TIMEOUT_S = 180  # RabbitMQ takes five seconds of a processor to start, which others may want, too
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


class Unavailable(Exception):
    """This machine does not have that server; the message says why."""


class Server:
    """A process of ours. start() waits until it answers and makes the bucket."""
    name = ""
    access_key = secret_key = ""
    region = "us-east-1"
    bucket = "darkroom-test"
    ready_path = "/"
    stop_signal = signal.SIGTERM

    def __init__(self, folder, port=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.log_path = self.folder / f"{self.name}.log"
        self.process = None
        self.host, self.prefix = "127.0.0.1", []  # prefix: a command that runs the server

    @property
    def endpoint(self):
        return f"http://{self.host}:{self.port}"

    def command(self):
        raise NotImplementedError

    def environment(self):
        return {}

    def version(self):
        raise NotImplementedError

    def make_bucket(self):
        client = boto(self)
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket=self.bucket)

    def start(self):
        parent = os.getpid()

        def die_with_parent():  # or rather with this thread, which is the kernel's notion of a parent
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

        command = [str(word) for word in [*self.prefix, *self.command()]]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=os.environ | self.environment(), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, preexec_fn=die_with_parent)
        try:
            self.wait_ready()
            self.make_bucket()
        except BaseException:
            self.kill()
            raise
        return self

    def wait_ready(self):
        deadline = time.monotonic() + START_TIMEOUT_S * SLOW
        while not self.is_ready():
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} exited with {self.process.returncode}\n{self.log()[-4000:]}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not become ready\n{self.log()[-4000:]}")
            time.sleep(0.02)

    def is_ready(self):
        """Whether it answers at all, other than by a fault of its own."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", self.ready_path)
            return connection.getresponse().status < 500
        return False

    def signal(self, number):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def pause(self):
        """It accepts connections and answers nothing, until resume()."""
        self.signal(signal.SIGSTOP)

    def resume(self):
        self.signal(signal.SIGCONT)

    def kill(self):
        self.signal(signal.SIGKILL)
        self._reap()

    def stop(self):
        self.resume()
        self.signal(self.stop_signal)
        self._reap()

    def restart(self):
        """The same port and folder: what was stored is still there."""
        self.stop()
        return self.start()

    def _reap(self):
        if self.process is None:
            return
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


def built_binary(name):
    """What infra/minio/get.sh builds (once for all tests on this machine) and prints the path of."""
    script = HERE.parents[1] / "infra/minio/get.sh"
    run = subprocess.run([str(script), name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if run.returncode == 3:
        raise Unavailable(run.stderr.strip().splitlines()[-1])
    if run.returncode != 0:
        raise RuntimeError(f"{script} exited with {run.returncode}: {run.stderr}")
    return pathlib.Path(run.stdout.strip())


class Minio(Server):
    name = "minio"
    access_key, secret_key = "darkroom-test", "darkroom-test-secret"
    ready_path = "/minio/health/ready"

    def __init__(self, folder, port=None):
        self.binary = built_binary("minio")
        super().__init__(folder, port)

    def command(self):
        return [self.binary, "server", self.folder / "data", "--address", f"{self.host}:{self.port}"]

    def environment(self):
        return {"MINIO_ROOT_USER": self.access_key, "MINIO_ROOT_PASSWORD": self.secret_key,
                "MINIO_BROWSER": "off", "MINIO_UPDATE": "off", "HOME": str(self.folder)}

    def version(self):
        return "MinIO " + self.binary.name.partition("-")[2]

    def is_ready(self):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", self.ready_path)
            return connection.getresponse().status == 200
        return False


class Swift(Server):
    """All of Swift in one process: see swift_server.py.

    Both signatures work, also with the colon that tempauth's access keys always have. What it does not
    do: If-None-Match on PUT (501), and SigV2 for the listings of boto3, which signs /BUCKET/ there
    while it asks for /BUCKET (libs3 asks for what it signs).
    """
    name = "swift"
    access_key, secret_key = "test:tester", "testing"
    ready_path = "/info"

    def __init__(self, folder, port=None):
        probe = subprocess.run([PYTHON, "-c", "import swift; print(swift.__version__)"], cwd="/",
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if probe.returncode != 0:
            raise Unavailable(f"no Swift for {PYTHON}: install python3-swift")
        self.swift_version = probe.stdout.strip()
        super().__init__(folder, port)
        try:
            os.setxattr(self.folder, "user.darkroom", b"1")
        except OSError as e:
            raise Unavailable(f"no Swift in {self.folder}: its file system has no extended attributes") from e

    def command(self):
        return [PYTHON, HERE / "swift_server.py", self.folder, self.port, self.host]

    def environment(self):
        """Without a DNS client and setuptools, loading takes a third of the time."""
        return {"EVENTLET_NO_GREENDNS": "yes", "SETUPTOOLS_USE_DISTUTILS": "stdlib"}

    def version(self):
        return "Swift " + self.swift_version


class Versity(Server):
    """The Versity S3 Gateway on a directory: SigV4 only, conditional PUTs, and TLS with a `certificate`
    (certificate and key files). Its keys are paths: no empty segments, none longer than 255 bytes."""
    name = "versitygw"
    access_key, secret_key = "darkroom-test", "darkroom-test-secret"

    def __init__(self, folder, port=None, certificate=None):
        self.binary = built_binary("versitygw")
        self.certificate = certificate
        super().__init__(folder, port)
        (self.folder / "data" / self.bucket).mkdir(parents=True, exist_ok=True)

    @property
    def endpoint(self):
        return f"{'https' if self.certificate else 'http'}://{self.host}:{self.port}"

    def command(self):
        tls = ["--cert", self.certificate[0], "--key", self.certificate[1]] if self.certificate else []
        return [self.binary, "--quiet", "--keep-alive", "--port", f"{self.host}:{self.port}", *tls,
                "posix", self.folder / "data"]

    def environment(self):
        return {"ROOT_ACCESS_KEY": self.access_key, "ROOT_SECRET_KEY": self.secret_key}

    def version(self):
        return "Versity S3 Gateway " + self.binary.name.rpartition("-")[2]

    def make_bucket(self):
        pass  # a directory

    def is_ready(self):
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 5):
            return True
        return False


class FakeGcs(Server):
    """fake-gcs-server behind gcs_relay.py. In memory: its folders do not tell a//b from a/b. No signatures
    or tokens are checked, and lists come in one page."""
    name = "fake-gcs-server"
    region = ""
    ready_path = "/_internal/healthcheck"

    def __init__(self, folder, port=None):
        self.binary = built_binary("fake-gcs-server")
        self.relay = None
        super().__init__(folder, port)

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.relay.port}"

    def start(self):
        self.relay = self.relay or gcs_relay.Relay(self.port)
        return super().start()

    def stop(self):
        super().stop()
        if self.relay is not None:
            self.relay.stop()
            self.relay = None

    def restart(self):
        """The same port, but empty."""
        super().stop()
        return super().start()

    def command(self):
        # public-host: the host of the XML API's paths, /BUCKET/KEY
        return [self.binary, "-scheme", "http", "-host", "127.0.0.1", "-port", self.port,
                "-public-host", f"127.0.0.1:{self.port}", "-backend", "memory"]

    def make_bucket(self):
        status, body = self.request("POST", "/storage/v1/b?project=test", b'{"name":"%s"}' % self.bucket.encode(),
                                    {"Content-Type": "application/json"})
        if status not in (200, 409):
            raise RuntimeError(f"bucket {self.bucket}: {status} {body!r}")

    def version(self):
        return "fake-gcs-server " + self.binary.name.rpartition("-")[2]

    def request(self, method, path, body=None, headers=None, port=None):
        """(status, body) of one request, its path sent as it is; by default past the relay."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read()

    # By the JSON API: what our XML client wrote is read another way.

    def put(self, key, data, content_type="application/octet-stream"):
        query = urllib.parse.urlencode({"uploadType": "media", "name": key})
        status, body = self.request("POST", f"/upload/storage/v1/b/{self.bucket}/o?{query}", data,
                                    {"Content-Type": content_type})
        if status != 200:
            raise RuntimeError(f"{key}: {status} {body!r}")

    def get(self, key):
        """The bytes, or None when there is no such object."""
        status, body = self.request("GET", f"/storage/v1/b/{self.bucket}/o/{urllib.parse.quote(key, safe='')}?alt=media")
        if status not in (200, 404):
            raise RuntimeError(f"{key}: {status} {body!r}")
        return body if status == 200 else None

    def content_type(self, key):
        status, body = self.request("GET", f"/storage/v1/b/{self.bucket}/o/{urllib.parse.quote(key, safe='')}")
        if status != 200:
            raise RuntimeError(f"{key}: {status} {body!r}")
        return json.loads(body)["contentType"]


class External:
    """The server of your own that the environment names; its bucket is there already, or is made."""
    name = "external"

    def __init__(self, folder=None):
        del folder
        env = os.environ
        if not env.get("S3_TEST_ENDPOINT"):
            raise Unavailable("S3_TEST_ENDPOINT is not set")
        self.endpoint = env["S3_TEST_ENDPOINT"].rstrip("/")
        self.access_key = env.get("S3_TEST_ACCESS_KEY", "")
        self.secret_key = env.get("S3_TEST_SECRET_KEY", "")
        self.bucket = env.get("S3_TEST_BUCKET", "darkroom-test")
        self.region = env.get("S3_TEST_REGION", "us-east-1")

    def start(self):
        client = boto(self)
        try:
            client.head_bucket(Bucket=self.bucket)
        except client.exceptions.ClientError:
            client.create_bucket(Bucket=self.bucket)
        return self

    def stop(self):
        pass

    def log(self):
        return ""

    def version(self):
        return f"external {self.endpoint}"

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


@functools.cache
def boto_session():
    import boto3
    return boto3.session.Session()  # it keeps the description of S3's API, which takes time to read


def boto(server, signature="v4"):
    """A boto3 client for the server: another implementation than ours to look at its objects with."""
    try:
        import botocore.config
        session = boto_session()
    except ImportError as e:
        raise Unavailable(f"no boto3 for {sys.executable}: install python3-boto3") from e
    options = {}
    if "request_checksum_calculation" in botocore.config.Config.OPTION_DEFAULTS:
        # 1.36 and later add checksum trailers unless told not to, which not every server knows
        options = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
    config = botocore.config.Config(
        signature_version={"v4": "s3v4", "v2": "s3"}[signature], s3={"addressing_style": "path"}, proxies={},
        connect_timeout=10, read_timeout=30 * SLOW, retries={"max_attempts": 1}, **options)
    return session.client(
        "s3", endpoint_url=server.endpoint, region_name=server.region or "us-east-1",
        aws_access_key_id=server.access_key, aws_secret_access_key=server.secret_key, config=config)


S3_SERVERS = (Minio, Swift, Versity, External)
ALL = (*S3_SERVERS, FakeGcs)
STRANGE_KEY = "a folder/plus+percent%41 ü/双/&=?#~'(x)*!.bin"


def round_trip(server, signature="v4"):
    """Put, list, get and delete an object with a strange key."""
    data = os.urandom(100_000)
    if isinstance(server, FakeGcs):
        path = f"/{server.bucket}/{urllib.parse.quote(STRANGE_KEY)}"
        once = {"x-goog-if-generation-match": "0", "Content-Type": "image/x-test"}
        assert server.request("PUT", path, data, once, server.relay.port)[0] == 200
        assert server.request("PUT", path, b"another", once, server.relay.port)[0] == 412
        assert server.request("GET", path, port=server.relay.port) == (200, data)
        assert server.get(STRANGE_KEY) == data
        return
    client, lister = boto(server, signature), boto(server)  # Swift's docstring says why not v2's lists
    client.put_object(Bucket=server.bucket, Key=STRANGE_KEY, Body=data, ContentType="image/x-test",
                      Metadata={"made-by": "darkroom"})
    listed = lister.list_objects_v2(Bucket=server.bucket, Prefix="a folder/plus+")
    assert [entry["Key"] for entry in listed.get("Contents", [])] == [STRANGE_KEY], listed
    got = client.get_object(Bucket=server.bucket, Key=STRANGE_KEY)
    assert got["Body"].read() == data
    assert got["ContentType"] == "image/x-test" and got["Metadata"] == {"made-by": "darkroom"}, got
    client.delete_object(Bucket=server.bucket, Key=STRANGE_KEY)
    assert "Contents" not in lister.list_objects_v2(Bucket=server.bucket, Prefix="a folder/plus+")


def signatures(server):
    """Which of the S3 signatures a round trip works with."""
    if isinstance(server, FakeGcs):
        return "no signatures"
    done = []
    for signature in ("v4", "v2"):
        try:
            round_trip(server, signature)
            done.append("Sig" + signature.upper())
        except Exception as e:  # whatever boto3 makes of it
            print(f"{server.name}, {signature}: {e}", file=sys.stderr)
    return " and ".join(done)


def main():
    bad = 0
    for kind in ALL:
        folder = tempfile.mkdtemp(prefix="darkroom-servers-")
        try:
            server = kind(folder)
            begin = time.monotonic()
            with server:
                took = time.monotonic() - begin
                round_trip(server)
                print(f"ok           {server.version()}, started in {took:.2f} s, {signatures(server)}")
        except Unavailable as e:
            print(f"unavailable  {kind.name}: {e}")
        except Exception as e:
            bad += 1
            print(f"FAILED       {kind.name}: {e!r}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

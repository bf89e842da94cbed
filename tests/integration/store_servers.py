"""Which stores the conformance suite runs on, and the servers behind them, each started once."""
import atexit
import dataclasses
import os
import pathlib
import shutil
import sys
import tempfile
import typing

from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests/servers"))
import servers  # noqa: E402

SERVERS = {kind.name: kind for kind in (servers.Minio, servers.Swift, servers.Versity, servers.FakeGcs)}
if os.environ.get("S3_TEST_ENDPOINT"):
    SERVERS["external"] = servers.External
_made = {}


def _scratch(name):
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"darkroom-{name}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _make(name):
    """The server, not yet started, or the reason why there is none: asked once."""
    if name not in _made:
        try:
            _made[name] = SERVERS[name](_scratch(name))
        except servers.Unavailable as e:
            _made[name] = str(e)
    return _made[name]


def why_not(name):
    made = _make(name)
    return made if isinstance(made, str) else None


def server(name):
    """The running server; it is started once and ends with the tests."""
    made = _make(name)
    if not getattr(made, "started_for_tests", False):
        made.start()
        made.started_for_tests = True
        atexit.register(made.stop)
    return made


@dataclasses.dataclass
class Kind:
    name: str
    scheme: str
    env: dict
    look: typing.Callable = None  # another client's view of a key, as bytes
    look_type: typing.Callable = None  # and of its content type
    write: typing.Callable = None  # another client's put(key, data, content_type)
    empty_segments: bool = True
    longest_segment: int = None
    page: int = 1000  # keys at most in one reply to a listing
    fast: bool = True
    longest_key: int = 1024


def s3_env(running, signature="v4"):
    return {
        "STORAGE_URL": "s3://" + running.bucket, "S3_ENDPOINT": running.endpoint, "S3_REGION": running.region,
        "AWS_ACCESS_KEY_ID": running.access_key, "AWS_SECRET_ACCESS_KEY": running.secret_key,
        "S3_SIGNATURE": signature,
    }


def _s3(name, signature):
    running = server(name)
    client = servers.boto(running)

    def look(key):
        return client.get_object(Bucket=running.bucket, Key=key)["Body"].read()

    def look_type(key):
        return client.head_object(Bucket=running.bucket, Key=key)["ContentType"]

    def write(key, data, content_type):
        client.put_object(Bucket=running.bucket, Key=key, Body=data, ContentType=content_type)

    minio, swift = name == "minio", name == "swift"  # keys are paths there; it refuses others with XMinioInvalidObjectName
    return Kind(f"{running.name}-{signature}", "s3", s3_env(running, signature), look, look_type, write,
                fast=not swift, page=100 if swift else 1000, empty_segments=not minio,
                longest_segment=255 if minio else None)


def _file():
    folder = _scratch("file")
    return Kind("file", "file", {"STORAGE_URL": f"file://{folder}"}, empty_segments=False,
                look=lambda key: (folder / key).read_bytes())


def _gcs():
    running = server("fake-gcs-server")
    return Kind("gcs", "gs", {"STORAGE_URL": "gs://" + running.bucket, "STORAGE_EMULATOR_HOST": running.endpoint},
                look=running.get, look_type=running.content_type, write=running.put, fast=False,
                page=100)  # its lists come in one page, whatever is in them


_NEEDS = {
    "file": (None, _file),
    "minio-v4": ("minio", lambda: _s3("minio", "v4")),
    "minio-v2": ("minio", lambda: _s3("minio", "v2")),
    "swift-v4": ("swift", lambda: _s3("swift", "v4")),
    "swift-v2": ("swift", lambda: _s3("swift", "v2")),
    "versitygw-v4": ("versitygw", lambda: _s3("versitygw", "v4")),
    "gcs": ("fake-gcs-server", _gcs),
    "external-v4": ("external", lambda: _s3("external", "v4")),
}
# what this machine can have
KINDS = {name: make for name, (needs, make) in _NEEDS.items()
         if needs is None or (needs in SERVERS and not why_not(needs))}

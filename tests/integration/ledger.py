"""What the services promised, kept apart from them, and whether it was kept: checked against the
directory of the file store alone, never by asking a service.

    ledger = Ledger(stack.objects)
    with Load(stack.preprocess, ledger, total=200): ...   # clients that upload until acknowledged
    drain(stack.preprocess)
    ledger.check()
"""
import collections
import hashlib
import http.client
import json
import os
import pathlib
import threading
import time
import urllib.parse

from conftest import SLOW, Reply, wait_for
from images import decode, encode, gradient, numbered_jpeg

Attempt = collections.namedtuple("Attempt", "began status error connected")


class Ledger:
    """Every upload that was answered with 200. Thread-safe."""

    def __init__(self, objects):
        self.objects = pathlib.Path(objects)
        self.began = time.time()
        self.acknowledged = {}  # id -> reply of the first 200
        self.message_ids = collections.defaultdict(set)
        self.lock = threading.Lock()

    def __len__(self):
        return len(self.acknowledged)

    def record(self, reply):
        assert reply.status == 200, reply
        promised = reply.json()
        assert {"id", "gcs_path", "message_id"} <= promised.keys(), reply
        with self.lock:
            first = self.acknowledged.setdefault(promised["id"], promised)
            self.message_ids[promised["id"]].add(promised["message_id"])
        assert first["gcs_path"] == promised["gcs_path"], "one upload, two objects"
        return promised

    def upload(self, service, data, query=""):
        return self.record(service.upload(data, query))

    def path(self, promised):
        """The object's file, from its URI."""
        uri = urllib.parse.urlsplit(promised["gcs_path"])
        assert uri.scheme == "file", promised
        path = pathlib.Path(urllib.parse.unquote(uri.path))
        assert path.parent == self.objects.resolve(), promised
        return path

    def missing(self):
        """The ids that have no result yet."""
        return [i for i, p in self.acknowledged.items()
                if not os.path.exists(f"{self.path(p)}.json")]

    def check(self, temporaries=0):
        """Each promise is kept, and nothing else lies around. `temporaries`: how many files a killed
        service may have left behind unfinished."""
        for id, promised in self.acknowledged.items():
            path = self.path(promised)
            assert path.is_file(), f"lost: the object of {promised}"
            assert len(path.read_bytes()) == promised["bytes"]
            self.check_result(path, id)
        for path in self.files():
            assert path.suffix in (".jpg", ".png", ".webp", ".json"), f"what is {path}?"
            if path.suffix != ".json":  # also those that nobody was told of
                decode(path.read_bytes())
            else:
                assert path.with_suffix("").is_file(), f"{path} is no object's result"
                self.check_result(path.with_suffix(""), path.name.split(".")[0])
        self.check_temporaries(temporaries)

    def check_result(self, path, id):
        results = list(self.objects.glob(f"**/{id}*.json"))
        assert results == [pathlib.Path(f"{path}.json")], f"results of {id}: {results}"
        result = json.loads(results[0].read_bytes())
        assert result["gcs_path"] == f"file://{path}" and result["id"] == id, result
        assert result["label"] and 0 < result["confidence"] <= 1, result
        assert result["source_etag"] and result["model_sha256"], result

    def check_temporaries(self, most):
        left = list((self.objects / ".tmp").glob("*"))
        assert len(left) <= most, f"left behind: {left}"
        old = [p for p in left if p.stat().st_mtime < self.began]
        assert not old, f"left by an earlier run: {old}"

    def files(self):
        return [p for p in self.objects.rglob("*")
                if p.is_file() and (self.objects / ".tmp") not in p.parents]

    def results(self):
        """What must not change any more: name -> (inode, time, digest)."""
        return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns, hashlib.sha256(p.read_bytes()).digest())
                for p in self.files() if p.suffix == ".json"}


def drain(preprocess, timeout=60.0):
    """Wait until every event is delivered; none may have been given up."""
    wait_for(lambda: preprocess.metric("outbox_pending") == 0, "the outbox to be empty", timeout)
    assert preprocess.metric("outbox_dead") == 0


def all_results(ledger, timeout=60.0):
    """Wait until every acknowledged upload has its result."""
    wait_for(lambda: not ledger.missing(), "every result", timeout)


class Load:
    """Client threads, each uploading its share of `total` unique pictures, each picture until it is
    acknowledged: a refused or broken connection and 503 are tried again, any other answer fails."""

    def __init__(self, service, ledger, total, threads=6, picture=None, first=0, patience=60.0):
        self.service, self.ledger, self.patience = service, ledger, patience * SLOW
        self.picture = picture or encode(gradient(), quality=85)
        self.numbers = iter(range(first, first + total))
        self.lock = threading.Lock()
        self.attempts, self.failures = [], []
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            self.stopped.set()
        for thread in self.threads:
            thread.join(self.patience + 60)
        if kind is None:
            assert not self.failures, self.failures

    def running(self):
        return any(t.is_alive() for t in self.threads)

    def stop(self):
        """Begin nothing new."""
        self.stopped.set()

    def run(self):
        try:
            while not self.stopped.is_set():
                with self.lock:
                    n = next(self.numbers, None)
                if n is None:
                    return
                self.upload(numbered_jpeg(n, self.picture))
        except Exception as e:  # noqa: BLE001 - reported by the main thread
            self.failures.append(repr(e))

    def upload(self, data):
        deadline = time.monotonic() + self.patience
        while not self.stopped.is_set():
            reply = self.attempt(data)
            if reply is not None and reply.status == 200:
                self.ledger.record(reply)
                return
            assert reply is None or reply.status == 503, reply
            assert reply is None or reply.headers["Retry-After"], reply
            assert time.monotonic() < deadline, "never acknowledged"
            self.stopped.wait(0.02)

    def attempt(self, data):
        began, reply, error, connected = time.monotonic(), None, None, False
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=30 * SLOW)
        try:
            connection.connect()
            connected = True
            connection.request("POST", "/preprocess", data, {"Content-Type": "image/jpeg"})
            response = connection.getresponse()
            reply = Reply(response.status, response.headers, response.read())
        except (OSError, http.client.HTTPException) as e:
            error = e
        finally:
            connection.close()
        with self.lock:
            self.attempts.append(Attempt(began, reply and reply.status, error, connected))
        return reply

"""What the services promised, kept apart from them, and whether it was kept: checked against what
storage holds alone (the file store's directory, or a bucket through a client that is not ours), never
by asking a service.

    ledger = Ledger(stack.objects)  # or Ledger(Bucket(boto3 client, name, prefix))
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

from PIL import ImageStat

from conftest import SLOW, Reply, wait_for
from images import colour_of, decode, encode, gradient, numbered_jpeg

Attempt = collections.namedtuple("Attempt", "began status error sent")
DEFAULTS = {"width": 256, "height": 256, "fit": "cover", "format": "jpeg", "quality": None, "background": "ffffff"}


def content_id(data, query=""):
    """The contract's id of an upload, computed by other means than ours."""
    asked = dict(urllib.parse.parse_qsl(query.lstrip("?")))
    if asked.keys() & {"width", "height"}:
        asked = {"width": 0, "height": 0} | asked
    options = DEFAULTS | asked
    options["quality"] = options["quality"] or (94 if options["format"] == "jpeg" else 90)
    text = "".join(f"{name}={value}\n" for name, value in options.items())
    return hashlib.sha256(b"darkroom-5\n" + text.encode() + data).hexdigest()


class Directory:
    """The file store, seen through the file system."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def uri(self, key):
        return f"file://{self.folder.resolve()}/{key}"

    def keys(self):
        return {str(p.relative_to(self.folder)) for p in self.files()}

    def files(self):
        return [p for p in self.folder.rglob("*")
                if p.is_file() and (self.folder / ".tmp") not in p.parents]

    def read(self, key):
        """The bytes, or None when there is no such object."""
        path = self.folder / key
        return path.read_bytes() if path.is_file() else None

    def versions(self):
        """key -> what changes when the object is written again, even with the same bytes."""
        return {str(p.relative_to(self.folder)):
                (p.stat().st_ino, p.stat().st_mtime_ns, hashlib.sha256(p.read_bytes()).digest())
                for p in self.files()}


class Bucket:
    """A bucket of an S3 server, seen through boto3. Objects are asked for by name: Swift loses entries of
    its listings (not objects) when it is killed; what is listed is looked at, too."""

    def __init__(self, client, name, prefix=""):
        self.client, self.name, self.prefix = client, name, prefix

    def uri(self, key):
        return f"s3://{self.name}/{self.prefix}{key}"

    def listed(self):
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=self.prefix)
        return {entry["Key"][len(self.prefix):]: entry for page in pages for entry in page.get("Contents", [])}

    def keys(self):
        return set(self.listed())

    def versions(self):
        return {key: (entry["ETag"], entry["LastModified"]) for key, entry in self.listed().items()}

    def read(self, key):
        try:
            return self.client.get_object(Bucket=self.name, Key=self.prefix + key)["Body"].read()
        except self.client.exceptions.NoSuchKey:
            return None


class Ledger:
    """Every upload that was answered with 200. Thread-safe."""

    def __init__(self, where):
        self.view = where if hasattr(where, "keys") else Directory(where)
        self.acknowledged = {}  # id -> reply of the first 200
        self.colours = {}  # id -> the number of its coloured_jpeg
        self.message_ids = collections.defaultdict(set)
        self.deleted = []  # replies of what was deleted since
        self.lock = threading.Lock()

    def __len__(self):
        return len(self.acknowledged)

    @property
    def objects(self):
        return self.view.folder

    def record(self, reply, colour=None):
        assert reply.status == 200, reply
        promised = reply.json()
        assert {"id", "gcs_path", "message_id"} <= promised.keys(), reply
        with self.lock:
            first = self.acknowledged.setdefault(promised["id"], promised)
            self.message_ids[promised["id"]].add(promised["message_id"])
            if colour is not None:
                self.colours[promised["id"]] = colour
        assert first["gcs_path"] == promised["gcs_path"], "one upload, two objects"
        return promised

    def upload(self, service, data, query=""):
        promised = self.record(service.upload(data, query))
        assert promised["id"] == content_id(data, query)
        return promised

    def forget(self, ids):
        """These were deleted: then nothing of them is left."""
        self.deleted += [self.acknowledged.pop(id) for id in ids]

    def key(self, promised):
        """The object's key, from its URI."""
        key = promised["gcs_path"].rsplit("/", 1)[1]
        assert promised["gcs_path"] == self.view.uri(key), promised
        return key

    def path(self, promised):
        """The object's file."""
        return self.objects / self.key(promised)

    def missing(self, listed=None):
        """The ids that have no result yet. `listed`: keys that need not be read."""
        listed = self.view.keys() if listed is None else listed
        return [i for i, p in self.acknowledged.items()
                if self.key(p) + ".json" not in listed and self.view.read(self.key(p) + ".json") is None]

    def check(self, temporaries=0):
        """Each promise is kept, and nothing else lies around. `temporaries`: how many files a killed
        service may have left behind unfinished."""
        problems = self.problems()
        assert not problems, f"{len(problems)} problems: {problems[:10]}"
        if isinstance(self.view, Directory):
            left = list((self.objects / ".tmp").glob("*"))
            assert len(left) <= temporaries, f"left behind: {left}"

    def check_listed(self, preprocess, timeout=60.0):
        """The catalogue lists each acknowledged upload once, with its label, and nothing that is not stored."""
        def unlabelled():
            rows, before = [], ""
            while before is not None:
                page = preprocess.get("/v1/images?limit=200" + before).json()
                rows += page["images"]
                before = page["next"] and f"&before={page['next']}"
            listed = {row["id"]: row for row in rows}
            assert len(listed) == len(rows), "a picture is listed twice"
            assert not (back := {p["id"] for p in self.deleted} & set(listed)), f"deleted, and listed: {list(back)[:3]}"
            assert not (lost := set(self.acknowledged) - set(listed)), f"{len(lost)} are not listed: {list(lost)[:3]}"
            keys = self.view.keys()
            # after a kill Swift may have what it does not list
            gone = [i for i, row in listed.items() if self.key(row) not in keys and self.view.read(self.key(row)) is None]
            assert not gone, f"rows of nothing: {gone}"
            return [i for i in self.acknowledged if not listed[i]["label"]]
        wait_for(lambda: not unlabelled(), "every label in the catalogue", timeout)

    def problems(self):
        """What is lost, doubled or otherwise wrong, in words."""
        keys = self.view.keys()
        results = collections.defaultdict(set)
        for key in keys:
            if key.endswith(".json"):
                results[key.rsplit("/", 1)[-1].split(".")[0]].add(key)
        checks = [(self.check_upload, id, promised, results[id]) for id, promised in self.acknowledged.items()]
        known = {self.key(p) for p in self.acknowledged.values()}
        checks += [(self.check_unknown, key)  # what nobody was told of
                   for key in keys - known - {k + ".json" for k in known}]
        checks += [(self.check_deleted, promised) for promised in self.deleted]
        return [wrong for check, *arguments in checks if (wrong := self.wrong(check, *arguments))]

    @staticmethod
    def wrong(check, *arguments):
        try:
            check(*arguments)
        except AssertionError as e:
            return str(e)
        except (OSError, ValueError, KeyError, TypeError) as e:  # no picture, no JSON, or none of ours
            return f"damaged: {arguments[0]}: {e!r}"
        return None

    def check_upload(self, id, promised, listed):
        key = self.key(promised)
        data = self.view.read(key)
        assert data is not None, f"lost: the object of {promised}"
        assert len(data) == promised["bytes"], f"not whole: the object of {promised}"
        picture = decode(data)
        assert picture.size == (promised["width"], promised["height"]), promised
        assert listed <= {key + ".json"}, f"doubled: the result of {promised}: {listed}"
        result = self.check_result(key)
        if id in self.colours:
            self.check_colour(picture, result, self.colours[id])

    def check_deleted(self, promised):
        left = [key for key in (self.key(promised), self.key(promised) + ".json") if self.view.read(key) is not None]
        assert not left, f"deleted, and there: {left}"

    def check_unknown(self, key):
        assert key.endswith((".jpg", ".png", ".webp", ".json")), f"what is {key}?"
        data = self.view.read(key)
        if data is None:  # listed alone: see Bucket
            return
        if key.endswith(".json"):
            assert self.view.read(key[:-len(".json")]) is not None, f"{key} is no object's result"
            self.check_result(key[:-len(".json")])
        else:
            decode(data)

    def check_result(self, key):
        data = self.view.read(key + ".json")
        assert data is not None, f"lost: the result of {key}"
        result = json.loads(data)
        assert result["gcs_path"] == self.view.uri(key) and result["id"] == key.split(".")[0], result
        assert result["label"] and 0 < result["confidence"] <= 1, result
        assert result["source_etag"] and result["model_sha256"], result
        return result

    @staticmethod
    def check_colour(picture, result, number):
        """The bytes and the label are this upload's: none got another's."""
        drawn, label = colour_of(number)
        got = ImageStat.Stat(picture.convert("RGB")).mean
        assert all(abs(a - b) < 6 for a, b in zip(got, drawn)), f"another picture: {got}, not {drawn}"
        assert result["label"] == label, f"another picture's result: {result}, not {label}"

    def files(self):
        return self.view.files()

    def results(self):
        """What must not change any more: key -> version."""
        return {key: version for key, version in self.view.versions().items() if key.endswith(".json")}


def drain(preprocess, timeout=60.0):
    """Wait until every event is delivered; none may have been given up."""
    wait_for(lambda: preprocess.metric("outbox_pending") == 0, "the outbox to be empty", timeout)
    dead = preprocess.metric("outbox_dead")
    assert dead == 0, f"{dead} dead letters"


def all_results(ledger, timeout=60.0):
    """Wait until every acknowledged upload has its result."""
    wait_for(lambda: not ledger.missing(), "every result", timeout)


class Load:
    """Client threads, each uploading its share of `total` unique pictures, each picture until it is
    acknowledged: a refused or broken connection and `refusals` are tried again, any other answer fails."""

    def __init__(self, service, ledger, total, threads=6, picture=None, first=0, patience=60.0,
                 coloured=None, query="", refusals=(503,), pace_s=0.0):
        """`coloured`: a function from a number to a picture of images.colour_of(number). `pace_s`: how long a client
        waits before each picture."""
        self.service, self.ledger, self.patience = service, ledger, patience * SLOW
        self.picture = picture or encode(gradient(), quality=85)
        self.coloured, self.query, self.refusals, self.pace_s = coloured, query, refusals, pace_s
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
                self.stopped.wait(self.pace_s)
                data = self.coloured(n) if self.coloured else numbered_jpeg(n, self.picture)
                self.upload(data, n if self.coloured else None)
        except Exception as e:  # noqa: BLE001 - reported by the main thread
            self.failures.append(repr(e))

    def upload(self, data, colour=None):
        deadline = time.monotonic() + self.patience
        while not self.stopped.is_set():
            reply = self.attempt(data)
            if reply is not None and reply.status == 200:
                promised = self.ledger.record(reply, colour)
                assert promised["id"] == content_id(data, self.query), promised
                return
            assert reply is None or reply.status in self.refusals, reply
            assert reply is None or reply.headers["Retry-After"], reply
            assert time.monotonic() < deadline, "never acknowledged"
            self.stopped.wait(0.02)

    def attempt(self, data):
        began, reply, error, sent = time.monotonic(), None, None, None
        connection = http.client.HTTPConnection(self.service.host, self.service.port, timeout=30 * SLOW)
        try:
            connection.connect()
            connection.request("POST", "/preprocess" + self.query, data, {"Content-Type": "image/jpeg"})
            sent = time.monotonic()
            response = connection.getresponse()
            reply = Reply(response.status, response.headers, response.read())
        except (OSError, http.client.HTTPException) as e:
            error = e
        finally:
            connection.close()
        with self.lock:
            self.attempts.append(Attempt(began, reply and reply.status, error, sent))
        return reply

"""One conformance suite for every store: a directory, S3 with SigV4 and SigV2, GCS; on real servers.

What a store cannot hold is said in its Kind; everything else holds for all of them.
"""
import hashlib
import os
import time
import uuid

import pytest

import store_servers
from conftest import SLOW
from store_client import Store, StoreError

pytestmark = pytest.mark.memory


@pytest.fixture(scope="module", params=store_servers.KINDS)
def kind(request):
    return store_servers.KINDS[request.param]()


def only(wanted):
    """For tests of what not every store has."""
    return pytest.mark.parametrize("kind", [name for name in store_servers.KINDS if wanted(name)], indirect=True)


buckets = only(lambda name: name != "file")
with_credentials = only(lambda name: name.endswith(("-v4", "-v2")))


@pytest.mark.parametrize("name", store_servers.SERVERS)
def test_the_server_is_to_be_had(name, record_property):
    """Skipped, loudly, where it is not: then nothing was tested on it."""
    why = store_servers.why_not(name)
    if why:
        pytest.skip(f"STORAGE NOT TESTED on {name}: {why}")
    record_property("storage", store_servers.server(name).version())


@pytest.fixture
def prefix():
    return f"t-{uuid.uuid4().hex[:12]}/"


@pytest.fixture
def store(kind, tmp_path):
    opened = Store(tmp_path, **kind.env)
    yield opened
    opened.close()


def fails(slug):
    class Expectation:
        def __enter__(self):
            return self

        def __exit__(self, kind_, error, traceback):
            assert isinstance(error, StoreError), f"expected {slug}, got {error!r}"
            assert error.slug == slug, error
            self.error = error
            return True
    return Expectation()


def test_put_then_get_head_and_delete(store, prefix):
    data = os.urandom(100_000)
    before = time.time()
    assert store.put(prefix + "a.jpg", data, content_type="image/jpeg") is False
    got, info = store.get(prefix + "a.jpg")
    assert got == data
    head = store.head(prefix + "a.jpg")
    for seen in (info, head):
        assert seen["size"] == len(data)
        assert seen["etag"] and '"' not in seen["etag"]
        assert seen["etag"] == head["etag"]
        assert before - 5 <= seen["modified_ms"] / 1000 <= time.time() + 5
    store.delete(prefix + "a.jpg")
    with fails("not-found"):
        store.get(prefix + "a.jpg")
    with fails("not-found"):
        store.head(prefix + "a.jpg")
    store.delete(prefix + "a.jpg")


@buckets
def test_the_content_type_is_there_for_other_clients(store, kind, prefix):
    store.put(prefix + "m", b"data", content_type="image/webp")
    assert kind.look_type(prefix + "m") == "image/webp"


def test_an_empty_object(store, prefix):
    store.put(prefix + "empty")
    got, info = store.get(prefix + "empty")
    assert got == b"" and info["size"] == 0
    assert store.head(prefix + "empty")["size"] == 0
    assert store.read(prefix + "empty", length=10) == b""


def test_an_object_of_20_mb(store, prefix):
    data = os.urandom(20_000_000)
    store.put(prefix + "big", data)
    assert hashlib.sha256(store.read(prefix + "big")).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("offset,length", [(0, 1), (0, 1000), (10, 5), (999, 1), (500, 0), (990, 100), (1, 5000),
                                           (999, 2**62)])
def test_ranges(store, prefix, offset, length):
    data = os.urandom(1000)
    store.put(prefix + "r", data)
    got, info = store.get(prefix + "r", offset=offset, length=length)
    assert got == (data[offset:offset + length] if length else data[offset:])
    assert info["size"] == 1000


@pytest.mark.parametrize("offset", [1000, 1001, 2**40])
def test_a_range_past_the_end(store, prefix, offset):
    store.put(prefix + "r", b"x" * 1000)
    with fails("range-not-satisfiable"):
        store.get(prefix + "r", offset=offset)


def test_max_bytes(store, prefix):
    store.put(prefix + "m", b"x" * 200_000)
    assert len(store.read(prefix + "m", max_bytes=200_000)) == 200_000
    with fails("too-large"):
        store.get(prefix + "m", max_bytes=199_999)
    with fails("too-large"):
        store.get(prefix + "m", max_bytes=10)
    assert len(store.read(prefix + "m", max_bytes=10, offset=5, length=10)) == 10


def test_if_absent_keeps_what_is_there(store, kind, prefix):
    assert store.put(prefix + "k", b"first", if_absent=True) is False
    etag = store.head(prefix + "k")["etag"]
    assert store.put(prefix + "k", b"second", if_absent=True) is True
    assert store.read(prefix + "k") == b"first"
    assert store.head(prefix + "k")["etag"] == etag
    assert store.put(prefix + "k", b"third") is False
    assert store.read(prefix + "k") == b"third"
    assert store.head(prefix + "k")["etag"] != etag


STRANGE = ["with space", "plus+sign", "per%cent", "%41", "a%2Fb", "ümläut/日本語", "emoji-🐕.jpg", "semi;colon",
           "amp&equals=", "quote'\"", "star*", "tilde~", "brackets[](){}", "at@colon:", "hash#", "question?x=1", "comma,",
           "back\\slash", "caret^", "pipe|", "less<greater>", "back`tick", "dollar$", "excl!", "-dash", "_under",
           "trailing.", "...three", "a/.hidden", "x" * 200, "deep/" * 20 + "leaf"]


@pytest.mark.parametrize("name", STRANGE)
def test_keys_with_every_legal_character(store, kind, prefix, name):
    key = prefix + name
    store.put(key, name.encode(), content_type="text/plain")
    assert store.read(key) == name.encode()
    assert store.head(key)["size"] == len(name.encode())
    assert store.list(prefix) == {key: len(name.encode())}
    if kind.look is not None:
        assert kind.look(key) == name.encode(), "another client sees it elsewhere"
    store.call("uri", key=key)
    store.delete(key)
    assert store.list(prefix) == {}


@only(lambda name: name != "versitygw-v4")  # its keys are paths
@pytest.mark.parametrize("name", ["a//b", "double//slash//", "/leading"])
def test_empty_segments(store, kind, prefix, name):
    if not kind.empty_segments:
        with fails("bad-request"):
            store.put(prefix + name, b"data")
        return
    store.put(prefix + name, b"data")
    assert store.read(prefix + name) == b"data"
    assert store.list(prefix) == {prefix + name: 4}
    store.put((prefix + name).replace("//", "/"), b"other")
    assert store.read(prefix + name) == b"data"


@pytest.mark.parametrize("key", ["", ".", "..", "a/../b", "a/./b", "../x", "a\x01b", "a\nb", "a\x7f", "x" * 1025])
def test_illegal_keys(store, key):
    for call in (store.put, store.get, store.head, store.delete):
        with fails("bad-request"):
            call(key)


def test_the_longest_segment(store, kind, prefix):
    longest = kind.longest_segment
    if longest is None:
        return
    store.put(prefix + "s" * longest, b"x")
    with fails("bad-request"):
        store.put(prefix + "s" * (longest + 1), b"x")


def test_the_longest_key(store, kind):
    if kind.name in ("file", "versitygw-v4") or kind.longest_segment:
        key = "/".join(["p" * 200] * 5)[:1000]
    else:
        key = "k" * kind.longest_key
    store.put(key, b"x")
    assert store.read(key) == b"x"
    store.delete(key)


def test_listing(store, prefix):
    keys = {f"{prefix}{name}": len(name) for name in ["a1", "dir/b", "dir/c/d", "b c", "b+c", "b%20c"]}
    for key, size in keys.items():
        store.put(key, b"x" * size)
    assert store.list(prefix) == keys
    assert store.list(prefix + "dir/") == {k: v for k, v in keys.items() if "/dir/" in k}
    assert store.list(prefix + "b") == {k: v for k, v in keys.items() if k.startswith(prefix + "b")}
    assert store.list(prefix + "nothing") == {}
    assert len(store.list(prefix, stop_after=2)) == 2


filled = {}  # server -> prefix of many objects


def test_listing_more_than_a_page(store, kind, prefix):
    count, where = 23 * kind.page // 10, (kind.env["STORAGE_URL"], kind.env.get("S3_ENDPOINT"))
    if where not in filled:  # once for all signatures
        assert store.call("fill", prefix=prefix, threads=8, rounds=(count + 7) // 8)["ok"]
        filled[where] = prefix
    prefix = filled[where]
    names = store.list(prefix, deadline_ms=int(60_000 * SLOW))
    assert len(names) == (count + 7) // 8 * 8
    assert set(names.values()) == {1}


def test_many_threads(store, kind, prefix):
    store.call("parallel", prefix=prefix, threads=16, rounds=20 if kind.fast else 5, deadline_ms=int(60_000 * SLOW))
    assert store.list(prefix) == {}


@buckets
def test_a_prefix_is_a_wall(kind, tmp_path, prefix):
    inside = Store(tmp_path, **kind.env | {"STORAGE_URL": kind.env["STORAGE_URL"] + "/" + prefix + "in"})
    outside = Store(tmp_path, **kind.env)
    outside.put(prefix + "out", b"secret")
    outside.put(prefix + "in2", b"secret")
    inside.put(prefix + "in/a", b"a")
    for key in (prefix + "out", prefix + "in2", prefix + "in", "a"):
        with fails("forbidden"):
            inside.get(key)
        with fails("forbidden"):
            inside.put(key, b"x")
    assert inside.list("") == {prefix + "in/a": 1}
    assert outside.list(prefix) == {prefix + "in/a": 1, prefix + "in2": 6, prefix + "out": 6}
    inside.close()
    outside.close()


@buckets
def test_a_missing_bucket_is_not_a_missing_object(kind, tmp_path):
    """Nothing may be thrown away because a bucket is not there (yet)."""
    store = Store(tmp_path, **kind.env | {"STORAGE_URL": kind.scheme + "://no-such-bucket-here"})
    for call in (lambda: store.put("k", b"x"), lambda: store.get("k"), lambda: store.head("k"),
                 lambda: store.list("")):
        with fails("unavailable") as caught:
            call()
        assert kind.name == "gcs" or "bucket" in caught.error.message  # the fake says 500
    store.close()


@with_credentials
def test_wrong_credentials(kind, tmp_path):
    for name, value in (("AWS_SECRET_ACCESS_KEY", "wrong-secret-0123456789"), ("AWS_ACCESS_KEY_ID", "nobody")):
        store = Store(tmp_path, **kind.env | {name: value})
        for call in (lambda: store.put("k", b"x"), lambda: store.get("k"), lambda: store.head("k"),
                     lambda: store.list("")):
            with fails("unavailable") as caught:
                call()
            assert value not in caught.error.message
            assert kind.env["AWS_SECRET_ACCESS_KEY"] not in caught.error.message
        store.close()


def test_a_deadline_that_has_passed(store, prefix):
    with fails("deadline"):
        store.get(prefix + "k", deadline_ms=-1)


@buckets
def test_what_another_client_wrote(store, kind, prefix):
    kind.write(prefix + "foreign.png", b"png", "image/png")
    got, info = store.get(prefix + "foreign.png")
    assert got == b"png" and info["size"] == 3

"""The checker of the fault tests can fail: what is lost, doubled, mixed up or written again is noticed, on a
directory and on a bucket."""
import json
import uuid

import pytest

import store_servers
from conftest import Stack
from fault_world import s3_server
from images import coloured_jpeg
from ledger import Bucket, Directory, Ledger, content_id, drain
from models import tiny_model
from store_servers import servers

pytestmark = pytest.mark.faults  # what they rely on
QUERY = "?width=64&height=64"
UPLOADS = 6


class WritableDirectory(Directory):
    def write(self, key, data):
        (self.folder / key).unlink(missing_ok=True)
        (self.folder / key).write_bytes(data)

    def remove(self, key):
        (self.folder / key).unlink()


class WritableBucket(Bucket):
    def write(self, key, data):
        self.client.put_object(Bucket=self.name, Key=self.prefix + key, Body=data)

    def remove(self, key):
        self.client.delete_object(Bucket=self.name, Key=self.prefix + key)


@pytest.fixture(params=["directory", "bucket"])
def ledger(request, tmp_path, services):
    """Six uploads with their results."""
    env, view = {}, WritableDirectory(tmp_path / "objects")
    if request.param == "bucket":
        name = s3_server()
        if name is None:
            pytest.skip("CHECKER NOT TESTED on S3: no server at hand")
        server, prefix = store_servers.server(name), uuid.uuid4().hex[:12] + "/"
        env = store_servers.s3_env(server)
        env["STORAGE_URL"] += "/" + prefix.rstrip("/")
        view = WritableBucket(servers.boto(server), server.bucket, prefix)
    services.append(Stack(tmp_path, env, env | {"MODEL": tiny_model(tmp_path)}))
    stack = services[0].start()
    made = Ledger(view)
    for n in range(UPLOADS):
        data = coloured_jpeg(n)
        promised = made.record(stack.preprocess.upload(data, QUERY), n)
        assert promised["id"] == content_id(data, QUERY)
    drain(stack.preprocess)
    made.check()
    assert not made.missing()
    return made


def key_of(ledger, n):
    id = next(i for i, number in ledger.colours.items() if number == n)
    return ledger.key(ledger.acknowledged[id])


def noticed(ledger, *words, problems=1):
    found = ledger.problems()
    assert len(found) == problems and all(word in problem for word in words for problem in found), found
    with pytest.raises(AssertionError):
        ledger.check()


def test_a_lost_object(ledger):
    ledger.view.remove(key_of(ledger, 1))
    noticed(ledger, "lost: the object")


def test_a_deletion_that_left_something(ledger):
    key = key_of(ledger, 1)
    data = ledger.view.read(key)
    ledger.forget([key.split(".")[0]])
    noticed(ledger, "deleted, and there")
    ledger.view.remove(key + ".json")
    noticed(ledger, "deleted, and there")
    ledger.view.remove(key)
    assert not ledger.problems()
    ledger.view.write(key, data)
    noticed(ledger, "deleted, and there")


def test_a_lost_result(ledger):
    ledger.view.remove(key_of(ledger, 1) + ".json")
    noticed(ledger, "lost: the result")
    assert len(ledger.missing()) == 1


def test_an_object_cut_short(ledger):
    key = key_of(ledger, 2)
    ledger.view.write(key, ledger.view.read(key)[:-100])
    noticed(ledger, "not whole")


def test_an_object_of_garbage(ledger):
    key = key_of(ledger, 2)
    ledger.view.write(key, bytes(len(ledger.view.read(key))))
    noticed(ledger, "damaged")


def test_a_doubled_result(ledger):
    key = key_of(ledger, 3)
    ledger.view.write(key.replace(".jpg", ".png.json"), ledger.view.read(key + ".json"))
    noticed(ledger, key[:-4], problems=2)  # two of one id, and one of no object


def test_a_doubled_object(ledger):
    """The same picture under another name, which no upload has."""
    data = ledger.view.read(key_of(ledger, 3))
    ledger.view.write("copy", data)
    noticed(ledger, "what is copy?")


def test_objects_mixed_up(ledger):
    """Both are whole, and of the same size as the other's may be."""
    one, other = key_of(ledger, 0), key_of(ledger, 1)
    ledger.view.write(one, ledger.view.read(other))
    assert any("another picture" in p or "not whole" in p for p in ledger.problems())


def test_results_mixed_up(ledger):
    one, other = key_of(ledger, 0) + ".json", key_of(ledger, 1) + ".json"
    label = json.loads(ledger.view.read(other))["label"]
    ledger.view.write(one, json.dumps(json.loads(ledger.view.read(one)) | {"label": label}).encode())
    noticed(ledger, "another picture's result")
    ledger.view.write(one, ledger.view.read(other))
    noticed(ledger, "gcs_path")


@pytest.mark.parametrize("text", [b"", b"{}", b"{\"label\":", b"[]"], ids=["empty", "nothing", "cut", "a list"])
def test_a_result_that_is_none(ledger, text):
    ledger.view.write(key_of(ledger, 4) + ".json", text)
    noticed(ledger)


def test_a_result_without_an_object(ledger):
    ledger.view.write("f" * 64 + ".jpg.json", ledger.view.read(key_of(ledger, 4) + ".json"))
    noticed(ledger, "no object's result")


def test_half_an_object_that_nobody_was_told_of(ledger):
    ledger.view.write("e" * 64 + ".jpg", ledger.view.read(key_of(ledger, 5))[:200])
    noticed(ledger, "damaged")


def test_a_result_written_again(ledger):
    before = ledger.results()
    assert len(before) == UPLOADS
    key = key_of(ledger, 5) + ".json"
    result = json.loads(ledger.view.read(key)) | {"classified_at": "2000-01-01T00:00:00.000Z"}
    ledger.view.write(key, json.dumps(result).encode())
    assert not before.items() <= ledger.results().items()
    assert not ledger.problems()  # right by itself


def test_two_objects_for_one_upload(ledger):
    id, promised = next(iter(ledger.acknowledged.items()))
    ledger.acknowledged[id] = promised | {"gcs_path": promised["gcs_path"].replace(".jpg", ".png")}
    noticed(ledger, "lost: the object", problems=1)

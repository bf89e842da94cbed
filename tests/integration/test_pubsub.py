"""POST /pubsub: an announced object is labelled once, whatever else arrives."""
import base64
import concurrent.futures
import gzip
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest

from conftest import BUILD, MODEL, Service, wait_for
from images import encode, gradient, numbered_jpeg
from test_preprocess import assert_problem

pytestmark = pytest.mark.memory

PICTURE = encode(gradient())
SUBSCRIPTION = "projects/p/subscriptions/s"
ID = "0123456789abcdef" * 4
MODEL_SHA256 = json.loads(MODEL.read_text())["sha256"] if MODEL.exists() else None


def envelope(uri, message_id="message-1", subscription=SUBSCRIPTION, **attributes):
    data = base64.b64encode(json.dumps({"gcs_path": uri}).encode()).decode()
    return {"message": {"data": data, "messageId": message_id, "message_id": message_id,
                        "attributes": attributes, "publishTime": "2026-01-02T03:04:05.678Z"},
            "subscription": subscription}


def push(service, body, **headers):
    text = body if isinstance(body, (bytes, str)) else json.dumps(body)
    return service.request("POST", "/pubsub", text, {"Content-Type": "application/json"} | headers)


def put(service, key, data=PICTURE):
    """An object that somebody put into the store: its URI."""
    path = service.folder / "objects" / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return f"file://{path}"


def files(service):
    """Every file in the store: name -> (inode, mtime, bytes)."""
    root = service.folder / "objects"
    return {str(p.relative_to(root)): (p.stat().st_ino, p.stat().st_mtime_ns, p.read_bytes())
            for p in sorted(root.rglob("*")) if p.is_file()}


def rejected_key(source=SUBSCRIPTION, message_id="message-1"):
    return "rejected/" + hashlib.sha256(f"{source}\n{message_id}".encode()).hexdigest() + ".json"


# --- what is labelled -----------------------------------------------------------------------------


def test_result_is_stored_before_the_answer(classify):
    for key, image_id in ((f"{ID}.jpg", ID), ("album/photo.jpg", None), (f"album/{ID}.jpg", None), ("x", None),
                          (f"{ID}.gif", None)):
        uri = put(classify, key)
        reply = push(classify, envelope(uri, traceparent="x", more="y"))
        assert reply.status == 200, reply
        stored = json.loads(files(classify)[key + ".json"][2])
        told = reply.json()
        assert told == {"status": "ok", "label": stored["label"], "confidence": stored["confidence"]}
        direct = classify.post_image("/classify", PICTURE).json()
        assert {k: stored[k] for k in direct} == direct
        assert set(stored) - set(direct) == {"gcs_path", "id", "source_etag", "model_sha256", "classified_at"}
        assert stored["gcs_path"] == uri
        assert stored["id"] == image_id
        assert stored["model_sha256"] == MODEL_SHA256
        assert stored["source_etag"]
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stored["classified_at"])
    assert not (classify.folder / "objects/rejected").exists()


def test_envelope_variants(classify):
    uri = put(classify, "a.jpg")
    plain = envelope(uri)
    bare = {"message": {"data": plain["message"]["data"]}}
    old = {"message": {"data": plain["message"]["data"], "message_id": "1"}, "subscription": "s"}
    extra = plain | {"deliveryAttempt": 3, "unknown": [1]}
    for body in (plain, bare, old, extra):
        assert push(classify, body).json()["status"] == "ok"
    for content_type in ("text/plain", "application/octet-stream"):
        assert push(classify, plain, **{"Content-Type": content_type}).json()["status"] == "ok"


def test_duplicates_leave_the_result_alone(classify):
    uri = put(classify, "a.jpg")
    first = push(classify, envelope(uri))
    before = files(classify)
    for n in range(3):
        assert push(classify, envelope(uri, f"message-{n}")).body == first.body
    assert files(classify) == before


def test_concurrent_duplicates(classify):
    """Sixteen at once: all get the same answer, one result is written and never again."""
    for n in range(3):
        uri = put(classify, f"{n}.jpg", numbered_jpeg(n, PICTURE))
        with concurrent.futures.ThreadPoolExecutor(16) as threads:
            replies = list(threads.map(lambda _: push(classify, envelope(uri)), range(16)))
        assert {(r.status, r.body) for r in replies} == {(200, replies[0].body)}
        before = files(classify)
        assert f"{n}.jpg.json" in before
        assert push(classify, envelope(uri)).body == replies[0].body
        assert files(classify) == before
    assert len(before) == 6


def test_replaced_object_replaces_the_result(classify):
    uri = put(classify, "a.jpg")
    push(classify, envelope(uri))
    first = json.loads(files(classify)["a.jpg.json"][2])
    put(classify, "a.jpg", encode(gradient(90, 300)))
    assert push(classify, envelope(uri)).json()["status"] == "ok"
    second = json.loads(files(classify)["a.jpg.json"][2])
    assert second["source_etag"] != first["source_etag"]
    assert second["top"] != first["top"]
    assert not (classify.folder / "objects/rejected").exists()


def test_another_model_replaces_the_result(classify):
    uri = put(classify, "a.jpg")
    push(classify, envelope(uri))
    path = classify.folder / "objects/a.jpg.json"
    for wrong in (json.loads(path.read_text()) | {"model_sha256": "0" * 64, "label": "old"}, {}, [], "text"):
        path.write_text(json.dumps(wrong))
        assert push(classify, envelope(uri)).json()["status"] == "ok"
        assert json.loads(path.read_text())["model_sha256"] == MODEL_SHA256
    path.write_bytes(b"\0 no JSON")
    assert push(classify, envelope(uri)).json()["status"] == "ok"
    assert json.loads(path.read_text())["label"]


# --- what is ignored ------------------------------------------------------------------------------


def test_own_outputs_are_ignored(classify):
    """Decided by the name, before any look at storage: what is there, or not, makes no difference."""
    present = [put(classify, "a.jpg.json", b"{}"), put(classify, "rejected/picture.jpg"),
               put(classify, "rejected/deep/picture.jpg"), put(classify, "tasks/picture.png")]
    before = files(classify)
    absent = [f"file://{classify.folder}/objects/{key}" for key in ("b.json", "rejected/x", "rejected/y.json")]
    for uri in present + absent:
        reply = push(classify, envelope(uri))
        assert (reply.status, reply.json()) == (200, {"status": "ignored"}), uri
    assert files(classify) == before
    for key in ("tasks.jpg", "rejecteda.jpg", "arejected/b.jpg", "a.json.jpg", "deep/rejected/b.jpg"):
        assert push(classify, envelope(put(classify, key))).json()["status"] == "ok"


def test_our_own_announcements_are_ignored(classify):
    """A topic of results that leads back here: no loop."""
    uri = put(classify, "a.jpg")
    reply = push(classify, envelope(uri, origin="classify-service"))
    assert reply.json() == {"status": "ignored"}
    assert list(files(classify)) == ["a.jpg"]
    assert push(classify, envelope(uri, origin="preprocess-service")).json()["status"] == "ok"


# --- what is rejected -----------------------------------------------------------------------------


@pytest.mark.parametrize("key, data", [
    (f"{ID}.jpg", None), ("gone.jpg", None), ("text.jpg", b"text"), ("empty.jpg", b""),
    ("half.jpg", PICTURE[:1500]), (f"{ID}.png", b"<svg/>"),
])
def test_rejected_and_recorded(classify, key, data):
    """Two records and nothing else; duplicates leave them alone."""
    if data is not None:
        put(classify, key, data)
    uri = f"file://{classify.folder}/objects/{key}"
    before = set(files(classify))
    reply = push(classify, envelope(uri))
    assert reply.status == 200, reply
    told = reply.json()
    assert set(told) == {"status", "detail"} and told["status"] == "rejected" and told["detail"]
    after = files(classify)
    assert set(after) - before == {key + ".json", rejected_key()}
    result = json.loads(after[key + ".json"][2])
    assert (result["status"], result["detail"]) == ("rejected", told["detail"])
    assert result["id"] == (ID if key.startswith(ID) else None)
    assert (result["source_etag"] == "") == (data is None)
    record = json.loads(after[rejected_key()][2])
    assert record == {"status": "rejected", "gcs_path": uri, "event_id": "message-1", "source": SUBSCRIPTION,
                      "detail": told["detail"]}
    assert push(classify, envelope(uri)).json() == told
    assert files(classify) == after
    assert classify.metric('events_total{outcome="rejected"}') == 2
    assert [line for line in classify.log_lines() if line["message"] == "rejected" and line["gcs_path"] == uri]


def test_rejected_then_put_right(classify):
    """An object that appears, or becomes an image, after all."""
    uri = f"file://{classify.folder}/objects/late.jpg"
    assert push(classify, envelope(uri)).json()["status"] == "rejected"
    put(classify, "late.jpg", b"text")
    assert push(classify, envelope(uri, "2")).json()["status"] == "rejected"
    put(classify, "late.jpg")
    assert push(classify, envelope(uri, "3")).json()["status"] == "ok"
    assert json.loads(files(classify)["late.jpg.json"][2])["label"]


def test_late_duplicate_keeps_the_result_of_a_deleted_object(classify):
    uri = put(classify, "a.jpg")
    push(classify, envelope(uri))
    result = files(classify)["a.jpg.json"]
    (classify.folder / "objects/a.jpg").unlink()
    assert push(classify, envelope(uri)).json()["status"] == "rejected"
    assert files(classify)["a.jpg.json"] == result


@pytest.mark.parametrize("uri", ["gs://other/a.jpg", "s3://other/a.jpg", "file:///etc/passwd", "http://127.0.0.1/x",
                                 "nonsense", "file:///../x"])
def test_foreign_objects_leave_no_trace(classify, uri):
    for suffix in ("", ".json"):
        reply = push(classify, envelope(uri + suffix))
        assert (reply.status, reply.json()["status"]) == (200, "rejected")
    assert files(classify) == {}
    assert classify.metric('events_total{outcome="rejected"}') == 2


@pytest.mark.parametrize("key", ["a//b.jpg", "k" * 256 + ".jpg", "x" * 252, ".tmp/a.jpg", "/".join("d" * 70),
                                 "long/" * 204 + "x.jpg"])
def test_keys_that_storage_cannot_hold_are_settled(classify, key):
    """Trying again would not help: 200, so that the sender stops."""
    reply = push(classify, envelope(f"file://{classify.folder}/objects/{key}"))
    assert (reply.status, reply.json()["status"]) == (200, "rejected"), reply
    assert set(files(classify)) <= {rejected_key()}


@pytest.mark.parametrize("text", ["m" * 5000, '"' * 1500, "\\" * 3000, "é" * 1000, "\x01" * 900, ""])
def test_record_of_a_rejection_is_small(classify, text):
    uri = f"file://{classify.folder}/objects/gone.jpg"
    assert push(classify, envelope(uri, text, "s" + text)).json()["status"] == "rejected"
    data = files(classify)[rejected_key("s" + text, text)][2]
    assert len(data) <= 4096
    assert json.loads(data)["status"] == "rejected"


# --- what is refused ------------------------------------------------------------------------------


def encoded(data):
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", PICTURE,
    {}, {"message": None}, {"message": {}}, {"message": []}, {"message": {"data": 7}}, {"message": {"data": "%%%"}},
    {"message": {"data": ""}}, {"message": {"data": encoded(b"no JSON")}}, {"message": {"data": encoded(b"[]")}},
    {"message": {"data": encoded(b"{}")}}, {"message": {"data": encoded(b'{"gcs_path": 1}')}},
    {"message": {"data": encoded(b'{"gcs_path": ""}')}}, {"gcs_path": "file:///x"},
    {"message": {"data": encoded(b'{"gcs_path": "file:///x"}'), "attributes": []}},
    {"message": {"data": encoded(b'{"gcs_path": "file:///x"}'), "messageId": 7}},
], ids=lambda body: repr(body)[:40])
def test_nonsense(classify, body):
    assert_problem(push(classify, body), 400)
    assert files(classify) == {}


@pytest.mark.parametrize("message", [
    {"attributes": {"a": "b"}, "messageId": "1"}, {"data": "", "attributes": {"a": "b"}, "messageId": "1"}])
def test_a_message_without_data_is_not_sent_again(classify, message):
    """It names no object, and never will: 200, so that it cannot hold up a subscription."""
    rejected = classify.metric('events_total{outcome="rejected"}')
    reply = push(classify, {"message": message, "subscription": "s"})
    assert (reply.status, reply.json()["status"]) == (200, "rejected") and "attributes only" in reply.json()["detail"]
    unwrapped = push(classify, b"", **{"x-goog-pubsub-message-id": "1", "a": "b"})
    assert (unwrapped.status, unwrapped.json()) == (200, reply.json())
    assert files(classify) == {}
    assert classify.metric('events_total{outcome="rejected"}') == rejected + 2


def test_a_compressed_push(classify):
    uri = put(classify, "a.jpg")
    plain = push(classify, envelope(uri))
    packed = push(classify, gzip.compress(json.dumps(envelope(uri)).encode()), **{"Content-Encoding": "gzip"})
    assert (packed.status, packed.json()) == (200, plain.json())
    assert_problem(push(classify, gzip.compress(bytes(2 << 20)), **{"Content-Encoding": "gzip"}), 413)
    assert_problem(push(classify, b"{}", **{"Content-Encoding": "br"}), 415)


def test_oversized_envelope(classify):
    assert_problem(push(classify, envelope("file:///x", "m" * (1 << 20))), 413)


def test_token(tmp_path, services):
    token = "s3cret-t0ken"
    services.append(Service("classify-service", tmp_path, PUSH_TOKEN=token, LOG_LEVEL="debug"))
    service = services[0].start()
    body = envelope(put(service, "a.jpg"))
    for headers in ({}, {"Authorization": ""}, {"Authorization": "Bearer"}, {"Authorization": "Bearer "},
                    {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {token}x"},
                    {"Authorization": f"Bearer {token[:-1]}"}, {"Authorization": token},
                    {"Authorization": f"Basic {token}"}, {"X-Authorization": f"Bearer {token}"}):
        reply = push(service, body, **headers)
        assert_problem(reply, 401)
        assert reply.headers["WWW-Authenticate"].startswith("Bearer")
    assert_problem(push(service, b"nonsense"), 401)
    assert list(files(service)) == ["a.jpg"]
    for scheme in ("Bearer", "bearer"):
        assert push(service, body, Authorization=f"{scheme} {token}").json()["status"] == "ok"
    assert service.get("/results?gcs_path=x").status == 400  # only /pubsub asks for it
    service.stop()
    assert token not in service.log()


# --- passing faults -------------------------------------------------------------------------------


def test_place_of_the_result_is_taken(classify):
    """Only an operator can put that right: settled, recorded under rejected/."""
    uri = put(classify, "a.jpg")
    put(classify, "a.jpg.json/in-the-way", b"")
    reply = push(classify, envelope(uri))
    assert (reply.status, reply.json()["status"]) == (200, "rejected"), reply
    assert set(files(classify)) == {"a.jpg", "a.jpg.json/in-the-way", rejected_key()}


def test_storage_that_is_gone(classify):
    """Its folder removed: nothing is acknowledged."""
    uri = put(classify, "a.jpg")
    assert push(classify, envelope(uri)).json()["status"] == "ok"
    shutil.rmtree(classify.folder / "objects")
    for n in range(3):
        reply = push(classify, envelope(uri, f"message-{n}"))
        assert reply.status == 503, reply
        assert reply.headers["Retry-After"]


def test_unreadable_storage(tmp_path, services, request):
    """As an ordinary user; permissions mean nothing to root."""
    tmp_path.chmod(0o777)
    services.append((Service if os.geteuid() else Unprivileged)("classify-service", tmp_path))
    service = services[0]
    service.start()
    root = tmp_path / "objects"
    uri = put(service, "a.jpg")
    request.addfinalizer(lambda: root.chmod(0o777))
    (root / "a.jpg").chmod(0)
    reply = push(service, envelope(uri))
    assert reply.status == 503, reply
    assert reply.headers["Retry-After"]
    (root / "a.jpg").chmod(0o644)
    root.chmod(0o555)
    reply = push(service, envelope(uri))
    assert reply.status == 503, reply
    root.chmod(0)
    for call in (lambda: push(service, envelope(uri)), lambda: service.get("/results?gcs_path=" + uri),
                 lambda: service.request("POST", "/classify", json.dumps({"gcs_path": uri}),
                                         {"Content-Type": "application/json"})):
        reply = call()
        assert reply.status == 503, reply
        assert reply.headers["Retry-After"]
        assert str(root) not in reply.json()["detail"]
    assert service.get("/readyz").status == 503  # after three failures
    root.chmod(0o777)
    assert push(service, envelope(uri)).json()["status"] == "ok"
    assert service.get("/readyz").status == 200
    assert sorted(files(service)) == ["a.jpg", "a.jpg.json"]


class Unprivileged(Service):
    """Run by nobody, as a copy that nobody can reach."""

    def launch(self):
        binary = self.folder / self.name
        shutil.copy(BUILD / self.name, binary)
        binary.chmod(0o755)
        models = self.folder / "models"
        shutil.copytree(MODEL.parent, models, dirs_exist_ok=True)
        self.env["MODEL"] = str(models / MODEL.name)
        for parent in self.folder.parents:
            if parent.stat().st_uid == os.geteuid() and pathlib.Path(tempfile.gettempdir()) in parent.parents:
                parent.chmod(0o755)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([binary], env=self.env, cwd=self.folder, stdout=log, stderr=log,
                                            user="nobody", group="nogroup", extra_groups=[])
        return self


def test_metrics_count_outcomes(classify):
    uri = put(classify, "a.jpg")
    for n in range(2):
        push(classify, envelope(uri))
    push(classify, envelope(uri + ".json"))
    push(classify, envelope(uri + "x"))
    wait_for(lambda: classify.metric('events_total{outcome="classified"}') == 2, "the count of labelled events")
    assert classify.metric('events_total{outcome="ignored"}') == 1
    assert classify.metric('events_total{outcome="rejected"}') == 1

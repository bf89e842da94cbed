"""GET /results: what became of an object, however it is asked for."""
import json
import os
import urllib.parse

import pytest

from conftest import Service
from images import encode, gradient
from test_preprocess import assert_problem
from test_pubsub import ID, envelope, push, put

pytestmark = pytest.mark.memory

PICTURE = encode(gradient())


def by_uri(service, uri, method="GET"):
    return service.request(method, "/results?gcs_path=" + urllib.parse.quote(uri, safe=""))


def assert_pending(reply):
    assert (reply.status, reply.json()) == (202, {"status": "pending"}), reply
    assert int(reply.headers["Retry-After"]) >= 1
    assert reply.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "avif"])
def test_of_our_images(classify, extension):
    """404 without an object, 202 without a result, then the stored bytes; with and without extension."""
    paths = [f"/results/{ID}", f"/results/{ID}.{extension}"]
    uri = f"file://{classify.folder}/objects/{ID}.{extension}"
    for path in paths:
        assert_problem(classify.get(path), 404)
    put(classify, f"{ID}.{extension}", PICTURE)
    for reply in [classify.get(path) for path in paths] + [by_uri(classify, uri)]:
        assert_pending(reply)
    assert push(classify, envelope(uri)).json()["status"] == "ok"
    data = (classify.folder / f"objects/{ID}.{extension}.json").read_bytes()
    for reply in [classify.get(path) for path in paths] + [by_uri(classify, uri)]:
        assert (reply.status, reply.body) == (200, data)
        assert reply.headers["Content-Type"] == "application/json"
    for other in {"jpg", "png", "webp", "avif"} - {extension}:
        assert_problem(classify.get(f"/results/{ID}.{other}"), 404)
    head = classify.request("HEAD", paths[0])
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(data)))


def test_result_survives_its_object(classify):
    uri = put(classify, f"{ID}.jpg", PICTURE)
    push(classify, envelope(uri))
    os.unlink(classify.folder / f"objects/{ID}.jpg")
    assert classify.get(f"/results/{ID}").json()["id"] == ID


@pytest.mark.parametrize("key", ["photo.jpg", "album 2026/über & so?#%.jpg", "no-extension", "a/b/c/d.jpg",
                                 "plus+plus.jpg"])
def test_of_foreign_objects(classify, key):
    put(classify, key, PICTURE)
    uri = f"file://{classify.folder}/objects/" + urllib.parse.quote(key)
    assert_pending(by_uri(classify, uri))
    assert push(classify, envelope(uri)).json()["status"] == "ok"
    stored = json.loads((classify.folder / f"objects/{key}.json").read_text())
    reply = by_uri(classify, uri)
    assert (reply.status, reply.json()) == (200, stored)
    assert (stored["gcs_path"], stored["id"]) == (uri, None)
    assert by_uri(classify, uri, "HEAD").status == 200


def test_rejected(classify):
    for key, data in ((f"{ID}.jpg", b"text"), ("gone.jpg", None)):
        uri = f"file://{classify.folder}/objects/{key}"
        if data:
            put(classify, key, data)
        told = push(classify, envelope(uri)).json()
        reply = by_uri(classify, uri)
        assert reply.status == 200
        assert {k: reply.json()[k] for k in ("status", "detail")} == told
    assert classify.get(f"/results/{ID}").json()["status"] == "rejected"


@pytest.mark.parametrize("name", [ID[:-1], ID + "0", ID.upper(), "x", ID + ".gif", ID + ".jpg.json", "..",
                                  "%2e%2e%2fx"])
def test_no_such_name(shared, name):
    assert_problem(shared.classify.get("/results/" + name), 404)


def test_bad_questions(shared):
    service = shared.classify
    for path in ("/results", "/results?", "/results?id=" + ID, "/results?gcs_path", "/results?gcs_path="):
        assert_problem(service.get(path), 400)
    uri = urllib.parse.quote(f"file://{shared.objects}/x.jpg", safe="")
    assert_problem(service.get(f"/results?gcs_path={uri}&gcs_path={uri}"), 400, "gcs_path")
    assert_problem(service.get(f"/results/{ID}?gcs_path={uri}"), 400, "gcs_path")
    assert_problem(service.get(f"/results?gcs_path={uri}&top_k=1"), 400, "top_k")
    for wrong in ("x", f"file://{shared.objects}/../x", f"file://{shared.objects}/a%00b"):
        assert_problem(by_uri(service, wrong), 400)
    for foreign in ("gs://b/x.jpg", "file:///etc/passwd", f"file://{shared.objects}2/x.jpg"):
        assert_problem(by_uri(service, foreign), 403)
    assert_problem(by_uri(service, f"file://{shared.objects}/none.jpg"), 404)
    assert service.request("POST", "/results", b"").status == 405
    assert service.get("/results/").status == 404


def test_upload_is_found_by_its_reply(stack):
    """result_url, id and gcs_path of the reply lead to the same result."""
    stack.preprocess.stop()
    stack.preprocess.restart(RESULTS_BASE_URL=stack.classify.url)
    told = stack.preprocess.upload(PICTURE).json()
    result = stack.result(told)
    assert told["result_url"] == f"{stack.classify.url}/results/{told['id']}"
    assert by_uri(stack.classify, told["gcs_path"]).json() == result
    assert result["gcs_path"] == told["gcs_path"]


def test_pending_until_the_classifier_is_there(tmp_path, services):
    """An upload while the classifier is down is labelled when it comes."""
    classify = Service("classify-service", tmp_path)
    preprocess = Service("preprocess-service", tmp_path, EVENTS_URL="none:")
    services += [classify, preprocess]
    classify.start()
    told = preprocess.start().upload(PICTURE).json()  # announced to nobody
    assert_pending(classify.get("/results/" + told["id"]))
    assert push(classify, envelope(told["gcs_path"])).json()["status"] == "ok"
    assert classify.get("/results/" + told["id"]).status == 200

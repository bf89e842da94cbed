"""The catalogue: /v1/images, on SQLite and on PostgreSQL."""
import base64
import concurrent.futures
import contextlib
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import threading
import time

import pytest

from accounts import USERS, call, join
from conftest import BUILD, MODEL, PHOTOS, SLOW, Service, Stack, needs_photos, wait_for
from disk import CHANGE, DIE, ENOSPC, SYNC, WRITE, Disk
from endpoint import Endpoint
from images import encode, gradient, numbered_jpeg
from postgres import PSQL, Postgres, beside, fixture_postgres  # noqa: F401 - a fixture
from test_pubsub_publish import fixture_google  # noqa: F401 - a fixture

pytestmark = [pytest.mark.threads]

PICTURE = encode(gradient(), quality=85)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """CATALOGUE_URL, of an empty catalogue."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path}/catalogue.db"
    return request.getfixturevalue("postgres").new_database()


@pytest.fixture(name="service")
def fixture_service(start, url):
    return start(CATALOGUE_URL=url)


@pytest.fixture
def endpoint():
    e = Endpoint()
    yield e
    e.close()


def upload(service, n, query=""):
    reply = service.upload(numbered_jpeg(n, PICTURE), query)
    assert reply.status == 200, reply
    return reply.json()


def listed(service, query=""):
    reply = service.get("/v1/images" + query)
    assert reply.status == 200, reply
    return reply.json()


def ids(service, query=""):
    return [image["id"] for image in listed(service, query)["images"]]


def walk(service, limit, query=""):
    """All ids, page by page."""
    found, before = [], ""
    while True:
        page = listed(service, f"?limit={limit}{before}{query}")
        found += [image["id"] for image in page["images"]]
        if page["next"] is None:
            return found
        before = f"&before={page['next']}"


def image(service, id_):
    reply = service.get(f"/v1/images/{id_}")
    return reply.json() if reply.status == 200 else None


def change(service, id_, **fields):
    return service.request("PATCH", f"/v1/images/{id_}", json.dumps(fields), {"Content-Type": "application/json"})


def delete(service, id_):
    return service.request("DELETE", f"/v1/images/{id_}")


def command(service, *arguments):
    return subprocess.run([BUILD / "preprocess-service", "--catalogue", *arguments], text=True, env=service.env,
                          cwd=service.folder, capture_output=True, timeout=60, check=False)


# ---- the list

def test_an_upload_is_listed_at_once(service):
    assert listed(service) == {"images": [], "next": None}
    reply = upload(service, 1, "?width=64&height=48&format=png")
    [got] = listed(service)["images"]
    assert got.pop("created_at").endswith("Z")
    assert got == {"id": reply["id"], "gcs_path": reply["gcs_path"], "owner": None, "label": None, "confidence": None,
                   "tags": [], "note": "", "width": 64, "height": 48, "format": "png", "bytes": reply["bytes"],
                   "views": 0, "sealed": False}
    assert image(service, reply["id"])["id"] == reply["id"]
    upload(service, 1, "?width=64&height=48&format=png")  # the same again
    assert ids(service) == [reply["id"]]


def test_pages_neither_skip_nor_repeat_while_pictures_are_added(service):
    before = [upload(service, n)["id"] for n in range(25)][::-1]
    assert walk(service, 200) == walk(service, 5) == walk(service, 1) == before
    stop = threading.Event()

    def add():
        n = 100
        while not stop.is_set():
            upload(service, n)
            upload(service, n % 25)  # one that is listed already
            n += 1
    adders = [threading.Thread(target=add) for _ in range(2)]
    for adder in adders:
        adder.start()
    try:
        for _ in range(10):
            found = walk(service, 3)
            assert len(found) == len(set(found))
            assert [i for i in found if i in set(before)] == before
    finally:
        stop.set()
        for adder in adders:
            adder.join()


@pytest.mark.parametrize("query, names", [
    ("?limit=0", "limit"), ("?limit=201", "limit"), ("?limit=x", "limit"), ("?before=x", "before"),
    ("?before=-1", "before"), ("?colour=red", "colour"), ("?label=%ff", "label")])
def test_wrong_options_are_named(service, query, names):
    reply = service.get("/v1/images" + query)
    assert reply.status == 400 and names in reply.json()["detail"]


def test_unknown_pictures_and_methods(service):
    for path in ("/v1/images/" + "0" * 64, "/v1/images/abc", "/v1/images/" + "0" * 64 + ".jpg"):
        assert service.get(path).status == 404
        assert service.request("DELETE", path).status == 404
        assert service.request("PATCH", path, "{}").status == 404
    reply = service.request("PUT", "/v1/images/" + "0" * 64)
    assert reply.status == 405 and reply.headers["Allow"] == "GET, HEAD, PATCH, DELETE, OPTIONS"
    assert service.request("POST", "/v1/images").status == 405


# ---- tags and notes

def test_tags_and_notes(service):
    first, second = upload(service, 1)["id"], upload(service, 2)["id"]
    reply = change(service, first, tags=["holiday", "Straße"], note="by the sea")
    assert reply.status == 200
    assert reply.json()["tags"] == [{"tag": "holiday", "confidence": None}, {"tag": "Straße", "confidence": None}]
    assert reply.json()["note"] == image(service, first)["note"] == "by the sea"
    change(service, second, tags=["holiday"])
    assert ids(service, "?tag=holiday") == [second, first] == walk(service, 1, "&tag=holiday")
    assert ids(service, "?tag=Stra%C3%9Fe") == [first]
    assert ids(service, "?tag=holi") == []
    change(service, first, tags=[])
    assert ids(service, "?tag=holiday") == [second]
    assert image(service, first)["note"] == "by the sea"


@pytest.mark.parametrize("body", ["", "[]", "{", '{"tags": "x"}', '{"tags": [1]}', '{"tags": [""]}', '{"note": 1}',
                                  '{"owner": "me"}', json.dumps({"tags": ["x" * 129]}),
                                  json.dumps({"tags": [str(n) for n in range(65)]}), json.dumps({"note": "x" * 4097}),
                                  '{"tags": ["a\\u0000b"]}', "[" * 5000])
def test_wrong_changes_change_nothing(preprocess, body):
    id_ = upload(preprocess, 1)["id"]
    before = image(preprocess, id_)
    assert preprocess.request("PATCH", f"/v1/images/{id_}", body).status == 400
    assert image(preprocess, id_) == before


# ---- deletion

def test_delete_takes_object_result_and_row(service):
    reply = upload(service, 1)
    kept = upload(service, 2)["id"]
    path = pathlib.Path(reply["gcs_path"].removeprefix("file://"))
    result = path.with_name(path.name + ".json")
    result.write_text("{}")
    change(service, reply["id"], tags=["gone"])
    assert delete(service, reply["id"]).status == 204
    assert not path.exists() and not result.exists()
    assert image(service, reply["id"]) is None and ids(service) == [kept] and ids(service, "?tag=gone") == []
    assert service.get(f"/images/{reply['id']}").status == 404
    assert delete(service, reply["id"]).status == 404
    assert upload(service, 1)["id"] == reply["id"]  # the same picture again
    assert path.exists() and ids(service) == [reply["id"], kept]


def test_uploads_and_deletions_of_one_picture_leave_no_row_without_object(service):
    """Each 200 is true when it is given: afterwards the picture is there, unless a later DELETE took it."""
    stop, failures = threading.Event(), []

    def churn():
        while not stop.is_set():
            for status in (service.upload(numbered_jpeg(1, PICTURE)).status, delete(service, id_).status):
                if status not in (200, 204, 404, 503):
                    failures.append(status)
    id_ = upload(service, 1)["id"]
    threads = [threading.Thread(target=churn) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(3)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert wait_for(lambda: service.upload(numbered_jpeg(1, PICTURE)).status == 200, "an upload")
    assert ids(service) == [id_] and service.get(f"/images/{id_}").status == 200


def pictures(folder):
    return list((folder / "objects").glob("*.jpg"))


@pytest.mark.parametrize("existed", [False, True])
def test_a_deletion_beside_an_upload(tmp_path, services, url, google, existed):  # noqa: F811
    """It was stored, and waits for its event: meanwhile a DELETE takes the picture, which another upload had listed.
    A 200 promises picture and event all the same."""
    services.append(Service("preprocess-service", tmp_path, CATALOGUE_URL=url, GCE_METADATA_HOST=google.host,
                            EVENTS_URL="pubsub://projects/project/topics/topic", PUBSUB_ENDPOINT=f"http://{google.host}"))
    service = services[0].start()
    assert command(service, "rebuild").stdout == "0 added, 0 removed\n"  # else the new one is filled in between
    stored = 'stage_duration_seconds_count{stage="store"}'
    with concurrent.futures.ThreadPoolExecutor(1) as client, google.held:
        if existed:
            google.held.release()
            upload(service, 1)
            google.held.acquire()
        reply = client.submit(upload, service, 1)
        wait_for(lambda: service.metric(stored) == 1 + existed, "the object")
        [path] = pictures(tmp_path)
        if not existed:
            change_rows(url, "INSERT INTO image (seq, id, owner, format, width, height, bytes)"
                             f" VALUES (1, '{path.stem}', '', 'jpeg', 1, 1, 1)")
        assert delete(service, path.stem).status == 204 and not path.exists()
        google.held.release()
        id_ = reply.result()["id"]
        google.held.acquire()
    assert ids(service) == [id_] and service.get(f"/images/{id_}").status == 200
    assert len(google.messages) == 2 + existed  # again, when it was stored again


def test_a_deletion_is_on_the_disk_before_the_object_goes(faulty, tmp_path):
    service, disk = faulty
    reply = upload(service, 1)
    wait_for(lambda: service.metric("catalogue_pending") == 0, "the row on the disk")
    disk.fail(SYNC, ENOSPC, f"{tmp_path}/list/*-wal")
    assert delete(service, reply["id"]).status == 503 and len(pictures(tmp_path)) == 1
    disk.mend()
    assert delete(service, reply["id"]).status == 204 and not pictures(tmp_path)


# ---- views

def test_views_are_counted(service):
    id_ = upload(service, 1)["id"]
    for _ in range(5):
        assert service.get(f"/images/{id_}").status == 200
    assert service.get(f"/images/{id_}", {"Range": "bytes=0-9"}).status == 206
    assert service.get(f"/images/{id_}", {"Range": "bytes=10-19"}).status == 206
    assert service.get(f"/images/{id_}", {"If-None-Match": f'"{id_}"'}).status == 304
    assert service.request("HEAD", f"/images/{id_}").status == 200
    wait_for(lambda: image(service, id_)["views"] == 6, "six views")
    service.get(f"/images/{id_}")
    service.stop()
    service.restart()
    assert image(service, id_)["views"] == 7


# ---- labels

RESULT = {"label": "tench", "confidence": 0.75, "top": [{"label": "tench", "confidence": 0.75, "index": 0},
                                                        {"label": "goldfish", "confidence": 0.2, "index": 1}]}


def test_labels_that_nobody_announces_arrive_within_a_second(service, measurement):
    reply = upload(service, 1)
    change(service, reply["id"], tags=["goldfish", "mine"])
    path = pathlib.Path(reply["gcs_path"].removeprefix("file://") + ".json")
    path.write_text(json.dumps(RESULT))
    stored = time.monotonic()
    got = wait_for(lambda: (i := image(service, reply["id"]))["label"] and i, "the label")
    seconds = time.monotonic() - stored
    assert (got["label"], got["confidence"]) == ("tench", 0.75)
    assert got["tags"] == [{"tag": "goldfish", "confidence": None}, {"tag": "mine", "confidence": None},
                           {"tag": "tench", "confidence": 0.75}, {"tag": "goldfish", "confidence": 0.2}]
    assert ids(service, "?label=tench") == ids(service, "?tag=tench") == [reply["id"]]
    assert ids(service, "?tag=goldfish") == ids(service, "?tag=mine&label=tench") == [reply["id"]]
    assert ids(service, "?label=goldfish") == ids(service, "?owner=me") == []
    change(service, reply["id"], tags=[])
    assert ids(service, "?tag=goldfish") == [reply["id"]] and ids(service, "?tag=mine") == []
    measurement.must(seconds < 5 * SLOW, f"the label came after {seconds:.1f} s")


def store_result(reply):
    path = pathlib.Path(reply["gcs_path"].removeprefix("file://") + ".json")
    path.with_suffix(".new").write_text(json.dumps(RESULT))
    path.with_suffix(".new").rename(path)


def change_rows(url, sql):
    if url.startswith("sqlite:"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:"), timeout=30)) as db, db:
            db.execute(sql)
    else:
        # locked before: the keeper changes rows in another order, and one of the two would be a deadlock's victim
        subprocess.run([PSQL, "-q", "--single-transaction", url, "-c", "LOCK TABLE image", "-c", sql], check=True)


def lateness_ms(url, id_):
    """How long after its upload a picture is to be looked at next."""
    query = f"SELECT label_due_ms - seq / 1000 FROM image WHERE id = '{id_}'"
    if url.startswith("sqlite:"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:"), timeout=30)) as db:
            return db.execute(query).fetchone()[0]
    return int(subprocess.run([PSQL, "-qAt", url, "-c", query], check=True, capture_output=True).stdout)


def test_a_result_of_an_absent_object_is_no_result(service, url):
    """The event came after a DELETE; then the picture is uploaded again, and its result stays for a moment."""
    id_ = upload(service, 1)["id"]
    assert delete(service, id_).status == 204
    path = pathlib.Path(service.env["STORAGE_URL"].removeprefix("file://"), f"{id_}.jpg.json")
    path.write_text(json.dumps({"status": "rejected", "detail": "no such object", "source_etag": ""}))
    reply = upload(service, 1)
    first = lateness_ms(url, id_)
    wait_for(lambda: lateness_ms(url, id_) != first, "a look")
    store_result(reply)
    wait_for(lambda: image(service, id_)["label"] == "tench", "the label")


@pytest.mark.idle
@pytest.mark.measures_time
@pytest.mark.parametrize("hours", [1, 100])
def test_late_labels_that_nobody_announces_arrive_within_a_second(service, url, hours, measurement):
    """The classifier comes back after hours: a few pictures wait."""
    added = [upload(service, n) for n in range(3)]
    change_rows(url, f"UPDATE image SET seq = seq - {hours * 3600_000_000}")
    first = lateness_ms(url, added[-1]["id"])
    wait_for(lambda: lateness_ms(url, added[-1]["id"]) > first, "a look at an old picture")
    for n, reply in enumerate(added):
        time.sleep(0.3 * n)  # at different places between two looks
        stored = time.monotonic()
        store_result(reply)
        wait_for(lambda: image(service, reply["id"])["label"] == "tench", "the label", timeout=3)
        late = time.monotonic() - stored
        measurement.must(late < SLOW, f"label {n} came after {late:.2f} s")


def test_a_backlog_of_late_labels_is_read_at_once(service, url, measurement):
    """More wait than may be looked at in a second. One that is found shows that the others are there."""
    added = [upload(service, n) for n in range(150)]
    change_rows(url, "UPDATE image SET seq = seq - 3600000000, label_due_ms = label_due_ms + 3600000")
    for reply in added:
        store_result(reply)
    assert len(walk(service, 200, "&label=tench")) < 150, "none is due"
    change_rows(url, f"UPDATE image SET label_due_ms = 0 WHERE id = '{added[7]['id']}'")
    due = time.monotonic()
    wait_for(lambda: len(walk(service, 200, "&label=tench")) == 150, "all labels")
    seconds = time.monotonic() - due
    measurement.must(seconds < 30 * SLOW, f"the labels came after {seconds:.1f} s")


@pytest.fixture(name="pushing")
def fixture_pushing(start, endpoint):
    """pushing(CATALOGUE_URL): a service whose events go to the endpoint."""
    return lambda url: start(EVENTS_URL=f"push+http://127.0.0.1:{endpoint.port}/pubsub", CATALOGUE_URL=url)


def stores_it(envelope):
    """An endpoint's answer: as a classifier does."""
    store_result(json.loads(base64.b64decode(envelope["message"]["data"])))
    return 204


def test_labels_that_were_announced_too_early_are_looked_for(pushing, url, measurement):
    """The event's taker answers before it stores the result, and for more pictures than are learned about at once."""
    service = pushing(url)
    added = [upload(service, n) for n in range(70)]
    service.settles("outbox_pending", 0)
    for reply in added:
        store_result(reply)
    stored = time.monotonic()
    wait_for(lambda: len(ids(service, "?limit=100&label=tench")) == 70, "the labels")
    seconds = time.monotonic() - stored
    measurement.must(seconds < 10 * SLOW, f"the labels came after {seconds:.1f} s")


def test_labels_of_many_pushes(pushing, endpoint, url):
    """They are learned together."""
    endpoint.answer = stores_it
    service = pushing(url)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda n: upload(service, n), range(100)))
    wait_for(lambda: len(ids(service, "?limit=100&label=tench")) == 100, "the labels",
             timeout=30)  # without an announcement they come after a minute
    assert {reply["id"] for reply in added} == set(ids(service, "?limit=100&tag=goldfish"))


def test_a_label_that_comes_before_its_row(pushing, endpoint, postgres):
    """The event is delivered as soon as it is committed; the row may have to wait."""
    url = postgres.new_database()
    endpoint.answer = stores_it
    service = pushing(url)
    with subprocess.Popen([PSQL, "-qAt", url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other, \
            concurrent.futures.ThreadPoolExecutor(1) as pool:
        other.stdin.write("BEGIN;\nLOCK TABLE image IN SHARE ROW EXCLUSIVE MODE;\nSELECT 'locked';\n")
        other.stdin.flush()
        assert other.stdout.readline() == "locked\n"
        reply = pool.submit(upload, service, 1)
        service.settles('events_total{outcome="delivered"}', 1)
        delivered = time.monotonic()
        wait_for(lambda: time.monotonic() > delivered + 0.3, "the label to be learned without a row")
        other.communicate("COMMIT;\n", timeout=30)
        id_ = reply.result()["id"]
    wait_for(lambda: ids(service, "?label=tench") == [id_], "the label", timeout=30)  # looked for, it comes after a minute


@needs_photos
@pytest.mark.idle
@pytest.mark.measures_time
@pytest.mark.skipif(not MODEL.exists(), reason="no model at hand")
def test_labels_come_with_the_pushs_reply(tmp_path, services, url, measurement):
    services.append(Stack(tmp_path, {"CATALOGUE_URL": url}))
    stack = services[-1].start()
    photo = sorted(PHOTOS.glob("*.jpg"))[0]
    reply = stack.preprocess.upload(photo.read_bytes()).json()
    result = stack.result(reply)
    stored = time.monotonic()
    got = wait_for(lambda: (i := image(stack.preprocess, reply["id"]))["label"] and i, "the label")
    seconds = time.monotonic() - stored
    assert (got["label"], got["confidence"]) == (result["label"], pytest.approx(result["confidence"]))
    assert [tag["tag"] for tag in got["tags"]] == [top["label"] for top in result["top"]]
    assert ids(stack.preprocess, "?label=" + result["label"].replace(" ", "%20")) == [reply["id"]]
    measurement.must(seconds < SLOW, f"the label came after {seconds:.1f} s")


# ---- kill -9

@pytest.mark.faults
def test_nothing_acknowledged_is_missing_after_kill(tmp_path, services, url, endpoint):
    service = Service("preprocess-service", tmp_path, EVENTS_URL=f"push+http://127.0.0.1:{endpoint.port}/pubsub",
                      CATALOGUE_URL=url)
    services.append(service)
    service.start()
    acknowledged = []

    def load(first):
        n = first
        while True:
            try:
                reply = service.upload(numbered_jpeg(n, PICTURE))
            except OSError:
                return
            if reply.status == 200:
                acknowledged.append(reply.json()["id"])
            n += 1
    for round_ in range(5):
        loaders = [threading.Thread(target=load, args=(round_ * 100000 + i * 10000,)) for i in range(4)]
        count = len(acknowledged)
        for loader in loaders:
            loader.start()
        wait_for(lambda least=count + 20: len(acknowledged) > least, "uploads")
        service.kill()
        for loader in loaders:
            loader.join()
        service.restart()
        assert set(acknowledged) <= set(walk(service, 200))
    for id_ in walk(service, 200):
        assert service.get(f"/images/{id_}").status == 200


@pytest.fixture(name="faulty")
def fixture_faulty(tmp_path, services, endpoint):
    """preprocess-service whose catalogue is on a disk that fails on demand."""
    disk = Disk(tmp_path)
    services.append(Service("preprocess-service", tmp_path, EVENTS_URL=f"push+http://127.0.0.1:{endpoint.port}/pubsub",
                            CATALOGUE_URL=f"sqlite:{tmp_path}/list/catalogue.db", **disk.env))
    services[-1].start()
    return services[-1], disk


def test_a_full_disk_promises_nothing(faulty, tmp_path):
    service, disk = faulty
    kept = [upload(service, n)["id"] for n in range(5)]
    # Filled now, and not in between: then the first tries' objects would be listed by their own time.
    assert command(service, "rebuild").stdout == "0 added, 0 removed\n"
    disk.fail(WRITE | SYNC, ENOSPC, f"{tmp_path}/list/*")
    for n in range(10, 13):
        reply = service.upload(numbered_jpeg(n, PICTURE))
        assert reply.status == 503 and reply.headers["Retry-After"]
    assert ids(service) == kept[::-1]
    assert service.get(f"/images/{kept[0]}").status == 200
    wait_for(lambda: disk.failed > 0 and "looked after" in service.log(), "the log to say so")
    assert service.metric("catalogue_failures_total") > 0
    disk.mend()
    kept += [upload(service, n)["id"] for n in range(10, 13)]
    wait_for(lambda: service.metric("catalogue_pending") == 0, "the rows on the disk")
    assert ids(service) == kept[::-1]
    service.stop()
    service.restart()
    assert ids(service) == kept[::-1]


def test_an_upload_that_failed_is_not_listed_by_the_next_start(faulty, tmp_path):
    """Nothing was promised, and she has deleted the picture since."""
    service, disk = faulty
    service.stop()
    service.restart(**USERS)
    alice, bob = join(service, "alice"), join(service, "bob")

    def send(token):
        return call(service, "POST", "/preprocess", numbered_jpeg(1, PICTURE), token, **{"Content_Type": "image/jpeg"})

    def hers():
        return call(service, "GET", "/v1/images?owner=me", token=alice).json()["images"]
    id_ = send(bob).json()["id"]
    disk.fail(WRITE, ENOSPC, f"{tmp_path}/list/*")
    assert send(alice).status == 503
    disk.mend()
    assert send(alice).status == 200 and len(hers()) == 1
    assert call(service, "DELETE", f"/v1/images/{id_}", token=alice).status == 204
    service.stop()
    service.restart()
    assert hers() == [] and len(call(service, "GET", "/v1/images", token=alice).json()["images"]) == 1


@pytest.mark.faults
def test_killed_in_any_write_nothing_is_missing(faulty, tmp_path):
    """Before the nth write, sync or renaming of a file of the catalogue, half a write done, too."""
    service, disk = faulty
    kept, n = [], 0
    for skip in (0, 1, 2, 5, 11, 23, 47, 95):
        disk.fail(CHANGE, DIE, f"{tmp_path}/list/*", skip=skip, torn=skip % 2 == 1)
        while True:
            try:
                reply = service.upload(numbered_jpeg(n, PICTURE))
            except OSError:
                break
            assert reply.status == 200, reply
            kept.append(reply.json()["id"])
            n += 1
        assert service.process.wait(30) == -signal.SIGKILL
        service.process = None
        disk.mend()
        service.restart()
        assert set(kept) <= set(walk(service, 200))
        assert len(walk(service, 200)) <= n + 1


@pytest.mark.faults
def test_nothing_acknowledged_is_missing_after_kills_of_postgresql(tmp_path, services):
    server = Postgres(fsync=True)
    acknowledged, stop = [], threading.Event()
    try:
        server.start()
        services.append(Service("preprocess-service", tmp_path, EVENTS_URL="none:",
                                CATALOGUE_URL=server.new_database()))
        service = services[-1].start()

        def load(first):
            for n in range(first, first + 10000):
                while not stop.is_set():
                    reply = service.upload(numbered_jpeg(n, PICTURE))
                    if reply.status == 200:
                        acknowledged.append(reply.json()["id"])
                        break
                    assert reply.status == 503, reply
                    stop.wait(0.05)
        loaders = [threading.Thread(target=load, args=(i * 10000,)) for i in range(4)]
        for loader in loaders:
            loader.start()
        for _ in range(4):
            wait_for(lambda least=len(acknowledged) + 15: len(acknowledged) > least, "uploads")
            server.stop(signal.SIGKILL)
            server.start()
        wait_for(lambda least=len(acknowledged) + 15: len(acknowledged) > least, "uploads")
        stop.set()
        for loader in loaders:
            loader.join()
        assert set(acknowledged) <= set(walk(service, 200))
        for id_ in walk(service, 200):
            assert service.get(f"/images/{id_}").status == 200
    finally:
        stop.set()
        server.remove()


def test_a_lost_catalogues_last_second_comes_from_the_outbox(tmp_path, services, endpoint):
    """As after a power cut: the outbox has what the catalogue's file has not."""
    service = Service("preprocess-service", tmp_path, EVENTS_URL=f"push+http://127.0.0.1:{endpoint.port}/pubsub",
                      CATALOGUE_URL=f"sqlite:{tmp_path}/catalogue.db")
    services.append(service)
    service.start()
    first = upload(service, 1)["id"]
    service.stop()
    shutil.copy(tmp_path / "catalogue.db", tmp_path / "old.db")
    service.restart()
    second = upload(service, 2)["id"]
    service.kill()
    for path in tmp_path.glob("catalogue.db*"):
        path.unlink()
    shutil.copy(tmp_path / "old.db", tmp_path / "catalogue.db")
    service.restart()
    assert ids(service) == [second, first]


def test_a_deletion_is_finished_after_kill(tmp_path, start, url):
    """The row was marked, and then the process was killed."""
    service = start(CATALOGUE_URL=url)
    reply = upload(service, 1)
    path = pathlib.Path(reply["gcs_path"].removeprefix("file://"))
    os.kill(service.process.pid, signal.SIGKILL)
    service.process.wait()
    service.process = None
    mark = "UPDATE image SET deleted_ms = 1"
    if url.startswith("sqlite:"):
        subprocess.run(["/usr/bin/python3", "-c", "import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); "
                        f"d.execute('{mark}'); d.commit()", url.removeprefix("sqlite:")], check=True)
    else:
        subprocess.run([PSQL, "-q", url, "-c", mark], check=True)
    service.restart()
    assert ids(service) == []
    wait_for(lambda: not path.exists(), "the object to go")
    wait_for(lambda: service.upload(numbered_jpeg(1, PICTURE)).status == 200, "the row to go")


def test_two_changes_of_one_picture_are_both_kept(postgres, start):
    url = postgres.new_database()
    service = start(CATALOGUE_URL=url)
    id_ = upload(service, 1)["id"]
    with concurrent.futures.ThreadPoolExecutor(1) as client:
        with beside(postgres, url, """UPDATE image SET tags = '["b"]'; INSERT INTO image_tag SELECT 'b', seq FROM image"""):
            changed = client.submit(change, service, id_, note="x")
        assert changed.result().status == 200
    assert (image(service, id_)["note"], [t["tag"] for t in image(service, id_)["tags"]]) == ("x", ["b"])
    assert change(service, id_, tags=[]).status == 200
    assert ids(service, "?tag=b") == [] and postgres.sql("SELECT * FROM image_tag", url.rpartition("/")[2]).stdout == ""


def test_a_label_beside_a_deletion_leaves_no_tags(postgres, start):
    url = postgres.new_database()
    service = start(CATALOGUE_URL=url)
    reply = upload(service, 1)
    service.stop()
    change_rows(url, "UPDATE image SET label_due_ms = 1")
    store_result(reply)
    with beside(postgres, url, "DELETE FROM image"):
        service.restart()
    service.stop()
    assert postgres.sql("SELECT * FROM image_tag", url.rpartition("/")[2]).stdout == ""


# ---- rebuilding

def test_rebuild(service, tmp_path):
    def upload_later(n, query=""):
        """Than all before by the file system's clock, too, which ticks every few milliseconds."""
        reply, clock = upload(service, n, query), tmp_path / "clock"
        stored_ns = pathlib.Path(reply["gcs_path"].removeprefix("file://")).stat().st_mtime_ns
        wait_for(lambda: clock.touch() or clock.stat().st_mtime_ns > stored_ns, "the clock to tick")
        return reply

    formats = {upload_later(n, f"?format={f}&width=40&height={20 + n}")["id"]: f
               for n, f in enumerate(("jpeg", "png", "webp", "avif"))}
    reply = upload_later(10)
    path = pathlib.Path(reply["gcs_path"].removeprefix("file://"))
    (path.parent / "foreign.txt").write_text("not ours")
    before = {i["id"]: i for i in listed(service)["images"]}
    service.stop()
    path.unlink()
    some = list(formats)[2]
    if service.env["CATALOGUE_URL"].startswith("sqlite:"):
        for old in path.parents[1].glob("catalogue.db*"):
            old.unlink()
        done = command(service, "rebuild")
        assert done.stdout == "4 added, 0 removed\n", done
    else:
        done = command(service, "rebuild")
        assert done.stdout == "0 added, 1 removed\n", done
    service.restart()
    after = {i["id"]: i for i in listed(service)["images"]}
    assert set(after) == set(formats)
    for id_ in formats:
        assert {k: v for k, v in after[id_].items() if k != "created_at"} == \
            {k: v for k, v in before[id_].items() if k != "created_at"}
    assert list(after) == [i for i in before if i in after], "the order is that of the uploads"
    assert after[some]["created_at"][:16] == before[some]["created_at"][:16]
    assert command(service, "rebuild").stdout == "0 added, 0 removed\n"


def test_a_rebuild_waits_for_an_upload_whose_row_nobody_sees_yet(postgres, start):
    """Else the picture would be listed twice: as the uploader's, and as nobody's."""
    url = postgres.new_database()
    service = start(CATALOGUE_URL=url)
    id_ = upload(service, 1)["id"]
    service.stop()
    with subprocess.Popen([PSQL, "-qAt", url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as uploader:
        uploader.stdin.write("UPDATE image SET owner = 'alice';\nCREATE TABLE theirs AS TABLE image;\nDELETE FROM image;\n"
                             "BEGIN;\nSELECT pg_advisory_xact_lock(1684107891, hashtext(id)) FROM theirs;\n"
                             "INSERT INTO image TABLE theirs;\nSELECT 'inserted';\n")
        uploader.stdin.flush()
        assert [uploader.stdout.readline() for _ in range(2)] == ["\n", "inserted\n"]
        with subprocess.Popen([BUILD / "preprocess-service", "--catalogue", "rebuild"], text=True, env=service.env,
                              cwd=service.folder, stdout=subprocess.PIPE) as rebuild:
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            wait_for(lambda: postgres.sql(waiting, url.rpartition("/")[2]).stdout == "1\n", "the rebuild to wait")
            uploader.communicate("COMMIT;\n", timeout=30)
            assert rebuild.communicate(timeout=60)[0] == "0 added, 0 removed\n"
    service.restart()
    assert [(i["id"], i["owner"]) for i in listed(service)["images"]] == [(id_, "alice")]


def damage_index(path):
    """As a bad sector does: opening the file does not read it."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page, size = db.execute("SELECT rootpage, page_size FROM sqlite_master, pragma_page_size"
                                " WHERE name = 'image_of_id'").fetchone()
    with open(path, "r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


@pytest.mark.parametrize("harm", ["gone", "damaged", "index"])
def test_a_lost_or_damaged_catalogue_fills_itself(tmp_path, start, endpoint, harm):
    service = start(CATALOGUE_URL=f"sqlite:{tmp_path}/catalogue.db",
                    EVENTS_URL=f"push+http://127.0.0.1:{endpoint.port}/pubsub")
    added = [upload(service, n)["id"] for n in range(70)]
    path = tmp_path / "catalogue.db"
    if harm == "index":
        added.append(upload(service, 70)["id"])
        service.kill()  # the outbox has the last one's record
        damage_index(path)
    else:
        service.stop()
        if harm == "gone":
            path.unlink()
        else:
            path.write_bytes(b"junk" * 5000)
    service.restart()
    wait_for(lambda: sorted(walk(service, 200)) == sorted(added), "the catalogue to fill itself")
    assert len(list(tmp_path.glob("catalogue.db.corrupt-*Z"))) == (harm != "gone")


def test_a_running_service_replaces_a_damaged_catalogue(tmp_path, start, endpoint):
    service = start(CATALOGUE_URL=f"sqlite:{tmp_path}/catalogue.db", **USERS,
                    EVENTS_URL=f"push+http://127.0.0.1:{endpoint.port}/pubsub")
    alice = join(service, "alice")

    def send(n):
        return call(service, "POST", "/preprocess", numbered_jpeg(n, PICTURE), alice, **{"Content_Type": "image/jpeg"})

    def seen():
        return {i["id"]: i["owner"] for i in call(service, "GET", "/v1/images?limit=200", token=alice).json()["images"]}
    added = [send(n).json()["id"] for n in range(70)]
    service.stop()
    damage_index(tmp_path / "catalogue.db")
    done = command(service, "rebuild")
    assert done.returncode == 1 and "the service replaces it" in done.stderr, done
    service.restart()
    wait_for(lambda: send(70).status == 503 or list(tmp_path.glob("catalogue.db.corrupt-*")), "SQLite to find it")
    last = wait_for(lambda: (r := send(71)).status == 200 and r.json()["id"], "an upload")
    wait_for(lambda: set(seen()) >= {*added, last}, "the catalogue to fill itself")
    first = [id_ for id_, owner in seen().items() if owner == "alice" and id_ != last]
    assert len(first) == 1 and first[0] not in added, "the refused upload came from the outbox, with its owner"
    assert call(service, "DELETE", f"/v1/images/{last}", token=alice).status == 204
    assert "the catalogue's file was damaged" in service.log()
    service.stop()
    assert len(list(tmp_path.glob("catalogue.db.corrupt-*Z"))) == 1
    service.restart()
    assert len(seen()) == 71


def test_arguments_of_the_command(preprocess):
    assert command(preprocess).returncode == 2
    assert command(preprocess, "drop").returncode == 2
    preprocess.env["CATALOGUE_URL"] = "none:"
    done = command(preprocess, "rebuild")
    assert done.returncode == 1 and "none:" in done.stderr


# ---- without, and without its server

def test_none(start):
    service = start(CATALOGUE_URL="none:")
    upload(service, 1)
    reply = service.get("/v1/images")
    assert reply.status == 404 and "CATALOGUE_URL" in reply.json()["detail"]


def test_retention_takes_rows_too(tmp_path, start):
    service = start()
    old, new = upload(service, 1), upload(service, 2)
    path = pathlib.Path(old["gcs_path"].removeprefix("file://"))
    os.utime(path, (1, 1))
    service.stop()
    service.restart(RETENTION_DAYS=1)
    wait_for(lambda: ids(service) == [new["id"]], "the old row to go")
    assert not path.exists()


def test_retention_hides_a_row_before_the_object_goes(tmp_path, start, postgres):
    """Killed between the two, a row without object would stay for ever."""
    url = postgres.new_database()
    service = start(CATALOGUE_URL=url)
    id_ = upload(service, 1)["id"]
    [path] = pictures(tmp_path)
    os.utime(path, (1, 1))
    service.stop()
    change_rows(url, "UPDATE image SET label = 'tench', label_due_ms = NULL")  # nothing else changes the row
    with beside(postgres, url, f"UPDATE image SET note = 'x' WHERE id = '{id_}'") as wait:
        service.restart(RETENTION_DAYS=1)
        wait()
        assert path.exists()
    wait_for(lambda: not path.exists() and ids(service) == [], "both to go")


def test_two_instances_that_share_a_catalogue_refuse_nothing(tmp_path, services, postgres):
    """Rows are numbered by the time, which is the same for both."""
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    url = postgres.new_database()
    services += [Service("preprocess-service", folder, EVENTS_URL="none:", CATALOGUE_URL=url,
                         STORAGE_URL=f"file://{tmp_path}/objects") for folder in folders]
    both = [service.start() for service in services]
    with concurrent.futures.ThreadPoolExecutor(4) as clients:
        done = list(clients.map(lambda n: upload(both[n % 2], n, "?width=16&height=16")["id"], range(200)))
    assert set(walk(both[0], 200)) == set(done)


def test_postgresql_may_go_and_come_back(tmp_path, services):
    server = Postgres()
    try:
        server.start()
        services.append(Service("preprocess-service", tmp_path, EVENTS_URL="none:",
                                CATALOGUE_URL=server.new_database()))
        service = services[-1].start()
        first = upload(service, 1)["id"]
        server.stop(signal.SIGKILL)
        reply = service.upload(numbered_jpeg(2, PICTURE))
        assert reply.status == 503 and reply.headers["Retry-After"]
        assert service.get("/v1/images").status == 503
        assert service.get(f"/images/{first}").status == 200
        server.start()
        second = wait_for(lambda: (r := service.upload(numbered_jpeg(2, PICTURE))).status == 200 and r.json()["id"],
                          "an upload")
        assert ids(service) == [second, first]
    finally:
        server.remove()

"""Sealed objects: over every store, through both services, and when keys are replaced."""
import base64
import contextlib
import os
import pathlib
import sqlite3
import subprocess

import pytest

import store_servers
from accounts import PASSWORD, USERS, call, join, token_of
from conftest import BUILD, MODEL, Service, Stack, wait_for
from images import encode, gradient, numbered_jpeg
from postgres import beside, fixture_postgres  # noqa: F401 - a fixture
from store_client import Store, StoreError

pytestmark = [pytest.mark.memory, pytest.mark.threads]

PICTURE = encode(gradient(), quality=85)


def new_key():
    return base64.b64encode(os.urandom(32)).decode() + "\n"


@pytest.fixture(name="keys")
def fixture_keys(tmp_path):
    path = tmp_path / "keys"
    path.write_text(new_key())
    return path


@pytest.fixture(params=store_servers.KINDS, scope="module", name="kind")
def fixture_kind(request):
    return store_servers.KINDS[request.param]()


# ---- every store

def test_every_store_seals(kind, tmp_path, keys):
    sealing, plain = Store(tmp_path, **kind.env, SEAL_KEYS_FILE=keys), Store(tmp_path, **kind.env)
    key, data = f"sealed/{os.urandom(6).hex()}.jpg", os.urandom(200_000)
    try:
        assert sealing.put(key, data, content_type="image/jpeg") is False
        got, info = sealing.get(key)
        assert got == data and info["size"] == sealing.head(key)["size"] == len(data)
        for offset, length in ((0, 10), (65530, 10), (65536, 65536), (131071, 2), (199_990, 0), (199_999, 100)):
            assert sealing.read(key, offset=offset, length=length) == data[offset:offset + length if length else None]
        with pytest.raises(StoreError, match="range-not-satisfiable"):
            sealing.get(key, offset=200_000)
        assert sealing.put(key, b"another", if_absent=True) is True and sealing.read(key) == data
        assert sealing.list(key) == {key: 84 + len(data) + 4 * 16}  # as it is stored
        with pytest.raises(StoreError, match="unavailable: a sealed object: set SEAL_KEYS_FILE"):
            plain.get(key)
        sealing.delete(key)
        with pytest.raises(StoreError, match="not-found"):
            sealing.get(key)
    finally:
        sealing.close()
        plain.close()


# ---- both services

def sealed(reply):
    return "/sealed/" in reply["gcs_path"]


def result_of(service, reply):
    path = "/results/" + reply["id"]
    return wait_for(lambda: (got := service.get(path)).status != 202 and got, "the result").json()


def stored(reply):
    return pathlib.Path(reply["gcs_path"].removeprefix("file://"))


@pytest.fixture(name="sealing")
def fixture_sealing(tmp_path, services, keys):
    services.append(Stack(tmp_path, {"SEAL_KEYS_FILE": keys}, {"SEAL_KEYS_FILE": keys}))
    return services[-1].start()


@pytest.mark.skipif(not MODEL.exists(), reason="no model at hand")
def test_a_sealed_upload_is_served_labelled_and_listed(sealing):
    service = sealing.preprocess
    plain = service.upload(PICTURE).json()
    reply = service.upload(PICTURE, "?seal=1").json()
    assert sealed(reply) and not sealed(plain) and reply["id"] != plain["id"]
    result = result_of(service, reply)
    assert result["label"] == result_of(service, plain)["label"]
    for query in (f"/{reply['id']}", f"?gcs_path={reply['gcs_path']}"):  # it knows no owners
        assert sealing.classify.get("/results" + query).status == 404

    picture = service.get("/images/" + plain["id"]).body
    got = service.get("/images/" + reply["id"])
    assert got.body == picture and got.headers["Content-Type"] == "image/jpeg"
    assert service.get(f"/images/{reply['id']}.jpg", {"Range": "bytes=100-199"}).body == picture[100:200]
    assert service.request("HEAD", f"/images/{reply['id']}").headers["Content-Length"] == str(len(picture))

    for path in (stored(reply), pathlib.Path(f"{stored(reply)}.json")):
        assert path.read_bytes().startswith(b"DRSEAL1\n")
        assert result["label"].encode() not in path.read_bytes()
    image = wait_for(lambda: (i := service.get("/v1/images/" + reply["id"]).json())["label"] and i, "the label")
    assert image["sealed"] is True and image["gcs_path"] == reply["gcs_path"] and image["label"] == result["label"]
    assert service.get("/v1/images/" + plain["id"]).json()["sealed"] is False
    assert service.upload(PICTURE, "?seal=1").json()["id"] == reply["id"]
    service.settles("outbox_pending", 0)  # or it would be labelled beside its deletion

    assert service.request("DELETE", "/v1/images/" + reply["id"]).status == 204
    assert not stored(reply).exists() and not pathlib.Path(f"{stored(reply)}.json").exists()
    assert service.get("/images/" + plain["id"]).status == 200
    assert service.get("/images/" + reply["id"]).status == 404


@pytest.mark.skipif(not MODEL.exists(), reason="no model at hand")
def test_the_classifier_reads_what_has_an_owner(tmp_path, services, keys):
    services.append(Stack(tmp_path, {"SEAL_KEYS_FILE": keys, **USERS}, {"SEAL_KEYS_FILE": keys}))
    service = services[-1].start().preprocess
    alice = join(service, "alice")
    reply = seal_upload(service, alice)
    assert stored(reply).read_bytes().startswith(b"DRSEAL2\n") and b"alice" not in stored(reply).read_bytes()
    got = wait_for(lambda: (r := call(service, "GET", f"/results/{reply['id']}", token=alice)).status != 202 and r, "the result")
    assert got.status == 200 and got.json()["label"]
    assert pathlib.Path(f"{stored(reply)}.json").read_bytes().startswith(b"DRSEAL1\n")
    wait_for(lambda: call(service, "GET", f"/v1/images/{reply['id']}", token=alice).json()["label"], "the label")


def test_only_the_owner_reads_it(start, keys):
    service = start(**USERS, SEAL_KEYS_FILE=keys)
    subprocess.run([service.program, "--users", "add", "root"], input=PASSWORD, text=True, check=True, env=service.env,
                   cwd=service.folder)
    alice, bob, root = join(service, "alice"), join(service, "bob"), token_of(service, "root")

    def upload(token):
        return call(service, "POST", "/preprocess?seal=1", PICTURE, token, **{"Content_Type": "image/jpeg"}).json()
    reply = upload(alice)
    id_ = reply["id"]
    for token, status in ((alice, 200), (bob, 404), (root, 404), (None, 404)):
        assert call(service, "GET", f"/images/{id_}", token=token).status == status
        assert call(service, "GET", f"/images/{id_}.jpg", token=token).status == status
        assert call(service, "GET", f"/results/{id_}", token=token).status == (202 if token == alice else 404)
        if token:
            assert call(service, "GET", f"/v1/images/{id_}", token=token).status == status
            assert len(call(service, "GET", "/v1/images", token=token).json()["images"]) == (token == alice)
    theirs = upload(bob)  # the same picture
    assert theirs["id"] != id_
    assert call(service, "DELETE", f"/v1/images/{id_}", token=bob).status == 404
    for token in (bob, root):
        assert call(service, "PATCH", f"/v1/images/{id_}", {"note": "x"}, token).status == 404
    assert call(service, "GET", f"/v1/images/{id_}", token=alice).json()["note"] == ""
    assert call(service, "DELETE", f"/v1/images/{id_}", token=root).status == 204  # without having seen it
    assert not stored(reply).exists() and stored(theirs).exists()
    assert call(service, "GET", f"/images/{theirs['id']}", token=bob).status == 200


def test_who_uploads_a_sealed_picture_again_owns_it_after_a_rebuild(start, keys, tmp_path):
    """The catalogue is lost, and with it whose it was: then nobody reads it, and its owner makes no second row."""
    service = start(**USERS, SEAL_KEYS_FILE=keys)
    alice = join(service, "alice")

    def upload():
        return call(service, "POST", "/preprocess?seal=1", PICTURE, alice, **{"Content_Type": "image/jpeg"}).json()
    id_ = upload()["id"]
    service.stop()
    with contextlib.closing(sqlite3.connect(tmp_path / "catalogue.db")) as db, db:
        db.execute("UPDATE image SET owner = ''")
    service.restart()
    for token in (alice, None):
        assert call(service, "GET", f"/images/{id_}", token=token).status == 404
        assert call(service, "GET", f"/results/{id_}", token=token).status == 404
    assert upload()["id"] == id_
    assert call(service, "GET", f"/images/{id_}", token=alice).status == 200
    assert call(service, "GET", f"/images/{id_}").status == 404
    with contextlib.closing(sqlite3.connect(tmp_path / "catalogue.db")) as db:
        assert db.execute("SELECT id, owner FROM image").fetchall() == [(id_, "alice")]


@pytest.fixture(params=["sqlite", "postgresql"], name="lose")
def fixture_lose(request, tmp_path):
    """CATALOGUE_URL, and lose(accounts) for a stopped service: the catalogue and, if asked, the accounts are gone."""
    if request.param == "sqlite":
        def lose(accounts=False):
            for path in [*tmp_path.glob("catalogue.db*"), *(tmp_path.glob("data/users.db*") if accounts else ())]:
                path.unlink()
        return f"sqlite:{tmp_path}/catalogue.db", lose
    server = request.getfixturevalue("postgres")
    url = server.new_database()

    def lose(accounts=False):
        name = url.rpartition("/")[2]
        tables = "image, image_tag, catalogue_meta, schema_migration" + ", account, schema_migration_users" * accounts
        server.sql(f"DROP TABLE {tables}", name)
    return url, lose


def seal_upload(service, token, n=0, seal=1):
    return call(service, "POST", f"/preprocess?seal={seal}", numbered_jpeg(n, PICTURE), token,
                **{"Content_Type": "image/jpeg"}).json()


def rows(service, token):
    return {i["id"]: i["owner"] for i in call(service, "GET", "/v1/images", token=token).json()["images"]}


def rebuild(service):
    return subprocess.run([BUILD / "preprocess-service", "--catalogue", "rebuild"], env=service.env, cwd=service.folder,
                          capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("by_command", [False, True])
def test_owners_are_known_after_the_catalogue_was_lost(start, keys, lose, by_command):
    url, lose = lose
    service = start(**USERS, SEAL_KEYS_FILE=keys, CATALOGUE_URL=url)
    alice, bob = join(service, "alice"), join(service, "bob")
    hers, his, plain = seal_upload(service, alice)["id"], seal_upload(service, bob, 1)["id"], seal_upload(service, bob, 2, 0)["id"]
    before = call(service, "GET", f"/v1/images/{hers}", token=alice).json()
    keys.write_text(keys.read_text() + new_key())
    assert rotate(service).stdout == "2 for the newest key now, 0 were already\n"
    service.stop()
    lose()
    if by_command:
        done = rebuild(service)
        assert done.stdout == "3 added, 0 removed\n", done
    service.restart()
    wait_for(lambda: len(rows(service, alice)) == 2, "the catalogue to be filled")
    assert rows(service, alice) == {hers: "alice", plain: None} and rows(service, bob) == {his: "bob", plain: None}
    after = call(service, "GET", f"/v1/images/{hers}", token=alice).json()
    assert {k: v for k, v in after.items() if k != "created_at"} == {k: v for k, v in before.items() if k != "created_at"}
    for token, status in ((alice, 200), (bob, 404), (None, 404)):
        assert call(service, "GET", f"/images/{hers}", token=token).status == status
    assert seal_upload(service, alice)["id"] == hers and len(rows(service, alice)) == 2


def test_a_name_that_is_given_anew_opens_nothing(start, keys, lose):
    """The accounts are lost, too. Whoever signs up first is not who sealed the picture, for all that is known."""
    url, lose = lose
    service = start(**USERS, SEAL_KEYS_FILE=keys, CATALOGUE_URL=url)
    id_ = seal_upload(service, join(service, "alice"))["id"]
    service.stop()
    lose(accounts=True)
    service.restart()
    stranger = join(service, "alice")
    plain = seal_upload(service, stranger, 1, 0)["id"]
    wait_for(lambda: "filled from the store" in service.log(), "the catalogue to be filled")
    assert call(service, "GET", f"/images/{id_}", token=stranger).status == 404
    assert rows(service, stranger) == {plain: "alice"}
    assert seal_upload(service, stranger)["id"] == id_  # who has the picture itself may see it
    assert call(service, "GET", f"/images/{id_}", token=stranger).status == 200


def test_a_damaged_object_does_not_stop_a_rebuild(start, keys, lose):
    url, lose = lose
    service = start(SEAL_KEYS_FILE=keys, CATALOGUE_URL=url)
    bad, good = (seal_upload(service, None, n) for n in range(2))
    service.stop()
    lose()
    stored(bad).write_bytes(stored(bad).read_bytes()[:-1])
    service.restart()
    wait_for(lambda: list(rows(service, None)) == [good["id"]], "the other to be listed")
    wait_for(lambda: "filled from the store" in service.log(), "the catalogue to be filled")
    assert f"sealed/{bad['id']}.jpg" in service.log() and "the sealed object is damaged" in service.log()
    done = rebuild(service)
    assert (done.returncode, done.stdout) == (0, "0 added, 0 removed\n"), done
    assert bad["id"] in done.stderr, "what is wrong is beside the answer, not in it"


def test_all_uploads_are_sealed(start, keys):
    service = start(SEAL="always", SEAL_KEYS_FILE=keys)
    assert sealed(service.upload(PICTURE).json()) and sealed(service.upload(PICTURE, "?seal=0").json())


def test_sealing_is_refused_without_keys(start):
    service = start()
    reply = service.upload(PICTURE, "?seal=1")
    assert reply.status == 400 and "SEAL_KEYS_FILE" in reply.json()["detail"]
    assert service.upload(PICTURE, "?seal=maybe").status == 400
    assert service.post_image("/transform?seal=1", PICTURE).status == 400
    assert not sealed(service.upload(PICTURE, "?seal=0").json())


def test_damage_is_told_and_nothing_else(start, keys):
    service = start(SEAL_KEYS_FILE=keys, CATALOGUE_URL="none:")  # which would look at the object, too
    reply = service.upload(PICTURE, "?seal=1").json()
    whole = stored(reply).read_bytes()
    for damaged in (whole[:-1], whole[:100], b"", PICTURE, whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]):
        stored(reply).write_bytes(damaged)
        got = service.get("/images/" + reply["id"])
        assert got.status == 500, damaged[:10]
    assert service.log().count("the sealed object is damaged") == 5
    assert service.metric('sealed_objects_total{outcome="damaged"}') == 5
    stored(reply).write_bytes(whole)
    assert service.get("/images/" + reply["id"]).status == 200


@pytest.mark.skipif(not MODEL.exists(), reason="no model at hand")
def test_a_classifier_without_keys_loses_nothing(tmp_path, services, keys):
    services.append(Stack(tmp_path, {"SEAL_KEYS_FILE": keys}))
    stack = services[-1].start()
    reply = stack.preprocess.upload(PICTURE, "?seal=1").json()
    wait_for(lambda: stack.classify.metric('sealed_objects_total{outcome="no_key"}') >= 1, "the classifier to find it")
    wait_for(lambda: "a sealed object: set SEAL_KEYS_FILE" in stack.classify.log(), "the log to say so")
    assert stack.preprocess.metric('sealed_objects_total{outcome="sealed"}') == 1
    stack.classify.stop()
    stack.classify.restart(SEAL_KEYS_FILE=keys)
    assert "label" in result_of(stack.preprocess, reply)
    assert stack.classify.metric('sealed_objects_total{outcome="opened"}') >= 1


def test_a_catalogue_is_rebuilt(start, keys, tmp_path):
    service = start(SEAL_KEYS_FILE=keys)
    replies = [service.upload(numbered_jpeg(n, PICTURE), f"?seal={n % 2}").json() for n in range(6)]
    service.stop()
    for path in tmp_path.glob("catalogue.db*"):
        path.unlink()
    service.restart()
    listed = wait_for(lambda: len(images := service.get("/v1/images").json()["images"]) == 6 and images, "all six")
    assert {i["id"]: i["sealed"] for i in listed} == {r["id"]: sealed(r) for r in replies}
    assert {i["width"] for i in listed} == {replies[0]["width"]}


# ---- keys

def rotate(service, **env):
    return subprocess.run([BUILD / "preprocess-service", "--seal", "rotate"], env=service.env | env, cwd=service.folder,
                          capture_output=True, text=True, timeout=60, check=False)


def test_keys_are_replaced_while_the_service_runs(start, keys):
    service = start(SEAL_KEYS_FILE=keys)
    replies = [service.upload(numbered_jpeg(n, PICTURE), "?seal=1").json() for n in range(5)]
    bodies = [service.get("/images/" + r["id"]).body for r in replies]
    sealed_before = [stored(r).read_bytes() for r in replies]
    old, new = keys.read_text(), new_key()
    keys.write_text(old + new)
    done = rotate(service)
    assert (done.returncode, done.stdout) == (0, "5 for the newest key now, 0 were already\n"), done
    assert rotate(service).stdout == "0 for the newest key now, 5 were already\n"
    for reply, before in zip(replies, sealed_before):
        assert stored(reply).read_bytes()[84:] == before[84:] != before  # no object was encrypted again
    keys.write_text(new)
    service.stop()
    service.restart()
    assert [service.get("/images/" + r["id"]).body for r in replies] == bodies
    keys.write_text(new_key())
    done = rotate(service)
    assert done.returncode == 1 and "SEAL_KEYS_FILE does not have the key" in done.stderr


def test_a_damaged_object_does_not_stop_the_others_keys_from_being_replaced(start, keys):
    service = start(SEAL_KEYS_FILE=keys)
    replies = sorted((service.upload(numbered_jpeg(n, PICTURE), "?seal=1").json() for n in range(6)), key=lambda r: r["id"])
    for bad in replies[1], replies[3]:
        whole = stored(bad).read_bytes()
        stored(bad).write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    keys.write_text(keys.read_text() + new_key())
    for changed, kept in (4, 0), (0, 4):
        done = rotate(service)
        assert (done.returncode, done.stdout) == (1, f"{changed} for the newest key now, {kept} were already\n"), done
        assert "2 sealed objects are damaged" in done.stderr
        assert [r["id"] in done.stderr for r in replies] == [False, True, False, True, False, False]


def test_keys_are_replaced_beside_another_catalogue(start, keys, tmp_path):
    """What has no row in it was not deleted."""
    service = start(SEAL_KEYS_FILE=keys)
    reply = service.upload(PICTURE, "?seal=1").json()
    keys.write_text(keys.read_text() + new_key())
    assert rotate(service, CATALOGUE_URL=f"sqlite:{tmp_path}/another.db").stdout == "1 for the newest key now, 0 were already\n"
    service.stop()
    service.restart()
    assert service.get("/images/" + reply["id"]).status == 200


def test_keys_are_replaced_beside_deletions(start, keys, postgres):
    """A picture that is deleted while it is written again stays deleted. One whose deletion has begun is left to it."""
    url = postgres.new_database()
    service = start(SEAL_KEYS_FILE=keys, CATALOGUE_URL=url)
    begun, gone = (service.upload(numbered_jpeg(n, PICTURE), "?seal=1").json() for n in range(2))
    service.stop()
    before = {reply["id"]: stored(reply).read_bytes() for reply in (begun, gone)}
    keys.write_text(keys.read_text() + new_key())
    postgres.sql(f"UPDATE image SET deleted_ms = 9999999999999 WHERE id = '{begun['id']}'", url.rpartition("/")[2])
    with contextlib.ExitStack() as stack:
        with beside(postgres, url, f"DELETE FROM image WHERE id = '{gone['id']}'") as wait:
            rotation = stack.enter_context(subprocess.Popen([BUILD / "preprocess-service", "--seal", "rotate"], text=True,
                                                            env=service.env, cwd=service.folder, stdout=subprocess.PIPE))
            wait()
            assert stored(gone).read_bytes() != before[gone["id"]]
        assert rotation.communicate(timeout=60)[0] == "1 for the newest key now, 1 were already\n"
    assert not stored(gone).exists() and stored(begun).read_bytes() == before[begun["id"]]
    assert postgres.sql("SELECT id FROM image", url.rpartition("/")[2]).stdout == begun["id"] + "\n"


def test_a_deletion_is_finished_beside_results_that_cannot_be_read(start, keys, tmp_path):
    service = start(SEAL_KEYS_FILE=keys)
    for n in range(8):  # so that there is one at every turn
        seal_upload(service, None, n)
    begun = service.upload(PICTURE).json()
    service.stop()
    with contextlib.closing(sqlite3.connect(tmp_path / "catalogue.db")) as db, db:
        db.execute("UPDATE image SET deleted_ms = 1 WHERE id = ?", (begun["id"],))
    keys.write_text(new_key())
    service.restart()
    wait_for(lambda: not stored(begun).exists(), "the deletion to be finished")
    assert "SEAL_KEYS_FILE does not have the key" in service.log()


def test_no_core_dump_and_no_key_in_a_log(start, keys):
    service = start(SEAL_KEYS_FILE=keys, LOG_LEVEL="debug")
    service.upload(PICTURE, "?seal=1")
    limits = pathlib.Path(f"/proc/{service.process.pid}/limits").read_text()
    assert [line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core")] in ([["1", "1"]], [["0", "0"]])
    assert keys.read_text().strip() not in service.log()


@pytest.mark.parametrize("wrong, why", [
    ({"SEAL": "always"}, "SEAL=always needs SEAL_KEYS_FILE"),
    ({"SEAL_KEYS_FILE": "keys", "USERS": "on", "CATALOGUE_URL": "none:"}, "SEAL_KEYS_FILE with USERS=on needs CATALOGUE_URL"),
])
def test_settings_that_do_not_fit(tmp_path, wrong, why):
    service = Service("preprocess-service", tmp_path, **wrong)
    service.launch()
    assert service.process.wait(30) == 2
    assert why in service.log()


@pytest.mark.parametrize("text, why", [
    ("", "there is no key in it"), ("AAAA\n", "line 1 is not 32 bytes in base64"), (None, "No such file"),
])
def test_a_mistake_in_the_keys_is_told_at_start(tmp_path, keys, text, why):
    if text is None:
        keys.unlink()
    else:
        keys.write_text(text)
    service = Service("preprocess-service", tmp_path, SEAL_KEYS_FILE=keys)
    service.launch()
    assert service.process.wait(30) == 2
    assert f"SEAL_KEYS_FILE: {keys}: {why}" in service.log()

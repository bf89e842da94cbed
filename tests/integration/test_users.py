"""Users (USERS=on): sign up, sign in, owners and admins, on SQLite and on PostgreSQL."""
import json
import re
import subprocess
import threading

import pytest

from accounts import PASSWORD, USERS, bearer, call, join, sign_in, sign_up, token_of
from conftest import BUILD, Service, wait_for
from images import encode, gradient, numbered_jpeg
from postgres import PSQL
from test_catalogue import change_rows, command as catalogue, fixture_postgres, url  # noqa: F401 - fixtures
from test_preprocess import assert_problem
from test_pubsub_publish import fixture_google  # noqa: F401 - a fixture

pytestmark = [pytest.mark.memory, pytest.mark.threads]

PICTURE = encode(gradient(), quality=85)


@pytest.fixture(name="service")
def fixture_service(start, url):  # noqa: F811
    return start(CATALOGUE_URL=url, **USERS)


@pytest.fixture(name="plain")
def fixture_plain(start):
    """On SQLite."""
    return start(**USERS)


def command(service, *arguments, stdin=""):
    return subprocess.run([BUILD / "preprocess-service", "--users", *arguments], input=stdin, text=True, check=False,
                          env=service.env, cwd=service.folder, capture_output=True, timeout=120)


def upload(service, token, n=1):
    reply = service.post_image("/preprocess", numbered_jpeg(n, PICTURE), **bearer(token))
    assert reply.status == 200, reply
    return reply.json()["id"]


def ids(service, token, query=""):
    reply = call(service, "GET", "/v1/images" + query, token=token)
    assert reply.status == 200, reply
    return [image["id"] for image in reply.json()["images"]]


# ---- accounts

def test_the_life_of_an_account(service):
    made = sign_up(service, "Alice")
    assert made.status == 201 and set(made.json()) == {"name", "admin", "created_at"}
    assert_problem(sign_up(service, "alice"), 409)
    token = token_of(service, "ALICE")
    me = call(service, "GET", "/v1/users/me", token=token)
    assert me.status == 200 and me.json() == made.json() | {"name": "Alice", "admin": False}
    assert me.headers["Cache-Control"] == "no-store"
    service.stop()
    service.restart()
    assert call(service, "HEAD", "/v1/users/me", token=token).status == 200
    changed = call(service, "PATCH", "/v1/users/me", {"password": "battery staple"}, token)
    assert changed.status == 200 and changed.json()["name"] == "Alice"
    assert_problem(call(service, "GET", "/v1/users/me", token=token), 401)  # signed with the old password
    token = changed.json()["token"]
    assert call(service, "GET", "/v1/users/me", token=token).status == 200
    assert_problem(sign_in(service, "Alice"), 401)
    assert call(service, "DELETE", "/v1/users/me", token=token_of(service, "Alice", "battery staple")).status == 204
    refused = call(service, "GET", "/v1/users/me", token=token)
    assert_problem(refused, 401)
    assert refused.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert_problem(sign_in(service, "Alice", "battery staple"), 401)
    assert_problem(sign_up(service, "Alice"), 409)  # nobody else becomes the owner of her pictures
    assert PASSWORD not in service.log() and "staple" not in service.log() and "eyJ" not in service.log()


def test_words_do_not_tell_what_was_wrong(plain):
    join(plain, "alice")
    replies = [sign_in(plain, name, "wrong horse", X_Request_Id="same") for name in ("alice", "bob", "a@b.c", "")]
    assert {reply.status for reply in replies} == {401}
    assert len({reply.body for reply in replies}) == 1
    # of Server-Timing the stages, not their milliseconds
    assert len({tuple(sorted((k, re.sub(r"dur=[\d.]+", "", v)) for k, v in reply.headers.items() if k != "Date"))
                for reply in replies}) == 1


BODIES = ["", "[]", "{", '"x"', "null", '{"name": "a"}', '{"password": "correct horse"}',
          '{"name": 1, "password": "correct horse"}', '{"name": "a", "password": ["correct horse"]}',
          '{"name": "a", "password": null}', '{"name": "a\\u0000b", "password": "correct horse"}',
          '{"name": "a", "password": "correct\\u0000horse"}', '{"name": "a", "password": "correct horse", "admin": true}',
          "[" * 5000, '{"name": "a", "password": "\xff"}'.encode("latin-1")]


@pytest.mark.parametrize("body", BODIES)
def test_strange_bodies(plain_for_all, body):
    for path in ("/v1/users", "/v1/tokens"):
        assert_problem(call(plain_for_all, "POST", path, body), 400)


@pytest.fixture(scope="module", name="plain_for_all")
def fixture_plain_for_all(tmp_path_factory):
    service = Service("preprocess-service", tmp_path_factory.mktemp("plain"), EVENTS_URL="none:", **USERS)
    service.start()
    yield service
    service.stop()


def test_names_and_passwords_that_cannot_be(plain_for_all):
    for name in ("", "me", "a b", "a@b.c", ".a", "a/b", "ä", "a" * 65):
        assert "name" in sign_up(plain_for_all, name).json()["detail"]
    for password in ("", "1234567", "x" * 1025):
        reply = sign_up(plain_for_all, "a", password)
        assert reply.status == 400 and "password" in reply.json()["detail"]
    assert_problem(call(plain_for_all, "POST", "/v1/users", "x" * 20000), 413)
    assert_problem(call(plain_for_all, "POST", "/v1/users?a=b", {"name": "a", "password": PASSWORD}), 400)
    assert sign_up(plain_for_all, "a" * 64, "ä" * 512).status == 201
    token = token_of(plain_for_all, "a" * 64, "ä" * 512)
    for body in ({"name": "b"}, {}, {"password": "short"}, {"password": PASSWORD, "admin": True}):
        assert_problem(call(plain_for_all, "PATCH", "/v1/users/me", body, token), 400)
    assert call(plain_for_all, "GET", "/v1/users/me", token=token).status == 200


def test_off_by_default(preprocess):
    for method, path in (("POST", "/v1/users"), ("POST", "/v1/tokens"), ("GET", "/v1/users/me"),
                         ("PATCH", "/v1/users/me"), ("DELETE", "/v1/users/me")):
        assert_problem(call(preprocess, method, path, {"name": "a", "password": PASSWORD}), 404)
    id_ = upload(preprocess, "nonsense")
    assert ids(preprocess, "nonsense") == [id_] and not ids(preprocess, None, "?owner=me")
    assert not (preprocess.folder / "data").exists()


# ---- owners

def test_owners_and_admins(service):
    alice, bob = join(service, "alice"), join(service, "bob")
    assert command(service, "add", "root", stdin=PASSWORD + "\n").returncode == 0
    root = token_of(service, "root")
    assert call(service, "GET", "/v1/users/me", token=root).json()["admin"] is True
    hers, his = upload(service, alice, 1), upload(service, bob, 2)
    assert ids(service, alice) == ids(service, root) == [his, hers]
    assert ids(service, alice, "?owner=me") == ids(service, bob, "?owner=alice") == [hers]
    assert call(service, "GET", f"/v1/images/{hers}", token=bob).json()["owner"] == "alice"
    for method, body in (("PATCH", {"note": "x"}), ("DELETE", None)):
        assert_problem(call(service, method, f"/v1/images/{hers}", body, bob), 403)
        assert_problem(call(service, method, "/v1/images/" + "0" * 64, body, bob), 404)
        assert_problem(call(service, method, f"/v1/images/{hers}", body), 401)
    for token in (alice, root):
        changed = call(service, "PATCH", f"/v1/images/{hers}", {"note": token[-9:]}, token)
        assert changed.status == 200 and changed.json()["note"] == token[-9:]
    assert call(service, "DELETE", f"/v1/images/{hers}", token=alice).status == 204
    assert call(service, "DELETE", f"/v1/images/{his}", token=root).status == 204
    assert ids(service, alice) == [] and service.get(f"/images/{his}").status == 404


def test_two_owners_of_one_picture(service):
    alice, bob = join(service, "alice"), join(service, "bob")
    id_ = upload(service, alice)
    assert upload(service, bob) == id_
    assert ids(service, alice) == [id_, id_] and ids(service, bob, "?owner=me") == [id_]
    for token, name in ((alice, "alice"), (bob, "bob")):
        assert call(service, "PATCH", f"/v1/images/{id_}", {"note": name}, token).json()["owner"] == name
    assert call(service, "DELETE", f"/v1/images/{id_}", token=alice).status == 204
    assert service.get(f"/images/{id_}").status == 200
    assert_problem(call(service, "DELETE", f"/v1/images/{id_}", token=alice), 403)  # it is bob's now
    assert call(service, "GET", f"/v1/images/{id_}", token=bob).json()["note"] == "bob"
    assert call(service, "DELETE", f"/v1/images/{id_}", token=bob).status == 204
    assert service.get(f"/images/{id_}").status == 404


BEGUN = "UPDATE image SET deleted_ms = 9999999999999 WHERE owner = 'alice'"  # and never left behind


def test_of_two_owners_that_delete_at_once_the_last_takes_the_object(service, url):  # noqa: F811
    alice, bob = join(service, "alice"), join(service, "bob")
    id_ = upload(service, alice)
    assert upload(service, bob) == id_
    change_rows(url, BEGUN)
    assert call(service, "DELETE", f"/v1/images/{id_}", token=bob).status == 204
    assert service.get(f"/images/{id_}").status == 404


def test_an_upload_waits_for_another_owners_deletion(service, url):  # noqa: F811
    """It would be listed, and its object deleted."""
    alice, bob = join(service, "alice"), join(service, "bob")
    id_ = upload(service, alice)
    change_rows(url, BEGUN)
    assert_problem(service.post_image("/preprocess", numbered_jpeg(1, PICTURE), **bearer(bob)), 503)
    assert ids(service, bob) == []
    change_rows(url, "DELETE FROM image")  # it is finished
    assert upload(service, bob) == id_ and ids(service, bob) == [id_]


def test_a_deletion_beside_a_vacuum_keeps_nobody_out(start, postgres):
    url = postgres.new_database()
    service = start(CATALOGUE_URL=url, **USERS)
    alice = join(service, "alice")
    id_ = upload(service, alice)
    with subprocess.Popen([PSQL, "-qAt", url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as vacuum:
        vacuum.stdin.write("BEGIN;\nLOCK TABLE image IN SHARE UPDATE EXCLUSIVE MODE;\nSELECT 'locked';\n")
        vacuum.stdin.flush()
        assert vacuum.stdout.readline() == "locked\n"
        assert call(service, "DELETE", f"/v1/images/{id_}", token=alice).status == 204
        assert upload(service, alice) == id_
        vacuum.communicate("COMMIT;\n", timeout=30)


def test_pictures_of_nobody_are_the_admins(start, url):  # noqa: F811
    service = start(CATALOGUE_URL=url)
    id_ = upload(service, None)
    service.stop()
    service.restart(**USERS)
    alice = join(service, "alice")
    assert command(service, "add", "root", stdin=PASSWORD).returncode == 0
    assert ids(service, alice) == [id_] and ids(service, alice, "?owner=me") == []
    assert_problem(call(service, "DELETE", f"/v1/images/{id_}", token=alice), 403)
    assert call(service, "DELETE", f"/v1/images/{id_}", token=token_of(service, "root")).status == 204


def test_a_rebuild_beside_an_upload(tmp_path, services, url, google):  # noqa: F811
    """It finds the object before the upload's row is there: the row is the uploader's, and the only one."""
    services.append(Service("preprocess-service", tmp_path, CATALOGUE_URL=url, **USERS,
                            EVENTS_URL="pubsub://projects/project/topics/topic",
                            PUBSUB_ENDPOINT=f"http://{google.host}", GCE_METADATA_HOST=google.host))
    service = services[0].start()
    alice, kept = join(service, "alice"), []
    assert catalogue(service, "rebuild").stdout == "0 added, 0 removed\n"  # else the new one is filled in between
    sender = threading.Thread(target=lambda: kept.append(upload(service, alice)))
    with google.held:
        sender.start()
        wait_for(lambda: list((tmp_path / "objects").glob("*.jpg")), "the object")
        assert catalogue(service, "rebuild").stdout == "1 added, 0 removed\n"
    sender.join()
    assert ids(service, alice) == ids(service, alice, "?owner=me") == kept


def test_owners_do_not_count_as_viewers(service):
    alice, bob = join(service, "alice"), join(service, "bob")
    id_ = upload(service, alice)
    for token in (alice, bob, alice, None, alice):
        assert service.get(f"/images/{id_}", bearer(token)).status == 200
    wait_for(lambda: call(service, "GET", f"/v1/images/{id_}", token=bob).json()["views"] == 2, "two views")
    service.stop()
    service.restart()
    assert call(service, "GET", f"/v1/images/{id_}", token=bob).json()["views"] == 2


def test_rows_keep_their_owner_over_kill(tmp_path, services):
    """The outbox's record has it, too."""
    services.append(Service("preprocess-service", tmp_path, **USERS))
    service = services[-1].start()
    alice = join(service, "alice")
    kept = [upload(service, alice, n) for n in range(5)]
    service.kill()
    service.restart()
    assert ids(service, alice, "?owner=me") == kept[::-1]


# ---- attempts

def test_attempts_are_limited_and_nobody_is_locked_out(plain):
    alice = join(plain, "alice")
    statuses = [sign_in(plain, "alice", "wrong horse", source="127.0.0.9").status for _ in range(7)]
    assert statuses == [401] * 5 + [429] * 2
    limited = sign_in(plain, "alice", source="127.0.0.9", X_Forwarded_For="192.0.2.1")  # though it is right
    assert_problem(limited, 429)
    assert 1 <= int(limited.headers["Retry-After"]) <= 30
    assert sign_in(plain, "alice", source="127.0.0.10").status == 200
    assert call(plain, "GET", "/v1/users/me", token=alice, source="127.0.0.9").status == 200
    assert [sign_in(plain, "alice", source="127.0.0.10").status for _ in range(8)] == [200] * 8
    assert plain.metric('sign_ins_total{outcome="limited"}') == 3
    assert plain.metric('sign_ins_total{outcome="refused"}') == 5
    assert plain.metric('sign_ins_total{outcome="ok"}') == 10


def test_attempts_are_limited_over_http2(plain):
    """A stream has the address of its connection."""
    def attempt(source):
        done = subprocess.run(["curl", "-s", "-o", plain.folder / "body", "-w", "%{http_code} %{http_version}",
                               "--http2-prior-knowledge", "--interface", source, "-d",
                               json.dumps({"name": "alice", "password": "wrong horse"}), plain.url + "/v1/tokens"],
                              capture_output=True, text=True, timeout=120, check=True)
        return done.stdout
    assert [attempt("127.0.0.9") for _ in range(6)] == ["401 2"] * 5 + ["429 2"]
    assert attempt("127.0.0.10") == "401 2"


def test_addresses_behind_proxies(start):
    service = start(PROXIES=2, **USERS)
    join(service, "alice")

    def attempt(forwarded, password="wrong horse"):
        return sign_in(service, "alice", password, X_Forwarded_For=forwarded).status
    for n in range(5):  # what the client says itself does not count
        assert attempt(f"10.0.0.{n}, 192.0.2.1, 10.9.9.9") == 401
    assert attempt("192.0.2.1, 10.9.9.9") == attempt("10.0.0.7,192.0.2.1,10.9.9.8") == 429
    assert attempt("192.0.2.1, 192.0.2.2, 10.9.9.9") == 401
    assert attempt("192.0.2.3, 10.9.9.9", PASSWORD) == 200


def test_those_who_guess_hold_nobody_up(plain):
    """Hashing is the workers' work, and thumbnails pass it."""
    alice = join(plain, "alice")
    stop = threading.Event()

    def guess(n):
        while not stop.is_set():
            sign_in(plain, f"user{n}", "wrong horse", source=f"127.0.1.{n}")
            stop.wait(0.05)
    guessers = [threading.Thread(target=guess, args=(n,)) for n in range(1, 13)]
    for guesser in guessers:
        guesser.start()
    try:
        wait_for(lambda: plain.metric("worker_busy") > 0, "a worker to hash")
        for n in range(5):
            assert plain.get("/healthz").status == 200
            upload(plain, alice, n)
    finally:
        stop.set()
        for guesser in guessers:
            guesser.join()


# ---- keys, instances, the command

def test_instances_share_users(tmp_path, services, url):  # noqa: F811
    """A token of one is good at the other, and void there at once."""
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
        services.append(Service("preprocess-service", folder, EVENTS_URL="none:", CATALOGUE_URL=url,
                                USERS_URL=url.replace("catalogue.db", "users.db"),
                                TOKEN_KEY_FILE=f"{tmp_path}/token.keys", **USERS))
    one, two = (service.start() for service in services)
    token = join(one, "alice")
    assert call(two, "GET", "/v1/users/me", token=token).status == 200
    assert command(two, "rotate-keys").returncode == 0
    fresh = token_of(two, "alice")
    assert fresh.split(".")[0] != token.split(".")[0]
    for service in (one, two):
        for good in (token, fresh):
            assert call(service, "GET", "/v1/users/me", token=good).status == 200
    assert call(one, "DELETE", "/v1/users/me", token=fresh).status == 204
    for service in (two, one):
        for void in (token, fresh):
            assert_problem(call(service, "GET", "/v1/users/me", token=void), 401)


def test_command(service):
    assert command(service, "add", "Root", stdin=PASSWORD + "\n").returncode == 0
    failed = command(service, "add", "root", stdin=PASSWORD)
    assert failed.returncode == 1 and "taken" in failed.stderr
    assert_problem(sign_up(service, "spare-root"), 409)  # by a stranger
    root = token_of(service, "root")
    assert sign_up(service, "spare-root", token=root).json()["admin"] is True
    join(service, "alice")
    assert re.fullmatch(r"(\S+Z \S+\n){3}", command(service, "list").stdout)
    assert [line.split()[1] for line in command(service, "list").stdout.splitlines()] == ["alice", "Root", "spare-root"]
    assert command(service, "password", "root", stdin="battery staple\n").returncode == 0
    assert_problem(call(service, "GET", "/v1/users/me", token=root), 401)
    assert token_of(service, "root", "battery staple")
    assert command(service, "delete", "alice").returncode == 0
    assert_problem(sign_in(service, "alice"), 401)
    assert command(service, "delete", "alice").returncode == 1
    for arguments in ((), ("add",), ("list", "x"), ("nonsense",)):
        assert command(service, *arguments).returncode == 2


def test_a_database_that_is_away(tmp_path, services, postgres):
    services.append(Service("preprocess-service", tmp_path, EVENTS_URL="none:", USERS_URL=postgres.new_database(),
                            **USERS))
    service = services[-1].start()
    alice = join(service, "alice")
    id_ = upload(service, alice)
    postgres.stop()
    try:
        assert_problem(call(service, "GET", "/v1/images", token=alice), 503)
        assert_problem(sign_in(service, "alice"), 503)
        assert_problem(sign_in(service, "bob"), 503)
        assert service.get(f"/images/{id_}").status == service.get("/healthz").status == 200
        assert_problem(call(service, "GET", "/v1/images", token=alice[:-5]), 401)
    finally:
        postgres.start()
    assert ids(service, alice) == [id_]
    assert [sign_in(service, "alice").status for _ in range(6)] == [200] * 6  # what failed was not counted


@pytest.mark.parametrize("env, named", [
    ({"USERS_URL": "mysql:x"}, "USERS_URL"), ({"PROXIES": "17"}, "PROXIES"),
    ({"USERS": "on", "K_SERVICE": "x", "STORAGE_URL": "gs://b", "EVENTS_URL": "none:"}, "USERS_URL"),
    ({"USERS": "on", "K_SERVICE": "x", "STORAGE_URL": "gs://b", "EVENTS_URL": "none:"}, "TOKEN_KEY_FILE")])
def test_settings_that_lose_users(tmp_path, env, named):
    service = Service("preprocess-service", tmp_path, **env)
    if "K_SERVICE" in env:
        del service.env["CATALOGUE_URL"]
    ended = subprocess.run([service.program], env=service.env, cwd=tmp_path, capture_output=True, text=True, timeout=60,
                           check=False)
    assert ended.returncode == 2 and named in ended.stderr


def test_keys_that_are_none(tmp_path):
    service = Service("preprocess-service", tmp_path, EVENTS_URL="none:", **USERS)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/token.keys").write_text("c2VjcmV0LXRoYXQtaXMtdG9vLXNob3J0\n")
    ended = subprocess.run([service.program], env=service.env, cwd=tmp_path, capture_output=True, text=True, timeout=60,
                           check=False)
    assert ended.returncode == 2 and "line 1" in json.loads(ended.stdout.splitlines()[-1] if ended.stdout else
                                                            ended.stderr.splitlines()[-1])["message"]
    assert "c2Vjc" not in ended.stdout + ended.stderr

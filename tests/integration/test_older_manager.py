"""The older image manager's clients (IMAGE_MANAGER_API=on): what they send, and what they read of the answers."""
import base64
import hmac
import http.client
import json
import os
import pathlib
import re
import subprocess
import uuid

import pytest

from accounts import USERS, call, join, sign_in
from conftest import BUILD, SLOW, Reply, wait_for
from images import decode, encode, gradient, numbered_jpeg
from jwks_server import Key
from test_catalogue import fixture_postgres, url  # noqa: F401 - fixtures
from test_openapi import check_reply

PASSWORD = "correct horse"
PICTURE = encode(gradient(), quality=85)
ON = USERS | {"IMAGE_MANAGER_API": "on"}
UNKNOWN = "0123456789abcdef01234567"


class Client:
    """One older client: it looks at the status, at `ok`, and at the fields that it needs."""

    def __init__(self, service):
        self.service, self.token = service, None
        self.document = service.get("/openapi.json").json()

    def request(self, method, path, body=None, **headers):
        """`Baerer` is how they spell it."""
        connection = http.client.HTTPConnection(self.service.host, self.service.port, timeout=60 * SLOW)
        try:
            headers = {k.replace("_", "-"): v for k, v in headers.items()}
            if self.token:
                headers = {"Authorization": f"Baerer {self.token}"} | headers
            if isinstance(body, dict):
                body, headers = json.dumps(body), {"Content-Type": "application/json"} | headers
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            reply = Reply(response.status, response.headers, response.read())
        finally:
            connection.close()
        pattern = re.sub("^(/(?:view-|plain-|cipher-)?image)/[^/]*$", r"\1/{id}", path)
        check_reply(self.document, method.lower(), pattern, reply)
        return reply

    def sign_up(self, user_name, password=PASSWORD, name="A Name"):
        return self.request("POST", "/user", {"name": name, "user_name": user_name, "password": password})

    def sign_in(self, user_name, password=PASSWORD):
        reply = self.request("POST", "/signin", {"user_name": user_name, "password": password})
        if reply.status == 200:
            self.token = reply.json()["token"]
        return reply

    def upload(self, data=PICTURE, encrypt="false", field="image", file_name="a.jpg", path=None):
        form = (f'--b\r\nContent-Disposition: form-data; name="{field}"; filename="{file_name}"\r\n'
                "Content-Type: image/jpeg\r\n\r\n").encode() + data + b"\r\n--b--\r\n"
        return self.request("POST", path or f"/image/{encrypt}", form, Content_Type="multipart/form-data; boundary=b")

    def uploaded(self, **how):
        reply = self.upload(**how)
        assert reply.status == 200, reply
        assert reply.json() == {"ok": True, "image_id": reply.json()["image_id"]}
        assert re.fullmatch("[0-9a-f]{24}", reply.json()["image_id"])
        return reply.json()["image_id"]


def fault(reply, status, message=None):
    """Every error is theirs: JSON with ok and message."""
    assert reply.status == status and reply.headers["Content-Type"] == "application/json", reply
    assert set(reply.json()) == {"ok", "message"} and reply.json()["ok"] is False
    assert message in (None, reply.json()["message"]), reply
    return reply.json()["message"]


@pytest.fixture(name="service")
def fixture_service(start, tmp_path):
    keys = tmp_path / "seal.keys"
    keys.write_text(base64.b64encode(os.urandom(32)).decode() + "\n")
    return start(**ON, SEAL_KEYS_FILE=keys)


@pytest.fixture(name="newcomer")
def fixture_newcomer(service):
    """A client of a user that was signed up and in."""
    def newcomer(user_name):
        client = Client(service)
        assert client.sign_up(user_name).status == 200
        assert client.sign_in(user_name).status == 200
        return client
    return newcomer


# ---- accounts

def test_an_older_client_lives_its_life(start, tmp_path, url):  # noqa: F811
    keys = tmp_path / "seal.keys"
    keys.write_text(base64.b64encode(os.urandom(32)).decode() + "\n")
    client = Client(start(**ON, SEAL_KEYS_FILE=keys, CATALOGUE_URL=url))
    reply = client.sign_up("alice7", name="Alice Ä")
    assert reply.status == 200 and set(reply.json()) == {"ok", "user_id"} and reply.json()["ok"] is True
    user_id = reply.json()["user_id"]
    assert re.fullmatch("[0-9a-f]{24}", user_id)
    reply = client.sign_in("alice7")
    assert reply.json() == {"ok": True, "message": "success", "token": client.token}
    assert client.request("GET", "/user").json() == \
        {"ok": True, "data": {"_id": user_id, "name": "Alice Ä", "user_name": "alice7"}}
    reply = client.request("PUT", "/user", {"name": "Alice B", "user_name": "alice7", "_id": "x"})
    assert reply.status == 200 and reply.json() == {"ok": True, "message": "user updated"}
    assert client.request("GET", "/user").json()["data"] == \
        {"_id": user_id, "name": "Alice B", "user_name": "alice7"}

    plain, encrypted = client.uploaded(), client.uploaded(encrypt="true")
    for image in (plain, encrypted):
        reply = client.request("GET", f"/view-image/{image}")
        assert reply.status == 200 and reply.headers["Content-Type"] == "image/jpeg"
        assert decode(reply.body).size == gradient().size
        assert client.request("GET", f"/view-image/{image}", Range="bytes=0-9").body == reply.body[:10]
        assert client.request("GET", f"/view-image/{image}", If_None_Match=reply.headers["ETag"]).status == 304
        reply = client.request("DELETE", f"/image/{image}")
        assert reply.status == 200 and reply.json() == {"ok": True, "deletedCount": 1}
        fault(client.request("DELETE", f"/image/{image}"), 404, "File not found")
        fault(client.request("GET", f"/view-image/{image}"), 404, "image not found")

    reply = client.request("DELETE", "/user")
    assert reply.status == 200 and reply.json() == {"ok": True, "message": "user deleted"}
    fault(client.request("GET", "/user"), 403)
    fault(client.sign_in("alice7"), 402, "Incorrect Username or password")


def test_a_new_password_makes_older_tokens_void(service, newcomer):
    client = newcomer("bob")
    old = client.token
    reply = client.request("PUT", "/user", {"password": "another horse"})
    assert reply.status == 200 and set(reply.json()) == {"ok", "message", "token"}
    fault(client.request("GET", "/user"), 403)
    client.token = reply.json()["token"]
    assert client.request("GET", "/user").status == 200 and client.token != old
    fault(Client(service).sign_in("bob"), 402)
    assert Client(service).sign_in("bob", "another horse").status == 200


def test_sign_in_tells_nobody_who_is_there(service, newcomer):
    newcomer("carol")
    client = Client(service)
    wrong, unknown = client.sign_in("carol", "wrong horse"), client.sign_in("nobody", "wrong horse")
    assert (wrong.status, wrong.body) == (unknown.status, unknown.body)
    fault(wrong, 402, "Incorrect Username or password")
    for body in ({}, {"user_name": "carol"}, {"user_name": 1, "password": 2}):
        fault(client.request("POST", "/signin", body), 404, "Not Found")
    for body in ("", "{", "[]"):
        fault(client.request("POST", "/signin", body), 400)
    fault(client.request("POST", "/signin", "x" * 20000), 413)
    limited = wait_for(lambda: (r := client.sign_in("dave", "wrong horse")).status == 429 and r, "the limit")
    fault(limited, 429)
    assert int(limited.headers["Retry-After"]) > 0


WRONG = [
    ({"user_name": "longer12"}, '"user_name" length must be less than or equal to 7 characters long'),
    ({"user_name": "ab"}, '"user_name" length must be at least 3 characters long'),
    ({"user_name": "a_b"}, '"user_name" must only contain alpha-numeric characters'),
    ({"user_name": ""}, '"user_name" is not allowed to be empty'),
    ({"user_name": 7}, '"user_name" must be a string'),
    ({"user_name": None}, '"user_name" must be a string'),
    ({"name": "a"}, '"name" length must be at least 2 characters long'),
    ({"name": "ä" * 21}, '"name" length must be less than or equal to 20 characters long'),
    ({"password": "short"}, '"password" length must be at least 8 characters long'),
]


def test_what_a_user_may_be(service, newcomer):
    good = {"name": "ä" * 20, "user_name": "erin", "password": PASSWORD}
    client = Client(service)
    for change, message in WRONG:
        fault(client.request("POST", "/user", good | change), 500, message)
    for field in good:
        fault(client.request("POST", "/user", {k: v for k, v in good.items() if k != field}), 500,
              f'"{field}" is required')
    assert client.request("POST", "/user", good | {"more": 1}).status == 200
    for name in ("erin", "ERIN", "root"):  # the last one is an admin's
        fault(client.request("POST", "/user", good | {"user_name": name}), 500, f"name: {name} is taken, choose another")
    client = newcomer("frank")
    for change, message in WRONG:
        fault(client.request("PUT", "/user", change), 500, message)
    fault(client.request("PUT", "/user", {"user_name": "erin"}), 500, '"user_name" cannot be changed')
    assert client.request("GET", "/user").json()["data"]["user_name"] == "frank"


def test_tokens(service, newcomer):
    """Any word before it; nothing but a token of ours behind."""
    client = newcomer("grace")
    for scheme in ("Baerer", "Bearer", "x"):
        assert client.request("GET", "/user", Authorization=f"{scheme} {client.token}").status == 200
    head, claims, signature = client.token.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    for given, message in ((client.token, "jwt must be provided"), ("Baerer", "jwt must be provided"),
                           ("Baerer x", "jwt malformed"), ("Baerer a.b", "jwt malformed"),
                           (f"Baerer {head}.{claims}.", "invalid signature"),
                           (f"Baerer {none}.{claims}.{signature}", "invalid signature"),
                           (f"Baerer {Key('one').token(sub='grace')}", "invalid signature")):
        fault(client.request("GET", "/user", Authorization=given), 403, message)
    client.token = None
    for method, path in (("GET", "/user"), ("PUT", "/user"), ("DELETE", "/user"), ("POST", "/image/false"),
                         ("DELETE", "/image/" + UNKNOWN), ("GET", "/view-image/" + UNKNOWN)):
        fault(client.request(method, path), 403, "jwt must be provided")


def hs256(claims, secret, alg="HS256", digest="sha256"):
    """A token by another implementation than ours."""
    text = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
                    for part in ({"alg": alg, "typ": "JWT"}, claims))
    return f"{text}." + base64.urlsafe_b64encode(hmac.digest(secret.encode(), text.encode(), digest)).decode().rstrip("=")


def test_tokens_by_a_shared_secret(start, tmp_path):
    secret = os.urandom(32).hex()
    keys = tmp_path / "seal.keys"
    keys.write_text(base64.b64encode(os.urandom(32)).decode() + "\n")
    service = start(**ON, SEAL_KEYS_FILE=keys, IMAGE_MANAGER_SECRET=secret)
    client = Client(service)
    user_id = client.sign_up("alice").json()["user_id"]
    assert client.sign_in("alice").status == 200
    part = client.token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    assert claims["_id"] == user_id and claims["exp"] == claims["iat"] + 3600
    good, ours = hs256(claims, secret), client.token
    text, _, signature = ours.rpartition(".")
    assert base64.urlsafe_b64decode(signature + "=") == hmac.digest(secret.encode(), text.encode(), "sha256")
    for token in (good, ours, sign_in(service, "alice").json()["token"]):
        client.token = token
        assert client.request("GET", "/user").json()["data"]["_id"] == user_id
    for token, message in ((hs256(claims, "my amazing secret"), "invalid signature"), (hs256(claims, ""), None),
                           (hs256(claims, secret, "HS512", "sha512"), "invalid signature"),
                           (hs256(claims, secret, "none"), "invalid signature"),
                           (hs256(claims | {"gen": 2}, secret), "invalid signature"),
                           (hs256({"_id": user_id, "iat": 1, "exp": claims["exp"]}, secret), "invalid signature"),
                           (hs256(claims | {"exp": claims["iat"] - 1}, secret), "jwt expired")):
        fault(client.request("GET", "/user", Authorization=f"Baerer {token}"), 403, message)
    assert call(service, "GET", "/v1/users/me", token=good).status == 401
    client.token = good
    client.token = client.request("PUT", "/user", {"password": "another horse"}).json()["token"]
    fault(client.request("GET", "/user", Authorization=f"Baerer {good}"), 403)
    assert client.request("GET", "/user").status == 200
    assert secret not in service.log()


def test_accounts_are_those_of_the_other_routes(service, newcomer):
    client = newcomer("heidi")
    assert call(service, "GET", "/v1/users/me", token=client.token).json()["name"] == "heidi"
    assert sign_in(service, "heidi").status == 200
    other = Client(service)
    other.token = join(service, "a-longer-name")
    assert other.request("GET", "/user").json()["data"]["name"] == "a-longer-name"


# ---- pictures

def test_pictures_of_others(service, newcomer):
    alice, bob = newcomer("alice"), newcomer("bob")
    plain, encrypted = alice.uploaded(), alice.uploaded(encrypt="true")
    assert bob.request("GET", f"/view-image/{plain}").status == 200
    fault(bob.request("GET", f"/view-image/{encrypted}"), 404, "image not found")
    for image in (plain, encrypted):
        fault(bob.request("DELETE", f"/image/{image}"), 404, "File not found")
        assert alice.request("GET", f"/view-image/{image}").status == 200

    listed = call(service, "GET", "/v1/images", token=alice.token).json()["images"]
    assert {image["id"][:24]: (image["owner"], image["sealed"]) for image in listed} == \
        {plain: ("alice", False), encrypted: ("alice", True)}
    path = next(image["gcs_path"] for image in listed if image["sealed"]).removeprefix("file://")
    assert pathlib.Path(path).read_bytes().startswith(b"DRSEAL2\n")
    whole = f"/v1/images/{next(image['id'] for image in listed if not image['sealed'])}"
    wait_for(lambda: call(service, "GET", whole, token=alice.token).json()["views"] == 1, "the other's view alone")

    # the same picture, twice: each has his own
    assert bob.uploaded() == plain
    assert alice.request("DELETE", f"/image/{plain}").status == 200
    assert bob.request("GET", f"/view-image/{plain}").status == 200
    assert alice.request("DELETE", f"/image/{encrypted}").status == 200
    assert not pathlib.Path(path).exists()


def test_uploads(newcomer):
    """The bytes say what it is, not the file's name or type; the picture keeps its size."""
    client = newcomer("ivan")
    png = client.uploaded(data=encode(gradient(), "PNG"), file_name="../../x.JPG")
    assert client.request("GET", f"/view-image/{png}").headers["Content-Type"] == "image/png"
    fault(client.upload(b"<html>not a picture</html>"), 415)
    fault(client.upload(b""), 415)
    fault(client.upload(PICTURE[:999]), 422)
    fault(client.upload(field="file"), 400, "the form must have one field named image")
    fault(client.request("POST", "/image/false", PICTURE, Content_Type="image/jpeg"), 400)
    fault(client.request("POST", "/image/true", {"image": "x"}), 400)
    fault(client.request("POST", "/image/true", b"x", Content_Length=str(2 ** 40)), 413)
    assert client.uploaded(data=numbered_jpeg(1, PICTURE), encrypt="TRUE") != client.uploaded()


def test_names_that_are_none(service, newcomer):
    client = newcomer("judy")
    client.uploaded()
    for name in ("%2e%2e", "..", "x", UNKNOWN, UNKNOWN.upper(), "0" * 23, "0" * 25, "0" * 64, "0" * 64 + ".jpg", "%25",
                 "_" * 24, "%27" * 24):
        fault(client.request("GET", "/view-image/" + name), 404, "image not found")
        fault(client.request("DELETE", "/image/" + name), 404, "File not found")
    for name in ("..%2Fpackage.json", "..%2f..%2f..%2fetc%2fpasswd", "%00", "a%2Fb", "sealed%2F" + "0" * 64):
        for method, path in (("GET", "/view-image/"), ("DELETE", "/image/"), ("GET", "/plain-image/"),
                             ("DELETE", "/plain-image/"), ("GET", "/cipher-image/"), ("DELETE", "/cipher-image/")):
            reply = call(service, method, path + name, token=client.token)
            assert reply.status in (400, 404) and "json" in reply.headers["Content-Type"] and reply.json(), reply
            assert str(service.folder) not in reply.body.decode() and "ENOENT" not in reply.body.decode()


# ---- the storage

@pytest.mark.parametrize("kind", ["plain", "cipher"])
def test_storage(newcomer, kind):
    """Names are uuid.subtype; two forms of "there is none"."""
    client, other = newcomer("alice"), newcomer("bob")
    reply = client.upload(path=f"/{kind}-image", data=encode(gradient(), "PNG"))
    assert reply.status == 200 and reply.json()["ok"] is True
    name = reply.json()["imageName"]
    assert re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}.png", name)
    path, wrong = f"/{kind}-image/{name}", f"/{'cipher' if kind == 'plain' else 'plain'}-image/{name}"
    reply = client.request("GET", path)
    assert reply.status == 200 and decode(reply.body).size == gradient().size
    assert client.request("GET", path, Range="bytes=1-9").body == reply.body[1:10]
    assert other.request("GET", path).status == (200 if kind == "plain" else 404)

    def missing(reply):
        assert reply.status == 404, reply
        assert reply.json() in ({"error": "Image Does Not Exist"}, {"ok": False, "message": "File Not Exit"})
    missing(client.request("GET", wrong))
    for who, its in ((other, path), (client, wrong)):
        fault(who.request("DELETE", its), 500, "ENOENT: no such file")
    for none in ("x", "..", name[:-4], name[:-3], name.replace("-", "_"), "0" * 64 + ".png", f"{uuid.UUID(int=1)}.png",
                 name.upper(), f"{name}%ff", f"{name[:-3]}%ff", f"{name}%20"):
        missing(client.request("GET", f"/{kind}-image/{none}"))
        fault(client.request("DELETE", f"/{kind}-image/{none}"), 500)
    client.token, token = None, client.token
    for method in ("GET", "DELETE"):
        fault(client.request(method, path), 403, "jwt must be provided")
    fault(client.upload(path=f"/{kind}-image"), 403)
    client.token = token
    reply = client.request("DELETE", path)
    assert reply.status == 200 and reply.json() == {"ok": True, "message": f"image {name} deleted"}
    missing(client.request("GET", path))


# ---- off, and mistakes

def test_off_by_default(start):
    service = start(**USERS)
    client = Client(service)
    client.token = join(service, "kate")
    for method, path in (("POST", "/signin"), ("POST", "/user"), ("GET", "/user"), ("PUT", "/user"),
                         ("DELETE", "/user"), ("POST", "/image/true"), ("DELETE", "/image/" + UNKNOWN),
                         ("GET", "/view-image/" + UNKNOWN), ("POST", "/plain-image"), ("GET", "/plain-image/x"),
                         ("DELETE", "/cipher-image/x")):
        assert client.request(method, path, {}).status == 404, path
    assert call(service, "GET", "/v1/users/me", token=client.token).status == 200


def mistakes(folder, **env):
    run = subprocess.run([BUILD / "preprocess-service"], env={"PATH": os.environ["PATH"]} | env, cwd=folder,
                         capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 2, run
    return run.stderr


def test_mistakes_are_told_at_start(tmp_path):
    told = mistakes(tmp_path, IMAGE_MANAGER_API="on", CATALOGUE_URL="none:", IMAGES="off")
    for needed in ("USERS=on", "CATALOGUE_URL", "SEAL_KEYS_FILE", "IMAGES=on"):
        assert f"IMAGE_MANAGER_API=on needs {needed}\n" in told
    assert "IMAGE_MANAGER_SECRET needs IMAGE_MANAGER_API=on\n" in mistakes(tmp_path, IMAGE_MANAGER_SECRET="x" * 32)
    for secret in ("my amazing secret", "my strong Sect", "1234", "x" * 31,
                   "a8b0ac7df167b74f3d51e8e5ea9f668d09a8b33c2373426b9043bc28e95ee857"):
        told = mistakes(tmp_path, IMAGE_MANAGER_SECRET=secret)
        assert "IMAGE_MANAGER_SECRET: must be random, of 32 bytes or more" in told and secret not in told

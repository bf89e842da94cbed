"""Who may call: OIDC tokens on /pubsub and on the other routes, against a real JWKS endpoint
(tests/servers/jwks_server.py) and tokens signed here."""
import base64
import concurrent.futures
import hmac
import json
import socket
import subprocess
import time

import pytest

import store_servers  # noqa: F401 - finds tests/servers
from conftest import SLOW, Service, Stack, wait_for
from images import encode, gradient
from jwks_server import JwksServer, Key, b64url, b64url_json, claims
from test_preprocess import assert_problem
from test_pubsub import envelope, files, push, put

pytestmark = [pytest.mark.memory, pytest.mark.threads]

PICTURE = encode(gradient())
AUDIENCE = "https://classify.example/pubsub"
ACCOUNT = "push@project.iam.gserviceaccount.com"
PUSH = {"PUSH_AUDIENCE": AUDIENCE, "PUSH_SERVICE_ACCOUNT": ACCOUNT}
AUTH_AUDIENCE = "https://darkroom.example"
AUTH = {"AUTH_AUDIENCE": AUTH_AUDIENCE, "AUTH_EMAILS": "alice@example.com, bob@example.com"}
KEY, STRANGER, SHORT = Key("one"), Key("one"), Key("short", 1024)


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def pushing(key=KEY, **changes):
    return key.token(**({"aud": AUDIENCE, "email": ACCOUNT} | changes))


def alice(key=KEY, **changes):
    return key.token(**({"aud": AUTH_AUDIENCE, "email": "alice@example.com"} | changes))


def assert_401(reply):
    assert_problem(reply, 401)
    assert reply.headers["WWW-Authenticate"].startswith("Bearer")
    return reply


@pytest.fixture
def issuer():
    with JwksServer() as server:
        server.keys.append(KEY)
        assert KEY.private
        yield server


@pytest.fixture
def start(tmp_path, services, issuer):
    """start(name, **env): a service that believes the issuer."""
    def run(name="classify-service", **env):
        services.append(Service(name, tmp_path, OIDC_JWKS_URL=issuer.url, LOG_LEVEL="debug", **env))
        return services[-1].start()
    return run


@pytest.fixture(name="guarded", scope="module")
def fixture_guarded(tmp_path_factory):
    """A classify-service that was told the keys; with .issuer."""
    with JwksServer() as server:
        server.keys += [KEY, SHORT, Key("encryption"), Key("twice"), Key("twice")]
        assert all(key.private for key in server.keys)  # made now: a service that fetches them waits some seconds only
        server.keys[2] = server.keys[2].jwk(use="enc")
        service = Service("classify-service", tmp_path_factory.mktemp("guarded"), OIDC_JWKS_URL=server.url,
                          LOG_LEVEL="debug", **PUSH)
        service.issuer = server
        service.start()
        yield service
        service.stop()
        assert "eyJ" not in service.log()


# --- /pubsub --------------------------------------------------------------------------------------


def test_real_push(guarded):
    uri = put(guarded, "real.jpg")
    for token in (pushing(), pushing(iss="accounts.google.com"), pushing(aud=["https://else", AUDIENCE]),
                  pushing(exp=int(time.time()) - 30), pushing(iat=int(time.time()) + 30), pushing(nbf=1),
                  KEY.token_of(KEY.header(typ=None, jku="http://127.0.0.1:9/", more=[1]),
                               claims(aud=AUDIENCE, email=ACCOUNT, extra={"x": [1.5, None]}))):
        assert push(guarded, envelope(uri), **bearer(token)).json()["status"] == "ok"
    assert push(guarded, envelope(uri), Authorization="bearer  " + pushing()).status == 200
    assert guarded.issuer.fetches == 1
    assert guarded.post_image("/classify", PICTURE).status == 200  # only /pubsub asks
    assert guarded.get("/").status == 200


def changed(token, part, change):
    parts = token.split(".")
    parts[part] = change(parts[part])
    return ".".join(parts)


def hs256(secret):
    text = b64url_json(KEY.header(alg="HS256")) + "." + b64url_json(claims(aud=AUDIENCE, email=ACCOUNT))
    return text + "." + b64url(hmac.digest(secret, text.encode(), "sha256"))


def with_header(**changes):
    return KEY.token_of(KEY.header(**changes), claims(aud=AUDIENCE, email=ACCOUNT))


def with_claims(text):
    return KEY.token_of(KEY.header(), text)


def whole(more):
    """Good claims with further text inside the object."""
    return json.dumps(claims(aud=AUDIENCE, email=ACCOUNT)).encode()[:-1] + more + b"}"


def other_spelling(text):
    """The same bytes in base64url but for bits that no byte takes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert len(text) % 4 in (2, 3)
    return text[:-1] + alphabet[alphabet.index(text[-1]) + 1]


NOW = int(time.time())
INVALID = {  # each is signed when it is needed: keys take long to make
    "empty": lambda: "", "one part": lambda: "abc", "two parts": lambda: pushing().rpartition(".")[0], "four parts": lambda: pushing() + ".x",
    "no signature": lambda: pushing().rpartition(".")[0] + ".", "no header": lambda: "." + pushing().split(".", 1)[1],
    "only dots": lambda: "..", "spaces": lambda: pushing().replace(".", " . "), "oversized": lambda: pushing(pad="x" * 8000),
    "alg none": lambda: b64url_json({"alg": "none", "kid": "one"}) + "." + pushing().split(".")[1] + ".",
    "alg none, signed": lambda: with_header(alg="none"), "alg None": lambda: with_header(alg="None"),
    "hs256 with the public key": lambda: hs256(KEY.public_pem()), "hs256 with nothing": lambda: hs256(b""),
    "alg hs256, rsa signed": lambda: with_header(alg="HS256"), "alg RS384": lambda: with_header(alg="RS384"),
    "alg PS256": lambda: with_header(alg="PS256"), "alg rs256": lambda: with_header(alg="rs256"), "no alg": lambda: with_header(alg=None),
    "alg a list": lambda: with_header(alg=["RS256"]), "crit": lambda: with_header(crit=["exp"]),
    "crit b64": lambda: with_header(crit=["b64"], b64=False),
    "crit empty": lambda: with_header(crit=[]), "no kid": lambda: with_header(kid=None), "kid a number": lambda: with_header(kid=1),
    "kid empty": lambda: with_header(kid=""), "kid long": lambda: with_header(kid="k" * 129), "kid a path": lambda: with_header(kid="../../one"),
    "unknown kid": lambda: pushing(Key("other")), "wrong key": lambda: pushing(STRANGER), "short key": lambda: pushing(SHORT),
    "key for encryption": lambda: with_header(kid="encryption"), "ambiguous key": lambda: with_header(kid="twice"),
    "embedded key": lambda: STRANGER.token_of(STRANGER.header(kid=None, jwk=STRANGER.jwk()), claims(aud=AUDIENCE, email=ACCOUNT)),
    "typ": lambda: with_header(typ="at+jwt"), "header a list": lambda: KEY.token_of([KEY.header()], claims(aud=AUDIENCE, email=ACCOUNT)),
    "kid twice": lambda: KEY.token_of(b'{"alg":"RS256","kid":"x","kid":"one"}', claims(aud=AUDIENCE, email=ACCOUNT)),
    "alg twice": lambda: KEY.token_of(b'{"alg":"none","alg":"RS256","kid":"one"}', claims(aud=AUDIENCE, email=ACCOUNT)),
    "nested header": lambda: KEY.token_of(b'{"alg":"RS256","kid":"one","x":' + b"[" * 2500 + b"]" * 2500 + b"}", claims()),
    "signature changed": lambda: changed(pushing(), 2, lambda s: ("B" if s[0] == "A" else "A") + s[1:]),
    "signature cut": lambda: changed(pushing(), 2, lambda s: s[:-4]), "signature spelt otherwise": lambda: changed(pushing(), 2, other_spelling),
    "signature padded": lambda: changed(pushing(), 2, lambda s: s + "=="), "payload padded": lambda: changed(pushing(), 1, lambda s: s + "="),
    "header not base64": lambda: changed(pushing(), 0, lambda s: s[:-1] + "+"),
    "header length": lambda: changed(pushing(), 0, lambda s: s + "A" * (5 - len(s) % 4)),
    "payload of another": lambda: changed(pushing(), 1, lambda s: b64url_json(claims(aud=AUDIENCE, email=ACCOUNT, sub="x"))),
    "claims a list": lambda: with_claims(b"[]"), "claims a string": lambda: with_claims(b'"x"'), "claims empty": lambda: with_claims(b"{}"),
    "claims not json": lambda: with_claims(b"{"), "claims and more": lambda: with_claims(whole(b"") + b"{}"),
    "claims not utf-8": lambda: with_claims(whole(b',"x":"\xff"')), "nul byte": lambda: with_claims(whole(b"") + b"\0"),
    "nul in a string": lambda: with_claims(whole(b',"x":"\\u0000"')),
    "email twice": lambda: with_claims(whole(b',"email":"' + ACCOUNT.encode() + b'"')),
    "nested claims": lambda: with_claims(whole(b',"x":' + b"[" * 1000 + b"]" * 1000)),
    "huge integer": lambda: with_claims(whole(b',"x":' + b"9" * 40)), "huge real": lambda: with_claims(whole(b',"x":1e999')),
    "expired": lambda: pushing(exp=NOW - 3600, iat=NOW - 7200), "no exp": lambda: pushing(exp=None),
    "exp a string": lambda: pushing(exp=str(NOW + 3600)),
    "exp a real": lambda: pushing(exp=NOW + 3600.5), "exp a whole real": lambda: pushing(exp=float(NOW + 3600)),
    "exp huge": lambda: pushing(exp=2**63 - 1),
    "exp negative": lambda: pushing(exp=-1), "exp true": lambda: pushing(exp=True), "iat future": lambda: pushing(iat=NOW + 36000),
    "no iat": lambda: pushing(iat=None),
    "iat a string": lambda: pushing(iat="1"), "nbf future": lambda: pushing(nbf=NOW + 36000), "nbf a string": lambda: pushing(nbf="1"),
    "nbf huge": lambda: pushing(nbf=2**63 - 1),
    "no iss": lambda: pushing(iss=None), "wrong iss": lambda: pushing(iss="https://accounts.example.com"),
    "iss with slash": lambda: pushing(iss="https://accounts.google.com/"),
    "iss http": lambda: pushing(iss="http://accounts.google.com"), "iss a list": lambda: pushing(iss=["https://accounts.google.com"]),
    "no aud": lambda: pushing(aud=None), "wrong aud": lambda: pushing(aud="https://other.example"), "aud prefix": lambda: pushing(aud=AUDIENCE + "/"),
    "aud upper": lambda: pushing(aud=AUDIENCE.upper()), "aud empty list": lambda: pushing(aud=[]),
    "aud mixed list": lambda: pushing(aud=[AUDIENCE, 1]),
    "aud others": lambda: pushing(aud=["a", "b"]), "aud an object": lambda: pushing(aud={AUDIENCE: AUDIENCE}),
}
FORBIDDEN = {
    "other email": lambda: pushing(email="eve@example.com"), "no email": lambda: pushing(email=None),
    "email a list": lambda: pushing(email=[ACCOUNT]),
    "email upper": lambda: pushing(email=ACCOUNT.upper()), "email with more": lambda: pushing(email=ACCOUNT + ".evil"),
    "email empty": lambda: pushing(email=""),
    "email a list in a string": lambda: pushing(email=ACCOUNT + ",eve@example.com"), "unverified": lambda: pushing(email_verified=False),
    "not said to be verified": lambda: pushing(email_verified=None), "verified in a string": lambda: pushing(email_verified="true"),
    "verified 1": lambda: pushing(email_verified=1),
}


@pytest.mark.parametrize("what", INVALID)
def test_invalid(guarded, what):
    before = files(guarded)
    reply = assert_401(push(guarded, b"never read", **bearer(INVALID[what]())))
    assert reply.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert reply.json()["detail"] == "no valid credentials"  # whatever it is
    assert files(guarded) == before


@pytest.mark.parametrize("what", FORBIDDEN)
def test_forbidden(guarded, what):
    assert push(guarded, b"nonsense", **bearer(pushing())).status == 400  # who may, is heard
    reply = push(guarded, b"never read", **bearer(FORBIDDEN[what]()))
    assert_problem(reply, 403)
    assert reply.json()["detail"] == "this account may not do this"


def test_other_authorizations(guarded):
    reply = assert_401(push(guarded, b"x"))
    assert reply.headers["WWW-Authenticate"] == "Bearer"  # RFC 6750, 3.1: nothing was wrong yet
    for value in ("", "Bearer", "Bearer ", pushing(), "Basic " + base64.b64encode(b"a:b").decode(), "Bearer" + pushing()):
        assert_401(push(guarded, b"x", Authorization=value))
    assert_401(push(guarded, b"x", **{"X-Serverless-Authorization": "Bearer " + pushing()}))
    with socket.create_connection(("127.0.0.1", guarded.port), 30) as s:  # two of them
        s.sendall(f"POST /pubsub HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {pushing()}\r\n"
                  f"Authorization: Bearer {pushing()}\r\nContent-Length: 0\r\n\r\n".encode())
        assert s.recv(1000).startswith(b"HTTP/1.1 401 ")


def test_refused_before_the_body(guarded):
    """A client that is about to send 30 MB reads its refusal, having sent little of it."""
    for _ in range(5):
        reply = guarded.request("POST", "/pubsub", b"x" * 4_000_000, bearer(pushing(STRANGER)))
        assert_401(reply)
    with socket.create_connection(("127.0.0.1", guarded.port), 30) as s:
        s.sendall(f"POST /pubsub HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nAuthorization: Bearer {pushing(STRANGER)}\r\n"
                  "Content-Length: 30000000\r\n\r\n".encode())
        assert s.recv(1000).startswith(b"HTTP/1.1 401 ")


def test_reasons_are_logged_without_the_token(start):
    service = start(**PUSH)
    tokens = [pushing(exp=NOW - 3600), pushing(STRANGER), pushing(email="eve@example.com"), "xyzzy-header.xyzzy-claims.xyzzy-signature"]
    for token in tokens:
        assert push(service, b"x", **bearer(token)).status in (401, 403)
    reasons = [line["reason"] for line in service.log_lines() if line["message"] == "refused"]
    assert len(reasons) == 4 and "expired" in reasons[0] and "signature" in reasons[1] and "account" in reasons[2]
    service.stop()
    for token in tokens:
        for part in token.split("."):
            assert part not in service.log()
    assert "eve@" not in service.log()


def test_shared_secret_or_token(start):
    """Both set: each request must satisfy one of them wholly."""
    service = start(PUSH_TOKEN="shared-secret", **PUSH)
    uri = put(service, "a.jpg")
    assert push(service, envelope(uri), **bearer("shared-secret")).status == 200
    assert push(service, envelope(uri), **bearer(pushing())).status == 200
    for token in ("shared-secre", "shared-secret.x.y", pushing(STRANGER), pushing(exp=1, iat=0)):
        assert_401(push(service, envelope(uri), **bearer(token)))
    assert_401(push(service, envelope(uri)))


# --- keys -----------------------------------------------------------------------------------------


def test_keys_are_fetched_when_needed_and_kept(start, issuer):
    service = start(**PUSH)
    assert service.get("/readyz").status == 200 and issuer.fetches == 0
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda _: push(service, b"nonsense", **bearer(pushing())).status, range(64)))
    assert statuses == [400] * 64
    assert issuer.fetches == 1


def test_rotation(start, issuer):
    service = start(**PUSH)
    old, new = pushing(), pushing(Key("two"))
    assert push(service, b"nonsense", **bearer(old)).status == 400
    fresh = Key("two")
    issuer.keys.append(fresh)
    assert push(service, b"nonsense", **bearer(pushing(fresh))).status == 400
    assert issuer.fetches == 2
    assert push(service, b"nonsense", **bearer(old)).status == 400
    assert_401(push(service, b"x", **bearer(new)))  # another key of that name


def test_random_keys_do_not_hammer_the_issuer(start, issuer, measurement):
    service = start(**PUSH)
    assert push(service, b"nonsense", **bearer(pushing())).status == 400
    tokens = [KEY.token_of(KEY.header(kid=f"random-{n}"), claims(aud=AUDIENCE, email=ACCOUNT)) for n in range(100)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for reply in pool.map(lambda token: push(service, b"x", **bearer(token)), tokens):
            assert_401(reply)
    assert issuer.fetches == 2
    issuer.answer = lambda handler: time.sleep(3 * SLOW)  # whoever fetches now would feel it
    before = time.monotonic()
    assert push(service, b"nonsense", **bearer(pushing())).status == 400
    took = time.monotonic() - before
    measurement.must(took < 2 * SLOW, f"a known key took {took:.1f} s")


def test_issuer_down(start, issuer):
    """Known keys go on working; of unknown ones nothing can be said yet."""
    issuer.stop()
    service = start(**PUSH)
    reply = push(service, b"x", **bearer(pushing()))
    assert_problem(reply, 503)
    assert reply.headers["Retry-After"]
    assert "127.0.0.1" not in reply.json()["detail"]
    issuer.start()
    wait_for(lambda: push(service, b"nonsense", **bearer(pushing())).status == 400, "the keys")
    issuer.stop()
    assert_problem(push(service, b"x", **bearer(pushing(Key("two")))), 503)
    assert_problem(push(service, b"x", **bearer(pushing(Key("three")))), 503)
    for _ in range(3):
        assert push(service, b"nonsense", **bearer(pushing())).status == 400


@pytest.mark.parametrize("answer", [
    lambda handler: handler.send_error(500), lambda handler: handler.reply(b"nonsense"),
    lambda handler: handler.reply(b'{"keys": []}'), lambda handler: handler.reply(b'{"keys": {}}'),
    lambda handler: handler.reply(b'{"keys": [' + b",".join([json.dumps(KEY.jwk()).encode()] * 33) + b"]}"),
    lambda handler: handler.reply(json.dumps({"keys": [KEY.jwk()], "x": "x" * 70000}).encode()),
    lambda handler: handler.reply(b'{"keys": [' + json.dumps(SHORT.jwk(kid="one")).encode() + b"]}"),
    lambda handler: handler.reply(json.dumps({"keys": [KEY.jwk(e="AQ")]}).encode()),
    lambda handler: handler.reply(b"[" * 60000), lambda handler: setattr(handler, "close_connection", True),
], ids=["500", "nonsense", "none", "object", "33 keys", "70 KB", "short", "exponent 1", "nested", "closed"])
def test_unusable_key_sets(start, issuer, answer):
    issuer.answer = answer
    service = start(**PUSH)
    for _ in range(3):
        assert_problem(push(service, b"x", **bearer(pushing())), 503)
    assert issuer.fetches >= 1


def test_silent_issuer_holds_nobody_up(start, issuer, measurement):
    """Health and the rest answer; the push is refused for now, in bounded time."""
    issuer.answer = lambda handler: time.sleep(8 * SLOW)
    service = start(**PUSH)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        before = time.monotonic()
        held = [pool.submit(push, service, b"x", **bearer(pushing())) for _ in range(8)]
        wait_for(lambda: issuer.fetches == 1, "the fetch")
        assert service.get("/healthz").status == 200
        assert service.post_image("/classify", PICTURE).status == 200
        for future in held:
            assert future.result().status == 503
        took = time.monotonic() - before
    assert issuer.fetches == 1
    measurement.must(took < 7 * SLOW, f"refused after {took:.1f} s")


def test_keys_over_tls(tmp_path, services):
    """By CA_FILE; a certificate that nobody vouches for is no issuer."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=keys",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
                   check=True, capture_output=True)
    with JwksServer(tls=(certificate, key)) as server:
        server.keys.append(KEY)
        for env, status in (({"CA_FILE": certificate}, 400), ({}, 503)):
            services.append(Service("classify-service", tmp_path, OIDC_JWKS_URL=server.url, **env, **PUSH))
            assert push(services[-1].start(), b"nonsense", **bearer(pushing())).status == status


# --- every other route ----------------------------------------------------------------------------

ROUTES = {
    "classify-service": [("GET", "/"), ("GET", "/metrics"), ("GET", "/openapi.json"), ("POST", "/classify"),
                         ("GET", "/results/" + "0" * 64), ("HEAD", "/"), ("POST", "/pubsub")],
    "preprocess-service": [("GET", "/"), ("GET", "/page.js"), ("GET", "/metrics"), ("GET", "/openapi.json"), ("POST", "/preprocess"),
                           ("POST", "/transform"), ("GET", "/results/" + "0" * 64), ("GET", "/images/" + "0" * 64),
                           ("HEAD", "/metrics"), ("POST", "/upload"), ("POST", "/reduce"), ("POST", "/remove"),
                           ("POST", "/process"), ("GET", "/status/0"), ("GET", "/timeline.png"), ("GET", "/timeline.svg"),
                           ("GET", "/v1/images"), ("GET", "/v1/images/" + "0" * 64),
                           ("PATCH", "/v1/images/" + "0" * 64), ("DELETE", "/v1/images/" + "0" * 64),
                           ("POST", "/v1/users"), ("POST", "/v1/tokens"), ("GET", "/v1/users/me"),
                           ("PATCH", "/v1/users/me"), ("DELETE", "/v1/users/me")],
}


@pytest.mark.parametrize("name", ROUTES)
def test_every_route(start, name):
    service = start(name, **AUTH)
    for path in ("/healthz", "/readyz"):
        assert service.get(path).status == 200
    for method, path in ROUTES[name]:
        for headers in ({}, bearer(alice(STRANGER)), bearer(pushing())):
            assert service.request(method, path, b"x" if method == "POST" else None, headers).status == 401, path
        assert service.request(method, path, None, bearer(alice(email="eve@example.com"))).status == 403, path
        for email in ("alice@example.com", "bob@example.com"):
            status = service.request(method, path, b"x" if method == "POST" else None, bearer(alice(email=email))).status
            assert status not in (401, 403, 503), (path, status)
    assert service.get("/nowhere").status == 404
    assert service.request("OPTIONS", "/").status == 401  # without CORS it is a request like any other


def test_pictures_of_those_who_may(start):
    preprocess = start("preprocess-service", EVENTS_URL="none:", **AUTH)
    reply = preprocess.post_image("/preprocess", PICTURE, **bearer(alice()))
    assert reply.status == 200, reply
    assert_401(preprocess.get("/images/" + reply.json()["id"]))
    assert preprocess.get("/images/" + reply.json()["id"], bearer(alice())).status == 200
    for _ in range(5):  # the refusal arrives though the body is still being sent
        assert_401(preprocess.post_image("/preprocess", PICTURE + b"\0" * 4_000_000, **bearer(alice(STRANGER))))


def test_push_rules_are_their_own(start):
    """AUTH_* do not open /pubsub where it has rules, nor the other way round."""
    service = start(**PUSH, **AUTH)
    assert push(service, b"nonsense", **bearer(pushing())).status == 400
    assert_401(push(service, b"x", **bearer(alice())))
    assert_401(service.get("/", bearer(pushing())))
    assert service.get("/", bearer(alice())).status == 200


def test_shared_secret_beside_auth(tmp_path, services, issuer):
    """The embedded outbox has no OIDC tokens: it pushes by PUSH_TOKEN."""
    env = {"OIDC_JWKS_URL": issuer.url, "PUSH_TOKEN": "shared-secret", **AUTH}
    services.append(Stack(tmp_path, env, env))
    stack = services[0].start()
    reply = stack.preprocess.post_image("/preprocess", PICTURE, **bearer(alice())).json()
    wait_for(lambda: stack.classify.get("/results/" + reply["id"], bearer(alice())).status == 200, "the result")
    assert_401(stack.classify.get("/", bearer("shared-secret")))


def test_preflight_stays_open(start):
    service = start("preprocess-service", CORS_ORIGINS="https://shop.example", **AUTH)
    preflight = service.request("OPTIONS", "/preprocess", headers={
        "Origin": "https://shop.example", "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization"})
    assert preflight.status == 204
    assert "authorization" in preflight.headers["Access-Control-Allow-Headers"].lower()
    refused = assert_401(service.request("POST", "/preprocess", b"x", {"Origin": "https://shop.example"}))
    assert refused.headers["Access-Control-Allow-Origin"] == "https://shop.example"  # a page can read it


def test_another_issuer(start):
    service = start(OIDC_ISSUER="https://login.example/", **PUSH)
    assert push(service, b"nonsense", **bearer(pushing(iss="https://login.example/"))).status == 400
    for iss in ("https://login.example", "login.example/", "https://accounts.google.com", "accounts.google.com"):
        assert_401(push(service, b"x", **bearer(pushing(iss=iss))))


@pytest.mark.parametrize("env, warned", [({}, True), ({"PUSH_TOKEN": "x"}, False), (PUSH, False), (AUTH, False)])
def test_open_door_on_cloud_run_is_warned_about(tmp_path, services, env, warned):
    services.append(Service("classify-service", tmp_path, K_SERVICE="classify", ALLOW_EPHEMERAL="1", **env))
    lines = [line for line in services[0].start().log_lines() if "/pubsub is open" in line["message"]]
    assert [line["severity"] for line in lines] == ["WARNING"] * warned

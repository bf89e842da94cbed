"""Who may call what: every route of the router's tables, for every kind of caller. A route without a row fails."""
import base64
import itertools
import json
import re
import subprocess

import grpc
import pytest

from accounts import PASSWORD, USERS, bearer, call, join, sign_up, token_of
from conftest import MODEL, ROOT, SLOW, Service
from images import encode, gradient, numbered_jpeg
from jwks_server import JwksServer, Key
from test_pubsub import envelope

PICTURE = encode(gradient(), quality=85)
KEY = Key("one")
PUSH = {"PUSH_AUDIENCE": "https://classify.example/pubsub", "PUSH_SERVICE_ACCOUNT": "push@p.iam.gserviceaccount.com"}
AUTH = {"AUTH_AUDIENCE": "https://darkroom.example", "AUTH_EMAILS": "guest@example.com, boss@example.com"}
NUMBERS = itertools.count()
NAME = json.loads(MODEL.read_text())["name"] if MODEL.exists() else "INVALID_ARGUMENT"


def table(folder):
    """(method, path) of every row of the router's table; "call" for gRPC. Each line is a row, or none is missed."""
    text = (ROOT / folder / "routes.c").read_text()
    rows = re.search(r"_routes\[\] = \{\n(.*?)\n\};", text, re.S)[1]
    found = [("GET" if kind == "ROUTE" else "call", path)
             for kind, path in re.findall(r'SERVICE_(ROUTE|CALL)\("([^"]+)"', rows)]
    found += [(method.strip('"') if method[0] == '"' else "call", path)
              for method, path in re.findall(r'\{("[A-Z]+"|ROUTER_CALL|ROUTER_STREAM),\s*"([^"]+)"', rows)]
    rows = re.sub(r"/\*.*?\*/", "", rows, flags=re.S)
    assert len(found) == len(set(found)) == len(re.findall(r"\),$|\},$", rows, re.M)), rows
    return found


# ---- the documented answers

# nobody: without a token. user: another user than the owner. guest: an account of OpenID Connect. pubsub: its token.
CALLERS = ("nobody", "user", "owner", "admin", "guest", "pubsub")


def all_of(status):
    return dict.fromkeys(CALLERS, status)


def users(status, **others):
    """For who signed in."""
    return all_of(status) | {"nobody": 401, "pubsub": 401} | others


def public(status, guarded):
    """For everybody, or with AUTH_AUDIENCE for who signed in; a token must be a good one."""
    return users(status) | ({} if guarded else {"nobody": status})


def owners(status):
    return users(403, owner=status, admin=status)


def no_guests(status):
    return users(status, guest=403)


WATCH = "/grpc.health.v1.Health/Watch"
REFLECTION = [f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1", "v1alpha")]


def preprocess_rows(guarded):
    light = {("GET", path): public(200, guarded) for path in ("/", "/page.{ext}", "/metrics", "/openapi.json")}
    return light | {
        ("GET", "/healthz"): all_of(200), ("GET", "/readyz"): all_of(200),
        ("POST", "/preprocess"): users(200), ("POST", "/transform"): users(200),
        ("GET", "/results/{id}"): public(202, guarded), ("GET", "/images/{id}"): public(200, guarded),
        ("GET", "/v1/images"): users(200), ("GET", "/v1/images/{id}"): users(200),
        ("PATCH", "/v1/images/{id}"): owners(200), ("DELETE", "/v1/images/{id}"): owners(204),
        ("POST", "/v1/users"): public(201, guarded), ("POST", "/v1/tokens"): all_of(200),
        ("GET", "/v1/users/me"): users(200), ("PATCH", "/v1/users/me"): no_guests(200),
        ("DELETE", "/v1/users/me"): no_guests(204),
        ("POST", "/upload"): users(200), ("POST", "/reduce"): users(200), ("POST", "/remove"): users(400),
        ("POST", "/process"): users(400),
        ("GET", "/status/{id}"): public(404, guarded), ("GET", "/timeline.png"): public(200, guarded),
        ("GET", "/timeline.svg"): public(200, guarded),
        ("call", "/grpc.health.v1.Health/Check"): all_of("OK"), ("call", WATCH): all_of("OK"),
        **{("call", path): users("OK", nobody="UNAUTHENTICATED" if guarded else "OK", pubsub="UNAUTHENTICATED")
           for path in REFLECTION},
        **{("call", path): users(status, nobody="UNAUTHENTICATED", pubsub="UNAUTHENTICATED") for path, status in {
            "/darkroom.v1.Images/Preprocess": "OK", "/darkroom.v1.Images/Transform": "OK",
            "/darkroom.v1.Images/Upload": "OK",
            # empty requests of clients that are older than users; success=false is an answer, too
            "/NLImageService/RotateImage": "INVALID_ARGUMENT", "/NLImageService/MeanFilter": "INVALID_ARGUMENT",
            "/image_pipeline.NoiseReducer/Reduce": "INVALID_ARGUMENT",
            "/image_pipeline.BackgroundRemover/Remove": "INVALID_ARGUMENT",
            "/image_pipeline.ImageUploader/Upload": "OK", "/image_pipeline.ImageProcessorOrchestrator/Process": "OK",
        }.items()},
    }


MODEL_PATHS = ("/v2/models/{model}", "/v2/models/{model}/versions/1")


def classify_rows(guarded):
    """There are no users in classify_service: those of the other are strangers."""
    def accounts(status):
        denied = "UNAUTHENTICATED" if isinstance(status, str) else 401
        return all_of(denied) | {"guest": status} if guarded else all_of(status)
    return {
        ("GET", "/healthz"): all_of(200), ("GET", "/readyz"): all_of(200),
        **{("GET", path): accounts(200) for path in (
            "/", "/metrics", "/openapi.json", "/v2", "/v2/health/live", "/v2/health/ready", *MODEL_PATHS,
            *(path + "/ready" for path in MODEL_PATHS))},
        **{("POST", path + "/infer"): accounts(400) for path in MODEL_PATHS},
        ("POST", "/classify"): accounts(200), ("POST", "/pubsub"): all_of(401) | {"pubsub": 200},
        ("GET", "/results"): accounts(404), ("GET", "/results/{id}"): accounts(404),
        ("call", "/grpc.health.v1.Health/Check"): all_of("OK"), ("call", WATCH): all_of("OK"),
        **{("call", path): accounts("OK") for path in REFLECTION},
        ("call", "/darkroom.v1.Labels/Classify"): accounts("OK"),
        ("call", "/image_pipeline.ImageClassifier/Classify"): accounts("INVALID_ARGUMENT"),
        **{("call", "/inference.GRPCInferenceService/" + name): accounts("OK")
           for name in ("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata")},
        ("call", "/inference.GRPCInferenceService/ModelInfer"): accounts("NOT_FOUND"),
    }


# ---- the callers and what they ask for

class World:
    def __init__(self, folder, guarded):
        self.issuer, self.guarded = JwksServer(), guarded
        self.issuer.keys.append(KEY)
        assert KEY.private
        keys = {"OIDC_JWKS_URL": self.issuer.url}
        self.preprocess = Service("preprocess-service", folder, EVENTS_URL="none:", **USERS,
                                  **(AUTH | keys if guarded else {}))
        self.classify = Service("classify-service", folder, **keys, **PUSH, **(AUTH if guarded else {}))
        self.tokens = {}

    def start(self):
        self.preprocess.start()
        boss = KEY.token(aud=AUTH["AUTH_AUDIENCE"], email="boss@example.com")
        self.tokens = {"nobody": None, "guest": KEY.token(aud=AUTH["AUTH_AUDIENCE"], email="guest@example.com"),
                       "pubsub": KEY.token(aud=PUSH["PUSH_AUDIENCE"], email=PUSH["PUSH_SERVICE_ACCOUNT"])}
        if self.guarded:
            for name in ("owner", "user", "root"):
                assert sign_up(self.preprocess, name, token=boss).status == 201
        else:  # there are no accounts of OpenID Connect
            del self.tokens["guest"]
            for name in ("owner", "user"):
                assert sign_up(self.preprocess, name).status == 201
            # the first admin
            subprocess.run([self.preprocess.program, "--users", "add", "root"], input=PASSWORD, text=True, check=True,
                           env=self.preprocess.env, cwd=self.preprocess.folder)
        self.tokens |= {"owner": token_of(self.preprocess, "owner"), "user": token_of(self.preprocess, "user"),
                        "admin": token_of(self.preprocess, "root")}
        return self

    def stop(self):
        self.preprocess.stop()
        self.classify.stop()
        self.issuer.stop()

    def upload(self):
        """The id of a new picture of the owner's."""
        reply = self.preprocess.post_image("/preprocess", numbered_jpeg(next(NUMBERS), PICTURE),
                                           **bearer(self.tokens["owner"]))
        assert reply.status == 200, reply
        return reply.json()["id"]

    def throwaway(self, caller):
        """A token of a caller of that kind, for what ends its account."""
        if caller not in ("user", "owner", "admin"):
            return self.tokens[caller]
        name = "spare-root" if caller == "admin" else f"spare{next(NUMBERS)}"
        assert sign_up(self.preprocess, name, token=self.tokens["admin"]).status == 201
        return token_of(self.preprocess, name)

    # pylint: disable-next=too-many-return-statements
    def ask(self, method, path, caller):
        token, body, headers = self.tokens[caller], None, {}
        if path.startswith("/v1/users/me") and method == "DELETE":
            token = self.throwaway(caller)
        if path == "/v1/tokens":
            body = {"name": "owner", "password": PASSWORD}
        elif path == "/v1/users":
            body = {"name": f"new{next(NUMBERS)}", "password": PASSWORD}
        elif path == "/v1/users/me" and method == "PATCH":
            body = {"password": PASSWORD}
        elif path in ("/preprocess", "/transform"):
            body, headers = PICTURE, {"Content_Type": "image/jpeg"}
        elif path in ("/upload", "/reduce"):
            body = {"image_data": base64.b64encode(PICTURE).decode()}
        elif path in ("/remove", "/process"):
            body = "{"
        elif method == "PATCH":
            body = {"note": "x"}
        if "{id}" in path:
            path = path.replace("{id}", self.upload())
        reply = call(self.preprocess, method, path.replace("{ext}", "css"), body, token, **headers)
        if method == "PATCH" and path == "/v1/users/me" and reply.status == 200:
            self.tokens[caller] = reply.json()["token"]
        return reply.status

    def ask_classify(self, method, path, caller):
        body = {"/classify": {"image_data": base64.b64encode(PICTURE).decode()},
                "/pubsub": envelope("file:///nowhere/x.json")}.get(path, {} if method == "POST" else None)
        query = "?gcs_path=" + f"file://{self.classify.folder}/objects/x.jpg" if path == "/results" else ""
        path = path.replace("{id}", "0" * 64).replace("{model}", NAME)
        return call(self.classify, method, path + query, body, self.tokens[caller]).status


def ask_grpc(service, messages, path, token):  # noqa: F811
    images, labels = messages("darkroom.v1.images"), messages("darkroom.v1.labels")
    request = {"/darkroom.v1.Images/Preprocess": images.ImageRequest(image=PICTURE),
               "/darkroom.v1.Images/Upload": images.ImageRequest(image=PICTURE),
               "/darkroom.v1.Images/Transform": images.ImageRequest(image=PICTURE),
               "/darkroom.v1.Labels/Classify": labels.ClassifyRequest(image=PICTURE)}.get(path)
    data = request.SerializeToString() if request is not None else b""
    if path.rpartition("/")[2] in ("ModelReady", "ModelMetadata"):
        data = b"\x0a" + bytes([len(NAME)]) + NAME.encode()  # the field `name`
    if path in REFLECTION:
        data = b"\x3a\0"  # list_services
    try:
        with grpc.insecure_channel(f"{service.host}:{service.port}") as channel:
            # the first message of a stream will do
            replies = channel.unary_stream(path)(data, timeout=60 * SLOW, metadata=[
                ("authorization", f"Bearer {token}")] if token else [])
            next(replies)
            replies.cancel()
        return "OK"
    except grpc.RpcError as error:
        return error.code().name


@pytest.fixture(scope="module", params=[False, True], ids=["users", "users and AUTH_AUDIENCE"])
def world(request, tmp_path_factory):
    w = World(tmp_path_factory.mktemp("world"), request.param)
    try:
        yield w.start()
    finally:
        w.stop()


def compare(rows, routes, callers, ask):
    assert set(rows) == set(routes), "each route of the router's table has its row here, and no other"
    wrong = {}
    for (method, path), caller in itertools.product(routes, callers):
        got, expected = ask(method, path, caller), rows[method, path][caller]
        if got != expected:
            wrong[method, path, caller] = (got, expected)
    assert not wrong


def test_preprocess(world, messages):
    def ask(method, path, caller):
        return ask_grpc(world.preprocess, messages, path, world.tokens[caller]) if method == "call" else \
            world.ask(method, path, caller)
    compare(preprocess_rows(world.guarded), table("preprocess_service"), world.tokens, ask)


@pytest.mark.skipif(not MODEL.exists(), reason="no model at hand")
def test_classify(world, messages):
    world.classify.start()

    def ask(method, path, caller):
        return ask_grpc(world.classify, messages, path, world.tokens[caller]) if method == "call" else \
            world.ask_classify(method, path, caller)
    compare(classify_rows(world.guarded), table("classify_service"), world.tokens, ask)


def test_guests_are_users(world):
    """An account of OpenID Connect owns what it uploads, and may be an admin."""
    if not world.guarded:
        for email in ("guest@example.com", "boss@example.com"):  # no audience: nobody's
            token = KEY.token(aud=AUTH["AUTH_AUDIENCE"], email=email)
            assert call(world.preprocess, "GET", "/v1/images", token=token).status == 401
        return
    guest = world.tokens["guest"]
    boss = KEY.token(aud=AUTH["AUTH_AUDIENCE"], email="boss@example.com")
    stranger = KEY.token(aud=AUTH["AUTH_AUDIENCE"], email="stranger@example.com")
    me = call(world.preprocess, "GET", "/v1/users/me", token=guest).json()
    assert me == {"name": "guest@example.com", "admin": False, "created_at": None}
    assert call(world.preprocess, "GET", "/v1/users/me", token=boss).json()["admin"] is True
    assert call(world.preprocess, "GET", "/v1/images", token=stranger).status == 403
    id_ = world.preprocess.post_image("/preprocess", numbered_jpeg(99999, PICTURE), **bearer(guest)).json()["id"]
    listed = call(world.preprocess, "GET", "/v1/images?owner=me", token=guest).json()["images"]
    assert [(image["id"], image["owner"]) for image in listed][0] == (id_, "guest@example.com")
    path = f"/v1/images/{id_}"
    assert call(world.preprocess, "DELETE", path, token=world.tokens["owner"]).status == 403
    assert call(world.preprocess, "PATCH", path, {"note": "x"}, boss).status == 200
    assert call(world.preprocess, "DELETE", path, token=guest).status == 204


def test_a_users_token_opens_no_other_door(world):
    """Nor does one signed by somebody else, in whichever way."""
    token = world.tokens["owner"]
    head, claims, signature = token.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","kid":"x"}').decode().rstrip("=")
    for forged in (f"{head}.{claims}.", f"{none}.{claims}.", f"{none}.{claims}.{signature}", token + "A",
                   KEY.token_of({"alg": "EdDSA", "kid": "one"}, {"iss": "darkroom", "sub": "owner", "gen": 1}),
                   KEY.token(iss="darkroom", sub="root", gen=1)):
        assert call(world.preprocess, "GET", "/v1/users/me", token=forged).status == 401, forged


def test_join_is_open_unless_guarded(world):
    if world.guarded:
        assert sign_up(world.preprocess, "stranger").status == 401
    else:
        assert join(world.preprocess, "stranger")

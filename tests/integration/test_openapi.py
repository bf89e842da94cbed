"""openapi.json says what the services do."""
import base64
import json
import re
import subprocess

import pytest

from accounts import PASSWORD, USERS, bearer, call, join
from conftest import BUILD, MODEL, ROOT, wait_for
from images import encode, gradient
from test_pubsub import envelope
from tools import foreign_python

FOLDERS = {"preprocess": "preprocess_service", "classify": "classify_service"}
METHODS = {"get", "post", "put", "patch", "delete"}


def route_table(folder):
    """(method, path) of every route in routes.c."""
    text = (ROOT / folder / "routes.c").read_text()
    light = [("get", path) for path in re.findall(r'SERVICE_ROUTE\("([^"]+)"', text)]
    work = [(method.lower(), path) for method, path in re.findall(r'\{"([A-Z]+)",\s*"([^"]+)"', text)]
    assert light and work
    return set(light + work)


@pytest.fixture(scope="module", params=FOLDERS, name="document")
def fixture_document(request, shared):
    service = getattr(shared, request.param)
    reply = service.get("/openapi.json")
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.body == (ROOT / FOLDERS[request.param] / "openapi.json").read_bytes()
    return service, reply.json(), route_table(FOLDERS[request.param])


def operations(document):
    return {(method, path): operation for path, item in document["paths"].items()
            for method, operation in item.items()}


def walk(value):
    yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(child)


def test_structure(document):
    _, doc, _ = document
    assert re.fullmatch(r"3\.0\.\d+", doc["openapi"])
    assert set(doc) <= {"openapi", "info", "paths", "components", "servers", "tags"}
    assert {"title", "version"} <= set(doc["info"])
    for (method, path), operation in operations(doc).items():
        assert method in METHODS and path.startswith("/")
        assert set(operation) <= {"summary", "description", "parameters", "requestBody", "responses"}
        assert operation["summary"] and operation["responses"]
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[2-5]\d\d", status) and response["description"]
        names = [(p["in"], p["name"]) for p in operation.get("parameters", [])]
        assert len(names) == len(set(names))
        assert {n for where, n in names if where == "path"} == set(re.findall(r"\{(\w+)\}", path))
        for parameter in operation.get("parameters", []):
            assert parameter["in"] in ("query", "path", "header") and "type" in parameter["schema"]
            assert parameter["in"] != "path" or parameter["required"] is True
        for content in [operation.get("requestBody", {}).get("content", {})] + \
                       [r.get("content", {}) for r in operation["responses"].values()]:
            assert all("schema" in media for media in content.values())


def test_references_lead_somewhere(document):
    _, doc, _ = document
    used = set()
    for value in walk(doc):
        if isinstance(value, dict) and "$ref" in value:
            prefix, name = value["$ref"].rsplit("/", 1)
            assert prefix == "#/components/schemas"
            used.add(name)
    assert used == set(doc["components"]["schemas"])


def test_every_route_and_nothing_else(document):
    _, doc, routes = document
    assert set(operations(doc)) == routes


def test_errors_are_problems(document):
    _, doc, _ = document
    for key, operation in operations(doc).items():
        for status, response in operation["responses"].items():
            if status < "400" or key == ("get", "/readyz"):
                continue
            content = dict(response["content"])
            if key[1].startswith("/v2"):  # that protocol has a form of its own
                if key[1] != "/v2/health/ready":
                    assert content == {"application/json": {"schema": {"$ref": "#/components/schemas/InferenceError"}}}
                continue
            if key in MANAGER_OPERATIONS:
                assert set(content) == {"application/json"}
                schema = content["application/json"]["schema"]
                if (key, status) == (("get", "/plain-image/{id}"), "404"):
                    schema = schema["oneOf"][0]
                assert schema == {"$ref": "#/components/schemas/OlderFault"}, (key, status)
                continue
            if key == ("post", "/process") and status in ("400", "413", "415"):  # the older pipeline's form
                assert content == {"application/json": {"schema": {"$ref": "#/components/schemas/NotAccepted"}}}
                continue
            assert content == {"application/problem+json":
                               {"schema": {"$ref": "#/components/schemas/Problem"}}}, (key, status)


def test_settings_that_are_named_exist(document):
    """What the text says of settings, against the table that --help prints."""
    service, doc, _ = document
    text = subprocess.run([BUILD / service.name, "--help"], capture_output=True, text=True, check=True).stdout
    known = set(re.findall(r"^\s*([A-Z][A-Z0-9_]+)\b", text, re.M))
    named = set(re.findall(r"\b[A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+\b", json.dumps(doc)))
    assert len(known) > 20 and named
    assert named <= known, named - known


VALIDATOR = """
import json, sys
from openapi_spec_validator import validate
validate(json.load(sys.stdin))
broken = json.loads('{"openapi": "3.0.3", "info": {"title": "x", "version": "1"}, "paths": {"/a": {"get": {}}}}')
try:
    validate(broken)
except Exception:
    print("valid")
"""


def test_foreign_validator(document):
    _, doc, _ = document
    python = foreign_python("openapi-spec-validator==0.7.1")
    run = subprocess.run([python, "-c", VALIDATOR], input=json.dumps(doc), capture_output=True, text=True, timeout=300)
    assert (run.returncode, run.stdout) == (0, "valid\n"), run.stderr


def check(doc, schema, value):
    """A JSON value against the few kinds of schema that are used."""
    if "$ref" in schema:
        return check(doc, doc["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]], value)
    for part in schema.get("allOf", []):
        check(doc, part, value)
    if "oneOf" in schema:
        fitting = 0
        for part in schema["oneOf"]:
            try:
                check(doc, part, value)
                fitting += 1
            except AssertionError:
                pass
        assert fitting == 1, value
    if value is None:
        assert schema.get("nullable")
        return None
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}
    if "type" in schema:
        assert isinstance(value, kinds[schema["type"]]), (schema, value)
    assert "enum" not in schema or value in schema["enum"]
    assert "pattern" not in schema or re.search(schema["pattern"], value)
    assert set(schema.get("required", [])) <= set(value if isinstance(value, dict) else [])
    for name, part in schema.get("properties", {}).items():
        if name in value:
            check(doc, part, value[name])
    if schema.get("additionalProperties") is False:
        assert set(value) <= set(schema["properties"])
    for item in value if "items" in schema else []:
        check(doc, schema["items"], item)
    return None


def check_reply(doc, method, path, reply):
    doc.setdefault("exercised", set()).add((method, path))
    responses = doc["paths"][path][method]["responses"]
    assert str(reply.status) in responses, (path, reply)
    content = responses[str(reply.status)].get("content", {})
    kind = reply.headers.get("Content-Type", "").split(";")[0]
    if content:
        assert kind in content or kind.split("/")[0] + "/*" in content, (path, reply)
    if kind.endswith("json") and kind in content:
        check(doc, content[kind]["schema"], reply.json())


ACCOUNT_OPERATIONS = [("post", "/v1/users"), ("post", "/v1/tokens"), ("get", "/v1/users/me"),
                      ("patch", "/v1/users/me"), ("delete", "/v1/users/me")]
MANAGER_OPERATIONS = [("post", "/signin"), ("post", "/user"), ("get", "/user"), ("put", "/user"), ("delete", "/user"),
                      ("post", "/image/{id}"), ("delete", "/image/{id}"), ("get", "/view-image/{id}")]
MANAGER_OPERATIONS += [(method, f"/{kind}-image" + ("" if method == "post" else "/{id}"))
                       for kind in ("plain", "cipher") for method in ("post", "get", "delete")]


def test_what_users_are_answered_is_documented(start):
    service = start(**USERS)
    doc = service.get("/openapi.json").json()
    token = join(service, "alice")

    def ask(method, path, body=None, token=token, pattern=None):
        check_reply(doc, method, pattern or path, reply := call(service, method.upper(), path, body, token))
        return reply
    for name, password in (("bob", PASSWORD), ("alice", PASSWORD), ("a b", PASSWORD), ("bob", "short"), (1, 2)):
        ask("post", "/v1/users", {"name": name, "password": password})
        ask("post", "/v1/tokens", {"name": name, "password": password})
    for path in ("/v1/users", "/v1/tokens"):
        ask("post", path, "x" * 20000)
    while ask("post", "/v1/tokens", {"name": "carol", "password": PASSWORD}).status != 429:
        pass
    picture = service.post_image("/preprocess", encode(gradient()), **bearer(token)).json()["id"]
    bob = ask("post", "/v1/tokens", {"name": "bob", "password": PASSWORD}).json()["token"]
    for who in (None, "nonsense", bob):
        for method in ("patch", "delete"):
            ask(method, f"/v1/images/{picture}", {"note": "x"}, who, "/v1/images/{id}")
        ask("get", f"/images/{picture}", None, who, "/images/{id}")
    for who in (None, token):
        ask("get", "/v1/images", None, who)
        ask("get", "/v1/users/me", None, who)
        for body in ({"password": PASSWORD}, {}, "x" * 20000):
            ask("patch", "/v1/users/me", body, who)
    token = ask("post", "/v1/tokens", {"name": "alice", "password": PASSWORD}).json()["token"]
    assert ask("delete", "/v1/users/me", None, token).status == 204
    assert set(ACCOUNT_OPERATIONS) <= doc["exercised"]


def test_what_is_answered_is_documented(shared):
    """Real replies, good and bad, against the documents."""
    picture = encode(gradient())
    service, doc = shared.preprocess, shared.preprocess.get("/openapi.json").json()
    for path in ("/", "/healthz", "/readyz", "/metrics", "/openapi.json"):
        check_reply(doc, "get", path, service.get(path))
    etag = {"If-None-Match": service.get("/page.html").headers["ETag"]}
    for headers in ({"Accept": "text/html"}, {"Accept": "text/html"} | etag):
        check_reply(doc, "get", "/", service.get("/", headers))
    for name, headers in (("html", {}), ("html", etag), ("css", {}), ("svg", {}), ("x", {})):
        check_reply(doc, "get", "/page.{ext}", service.get("/page." + name, headers))
    for data, query in ((picture, ""), (picture, "?width=0"), (b"text", ""), (picture[:999], "")):
        check_reply(doc, "post", "/preprocess", service.upload(data, query))
        check_reply(doc, "post", "/transform", service.post_image("/transform" + query, data))
    told = service.upload(picture).json()
    for name in (told["id"], "x"):
        check_reply(doc, "get", "/results/{id}", service.get("/results/" + name))
    for name, headers in ((told["id"], {}), (told["id"], {"Range": "bytes=0-1"}), ("x", {}),
                          (told["id"], {"Range": "bytes=9999999-"}), (told["id"], {"If-None-Match": "*"})):
        check_reply(doc, "get", "/images/{id}", service.get("/images/" + name, headers))
    for query in ("", "?limit=1", "?limit=x", "?tag=none"):
        check_reply(doc, "get", "/v1/images", service.get("/v1/images" + query))
    for path in ("/v1/images/" + told["id"], "/v1/images/x"):
        for body in (json.dumps({"tags": ["a"], "note": "b"}), "", "x" * 70000):
            check_reply(doc, "patch", "/v1/images/{id}", service.request("PATCH", path, body))
        check_reply(doc, "get", "/v1/images/{id}", service.get(path))
    check_reply(doc, "get", "/v1/images", service.get("/v1/images?tag=a"))
    for _ in range(2):
        check_reply(doc, "delete", "/v1/images/{id}", service.request("DELETE", "/v1/images/" + told["id"]))
    told = service.upload(picture).json()
    for data in (picture, b"text", b""):
        body = json.dumps({"image_data": base64.b64encode(data).decode()})
        for path in ("/upload", "/reduce", "/remove", "/process"):
            check_reply(doc, "post", path, reply := service.request("POST", path, body))
        if data == b"text":
            status = "/status/" + reply.json()["task_id"]
            check_reply(doc, "get", "/status/{id}", service.get(status))
            wait_for(lambda: b"error" in service.get(status).body, "the task to end")
            check_reply(doc, "get", "/status/{id}", service.get(status))
    check_reply(doc, "get", "/status/{id}", service.get("/status/x"))
    for path in ("/timeline.png", "/timeline.svg"):
        check_reply(doc, "get", path, service.get(path))
    for method, path in ACCOUNT_OPERATIONS + MANAGER_OPERATIONS:
        check_reply(doc, method, path, service.request(method.upper(), path.replace("{id}", "x")))  # they are off
    assert doc.pop("exercised") == set(operations(doc))

    service, doc = shared.classify, shared.classify.get("/openapi.json").json()
    for path in ("/", "/healthz", "/readyz", "/metrics", "/openapi.json"):
        check_reply(doc, "get", path, service.get(path))

    def post(path, body):
        check_reply(doc, "post", path, service.request("POST", path, body, {"Content-Type": "application/json"}))
    for body in (json.dumps(told), "{}", '{"gcs_path": "gs://b/x"}',
                 json.dumps({"gcs_path": f"file://{shared.objects}/gone"})):
        post("/classify", body)
        post("/pubsub", body)
    for data in (picture, b"", b"text", picture[:999]):
        check_reply(doc, "post", "/classify", service.post_image("/classify", data))
    shared.result(told)
    for name in (told["id"], "0" * 64):
        check_reply(doc, "get", "/results/{id}", service.get("/results/" + name))
    (shared.objects / "text.jpg").write_text("text")
    (shared.objects / "pending.jpg").write_text("text")
    for key in (told["id"] + ".jpg", "text.jpg", "text.json", "gone.jpg"):
        post("/pubsub", json.dumps(envelope(f"file://{shared.objects}/{key}")))
    for uri in (f"file://{shared.objects}/text.jpg", f"file://{shared.objects}/pending.jpg", "x", "gs://b/x",
                f"file://{shared.objects}/none.jpg"):
        check_reply(doc, "get", "/results", service.get("/results?gcs_path=" + uri))
    post("/pubsub", json.dumps({"Event": "s3:TestEvent"}))
    for kind, body in (("application/cloudevents+json", "{}"), ("application/cloudevents-batch+json", "[]")):
        check_reply(doc, "post", "/pubsub", service.request("POST", "/pubsub", body, {"Content-Type": kind}))

    for path in ("/v2", "/v2/health/live", "/v2/health/ready"):
        check_reply(doc, "get", path, service.get(path))
    name = json.loads(MODEL.read_text())["name"]
    request = {"id": "1", "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1],
                                      "data": [base64.b64encode(picture).decode()]}]}
    labels = request | {"outputs": [{"name": "scores", "parameters": {"classification": 2, "binary_data": True}}]}
    text = request | {"inputs": [request["inputs"][0] | {"data": [base64.b64encode(b"text").decode()]}]}
    for model in (name, "other"):
        for version in ("", "/versions/1"):
            path, pattern = f"/v2/models/{model}{version}", "/v2/models/{model}" + version
            check_reply(doc, "get", pattern, service.get(path))
            check_reply(doc, "get", pattern + "/ready", service.get(path + "/ready"))
            for body in (request, labels, text, {}):
                check_reply(doc, "post", pattern + "/infer", service.request("POST", path + "/infer", json.dumps(body)))
    for body in (request, labels):
        check(doc, doc["components"]["schemas"]["InferenceRequest"], body)
    assert doc.pop("exercised") == set(operations(doc))


def test_transform_takes_what_preprocess_takes(shared):
    """All but `seal`: nothing is stored."""
    paths = shared.preprocess.get("/openapi.json").json()["paths"]
    stored, sent_back = paths["/preprocess"]["post"], paths["/transform"]["post"]
    assert stored["parameters"].pop()["name"] == "seal"
    assert stored["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"].pop("seal")
    for part in ("parameters", "requestBody"):
        assert sent_back[part] == stored[part]


@pytest.mark.parametrize("path", ["/preprocess", "/transform"])
def test_options_are_documented(shared, path):
    """Every option in the query and in the form, with its bounds."""
    post = shared.preprocess.get("/openapi.json").json()["paths"][path]["post"]
    in_query = {p["name"]: p["schema"] for p in post["parameters"] if p["in"] == "query"}
    in_form = dict(post["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"])
    assert in_form.pop("file") == {"type": "string", "format": "binary"}
    assert in_query == in_form
    assert in_query.pop("seal", None) == ({"type": "string", "enum": ["0", "1"], "default": "0"} if path == "/preprocess"
                                          else None)  # test_sealed.py
    operations_named = {name for file in (ROOT / "common/image/ops").glob("*.c")
                        for name in re.findall(r'\.name = "(\w+)"', file.read_text())}
    assert set(in_query) == {"width", "height", "fit", "format", "quality", "background"} | operations_named
    picture = encode(gradient(9, 9))
    for name, schema in in_query.items():
        good = schema.get("enum") or [schema.get("default", schema.get("minimum"))]
        good += [schema[bound] for bound in ("minimum",) if bound in schema]
        bad = [schema[bound] + step for bound, step in (("minimum", -1), ("maximum", 1)) if bound in schema] + ["?"]
        for value in good:
            assert shared.preprocess.post_image(f"{path}?{name}={value}", picture).status == 200
        for value in bad:
            assert shared.preprocess.post_image(f"{path}?{name}={value}", picture).status == 400

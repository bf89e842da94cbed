"""The Open Inference Protocol v2, from its specification and Triton's of the two extensions; and driven by
Triton's own client."""
import base64
import concurrent.futures
import contextlib
import gzip
import json
import shutil
import struct
import subprocess
import zlib

import numpy
import pytest

from conftest import MODEL, SLOW, Service
from images import encode, gradient, numbered_jpeg
from models import tiny_model
from test_http import connect, receive, responses
from tools import foreign_python

pytestmark = pytest.mark.memory

PICTURE = encode(gradient())
OTHER = encode(gradient(90, 300), "PNG")
MANIFEST = json.loads(MODEL.read_text()) if MODEL.exists() else {"name": "?", "input": {}}
NAME = MANIFEST["name"]
INFER = f"/v2/models/{NAME}/infer"
TENSOR_SHAPE = [3, 224, 224] if MANIFEST["input"].get("layout") == "NCHW" else [224, 224, 3]


def b64(data):
    return base64.b64encode(data).decode()


def image_input(data, shape=None, **more):
    return {"name": "image", "datatype": "BYTES", "shape": shape or [len(data)], "data": data} | more


def infer(service, request, binary=b"", path=INFER, **headers):
    text = json.dumps(request).encode()
    if binary:
        headers["Inference-Header-Content-Length"] = str(len(text))
    return service.request("POST", path, text + binary, {"Content-Type": "application/json"} | headers)


def images(*files, **more):
    return {"inputs": [image_input([b64(data) for data in files])]} | more


def top(k, **more):
    return [{"name": "scores", "parameters": {"classification": k} | more}]


def assert_error(reply, status):
    assert reply.status == status, reply
    assert reply.headers["Content-Type"] == "application/json"
    assert set(reply.json()) == {"error"} and reply.json()["error"], reply


def tensor_of(seed=1, count=1):
    return numpy.random.default_rng(seed).uniform(-1, 1, [count, *TENSOR_SHAPE]).astype("<f4")


# --- what there is --------------------------------------------------------------------------------


def test_server_and_model(shared):
    service = shared.classify
    server = service.get("/v2").json()
    assert server["name"] and server["version"]
    assert set(server["extensions"]) == {"binary_tensor_data", "classification"}
    assert service.get("/v2/health/live").json()["live"] is True
    assert service.get("/v2/health/ready").json()["ready"] is True
    assert service.get(f"/v2/models/{NAME}/ready").json() == {"name": NAME, "ready": True}
    assert service.get(f"/v2/models/{NAME}").json() == {
        "name": NAME, "versions": ["1"], "platform": "onnxruntime_onnx",
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1, 1]},
                   {"name": "tensor", "datatype": "FP32", "shape": [-1, *TENSOR_SHAPE]}],
        "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 1000]}]}
    for path in ("/v2", "/v2/health/live", "/v2/health/ready", f"/v2/models/{NAME}", f"/v2/models/{NAME}/ready"):
        assert service.request("HEAD", path).status == 200


@pytest.mark.parametrize("name", ["other", NAME + "x", NAME[:-1], "%20", "..", "%2e"])
def test_other_models(shared, name):
    for path in (f"/v2/models/{name}", f"/v2/models/{name}/ready"):
        assert_error(shared.classify.get(path), 404)
    assert_error(infer(shared.classify, images(PICTURE), path=f"/v2/models/{name}/infer"), 404)


def test_versions(shared):
    service, model = shared.classify, f"/v2/models/{NAME}"
    for path in ("", "/ready"):
        assert service.get(f"{model}/versions/1{path}").json() == service.get(model + path).json()
        for other in ("2", "0", "01", "latest", "1x"):
            assert_error(service.get(f"{model}/versions/{other}{path}"), 404)
        assert_error(service.get(f"/v2/models/other/versions/1{path}"), 404)
    reply = infer(service, images(PICTURE), path=f"{model}/versions/1/infer").json()
    assert reply["model_version"] == "1" and reply == infer(service, images(PICTURE)).json()
    assert_error(infer(service, images(PICTURE), path=f"{model}/versions/2/infer"), 404)


@pytest.mark.parametrize("method, path, body, headers, status", [
    ("GET", "/v2/nothing", None, {}, 404),
    ("GET", "/v2/", None, {}, 404),
    ("GET", f"/v2/models/{NAME}/config", None, {}, 404),
    ("GET", INFER, None, {}, 405),
    ("POST", "/v2/health/live", b"{}", {}, 405),
    ("POST", INFER, b"{", {}, 400),
    ("POST", INFER, b"x" * (33 << 20), {}, 413),
    ("POST", INFER, None, {"Content-Encoding": "br"}, 415),
    ("GET", "/v2", None, {f"X-{i}": "1" for i in range(70)}, 431),
])
def test_every_error_is_of_the_protocols_form(shared, method, path, body, headers, status):
    reply = shared.classify.request(method, path, body, headers)
    assert_error(reply, status)
    assert status != 405 or reply.headers["Allow"]
    assert reply.headers["X-Request-Id"]


def test_errors_on_the_socket_are_of_the_protocols_form(tmp_path, services):
    """Found while the body comes, and answered beside libmicrohttpd: too large, stopped, no room."""
    services.append(Service("classify-service", tmp_path, BODY_STALL_MS=300, MAX_BODY_BYTES=2 << 20, BODY_BUDGET_BYTES=1 << 20))
    service = services[0].start()
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\n".encode()
    chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
    for request, status in ((head + b"Transfer-Encoding: chunked\r\n\r\n" + 40 * chunk, 503),
                            (head + b"Content-Length: 100\r\n\r\nabc", 408)):
        with connect(service) as sock:
            with contextlib.suppress(ConnectionError):
                sock.sendall(request)
            (got, headers, body), = responses(receive(sock))
        assert (got, headers["content-type"], headers["connection"]) == (status, "application/json", "close")
        assert set(json.loads(body)) == {"error"}
    elsewhere = service.get("/nothing")
    assert (elsewhere.status, elsewhere.headers["Content-Type"]) == (404, "application/problem+json")


def test_not_ready(tmp_path, services):
    """As /readyz: storage that fails three times."""
    services.append(Service("classify-service", tmp_path))
    service = services[0].start()
    shutil.rmtree(tmp_path / "objects")
    for _ in range(3):
        service.get("/results?gcs_path=" + f"file://{tmp_path}/objects/x.jpg")
    assert service.get("/readyz").status == 503
    reply = service.get("/v2/health/ready")
    assert reply.status == 503 and reply.json()["ready"] is False and reply.json()["error"]
    assert reply.headers["Retry-After"]
    assert service.get("/v2/health/live").status == 200
    assert infer(service, images(PICTURE)).status == 200  # which needs no storage


# --- images in, labels out ------------------------------------------------------------------------


@pytest.mark.parametrize("binary_in", [False, True])
@pytest.mark.parametrize("binary_out", [False, True])
def test_labels(shared, binary_in, binary_out):
    """The same as /classify says, in Triton's words."""
    files, k = [PICTURE, OTHER, PICTURE], 4
    request = {"id": "request 7", "inputs": [image_input([[b64(data)] for data in files], [3, 1])],
               "outputs": top(k, binary_data=binary_out)}
    tail = b""
    if binary_in:
        tail = b"".join(struct.pack("<I", len(data)) + data for data in files)
        del request["inputs"][0]["data"]
        request["inputs"][0]["parameters"] = {"binary_data_size": len(tail)}
    reply = infer(shared.classify, request, tail)
    assert reply.status == 200, reply
    text, data = reply.body, b""
    if binary_out:
        assert reply.headers["Content-Type"] == "application/octet-stream"
        size = int(reply.headers["Inference-Header-Content-Length"])
        text, data = reply.body[:size], reply.body[size:]
    else:
        assert "Inference-Header-Content-Length" not in reply.headers
    told = json.loads(text)
    assert (told["model_name"], told["id"]) == (NAME, "request 7")
    (output,) = told["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("scores", "BYTES", [3, k])
    if binary_out:
        assert output["parameters"] == {"binary_data_size": len(data)} and "data" not in output
        values = []
        while data:
            (size,) = struct.unpack_from("<I", data)
            values.append(data[4:4 + size].decode())
            data = data[4 + size:]
    else:
        values = output["data"]
    assert len(values) == 3 * k
    for n, file in enumerate(files):
        expected = shared.classify.post_image(f"/classify?top_k={k}", file, "image/png").json()["top"]
        for value, label in zip(values[n * k:(n + 1) * k], expected):
            score, index, name = value.split(":", 2)
            assert (int(index), name) == (label["index"], label["label"])
            assert abs(float(score) - label["confidence"]) < 2e-6


def test_scores(shared):
    plain = infer(shared.classify, images(PICTURE, OTHER)).json()
    assert "id" not in plain
    (output,) = plain["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("scores", "FP32", [2, 1000])
    scores = numpy.array(output["data"], "<f4").reshape(2, 1000)
    best = shared.classify.post_image("/classify", PICTURE).json()["top"][0]
    assert int(scores[0].argmax()) == best["index"]
    assert abs(scores[0].max() - best["confidence"]) < 2e-6
    for request in (images(PICTURE, OTHER, parameters={"binary_data_output": True}),
                    images(PICTURE, OTHER, outputs=[{"name": "scores", "parameters": {"binary_data": True}}])):
        reply = infer(shared.classify, request)
        size = int(reply.headers["Inference-Header-Content-Length"])
        assert json.loads(reply.body[:size])["outputs"][0]["parameters"] == {"binary_data_size": 8000}
        assert reply.body[size:] == scores.tobytes()
    # what an output says goes before what the request says
    request = images(PICTURE, OTHER, parameters={"binary_data_output": True},
                     outputs=[{"name": "scores", "parameters": {"binary_data": False}}])
    assert infer(shared.classify, request).json()["outputs"] == plain["outputs"]
    # nothing asked for is everything asked for
    assert infer(shared.classify, images(PICTURE, OTHER, outputs=[])).json() == plain
    # one item alone scores as it does among others
    assert infer(shared.classify, images(OTHER)).json()["outputs"][0]["data"] == output["data"][1000:]


def test_most_items(shared):
    files = [numbered_jpeg(n, PICTURE) for n in range(32)]
    reply = infer(shared.classify, images(*files, outputs=top(1)))
    assert reply.status == 200 and len(set(reply.json()["outputs"][0]["data"])) == 1
    assert_error(infer(shared.classify, images(*files, PICTURE)), 400)


def test_most_scores(tmp_path, services):
    """4,224,000 bytes of them."""
    services.append(Service("classify-service", tmp_path, MODEL=tiny_model(tmp_path, times=11000)).start())
    request = images(*[PICTURE] * 32, parameters={"binary_data_output": True})
    reply = infer(services[0], request, path="/v2/models/tiny/infer")
    assert reply.status == 200, reply
    size = int(reply.headers["Inference-Header-Content-Length"])
    assert json.loads(reply.body[:size])["outputs"][0]["shape"] == [32, 33000]
    scores = numpy.frombuffer(reply.body[size:], "<f4").reshape(32 * 11000, 3)
    assert (scores == scores[0]).all() and scores[0].any()


# --- tensors in -----------------------------------------------------------------------------------


def tensor_request(tensor, data=None, **more):
    entry = {"name": "tensor", "datatype": "FP32", "shape": list(tensor.shape)}
    if data is None:
        entry["parameters"] = {"binary_data_size": tensor.nbytes}
        return {"inputs": [entry]} | more, tensor.tobytes()
    return {"inputs": [entry | {"data": data}]} | more, b""


def test_tensors(shared):
    """In each form, alone and together: the same scores."""
    both = tensor_of(1, 2)
    expected = []
    for n in range(2):
        one = both[n:n + 1]
        replies = [infer(shared.classify, *tensor_request(one)),
                   infer(shared.classify, *tensor_request(one, one.ravel().tolist())),
                   infer(shared.classify, *tensor_request(one, one.tolist()))]
        assert [r.status for r in replies] == [200, 200, 200]
        outputs = [r.json()["outputs"] for r in replies]
        assert outputs[0] == outputs[1] == outputs[2]
        assert outputs[0][0]["shape"] == [1, 1000]
        expected += outputs[0][0]["data"]
    for data in (None, both.ravel().tolist(), both.tolist()):
        (output,) = infer(shared.classify, *tensor_request(both, data)).json()["outputs"]
        assert output["data"] == expected
    assert expected[:1000] != expected[1000:]
    values = infer(shared.classify, *tensor_request(both, outputs=top(1))).json()["outputs"][0]["data"]
    assert [int(value.split(":")[1]) for value in values] == \
        [int(numpy.argmax(expected[:1000])), int(numpy.argmax(expected[1000:]))]


def test_tensor_of_an_image(shared):
    """What /classify does before the model, done here: the same label."""
    from PIL import Image
    pixels = gradient(224, 224)
    tensor = (numpy.asarray(pixels, "<f4") - numpy.array(MANIFEST["input"]["mean"], "<f4")) \
        / numpy.array(MANIFEST["input"]["std"], "<f4")
    if TENSOR_SHAPE[0] == 3:
        tensor = tensor.transpose(2, 0, 1)
    tensor = numpy.ascontiguousarray(tensor[None], "<f4")
    assert isinstance(pixels, Image.Image)
    direct = shared.classify.post_image("/classify", encode(pixels, "PNG"), "image/png").json()["top"]
    (output,) = infer(shared.classify, *tensor_request(tensor, outputs=top(5))).json()["outputs"]
    assert [int(v.split(":")[1]) for v in output["data"]] == [label["index"] for label in direct]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_tensors_that_are_no_numbers(shared, value):
    tensor = tensor_of()
    tensor[0, 1, 2, 3] = value
    assert_error(infer(shared.classify, *tensor_request(tensor)), 400)
    assert infer(shared.classify, *tensor_request(tensor_of() * 1e30)).status in (200, 400)


# --- what is refused ------------------------------------------------------------------------------

GOOD = image_input([b64(PICTURE)])


def without(entry, *names):
    return {name: value for name, value in entry.items() if name not in names}


@pytest.mark.parametrize("request_", [
    [], 7, None, {}, {"inputs": []}, {"inputs": {}}, {"inputs": [1]}, {"inputs": [{}]}, {"inputs": [GOOD, GOOD]},
    {"inputs": [GOOD], "id": 7}, {"inputs": [GOOD], "outputs": {}}, {"inputs": [GOOD], "outputs": [{}]},
    {"inputs": [GOOD], "outputs": [{"name": "other"}]}, {"inputs": [GOOD], "outputs": top(1) + top(2)},
    {"inputs": [GOOD], "outputs": top(-1)}, {"inputs": [GOOD], "outputs": top(101)},
    {"inputs": [GOOD], "outputs": top("5")}, {"inputs": [GOOD], "outputs": top(1.5)},
    {"inputs": [GOOD], "outputs": top(1, binary_data=1)}, {"inputs": [GOOD], "parameters": {"binary_data_output": "yes"}},
    *({"inputs": [GOOD | wrong]} for wrong in (
        {"name": "other"}, {"name": 1}, {"datatype": "FP32"}, {"datatype": "UINT8"}, {"name": "tensor"},
        {"shape": []}, {"shape": [0]}, {"shape": [-1]}, {"shape": [2]}, {"shape": [1, 2]}, {"shape": [1, 1, 1]},
        {"shape": ["1"]}, {"shape": [1.0]}, {"shape": 1}, {"shape": [33]}, {"shape": [2 ** 62]},
        {"data": []}, {"data": [1]}, {"data": "x"}, {"data": None}, {"data": ["%"]}, {"data": [[[b64(PICTURE)]]]},
        {"data": [b64(PICTURE)] * 2}, {"data": [[b64(PICTURE)] * 2]}, {"parameters": {"binary_data_size": 0}},
        {"parameters": {"binary_data_size": -1}}, {"parameters": {"binary_data_size": "9"}})),
    *({"inputs": [without(GOOD, name)]} for name in ("name", "datatype", "shape", "data")),
    {"inputs": [{"name": "tensor", "datatype": "FP32", "shape": [1, *TENSOR_SHAPE], "data": [1, 2, 3]}]},
    {"inputs": [{"name": "tensor", "datatype": "FP32", "shape": [1, *TENSOR_SHAPE], "data": [[1], [2]]}]},
    {"inputs": [{"name": "tensor", "datatype": "FP32", "shape": TENSOR_SHAPE, "data": [1]}]},
    {"inputs": [{"name": "tensor", "datatype": "FP32", "shape": [1, *TENSOR_SHAPE],
                 "data": ["x"] * (3 * 224 * 224)}]},
], ids=lambda request: json.dumps(request)[:70])
def test_malformed(shared, request_):
    assert_error(infer(shared.classify, request_), 400)


def test_malformed_text(shared):
    for body in (b"", b"{", b"\xff", b"[" * 100000, b'{"inputs":[],"inputs":[]}', b'{"id":"\\u0000"}'):
        assert_error(shared.classify.request("POST", INFER, body), 400)


def binary_request(size, items=1):
    return {"inputs": [without(image_input([], [items]), "data") | {"parameters": {"binary_data_size": size}}]}


def test_malformed_binary(shared):
    one = struct.pack("<I", len(PICTURE)) + PICTURE
    service = shared.classify
    assert infer(service, binary_request(len(one)), one).status == 200
    for size, items, data in (
            (len(one), 2, one), (len(one) - 1, 1, one[:-1]), (len(one) + 1, 1, one + b"x"), (len(one), 1, one + b"x"),
            (len(one) + 1, 1, one), (3, 1, one[:3]), (len(one), 1, b"\xff\xff\xff\xff" + one[4:])):
        assert_error(infer(service, binary_request(size, items), data), 400)
    assert_error(infer(service, binary_request(len(one))), 400)  # nothing follows
    assert_error(infer(service, images(PICTURE), one), 400)  # nothing should follow
    request, tensor = tensor_request(tensor_of())
    assert_error(infer(service, request, tensor[:-4]), 400)
    text = json.dumps(binary_request(len(one))).encode()
    for header in ("-1", "x", str(len(text + one) + 1), "99999999999999999999", "", "1.5", str(len(text) - 1), "0"):
        reply = service.request("POST", INFER, text + one, {"Inference-Header-Content-Length": header})
        assert_error(reply, 400)


def test_bad_images(shared):
    """The item is named, and neighbours do not matter."""
    for data, status in ((b"", 415), (b"text", 415), (PICTURE[:1500], 422)):
        reply = infer(shared.classify, images(PICTURE, data))
        assert_error(reply, status)
        assert "item 1" in reply.json()["error"]


def test_pixels(tmp_path, services):
    services.append(Service("classify-service", tmp_path, MAX_PIXELS="10000"))
    service = services[0].start()
    assert_error(infer(service, images(PICTURE)), 413)


def test_cost_of_json(tmp_path, services):
    """Numbers take more memory as JSON than as text: told beforehand, and bounded."""
    services.append(Service("classify-service", tmp_path, REQUEST_TIMEOUT_MS=300000))  # on a machine with much else to do
    service = services[0].start()
    infer(service, images(PICTURE))
    before = service.memory_kb("Rss")
    entry = {"name": "tensor", "datatype": "FP32", "shape": [1, *TENSOR_SHAPE]}
    for text in ("0," * 8_000_000, "[]," * 4_000_000, '{"":0},' * 2_000_000):
        body = json.dumps({"inputs": [entry | {"data": ["?"]}]}).replace('"?"', text + "0")
        assert_error(service.request("POST", INFER, body), 413)
    assert service.memory_kb("Rss") - before < (64 if SLOW == 1 else 256) * 1024  # unbounded: over a gigabyte
    # six tensors still fit
    request, _ = tensor_request(tensor_of(1, 6), numpy.round(tensor_of(1, 6), 3).astype(float).ravel().tolist())
    assert infer(service, request).status == 200


def test_shared_budget_is_given_back(tmp_path, services):
    services.append(Service("classify-service", tmp_path, WORKERS="2", QUEUE_MAX="4"))
    service = services[0].start()
    requests = [images(PICTURE), images(b"text"), {"inputs": []}, tensor_request(tensor_of())[0]] * 8
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        statuses = {reply.status for reply in threads.map(lambda request: infer(service, request), requests)}
    assert statuses <= {200, 400, 415, 503}
    service.settles("body_bytes_in_flight", 0)


def test_deadline(tmp_path, services):
    """A batch that takes longer than a request may: 503, and no worker is left behind."""
    services.append(Service("classify-service", tmp_path, REQUEST_TIMEOUT_MS="1000", WORKERS="1"))
    service = services[0].start()
    big = encode(gradient(6000, 6000), "PNG", compress_level=1)
    reply = infer(service, images(*[big] * 8))
    assert_error(reply, 503)
    assert reply.headers["Retry-After"]
    assert infer(service, images(PICTURE)).status == 200


# --- compression ----------------------------------------------------------------------------------


def unpacked(reply):
    body = {"gzip": gzip.decompress, "deflate": zlib.decompress}[reply.headers["Content-Encoding"]](reply.body)
    split = int(reply.headers.get("Inference-Header-Content-Length", len(body)))
    return json.loads(body[:split]), body[split:]


@pytest.mark.parametrize("coding, pack", [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_requests_and_replies(shared, coding, pack):
    """As Triton's client sends them: JSON and binary data in one piece, the length is that of the plain JSON."""
    service = shared.classify
    data = struct.pack("<I", len(PICTURE)) + PICTURE
    text = json.dumps({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1, 1],
                                   "parameters": {"binary_data_size": len(data)}}],
                       "outputs": [{"name": "scores", "parameters": {"binary_data": True}}]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text)), "Content-Encoding": coding}
    plain = service.request("POST", INFER, text + data, {"Inference-Header-Content-Length": str(len(text))})
    assert plain.status == 200 and "Content-Encoding" not in plain.headers
    split = int(plain.headers["Inference-Header-Content-Length"])

    reply = service.request("POST", INFER, pack(text + data), headers)
    assert (reply.status, reply.body) == (200, plain.body)
    reply = service.request("POST", INFER, pack(text + data), headers | {"Accept-Encoding": coding})
    assert reply.headers["Content-Encoding"] == coding
    assert unpacked(reply) == (json.loads(plain.body[:split]), plain.body[split:])
    asks = {"Accept-Encoding": "br, gzip;q=0.5, deflate;q=0.1"}
    assert unpacked(infer(service, images(PICTURE), **asks))[0] == infer(service, images(PICTURE)).json()
    assert_error(service.request("POST", INFER, pack(b"{"), {"Content-Encoding": coding} | asks), 400)


def test_what_a_body_unpacks_to_is_bounded(tmp_path, services):
    """It counts against the limit of a body, and against the budget while it is held."""
    services.append(Service("classify-service", tmp_path, MAX_BODY_BYTES=1 << 20, BODY_BUDGET_BYTES=8 << 20))
    service = services[0].start()
    spaces = json.dumps(images(PICTURE)).encode() + b" " * 900_000
    packed = {"Content-Encoding": "gzip"}
    assert service.request("POST", INFER, gzip.compress(spaces), packed).status == 200
    for size in (1 << 20, 100 << 20):
        assert_error(service.request("POST", INFER, gzip.compress(bytes(size + 1), 1), packed), 413)
    assert_error(service.request("POST", INFER, gzip.compress(spaces)[:-1], packed), 400)
    assert_error(service.request("POST", INFER, spaces, packed), 400)
    assert_error(service.request("POST", INFER, gzip.compress(spaces), {"Content-Encoding": "gzip, gzip"}), 415)
    service.settles("body_bytes_in_flight", 0)


# --- a client of somebody else's ------------------------------------------------------------------

FOREIGN = """
import json, sys
import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

address, model, paths = sys.argv[1], sys.argv[2], sys.argv[3:]
client = triton.InferenceServerClient(address)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(model)
assert not client.is_model_ready("other")
server, metadata = client.get_server_metadata(), client.get_model_metadata(model)
assert "binary_tensor_data" in server["extensions"] and "classification" in server["extensions"]
image, tensor = metadata["inputs"]
output = metadata["outputs"][0]["name"]
files = [open(path, "rb").read() for path in paths]
told = {}

entry = triton.InferInput(image["name"], [len(files), 1], image["datatype"])
entry.set_data_from_numpy(np.array([[f] for f in files], dtype=object))
for binary in (True, False):
    wanted = triton.InferRequestedOutput(output, binary_data=binary, class_count=3)
    result = client.infer(model, [entry], outputs=[wanted], request_id="r1")
    assert result.get_response()["id"] == "r1"
    labels = result.as_numpy(output)
    assert labels.shape == (len(files), 3), labels
    told[f"labels {binary}"] = [[v.decode() if isinstance(v, bytes) else v for v in row] for row in labels]
result = client.infer(model, [entry])
told["scores"] = result.as_numpy(output).tolist()

shape = [2] + tensor["shape"][1:]
data = np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)
for binary in (True, False):
    entry = triton.InferInput(tensor["name"], shape, tensor["datatype"])
    entry.set_data_from_numpy(data, binary_data=binary)
    told[f"tensor {binary}"] = client.infer(model, [entry]).as_numpy(output).tolist()
for sent in ("gzip", "deflate", None):
    for asked in ("gzip", "deflate"):
        result = client.infer(model, [entry], model_version="1", request_compression_algorithm=sent,
                              response_compression_algorithm=asked)
        assert result.as_numpy(output).tolist() == told["tensor False"], (sent, asked)
assert client.is_model_ready(model, "1") and not client.is_model_ready(model, "2")
assert client.get_model_metadata(model, "1") == metadata
future = client.async_infer(model, [entry])
assert future.get_result().as_numpy(output).tolist() == told["tensor False"]

for call in (lambda: client.infer("other", [entry]), lambda: client.get_model_metadata("other"),
             lambda: client.infer(model, [triton.InferInput("x", [1], "BYTES").set_data_from_numpy(
                 np.array([b"y"], dtype=object))])):
    try:
        call()
    except InferenceServerException as e:
        told.setdefault("errors", []).append(str(e))
print(json.dumps(told))
"""


def test_tritons_client(shared, tmp_path):
    python = foreign_python("tritonclient[http]==2.50.0")
    for name, data in (("a.jpg", PICTURE), ("b.png", OTHER)):
        (tmp_path / name).write_bytes(data)
    run = subprocess.run([python, "-c", FOREIGN, f"127.0.0.1:{shared.classify.port}", NAME, tmp_path / "a.jpg",
                          tmp_path / "b.png"], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["labels True"] == told["labels False"]
    assert told["tensor True"] == told["tensor False"]
    assert told["labels True"] == numpy.array(infer(
        shared.classify, images(PICTURE, OTHER, outputs=top(3))).json()["outputs"][0]["data"]).reshape(2, 3).tolist()
    ours = infer(shared.classify, images(PICTURE, OTHER)).json()["outputs"][0]["data"]
    assert numpy.allclose(numpy.array(told["scores"]).ravel(), ours, atol=1e-7)
    assert len(told["errors"]) == 3 and "no such model" in told["errors"][0]

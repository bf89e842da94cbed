"""gRPC on the same port, by grpcio's client, Triton's, and by frames that no client would send."""
import concurrent.futures
import gzip
import json
import struct
import subprocess
import time

import grpc
import numpy
import pytest
import requests

import h2_client as h2
from calls import CODE, code_of, raw
from conftest import MODEL, PROTO, SLOW, wait_for
from images import encode, gradient, numbered_jpeg
from servers import Unavailable, built_binary
from tools import foreign_python

pytestmark = [pytest.mark.memory, pytest.mark.threads]

JPEG = encode(gradient(64, 48))
MIB = 1 << 20
NAME = json.loads(MODEL.read_text())["name"] if MODEL.exists() else "?"


@pytest.fixture(name="call")
def fixture_call(messages):
    """call(service, "darkroom.v1.images", "Images/Transform", "TransformResponse", request, …)"""
    def call(service, module, method, reply, request, **options):
        found = messages(module)
        package = found.DESCRIPTOR.package
        data, _ = raw(service, f"/{package}.{method}", request.SerializeToString(), **options)
        return getattr(found, reply).FromString(data)
    return call


@pytest.fixture(name="image")
def fixture_image(messages):
    return lambda data, **options: messages("darkroom.v1.images").ImageRequest(image=data, options=options)


# ---- our own services

def test_preprocess_stores_as_rest_does(shared, call, image):
    reply = call(shared.preprocess, "darkroom.v1.images", "Images/Preprocess", "PreprocessResponse",
                 image(JPEG, width="32", format="png"))
    rest = shared.preprocess.upload(JPEG, "?width=32&format=png").json()
    assert (reply.id, reply.gcs_path) == (rest["id"], rest["gcs_path"])
    assert (reply.width, reply.height, reply.format, reply.bytes) == (
        rest["width"], rest["height"], rest["format"], rest["bytes"])
    assert reply.message_id
    assert shared.result({"id": reply.id})["id"] == reply.id


def test_transform(shared, call, image):
    reply = call(shared.preprocess, "darkroom.v1.images", "Images/Transform", "TransformResponse",
                 image(JPEG, width="20", format="webp"))
    assert reply.content_type == "image/webp"
    assert reply.image == shared.preprocess.post_image("/transform?width=20&format=webp", JPEG).body


def test_classify(shared, call, messages):
    request = messages("darkroom.v1.labels").ClassifyRequest
    stored = shared.preprocess.upload(JPEG).json()["gcs_path"]
    for source in ({"image": JPEG}, {"gcs_path": stored}):
        reply = call(shared.classify, "darkroom.v1.labels", "Labels/Classify", "ClassifyResponse",
                     request(top_k=3, **source))
        assert reply.model == NAME and len(reply.labels) == 3
        assert reply.labels[0].confidence >= reply.labels[2].confidence > 0
    rest = shared.classify.post_image("/classify?top_k=3", JPEG).json()["top"]
    reply = call(shared.classify, "darkroom.v1.labels", "Labels/Classify", "ClassifyResponse",
                 request(top_k=3, image=JPEG))
    assert [(label.label, label.index) for label in reply.labels] == [(top["label"], top["index"]) for top in rest]
    assert [label.confidence for label in reply.labels] == pytest.approx([top["confidence"] for top in rest], abs=1e-5)


def test_errors_have_their_status(shared, call, image, messages):
    def preprocess(request, **options):
        return code_of(call, shared.preprocess, "darkroom.v1.images", "Images/Preprocess", "PreprocessResponse",
                       request, **options)

    def classify(**fields):
        return code_of(call, shared.classify, "darkroom.v1.labels", "Labels/Classify", "ClassifyResponse",
                       messages("darkroom.v1.labels").ClassifyRequest(**fields))

    assert preprocess(image(b"not an image"))[0] == CODE.INVALID_ARGUMENT
    assert preprocess(image(b""))[:2] == (CODE.INVALID_ARGUMENT, "the image is empty")
    assert preprocess(image(JPEG, nonsense="1"))[:2] == (CODE.INVALID_ARGUMENT, "nonsense: no such option")
    assert preprocess(image(JPEG, **{"50%\u00fc\n": "1"}))[:2] == (CODE.INVALID_ARGUMENT, "50%\u00fc\n: no such option")
    assert preprocess(image(JPEG, width="x"))[0] == CODE.INVALID_ARGUMENT
    assert preprocess(image(bytes(33 * MIB)))[0] == CODE.RESOURCE_EXHAUSTED
    assert classify()[:2] == (CODE.INVALID_ARGUMENT, "neither image nor gcs_path is given")
    assert classify(image=JPEG, top_k=101)[0] == CODE.INVALID_ARGUMENT
    assert classify(gcs_path="s3://elsewhere/x")[0] == CODE.PERMISSION_DENIED
    assert classify(gcs_path=shared.objects.as_uri() + "/" + "0" * 64 + ".jpg")[0] == CODE.NOT_FOUND
    shared.preprocess.settles("body_bytes_in_flight", 0)


def test_unknown_methods_are_unimplemented(shared):
    for method in ("/darkroom.v1.Images/Nothing", "/nothing.Nothing/Call", "/preprocess", "/healthz"):
        code, details, _ = code_of(raw, shared.preprocess, method, b"")
        assert (code, details) == (CODE.UNIMPLEMENTED, f"there is no method {method}")


def test_rest_is_not_grpc(shared):
    """A method's path is none of REST's, and a REST answer is no call's."""
    reply = shared.preprocess.post_image("/darkroom.v1.Images/Transform", JPEG)
    assert reply.status == 404
    reply = shared.preprocess.post_image("/darkroom.v1.Images/Transform", JPEG, content_type="application/grpc")
    assert reply.status == 404  # HTTP/1.1 has no trailers
    for word in ("call", "CALL", "grpc"):  # no method of HTTP leads to a call's handler
        assert shared.preprocess.request(word, "/darkroom.v1.Images/Transform", JPEG).status == 404


# ---- the protocol

def test_gzip(shared, call, image):
    """Requests may be compressed; what they unpack to is limited like a body."""
    reply = call(shared.preprocess, "darkroom.v1.images", "Images/Transform", "TransformResponse",
                 image(JPEG, width="20"), compression=grpc.Compression.Gzip)
    assert reply.image
    code, _, _ = code_of(raw, shared.preprocess, "/darkroom.v1.Images/Transform", bytes(40 * MIB),
                         compression=grpc.Compression.Gzip)
    assert code == CODE.RESOURCE_EXHAUSTED
    code, _, _ = code_of(raw, shared.preprocess, "/darkroom.v1.Images/Transform", bytes(4000),
                         compression=grpc.Compression.Deflate)
    assert code == CODE.UNIMPLEMENTED
    shared.preprocess.settles("body_bytes_in_flight", 0)


def prefixed(message, flag=0):
    return struct.pack(">BI", flag, len(message)) + message


GZIPPED = gzip.compress(b"")
BODIES = {  # body, fields, grpc-status
    "nothing": (b"", [], 3), "half a prefix": (b"\0\0", [], 3), "cut": (prefixed(bytes(9))[:-1], [], 3),
    "two": (prefixed(b"") * 2, [], 3), "more than it says": (prefixed(b"") + b"x", [], 3),
    "unknown flag": (prefixed(b"", 2), [], 3), "length of 4 GB": (b"\0\xff\xff\xff\xff", [], 8),
    "not a message": (prefixed(b"\xff" * 20), [], 3), "a group": (prefixed(b"\x0b\x0c"), [], 3),
    "in many pieces": (prefixed(b"\x12\0" * 5000), [], 3), "unknown fields": (prefixed(b"\xf8\x07\x01" * 5000), [], 3),
    "compressed without a word": (prefixed(GZIPPED, 1), [], 13),
    "unknown encoding": (prefixed(GZIPPED, 1), [("grpc-encoding", "snappy")], 12),
    "not gzip": (prefixed(b"xyz", 1), [("grpc-encoding", "gzip")], 3),
    "bad timeout": (prefixed(b""), [("grpc-timeout", "5")], 3), "long timeout": (prefixed(b""), [("grpc-timeout", "123456789m")], 3),
}


@pytest.mark.parametrize("body, fields, status", BODIES.values(), ids=BODIES)
def test_malformed_calls(shared, body, fields, status):
    with h2.Client(shared.preprocess) as client:
        client.open(1, "POST", "/darkroom.v1.Images/Transform", ("content-type", "application/grpc"), ("te", "trailers"),
                    *fields, body=body)
        assert client.reply(1)[0] == 200
        block = client.of(h2.HEADERS, 1)[-1][3]
        # never compressed by a table here: the name, and a number of one or two digits behind it
        assert grpc_status(block) == status


def grpc_status(block):
    """From a header block whose names are huffman-coded: found by what nghttp2 makes of it."""
    name = bytes.fromhex("899acac8b21234da8f")[1:]  # "grpc-status"
    at = block.index(name) + len(name)
    value = block[at + 1:at + 1 + (block[at] & 0x7F)]
    if not block[at] & 0x80:
        return int(value)
    bits, out = "".join(f"{byte:08b}" for byte in value), ""
    while len(bits) >= 5 and "0" in bits:
        size = next(n for n in (5, 6) if bits[:n] in h2.DIGITS)
        out, bits = out + h2.DIGITS[bits[:size]], bits[size:]
    return int(out)


def test_a_deadline_that_passes(start, call, image):
    """What the client does not wait for any more is not begun."""
    service = start(WORKERS=1)
    slow = encode(gradient(4000, 3000), quality=90, progressive=True)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(code_of, call, service, "darkroom.v1.images", "Images/Transform", "TransformResponse",
                             image(slow), timeout=0.05 / SLOW) for _ in range(8)]
        assert {done.result()[0] for done in calls} == {CODE.DEADLINE_EXCEEDED}
    wait_for(lambda: service.metric("worker_queue_depth") == 0, "an empty queue")
    service.settles("body_bytes_in_flight", 0)


def test_short_deadlines_lose_no_connection(shared, messages):
    """Honest clients reset their calls by the thousand: each ends with its own status."""
    request = messages("health").HealthCheckRequest().SerializeToString()
    codes = []
    with grpc.insecure_channel(f"{shared.preprocess.host}:{shared.preprocess.port}") as channel:
        method = channel.unary_unary("/grpc.health.v1.Health/Check")

        def run(_):
            try:
                method(request, timeout=0.002)
                codes.append(CODE.OK)
            except grpc.RpcError as why:
                codes.append(why.code())

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            list(pool.map(run, range(3000)))
    # grpcio at times resets a stream whose HEADERS it never sent, which ends the connection by RFC 9113, 5.1, and the
    # calls on it. ghz's 3,000 below must lose none.
    assert set(codes) <= {CODE.OK, CODE.DEADLINE_EXCEEDED, CODE.UNAVAILABLE} and len(codes) == 3000
    assert codes.count(CODE.UNAVAILABLE) <= 30


def test_ghz_loses_nothing(shared):
    """Calls of its client for load, packed and not: each is answered; with deadlines that pass, each with its own."""
    try:
        ghz = built_binary("ghz")
    except Unavailable as why:
        pytest.skip(str(why))

    def statuses(*options):
        done = subprocess.run([ghz, "--insecure", "--proto", PROTO / "health.proto", "--call", "grpc.health.v1.Health/Check", "-d", "{}",
                               "-c", "16", "-n", "3000", "-O", "json", *options, f"{shared.preprocess.host}:{shared.preprocess.port}"],
                              capture_output=True, text=True, timeout=120 * SLOW, check=True)
        return json.loads(done.stdout)["statusCodeDistribution"]

    assert statuses("--connections", "4") == statuses("-e") == {"OK": 3000}
    ended = statuses("--timeout", "2ms")
    assert set(ended) <= {"OK", "DeadlineExceeded"} and sum(ended.values()) == 3000


def test_overload_says_when_to_come_again(start, call, image):
    service = start(MAX_INFLIGHT=1)
    with h2.Client(service) as client:
        client.open(1, "POST", "/transform", ("content-type", "image/jpeg"), body=JPEG[:50], more=True)
        wait_for(lambda: service.metric("body_bytes_in_flight") > 0, "the body")
        code, _, trailers = code_of(call, service, "darkroom.v1.images", "Images/Transform", "TransformResponse",
                                    image(JPEG))
        assert code == CODE.UNAVAILABLE and trailers["grpc-retry-pushback-ms"] == "1000"
        client.data(1, JPEG[50:])
        assert client.reply(1)[0] == 200


def test_health(shared, messages, start):
    health = messages("health")

    def check(service, name=""):
        reply, _ = raw(service, "/grpc.health.v1.Health/Check",
                       health.HealthCheckRequest(service=name).SerializeToString())
        return health.HealthCheckResponse.FromString(reply).status

    for name in ("", "darkroom.v1.Images", "grpc.health.v1.Health"):
        assert check(shared.preprocess, name) == health.HealthCheckResponse.SERVING
    assert code_of(check, shared.preprocess, "darkroom.v1.Labels")[0] == CODE.NOT_FOUND
    assert code_of(check, shared.preprocess, "darkroom.v1")[0] == CODE.NOT_FOUND
    assert check(shared.classify, "inference.GRPCInferenceService") == health.HealthCheckResponse.SERVING
    service = start()
    with h2.Client(service) as client:
        client.open(1, "POST", "/transform", ("content-type", "image/jpeg"), body=JPEG[:50], more=True)
        wait_for(lambda: service.metric("body_bytes_in_flight") > 0, "the body")
        service.process.terminate()
        wait_for(lambda: check(service) == health.HealthCheckResponse.NOT_SERVING, "NOT_SERVING")
        client.data(1, JPEG[50:])
        assert client.reply(1)[0] == 200
    assert service.process.wait(9 * SLOW) == 0
    service.process = None


def test_calls_need_what_requests_need(start, call, image, messages):
    """AUTH_AUDIENCE: calls without a token are UNAUTHENTICATED; health is open."""
    service = start(AUTH_AUDIENCE="https://darkroom.test", AUTH_EMAILS="a@darkroom.test",
                    OIDC_ISSUER="https://issuer.test", OIDC_JWKS_URL="http://127.0.0.1:1/keys")
    code, _, _ = code_of(call, service, "darkroom.v1.images", "Images/Transform", "TransformResponse", image(JPEG))
    assert code == CODE.UNAUTHENTICATED
    raw(service, "/grpc.health.v1.Health/Check", messages("health").HealthCheckRequest().SerializeToString())


def test_a_call_is_logged_with_the_status_of_rest(start, call, image):
    service = start()
    assert code_of(call, service, "darkroom.v1.images", "Images/Transform", "TransformResponse",
                   image(b"x"))[0] == CODE.INVALID_ARGUMENT
    line, = wait_for(lambda: [line for line in service.log_lines() if line.get("path") == "/darkroom.v1.Images/Transform"],
                     "the log")
    assert line["status"] == 415
    service.settles('http_requests_total{route="/darkroom.v1.Images/Transform",code="415"}', 1)


def test_many_calls_on_one_connection(shared, image, messages):
    images = messages("darkroom.v1.images")
    with grpc.insecure_channel(f"{shared.preprocess.host}:{shared.preprocess.port}") as channel:
        method = channel.unary_unary("/darkroom.v1.Images/Transform")
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            replies = list(pool.map(
                lambda n: method(image(numbered_jpeg(n, JPEG), width="16").SerializeToString(), timeout=60 * SLOW),
                range(200)))
    assert len(replies) == 200 and all(images.TransformResponse.FromString(reply).image for reply in replies)


# ---- the Open Inference Protocol

def infer_request(messages, data, **more):
    v2 = messages("inference")
    request = v2.ModelInferRequest(model_name=NAME, id="7", **more)
    request.inputs.add(name="image", datatype="BYTES", shape=[len(data)])
    return request


def test_infer_is_rest_infer(shared, call, messages):
    """Raw and typed contents, and both forms of the output."""
    pictures = [JPEG, encode(gradient(90, 300), "PNG")]
    rest = requests.post(f"{shared.classify.url}/v2/models/{NAME}/infer", timeout=60 * SLOW, json={"inputs": [
        {"name": "image", "datatype": "BYTES", "shape": [2], "data": [__import__("base64").b64encode(p).decode() for p in pictures]}]})
    expected = numpy.array(rest.json()["outputs"][0]["data"], numpy.float32).reshape(2, -1)

    def infer(request):
        return call(shared.classify, "inference", "GRPCInferenceService/ModelInfer", "ModelInferResponse", request)

    packed = infer_request(messages, pictures)
    packed.raw_input_contents.append(b"".join(struct.pack("<I", len(p)) + p for p in pictures))
    typed = infer_request(messages, pictures)
    typed.inputs[0].contents.bytes_contents.extend(pictures)
    for request in (packed, typed):
        reply = infer(request)
        assert (reply.model_name, reply.model_version, reply.id) == (NAME, "1", "7")
        output, = reply.outputs
        assert (output.name, output.datatype, list(output.shape)) == ("scores", "FP32", list(expected.shape))
        scores = numpy.frombuffer(reply.raw_output_contents[0], numpy.float32).reshape(expected.shape)
        assert numpy.allclose(scores, expected, atol=1e-5)
    wanted = typed.outputs.add(name="scores")
    wanted.parameters["classification"].int64_param = 2
    reply = infer(typed)
    assert (reply.outputs[0].datatype, list(reply.outputs[0].shape)) == ("BYTES", [2, 2])
    assert reply.raw_output_contents[0].count(b":") == 8


def test_infer_refuses(shared, call, messages):
    def refusal(change):
        request = infer_request(messages, [JPEG])
        request.raw_input_contents.append(struct.pack("<I", len(JPEG)) + JPEG)
        change(request)
        return code_of(call, shared.classify, "inference", "GRPCInferenceService/ModelInfer", "ModelInferResponse",
                       request)[0]

    def no_input(request):
        del request.inputs[:]

    def both(request):
        request.inputs[0].contents.bytes_contents.append(JPEG)

    def shape(*sizes):
        def change(request):
            request.inputs[0].shape[:] = sizes
        return change

    def classes(request):
        request.outputs.add(name="scores").parameters["classification"].int64_param = 101

    def text(request):
        request.outputs.add(name="scores").parameters["classification"].string_param = "2"

    for change in (no_input, both, shape(), shape(2), shape(33), shape(0), shape(1, 2), shape(1, 1, 1, 1, 1), classes,
                   text, lambda r: r.outputs.add(name="other"), lambda r: setattr(r.inputs[0], "datatype", "FP32"),
                   lambda r: setattr(r.inputs[0], "name", "other"), lambda r: r.raw_input_contents.append(b""),
                   lambda r: r.raw_input_contents.__setitem__(0, b"\xff\xff\xff\xff")):
        assert refusal(change) == CODE.INVALID_ARGUMENT
    assert refusal(lambda r: setattr(r, "model_name", "other")) == CODE.NOT_FOUND
    assert refusal(lambda r: setattr(r, "model_version", "2")) == CODE.NOT_FOUND
    shared.classify.settles("body_bytes_in_flight", 0)


TRITON = '''
import sys
import numpy
import tritonclient.grpc as triton

url, name, path = sys.argv[1:]
client = triton.InferenceServerClient(url)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(name)
assert "classification" in client.get_server_metadata().extensions
metadata = client.get_model_metadata(name)
assert [i.name for i in metadata.inputs] == ["image", "tensor"] and metadata.outputs[0].name == "scores"
picture = triton.InferInput("image", [1], "BYTES")
picture.set_data_from_numpy(numpy.array([open(path, "rb").read()], dtype=object))
scores = client.infer(name, [picture]).as_numpy("scores")
assert scores.shape == tuple([1, metadata.outputs[0].shape[1]]) and abs(scores.sum() - 1) < 0.01, scores.sum()
top = client.infer(name, [picture], outputs=[triton.InferRequestedOutput("scores", class_count=3)]).as_numpy("scores")
assert int(top[0][0].split(b":")[1]) == scores[0].argmax()
shape = [1, *metadata.inputs[1].shape[1:]]
tensor = triton.InferInput("tensor", shape, "FP32")
tensor.set_data_from_numpy(numpy.zeros(shape, numpy.float32))
assert client.infer(name, [tensor], compression_algorithm="gzip").as_numpy("scores").shape == scores.shape
try:
    client.infer("other", [picture])
    raise SystemExit("no error")
except triton.InferenceServerException as why:
    assert why.status() == "StatusCode.NOT_FOUND", why.status()
print("done")
'''


def test_tritons_own_client(shared, tmp_path):
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(JPEG)
    python = foreign_python("tritonclient[grpc]==2.55.0")
    done = subprocess.run([python, "-c", TRITON, f"{shared.classify.host}:{shared.classify.port}", NAME, picture],
                          capture_output=True, text=True, timeout=120 * SLOW, check=False)
    assert done.stdout == "done\n", done

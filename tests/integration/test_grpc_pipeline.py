"""The older pipeline over gRPC: its client runs unchanged, its stages are here or elsewhere, and Process says
why a picture failed."""
import base64
import concurrent.futures
import contextlib
import io
import re
import signal
import threading

import grpc
import numpy as np
import pytest
from PIL import Image, ImageFilter

from calls import CODE, code_of, raw
from conftest import SLOW, Service, wait_for
from images import encode, gradient
from ports import free_port
from test_older_pipeline import fixture_both  # noqa: F401 - a fixture

pytestmark = [pytest.mark.memory, pytest.mark.threads]

MIB = 1 << 20
PROCESS = "/image_pipeline.ImageProcessorOrchestrator/Process"
METHODS = {"UPLOADER_ADDR": "ImageUploader/Upload", "NOISE_ADDR": "NoiseReducer/Reduce",
           "BACKGROUND_ADDR": "BackgroundRemover/Remove", "CLASSIFIER_ADDR": "ImageClassifier/Classify"}


def subject(width=64, height=48, mode="RGB"):
    """The left half is red: what the drawn model keeps."""
    picture = gradient(width, height).convert("RGB")
    picture.paste((255, 20, 20), (0, 0, width // 2, height))
    return picture.convert(mode)


PNG = encode(subject(), "PNG")


@pytest.fixture(name="pb")
def fixture_pb(messages):
    return messages("image_pipeline")


class Client:
    """The older client: no deadline, what its library receives by default; a picture a thread, all at once.
    A failure is printed by its message."""

    def __init__(self, service, pb):
        self.address, self.pb, self.replies, self.printed = f"{service.host}:{service.port}", pb, {}, {}

    def process(self, name, data):
        with grpc.insecure_channel(self.address) as channel:
            call = channel.unary_unary(PROCESS, self.pb.ProcessRequest.SerializeToString, self.pb.ProcessResponse.FromString)
            reply = call(self.pb.ProcessRequest(image_data=data, file_name=name))
        if reply.success:
            self.replies[name] = reply
        else:
            self.printed[name] = f"Processing failed: {reply.message}"

    def run(self, pictures):
        with concurrent.futures.ThreadPoolExecutor(len(pictures)) as threads:
            for done in [threads.submit(self.process, *item) for item in pictures.items()]:
                done.result(timeout=120 * SLOW)
        return self


def test_the_client_runs_unchanged(both, pb):
    pictures = {"photo.jpg": encode(subject(300, 200), "JPEG"), "grey.png": encode(subject(mode="L"), "PNG"),
                "chicken.jpg": encode(subject(90, 70, "RGBA"), "PNG"), "Ünï côdé.jpeg": encode(subject(40, 30), "JPEG"),
                "a.png": PNG}
    client = Client(both.preprocess, pb).run(pictures)
    assert not client.printed and set(client.replies) == set(pictures)
    for name, reply in client.replies.items():
        result = Image.open(io.BytesIO(reply.processed_image_data))
        assert (result.format, result.mode) == ("PNG", "RGBA")
        assert result.size == Image.open(io.BytesIO(pictures[name])).size
        total = re.fullmatch(r"Image processed successfully! total=(\d+\.\d\d)ms", reply.message)
        assert float(total[1]) == pytest.approx(reply.response_time_ms, abs=0.01) and reply.response_time_ms > 0
        assert Image.open(io.BytesIO(reply.timeline_plot_image)).size == (1600, 900)
        assert reply.timeline_plot_filename == "/app/results/pipeline_timeline.png"
    rest = both.preprocess.request("POST", "/remove", b'{"image_data": "%s"}' % base64_of(stage(
        both.preprocess, pb, "NoiseReducer/Reduce", PNG).image_data)).json()
    assert base64_of(client.replies["a.png"].processed_image_data).decode() == rest["image_data"]
    label = both.classify.post_image("/classify", client.replies["a.png"].processed_image_data, "image/png").json()["label"]
    assert client.replies["a.png"].classification_label == label
    both.preprocess.settles("pipeline_tasks", 0)
    both.preprocess.settles("body_bytes_in_flight", 0)


def base64_of(data):
    return base64.b64encode(data)


REPLIES = {"ImageUploader/Upload": "UploadResponse", "NoiseReducer/Reduce": "NoiseReductionResponse",
           "BackgroundRemover/Remove": "BackgroundRemoveResponse", "ImageClassifier/Classify": "ClassifyResponse"}


def stage(service, pb, method, data, **fields):
    request = pb.UploadRequest(image_data=data, **fields).SerializeToString()
    return getattr(pb, REPLIES[method]).FromString(raw(service, f"/image_pipeline.{method}", request)[0])


def test_stages(both, pb):
    picture = Image.effect_noise((120, 80), 60).convert("RGB")
    picture.paste((250, 10, 10), (0, 0, 60, 80))
    data = encode(picture, "PNG")
    reply = stage(both.preprocess, pb, "ImageUploader/Upload", data, file_name="x.png")
    assert (reply.image_data, reply.file_name) == (data, "x.png")
    reply = stage(both.preprocess, pb, "ImageUploader/Upload", b"", file_name="../x")
    assert (reply.image_data, reply.file_name) == (b"", "../x")
    assert stage(both.preprocess, pb, "ImageUploader/Upload", b"").file_name == "uploaded_image.jpg"
    reduced = Image.open(io.BytesIO(stage(both.preprocess, pb, "NoiseReducer/Reduce", data).image_data))
    assert (reduced.format, reduced.mode) == ("PNG", "RGB")
    median = np.asarray(picture.filter(ImageFilter.MedianFilter(5)))[10:-10, 10:-10]
    assert (np.asarray(reduced)[10:-10, 10:-10] == median).all()
    removed = Image.open(io.BytesIO(stage(both.preprocess, pb, "BackgroundRemover/Remove", data).image_data))
    assert (removed.format, removed.mode, removed.size) == ("PNG", "RGBA", (120, 80))
    label = stage(both.classify, pb, "ImageClassifier/Classify", data).label
    assert label == both.classify.post_image("/classify", data, "image/png").json()["label"] and "," not in label


def test_errors(both, start, pb):
    for service, method in ((both.preprocess, "NoiseReducer/Reduce"), (both.preprocess, "BackgroundRemover/Remove"),
                            (both.classify, "ImageClassifier/Classify")):
        for data in (b"", b"no picture", PNG[:60]):
            assert code_of(stage, service, pb, method, data)[0] == CODE.INVALID_ARGUMENT
        assert code_of(stage, service, pb, method, bytes(33 * MIB))[0] == CODE.RESOURCE_EXHAUSTED
        assert code_of(raw, service, f"/image_pipeline.{method}", b"\xff" * 9)[0] == CODE.INVALID_ARGUMENT
    bad_name = b"\x0a\x01x\x12\x02\xff\xfe"
    assert code_of(raw, both.preprocess, "/image_pipeline.ImageUploader/Upload", bad_name)[:2] == (
        CODE.INVALID_ARGUMENT, "file_name: not UTF-8")
    assert code_of(raw, both.classify, PROCESS, b"")[0] == CODE.UNIMPLEMENTED
    client = Client(both.preprocess, pb).run({"none": b"", "text.jpg": b"no picture", "cut.png": PNG[:60]})
    assert client.printed["none"] == "Processing failed: No file or image_data provided"
    assert len(set(client.printed.values())) == 3 and all(len(line) > len("Processing failed: ") for line in client.printed.values())
    reply = pb.ProcessResponse.FromString(raw(both.preprocess, PROCESS, bad_name)[0])
    assert (reply.success, reply.message) == (False, "file_name: not UTF-8")
    assert code_of(raw, both.preprocess, PROCESS, bytes(33 * MIB))[0] == CODE.RESOURCE_EXHAUSTED
    assert code_of(stage, start(REMOVE_BACKGROUND="off"), pb, "BackgroundRemover/Remove", PNG)[0] == CODE.INVALID_ARGUMENT
    assert code_of(stage, start(BACKGROUND_MODEL="none.json"), pb, "BackgroundRemover/Remove", PNG)[0] == CODE.UNIMPLEMENTED
    both.preprocess.settles("body_bytes_in_flight", 0)


def test_replies_that_clients_take(both, pb):
    """What comes out is, as PNG, larger than clients receive."""
    noise = np.random.default_rng(3).integers(0, 256, (600, 1000, 3), np.uint8)
    picture = Image.fromarray(noise).resize((2400, 1400))
    picture.paste((255, 20, 20), (0, 0, 300, 1400))
    photo = encode(picture, "JPEG", quality=80)
    assert len(photo) < 4 * MIB < len(encode(picture.filter(ImageFilter.MedianFilter(5)), "PNG"))
    reduced = stage(both.preprocess, pb, "NoiseReducer/Reduce", photo)
    removed = stage(both.preprocess, pb, "BackgroundRemover/Remove", encode(picture.filter(ImageFilter.MedianFilter(3)), "JPEG", quality=80))
    for reply, mode in ((reduced, "RGB"), (removed, "RGBA")):
        small = Image.open(io.BytesIO(reply.image_data))
        assert (small.size, small.mode) == ((2400, 1400), mode)
    client = Client(both.preprocess, pb).run({"photo.jpg": photo})
    result = Image.open(io.BytesIO(client.replies["photo.jpg"].processed_image_data))
    assert (result.size, result.mode) == ((2400, 1400), "RGBA")


# ---- elsewhere

class Stages:
    """The older stages, by grpcio as they are: answer(method, message) -> the reply's message."""

    def __init__(self, pb, answer=None):
        self.pb, self.answer, self.calls, self.lock = pb, answer or self.usual, [], threading.Lock()
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        for service in sorted({method.split("/")[0] for method in METHODS.values()}):
            handlers = {method.split("/")[1]: grpc.unary_unary_rpc_method_handler(
                lambda data, context, method=method: self.handle(method, data, context))
                for method in METHODS.values() if method.startswith(service)}
            self.server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(f"image_pipeline.{service}", handlers),))
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def handle(self, method, data, context):
        message = self.pb.UploadRequest.FromString(data)
        with self.lock:
            self.calls.append((method, message))
        return self.answer(method, message, context).SerializeToString()

    def usual(self, method, message, context):
        """A picture is passed on."""
        if method == "ImageClassifier/Classify":
            return self.pb.ClassifyResponse(label="golden retriever")
        return self.pb.UploadResponse(image_data=message.image_data, file_name=message.file_name)

    def env(self, *names):
        return {name: self.address for name in names or METHODS}

    def methods(self):
        with self.lock:
            return [method for method, _ in self.calls]

    def close(self):
        self.server.stop(0).wait()


@pytest.fixture(name="stages")
def fixture_stages(pb):
    with contextlib.ExitStack() as stack:
        yield lambda answer=None: stack.enter_context(contextlib.closing(Stages(pb, answer)))


def process(service, pb, data=PNG, name="a.png", **options):
    request = pb.ProcessRequest(image_data=data, file_name=name).SerializeToString()
    return pb.ProcessResponse.FromString(raw(service, PROCESS, request, **options)[0])


def test_stages_elsewhere(start, stages, pb):
    elsewhere = stages()
    reply = process(start(**elsewhere.env()), pb)
    assert (reply.success, reply.classification_label, reply.processed_image_data) == (True, "golden retriever", PNG)
    assert elsewhere.methods() == list(METHODS.values())
    assert all(message.image_data == PNG for _, message in elsewhere.calls)
    assert [message.file_name for _, message in elsewhere.calls] == ["a.png", "", "", ""]


def test_rest_clients_have_stages_elsewhere_by_grpc(start, stages):
    elsewhere = stages()
    service = start(**elsewhere.env())
    task = service.request("POST", "/process", b'{"image_data": "%s"}' % base64_of(PNG)).json()["task_id"]
    reply = wait_for(lambda: (s := service.get(f"/status/{task}").json())["message"] != "Processing pending" and s, "the task to end")
    assert reply["success"] is True and reply["response"] == {"label": "golden retriever"}


def test_stages_of_another_darkroom_give_the_same(both, services, tmp_path, pb):
    service = Service("preprocess-service", tmp_path, EVENTS_URL="none:", REMOVE_BACKGROUND="off",
                      CLASSIFIER_ADDR=f"127.0.0.1:{both.classify.port}",
                      **{name: f"localhost:{both.preprocess.port}" for name in METHODS if name != "CLASSIFIER_ADDR"})
    services.append(service.start())
    here, there = process(both.preprocess, pb), process(service, pb)
    assert here.success and there.success
    assert (here.processed_image_data, here.classification_label) == (there.processed_image_data, there.classification_label)


def failing(method, code, detail, times=99):
    """An answer that fails in that method, at first."""
    left = [times]

    def answer(stages, called, message, context):
        if called == method and left[0] > 0:
            left[0] -= 1
            context.abort(code, detail)
        return stages.usual(called, message, context)
    return answer


@pytest.mark.parametrize("code, times, attempts", [(CODE.UNAVAILABLE, 2, 3), (CODE.UNAVAILABLE, 3, 3), (CODE.INTERNAL, 1, 1),
                                                   (CODE.UNKNOWN, 1, 1), (CODE.RESOURCE_EXHAUSTED, 1, 1)])
def test_a_stage_that_fails(start, stages, pb, code, times, attempts):
    """What may pass is tried three times, as by REST; a reason comes with success=false."""
    fail = failing("BackgroundRemover/Remove", code, "no mödel: 50%", times)
    elsewhere = stages(lambda *args: fail(elsewhere, *args))
    reply = process(start(**elsewhere.env()), pb)
    assert elsewhere.methods().count("BackgroundRemover/Remove") == attempts
    assert reply.success is (times < attempts)
    if not reply.success:
        assert reply.message == (f"Request to {elsewhere.address} failed after {attempts} attempt{'s' * (attempts > 1)}: "
                                 f"{code.name}: no mödel: 50%")
        assert not reply.processed_image_data and not reply.classification_label and not reply.timeline_plot_image


def test_a_stage_that_is_down(start, pb):
    address = f"127.0.0.1:{free_port()}"
    reply = process(start(NOISE_ADDR=address), pb)
    assert not reply.success
    assert reply.message == f"Request to {address} failed after 3 attempts: {address}: cannot connect: Connection refused"


def test_a_picture_that_a_stage_does_not_take(start, stages, pb):
    """The older services receive no more than 4 MiB."""
    elsewhere = stages()
    large = encode(Image.fromarray(np.random.default_rng(1).integers(0, 256, (1200, 1300, 3), np.uint8)), "PNG")
    reply = process(start(**elsewhere.env("NOISE_ADDR", "CLASSIFIER_ADDR")), pb, large)
    assert not reply.success
    assert reply.message.startswith(f"Request to {elsewhere.address} failed after 1 attempt: RESOURCE_EXHAUSTED: "), reply.message


def test_a_stage_that_speaks_something_else(both, start, stages, pb):
    """REST's stages, other services, and replies that are no stage's."""
    nothing = stages(lambda method, message, context: pb.UploadResponse())
    reply = process(start(**nothing.env()), pb)
    assert not reply.success and reply.message.endswith("the reply has no label")
    assert nothing.methods() == list(METHODS.values())  # a stage without a picture passes it on
    wrong = both.classify
    reply = process(start(NOISE_ADDR=f"127.0.0.1:{wrong.port}"), pb)
    assert not reply.success and "UNIMPLEMENTED: there is no method" in reply.message
    garbage = stages(lambda method, message, context: pb.ClassifyResponse(label="\N{SNOWMAN}" * 200))
    reply = process(start(CLASSIFIER_ADDR=garbage.address), pb)
    assert reply.success or reply.message


class Gate:
    """A stage that waits until it may answer."""

    def __init__(self):
        self.open, self.entered = threading.Event(), threading.Semaphore(0)

    def answer(self, stages):
        def answer(method, message, context):
            if method == "NoiseReducer/Reduce":
                self.entered.release()
                self.open.wait(60)
            return stages().usual(method, message, context)
        return answer


@pytest.fixture(name="gated")
def fixture_gated(stages):
    """(stages, gate): Reduce waits."""
    gate, made = Gate(), []
    made.append(stages(gate.answer(lambda: made[0])))
    yield made[0], gate
    gate.open.set()


def test_more_than_there_is_room_for(start, gated, pb):
    elsewhere, gate = gated
    service = start(QUEUE_MAX=1, **elsewhere.env())
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        first = threads.submit(process, service, pb)
        assert gate.entered.acquire(timeout=60)
        second = process(service, pb)
        assert not second.success and second.message
        gate.open.set()
        assert first.result(timeout=60).success


def test_cancelled_calls_end(start, gated, pb):
    """The sender leaves while a stage elsewhere works, or one here."""
    elsewhere, gate = gated
    service = start(WORKERS=1, **elsewhere.env("NOISE_ADDR", "CLASSIFIER_ADDR"))
    with grpc.insecure_channel(f"{service.host}:{service.port}") as channel:
        call = channel.unary_unary(PROCESS).future(pb.ProcessRequest(image_data=PNG).SerializeToString())
        assert gate.entered.acquire(timeout=60)
        call.cancel()
        wait_for(lambda: service.metric("pipeline_tasks") == 0, "the calls to end")
    service.settles("body_bytes_in_flight", 0)
    service.settles("worker_busy", 0)


def test_a_client_without_a_deadline_waits(start, stages, pb):
    """A picture may take longer than other requests."""
    large = encode(Image.fromarray(np.random.default_rng(5).integers(0, 256, (2200, 3000, 3), np.uint8)), "JPEG", quality=50)
    service = start(REQUEST_TIMEOUT_MS=250, **stages().env("BACKGROUND_ADDR", "CLASSIFIER_ADDR"))
    assert code_of(stage, service, pb, "NoiseReducer/Reduce", large)[0] == CODE.DEADLINE_EXCEEDED
    reply = process(service, pb, large, timeout=None)
    assert "RESOURCE_EXHAUSTED" in reply.message  # the next stage takes no such picture
    assert reply.response_time_ms > 250


def test_shutdown_says_why(start, gated, pb):
    elsewhere, gate = gated
    service = start(SHUTDOWN_GRACE_MS=int(2000 * SLOW), **elsewhere.env())
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        call = threads.submit(process, service, pb)
        assert gate.entered.acquire(timeout=60)
        service.process.send_signal(signal.SIGTERM)
        reply = call.result(timeout=60 * SLOW)
    assert (reply.success, reply.message) == (
        False, "The service was stopped while it worked on this picture. Send it again.")

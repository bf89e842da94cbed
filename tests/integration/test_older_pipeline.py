"""The older pipeline over REST: its client runs unchanged (older_client.py), its stages are here or elsewhere,
and a task that was accepted is answered whatever happens to the service."""
import base64
import concurrent.futures
import contextlib
import http.client
import http.server
import io
import json
import os
import random
import re
import signal
import threading
import time

import numpy as np
import pytest
from PIL import Image, ImageFilter

from conftest import Service, Stack, wait_for
from images import encode, gradient
from models import mask_model
from older_client import Client

pytestmark = pytest.mark.threads

TASK_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
PENDING = {"success": False, "message": "Processing pending"}
DONE_KEYS = {"success", "message", "response", "processed_image_data", "timeline_plot_image",
             "timeline_plot_filename", "error"}


def subject(width=64, height=48, mode="RGB"):
    """The left half is red: what the drawn model keeps."""
    picture = gradient(width, height).convert("RGB")
    picture.paste((255, 20, 20), (0, 0, width // 2, height))
    return picture.convert(mode)


PNG = encode(subject(), "PNG")


def b64(data):
    return base64.b64encode(data).decode()


def post(service, path, body, **headers):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return service.request("POST", path, data, {"Content-Type": "application/json"} | headers)


def picture_of(reply, name="image_data"):
    return Image.open(io.BytesIO(base64.b64decode(reply[name], validate=True)))


class Stages:
    """Stages elsewhere: answer(path, body) -> (status, JSON)."""

    def __init__(self, answer=None):
        self.answer, self.calls, self.lock = answer or self.usual, [], threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.calls.append((self.path, body))
                status, reply = outer.answer(self.path, body)
                data = json.dumps(reply).encode()
                with contextlib.suppress(OSError):  # the caller was killed
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def usual(path, body):
        """As the older services do; a stage without image_data passes the picture on."""
        return 200, {"/classify": {"label": "golden retriever"}, "/upload": body, "/remove": {}}.get(
            path, {"image_data": body["image_data"]})

    def env(self, *names):
        paths = {"UPLOADER_URL": "/upload", "NOISE_URL": "/reduce", "BACKGROUND_URL": "/remove", "CLASSIFIER_URL": "/classify"}
        return {name: self.url + paths[name] for name in names or paths}

    def paths(self):
        with self.lock:
            return [path for path, _ in self.calls]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(name="stages")
def fixture_stages():
    """stages(answer): a server of stages."""
    with contextlib.ExitStack() as stack:
        yield lambda answer=None: stack.enter_context(contextlib.closing(Stages(answer)))


class Gate:
    """An answer that waits until it may be given."""

    def __init__(self):
        self.open, self.entered = threading.Event(), threading.Semaphore(0)

    def __call__(self, path, body):
        if path == "/reduce":
            self.entered.release()
            assert self.open.wait(60)
        return Stages.usual(path, body)


@pytest.fixture(name="gate")
def fixture_gate():
    gate = Gate()
    yield gate
    gate.open.set()


def client_of(service, folder):
    return Client(service.url, folder, poll_s=0.05)


def status(service, task_id):
    reply = service.get(f"/status/{task_id}")
    assert reply.status == 200, reply
    return reply.json()


def ended(service, task_id):
    return wait_for(lambda: (s := status(service, task_id)) != PENDING and s, "the task to end")


def accept(service, data=PNG, name="a.png"):
    reply = post(service, "/process", {"image_data": b64(data), "file_name": name})
    assert reply.status == 200, reply
    assert TASK_ID.fullmatch(reply.json()["task_id"])
    return reply.json()["task_id"]


# --- the client -----------------------------------------------------------------------------------


@pytest.fixture(scope="module", name="both")
def fixture_both(tmp_path_factory):
    """Both services, all stages on this machine."""
    folder = tmp_path_factory.mktemp("pipeline")
    stack = Stack(folder, {"BACKGROUND_MODEL": mask_model(folder), "REQUEST_TIMEOUT_MS": 300000})  # on a busy machine
    stack.preprocess.env["CLASSIFIER_URL"] = stack.classify.url + "/classify"
    try:
        yield stack.start()
    finally:
        stack.stop()


def test_the_client_runs_unchanged(both, tmp_path):
    pictures = {"photo.jpg": encode(subject(300, 200), "JPEG"), "grey.png": encode(subject(mode="L"), "PNG"),
                "chicken.jpg": encode(subject(90, 70, "RGBA"), "PNG"),  # a PNG in a .jpg, as in their test data
                "palette.gif": encode(subject(mode="P"), "GIF"), "Ünï côdé.jpeg": encode(subject(40, 30), "JPEG"),
                "a.png": PNG, "b.png": encode(subject(33, 21), "PNG"), "c.webp": encode(subject(50, 50), "WEBP")}
    client = client_of(both.preprocess, tmp_path)
    client.run(pictures)
    assert not client.errors and not client.refused
    assert set(client.labels) == set(pictures) and all(client.labels.values())
    for name, data in pictures.items():
        result = Image.open(tmp_path / "results" / f"processed_{name}")
        assert (result.format, result.mode) == ("PNG", "RGBA")
        assert result.size == Image.open(io.BytesIO(data)).size
        reply = client.replies[name]
        assert set(reply) == DONE_KEYS
        assert reply["message"] == "Processing completed" and reply["error"] is None
        assert reply["timeline_plot_filename"] == "/app/results/pipeline_timeline.png"
        assert set(reply["response"]) == {"label"}
    plots = list((tmp_path / "timeline_plots").iterdir())
    assert len(plots) == len(pictures)
    for plot in plots:
        assert Image.open(plot).size == (1600, 900)


def test_the_picture_is_its_median_without_its_background(both, tmp_path):
    client = client_of(both.preprocess, tmp_path)
    picture = Image.effect_noise((120, 80), 60).convert("RGB")
    picture.paste((250, 10, 10), (0, 0, 60, 80))
    client.run({"x.png": encode(picture, "PNG")})
    result = np.asarray(Image.open(tmp_path / "results/processed_x.png"))
    median = np.asarray(picture.filter(ImageFilter.MedianFilter(5)))[10:-10, 10:30]
    kept = result[10:-10, 10:30]
    assert (kept[..., 3] == 255).all() and (kept[..., :3] == median).all()
    assert not result[result[..., 3] == 0].any() and (result[..., 3] == 0).any()


def test_a_truncated_upload_ends_polling(both, tmp_path):
    photo = encode(subject(300, 200), "JPEG")
    client = client_of(both.preprocess, tmp_path)
    client.run({"cut.jpg": photo[:len(photo) // 2], "text.jpg": b"no picture", "whole.jpg": photo})
    assert set(client.labels) == {"whole.jpg"}
    assert set(client.errors) == {"cut.jpg", "text.jpg"} and all(client.errors.values())
    for name in client.errors:
        reply = client.replies[name]
        assert set(reply) == DONE_KEYS and reply["success"] is False and reply["response"] is None
        assert reply["processed_image_data"] == ""
        assert not (tmp_path / "results" / f"processed_{name}").exists()


# --- the routes -----------------------------------------------------------------------------------


def test_upload(both):
    for sent, data in (("aGVsbG8=", "aGVsbG8="), ("aGVsbG8", "aGVsbG8="), ("-_-_", "+/+/"), ("aG Vs\\nbG8=", "aGVsbG8="),
                       ("\\/\\u002b\\/+", "/+/+")):
        reply = post(both.preprocess, "/upload", f'{{"image_data": "{sent}"}}'.encode())
        assert reply.status == 200 and reply.json() == {"image_data": data, "file_name": "unknown"}, sent
    body = {"file_name": "../a \"b\" ☃.jpg", "image_data": "AAAA", "more": {"image_data": 1, "x": [1, {"image_data": "B"}]}}
    assert post(both.preprocess, "/upload", body).json() == {"image_data": "AAAA", "file_name": body["file_name"]}
    reply = both.preprocess.request("POST", "/upload", json.dumps(body).encode(), {"Content-Type": "text/plain"})
    assert reply.status == 200


def test_reduce_and_remove(both):
    reduced = post(both.preprocess, "/reduce", {"image_data": b64(PNG)})
    assert reduced.status == 200 and set(reduced.json()) == {"image_data"}
    picture = picture_of(reduced.json())
    assert (picture.format, picture.mode) == ("PNG", "RGB")
    inside = np.asarray(picture)[2:-2, 2:-2]  # at the edge Pillow leaves the picture as it is
    assert (inside == np.asarray(subject().filter(ImageFilter.MedianFilter(5)))[2:-2, 2:-2]).all()
    removed = picture_of(post(both.preprocess, "/remove", reduced.json()).json())
    assert (removed.format, removed.mode, removed.size) == ("PNG", "RGBA", picture.size)
    grey = picture_of(post(both.preprocess, "/reduce", {"image_data": b64(encode(subject(mode="L"), "PNG"))}).json())
    assert grey.size == picture.size


def test_classify(both):
    same = both.classify.post_image("/classify", PNG, "image/png").json()
    assert post(both.classify, "/classify", {"image_data": b64(PNG)}).json() == same
    large = encode(Image.effect_noise((900, 700), 80).convert("RGB"), "PNG")
    assert len(large) > 500_000
    reply = post(both.classify, "/classify?top_k=2", {"image_data": b64(large), "file_name": "x"})
    assert reply.status == 200 and len(reply.json()["top"]) == 2


@pytest.mark.parametrize("path", ["/upload", "/reduce", "/remove", "/classify", "/process"])
def test_what_is_wrong_is_named(both, path):
    service = both.classify if path == "/classify" else both.preprocess
    missing = {"/upload": "No image_data provided", "/process": "No file or image_data provided"}.get(path, "image_data is required")

    def text(body, code, **headers):
        reply = post(service, path, body, **headers)
        assert reply.status == code, reply
        return reply.json()["message" if path == "/process" else "detail"]

    for body in ({}, {"image_data": ""}, {"image_data": None}, {"file_name": "x"}, {"x": {"image_data": b64(PNG)}}):
        assert missing in text(body, 400)
    assert "base64" in text({"image_data": "AAAAA"}, 400)
    assert "not a text" in text({"image_data": 7}, 400)
    for body in (b"", b"[]", b"nonsense", b'"image_data"', b'{"image_data": "AA', b'{"image_data": "AAAA"'):
        assert text(body, 400)
    assert text({"image_data": "AAAA", "more": "x" * 70_000}, 413)
    if path not in ("/upload", "/process"):
        assert text({"image_data": b64(b"no picture")}, 415)
        assert text({"image_data": b64(PNG[:-40])}, 422)


def test_an_id_that_nobody_got(both):
    for task_id in ("x", "00000000-0000-4000-8000-000000000000", "0" * 36):
        reply = both.preprocess.get(f"/status/{task_id}")
        assert reply.status == 404 and reply.json()["detail"] == "Task not found"


# --- stages elsewhere -----------------------------------------------------------------------------


def test_all_stages_elsewhere(start, stages, tmp_path):
    elsewhere = stages()
    service = start(**elsewhere.env())
    client = client_of(service, tmp_path)
    client.run({"a.png": PNG})
    assert client.labels == {"a.png": "golden retriever"}
    assert (tmp_path / "results/processed_a.png").read_bytes() == PNG  # the stub changes nothing
    picture = {"image_data": b64(PNG)}
    assert elsewhere.calls == [("/upload", picture | {"file_name": "a.png"}), ("/reduce", picture),
                               ("/remove", picture), ("/classify", picture)]


def test_stages_of_another_darkroom_give_the_same(both, start, services, tmp_path):
    """One machine or several: the same picture, to the byte."""
    other = start(BACKGROUND_MODEL=tmp_path / "mask.json")
    mask_model(tmp_path)
    services.append(Service("preprocess-service", tmp_path, EVENTS_URL="none:", UPLOADER_URL=other.url + "/upload",
                            NOISE_URL=other.url + "/reduce", BACKGROUND_URL=other.url + "/remove",
                            CLASSIFIER_URL=both.classify.url + "/classify", REMOVE_BACKGROUND="off"))
    replies = [ended(service, accept(service)) for service in (services[-1].start(), both.preprocess)]
    for reply in replies:
        assert reply["success"] is True
    assert replies[0]["processed_image_data"] == replies[1]["processed_image_data"]
    assert replies[0]["response"] == replies[1]["response"]


@pytest.mark.parametrize("failures", [2, 3])
def test_a_stage_is_tried_three_times(start, stages, failures):
    elsewhere = stages(lambda path, body: (500, {"detail": "no model"}) if path == "/remove" and
                       elsewhere.paths().count("/remove") <= failures else Stages.usual(path, body))
    service = start(**elsewhere.env())
    reply = ended(service, accept(service))
    assert elsewhere.paths().count("/remove") == 3
    assert reply["success"] is (failures == 2)
    if failures == 3:
        assert reply["error"] == f"Request to {elsewhere.url}/remove failed after 3 attempts: HTTP 500: no model"
        assert "/classify" not in elsewhere.paths()


def test_what_will_not_succeed_is_tried_once(start, stages):
    elsewhere = stages(lambda path, body: (422, {"detail": [{"msg": "x"}]}) if path == "/classify" else Stages.usual(path, body))
    service = start(**elsewhere.env())
    assert ended(service, accept(service))["error"] == f"Request to {elsewhere.url}/classify failed after 1 attempt: HTTP 422"
    assert elsewhere.paths().count("/classify") == 1


@pytest.mark.parametrize("reply", [{}, {"label": ""}, {"label": 7}, []])
def test_a_classifier_without_a_label(start, stages, reply):
    elsewhere = stages(lambda path, body: (200, reply) if path == "/classify" else Stages.usual(path, body))
    service = start(**elsewhere.env())
    assert elsewhere.url in ended(service, accept(service))["error"]


def test_nobody_listens(start, stages):
    elsewhere = stages()
    elsewhere.close()
    service = start(**elsewhere.env())
    assert re.fullmatch(f"Request to {elsewhere.url}/upload failed after 3 attempts: .+", ended(service, accept(service))["error"])


# --- tasks that survive ---------------------------------------------------------------------------


def test_kill(start, stages, gate, tmp_path):
    elsewhere = stages()
    service = start(**elsewhere.env())
    before = accept(service)
    done = ended(service, before)
    assert done["success"] is True
    elsewhere.answer = gate
    lost = [accept(service, name=f"{n}.png") for n in range(6)]  # four run, two wait
    for _ in range(4):
        assert gate.entered.acquire(timeout=60)
    assert all(status(service, task) == PENDING for task in lost)
    clients = client_of(service, tmp_path)
    clients.task_ids = {f"{n}.png": task for n, task in enumerate(lost)}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        polls = [pool.submit(clients.poll, name) for name in clients.task_ids]  # before, while and after it is away
        service.kill()
        service.restart()
        for poll in polls:
            poll.result(60)
    assert set(clients.errors) == set(clients.task_ids) and all("restarted" in text for text in clients.errors.values())
    again = status(service, before)
    assert {key: again[key] for key in DONE_KEYS - {"timeline_plot_image"}} == \
           {key: done[key] for key in DONE_KEYS - {"timeline_plot_image"}}
    assert picture_of(again, "timeline_plot_image").size == (1600, 900)


def test_kill_at_any_moment(start, stages):
    """Whoever got an id gets an end: whatever was being written."""
    service = start(QUEUE_MAX=1000, **stages().env())
    dice = random.Random(int(os.environ["SEED"]))
    for _ in range(3):
        accepted, enough, killed = [], dice.randrange(1, 20), threading.Event()

        def send():
            with contextlib.suppress(OSError, http.client.HTTPException):
                while not killed.is_set():
                    accepted.append(accept(service))

        senders = [threading.Thread(target=send) for _ in range(3)]
        for sender in senders:
            sender.start()
        wait_for(lambda: len(accepted) >= enough, "tasks")
        service.kill()
        killed.set()
        for sender in senders:
            sender.join()
        service.restart()
        replies = [status(service, task) for task in accepted]
        assert all(reply["success"] or "restarted" in reply["error"] for reply in replies)
        assert all(picture_of(reply, "processed_image_data").size for reply in replies if reply["success"])


def test_another_instance_does_not_declare_it_lost(start, stages, gate, services, tmp_path):
    service = start(**stages(gate).env())
    task = accept(service)
    services.append(Service("preprocess-service", tmp_path, EVENTS_URL="none:"))
    other = services[-1].start()
    assert status(other, task) == PENDING
    gate.open.set()
    assert ended(other, task)["success"] is True


def test_sigterm(start, stages, gate):
    """What runs is finished, what waits fails with a reason; both are known afterwards."""
    service = start(**stages(gate).env())
    tasks = [accept(service) for _ in range(6)]
    for _ in range(4):
        assert gate.entered.acquire(timeout=60)
    service.process.send_signal(signal.SIGTERM)
    wait_for(lambda: "shutting down" in service.log(), "SIGTERM to be seen")
    gate.open.set()
    service.stop()
    service.restart()
    replies = [status(service, task) for task in tasks]
    assert [reply["success"] for reply in replies].count(True) == 4
    assert all("stopped" in reply["error"] for reply in replies if not reply["success"])


def test_storage_that_is_down(start, stages, gate, tmp_path):
    service = start(**stages(gate).env())
    task = accept(service)
    assert gate.entered.acquire(timeout=60)
    objects, away = tmp_path / "objects", tmp_path / "away"
    objects.rename(away)
    objects.write_text("in the way")
    gate.open.set()
    refused = post(service, "/process", {"image_data": b64(PNG)})
    assert refused.status == 503 and refused.headers["Retry-After"].isdigit()
    wait_for(lambda: service.get(f"/status/{task}").status == 503, "the status to be 503")
    objects.unlink()
    away.rename(objects)
    assert ended(service, task)["success"] is True
    service.settles("pipeline_tasks", 0)


# --- bounds ---------------------------------------------------------------------------------------


def test_tasks_are_bounded(start, stages, gate):
    service = start(QUEUE_MAX=5, **stages(gate).env())
    tasks = [accept(service) for _ in range(5)]
    for _ in range(3):
        reply = post(service, "/process", {"image_data": b64(PNG)})
        assert reply.status == 503 and reply.headers["Retry-After"].isdigit()
    assert service.metric("pipeline_tasks") == 5
    gate.open.set()
    assert all(ended(service, task)["success"] for task in tasks)
    service.settles("pipeline_tasks", 0)
    service.settles("body_bytes_in_flight", 0)
    assert ended(service, accept(service))["success"] is True


def test_a_worker_is_left_for_others(start, stages, tmp_path):
    """Four pictures are worked on at a time, but on three workers no more than two."""
    service = start(WORKERS=3, BACKGROUND_CONCURRENCY=3, BACKGROUND_MODEL=mask_model(tmp_path), **stages().env("CLASSIFIER_URL"))
    picture = encode(Image.effect_noise((1000, 700), 60).convert("RGB"), "JPEG")
    tasks = [accept(service, picture) for _ in range(8)]
    busy = set()
    while service.metric("pipeline_tasks") > 0:
        busy.add(service.metric("worker_busy"))
    assert max(busy) == 2
    assert all(status(service, task)["success"] for task in tasks)


def test_a_result_that_is_too_large_to_be_sent(start, stages):
    """Each stage's result is bounded, not only what comes in."""
    noise = Image.frombytes("RGB", (400, 300), os.urandom(360_000))
    service = start(MAX_BODY_BYTES=200_000, **stages().env("BACKGROUND_URL", "CLASSIFIER_URL"))
    reply = ended(service, accept(service, encode(noise, "JPEG", quality=50)))
    assert re.search(r"a picture of \d+ bytes came out, more than 200000", reply["error"])


def colours(svg):
    """Of the legend's squares, which are 16 pixels wide."""
    return re.findall(r'<path [^>]*?fill:(rgb\([^)]+\))[^>]*? d="M 1270 (?:[\d.]+) L 1286 ', svg)


def test_the_plot_has_the_last_32(start, stages, tmp_path):
    service = start(**stages().env())
    empty = service.get("/timeline.svg")
    assert empty.status == 200 and empty.headers["Content-Type"] == "image/svg+xml"
    assert not colours(empty.body.decode())
    for count in (31, 2):
        for task in [accept(service, name=f"{n}.png") for n in range(count)]:
            assert ended(service, task)["success"] is True
        drawn = colours(service.get("/timeline.svg").body.decode())
        assert len(drawn) == len(set(drawn)) == min(32, 31 if count == 31 else 33)
    png = service.get("/timeline.png")
    assert png.headers["Content-Type"] == "image/png"
    assert Image.open(io.BytesIO(png.body)).size == (1600, 900)


def test_cairo_is_loaded_when_it_is_needed(start):
    service = start()

    def maps():
        with open(f"/proc/{service.process.pid}/maps", encoding="utf-8") as file:
            return file.read()

    assert "libcairo" not in maps()
    assert service.get("/timeline.png").status == 200
    assert "libcairo" in maps()

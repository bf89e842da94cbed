"""Pub/Sub events, both ends of them: the real services on Google's own emulator, and a scripted stand-in for
what the emulator does not do (tokens, the metadata server, refusals)."""
import base64
import concurrent.futures
import contextlib
import hashlib
import http.client
import http.server
import json
import sys
import threading
import time
import uuid

import pytest

from conftest import ROOT, SLOW, Service, free_port, wait_for
from images import encode, gradient, numbered_jpeg
from test_settings import assert_refused, run

sys.path.insert(0, str(ROOT / "tests/servers"))
import pubsub_emulator  # noqa: E402
import servers  # noqa: E402

pytestmark = [pytest.mark.memory, pytest.mark.threads]

PROJECT = pubsub_emulator.PROJECT
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(scope="module", name="emulator")
def fixture_emulator(tmp_path_factory):
    try:
        server = pubsub_emulator.PubsubEmulator(tmp_path_factory.mktemp("emulator"))
    except servers.Unavailable as e:
        pytest.skip(f"PUB/SUB EMULATOR NOT TESTED: {e}")
    with server:
        yield server


def picture(n):
    return numbered_jpeg(n, encode(gradient()))


class Pipeline:
    """Both services with Pub/Sub between them, on topics of their own."""

    def __init__(self, emulator, folder):
        self.pubsub, self.name = emulator, "t" + uuid.uuid4().hex[:8]
        self.events, self.results, self.dead = (emulator.topic(f"{self.name}-{what}")
                                                for what in ("img-preprocessed", "img-classified", "img-dead"))
        self.watch_events = emulator.subscription(f"{self.name}-watch-events", self.events)
        self.watch_results = emulator.subscription(f"{self.name}-watch-results", self.results)
        self.watch_dead = emulator.subscription(f"{self.name}-watch-dead", self.dead)
        pubsub = {"PUBSUB_EMULATOR_HOST": emulator.place, "GOOGLE_CLOUD_PROJECT": PROJECT}
        self.classify = Service("classify-service", folder, **pubsub, CLASS_TOPIC=f"{self.name}-img-classified")
        self.preprocess = Service("preprocess-service", folder, **pubsub, PREP_TOPIC=f"{self.name}-img-preprocessed")
        self.subscribe(100)  # an attempt that nobody listens to counts: the most there can be

    def subscribe(self, attempts):
        self.push = self.pubsub.push(f"{self.name}-img-push", self.events, self.classify.url + "/pubsub",
                                     dead_letters=self.dead, attempts=attempts)

    def start(self):
        self.classify.start()
        self.preprocess.start()
        return self

    def upload(self, n, **headers):
        reply = self.preprocess.post_image("/preprocess", picture(n), **headers)
        assert reply.status == 200, reply
        return reply.json()

    def result(self, stored):
        def look():
            got = self.classify.get("/results/" + stored["id"])
            return got.status == 200 and got.json()
        return wait_for(look, f"the result of {stored['id']}")

    def pulled(self, subscription, count):
        """At least `count` messages, once they are there."""
        found = []
        wait_for(lambda: found.extend(self.pubsub.pull(subscription)) or len(found) >= count,
                 f"{count} messages in {subscription}", 30)
        return found

    def end(self):
        if self.push:
            self.pubsub.delete(self.push)
        for name in (self.watch_events, self.watch_results, self.watch_dead, self.events, self.results, self.dead):
            self.pubsub.delete(name)


@pytest.fixture(name="pipeline")
def fixture_pipeline(emulator, tmp_path, services):
    made = Pipeline(emulator, tmp_path)
    services += [made.preprocess, made.classify]
    yield made.start()
    made.end()


# --- on the emulator ------------------------------------------------------------------------------


def test_main_job(pipeline):
    """Upload, publish, push, label, store, publish again: each with what the contract says is in it."""
    stored = pipeline.upload(1, traceparent=TRACE)
    result = pipeline.result(stored)
    [event] = pipeline.pulled(pipeline.watch_events, 1)
    assert event.json() == {"gcs_path": stored["gcs_path"], "id": stored["id"]}
    assert event.message_id == stored["message_id"] != ""
    assert uuid.UUID(event.attributes.pop("event_id")).version == 4
    assert event.attributes.pop("traceparent")[:35] == TRACE[:35]
    assert event.attributes == {"origin": "preprocess-service", "content_type": "image/jpeg"}
    [message] = pipeline.pulled(pipeline.watch_results, 1)
    assert message.json() == {"gcs_path": stored["gcs_path"], "label": result["label"],
                              "confidence": pytest.approx(result["confidence"])}
    assert message.attributes.pop("traceparent")[:35] == TRACE[:35]
    assert message.attributes == {"origin": "classify-service", "event_id": event_id_of(result)}
    assert pipeline.preprocess.metric('events_total{outcome="published"}') == 1
    pipeline.classify.settles('events_total{outcome="published"}', 1)  # counted when Pub/Sub has answered
    assert pipeline.preprocess.metric('stage_duration_seconds_count{stage="publish"}') == 1


def event_id_of(result):
    text = "\n".join((result["gcs_path"], result["source_etag"], result["model_sha256"]))
    return hashlib.sha256(text.encode()).hexdigest()


def test_uploads_together(pipeline):
    """Many at once: every one has an event, a message id of its own, and one result."""
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        stored = list(pool.map(pipeline.upload, range(60)))
    events = pipeline.pulled(pipeline.watch_events, len(stored))
    assert {e.message_id: e.json()["id"] for e in events} == {s["message_id"]: s["id"] for s in stored}
    assert len({e.attributes["event_id"] for e in events}) == len(stored)
    expected = {event_id_of(pipeline.result(s)) for s in stored}
    found = set()
    wait_for(lambda: found.update(m.attributes["event_id"] for m in pipeline.pubsub.pull(pipeline.watch_results)) or
             found == expected, "every result's message", 30)


def test_duplicates(pipeline):
    """The same event again: the stored bytes stay, the message goes out again under the same event_id."""
    stored = pipeline.upload(2)
    result = pipeline.result(stored)
    first = pipeline.pulled(pipeline.watch_results, 1)
    data = json.dumps({"gcs_path": stored["gcs_path"], "id": stored["id"]}).encode()
    for _ in range(3):
        pipeline.pubsub.publish(pipeline.events, data, origin="preprocess-service")
    again = pipeline.pulled(pipeline.watch_results, 3)
    assert {m.attributes["event_id"] for m in first + again} == {event_id_of(result)}
    assert {m.data for m in first + again} == {first[0].data}
    assert pipeline.result(stored) == result  # classified_at and all


def test_poison_becomes_a_dead_letter(pipeline):
    """What is nonsense is refused until Pub/Sub buries it, and holds up nothing else."""
    pipeline.pubsub.delete(pipeline.push)
    pipeline.subscribe(5)
    pipeline.pubsub.publish(pipeline.events, b"this is not JSON", origin="elsewhere")
    stored = [pipeline.upload(n) for n in range(3)]
    [dead] = pipeline.pulled(pipeline.watch_dead, 1)
    assert dead.data == b"this is not JSON"
    assert dead.attributes["origin"] == "elsewhere"
    for reply in stored:
        pipeline.result(reply)
    wait_for(lambda: sum(line.get("status") == 400 for line in pipeline.classify.log_lines()) >= 5, "the log of five refusals")


def test_impossible_is_acknowledged(pipeline):
    """An object that is gone is settled at once: recorded, no dead letter, no result to announce."""
    gone = f"file://{pipeline.preprocess.folder}/objects/{'0' * 64}.jpg"
    pipeline.pubsub.publish(pipeline.events, json.dumps({"gcs_path": gone}).encode())
    wait_for(lambda: pipeline.classify.metric('events_total{outcome="rejected"}') == 1, "the rejection")
    pipeline.result(pipeline.upload(4))
    assert len(pipeline.pulled(pipeline.watch_results, 1)) == 1
    assert pipeline.pubsub.pull(pipeline.watch_dead) == []
    assert pipeline.classify.metric('events_total{outcome="rejected"}') == 1


def test_own_results_make_no_loop(pipeline):
    """CLASS_TOPIC pushed to /pubsub, by mistake: ignored."""
    loop = pipeline.pubsub.push(f"{pipeline.name}-loop", pipeline.results, pipeline.classify.url + "/pubsub")
    pipeline.result(pipeline.upload(5))
    wait_for(lambda: pipeline.classify.metric('events_total{outcome="ignored"}') == 1, "the message to be ignored")
    pipeline.pubsub.delete(loop)
    pipeline.classify.settles('events_total{outcome="published"}', 1)


def deliver(pipeline, events):
    """What a push subscription does with them, once: the events that were not acknowledged."""
    def acknowledged(event):
        message = {"data": base64.b64encode(event.data).decode(), "attributes": event.attributes,
                   "messageId": event.message_id}
        with contextlib.suppress(OSError, http.client.HTTPException):
            return pipeline.classify.request("POST", "/pubsub", json.dumps(
                {"message": message, "subscription": "projects/p/subscriptions/img-push"})).status == 200
        return False
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return [event for event, done in zip(events, pool.map(acknowledged, events)) if not done]


def test_classify_is_killed(pipeline):
    """At any time: every object ends with one result, and at least one message about it. (The emulator itself
    backs off for minutes when its deliveries break, so they are made here.)"""
    pipeline.pubsub.delete(pipeline.push)
    pipeline.push = None
    stored = [pipeline.upload(n) for n in range(10, 30)]
    left = pipeline.pulled(pipeline.watch_events, len(stored))
    kills = 0
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        while left:
            before = pipeline.classify.metric('events_total{outcome="published"}')
            delivery = pool.submit(deliver, pipeline, left)
            if kills < 3:
                wait_for(lambda: pipeline.classify.metric('events_total{outcome="published"}') > before or delivery.done(),
                         "a result")
                pipeline.classify.kill()
                kills += 1
            left = delivery.result()
            if pipeline.classify.process is None:
                pipeline.classify.restart()
    assert kills >= 1
    found = [m.attributes["event_id"] for m in pipeline.pulled(pipeline.watch_results, len(stored))]
    wait_for(lambda: found.extend(m.attributes["event_id"] for m in pipeline.pubsub.pull(pipeline.watch_results)) or
             len(set(found)) >= len(stored), "every result's message")
    assert set(found) == {event_id_of(pipeline.result(s)) for s in stored}


def test_missing_topic(emulator, tmp_path, services):
    """503 and the object is kept; once the topic is there, the repeat is answered. The log tells the operator."""
    name = "t" + uuid.uuid4().hex[:8]
    env = {"PUBSUB_EMULATOR_HOST": emulator.place, "EVENTS_URL": f"pubsub://projects/{PROJECT}/topics/{name}"}
    services.append(Service("preprocess-service", tmp_path, **env))
    service = services[0].start()
    reply = service.upload(picture(1))
    assert reply.status == 503 and reply.headers["Retry-After"], reply
    assert "topic" not in reply.json()["detail"]
    assert any(f"no topic projects/{PROJECT}/topics/{name}" in line for line in service.log().splitlines())
    assert len(list((tmp_path / "objects").glob("*.jpg"))) == 1
    emulator.topic(name)
    assert service.upload(picture(1)).status == 200
    assert len(list((tmp_path / "objects").glob("*.jpg"))) == 1


# --- scripted: Google's side of the token, the project and the refusals ---------------------------


class Google(http.server.ThreadingHTTPServer):
    """The metadata server and Pub/Sub in one. `script`: what the next publishes are answered, as status codes;
    "lost" takes the messages and hangs up. What is not in the script is 200."""
    daemon_threads = True
    request_queue_size = 256

    def __init__(self):
        super().__init__(("127.0.0.1", 0), GoogleHandler)
        self.lock, self.held = threading.Lock(), threading.Lock()
        self.script, self.calls, self.messages = [], [], []
        self.tokens, self.project = 0, "project-of-metadata"
        self.delay_s = 0.0
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def host(self):
        return f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        pass


class GoogleHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body, **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        google = self.server
        assert self.headers["Metadata-Flavor"] == "Google"
        if self.path == "/computeMetadata/v1/project/project-id" and google.project:
            self.answer(200, google.project.encode(), Metadata_Flavor="Google")
        elif self.path.startswith("/computeMetadata/v1/instance/service-accounts/default/token"):
            with google.lock:
                google.tokens += 1
                token = f"token-{google.tokens}"
            self.answer(200, {"access_token": token, "expires_in": 3599, "token_type": "Bearer"},
                        Metadata_Flavor="Google")
        else:
            self.answer(404, b"", Metadata_Flavor="Google")

    def do_POST(self):
        google = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(google.delay_s)
        with google.held, google.lock:
            google.calls.append((self.path, self.headers.get("Authorization"), body["messages"]))
            step = google.script.pop(0) if google.script else 200
            if step in (200, "lost"):
                first = len(google.messages)
                google.messages += body["messages"]
        if step == "lost":
            self.close_connection = True
            return
        if step == 200:
            self.answer(200, {"messageIds": [f"m{first + i}" for i in range(len(body["messages"]))]})
        else:
            self.answer(step, {"error": {"code": step, "status": "SCRIPTED", "message": "secret detail"}})


@pytest.fixture(name="google")
def fixture_google():
    server = Google()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(name="scripted")
def fixture_scripted(google, tmp_path, services):
    services.append(Service("preprocess-service", tmp_path, PREP_TOPIC="img-preprocessed",
                            PUBSUB_ENDPOINT=f"http://{google.host}", GCE_METADATA_HOST=google.host))
    return services[0].start()


def test_project_and_token_of_the_metadata_server(google, scripted):
    for n in range(3):
        assert scripted.upload(picture(n)).json()["message_id"] == f"m{n}"
    assert {(path, token) for path, token, _ in google.calls} == {
        ("/v1/projects/project-of-metadata/topics/img-preprocessed:publish", "Bearer token-1")}
    assert google.tokens == 1
    assert "token-1" not in scripted.log()


def test_refused_token_is_replaced_once(google, scripted):
    google.script = [401]
    assert scripted.upload(picture(1)).status == 200
    assert [token for _, token, _ in google.calls] == ["Bearer token-1", "Bearer token-2"]
    google.script = [401] * 10
    assert scripted.upload(picture(2)).status == 503
    assert len(google.calls) == 4
    assert "refuses our credentials" in scripted.log()


@pytest.mark.parametrize("status, words", [(403, "roles/pubsub.publisher"), (404, "create it"), (400, "400 SCRIPTED")])
def test_refusals_are_not_repeated(google, scripted, status, words):
    google.script = [status] * 10
    reply = scripted.upload(picture(1))
    assert reply.status == 503 and reply.headers["Retry-After"]
    assert "SCRIPTED" not in reply.body.decode() and "pubsub" not in reply.body.decode()
    assert len(google.calls) == 1
    assert words in scripted.log() and "secret detail" not in scripted.log()


def test_passing_faults_are_tried_again(google, scripted):
    google.script = [503, 429, "lost", 500]
    reply = scripted.upload(picture(1))
    assert reply.status == 200, reply
    assert len(google.calls) >= 5
    sent = {json.dumps(messages, sort_keys=True) for _, _, messages in google.calls}
    assert len(sent) == 1  # the same event_id every time
    assert len(google.messages) >= 2  # the lost one was taken, too


def test_fault_that_does_not_pass(google, scripted, tmp_path):
    google.script = [503] * 100
    reply = scripted.upload(picture(1))
    assert reply.status == 503 and reply.headers["Retry-After"], reply
    assert 2 <= len(google.calls) <= 10
    assert len(list((tmp_path / "objects").glob("*.jpg"))) == 1
    google.script = []
    assert scripted.upload(picture(1)).status == 200


def test_deadline(google, tmp_path, services, measurement):
    """A Pub/Sub that answers nothing: 503 at the request's deadline, not at some other time."""
    services.append(Service("preprocess-service", tmp_path, PREP_TOPIC="img-preprocessed", REQUEST_TIMEOUT_MS="1500",
                            PUBSUB_ENDPOINT=f"http://{google.host}", GCE_METADATA_HOST=google.host))
    service = services[0].start()
    google.delay_s = 60.0
    started = time.monotonic()
    reply = service.upload(picture(1))
    assert reply.status == 503, reply
    took = time.monotonic() - started
    assert 1.0 < took
    measurement.must(took < 4.0 * SLOW, f"refused after {took:.1f} s")


def test_concurrent_uploads_share_calls(google, scripted):
    stored = 'stage_duration_seconds_count{stage="store"}'
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        with google.held:  # no call is answered until most uploads wait for one
            replies = [pool.submit(scripted.upload, picture(n)) for n in range(40)]
            wait_for(lambda: scripted.metric(stored) >= 30, "uploads that wait for Pub/Sub")
        replies = [r.result() for r in replies]
    assert {r.status for r in replies} == {200}
    told = {r.json()["message_id"]: r.json()["id"] for r in replies}
    taken = {f"m{i}": json.loads(base64.b64decode(m["data"]))["id"] for i, m in enumerate(google.messages)}
    assert told == taken and len(taken) == 40  # nobody got another one's id
    assert len(google.calls) < 40


def test_sigterm_while_publishing(google, scripted):
    """What was accepted is finished, or answered 503: never a 200 without a message."""
    google.delay_s = 0.5
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        replies = [pool.submit(scripted.upload, picture(n)) for n in range(8)]
        wait_for(lambda: google.calls or
                 scripted.metric('stage_duration_seconds_count{stage="store"}') >= 4, "uploads to be stored")
        scripted.stop()
        statuses = [r.result().status for r in replies]
    assert set(statuses) <= {200, 503} and 200 in statuses
    assert statuses.count(200) <= len(google.messages)


def test_results_must_be_announced(google, tmp_path, services):
    """classify: CLASS_TOPIC out of order is a 503, so that the event comes again; the result is kept."""
    env = {"PUBSUB_ENDPOINT": f"http://{google.host}", "GCE_METADATA_HOST": google.host}
    services += [Service("preprocess-service", tmp_path, EVENTS_URL="none:"),
                 Service("classify-service", tmp_path, CLASS_TOPIC="img-classified", **env)]
    preprocess, classify = (s.start() for s in services)
    stored = preprocess.upload(picture(1)).json()
    data = base64.b64encode(json.dumps({"gcs_path": stored["gcs_path"]}).encode()).decode()
    push = json.dumps({"message": {"data": data, "messageId": "1"}, "subscription": "s"})
    google.script = [404]
    assert classify.request("POST", "/pubsub", push).status == 503
    assert "CLASS_TOPIC" in classify.log() and "create it" in classify.log()
    kept = classify.get("/results/" + stored["id"]).json()
    reply = classify.request("POST", "/pubsub", push)
    assert reply.status == 200 and reply.json()["status"] == "ok"
    assert classify.get("/results/" + stored["id"]).json() == kept
    [message] = google.messages
    assert message["attributes"]["event_id"] == event_id_of(kept)
    assert google.calls[-1][0] == "/v1/projects/project-of-metadata/topics/img-classified:publish"


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, topic", [("preprocess-service", "PREP_TOPIC"), ("classify-service", "CLASS_TOPIC")])
def test_unknown_project(name, topic, google, tmp_path):
    """Said at start, by name; a full name or GOOGLE_CLOUD_PROJECT does without."""
    google.project = ""
    told = assert_refused(run(name, tmp_path, GCE_METADATA_HOST=google.host, **{topic: "img-topic"}),
                          topic, "GOOGLE_CLOUD_PROJECT", "img-topic")
    assert google.host in told
    google.project = "Not a project!"
    assert_refused(run(name, tmp_path, GCE_METADATA_HOST=google.host, **{topic: "img-topic"}), "names no project")
    assert_refused(run(name, tmp_path, GCE_METADATA_HOST=f"127.0.0.1:{free_port()}", **{topic: "img-topic"}),
                   "GOOGLE_CLOUD_PROJECT", "refused")


@pytest.mark.parametrize("env", [{"PREP_TOPIC": "projects/some/topics/img-topic"},
                                 {"PREP_TOPIC": "img-topic", "GOOGLE_CLOUD_PROJECT": "some"},
                                 {"EVENTS_URL": "pubsub://projects/some/topics/img-topic", "PREP_TOPIC": "img-topic"}])
def test_known_project(env, google, tmp_path, services):
    google.project = ""
    services.append(Service("preprocess-service", tmp_path, **env, PUBSUB_ENDPOINT=f"http://{google.host}/",
                            GCE_METADATA_HOST=google.host))
    assert services[0].start().upload(picture(1)).status == 200
    assert google.calls[0][0] == "/v1/projects/some/topics/img-topic:publish"


def test_cloud_run_accepts_pubsub(google, tmp_path, services):
    services.append(Service("preprocess-service", tmp_path, K_SERVICE="x", PREP_TOPIC="img-topic", CATALOGUE_URL="",
                            STORAGE_URL="gs://bucket", PUBSUB_ENDPOINT=f"http://{google.host}",
                            GCE_METADATA_HOST=google.host))
    assert services[0].start().get("/healthz").status == 200

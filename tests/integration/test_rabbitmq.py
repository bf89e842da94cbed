"""RabbitMQ, Debian's own: what is published to it, what is taken from it, and what happens when it dies."""
import concurrent.futures
import http.server
import json
import pathlib
import subprocess
import sys
import threading
import time

import pytest
from PIL import Image

import store_servers
from broker import DEAD, IMAGES, channel, count, new_broker, pika, send, take_all
from conftest import SLOW, Service, wait_for
from fault_world import s3_server
from images import coloured_jpeg, encode
from models import tiny_model
from proxy import HOLE, PASS, Proxy

pytestmark = [pytest.mark.threads, pytest.mark.memory]


@pytest.fixture(name="certificate", scope="module")
def fixture_certificate(tmp_path_factory):
    """Of localhost, by itself: (CA, certificate, key)."""
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost", "-keyout", folder / "key.pem", "-out",
                    folder / "certificate.pem"], check=True, capture_output=True)
    return folder / "certificate.pem", folder / "certificate.pem", folder / "key.pem"


@pytest.fixture(name="shared_broker", scope="module")
def fixture_shared_broker(tmp_path_factory, certificate):
    """To start one takes longer than most tests."""
    broker = new_broker(tmp_path_factory.mktemp("broker"), tls=certificate)
    try:
        yield broker.start()
    finally:
        broker.stop()


@pytest.fixture(name="broker")
def fixture_broker(shared_broker):
    """With a vhost of the test's own."""
    shared_broker.begin_anew()
    return shared_broker


@pytest.fixture(name="mortal_broker")
def fixture_mortal_broker(tmp_path):
    """The test's own, which it may kill."""
    broker = new_broker(tmp_path / "broker")
    try:
        yield broker.start()
    finally:
        broker.stop()


@pytest.fixture(name="upload_to")
def fixture_upload_to(tmp_path, services):
    """upload_to(url, SETTING=…): preprocess-service with its events there."""
    def start(url, **env):
        services.append(Service("preprocess-service", tmp_path, EVENTS_URL=url, **env))
        return services[-1].start()
    return start


@pytest.fixture(name="label_from")
def fixture_label_from(tmp_path, services):
    """label_from(url, SETTING=…): classify-service that takes its events there."""
    def start(url, **env):
        services.append(Service("classify-service", tmp_path, SOURCE_URL=url, **{"MODEL": tiny_model(tmp_path)} | env))
        return services[-1].start()
    return start


def upload(preprocess, number):
    """A picture of its own."""
    return preprocess.upload(coloured_jpeg(number))


def upload_until_taken(preprocess, number):
    """As a client does that repeats what is refused with Retry-After."""
    def attempt():
        try:
            reply = upload(preprocess, number)
        except OSError:
            return None
        if reply.status == 200:
            return reply.json()
        assert reply.status == 503 and reply.headers["Retry-After"], reply
        return None
    return wait_for(attempt, f"upload {number} to be taken", 120)


# --- publishing


def test_an_event_is_on_the_broker_before_the_reply(broker, upload_to):
    preprocess = upload_to(broker.url)
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    reply = preprocess.post_image("/preprocess", coloured_jpeg(1), traceparent=trace).json()
    (properties, body), = take_all(broker, IMAGES, 1)
    assert json.loads(body) == {"gcs_path": reply["gcs_path"], "id": reply["id"]}
    assert properties.message_id == reply["message_id"] == properties.headers["event_id"]
    assert properties.headers["origin"] == "preprocess-service"
    assert properties.headers["content_type"] == "image/jpeg"
    assert properties.headers["traceparent"][3:35] == "a" * 32
    assert properties.delivery_mode == 2 and properties.content_type == "application/json"
    assert broker.password not in preprocess.log()


@pytest.mark.long
def test_a_broker_that_is_away_is_503_until_it_is_back(mortal_broker, upload_to):
    preprocess = upload_to(mortal_broker.url)
    assert upload(preprocess, 1).status == 200
    mortal_broker.kill()
    reply = upload(preprocess, 2)
    assert reply.status == 503 and reply.headers["Retry-After"], reply
    assert preprocess.get("/healthz").status == 200
    mortal_broker.start()
    wait_for(lambda: upload(preprocess, 2).status == 200, "uploads to be taken again")
    assert len({p.message_id for p, _ in take_all(mortal_broker, IMAGES, 2)}) >= 2


@pytest.mark.long
def test_kill_9_of_the_broker_while_uploading_loses_nothing(mortal_broker, upload_to):
    preprocess = upload_to(mortal_broker.url)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        uploads = [pool.submit(upload_until_taken, preprocess, n) for n in range(200)]
        for _ in range(2):
            done = sum(u.done() for u in uploads)
            wait_for(lambda done=done: sum(u.done() for u in uploads) >= min(done + 40, 200), "some uploads")
            mortal_broker.kill()
            mortal_broker.start()
        taken = {u.result()["gcs_path"] for u in uploads}
    assert len(taken) == 200
    announced = {json.loads(body)["gcs_path"] for _, body in take_all(mortal_broker, IMAGES, 200)}
    assert announced == taken


def test_a_network_that_swallows_everything_is_503_in_time(broker, upload_to):
    proxy = Proxy(broker.port)
    preprocess = upload_to(broker.url_at(proxy.port) + "?heartbeat=1", REQUEST_TIMEOUT_MS=int(2000 * SLOW))
    upload_until_taken(preprocess, 1)  # a busy machine misses these times without a hole
    proxy.mood = HOLE
    reply = upload(preprocess, 2)
    assert reply.status == 503 and reply.headers["Retry-After"], reply
    proxy.mood = PASS
    wait_for(lambda: upload(preprocess, 2).status == 200, "uploads to be taken again")
    proxy.close()


def test_a_message_without_a_queue_is_no_success(broker, upload_to):
    preprocess = upload_to(broker.url)
    assert upload(preprocess, 1).status == 200
    with channel(broker) as ch:
        ch.queue_unbind(IMAGES, IMAGES, IMAGES)
    assert upload(preprocess, 2).status == 503
    assert "bind darkroom.images again" in preprocess.log()
    assert preprocess.metric('broker_messages_total{outcome="returned"}') == 1


def test_a_full_queue_is_no_success(broker, upload_to):
    with channel(broker) as ch:
        ch.exchange_declare(IMAGES, "direct", durable=True)
        ch.queue_declare("small", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        ch.queue_bind("small", IMAGES, IMAGES)
    preprocess = upload_to(broker.url)
    assert upload(preprocess, 1).status == 200
    assert upload(preprocess, 2).status == 503
    assert preprocess.metric('broker_messages_total{outcome="refused"}') == 1


def test_a_queue_of_another_kind_is_named(broker, upload_to):
    with channel(broker) as ch:
        ch.queue_declare(IMAGES, durable=True)
    preprocess = upload_to(broker.url)
    assert upload(preprocess, 1).status == 503
    assert "PRECONDITION_FAILED" in preprocess.log() and "use another vhost" in preprocess.log()


@pytest.mark.long
def test_an_alarm_of_the_broker_is_503_in_time(mortal_broker, upload_to):
    preprocess = upload_to(mortal_broker.url)
    taken = [upload_until_taken(preprocess, 0)]
    mortal_broker.alarm()

    def refused():  # the broker takes what comes first, and then says so
        reply = upload(preprocess, len(taken))
        if reply.status == 200:
            taken.append(reply.json())
        return reply if reply.status != 200 else None
    replies = [wait_for(refused, "the alarm to be noticed")]
    began = time.monotonic()
    replies.append(refused())
    assert time.monotonic() - began < 10 * SLOW  # not its whole deadline, which is 30 s
    for reply in replies:
        assert reply.status == 503 and reply.headers["Retry-After"], reply
    assert "low on memory" in preprocess.log()
    mortal_broker.alarm(False)
    taken += [upload_until_taken(preprocess, number) for number in (100, 101)]
    announced = {json.loads(body)["gcs_path"] for _, body in take_all(mortal_broker, IMAGES, len(taken))}
    assert {reply["gcs_path"] for reply in taken} <= announced
    assert preprocess.metric('broker_messages_total{outcome="connected"}') == 1
    mortal_broker.alarm()
    wait_for(refused, "the second alarm to be noticed")
    preprocess.stop(timeout=9)


def test_tls_is_verified(broker, upload_to, certificate):
    preprocess = upload_to(broker.tls_url, CA_FILE=certificate[0])
    assert upload(preprocess, 1).status == 200
    stranger = upload_to(broker.tls_url)
    assert upload(stranger, 2).status == 503
    assert "its certificate is refused" in stranger.log() and "CA_FILE" in stranger.log()
    wrong_name = upload_to(broker.tls_url.replace("localhost", "127.0.0.1"), CA_FILE=certificate[0])
    assert upload(wrong_name, 3).status == 503
    assert "its certificate is refused" in wrong_name.log() and broker.password not in wrong_name.log()


# --- consuming


def result_path(reply):
    return pathlib.Path(reply["gcs_path"].removeprefix("file://") + ".json")


def labelled(replies):
    """Those whose result is stored."""
    return [reply for reply in replies if result_path(reply).exists()]


def upload_many(preprocess, number):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return [reply.json() for reply in pool.map(lambda n: upload(preprocess, n), range(number))]


def is_empty(broker, queue=IMAGES):
    return count(broker, queue) == 0


@pytest.mark.idle
@pytest.mark.measures_time
def test_a_result_is_stored_and_its_message_acknowledged(broker, upload_to, label_from, certificate, measurement):
    preprocess = upload_to(broker.url)
    classify = label_from(broker.tls_url, CA_FILE=certificate[0])
    upload(preprocess, 0)
    reply = upload(preprocess, 1).json()
    taken = time.monotonic()
    wait_for(lambda: preprocess.get(f"/v1/images/{reply['id']}").json()["label"], "the label in the catalogue")
    late = time.monotonic() - taken
    stored = json.loads(result_path(reply).read_text())
    assert stored["label"] and stored["gcs_path"] == reply["gcs_path"]
    classify.settles('events_total{outcome="classified"}', 2)
    assert classify.metric('broker_messages_total{outcome="consumed"}') == 2
    assert classify.metric('broker_messages_total{outcome="redelivered"}') == 0
    classify.stop()
    assert is_empty(broker) and is_empty(broker, DEAD)
    assert broker.password not in classify.log()
    measurement.must(late < SLOW, f"the label came after {late:.2f} s")


def test_kill_9_in_the_middle_of_the_work(broker, upload_to, label_from):
    replies = upload_many(upload_to(broker.url), 150)
    classify = label_from(broker.url, WORKERS=1)
    wait_for(lambda: len(labelled(replies)) >= 5, "some results")
    classify.kill()
    done = {result_path(reply): result_path(reply).stat().st_mtime_ns for reply in labelled(replies)}
    assert len(done) < 150
    classify.restart()
    wait_for(lambda: len(labelled(replies)) == 150, "all results")
    wait_for(lambda: is_empty(broker), "nothing to wait")
    assert classify.metric('broker_messages_total{outcome="redelivered"}') >= 1
    assert {path: path.stat().st_mtime_ns for path in done} == done
    classify.stop()
    assert is_empty(broker) and is_empty(broker, DEAD)


@pytest.mark.long
def test_kill_9_of_the_broker_while_labelling(mortal_broker, upload_to, label_from):
    preprocess, classify = upload_to(mortal_broker.url), label_from(mortal_broker.url)
    wait_for(lambda: is_empty(mortal_broker), "the queue")
    mortal_broker.wait_until_written()
    killed = threading.Event()

    def upload_around_it(number):
        assert number < 70 or killed.wait(60 * SLOW), "not killed"
        return upload_until_taken(preprocess, number)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        uploads = [pool.submit(upload_around_it, n) for n in range(100)]
        wait_for(lambda: sum(u.done() for u in uploads) >= 30, "some uploads")
        mortal_broker.kill()
        killed.set()
        mortal_broker.start()
        replies = [u.result() for u in uploads]
    wait_for(lambda: len(labelled(replies)) == 100, "all results")
    wait_for(lambda: "RabbitMQ is back" in classify.log(), "the consumer to be back")
    wait_for(lambda: is_empty(mortal_broker), "nothing to wait")
    classify.stop()
    assert is_empty(mortal_broker) and is_empty(mortal_broker, DEAD)


def test_what_is_finished_at_sigterm_is_not_delivered_again(broker, upload_to, label_from):
    replies = upload_many(upload_to(broker.url), 80)
    classify = label_from(broker.url, WORKERS=2)
    wait_for(lambda: len(labelled(replies)) >= 5, "some results")
    classify.stop()
    done = len(labelled(replies))
    assert done < 80
    wait_for(lambda: count(broker, IMAGES) == 80 - done, "the others to wait again")


def test_no_message_is_taken_after_sigterm(broker, upload_to, label_from):
    preprocess, classify = upload_to(broker.url), label_from(broker.url, SHUTDOWN_NOTICE_MS=3000)
    wait_for(lambda: is_empty(broker), "the queue")
    classify.process.terminate()
    wait_for(lambda: classify.get("/readyz").status == 503, "it to leave")
    replies = upload_many(preprocess, 5)
    assert classify.process.wait(60 * SLOW) == 0
    classify.process = None
    assert not labelled(replies) and count(broker, IMAGES) == 5


def test_what_can_never_be_labelled_is_a_dead_letter(broker, label_from, tmp_path):
    classify = label_from(broker.url)
    wait_for(lambda: is_empty(broker), "the queue")
    (tmp_path / "objects/no.jpg").write_bytes(b"no picture")
    bad = {
        b"": "it names no object",
        b"no JSON": "not a JSON object",
        b"[" * 100000: "too many JSON values",
        b'{"x": 1}': "no gcs_path",
        b'{"gcs_path": "gs://elsewhere/x.jpg"}': "outside this service's storage",
        json.dumps({"gcs_path": f"file://{tmp_path}/objects/none.jpg"}).encode(): "",
        json.dumps({"gcs_path": f"file://{tmp_path}/objects/no.jpg"}).encode(): "",
    }
    for number, body in enumerate(bad):
        send(broker, IMAGES, body, message_id=str(number), headers={"kept": "as it is", "reason": "an older one"})
    dead = {properties.message_id: (properties, body) for properties, body in take_all(broker, DEAD, len(bad))}
    for number, (body, reason) in enumerate(bad.items()):
        properties, got = dead[str(number)]
        assert got == body and properties.headers["kept"] == "as it is"
        assert reason in properties.headers["reason"] and properties.headers["reason"] != "an older one"
    send(broker, IMAGES, b"x" * (1024 * 1024 + 1))
    (properties, body), = take_all(broker, DEAD, 1)
    assert len(body) == 1024 * 1024 + 1 and properties.headers["x-death"][0]["reason"] == "rejected"
    classify.settles('broker_messages_total{outcome="dead_lettered"}', len(bad) + 1)
    assert is_empty(broker)


def test_headers_as_deep_as_a_frame_allows(broker, label_from):
    classify = label_from(broker.url)
    wait_for(lambda: is_empty(broker), "the queue")
    deep = []
    for _ in range(25000):  # five bytes each
        deep = [deep]
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(200000)  # pika encodes them by recursion
    try:
        send(broker, IMAGES, b"no JSON", headers={"deep": deep, "kept": "as it is"})
    finally:
        sys.setrecursionlimit(limit)
    (properties, _), = take_all(broker, DEAD, 1)
    assert properties.headers["kept"] == "as it is" and "deep" not in properties.headers
    assert classify.metric('broker_messages_total{outcome="redelivered"}') == 0


def test_a_message_that_kills_its_consumers_is_a_dead_letter(broker, upload_to):
    reply = upload(upload_to(broker.url), 1).json()
    for _ in range(21):
        with channel(broker) as ch:
            wait_for(lambda ch=ch: ch.basic_get(IMAGES)[0], "the message again")
    (properties, body), = take_all(broker, DEAD, 1)
    assert json.loads(body)["gcs_path"] == reply["gcs_path"]
    assert properties.headers["x-death"][0]["reason"] == "delivery_limit"


def test_messages_wait_while_storage_is_down(broker, upload_to, label_from):
    name = s3_server()
    if name is None:
        pytest.skip("STORAGE THAT IS DOWN NOT TESTED WITH RABBITMQ: no S3 server at hand")
    running = store_servers.server(name)
    storage = Proxy(running.port)
    preprocess = upload_to(broker.url, **store_servers.s3_env(running))
    classify = label_from(broker.url, **store_servers.s3_env(running) | {
        "S3_ENDPOINT": storage.endpoint, "REQUEST_TIMEOUT_MS": int(1000 * SLOW)})
    storage.mood = HOLE
    replies = upload_many(preprocess, 5)
    wait_for(lambda: classify.metric('broker_messages_total{outcome="given_back"}') >= 2, "others to get their turn")
    assert classify.metric('events_total{outcome="classified"}') == 0 and is_empty(broker, DEAD)
    storage.mood = PASS
    for reply in replies:
        wait_for(lambda reply=reply: classify.get("/results/" + reply["id"]).status == 200, "the result")
    classify.stop()
    assert is_empty(broker) and is_empty(broker, DEAD)
    storage.close()


def test_a_network_that_swallows_what_is_acknowledged(broker, upload_to, label_from):
    preprocess, proxy = upload_to(broker.url), Proxy(broker.port)
    classify = label_from(broker.url_at(proxy.port) + "?heartbeat=1")
    replies = upload_many(preprocess, 10)
    wait_for(lambda: labelled(replies), "a result")
    proxy.mood = HOLE
    replies += [upload(preprocess, number).json() for number in range(10, 20)]
    wait_for(lambda: "no connection to RabbitMQ" in classify.log(), "the silence to be noticed")
    proxy.mood = PASS
    wait_for(lambda: len(labelled(replies)) == 20, "all results")
    wait_for(lambda: is_empty(broker), "nothing to wait")
    classify.stop()
    assert is_empty(broker) and is_empty(broker, DEAD)
    proxy.close()


def test_reply_to_is_answered_with_its_correlation_id(broker, upload_to, label_from):
    preprocess, classify = upload_to(broker.url), label_from(broker.url)
    uri = upload(preprocess, 1).json()["gcs_path"]
    with channel(broker) as ch:
        mine = ch.queue_declare("", exclusive=True).method.queue
        for number, body in enumerate(({"gcs_path": uri}, {"gcs_path": uri + ".json"}, {"x": 1})):
            send(broker, IMAGES, json.dumps(body).encode(), reply_to=mine, correlation_id=f"c{number}")
        send(broker, IMAGES, json.dumps({"gcs_path": uri}).encode(), reply_to="a queue that is gone")
        answers = {}

        def look():
            method, properties, body = ch.basic_get(mine, auto_ack=True)
            if method:
                answers[properties.correlation_id] = json.loads(body)
            return len(answers) == 3
        wait_for(look, "three answers")
    stored = json.loads(pathlib.Path(uri.removeprefix("file://") + ".json").read_text())
    assert answers["c0"] == {"status": "ok", "label": stored["label"], "confidence": stored["confidence"]}
    assert answers["c1"] == {"status": "ignored"}
    assert answers["c2"]["status"] == "rejected" and "no gcs_path" in answers["c2"]["detail"]
    wait_for(lambda: classify.metric('broker_messages_total{outcome="answered"}') == 4, "the fourth answer")
    wait_for(lambda: is_empty(broker), "nothing to wait")


def test_a_reply_does_not_tell_what_failed_inside(broker, label_from, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("QUFB" * 10 + "QUE=\n")
    keys.chmod(0o600)
    classify = label_from(broker.url, SEAL_KEYS_FILE=keys)
    wait_for(lambda: is_empty(broker), "the queue")
    sealed = tmp_path / "objects/sealed"
    sealed.mkdir(parents=True)
    (sealed / "x.jpg").write_bytes(b"no sealed object" * 10)
    with channel(broker) as ch:
        mine = ch.queue_declare("", durable=True).method.queue
        send(broker, IMAGES, json.dumps({"gcs_path": f"file://{sealed}/x.jpg"}).encode(), reply_to=mine, message_id="m")
        (_, answer), = take_all(broker, mine, 1)
        ch.queue_delete(mine)
    assert json.loads(answer)["status"] == "rejected" and "damaged" not in answer.decode()
    (properties, _), = take_all(broker, DEAD, 1)
    assert "damaged" in properties.headers["reason"]
    assert [line for line in classify.log_lines() if line.get("message_id") == "m" and "damaged" in line.get("detail", "")]


@pytest.mark.long
def test_an_alarm_of_the_broker_holds_answers_back(mortal_broker, upload_to, label_from):
    replies = upload_many(upload_to(mortal_broker.url), 6)
    take_all(mortal_broker, IMAGES, 6)
    with channel(mortal_broker) as ch:
        ch.queue_declare("answers", durable=True)
    for reply in replies:
        send(mortal_broker, IMAGES, json.dumps({"gcs_path": reply["gcs_path"]}).encode(), reply_to="answers", correlation_id=reply["id"])
    mortal_broker.alarm()
    classify = label_from(mortal_broker.url, WORKERS=2)
    noticed = "low on memory"
    wait_for(lambda: noticed in classify.log(), "the alarm to be noticed")
    classify.stop(timeout=9)
    classify.restart()
    wait_for(lambda: classify.log().count(noticed) == 2, "the alarm to be noticed again")
    wait_for(lambda: labelled(replies), "a result")
    # longer than the time from one look at the queues' lengths to the next, and a call's limit
    alarmed = time.monotonic()
    wait_for(lambda: time.monotonic() > alarmed + 9, "a call to give up")
    assert classify.get("/healthz").status == 200
    mortal_broker.alarm(False)
    answered = {properties.correlation_id for properties, _ in take_all(mortal_broker, "answers", 6)}
    assert answered <= {reply["id"] for reply in replies}
    wait_for(lambda: len(labelled(replies)) == 6 and is_empty(mortal_broker), "nothing to wait")
    assert classify.metric('broker_messages_total{outcome="connected"}') == 1
    classify.stop()
    assert is_empty(mortal_broker) and is_empty(mortal_broker, DEAD)


def test_the_lengths_of_the_queues(broker, label_from):
    classify = label_from(broker.url)
    wait_for(lambda: is_empty(broker), "the queue")
    send(broker, IMAGES, b"no JSON")
    wait_for(lambda: classify.metric("broker_dead_letters") == 1, "the dead letter to be counted")
    assert classify.metric("broker_queue_length") == 0


# --- the older classifier's queue


class ImageDisk(http.server.BaseHTTPRequestHandler):
    """The older image storage, as far as a classifier asks it."""
    answers, asked = {}, []

    def do_GET(self):
        self.asked.append(self.path)
        status, body = self.answers.get(self.path, (404, b'{"error":"Image Does Not Exist"}'))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


@pytest.fixture(name="disk")
def fixture_disk():
    """Its port, what it answers by path, and what it was asked."""
    handler = type("Disk", (ImageDisk,), {"answers": {}, "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, handler.answers, handler.asked
        server.shutdown()


def filled(colour):
    return encode(Image.new("RGB", (48, 48), colour))


def send_older(broker, text, correlation_id, reply_to):
    """As the older manager publishes, which comes before anybody consumes."""
    with channel(broker) as ch:
        ch.exchange_declare("deepModel", "direct", durable=False)
        ch.confirm_delivery()
        ch.basic_publish("deepModel", "resnet", text, pika.BasicProperties(
            headers={}, correlation_id=correlation_id, reply_to=reply_to), mandatory=True)


def test_the_older_managers_pictures_are_labelled(broker, label_from, disk):
    port, answers, asked = disk
    answers |= {"/plain-image/red-1.jpg": (200, filled("red")), "/cipher-image/blue.png": (200, filled("blue")),
                "/plain-image/late.jpg": (503, b""), "/plain-image/bad.jpg": (200, b"no picture")}
    classify = label_from(broker.url, AMQP_OLD_QUEUE="on", IMAGEDISK_HOST="127.0.0.1", IMAGEDISK_PORT=port)
    wait_for(lambda: count(broker, "resnetQ") == 0, "the queue")
    with channel(broker) as ch:
        mine = ch.queue_declare("", durable=True).method.queue
        for number, text in enumerate(("red-1.jpg XX false", "blue.png XX true", "late.jpg XX false", "gone.jpg XX false",
                                       "bad.jpg XX true", "bad.jpg XX false", "../x XX false", "a@elsewhere/ XX true")):
            send_older(broker, text, f"c{number}", mine)
        wait_for(lambda: asked.count("/plain-image/late.jpg") >= 2, "another attempt")
        answers["/plain-image/late.jpg"] = 200, filled("lime")
        replies = {p.correlation_id: (p, json.loads(body)) for p, body in take_all(broker, mine, 3)}
        assert {c: body for c, (_, body) in replies.items()} == {
            "c0": {"ok": "true", "labels": ["red, rouge", replies["c0"][1]["labels"][1], replies["c0"][1]["labels"][2]]},
            "c1": {"ok": "true", "labels": ["blue, bleu", replies["c1"][1]["labels"][1], replies["c1"][1]["labels"][2]]},
            "c2": {"ok": "true", "labels": ["green, vert", replies["c2"][1]["labels"][1], replies["c2"][1]["labels"][2]]}}
        dead = {p.correlation_id: p.headers["reason"] for p, _ in take_all(broker, DEAD, 5)}
        assert sorted(dead) == ["c3", "c4", "c5", "c6", "c7"] and "404" in dead["c3"] and "older manager" in dead["c7"]
        ch.queue_delete(mine)
    assert set(asked) <= set(answers) | {"/plain-image/gone.jpg", "/cipher-image/bad.jpg"}
    with channel(broker) as ch:
        ch.queue_delete("resnetQ")
    wait_for(lambda: count(broker, "resnetQ") == 0, "the queue that was deleted")
    classify.stop()
    assert count(broker, "resnetQ") == 0


def test_without_the_setting_the_older_queue_is_not_there(broker, label_from):
    label_from(broker.url)
    wait_for(lambda: is_empty(broker), "our queue")
    assert count(broker, "resnetQ") is None

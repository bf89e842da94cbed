"""RabbitMQ, Debian's own: what is published to it, what is taken from it, and what happens when it dies."""
import concurrent.futures
import json
import subprocess

import pytest

from broker import DEAD, IMAGES, channel, new_broker, pika, take_all
from conftest import SLOW, Service, wait_for
from images import coloured_jpeg
from proxy import HOLE, PASS, Proxy

pytestmark = pytest.mark.threads


@pytest.fixture(name="certificate", scope="module")
def fixture_certificate(tmp_path_factory):
    """Of localhost, by itself: (CA, certificate, key)."""
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost", "-keyout", folder / "key.pem", "-out",
                    folder / "certificate.pem"], check=True, capture_output=True)
    return folder / "certificate.pem", folder / "certificate.pem", folder / "key.pem"


@pytest.fixture(name="broker")
def fixture_broker(tmp_path, certificate):
    broker = new_broker(tmp_path / "broker", tls=certificate)
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
    def start(url, **env):
        services.append(Service("classify-service", tmp_path, SOURCE_URL=url, **env))
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


def test_a_broker_that_is_away_is_503_until_it_is_back(broker, upload_to):
    preprocess = upload_to(broker.url)
    assert upload(preprocess, 1).status == 200
    broker.kill()
    reply = upload(preprocess, 2)
    assert reply.status == 503 and reply.headers["Retry-After"], reply
    assert preprocess.get("/healthz").status == 200
    broker.start()
    wait_for(lambda: upload(preprocess, 2).status == 200, "uploads to be taken again")
    assert len({p.message_id for p, _ in take_all(broker, IMAGES, 2)}) >= 2


def test_kill_9_of_the_broker_while_uploading_loses_nothing(broker, upload_to):
    preprocess = upload_to(broker.url)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        uploads = [pool.submit(upload_until_taken, preprocess, n) for n in range(200)]
        for _ in range(2):
            done = sum(u.done() for u in uploads)
            wait_for(lambda done=done: sum(u.done() for u in uploads) >= min(done + 40, 200), "some uploads")
            broker.kill()
            broker.start()
        taken = {u.result()["gcs_path"] for u in uploads}
    assert len(taken) == 200
    announced = {json.loads(body)["gcs_path"] for _, body in take_all(broker, IMAGES, 200)}
    assert announced == taken


def test_a_network_that_swallows_everything_is_503_in_time(broker, upload_to):
    proxy = Proxy(broker.port)
    preprocess = upload_to(broker.url_at(proxy.port) + "?heartbeat=1", REQUEST_TIMEOUT_MS=int(2000 * SLOW))
    assert upload(preprocess, 1).status == 200
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


def test_tls_is_verified(broker, upload_to, certificate):
    preprocess = upload_to(broker.tls_url, CA_FILE=certificate[0])
    assert upload(preprocess, 1).status == 200
    stranger = upload_to(broker.tls_url)
    assert upload(stranger, 2).status == 503
    assert "its certificate is refused" in stranger.log() and "CA_FILE" in stranger.log()
    wrong_name = upload_to(broker.tls_url.replace("localhost", "127.0.0.1"), CA_FILE=certificate[0])
    assert upload(wrong_name, 3).status == 503
    assert "its certificate is refused" in wrong_name.log() and broker.password not in wrong_name.log()

"""The main job on Google's interfaces, all of them scripted (tests/servers/fake_google.py): upload ->
gs:// object -> publish -> authenticated push -> result -> CLASS_TOPIC; with faults that an emulator
cannot make."""
import base64
import collections
import concurrent.futures
import json

import pytest

import store_servers  # noqa: F401 - finds tests/servers
from conftest import SLOW, Service, wait_for
from fake_google import PUSH_EMAIL, Google
from images import encode, gradient

AUDIENCE = "https://classify.example/pubsub"


@pytest.fixture
def google():
    server = Google()
    yield server
    server.close()


@pytest.fixture
def chain(google, tmp_path, services):
    common = {"BUCKET": "darkroom-test", "STORAGE_URL": "", "GCS_ENDPOINT": google.endpoint,
              "GCE_METADATA_HOST": google.host, "PUBSUB_ENDPOINT": google.endpoint, "GOOGLE_CLOUD_PROJECT": "project",
              "K_SERVICE": "darkroom", "REQUEST_TIMEOUT_MS": str(int(30_000 * SLOW))}
    classify = Service("classify-service", tmp_path, **common, CLASS_TOPIC="img-classified", PUSH_AUDIENCE=AUDIENCE,
                       PUSH_SERVICE_ACCOUNT=PUSH_EMAIL, OIDC_JWKS_URL=google.endpoint + "/certs")
    preprocess = Service("preprocess-service", tmp_path, **common, PREP_TOPIC="img-preprocessed")
    for name in ("OUTBOX_PATH", "CATALOGUE_URL"):
        preprocess.env.pop(name)
    services += [preprocess, classify]
    for service in services:
        service.start()
    google.subscribe("img-preprocessed", classify.url + "/pubsub", AUDIENCE)
    return preprocess, classify


def data_of(message):
    return json.loads(base64.b64decode(message["data"]))


def test_upload_to_class_topic(google, chain):
    preprocess, classify = chain
    reply = preprocess.upload(encode(gradient(300, 200)))
    assert reply.status == 200, reply
    stored = reply.json()
    assert stored["gcs_path"] == f"gs://darkroom-test/{stored['id']}.jpg"
    sent = google.topics["img-preprocessed"][0]
    assert stored["message_id"] == sent["messageId"], "Pub/Sub's own id"
    assert data_of(sent) == {"gcs_path": stored["gcs_path"], "id": stored["id"]}
    assert sent["attributes"]["origin"] == "preprocess-service" and sent["attributes"]["event_id"]
    told = wait_for(lambda: google.topics.get("img-classified"), "the classified topic")[0]
    result = json.loads(google.objects[stored["id"] + ".jpg.json"][0])
    assert data_of(told) == {"gcs_path": stored["gcs_path"], "label": result["label"],
                             "confidence": result["confidence"]}
    assert told["attributes"]["origin"] == "classify-service" and len(told["attributes"]["event_id"]) == 64
    assert classify.get("/results/" + stored["id"]).json() == result
    assert [o for o in google.objects] == [stored["id"] + ".jpg", stored["id"] + ".jpg.json"]


def test_pushes_of_others_are_refused(google, chain):
    _, classify = chain
    body = json.dumps({"message": {"data": base64.b64encode(b'{"gcs_path": "gs://darkroom-test/k.jpg"}').decode(),
                                   "messageId": "1"}, "subscription": "s"})

    def push(token):
        headers = {"Content-Type": "application/json"} | ({"Authorization": "Bearer " + token} if token else {})
        return classify.request("POST", "/pubsub", body, headers).status

    assert push(None) == 401
    assert push("x.y.z") == 401
    assert push(google.identity_token("another audience")) in (401, 403)
    assert push(google.identity_token(AUDIENCE, "somebody@else")) == 403
    assert push(google.identity_token(AUDIENCE, exp=1)) == 401
    assert google.objects == {}
    assert push(google.identity_token(AUDIENCE)) == 200


def test_200_uploads_through_faults(google, chain):
    """10 % of all answers are 503, some publish replies are lost, deliveries are doubled, delayed and
    reordered: each 200 has exactly one result, and nobody sees a duplicate."""
    preprocess, classify = chain
    google.fault_rate, google.lost_reply_rate, google.duplicate_rate, google.delay_s = 0.1, 0.05, 0.2, 0.3
    written = collections.Counter()
    put = google.objects.__class__.__setitem__

    class Objects(dict):
        def __setitem__(self, key, value):
            written[key] += 1
            put(self, key, value)

    google.objects = Objects(google.objects)
    statuses = collections.Counter()

    def upload(n):
        for _ in range(10):  # a 503 may be repeated
            reply = preprocess.upload(encode(gradient(64 + n % 100, 48 + n // 100)))
            statuses[reply.status] += 1
            if reply.status == 200:
                return reply.json()["id"]
            assert reply.status == 503, reply
        raise AssertionError("ten times 503")

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(upload, range(200)))
    assert len(set(ids)) == 200
    wait_for(google.subscriptions[0].idle, "every push to be acknowledged", 120)
    for id_ in ids:
        result = json.loads(google.objects[id_ + ".jpg.json"][0])
        assert result["label"] and result["id"] == id_
        assert written[id_ + ".jpg"] == 1 and written[id_ + ".jpg.json"] == 1
    assert len(google.objects) == 400
    seen = collections.defaultdict(set)
    for message in google.topics["img-classified"]:
        seen[message["attributes"]["event_id"]].add(data_of(message)["gcs_path"])
    assert len(seen) == 200 and all(len(paths) == 1 for paths in seen.values())
    assert google.dead == [] and google.subscriptions[0].deliveries > 200
    google.fault_rate = 0


def test_a_poisoned_message_becomes_a_dead_letter(google, chain, tmp_path):
    _, classify = chain
    google.subscribe("poison", classify.url + "/pubsub", AUDIENCE, max_attempts=5)
    google.publish("poison", [{"data": base64.b64encode(b"no JSON at all").decode(), "attributes": {}}])
    wait_for(lambda: google.dead, "the dead letter")
    assert google.subscriptions[1].deliveries == 5

"""POST /pubsub as real senders use it: Pub/Sub unwrapped, CloudEvents, Cloud Storage, S3 webhooks."""
import base64
import contextlib
import email.utils
import hashlib
import json
import urllib.parse
import urllib.request

import pytest

import store_servers
from conftest import SLOW, Service, wait_for
from faulty_storage import FaultyStorage
from images import encode, gradient
from test_preprocess import assert_problem
from test_pubsub import PICTURE, envelope, files, push, put

pytestmark = pytest.mark.memory

PUBLISHED = "google.cloud.pubsub.topic.v1.messagePublished"
FINALIZED = "google.cloud.storage.object.v1.finalized"
KEY = "album/a b+%é.jpg"


class MemoryBucket(FaultyStorage):
    """The XML API that S3 and Cloud Storage share, over a dict; names in `failing` get 503."""

    def __init__(self):
        super().__init__()
        self.objects, self.failing, self.writes = {}, set(), []
        self.script(self.serve)

    def serve(self, connection, request):
        key = urllib.parse.unquote(request.target.partition("?")[0].removeprefix("/bkt/"))
        status, body, data = 200, b"", self.objects.get(key)
        if key in self.failing:
            status, body = 503, b"<Error><Code>SlowDown</Code></Error>"
        elif request.method == "PUT":
            absent = {"if-none-match", "x-goog-if-generation-match"} & set(request.headers)
            if absent and data is not None:
                status, body = 412, b"<Error><Code>PreconditionFailed</Code></Error>"
            else:
                data = self.objects[key] = request.body
                self.writes.append(key)
        elif data is None:
            status, body = 404, b"<Error><Code>NoSuchKey</Code></Error>"
        else:
            body = data
        etag = f'ETag: "{hashlib.md5(data).hexdigest()}"\r\n' if data is not None else ""
        head = (f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n{etag}Content-Type: image/jpeg\r\n"
                f"Last-Modified: {email.utils.formatdate(usegmt=True)}\r\n\r\n")
        connection.sendall(head.encode() + (b"" if request.method == "HEAD" else body))
        return True


@pytest.fixture
def bucket():
    with contextlib.closing(MemoryBucket()) as bucket:
        yield bucket


@pytest.fixture
def s3(bucket, tmp_path, services):
    services.append(Service("classify-service", tmp_path, STORAGE_URL="s3://bkt", S3_ENDPOINT=bucket.endpoint,
                            AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b", REQUEST_TIMEOUT_MS="4000"))
    return services[0].start()


@pytest.fixture
def gcs(bucket, tmp_path, services):
    services.append(Service("classify-service", tmp_path, STORAGE_URL="gs://bkt",
                            STORAGE_EMULATOR_HOST=bucket.endpoint))
    return services[0].start()


def b64(text):
    return base64.b64encode(text.encode()).decode()


def cloudevent(service, kind, data, mode="binary", **more):
    attributes = {"specversion": "1.0", "id": "e-1", "source": "//source", "type": kind} | more
    if mode == "structured":
        return push(service, attributes | {"data": data}, **{"Content-Type": "application/cloudevents+json"})
    return push(service, data, **{f"ce-{name}": value for name, value in attributes.items()})


def resource(key, name="bkt"):
    return {"kind": "storage#object", "bucket": name, "name": key, "generation": "1", "contentType": "image/jpeg"}


def gcs_message(key, kind="OBJECT_FINALIZE", payload=True):
    attributes = {"eventType": kind, "bucketId": "bkt", "objectId": key, "payloadFormat": "JSON_API_V1",
                  "notificationConfig": "projects/_/buckets/bkt/notificationConfigs/1"}
    message = {"attributes": attributes, "messageId": "m-1", "publishTime": "2026-01-02T03:04:05Z"}
    if payload:
        message["data"] = b64(json.dumps(resource(key)))
    return {"message": message, "subscription": "projects/p/subscriptions/s"}


def record(key, event="s3:ObjectCreated:Put", name="bkt", sequencer="17"):
    return {"eventVersion": "2.0", "eventSource": "minio:s3", "awsRegion": "", "eventName": event,
            "eventTime": "2026-01-02T03:04:05.678Z", "userIdentity": {"principalId": "minio"},
            "s3": {"s3SchemaVersion": "1.0", "configurationId": "Config", "bucket": {"name": name},
                   "object": {"key": urllib.parse.quote_plus(key, safe=""), "size": 1, "eTag": "x",
                              "contentType": "image/jpeg", "sequencer": sequencer}}}


def webhook(*records):
    """As MinIO sends it."""
    return {"EventName": records[0]["eventName"], "Key": "bkt/x", "Records": list(records)}


# --- our own message in each wrapping -------------------------------------------------------------


def test_our_message_in_every_wrapping(classify):
    uri = put(classify, "a.jpg")
    direct = push(classify, envelope(uri)).json()
    stored = files(classify)
    data = json.dumps({"gcs_path": uri, "id": "x"})
    for reply in (
            push(classify, data, **{"x-goog-pubsub-message-id": "1",
                                    "x-goog-pubsub-subscription-name": "projects/p/subscriptions/s",
                                    "x-goog-pubsub-publish-time": "2026-01-02T03:04:05Z"}),
            push(classify, data, **{"X-Goog-PubSub-Message-Id": "1", "Content-Type": "text/plain"}),
            cloudevent(classify, PUBLISHED, envelope(uri)),
            cloudevent(classify, PUBLISHED, envelope(uri), "structured")):
        assert (reply.status, reply.json()) == (200, direct)
    assert direct["status"] == "ok"
    assert files(classify) == stored


def test_announcements_of_ours_in_every_wrapping_are_ignored(classify):
    uri = put(classify, "a.jpg")
    body = json.dumps({"gcs_path": uri, "label": "x", "confidence": 1})
    ours = envelope(uri, origin="classify-service")
    for reply in (push(classify, body, **{"x-goog-pubsub-message-id": "1", "origin": "classify-service"}),
                  cloudevent(classify, PUBLISHED, ours), cloudevent(classify, PUBLISHED, ours, "structured")):
        assert (reply.status, reply.json()) == (200, {"status": "ignored"})
    assert list(files(classify)) == ["a.jpg"]


def test_rejections_are_recorded_under_the_events_own_name(classify):
    """Source and id: the same for every delivery, so that a second one leaves no second record."""
    uri = f"file://{classify.folder}/objects/gone.jpg"
    data = json.dumps({"gcs_path": uri})
    senders = {
        "//s é\n7 %": lambda: push(classify, envelope(uri), **{
            "ce-specversion": "1.0", "ce-type": PUBLISHED, "ce-source": "%2F%2Fs%20%C3%A9", "ce-id": "7 %25"}),
        "sub\n1": lambda: push(classify, data, **{"x-goog-pubsub-message-id": "1",
                                                  "x-goog-pubsub-subscription-name": "sub"}),
        "sub\nevent-1": lambda: push(classify, envelope(uri, "m-2", "sub", event_id="event-1")),
    }
    expected = {"gone.jpg.json"}
    for name, send in senders.items():
        expected.add("rejected/" + hashlib.sha256(name.encode()).hexdigest() + ".json")
        for _ in range(2):
            assert send().json()["status"] == "rejected"
        assert set(files(classify)) == expected


# --- CloudEvents ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["binary", "structured"])
def test_other_cloudevents_are_ignored(classify, mode):
    for kind in ("google.cloud.storage.object.v1.deleted", "google.cloud.storage.object.v1.archived",
                 "google.cloud.storage.object.v1.metadataUpdated", "com.example.other"):
        reply = cloudevent(classify, kind, resource("a.jpg"), mode)
        assert (reply.status, reply.json()) == (200, {"status": "ignored"})
    assert files(classify) == {}


@pytest.mark.parametrize("mode", ["binary", "structured"])
@pytest.mark.parametrize("wrong", [{"specversion": "0.3"}, {"specversion": ""}, {"id": ""}, {"source": ""}, {"type": ""}])
def test_malformed_cloudevents(classify, mode, wrong):
    assert_problem(cloudevent(classify, FINALIZED, resource("a.jpg"), mode, **wrong), 400)


@pytest.mark.parametrize("mode", ["binary", "structured"])
@pytest.mark.parametrize("kind, data", [(FINALIZED, {}), (FINALIZED, []), (FINALIZED, {"bucket": "b"}),
                                        (PUBLISHED, resource("a.jpg")), (PUBLISHED, {"message": {}})])
def test_cloudevents_without_their_data(classify, mode, kind, data):
    assert_problem(cloudevent(classify, kind, data, mode), 400)


@pytest.mark.parametrize("kind", ["application/cloudevents-batch+json", "Application/CloudEvents-Batch+JSON;charset=utf-8",
                                  "application/cloudevents+avro"])
def test_batches_and_other_encodings(classify, kind):
    event = {"specversion": "1.0", "id": "1", "source": "s", "type": FINALIZED, "data": resource("a.jpg")}
    assert_problem(push(classify, [event], **{"Content-Type": kind}), 415)


# --- Cloud Storage --------------------------------------------------------------------------------


def test_finalized_in_every_wrapping(gcs, bucket):
    """A name with everything in it that some wrapping would have to encode."""
    unwrapped = {"x-goog-pubsub-message-id": "1", "eventType": "OBJECT_FINALIZE", "bucketId": "bkt"}
    senders = [
        lambda: push(gcs, gcs_message(KEY)),
        lambda: push(gcs, gcs_message(KEY, payload=False)),
        lambda: push(gcs, resource(KEY), objectId="?", **unwrapped),
        lambda: cloudevent(gcs, FINALIZED, resource(KEY), bucket="bkt", subject="objects/x"),
        lambda: cloudevent(gcs, FINALIZED, resource(KEY), "structured", datacontenttype="application/json"),
        lambda: cloudevent(gcs, PUBLISHED, gcs_message(KEY)),
    ]
    for send in senders:
        bucket.objects = {KEY: PICTURE}
        reply = send()
        assert reply.status == 200 and reply.json()["status"] == "ok", reply
        assert set(bucket.objects) == {KEY, KEY + ".json"}
        result = json.loads(bucket.objects[KEY + ".json"])
        assert (result["gcs_path"], result["label"], result["id"]) == ("gs://bkt/" + KEY, reply.json()["label"], None)
    bucket.objects = {"plain.jpg": PICTURE}
    assert push(gcs, "", objectId="plain.jpg", **unwrapped).json()["status"] == "ok"
    # and once more: what is stored stays
    bucket.writes.clear()
    assert push(gcs, "", objectId="plain.jpg", **unwrapped).json()["status"] == "ok"
    assert bucket.writes == []


def test_what_cloud_storage_says_besides_is_ignored(gcs, bucket):
    bucket.objects = {KEY: PICTURE, "x.jpg.json": b"{}"}
    bucket.requests.clear()
    for kind in ("OBJECT_DELETE", "OBJECT_ARCHIVE", "OBJECT_METADATA_UPDATE"):
        for reply in (push(gcs, gcs_message(KEY, kind)), push(gcs, gcs_message(KEY, kind, payload=False))):
            assert (reply.status, reply.json()) == (200, {"status": "ignored"})
    for key in ("x.jpg.json", "rejected/x.jpg"):  # the announcements of our own results
        for reply in (push(gcs, gcs_message(key)), cloudevent(gcs, FINALIZED, resource(key))):
            assert (reply.status, reply.json()) == (200, {"status": "ignored"})
    assert push(gcs, gcs_message(KEY) | {"message": {"attributes": {"eventType": "OBJECT_FINALIZE"}}}).status == 400
    foreign = cloudevent(gcs, FINALIZED, resource("a.jpg", "other"))
    assert (foreign.status, foreign.json()["status"]) == (200, "rejected")
    assert [r.target for r in bucket.requests if KEY.split("/")[0] in r.target] == []
    assert bucket.writes == []


# --- S3 event notifications -----------------------------------------------------------------------


def test_every_record_is_handled(s3, bucket):
    other = encode(gradient(90, 300))
    bucket.objects = {KEY: PICTURE, "b.jpg": other, "c.jpg.json": b"{}", "text.jpg": b"text", "gone.jpg": PICTURE}
    direct = [s3.post_image("/classify", data).json()["label"] for data in (PICTURE, other)]
    body = webhook(record(KEY, "s3:ObjectCreated:CompleteMultipartUpload"), record("gone.jpg", "s3:ObjectRemoved:Delete"),
                   record("c.jpg.json"), record("text.jpg"), record("x.jpg", name="foreign"), record("b.jpg"))
    reply = push(s3, body)
    assert reply.status == 200, reply
    assert (reply.json()["status"], reply.json()["label"]) == ("ok", direct[0])
    rejected = hashlib.sha256(b"minio:s3\nbkt/text.jpg 2026-01-02T03:04:05.678Z 17").hexdigest()
    assert sorted(bucket.writes) == sorted([KEY + ".json", "b.jpg.json", "text.jpg.json", f"rejected/{rejected}.json"])
    for key, label in ((KEY, direct[0]), ("b.jpg", direct[1])):
        result = json.loads(bucket.objects[key + ".json"])
        assert (result["label"], result["gcs_path"]) == (label, "s3://bkt/" + key)
    assert json.loads(bucket.objects["text.jpg.json"])["status"] == "rejected"
    bucket.writes.clear()
    assert push(s3, body).body == reply.body
    assert bucket.writes == []
    # AWS leaves out "s3:"; the reply is the first record's that was not ignored
    told = push(s3, {"Records": [record("a.json", "ObjectCreated:Put"), record("b.jpg", "ObjectCreated:Copy")]}).json()
    assert told["label"] == direct[1]
    told = push(s3, {"Records": [record("text.jpg"), record("b.jpg")]}).json()
    assert told["status"] == "rejected"


def test_one_passing_fault_keeps_the_whole_notification(s3, bucket):
    """What could be done is done, and stays when the sender tries again."""
    bucket.objects = {"a.jpg": PICTURE, "down.jpg": PICTURE, "text.jpg": b"text"}
    bucket.failing = {"down.jpg"}
    body = webhook(record("a.jpg"), record("text.jpg"), record("down.jpg"))
    reply = push(s3, body)
    assert reply.status == 503 and reply.headers["Retry-After"], reply
    assert json.loads(bucket.objects["text.jpg.json"])["status"] == "rejected"
    first = bucket.objects["a.jpg.json"]
    bucket.failing.clear()
    reply = push(s3, body)
    assert (reply.status, reply.json()["label"]) == (200, json.loads(first)["label"])
    assert bucket.objects["a.jpg.json"] == first
    assert json.loads(bucket.objects["down.jpg.json"])["label"]


def test_a_hundred_records(s3, bucket):
    keys = [f"{n}.jpg" for n in range(100)]
    bucket.objects = {"99.jpg": PICTURE}
    reply = push(s3, webhook(*[record(key, "s3:ObjectRemoved:Delete") for key in keys[:99]], record(keys[99])))
    assert (reply.status, reply.json()["status"]) == (200, "ok")
    bucket.writes.clear()
    assert_problem(push(s3, webhook(*map(record, keys), record("one-more.jpg"))), 400)
    assert bucket.writes == []


def test_s3_events_that_create_nothing(s3, bucket):
    for body in (webhook(record("a.jpg", "s3:ObjectRemoved:Delete")), webhook(record("a.jpg", "s3:ObjectAccessed:Get")),
                 webhook(record("a.jpg.json")), webhook(record("rejected/a.jpg")),
                 {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "bkt", "RequestId": "x", "HostId": "y"}):
        reply = push(s3, body)
        assert (reply.status, reply.json()) == (200, {"status": "ignored"})
    assert bucket.writes == []


@pytest.mark.parametrize("body", [{"Records": []}, {"Records": {}}, {"Records": [1]}, {"Records": [{}]},
                                  {"Records": [{"eventName": "s3:ObjectCreated:Put"}]}, {"Event": "other"}],
                         ids=json.dumps)
def test_malformed_s3_notifications(classify, body):
    assert_problem(push(classify, body), 400)


@pytest.mark.parametrize("text", ["[", '{"a":'])
def test_deep_nesting(classify, text):
    """The threads of connections have small stacks."""
    for depth in (100, 2000, 2047, 2048, 5000):
        assert_problem(push(classify, text * depth), 400)
        assert_problem(push(classify, {"message": {"data": b64(text * depth)}}), 400)


@pytest.mark.parametrize("text", ["[", "[],", '{"":0},'])
def test_too_many_values(classify, text):
    """A tree takes far more memory than its text."""
    service = [classify.process.pid]  # those that decode may still be starting
    before = classify.memory_kb("Rss", service)
    body = '{"Records":[' + text * (900_000 // len(text)) + "0]}"
    assert_problem(push(classify, body), 413)
    assert_problem(push(classify, {"message": {"data": b64(body[:700_000])}}), 413)
    assert_problem(push(classify, body, **{"Content-Type": "application/cloudevents+json"}), 413)
    assert classify.memory_kb("Rss", service) - before < (24 if SLOW == 1 else 64) * 1024
    classify.settles("body_bytes_in_flight", 0)


# --- the servers' own webhooks --------------------------------------------------------------------


def upload_and_wait(service, running, key):
    """An upload with any S3 client is labelled, once, with nobody telling us but the server."""
    client = store_servers.servers.boto(running)
    client.put_object(Bucket=running.bucket, Key=key, Body=PICTURE, ContentType="image/jpeg")

    def result():
        with contextlib.suppress(client.exceptions.NoSuchKey):
            return client.get_object(Bucket=running.bucket, Key=key + ".json")["Body"].read()
    stored = json.loads(wait_for(result, "the label\n" + running.log(), 20))
    assert stored["label"] and stored["gcs_path"] == f"s3://{running.bucket}/{key}"
    # the server announces our result, too: no loop
    wait_for(lambda: service.metric('events_total{outcome="ignored"}') >= 1, "the announcement of the result")
    client.delete_object(Bucket=running.bucket, Key=key)
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket=running.bucket)["Contents"]]
    assert keys == [key + ".json"]
    service.settles('events_total{outcome="classified"}', 1)
    assert service.metric('events_total{outcome="rejected"}') == 0


@pytest.mark.skipif(store_servers.why_not("versitygw") is not None, reason=f"{store_servers.why_not('versitygw')}")
def test_webhook_of_versitygw(tmp_path, services):
    class Gateway(store_servers.servers.Versity):
        def environment(self):
            return super().environment() | {"VGW_EVENT_WEBHOOK_URL": service.url + "/pubsub"}

    running = Gateway(tmp_path / "gateway")
    service = Service("classify-service", tmp_path, **store_servers.s3_env(running))
    services.append(service)
    service.start()
    with running:
        upload_and_wait(service, running, "ein Bild/é.jpg")


@pytest.mark.skipif(store_servers.why_not("minio") is not None, reason=f"{store_servers.why_not('minio')}")
@pytest.mark.parametrize("token", ["{}", "Bearer {}"])
def test_webhook_of_minio(tmp_path, services, token):
    class Announcing(store_servers.servers.Minio):
        def environment(self):
            return super().environment() | {
                "MINIO_NOTIFY_WEBHOOK_ENABLE_CLASSIFY": "on",
                "MINIO_NOTIFY_WEBHOOK_ENDPOINT_CLASSIFY": service.url + "/pubsub",
                "MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_CLASSIFY": token.format("a-push-token"),
                "MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_CLASSIFY": str(self.folder / "queue")}

        def make_bucket(self):
            super().make_bucket()
            store_servers.servers.boto(self).put_bucket_notification_configuration(
                Bucket=self.bucket, NotificationConfiguration={"QueueConfigurations": [
                    {"QueueArn": "arn:minio:sqs::CLASSIFY:webhook", "Events": ["s3:ObjectCreated:*"]}]})

    running = Announcing(tmp_path / "minio")
    service = Service("classify-service", tmp_path, PUSH_TOKEN="a-push-token", **store_servers.s3_env(running))
    services.append(service)
    service.start()
    with running:
        upload_and_wait(service, running, "ein Bild/é+%.jpg")

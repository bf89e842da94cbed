"""The main job on object storage: upload, announcement, label, on real servers; and what happens when
they go away."""
import base64
import concurrent.futures
import json
import subprocess
import time
import uuid

import pytest

import store_servers
from conftest import BUILD, SLOW, Service, Stack, wait_for
from images import encode, gradient
from store_client import Store
from store_servers import servers

KINDS = [name for name in store_servers.KINDS if name != "file"]


@pytest.fixture(params=KINDS)
def kind(request):
    return store_servers.KINDS[request.param]()


@pytest.fixture
def env(kind):
    """A prefix of its own for every test."""
    return kind.env | {"STORAGE_URL": f"{kind.env['STORAGE_URL']}/{uuid.uuid4().hex[:12]}"}


@pytest.fixture
def stack(tmp_path, services, env):
    services.append(Stack(tmp_path, env | {"PUSH_TOKEN": "a-push-token"}, env | {"PUSH_TOKEN": "a-push-token"}))
    return services[0].start()


def photo(number):
    return encode(gradient(320 + number % 50, 240))


def test_upload_announce_label(stack, kind, env, tmp_path):
    reply = stack.preprocess.upload(photo(1))
    assert reply.status == 200, reply
    stored = reply.json()
    assert stored["gcs_path"].startswith(env["STORAGE_URL"] + "/" + stored["id"])
    result = stack.result(stored)
    assert result["label"] and result["gcs_path"] == stored["gcs_path"] and result["source_etag"]
    image = stack.preprocess.get("/images/" + stored["id"])
    assert image.status == 200 and len(image.body) == stored["bytes"]
    part = stack.preprocess.get("/images/" + stored["id"], {"Range": "bytes=2-11"})
    assert part.status == 206 and part.body == image.body[2:12]
    labels = stack.classify.request("POST", "/classify", reply.body, {"Content-Type": "application/json"})
    assert labels.status == 200 and labels.json()["label"] == result["label"]
    by_path = stack.classify.get("/results?gcs_path=" + stored["gcs_path"])
    assert by_path.json() == result
    store = Store(tmp_path, **env)
    prefix = env["STORAGE_URL"].rsplit("/", 1)[1] + "/"
    assert set(store.list(prefix)) == {f"{prefix}{stored['id']}.jpg", f"{prefix}{stored['id']}.jpg.json"}
    again = stack.preprocess.upload(photo(1)).json()
    assert again["id"] == stored["id"]
    wait_for(lambda: stack.preprocess.metric("outbox_pending") == 0, "the second event")
    assert stack.classify.get("/results/" + stored["id"]).json() == result, "a duplicate changes nothing"
    store.close()


def test_foreign_places_are_refused(stack, env, kind):
    outside = [kind.scheme + "://another-bucket/k.jpg", env["STORAGE_URL"].rsplit("/", 1)[0] + "/k.jpg",
               "file:///etc/passwd", "http://127.0.0.1/k"]
    for uri in outside:
        body = json.dumps({"gcs_path": uri})
        assert stack.classify.request("POST", "/classify", body, {"Content-Type": "application/json"}).status == 403
    missing = json.dumps({"gcs_path": env["STORAGE_URL"] + "/k.jpg"})
    assert stack.classify.request("POST", "/classify", missing, {"Content-Type": "application/json"}).status == 404


@pytest.mark.parametrize("kind", [name for name in KINDS if name != "gcs"], indirect=True)
def test_no_credentials_anywhere(stack, env):
    stack.result(stack.preprocess.upload(photo(2)).json())
    secret = env["AWS_SECRET_ACCESS_KEY"]
    for service in (stack.preprocess, stack.classify):
        for path in ("/", "/metrics", "/readyz", "/openapi.json"):
            assert secret not in service.get(path).body.decode()
    stack.stop()
    for service in (stack.preprocess, stack.classify):
        assert service.log() and secret not in service.log() and "Signature=" not in service.log()
        assert f'"AWS_ACCESS_KEY_ID":"{env["AWS_ACCESS_KEY_ID"]}"' not in service.log()


def own_server(name, tmp_path):
    """A server that the test may stop and start."""
    cls = store_servers.SERVERS[name]
    if store_servers.why_not(name):
        pytest.skip(f"STORAGE NOT TESTED on {name}: {store_servers.why_not(name)}")
    return cls(tmp_path / "server")


OUTAGES = [("minio", "v4"), ("versitygw", "v4"), ("swift", "v2")]
OUTAGES = [(name, signature) for name, signature in OUTAGES if not store_servers.why_not(name)]


@pytest.mark.faults
@pytest.mark.parametrize("name,signature", OUTAGES)
def test_storage_goes_away_and_comes_back(name, signature, tmp_path, services):
    """503 meanwhile, nothing that was acknowledged is lost, and nobody has to do anything."""
    server = own_server(name, tmp_path)
    with server:
        env = store_servers.s3_env(server, signature)
        services.append(Stack(tmp_path, env, env))
        stack = services[0].start()
        acknowledged = [stack.preprocess.upload(photo(n)).json()["id"] for n in range(5)]
        server.kill()
        reply = stack.preprocess.upload(photo(10))
        assert reply.status == 503 and reply.headers["Retry-After"], reply
        for n in range(11, 14):
            assert stack.preprocess.upload(photo(n)).status == 503
        assert stack.preprocess.get("/readyz").status == 503
        assert stack.preprocess.get("/healthz").status == 200
        assert stack.preprocess.get("/images/" + acknowledged[0]).status == 503
        assert stack.classify.get("/results/" + acknowledged[0]).status == 503
        server.start()
        wait_for(lambda: stack.preprocess.get("/readyz").status == 200, "readiness")
        acknowledged += [stack.preprocess.upload(photo(n)).json()["id"] for n in range(10, 14)]
        for id_ in acknowledged:
            assert stack.result({"id": id_}, timeout=60)["label"]
        stack.stop()


@pytest.mark.faults
@pytest.mark.parametrize("name,signature", OUTAGES)
def test_sigterm_while_storage_is_silent(name, signature, tmp_path, services, measurement):
    """Calls to storage end with the grace period: 503, never a false 200, exit status 0 in time."""
    server = own_server(name, tmp_path)
    with server:
        env = store_servers.s3_env(server, signature) | {"SHUTDOWN_GRACE_MS": "2000"}
        services.append(Service("preprocess-service", tmp_path, EVENTS_URL="none:", **env))
        service = services[0].start()
        assert service.upload(photo(1)).status == 200
        server.pause()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            uploads = [pool.submit(service.upload, photo(n)) for n in range(2, 10)]
            wait_for(lambda: service.metric("worker_busy") == 0 and
                     service.metric('stage_duration_seconds_count{stage="encode"}') >= 9, "the uploads to reach storage")
            began = time.monotonic()
            service.stop()
            seconds = time.monotonic() - began
            for upload in uploads:
                assert upload.result().status == 503
        server.resume()
    measurement.must(seconds < 2.0 + 1.5 * SLOW, f"ended after {seconds:.1f} s")


def test_allowed_buckets(tmp_path, services):
    """classify reads where it may, and stores each result beside its object."""
    name = next((n for n in ("minio", "versitygw", "swift") if not store_servers.why_not(n)), None)
    if name is None:
        pytest.skip("STORAGE NOT TESTED: no S3 server at hand")
    server = store_servers.server(name)
    client = servers.boto(server)
    second, third = f"second-{uuid.uuid4().hex[:8]}", f"third-{uuid.uuid4().hex[:8]}"
    for bucket in (second, third):
        client.create_bucket(Bucket=bucket)
    for bucket, key in ((second, "in/a b.jpg"), (second, "out.jpg"), (third, "c.jpg")):
        client.put_object(Bucket=bucket, Key=key, Body=photo(3), ContentType="image/jpeg")
    services.append(Service("classify-service", tmp_path, **store_servers.s3_env(server),
                            ALLOWED_BUCKETS=f"{server.bucket}, {second}/in,{third}"))
    classify = services[0].start()

    def ask(uri):
        return classify.request("POST", "/classify", json.dumps({"gcs_path": uri}), {"Content-Type": "application/json"})

    def push(uri):
        data = base64.b64encode(json.dumps({"gcs_path": uri}).encode()).decode()
        body = json.dumps({"message": {"data": data, "messageId": uuid.uuid4().hex}, "subscription": "s"})
        return classify.request("POST", "/pubsub", body, {"Content-Type": "application/json"})

    assert ask(f"s3://{second}/in/a b.jpg").status == 200
    assert ask(f"s3://{third}/c.jpg").status == 200
    assert ask(f"s3://{second}/out.jpg").status == 403
    assert ask(f"s3://{server.bucket}/nothing.jpg").status == 404
    assert push(f"s3://{second}/in/a b.jpg").json()["status"] == "ok"
    result = json.loads(client.get_object(Bucket=second, Key="in/a b.jpg.json")["Body"].read())
    assert result["label"] and result["id"] is None and result["gcs_path"] == f"s3://{second}/in/a b.jpg"
    assert classify.get(f"/results?gcs_path=s3://{second}/in/a%20b.jpg").json() == result
    assert push(f"s3://{second}/out.jpg").json()["status"] == "rejected"
    listed = [o["Key"] for o in client.list_objects_v2(Bucket=second)["Contents"]]
    assert sorted(listed) == ["in/a b.jpg", "in/a b.jpg.json", "out.jpg"], "nothing is written outside"


def test_https_with_a_ca_of_ones_own(tmp_path):
    """Verified always: the own CA does it, the system's does not."""
    if store_servers.why_not("versitygw"):
        pytest.skip(f"STORAGE NOT TESTED on https: {store_servers.why_not('versitygw')}")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
                   check=True, capture_output=True)
    server = servers.Versity(tmp_path / "server", certificate=(certificate, key))
    with server:
        env = store_servers.s3_env(server)
        store = Store(tmp_path, **env, CA_FILE=certificate)
        assert store.put("k", b"over TLS") is False
        assert store.read("k") == b"over TLS"
        store.close()
        store = Store(tmp_path, **env)
        with pytest.raises(Exception) as caught:
            store.get("k")
        assert caught.value.slug == "unavailable" and "certificate" in caught.value.message
        store.close()
        store = Store(tmp_path, **env | {"S3_ENDPOINT": env["S3_ENDPOINT"].replace("127.0.0.1", "localhost")},
                      CA_FILE=certificate)
        with pytest.raises(Exception) as caught:
            store.get("k")
        assert caught.value.slug == "unavailable", "the name counts, too"
        store.close()


def test_no_credentials_in_the_binaries():
    for name in ("preprocess-service", "classify-service"):
        text = (BUILD / name).read_bytes()
        for secret in (b"AKIA", b"darkroom-local-only", b"BEGIN PRIVATE KEY", b"minioadmin"):
            assert secret not in text

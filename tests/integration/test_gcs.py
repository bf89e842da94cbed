"""Cloud Storage with credentials: tokens from the metadata server and from a key file, on a scripted
stand-in for Google (tests/servers/fake_google.py)."""
import concurrent.futures
import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import store_servers  # noqa: F401 - finds tests/servers
from conftest import SLOW, Stack, wait_for
from fake_google import EMAIL, Google
from images import encode, gradient
from store_client import Store, StoreError, refused_to_open

pytestmark = pytest.mark.memory


def encrypted_key():
    """OpenSSL would ask for its passphrase."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")).decode()


@pytest.fixture
def google():
    server = Google()
    yield server
    server.close()


@pytest.fixture(params=["metadata server", "key file"])
def env(request, google, tmp_path):
    where = {"STORAGE_URL": "gs://darkroom-test", "GCS_ENDPOINT": google.endpoint}
    if request.param == "key file":
        return where | {"GOOGLE_APPLICATION_CREDENTIALS": str(google.key_file(tmp_path))}
    return where | {"GCE_METADATA_HOST": google.host}


@pytest.fixture
def store(env, tmp_path):
    opened = Store(tmp_path, **env)
    yield opened
    opened.close()


def failure(call, *arguments, **more):
    with pytest.raises(StoreError) as caught:
        call(*arguments, **more)
    for word in ("ya29", "PRIVATE"):
        assert word not in caught.value.message
    return caught.value


def test_every_call(store, google):
    assert store.put("a b/ü", b"data", content_type="image/png", if_absent=True) is False
    assert store.put("a b/ü", b"other", if_absent=True) is True
    assert store.read("a b/ü") == b"data"
    assert google.objects["a b/ü"][1]["content_type"] == "image/png"
    assert store.read("a b/ü", offset=1, length=2) == b"at"
    for n in range(5):
        store.put(f"list/{n}", b"x" * n)
    assert store.list("list/") == {f"list/{n}": n for n in range(5)}
    store.delete("a b/ü")
    assert failure(store.head, "a b/ü").slug == "not-found"
    assert google.tokens_given == 1, "a token is cached"


def test_a_revoked_token_is_replaced(store, google):
    store.put("k", b"1")
    google.revoke()
    assert store.read("k") == b"1"
    assert google.tokens_given == 2


def test_a_token_is_renewed_before_it_ends(store, google):
    google.lifetime_s = 2
    store.put("k", b"1")

    def look():
        assert store.read("k") == b"1"
        return google.tokens_given >= 3

    wait_for(look, "renewals")
    assert google.tokens_given < 12


def test_one_token_for_many_threads(store, google):
    google.token_delay_s = 0.3
    store.call("parallel", prefix="p/", threads=32, rounds=3)
    assert google.tokens_given == 1
    google.revoke()
    store.call("parallel", prefix="p/", threads=32, rounds=3)
    assert google.tokens_given <= 4


@pytest.mark.parametrize("fault", [500, 503, 429])
def test_passing_faults_of_the_token_source(store, google, fault):
    google.token_faults = [fault, fault]
    store.put("k", b"1")
    assert google.tokens_given == 1


@pytest.mark.parametrize("fault", [
    403, 404, (200, b"no JSON"), (200, b"{}"), (200, b'{"access_token": "", "expires_in": 3600}'),
    (200, b'{"access_token": "a b", "expires_in": 3600}'), (200, b'{"access_token": "x\\r\\nEvil: 1", "expires_in": 3600}'),
    (200, json.dumps({"access_token": "x" * 5000, "expires_in": 3600}).encode()), (200, b'{"access_token": "x"}'),
    (200, b"x" * 20000), (302, b""),
])
def test_no_token(store, google, fault):
    google.token_faults = [fault] * 20
    caught = failure(store.put, "k", b"1")
    assert caught.slug == "unavailable"
    assert google.objects == {}
    google.token_faults = []
    store.put("k", b"1")


def test_a_silent_token_source(store, google):
    google.token_delay_s = 5
    caught = failure(store.get, "k", deadline_ms=700)
    assert caught.slug == "deadline" and caught.ms < 700 + 500 * SLOW


def test_renewing_fails_while_the_old_token_is_good(store, google):
    google.lifetime_s = 4
    store.put("k", b"1")
    google.token_faults = [500] * 1000
    wait_for(lambda: store.read("k") == b"1" and len(google.token_faults) < 1000, "an attempt to renew")


@pytest.mark.parametrize("changes,words", [
    ({"client_email": None}, "client_email"), ({"private_key": "nonsense"}, "private_key"),
    ({"private_key": None}, "private_key"), ({"token_uri": "http://example.com/token"}, "token_uri"),
    ({"token_uri": None}, "token_uri"), ({"token_uri": "http://127.0.0.1.example.com/token"}, "token_uri"),
    ({"token_uri": "http://127.0.0.1:80@example.com/token"}, "token_uri"),
    ({"private_key": encrypted_key}, "private_key"),
])
def test_key_files_that_cannot_work(google, tmp_path, changes, words):
    path = google.key_file(tmp_path, **{name: value() if callable(value) else value for name, value in changes.items()})
    said = refused_to_open(tmp_path, STORAGE_URL="gs://darkroom-test", GOOGLE_APPLICATION_CREDENTIALS=str(path))
    assert "GOOGLE_APPLICATION_CREDENTIALS" in said and words in said
    assert "BEGIN" not in said and EMAIL not in said


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"a": 1}'])
def test_files_that_are_no_keys(tmp_path, content):
    path = tmp_path / "key.json"
    path.write_text(content)
    said = refused_to_open(tmp_path, STORAGE_URL="gs://darkroom-test", GOOGLE_APPLICATION_CREDENTIALS=str(path))
    assert "GOOGLE_APPLICATION_CREDENTIALS" in said


def test_the_pipeline(google, env, tmp_path, services):
    """BUCKET=name is all that the Python original took."""
    env = {"BUCKET": "darkroom-test"} | {k: v for k, v in env.items() if k != "STORAGE_URL"} | {"STORAGE_URL": ""}
    services.append(Stack(tmp_path, env, env))
    stack = services[0].start()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda n: stack.preprocess.upload(encode(gradient(300 + n, 200))), range(16)))
    for reply in replies:
        assert reply.status == 200, reply
        assert reply.json()["gcs_path"] == f"gs://darkroom-test/{reply.json()['id']}.jpg"
        assert stack.result(reply.json())["label"]
    assert len(google.objects) == 32
    assert google.tokens_given == 2, "one for each service"
    for service in (stack.preprocess, stack.classify):
        assert "ya29" not in service.log() and "PRIVATE" not in service.log()

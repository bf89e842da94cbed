"""Every fault of a storage server ends in the right error code within the deadline, and no partial
object is ever taken for a whole one. S3 with both signatures, and GCS."""
import base64
import concurrent.futures
import datetime
import email.utils
import html
import threading
import urllib.parse

import pytest

from conftest import SLOW, Service, free_port
from faulty_storage import ETAG, FaultyStorage, answer, drip, error, reset, silence, stored
from images import coloured_jpeg
from store_client import Store, StoreError, refused_to_open

pytestmark = [pytest.mark.faults, pytest.mark.memory, pytest.mark.threads]
KEYS = {"AWS_ACCESS_KEY_ID": "AKIATESTTESTTEST", "AWS_SECRET_ACCESS_KEY": "a-secret-that-stays-here"}
ENVIRONMENTS = {
    "v4": KEYS | {"STORAGE_URL": "s3://bucket"},
    "v2": KEYS | {"STORAGE_URL": "s3://bucket", "S3_SIGNATURE": "v2"},
    "gcs": {"STORAGE_URL": "gs://bucket"},
}
ATTEMPTS_MAX = 4


@pytest.fixture
def server():
    faulty = FaultyStorage()
    yield faulty
    faulty.close()


@pytest.fixture(params=ENVIRONMENTS)
def name(request):
    return request.param


@pytest.fixture
def store(name, server, tmp_path):
    where = {"STORAGE_EMULATOR_HOST": server.endpoint} if name == "gcs" else {"S3_ENDPOINT": server.endpoint}
    opened = Store(tmp_path, **ENVIRONMENTS[name] | where)
    yield opened
    opened.close()


def failure(call, *arguments, **more):
    with pytest.raises(StoreError) as caught:
        call(*arguments, **more)
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in caught.value.message
    return caught.value


def each_call(store):
    return [lambda: store.put("k", b"data"), lambda: store.get("k"), lambda: store.head("k"), lambda: store.delete("k"),
            lambda: store.list()]


LISTING = answer(200, b"<?xml version='1.0'?><ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated>"
                      b"<Contents><Key>a</Key><Size>3</Size></Contents></ListBucketResult>")


def test_it_works_at_all(store, server):
    server.script(stored())
    assert store.put("k", b"data") is False
    got, info = store.get("k")
    assert got == b"the object"
    assert info["etag"] == ETAG.strip('"')
    assert server.requests[0].body == b"data"
    assert server.connections == 1, "connections are kept"
    server.script(LISTING)
    assert store.list() == {"a": 3}


@pytest.mark.parametrize("status,code", [(403, "AccessDenied"), (403, "SignatureDoesNotMatch"),
                                         (403, "InvalidAccessKeyId")])
def test_refused_credentials_are_the_operators_matter(store, server, status, code):
    """Not the client's fault, and not final for an event."""
    for call in each_call(store):
        server.script(error(status, code))
        assert failure(call).slug == "unavailable"
        assert len(server.requests) == 1, "a 4xx is not repeated"


def test_a_missing_object(store, server):
    server.script(error(404, "NoSuchKey"))
    assert failure(store.get, "k").slug == "not-found"
    assert len(server.requests) == 1
    store.delete("k")


def test_a_missing_bucket(store, server):
    for call in each_call(store):
        server.script(error(404, "NoSuchBucket"))
        caught = failure(call)
        assert caught.slug == "unavailable" and "bucket" in caught.message


@pytest.mark.parametrize("fault", [error(500, "InternalError"), error(502, "BadGateway"), error(503, "SlowDown"),
                                   error(504, "GatewayTimeout"), error(503, "ServiceUnavailable"), reset()],
                         ids=["500", "502", "SlowDown", "504", "503", "reset"])
def test_passing_faults_are_repeated(store, server, fault):
    server.script(fault, fault, stored())
    store.put("k", b"the whole body")
    assert [r.body for r in server.requests] == [b"the whole body"] * 3
    server.script(fault, stored())
    assert store.read("k") == b"the object"
    server.script(fault, LISTING)
    assert store.list() == {"a": 3}


def test_but_not_for_ever(store, server, measurement):
    for call in each_call(store):
        server.script(error(500, "InternalError"))
        caught = failure(call)
        assert caught.slug == "unavailable"
        assert 2 <= len(server.requests) <= ATTEMPTS_MAX
        measurement.must(caught.ms < 5000 * SLOW, f"{caught.ms} ms")


def test_a_deadline_ends_the_attempts(store, server, measurement):
    server.script(error(503, "SlowDown"))
    caught = failure(store.get, "k", deadline_ms=60)
    assert caught.slug in ("unavailable", "deadline")
    measurement.must(caught.ms < 60 + 300 * SLOW, f"{caught.ms} ms")


PARTIAL = b"HTTP/1.1 200 OK\r\nETag: " + ETAG.encode() + b"\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500
CHUNKED = (b"HTTP/1.1 200 OK\r\nETag: " + ETAG.encode() + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
           b"1f4\r\n" + b"x" * 500 + b"\r\n")


@pytest.mark.parametrize("fault", [
    reset(PARTIAL), reset(PARTIAL[:30]), reset(CHUNKED),
    answer(200, b"x" * 500, length=1000, ETag=ETAG),
    answer(200, b"x" * 500, length="none", ETag=ETAG),
    answer(200, b"x" * 500, length="none", ETag=ETAG, Transfer_Encoding="chunked"),
], ids=["reset mid-body", "reset mid-header", "reset mid-chunks", "truncated", "no length", "no chunks"])
def test_no_partial_object(store, server, fault):
    server.script(fault)
    assert failure(store.get, "k").slug == "unavailable"
    server.script(fault, stored(b"w" * 1000))
    assert store.read("k") == b"w" * 1000


def test_another_range_than_asked(store, server):
    wrong = [answer(206, b"x" * 5, ETag=ETAG, Content_Range="bytes 0-4/100"),
             answer(206, b"x" * 5, ETag=ETAG, Content_Range="bytes 10-19/100"),
             answer(206, b"x" * 20, ETag=ETAG, Content_Range="bytes 10-29/100"),
             answer(206, b"x" * 5, ETag=ETAG, Content_Range="bytes 10-14/100"),
             answer(206, b"x" * 10, ETag=ETAG),
             stored(b"x" * 100)]
    for fault in wrong:
        server.script(fault)
        assert failure(store.get, "k", offset=10, length=10).slug == "unavailable"
    server.script(answer(206, b"0123456789", ETag=ETAG, Content_Range="bytes 10-19/100"))
    got, info = store.get("k", offset=10, length=10)
    assert got == b"0123456789" and info["size"] == 100
    assert server.requests[0].headers["range"] == "bytes=10-19"


def test_silence(store, server, measurement):
    for call in (lambda: store.put("k", b"data", deadline_ms=1000), lambda: store.get("k", deadline_ms=1000),
                 lambda: store.head("k", deadline_ms=1000), lambda: store.list(deadline_ms=1000)):
        server.script(silence)
        caught = failure(call)
        assert caught.slug == "deadline" and caught.ms >= 900
        measurement.must(caught.ms < 1000 + 500 * SLOW, f"{caught.ms} ms")


def test_a_dripping_object(store, server, measurement):
    server.script(drip())
    caught = failure(store.get, "k", deadline_ms=1500)
    assert caught.slug == "deadline"
    measurement.must(caught.ms < 1500 + 500 * SLOW, f"{caught.ms} ms")


def test_shutdown_cuts_a_call_that_is_running(store, server, measurement):
    server.script(silence)
    store.call("cut", deadline_ms=700)
    caught = failure(store.get, "k", deadline_ms=30_000)
    assert caught.slug == "deadline"
    measurement.must(caught.ms < 700 + 600 * SLOW, f"{caught.ms} ms")


def test_redirects_are_not_followed(store, server):
    other = FaultyStorage()
    other.script(stored())
    for status in (301, 302, 307, 308):
        for call in (lambda: store.put("k", b"data"), lambda: store.get("k"), lambda: store.head("k")):
            server.script(error(status, "TemporaryRedirect", Location=other.endpoint + "/bucket/k"))
            assert failure(call).slug == "unavailable"
    assert other.requests == []
    other.close()


def test_an_error_inside_a_200(store, server):
    inside = answer(200, b"<?xml version='1.0'?>\n<Error><Code>InternalError</Code></Error>")
    for call in (lambda: store.put("k", b"data"), lambda: store.get("k"), lambda: store.list()):
        server.script(inside)
        assert failure(call).slug == "unavailable"
    server.script(inside, stored())
    assert store.put("k", b"data") is False
    assert len(server.requests) == 2
    server.script(inside, stored())
    assert store.read("k") == b"the object"


def test_a_page_of_a_proxy_is_no_object(store, server):
    server.script(answer(200, b"<html>Please log in</html>", Content_Type="text/html"))
    for call in (lambda: store.put("k", b"data"), lambda: store.get("k"), lambda: store.head("k"), lambda: store.list()):
        assert failure(call).slug == "unavailable"


@pytest.mark.parametrize("page", [
    b"<ListBucketResult><Contents><Key>a</Key>",
    b"not XML",
    b"",
    b"<!DOCTYPE x [<!ENTITY a 'b'>]><ListBucketResult><Contents><Key>&a;</Key><Size>1</Size></Contents></ListBucketResult>",
    b"<ListBucketResult>" + b"<a>" * 10000 + b"</a>" * 10000 + b"</ListBucketResult>",
    b"<Other/>",
], ids=["cut", "no XML", "empty", "entities", "deep", "other"])
def test_malformed_listings(store, server, page):
    server.script(answer(200, page))
    assert failure(store.list).slug == "unavailable"


def test_a_listing_that_never_ends(store, server):
    page = (b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
            b"<NextMarker>a</NextMarker><Contents><Key>a</Key><Size>1</Size></Contents></ListBucketResult>")
    server.script(answer(200, page))
    assert failure(store.list, deadline_ms=3000).slug in ("unavailable", "deadline")
    assert len(server.requests) < 100


def test_foreign_keys_in_a_listing_are_left_out(store, server):
    page = (b"<ListBucketResult><IsTruncated>false</IsTruncated>"
            + b"".join(b"<Contents><Key>%s</Key><Size>1</Size></Contents>" % key
                       for key in (b"p/a", b"q/b", b"p/../c", b"p/" + b"x" * 1100))
            + b"</ListBucketResult>")
    server.script(answer(200, page))
    assert store.list("p/") == {"p/a": 1}


LISTED = ["p/a b+c&d%41.jpg", "p/\u00fc/\U0001f415.jpg", "p/plain"]


@pytest.mark.parametrize("marker", [b"<EncodingType>url</EncodingType>", b""], ids=["encoded", "plain"])
@pytest.mark.parametrize("before", [True, False], ids=["AWS", "MinIO"])
def test_where_a_listing_says_that_keys_are_encoded(store, server, before, marker):
    """AWS's EncodingType stands before the entries, MinIO's behind them. A blank is + there, as in forms."""
    keys = [urllib.parse.quote_plus(key, safe="/") if marker else html.escape(key) for key in LISTED]
    entries = b"".join(b"<Contents><Key>%s</Key><Size>1</Size></Contents>" % key.encode() for key in keys)
    server.script(answer(200, b"<ListBucketResult><IsTruncated>false</IsTruncated>" +
                         (marker + entries if before else entries + marker) + b"</ListBucketResult>"))
    assert store.list("p/") == {key: 1 for key in LISTED}


def test_the_coding_of_keys_is_told_by_each_page(store, server):
    def page(more, key, marker=b""):
        return answer(200, b"<ListBucketResult><IsTruncated>%s</IsTruncated>%s<Contents><Key>%s</Key><Size>1</Size></Contents>"
                      b"%s</ListBucketResult>" % (b"true" if more else b"false",
                                                  b"<NextContinuationToken>t</NextContinuationToken>" if more else b"",
                                                  key, marker))
    server.script(page(True, b"p/a+b", b"<EncodingType>url</EncodingType>"), page(False, b"p/c+d"))
    assert store.list("p/") == {"p/a b": 1, "p/c+d": 1}


def test_keys_that_minio_does_not_take(store, server):
    """A limit of that server, not a fault of the storage: nobody is to try again."""
    body = b"<Error><Code>XMinioInvalidObjectName</Code><Message>Object name contains unsupported characters.</Message></Error>"
    server.script(answer(400, body, x_minio_error_code="XMinioInvalidObjectName"))
    for key in ("a//b", "x" * 256):
        for call in (lambda: store.put(key, b"data"), lambda: store.get(key), lambda: store.head(key),
                     lambda: store.delete(key)):
            assert failure(call).slug == "bad-request"


def test_head_says_which_404_it_is(store, server):
    """HEAD has no body: once in a while the bucket is asked, too."""
    server.script(answer(404), error(404, "NoSuchBucket"))
    caught = failure(store.head, "k")
    assert caught.slug == "unavailable" and "bucket" in caught.message
    server.script(answer(404), LISTING, answer(404))
    assert failure(store.head, "k").slug == "not-found"
    assert failure(store.head, "k").slug == "not-found"
    assert len(server.requests) == 3


def test_nobody_listens(name, tmp_path, measurement):
    nowhere = f"http://127.0.0.1:{free_port()}"
    where = {"STORAGE_EMULATOR_HOST": nowhere} if name == "gcs" else {"S3_ENDPOINT": nowhere}
    store = Store(tmp_path, **ENVIRONMENTS[name] | where)
    for call in each_call(store):
        caught = failure(call)
        assert caught.slug == "unavailable"
        measurement.must(caught.ms < 5000 * SLOW, f"{caught.ms} ms")
    assert store.call("health")["failures"] >= 2
    store.close()


def test_a_connection_that_was_closed_in_between(store, server):
    server.script(stored(Connection="close"), stored())
    store.put("k", b"1")
    store.put("k", b"2")
    assert [r.body for r in server.requests] == [b"1", b"2"]


@pytest.mark.parametrize("name", ["v4", "v2"])
def test_a_wrong_clock_is_corrected_once(server, tmp_path, name):
    store = Store(tmp_path, **ENVIRONMENTS[name] | {"S3_ENDPOINT": server.endpoint})
    ahead = email.utils.format_datetime(
        datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=3), usegmt=True)

    def signed_time(request):
        if name == "v2":
            return email.utils.parsedate_to_datetime(request.headers.get("x-amz-date") or request.headers["date"])
        return datetime.datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(
            tzinfo=datetime.timezone.utc)

    def only_their_time(connection, request):
        off = abs((signed_time(request) - email.utils.parsedate_to_datetime(ahead)).total_seconds())
        step = stored(Date=ahead) if off < 60 else answer(403, Date=ahead) if request.method == "HEAD" \
            else error(403, "RequestTimeTooSkewed", Date=ahead)
        return step(connection, request)

    server.script(only_their_time)
    assert store.head("k")["etag"]
    assert len(server.requests) == 2
    assert store.read("k") == b"the object"
    assert len(server.requests) == 3, "the difference is remembered"
    store.close()


def test_the_signature_covers_what_is_sent(server, tmp_path):
    store = Store(tmp_path, **ENVIRONMENTS["v4"] | {"S3_ENDPOINT": server.endpoint, "AWS_SESSION_TOKEN": "a-token",
                                                    "S3_REGION": "eu-test-1"})
    server.script(stored())
    store.put("a b/ü+%", b"data", content_type="image/png", if_absent=True)
    request = server.requests[0]
    assert request.target == "/bucket/a%20b/%C3%BC%2B%25"
    assert request.headers["if-none-match"] == "*"
    assert request.headers["content-type"] == "image/png"
    assert request.headers["x-amz-security-token"] == "a-token"
    assert request.headers["x-amz-content-sha256"] == \
        "3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7"
    authorization = request.headers["authorization"]
    assert authorization.startswith("AWS4-HMAC-SHA256 Credential=AKIATESTTESTTEST/")
    assert "/eu-test-1/s3/aws4_request" in authorization
    signed = authorization.split("SignedHeaders=")[1].split(",")[0].split(";")
    assert set(signed) == {"content-type", "host", "if-none-match", "x-amz-content-sha256", "x-amz-date",
                           "x-amz-security-token"}
    store.close()


def test_virtual_addressing(server, tmp_path):
    for signature in ("v4", "v2"):
        store = Store(tmp_path, **ENVIRONMENTS[signature] | {
            "S3_ENDPOINT": f"http://localhost:{server.port}", "S3_ADDRESSING": "virtual"})
        server.script(stored())
        assert store.read("k") == b"the object"
        assert server.requests[0].target == "/k"
        assert server.requests[0].headers["host"] == f"bucket.localhost:{server.port}"
        store.close()


def test_gcs_says_only_if_absent(server, tmp_path):
    store = Store(tmp_path, STORAGE_URL="gs://bucket", STORAGE_EMULATOR_HOST=server.endpoint)
    server.script(stored())
    assert store.put("k", b"data", if_absent=True) is False
    sent = server.requests[0].headers
    assert sent["x-goog-if-generation-match"] == "0"
    assert base64.b64decode(sent["content-md5"]).hex() == "8d777f385d3dfec8815d20f7496026dc"
    server.script(error(412, "PreconditionFailed"))
    assert store.put("k", b"data", if_absent=True) is True
    store.close()


@pytest.mark.parametrize("env,words", [
    ({"STORAGE_URL": "s3://bucket"}, ["AWS_ACCESS_KEY_ID"]),
    ({"STORAGE_URL": "s3://bucket", "S3_SIGNATURE": "v2"} | KEYS, ["S3_SIGNATURE", "http://"]),
    ({"STORAGE_URL": "s3://bucket", "S3_SIGNATURE": "v2", "S3_ENDPOINT": "https://host"} | KEYS, ["S3_SIGNATURE", "v4"]),
    ({"STORAGE_URL": "s3://bucket", "S3_ENDPOINT": "host:9000"} | KEYS, ["S3_ENDPOINT"]),
    ({"STORAGE_URL": "s3://bucket", "S3_ENDPOINT": "http://host/path"} | KEYS, ["S3_ENDPOINT"]),
    ({"STORAGE_URL": "s3://bucket", "S3_ENDPOINT": "http://user:pw@host"} | KEYS, ["S3_ENDPOINT"]),
    ({"STORAGE_URL": "s3://BUCKET"} | KEYS, ["STORAGE_URL", "bucket"]),
    ({"STORAGE_URL": "s3://"} | KEYS, ["STORAGE_URL", "bucket"]),
    ({"STORAGE_URL": "s3://bucket/a/../b"} | KEYS, ["STORAGE_URL"]),
    ({"STORAGE_URL": "s3://bucket", "S3_REGION": "a b"} | KEYS, ["S3_REGION"]),
    ({"STORAGE_URL": "s3://bucket", "AWS_ACCESS_KEY_ID": "an id", "AWS_SECRET_ACCESS_KEY": "x"}, ["AWS_ACCESS_KEY_ID"]),
    ({"STORAGE_URL": "gs://bucket", "GOOGLE_APPLICATION_CREDENTIALS": "/nonexistent.json"},
     ["GOOGLE_APPLICATION_CREDENTIALS"]),
    ({"STORAGE_URL": "gs://bucket", "GCS_ENDPOINT": "http://a", "STORAGE_EMULATOR_HOST": "b"},
     ["GCS_ENDPOINT", "STORAGE_EMULATOR_HOST"]),
])
def test_configuration_mistakes(tmp_path, env, words):
    said = refused_to_open(tmp_path, **env)
    for word in words:
        assert word in said
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in said


def test_a_wrong_clock_is_corrected_for_all_who_ask_at_once(server, tmp_path, services):
    """HEAD is refused without saying why: whoever hears it second, when the first has set the time right,
    is not told either."""
    ahead = email.utils.format_datetime(
        datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=3), usegmt=True)
    together = threading.Barrier(4)

    def only_their_time(connection, request):
        when = email.utils.parsedate_to_datetime(request.headers.get("x-amz-date") or request.headers["date"])
        if abs((when - email.utils.parsedate_to_datetime(ahead)).total_seconds()) > 60:
            together.wait(60 * SLOW)
            return answer(403, Date=ahead)(connection, request)
        if request.method == "HEAD":
            return answer(404, b"", Date=ahead)(connection, request)
        return (LISTING if request.method == "GET" else stored(Date=ahead))(connection, request)

    server.script(only_their_time)
    services.append(Service("preprocess-service", tmp_path, EVENTS_URL="none:", WORKERS=4,
                            S3_ENDPOINT=server.endpoint, **ENVIRONMENTS["v2"]).start())
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert [r.status for r in pool.map(services[0].upload, map(coloured_jpeg, range(4)))] == [200] * 4

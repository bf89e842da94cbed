"""POST /classify: by URI and by image, and what it refuses."""
import gzip
import json
import pathlib
import zlib

import pytest
from PIL import Image

from conftest import MODEL, PHOTOS, Service, needs_photos
from images import encode, gradient
from test_preprocess import assert_problem, form

pytestmark = [pytest.mark.memory, pytest.mark.threads]

MANIFEST = json.loads(MODEL.read_text()) if MODEL.exists() else None
PNG = encode(gradient(), "PNG")


def post_json(service, value, path="/classify", content_type="application/json"):
    body = value if isinstance(value, (bytes, str)) else json.dumps(value)
    return service.request("POST", path, body, {"Content-Type": content_type})


def post_uri(service, uri, path="/classify"):
    return post_json(service, {"gcs_path": uri}, path)


@pytest.fixture(scope="module", name="uri")
def fixture_uri(shared):
    """A stored object that nobody announced: its URI."""
    (shared.objects / "mine").mkdir(exist_ok=True)
    (shared.objects / "mine/picture.png").write_bytes(PNG)
    return f"file://{shared.objects}/mine/picture.png"


def assert_labels(reply, k=5):
    assert reply.status == 200, reply
    assert reply.headers["Content-Type"] == "application/json"
    told = reply.json()
    assert list(told) == ["label", "confidence", "top", "model"]
    assert told["model"] == MANIFEST["name"]
    assert len(told["top"]) == k
    assert [set(entry) for entry in told["top"]] == [{"label", "confidence", "index"}] * k
    confidences = [entry["confidence"] for entry in told["top"]]
    assert confidences == sorted(confidences, reverse=True)
    assert 0 <= confidences[-1] and sum(confidences) <= 1.0001
    assert len({entry["index"] for entry in told["top"]}) == k
    assert (told["label"], told["confidence"]) == (told["top"][0]["label"], confidences[0])
    lines = (MODEL.parent / MANIFEST["labels"]["file"]).read_text().splitlines()
    names = lines[MANIFEST["output"]["drop_first"]:]
    assert len(names) == 1000
    for entry in told["top"]:
        assert entry["label"] == names[entry["index"]].split(",")[0]
    return told


# --- what it answers ------------------------------------------------------------------------------


def test_every_way_of_sending_gives_the_same(shared, uri):
    service = shared.classify
    expected = assert_labels(service.post_image("/classify", PNG, "image/png"))
    body, content_type = form([], PNG)
    for reply in (service.post_image("/classify", body, content_type),
                  service.post_image("/classify", PNG, "image/whatever"),
                  post_uri(service, uri),
                  post_json(service, {"gcs_path": uri}, content_type="application/json; charset=utf-8"),
                  # curl -d '{...}' says nothing better
                  post_json(service, {"gcs_path": uri}, content_type="application/x-www-form-urlencoded")):
        assert assert_labels(reply) == expected
    assert not (shared.objects / "mine/picture.png.json").exists()  # only /pubsub stores


def test_reply_of_preprocess_unchanged(shared):
    for fmt in ("jpeg", "png", "webp", "avif"):
        reply = shared.preprocess.upload(PNG, f"?format={fmt}")
        assert_labels(post_json(shared.classify, reply.body))


def test_unknown_fields_are_ignored(shared, uri):
    extra = {"gcs_path": uri, "id": 7, "nested": {"gcs_path": "x"}, "top_k": 1, "é": None, "list": [1, [2]]}
    assert_labels(post_json(shared.classify, extra))


def test_top_k(shared, uri):
    everything = assert_labels(post_uri(shared.classify, uri, "/classify?top_k=100"), 100)["top"]
    for k in (1, 2, 5, 99):
        assert assert_labels(post_uri(shared.classify, uri, f"/classify?top_k={k}"), k)["top"] == everything[:k]
    body, content_type = form([("top_k", 3)], PNG)
    assert_labels(shared.classify.post_image("/classify", body, content_type), 3)
    for bad in ("0", "101", "-1", "x", "", "1.5", "5 ", "99999999999999999999"):
        assert_problem(post_uri(shared.classify, uri, f"/classify?top_k={bad.replace(' ', '%20')}"), 400, "top_k")
        body, content_type = form([("top_k", bad)], PNG)
        if bad:
            assert_problem(shared.classify.post_image("/classify", body, content_type), 400, "top_k")
        else:  # a blank form field is none
            assert_labels(shared.classify.post_image("/classify", body, content_type), 5)
    assert_problem(post_uri(shared.classify, uri, "/classify?top_k=1&top_k=1"), 400, "top_k")
    for unknown in ("width", "topk", "format"):
        assert_problem(post_uri(shared.classify, uri, f"/classify?{unknown}=1"), 400, unknown)


@needs_photos
@pytest.mark.parametrize("photo, label, index", [
    ("n01443537_goldfish.JPEG", "goldfish", 1), ("n01514668_cock.JPEG", "cock", 7),
    ("n02504458_African_elephant.JPEG", "African elephant", 386),
    ("n02391049_zebra.JPEG", "zebra", 340), ("n09472597_volcano.JPEG", "volcano", 980),
])
def test_label_and_index(shared, photo, label, index):
    told = assert_labels(shared.classify.post_image("/classify", (PHOTOS / photo).read_bytes()))
    assert (told["label"], told["top"][0]["index"]) == (label, index)


def test_only_the_first_name_is_told(shared):
    """'hare' is one name, 'African elephant, Loxodonta africana' two; commas never show."""
    photos = [path.read_bytes() for path in sorted(PHOTOS.glob("n0*"))[:12]]
    drawn = [encode(gradient(300, 200, mode).rotate(angle)) for mode in ("RGB", "L") for angle in range(0, 360, 45)]
    for picture in photos + drawn:
        top = shared.classify.post_image("/classify?top_k=100", picture).json()["top"]
        assert not [entry for entry in top if "," in entry["label"]]



def test_pixels_reach_the_model_unharmed(shared):
    """224 x 224 is taken as it is; what is a little larger is cropped; 256 on the short side is centred."""
    inner = gradient(224, 224)
    expected = shared.classify.post_image("/classify?top_k=100", encode(inner, "PNG")).json()
    for width, height in ((224, 256), (256, 224), (256, 256), (400, 256), (256, 334)):
        outer = Image.new("RGB", (width, height))
        outer.paste(inner, ((width - 224) // 2, (height - 224) // 2))
        assert shared.classify.post_image("/classify?top_k=100", encode(outer, "PNG")).json() == expected


def test_short_side_is_scaled(shared):
    """Twice the size is the same picture, nearly."""
    small, large = (shared.classify.post_image("/classify?top_k=100", encode(gradient(*size), "PNG")).json()["top"]
                    for size in ((256, 256), (512, 512)))
    a, b = ({entry["index"]: entry["confidence"] for entry in top} for top in (small, large))
    assert max(abs(a.get(k, 0) - b.get(k, 0)) for k in a.keys() | b.keys()) < 0.05


# --- URIs -----------------------------------------------------------------------------------------


def test_foreign_uris(shared, uri):
    name = pathlib.Path(uri).name
    for foreign in ("gs://bucket/a.jpg", "s3://bucket/a.jpg", "http://127.0.0.1:1/a.jpg", "https://example.com/a",
                    "ftp://x/y", "data:image/png;base64,AAAA", "file:///etc/passwd", "file:///",
                    f"file://{shared.objects}x/{name}", f"file://{shared.folder}/outbox.db",
                    f"file://example.com{shared.objects}/{name}", f"file://{shared.objects.parent}"):
        assert_problem(post_uri(shared.classify, foreign), 403)


@pytest.mark.parametrize("uri", ["", "x", "/etc/passwd", "mine/picture.png", "file", "://", "//x/y", "?", "#a",
                                 "x" * 9000])
def test_malformed_uris(shared, uri):
    assert_problem(post_uri(shared.classify, uri), 400)


@pytest.mark.parametrize("key", [
    "../outbox.db", "mine/../mine/picture.png", "./mine/picture.png", "mine/.", "..", "%2e%2e/outbox.db",
    "mine/%2e%2e/mine/picture.png", "mine%2f..%2fmine/picture.png", "a%00b", "a%0ab", "a%zz", "a%", "a?b", "a#b",
    "", "k" * 1025, "a%ff", "mine//picture.png", "/mine/picture.png", ".tmp/x", "s" * 256,
])
def test_malformed_keys(shared, key):
    (shared.objects / "mine").mkdir(exist_ok=True)
    assert_problem(post_uri(shared.classify, f"file://{shared.objects}/{key}"), 400)


def test_object_names_with_odd_characters(shared):
    for name in ("with space", "per%cent", "pl+us", "umläut 日本", "q?uery#hash", "..double..dots..", "-", "~", "a&b='c'"):
        (shared.objects / f"{name}.png").write_bytes(PNG)
        quoted = (f"{shared.objects}/{name}.png").encode()
        encoded = "".join(chr(b) if chr(b).isalnum() and b < 128 or chr(b) in "/-._~" else f"%{b:02X}" for b in quoted)
        assert_labels(post_uri(shared.classify, "file://" + encoded))


def test_no_such_object(shared):
    for key in ("none.jpg", "mine/none.jpg", "mine", "none/none.jpg", "mine/picture.png/x"):
        (shared.objects / "mine").mkdir(exist_ok=True)
        assert_problem(post_uri(shared.classify, f"file://{shared.objects}/{key}"), 404)


def test_symbolic_links_lead_nowhere(shared, tmp_path):
    (tmp_path / "outside.png").write_bytes(PNG)
    (shared.objects / "link.png").symlink_to(tmp_path / "outside.png")
    (shared.objects / "linked").symlink_to(tmp_path)
    (shared.objects / "inside.png").symlink_to(shared.objects / "mine/picture.png")
    for key in ("link.png", "linked/outside.png", "inside.png"):
        assert_problem(post_uri(shared.classify, f"file://{shared.objects}/{key}"), 404)


def test_objects_that_are_no_image(shared):
    (shared.objects / "text.jpg").write_text("text")
    (shared.objects / "empty.jpg").write_bytes(b"")
    (shared.objects / "half.jpg").write_bytes(encode(gradient())[:2000])
    for key, status in (("text.jpg", 415), ("empty.jpg", 415), ("half.jpg", 422)):
        assert_problem(post_uri(shared.classify, f"file://{shared.objects}/{key}"), status)


def test_object_over_the_body_limit(tmp_path, services):
    services.append(Service("classify-service", tmp_path, MAX_BODY_BYTES=4000))
    service = services[0].start()
    noise = encode(Image.effect_noise((80, 80), 90), "PNG")
    assert len(noise) > 4000
    (tmp_path / "objects/noise.png").write_bytes(noise)
    (tmp_path / "objects/small.png").write_bytes(encode(gradient(16, 16), "PNG"))
    assert_problem(post_uri(service, f"file://{tmp_path}/objects/noise.png"), 413, "4000")
    assert_problem(service.post_image("/classify", noise), 413)
    assert_labels(post_uri(service, f"file://{tmp_path}/objects/small.png"))


# --- bodies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"null", b"7", b'"x"', b"{}", b'{"gcs_path": 7}', b'{"gcs_path": null}', b'{"gcs_path": ["x"]}',
    b'{"path": "file:///x"}', b'{"gcs_path": "a\\u0000b"}', b'{"gcs_path": "\xff"}', b'{"gcs_path": "x"} trailing',
    b"[" * 50000, b"<xml/>",
])
def test_malformed_json(shared, body):
    assert_problem(post_json(shared.classify, body), 400)


def test_malformed_forms(shared):
    body, content_type = form([], None)
    assert_problem(shared.classify.post_image("/classify", body, content_type), 400, "file")
    body, content_type = form([], b"")
    assert_problem(shared.classify.post_image("/classify", body, content_type), 415)
    body, content_type = form([("width", 1)], PNG)
    assert_problem(shared.classify.post_image("/classify", body, content_type), 400, "width")


def test_a_compressed_request(shared, uri):
    """JSON may be packed, an image may not."""
    text = json.dumps({"gcs_path": uri}).encode()
    plain = post_uri(shared.classify, uri).json()

    def post(body, coding, content_type="application/json"):
        return shared.classify.request("POST", "/classify", body, {"Content-Type": content_type, "Content-Encoding": coding})
    for coding, pack in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        reply = post(pack(text), coding)
        assert (reply.status, reply.json()) == (200, plain)
        assert_problem(post(pack(b" " * (1 << 20) + text), coding), 413)
        assert_problem(post(pack(text)[:-1], coding), 400)
        assert_problem(post(pack(PNG), coding, "image/png"), 415, "Content-Encoding")
    assert_problem(post(text, "br"), 415)


def test_a_raw_body_is_judged_by_its_first_bytes(shared):
    plain = shared.classify.post_image("/classify", PNG).json()
    for headers in ({}, {"Content-Type": "application/octet-stream"}):
        assert shared.classify.request("POST", "/classify", PNG, headers).json() == plain
        assert_problem(shared.classify.request("POST", "/classify", b"<html>", headers), 415)


def test_wrong_content_type(shared):
    for content_type in ("text/html", "application/xml", "video/mp4"):
        assert_problem(shared.classify.post_image("/classify", PNG, content_type), 415)
    assert_problem(shared.classify.request("POST", "/classify"), 415)
    assert_problem(shared.classify.post_image("/classify", b""), 415)


def test_other_methods(shared):
    for path in ("/classify", "/pubsub"):
        reply = shared.classify.get(path)
        assert reply.status == 405
        assert "POST" in reply.headers["Allow"]


def test_nothing_is_written_by_classify(tmp_path, services):
    services.append(Service("classify-service", tmp_path))
    service = services[0].start()
    for data in (PNG, b"no image"):
        service.post_image("/classify", data)
    for key in ("gone.jpg", "../x"):
        post_uri(service, f"file://{tmp_path}/objects/{key}")
    assert [p for p in (tmp_path / "objects").rglob("*") if p.is_file()] == []


def test_a_large_json_body_is_refused_unparsed(classify):
    """A tree of values takes 40 times the memory of its text."""
    before = classify.memory_kb("Rss")
    body = b'{"x":[' + b"[]," * 5_000_000 + b"[]]}"
    assert classify.request("POST", "/classify", body, {"Content-Type": "application/json"}).status == 413
    assert classify.memory_kb("Rss") < before + 100_000

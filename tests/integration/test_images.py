"""GET /images: the stored bytes, as a browser or a download manager asks for them."""
import pytest

from conftest import Service
from images import encode, gradient
from test_http import exchange, responses

pytestmark = pytest.mark.memory

EXTENSIONS = {"jpeg": "jpg", "png": "png", "webp": "webp", "avif": "avif"}
IMMUTABLE = {
    "Cache-Control": "private, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


@pytest.fixture(scope="module", name="images")
def fixture_images(shared):
    """format -> (id, stored bytes)"""
    found = {}
    for fmt, extension in EXTENSIONS.items():
        told = shared.preprocess.upload(encode(gradient()), f"?format={fmt}&width=64").json()
        found[fmt] = told["id"], (shared.objects / f"{told['id']}.{extension}").read_bytes()
    return found


@pytest.mark.parametrize("fmt", EXTENSIONS)
def test_whole(shared, images, fmt):
    image_id, data = images[fmt]
    for path in (f"/images/{image_id}", f"/images/{image_id}.{EXTENSIONS[fmt]}"):
        got = shared.preprocess.get(path)
        assert (got.status, got.body) == (200, data)
        assert got.headers["Content-Type"] == f"image/{fmt}"
        assert got.headers["ETag"] == f'"{image_id}"'
        assert got.headers["Content-Length"] == str(len(data))
        for name, value in IMMUTABLE.items():
            assert got.headers.get_all(name) == [value]
        head = shared.preprocess.request("HEAD", path)
        assert (head.status, head.body) == (200, b"")
        volatile = ("Date", "X-Request-Id")
        assert {k: v for k, v in head.headers.items() if k not in volatile} == \
               {k: v for k, v in got.headers.items() if k not in volatile}


def test_other_extensions_are_not_found(shared, images):
    image_id, _ = images["jpeg"]
    for extension in (".png", ".webp", ".avif", ".jpeg", ".JPG", ".gif", ".jpg.json", ".", ".jpg.", ".jpgx"):
        assert shared.preprocess.get(f"/images/{image_id}{extension}").status == 404, extension


@pytest.mark.parametrize("etag, status", [
    ('"{}"', 304), ('W/"{}"', 304), ("*", 304), ('"x", "{}"', 304), ('"x" ,W/"{}","y"', 304),
    ('"x"', 200), ("{}", 200), ('"{}x"', 200), ('""', 200), ('"', 200),
])
def test_if_none_match(shared, images, etag, status):
    image_id, data = images["jpeg"]
    for method in ("GET", "HEAD"):
        got = shared.preprocess.request(method, f"/images/{image_id}",
                                        headers={"If-None-Match": etag.format(image_id)})
        assert got.status == status
        assert got.body == (data if (method, status) == ("GET", 200) else b"")
        assert got.headers["ETag"] == f'"{image_id}"'
        assert got.headers["Cache-Control"] == IMMUTABLE["Cache-Control"]
        assert status == 200 or "Content-Type" not in got.headers


def test_every_if_none_match_line_counts(shared, images):
    image_id, _ = images["jpeg"]
    lines = b'If-None-Match: "x"\r\nIf-None-Match: "%s"\r\n' % image_id.encode()
    data = exchange(shared.preprocess, b"GET /images/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n" % (
        image_id.encode(), lines))
    assert responses(data)[0][0] == 304


@pytest.mark.parametrize("text, first, last", [
    ("bytes=0-0", 0, 0), ("bytes=0-99", 0, 99), ("bytes=7-", 7, -1), ("bytes=-1", -1, -1),
    ("bytes=-20", -20, -1), ("bytes=-9999999", 0, -1), ("bytes=5-99999999999", 5, -1),
    ("BYTES=3-4", 3, 4),
])
def test_range(shared, images, text, first, last):
    image_id, data = images["jpeg"]
    size = len(data)
    first, last = first % size, last % size
    got = shared.preprocess.get(f"/images/{image_id}", {"Range": text})
    assert got.status == 206, got
    assert got.body == data[first:last + 1]
    assert got.headers["Content-Range"] == f"bytes {first}-{last}/{size}"
    assert got.headers["Content-Length"] == str(len(got.body))
    assert got.headers["Content-Type"] == "image/jpeg"
    assert got.headers["ETag"] == f'"{image_id}"'
    for name, value in IMMUTABLE.items():
        assert got.headers[name] == value


@pytest.mark.parametrize("text", ["bytes={}-", "bytes={}-{}", "bytes=99999999-", "bytes=-0",
                                  "bytes=99999999-999999999"])
def test_range_beyond_the_end(shared, images, text):
    image_id, data = images["jpeg"]
    got = shared.preprocess.get(f"/images/{image_id}", {"Range": text.format(len(data), len(data) + 5)})
    assert got.status == 416, got
    assert got.headers["Content-Range"] == f"bytes */{len(data)}"
    assert got.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("text", ["bytes=0-1,4-5", "bytes=0-1, 3-", "bytes=5-2", "bytes=a-b", "bytes=",
                                  "bytes", "0-5", "items=0-5", "bytes=1--2", "bytes=--2", "bytes=1-2x",
                                  "bytes=0-99999999999999999999999"])
def test_range_that_is_not_served_is_answered_whole(shared, images, text):
    image_id, data = images["jpeg"]
    got = shared.preprocess.get(f"/images/{image_id}", {"Range": text})
    assert (got.status, got.body) == (200, data)
    assert "Content-Range" not in got.headers


def test_conditions_on_a_range(shared, images):
    image_id, data = images["jpeg"]
    for headers, status, body in [
            ({"If-Range": f'"{image_id}"'}, 206, data[2:6]),
            ({"If-Range": '"another"'}, 200, data),
            ({"If-Range": f'W/"{image_id}"'}, 200, data),  # only strong comparison will do
            ({"If-Range": "Sat, 21 Nov 2026 01:51:00 GMT"}, 200, data),
            ({"If-None-Match": f'"{image_id}"'}, 304, b""),
    ]:
        got = shared.preprocess.get(f"/images/{image_id}", {"Range": "bytes=2-5"} | headers)
        assert (got.status, got.body) == (status, body), headers


def test_range_is_for_get_only(shared, images):
    image_id, data = images["jpeg"]
    got = shared.preprocess.request("HEAD", f"/images/{image_id}", headers={"Range": "bytes=0-3"})
    assert got.status == 200
    assert got.headers["Content-Length"] == str(len(data))


ID = "0123456789abcdef" * 4


@pytest.mark.parametrize("name", [
    ID, ID + ".jpg", ID[:-1], ID + "0", ID.upper(), ID[:-1] + "g", "x", "..", "%2e%2e", "..%2f..%2fetc%2fpasswd",
    ".jpg", "." * 64, "/" * 3 + ID, ID + "/", ID + "/x", "%",
    "%zz", "0" * 3000,
])
def test_no_such_image(shared, name):
    got = shared.preprocess.get("/images/" + name)
    assert got.status == 404, got
    assert got.headers["Content-Type"] == "application/problem+json"
    assert shared.preprocess.request("HEAD", "/images/" + name).status == 404


@pytest.mark.parametrize("name", ["%00", ID + "%00", ID[:-1] + "%00", ID + ".jpg%00.png"])
def test_a_nul_is_no_path(shared, name):
    assert shared.preprocess.get("/images/" + name).status == 400


def test_only_our_own_names_are_served(shared):
    """What else lies in the folder is not for everybody: results, others' objects, odd names."""
    for name in (ID.upper() + ".jpg", ID[:-1] + ".jpg", ID + "0.jpg", ID + ".gif", ID + ".jpg.json",
                 "photo.jpg", ID):
        path = shared.objects / name
        path.write_bytes(b"private")
        try:
            assert shared.preprocess.get("/images/" + name).status == 404, name
            assert shared.preprocess.get("/images/" + name.rsplit(".", 1)[0]).status == 404, name
        finally:
            path.unlink()


def test_images_off(tmp_path, services):
    services.append(Service("preprocess-service", tmp_path, EVENTS_URL="none:"))
    service = services[0].start()
    told = service.upload(encode(gradient())).json()
    assert service.get("/images/" + told["id"]).status == 200
    service.stop()
    service.restart(IMAGES="off")
    for path in (told["id"], told["id"] + ".jpg"):
        got = service.get("/images/" + path)
        assert (got.status, got.json()["title"]) == (404, "Not Found")


def test_symbolic_link_is_no_object(shared):
    """Somebody who can write into the folder cannot make the service read what is outside."""
    name = "f" * 64
    (shared.objects / f"{name}.jpg").symlink_to("/etc/passwd")
    try:
        assert shared.preprocess.get("/images/" + name).status == 404
    finally:
        (shared.objects / f"{name}.jpg").unlink()

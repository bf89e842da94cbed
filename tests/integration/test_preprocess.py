"""POST /preprocess: options, replies, ids and stored objects; and every pixel where it belongs."""
import hashlib
import itertools
import urllib.parse

import numpy as np
import pytest
from PIL import Image

from conftest import Service
from images import decode, encode, gradient, numbered_jpeg

pytestmark = pytest.mark.memory

DEFAULTS = {"width": None, "height": None, "fit": "cover", "format": "jpeg", "quality": None,
            "background": "ffffff"}
EXTENSIONS = {"jpeg": "jpg", "png": "png", "webp": "webp", "avif": "avif"}
PNG = encode(gradient(60, 40), "PNG")


def query(**options):
    return "?" + urllib.parse.urlencode(options) if options else ""


def expected_id(data, operations="", **options):
    o = DEFAULTS | options
    if o["width"] is None and o["height"] is None:
        o["width"] = o["height"] = 256
    quality = o["quality"] or (94 if o["format"] == "jpeg" else 90)
    text = (f"darkroom-5\nwidth={o['width'] or 0}\nheight={o['height'] or 0}\nfit={o['fit']}\n"
            f"format={o['format']}\nquality={quality}\nbackground={o['background'].lower()}\n")
    return hashlib.sha256((text + operations).encode() + data).hexdigest()


def form(fields, file=PNG, name="file", boundary="----b0undary"):
    """A multipart/form-data body: (bytes, its content type)."""
    body = b""
    for key, value in fields:
        body += (f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n'
                 f"{value}\r\n").encode()
    if file is not None:
        body += (f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="a.jpg"\r\n'
                 "Content-Type: image/jpeg\r\n\r\n").encode() + file + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def post_form(service, fields, query_text="", **options):
    body, content_type = form(fields, **options)
    return service.post_image("/preprocess" + query_text, body, content_type)


def assert_problem(reply, status, *words):
    assert reply.status == status, reply
    assert reply.headers["Content-Type"] == "application/problem+json"
    problem = reply.json()
    assert set(problem) == {"type", "title", "status", "detail", "request_id"}
    assert problem["status"] == status
    assert problem["request_id"] == reply.headers["X-Request-Id"]
    for word in words:
        assert word in problem["detail"], problem


def stored(stack, reply):
    """The stored image of a 200."""
    assert reply.status == 200, reply
    return decode((stack.objects / reply.json()["gcs_path"].rsplit("/", 1)[1]).read_bytes())


# --- the reply, the id and the object -------------------------------------------------------------


@pytest.mark.parametrize("options", [
    {}, {"width": 31}, {"height": 17}, {"width": 20, "height": 30}, {"fit": "contain"},
    {"fit": "fill", "quality": 1}, {"fit": "inside", "width": 10}, {"quality": 100},
    {"background": "00FF7f"}, {"format": "png"}, {"format": "webp", "quality": 50},
    {"format": "avif", "width": 40}, {"width": 256, "height": 256},
    {"format": "png", "fit": "contain", "width": 9, "height": 8, "quality": 7, "background": "abcdef"},
], ids=lambda options: query(**options) or "defaults")
def test_reply_id_and_object(shared, options):
    reply = shared.preprocess.upload(PNG, query(**options), "image/png")
    assert reply.status == 200, reply
    assert reply.headers["Content-Type"] == "application/json"
    told = reply.json()
    assert list(told) == ["gcs_path", "message_id", "id", "width", "height", "format", "bytes"]
    fmt = options.get("format", "jpeg")
    assert told["id"] == expected_id(PNG, **options)
    name = f"{told['id']}.{EXTENSIONS[fmt]}"
    assert told["gcs_path"] == f"file://{shared.objects}/{name}"
    data = (shared.objects / name).read_bytes()
    assert told["bytes"] == len(data)
    assert told["format"] == fmt
    image = decode(data)
    assert (told["width"], told["height"]) == image.size
    assert fmt == "avif" or image.format == fmt.upper()
    assert image.mode == "RGB"
    assert len(told["message_id"]) == 36
    assert shared.result(told)["id"] == told["id"]


def test_defaults_are_what_they_are_called(shared):
    ids = {shared.preprocess.upload(PNG, text).json()["id"]
           for text in ("", "?fit=cover", "?format=jpeg&quality=94", "?width=256&height=256",
                        "?background=FFFFFF", "?background=ffffff&height=256&fit=cover&width=256")}
    assert ids == {expected_id(PNG)}
    assert shared.preprocess.upload(PNG, "?width=256").json()["id"] != expected_id(PNG)


def test_query_and_form_are_the_same(shared):
    options = {"width": 33, "height": 44, "fit": "contain", "format": "png", "quality": 5,
               "background": "123456"}
    in_query = shared.preprocess.upload(PNG, query(**options), "image/png").json()
    in_form = post_form(shared.preprocess, options.items()).json()
    split = post_form(shared.preprocess, list(options.items())[:3],
                      query(**dict(list(options.items())[3:]))).json()
    assert in_query["id"] == in_form["id"] == split["id"] == expected_id(PNG, **options)


@pytest.mark.parametrize("content_type", ["image/jpeg", "image/PNG", "image/x-anything; q=1"])
def test_any_image_type_will_do(shared, content_type):
    """What the file is, its bytes say."""
    assert shared.preprocess.upload(PNG, "", content_type).json()["id"] == expected_id(PNG)


def test_field_order_and_a_file_without_name(shared):
    body = (b'--x\r\nContent-Disposition: form-data; name="width"\r\n\r\n12\r\n'
            b'--x\r\nContent-Disposition: form-data; name=file\r\n\r\n' + PNG +
            b'\r\n--x\r\nContent-Disposition: form-data; name="height"\r\n\r\n13\r\n--x--')
    reply = shared.preprocess.post_image("/preprocess", body, 'multipart/form-data; boundary="x"')
    assert reply.json()["id"] == expected_id(PNG, width=12, height=13)


def test_repeat_leaves_the_object_alone(shared):
    data = numbered_jpeg(1, encode(gradient()))
    first = shared.preprocess.upload(data).json()
    path = shared.objects / f"{first['id']}.jpg"
    before = path.stat()
    for _ in range(3):
        again = shared.preprocess.upload(data).json()
        assert {k: again[k] for k in again if k != "message_id"} == \
               {k: first[k] for k in first if k != "message_id"}
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == \
           (before.st_ino, before.st_mtime_ns, before.st_ctime_ns)


def test_nothing_is_stored_for_a_refusal(preprocess):
    for data, text in ((b"no image", ""), (PNG, "?width=0"), (PNG[:-30], "")):
        assert preprocess.upload(data, text).status >= 400
    assert [p for p in (preprocess.folder / "objects").rglob("*") if p.is_file()] == []


@pytest.mark.parametrize("base", ["http://results.example:8001", "https://results.example/a/"])
def test_result_url(tmp_path, services, base):
    services.append(Service("preprocess-service", tmp_path, EVENTS_URL="none:", RESULTS_BASE_URL=base))
    told = services[0].start().upload(PNG).json()
    assert told["result_url"] == f"{base.rstrip('/')}/results/{told['id']}"
    assert told["message_id"] == ""  # none: announces nothing


# --- mistakes -------------------------------------------------------------------------------------

BAD_OPTIONS = [
    *itertools.product(["width", "height"],
                       ["0", "-1", "65536", "1.5", "1e2", "0x10", "abc", "", " 1", "1 ", "+1",
                        "99999999999999999999"]),
    *itertools.product(["quality"], ["0", "101", "-1", "9.5", "", "best"]),
    *itertools.product(["fit"], ["", "Cover", "crop", "cover,fill"]),
    *itertools.product(["format"], ["", "JPG", "JPEG", "gif", "tiff", "heic", "svg"]),
    *itertools.product(["background"], ["", "fff", "#ffffff", "fffffff", "gggggg", "red", "ffffffff"]),
    *itertools.product(["size", "Width", "file", "top_k"], ["1"]),
]


@pytest.mark.parametrize("name", sorted({name for name, _ in BAD_OPTIONS}))
def test_bad_option_is_named(shared, name):
    for value in [v for n, v in BAD_OPTIONS if n == name]:
        assert_problem(shared.preprocess.upload(PNG, query(**{name: value})), 400, name)
        if name != "file" and value:  # a blank form field is none
            assert_problem(post_form(shared.preprocess, [(name, value)]), 400, name)


def test_repeated_option_is_named(shared):
    for name, value in {"width": 5, "fit": "fill", "format": "png", "quality": 3}.items():
        twice = f"?{name}={value}&{name}={value}"
        assert_problem(shared.preprocess.upload(PNG, twice), 400, name, "more than once")
        assert_problem(post_form(shared.preprocess, [(name, value)] * 2), 400, name)
        assert_problem(post_form(shared.preprocess, [(name, value)], query(**{name: value})), 400, name)


@pytest.mark.parametrize("options, named", [
    ({"width": 4001, "height": 4000}, "width, height"),
    ({"width": 65000, "height": 1000}, "width, height"),
    ({"width": 2001, "height": 2000, "format": "avif"}, "avif"),
    ({"width": 65501, "height": 1}, "width"),
    ({"width": 1, "height": 16384, "format": "webp"}, "height"),
    ({"width": 20000}, "width"),  # 20000 x 13333 by the aspect ratio
    ({"height": 5000}, "height"),
])
def test_too_large_a_result_is_refused(shared, options, named):
    assert_problem(shared.preprocess.upload(PNG, query(**options)), 400, named)


def test_malformed_uploads(shared):
    service = shared.preprocess
    assert_problem(post_form(service, [], file=None), 400, "file")
    assert_problem(post_form(service, [("width", 5)], file=None), 400, "file")
    assert_problem(post_form(service, [], name="photo"), 400)
    assert_problem(post_form(service, [("file", "x")]), 400, "file")
    body, content_type = form([])
    for wrong in (body[:-6], body[:50], b"", b"--other--\r\n"):
        assert_problem(service.post_image("/preprocess", wrong, content_type), 400)
    for wrong in ("multipart/form-data", "multipart/form-data; boundary=",
                  "multipart/form-data; boundary=" + "x" * 71):
        assert_problem(service.post_image("/preprocess", body, wrong), 400)


def test_empty_file(shared):
    assert_problem(shared.preprocess.upload(b""), 415, "empty")
    assert_problem(post_form(shared.preprocess, [], file=b""), 415, "empty")


@pytest.mark.parametrize("content_type", [
    "application/octet", "text/plain", "application/json", "application/x-www-form-urlencoded",
    "multipart/mixed; boundary=x", "video/mp4", "image", ""])
def test_wrong_content_type(shared, content_type):
    assert_problem(shared.preprocess.request("POST", "/preprocess", PNG, {"Content-Type": content_type}), 415, "multipart")


def test_other_methods(shared):
    for method in ("GET", "PUT", "DELETE"):
        reply = shared.preprocess.request(method, "/preprocess")
        assert reply.status == 405, reply
        assert "POST" in reply.headers["Allow"]
    assert shared.preprocess.get("/preprocess/").status == 404


def test_body_limit(tmp_path, services):
    services.append(Service("preprocess-service", tmp_path, EVENTS_URL="none:", MAX_BODY_BYTES=5000))
    service = services[0].start()
    noise = encode(Image.effect_noise((80, 80), 90), "PNG")
    assert len(noise) > 5000 > len(PNG)
    assert service.upload(PNG).status == 200
    assert_problem(service.upload(noise), 413, "5000")


# --- where the pixels go --------------------------------------------------------------------------

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def near(pixel, colour, tolerance=12):
    return all(abs(int(a) - b) <= tolerance for a, b in zip(pixel, colour))


def bars(width, height, colours, vertical=False):
    """Equal bars side by side (or on top of each other)."""
    strip = Image.new("RGB", (len(colours), 1))
    strip.putdata(colours)
    if vertical:
        strip = strip.transpose(Image.Transpose.TRANSPOSE)
    return strip.resize((width, height), Image.Resampling.NEAREST)


def transformed(stack, image, **options):
    reply = stack.preprocess.upload(encode(image, "PNG"), query(**{"format": "png"} | options), "image/png")
    got = stored(stack, reply)
    assert got.size == (reply.json()["width"], reply.json()["height"])
    return got


def test_cover_crops_the_centre(shared):
    """The middle third fills the square; the outer thirds are gone."""
    for vertical, size in ((False, (300, 100)), (True, (100, 300))):
        for side in (50, 100, 200):  # shrinking, as it is, enlarging
            got = transformed(shared, bars(*size, [RED, GREEN, BLUE], vertical), width=side, height=side)
            assert got.size == (side, side)
            pixels = np.asarray(got)
            inside = pixels[3:-3, 3:-3].reshape(-1, 3)
            assert all(near(p, GREEN) for p in inside[::7])


def test_contain_pads_with_the_background(shared):
    for vertical, size in ((False, (300, 100)), (True, (100, 300))):
        for side in (60, 150, 600):
            got = transformed(shared, bars(*size, [RED, GREEN, BLUE], vertical), width=side, height=side,
                              fit="contain", background="204060")
            assert got.size == (side, side)
            if vertical:
                got = got.transpose(Image.Transpose.TRANSPOSE)
            third = side // 3
            for x in (1, side // 2, side - 2):
                assert got.getpixel((x, third - 2)) == got.getpixel((x, 0)) == (0x20, 0x40, 0x60)
                assert got.getpixel((x, side - 1)) == (0x20, 0x40, 0x60)
            for x, colour in ((third // 2, RED), (side // 2, GREEN), (side - third // 2, BLUE)):
                assert near(got.getpixel((x, side // 2)), colour)
                assert near(got.getpixel((x, third + 3)), colour)


def test_fill_stretches(shared):
    for size in ((30, 90), (90, 30), (400, 500), (1, 64), (64, 1)):
        got = transformed(shared, bars(100, 80, [RED, BLUE]), width=size[0], height=size[1], fit="fill")
        assert got.size == size
        if size[0] > 1:
            assert near(got.getpixel((size[0] // 8, size[1] // 2)), RED)
            assert near(got.getpixel((size[0] - 1 - size[0] // 8, 0)), BLUE)


def test_inside_never_enlarges(shared):
    image = bars(120, 80, [RED, BLUE])
    for options, size in [
            ({}, (120, 80)), ({"width": 60}, (60, 40)), ({"height": 20}, (30, 20)),
            ({"width": 1000}, (120, 80)), ({"width": 60, "height": 60}, (60, 40)),
            ({"width": 600, "height": 40}, (60, 40)), ({"width": 120, "height": 80}, (120, 80)),
            ({"width": 1, "height": 1}, (1, 1)),
    ]:
        got = transformed(shared, image, fit="inside", **options)
        assert got.size == size, options
        if size == (120, 80):
            assert got.tobytes() == image.tobytes()


@pytest.mark.parametrize("fit", ["cover", "contain", "fill"])
def test_size_is_exact_whatever_the_source(shared, fit):
    for source in ((1, 1), (7, 3), (256, 256), (301, 97)):
        for options, size in [({}, (256, 256)), ({"width": 31, "height": 77}, (31, 77)),
                              ({"width": 200, "height": 3}, (200, 3))]:
            assert transformed(shared, gradient(*source), fit=fit, **options).size == size


@pytest.mark.parametrize("fit", ["cover", "contain", "fill"])
def test_one_dimension_keeps_the_aspect_ratio(shared, fit):
    image = bars(120, 80, [RED, GREEN, BLUE])
    for options, size in [({"width": 60}, (60, 40)), ({"height": 20}, (30, 20)), ({"width": 240}, (240, 160)),
                          ({"width": 1}, (1, 1)), ({"height": 160}, (240, 160))]:
        got = transformed(shared, image, fit=fit, background="000000", **options)
        assert got.size == size
        if size[0] > 9:
            assert near(got.getpixel((size[0] // 6, size[1] // 2)), RED)
            assert near(got.getpixel((size[0] - 1 - size[0] // 6, 1)), BLUE)


def test_size_as_it_is_keeps_every_pixel(shared):
    image = gradient(256, 256)
    for fit in ("cover", "contain", "fill", "inside"):
        assert transformed(shared, image, fit=fit).tobytes() == image.tobytes()


def test_quality_decides(shared):
    image = encode(Image.effect_noise((256, 256), 60).convert("RGB"), "PNG")
    for fmt in ("jpeg", "webp"):
        sizes = [shared.preprocess.upload(image, query(quality=q, format=fmt)).json()["bytes"]
                 for q in (1, 30, 60, 90, 100)]
        assert sizes == sorted(sizes) and sizes[0] * 2 < sizes[-1], (fmt, sizes)

"""Operations (median, mean, rotate), fit=none, POST /transform, GET /results on preprocess, Server-Timing."""
import concurrent.futures
import os
import re

import numpy as np
import pytest
from PIL import Image

from conftest import tree, wait_for
from images import decode, encode, gradient
from test_preprocess import assert_problem, expected_id, form, post_form
from test_pubsub import ID

pytestmark = pytest.mark.memory

WIDTH, HEIGHT = 61, 45
RNG = np.random.default_rng(5)
NOISE = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
PNG = encode(Image.fromarray(NOISE), "PNG")
EXACT = "fit=none&format=png"


def transform(service, data=PNG, query=EXACT, **headers):
    return service.post_image("/transform?" + query, data, "image/png", **headers)


def pixels(reply):
    assert reply.status == 200, reply
    return np.asarray(decode(reply.body))


def windows(picture, k, mode):
    padded = np.pad(picture.astype(np.int64), ((k // 2, k // 2), (k // 2, k // 2), (0, 0)), mode)
    return np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(0, 1))


def median_of(picture, k):
    return np.median(windows(picture, k, "edge"), axis=(-2, -1)).astype(np.uint8)


def mean_of(picture, k):
    ones = np.ones_like(picture)
    return (windows(picture, k, "constant").sum((-2, -1)) // windows(ones, k, "constant").sum((-2, -1))).astype(np.uint8)


@pytest.mark.parametrize("k", [3, 5, 7, 15])
def test_median(shared, k):
    assert np.array_equal(pixels(transform(shared.preprocess, query=f"{EXACT}&median={k}")), median_of(NOISE, k))


@pytest.mark.parametrize("k", [3, 5, 31])
def test_mean(shared, k):
    assert np.array_equal(pixels(transform(shared.preprocess, query=f"{EXACT}&mean={k}")), mean_of(NOISE, k))


@pytest.mark.parametrize("degrees, quarters", [(90, 1), (180, 2), (270, 3), (-90, 3), (450, 1), (360, 0), (0, 0)])
def test_rotate_by_quarters(shared, degrees, quarters):
    """Clockwise, and exact: numpy turns the other way."""
    is_now = pixels(transform(shared.preprocess, query=f"{EXACT}&rotate={degrees}"))
    assert np.array_equal(is_now, np.rot90(NOISE, -quarters))


def test_order_is_fixed(shared):
    """Median, mean, rotate, in whatever order they are asked for."""
    should = np.rot90(mean_of(median_of(NOISE, 3), 5), -1)
    for query in ("median=3&mean=5&rotate=90", "rotate=90&mean=5&median=3"):
        assert np.array_equal(pixels(transform(shared.preprocess, query=f"{EXACT}&{query}")), should)


def test_rotate_by_an_angle(shared):
    red = encode(Image.new("RGB", (100, 60), (255, 0, 0)), "PNG")
    turned = pixels(transform(shared.preprocess, red, f"{EXACT}&rotate=30&background=0000ff"))
    assert turned.shape == (102, 117, 3)  # 60 cos 30 + 100 sin 30, 100 cos 30 + 60 sin 30
    for corner in (turned[0, 0], turned[0, -1], turned[-1, 0], turned[-1, -1]):
        assert tuple(corner) == (0, 0, 255)
    assert tuple(turned[51, 58]) == (255, 0, 0)
    # clockwise: what was the upper left corner is the highest, left of the centre
    assert tuple(turned[4, 30]) == (255, 0, 0) and tuple(turned[4, -30]) == (0, 0, 255)


def test_fit_none_keeps_the_size(shared):
    for fmt in ("png", "jpeg", "webp"):
        assert pixels(transform(shared.preprocess, query=f"fit=none&format={fmt}")).shape == (HEIGHT, WIDTH, 3)
    assert_problem(transform(shared.preprocess, query="fit=none&width=5"), 400, "width", "none")


def test_the_fit_comes_last(shared):
    reply = transform(shared.preprocess, encode(gradient(300, 200), "JPEG"), "rotate=90&fit=inside&width=100")
    assert pixels(reply).shape == (150, 100, 3)


def test_operations_are_options(shared):
    """As form fields, once, and named when they are wrong."""
    service = shared.preprocess
    for query, *words in (("median=4", "median", "odd"), ("median=17", "median"), ("mean=33", "mean"),
                          ("rotate=1.5", "rotate"), ("median=3&median=5", "median", "more than once"),
                          ("sharpen=1", "sharpen")):
        for path in ("/preprocess", "/transform"):
            assert_problem(service.post_image(f"{path}?{query}", PNG, "image/png"), 400, *words)
    reply = post_form(service, [("median", "3"), ("rotate", "-90")], file=PNG)
    assert reply.status == 200
    assert_problem(post_form(service, [("rotate", "1")], "?rotate=1", file=PNG), 400, "rotate", "more than once")


def test_ids(shared):
    """Operations, when asked for, come behind the other options, in their order."""
    def told(query):
        reply = shared.preprocess.upload(PNG, query, "image/png")
        assert reply.status == 200, reply
        return reply.json()["id"]
    assert told("") == expected_id(PNG)
    assert told("?rotate=0") == told("?rotate=-360") == told("")
    assert told("?rotate=-90&mean=3&median=5") == expected_id(PNG, "median=5\nmean=3\nrotate=270\n")
    assert told("?fit=none&format=png") == expected_id(PNG, fit="none", format="png")


def test_a_stored_picture_is_the_transformed_one(shared):
    query = "median=5&rotate=45&width=40&format=png"
    stored = shared.preprocess.upload(PNG, "?" + query, "image/png").json()
    image = shared.preprocess.get("/images/" + stored["id"])
    reply = transform(shared.preprocess, query=query)
    assert (image.status, image.body) == (200, reply.body)
    assert (image.headers["Content-Type"], reply.headers["Content-Type"]) == ("image/png", "image/png")


# --- /transform -----------------------------------------------------------------------------------


def files_of(service):
    return {path for path in service.folder.rglob("*") if path.is_file() and path.suffix in (".jpg", ".png", ".json")}


def test_transform_stores_nothing(stack):
    before = files_of(stack.preprocess)
    for fmt in ("jpeg", "png", "webp", "avif"):
        reply = transform(stack.preprocess, query=f"format={fmt}&width=32", **{"X-Request-Id": "mine-1"})
        assert reply.status == 200
        assert reply.headers["Content-Type"] == f"image/{fmt}"
        assert reply.headers["X-Request-Id"] == "mine-1"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert decode(reply.body).size[0] == 32
    assert files_of(stack.preprocess) == before
    assert stack.preprocess.metric("outbox_pending") == 0
    stack.preprocess.settles('http_requests_total{route="/transform",code="200"}', 4)


def test_transform_takes_forms(shared):
    body, content_type = form([("median", "3"), ("fit", "none"), ("format", "png")], file=PNG)
    reply = shared.preprocess.post_image("/transform", body, content_type)
    assert np.array_equal(pixels(reply), median_of(NOISE, 3))


def test_transform_refuses_like_preprocess(shared):
    service = shared.preprocess
    assert_problem(transform(service, b""), 415)
    assert_problem(transform(service, b"no picture"), 415)
    assert_problem(transform(service, PNG[:-40]), 422)
    assert_problem(transform(service, query="width=0"), 400, "width")
    assert_problem(service.get("/transform"), 405)
    assert_problem(service.request("POST", "/transform", b"{}", {"Content-Type": "application/json"}), 415)


def test_transform_from_another_origin(start):
    service = start(CORS_ORIGINS="https://shop.example")
    preflight = service.request("OPTIONS", "/transform", headers={
        "Origin": "https://shop.example", "Access-Control-Request-Method": "POST"})
    assert preflight.status == 204
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    reply = transform(service, **{"Origin": "https://shop.example"})
    assert reply.headers["Access-Control-Allow-Origin"] == "https://shop.example"


def png_header(width, height):
    """What the limits look at: there is nothing behind it."""
    return (b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") +
            b"\x08\x02\0\0\0" + b"\0" * 8)


def test_limits(start):
    """By the header: the picture on the way, its memory, and the canvas that a turn takes."""
    service = start(MAX_PIXELS="2000000", MAX_DECODE_BYTES="9000000")
    ok = encode(Image.new("L", (1000, 1000)), "PNG")  # 1 byte a pixel when it is read, 6 for operations
    assert transform(service, ok, "median=3").status == 200
    assert_problem(transform(service, png_header(1000, 1001), "median=3"), 413, "operations", "9000000")
    assert_problem(transform(service, png_header(4000, 100), "rotate=45"), 413, "rotate", "2000000")
    assert_problem(transform(service, png_header(70000, 2), "mean=3"), 413, "mean", "65535")
    assert_problem(service.upload(png_header(1000, 1001), "?median=3", "image/png"), 413, "operations")


def threads_of(service):
    """Of the sandbox process that has most."""
    return max(len(os.listdir(f"/proc/{pid}/task")) for pid in tree(service.process.pid)[1:])


def test_idle_cpus_help(start):
    """One picture, and no other: each worker's CPU makes a part of it. The bytes are those of one thread."""
    picture = encode(Image.effect_noise((1600, 1200), 60).convert("RGB"), "JPEG")
    made, most = [], []
    for workers in (1, 3):
        service, seen = start(WORKERS=workers), []
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            job = pool.submit(transform, service, picture, "median=15&fit=none")
            while not job.done():
                seen.append(threads_of(service))
        made.append(job.result().body)
        most.append(max(seen))
    assert most == [1, 3] and made[0] == made[1]


@pytest.mark.parametrize("sandbox", ["on", "off"])
def test_deadline(start, sandbox):
    """An operation that takes longer than a request may ends by itself: no process is lost for it."""
    service = start(REQUEST_TIMEOUT_MS="200", SANDBOX=sandbox)
    large = encode(Image.new("RGB", (4000, 3000), (9, 90, 200)), "JPEG")
    assert_problem(transform(service, large, "median=15"), 503)
    wait_for(lambda: transform(service, query="median=15").status == 200, "a picture that is small enough")
    assert "sandbox process lost" not in service.log()


# --- GET /results, Server-Timing ------------------------------------------------------------------


def test_results_on_preprocess(stack):
    """The same answers from both services."""
    reply = stack.preprocess.upload(encode(gradient()))
    name = stack.result(reply.json())["id"]
    for path in (f"/results/{name}", f"/results/{name}.jpg"):
        ours, theirs = stack.preprocess.get(path), stack.classify.get(path)
        assert ours.status == theirs.status == 200
        assert ours.body == theirs.body and ours.json()["id"] == name
        assert ours.headers["Content-Type"] == "application/json"
    assert_problem(stack.preprocess.get(f"/results/{name}.png"), 404)
    assert_problem(stack.preprocess.get(f"/results/{ID}"), 404)
    assert_problem(stack.preprocess.get("/results/x"), 404)
    assert_problem(stack.preprocess.get("/results"), 404)
    assert_problem(stack.preprocess.get(f"/results/{name}?gcs_path=x"), 400, "gcs_path")


def test_result_that_is_awaited(preprocess):
    name = preprocess.upload(encode(gradient())).json()["id"]
    reply = preprocess.get("/results/" + name)
    assert (reply.status, reply.json()) == (202, {"status": "pending"})
    assert int(reply.headers["Retry-After"]) >= 1


def timing(reply):
    text = reply.headers["Server-Timing"]
    assert re.fullmatch(r"[a-z]+;dur=\d+\.\d(, [a-z]+;dur=\d+\.\d)*", text), text
    return [part.split(";")[0] for part in text.split(", ")]


def test_server_timing(stack):
    picture = encode(gradient())
    reply = stack.preprocess.upload(picture)
    assert timing(reply) == ["receive", "queue", "decode", "transform", "encode", "store", "publish"]
    assert timing(transform(stack.preprocess)) == ["receive", "queue", "decode", "transform", "encode"]
    assert timing(transform(stack.preprocess, b"no picture")) == ["receive"]
    told = stack.classify.request("POST", "/classify", reply.body, {"Content-Type": "application/json"})
    assert timing(told) == ["receive", "queue", "decode", "transform", "fetch", "infer"]
    assert timing(stack.classify.post_image("/classify", picture)) == \
        ["receive", "queue", "decode", "transform", "infer"]
    assert "Server-Timing" not in stack.preprocess.get("/images/" + reply.json()["id"]).headers

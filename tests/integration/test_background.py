"""remove_background: with a model that the tests draw, and with U^2-Net where it can be had."""
import concurrent.futures
import io
import json
import os
import time

import numpy as np
import pytest
from PIL import Image

from conftest import PHOTOS, ROOT, SLOW, needs_photos, tree, wait_for
from images import encode
from models import mask_model
from test_preprocess import assert_problem, expected_id, post_form

pytestmark = pytest.mark.memory

U2NETP = ROOT / "build/models/u2netp.json"
needs_u2netp = pytest.mark.skipif(not U2NETP.exists(), reason="no u2netp: `make model` could not get it")
WIDTH, HEIGHT = 120, 60


def red_and_blue():
    """The drawn model keeps what is red: the left half."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), (0, 0, 255))
    picture.paste((255, 0, 0), (0, 0, WIDTH // 2, HEIGHT))
    return encode(picture, "PNG")


PICTURE = red_and_blue()


@pytest.fixture(name="service")
def fixture_service(start, tmp_path):
    return start(BACKGROUND_MODEL=mask_model(tmp_path))


def cut_out(service, data=PICTURE, query="", content_type="image/png"):
    reply = service.post_image("/transform?remove_background=1" + query, data, content_type)
    assert reply.status == 200, reply
    return reply


def rgba(reply):
    picture = Image.open(io.BytesIO(reply.body))
    assert picture.mode == "RGBA"
    return np.asarray(picture)


def maps_onnxruntime(service):
    """In any of the service's processes."""
    try:
        return any("libonnxruntime" in open(f"/proc/{pid}/maps", encoding="utf-8").read()
                   for pid in tree(service.process.pid))
    except PermissionError:
        pytest.skip("no right to look into sandbox processes (CAP_SYS_PTRACE)")


@pytest.mark.parametrize("fmt", ["png", "webp", "avif"])
def test_the_rest_is_transparent(service, fmt):
    picture = cut_out(service, query=f"&fit=none&format={fmt}")
    assert picture.headers["Content-Type"] == f"image/{fmt}"
    if fmt == "avif":  # Pillow reads none
        return
    picture = rgba(picture)
    assert picture.shape == (HEIGHT, WIDTH, 4)
    assert (picture[:, :40, 3] == 255).all() and (picture[:, 80:, 3] == 0).all()
    assert np.abs(picture[:, :40, :3].astype(int) - (255, 0, 0)).max() <= 6
    if fmt == "png":
        assert not picture[picture[..., 3] == 0].any()  # what was removed is not in the file


def test_jpeg_shows_the_background(service):
    reply = cut_out(service, query="&fit=none&background=00ff00")
    picture = np.asarray(Image.open(io.BytesIO(reply.body))).astype(int)
    assert np.abs(picture[:, :40] - (255, 0, 0)).max() <= 12
    assert np.abs(picture[:, 80:] - (0, 255, 0)).max() <= 12


def test_it_comes_after_rotate_and_before_the_fit(service):
    picture = rgba(cut_out(service, query="&rotate=90&fit=contain&width=100&height=100&format=png"))
    assert picture.shape == (100, 100, 4)
    assert picture[20, 50, 3] == 255 and picture[80, 50, 3] == 0  # left is above now
    assert picture[20, 5, 3] == 0  # padding


def test_stages(service):
    timing = cut_out(service).headers["Server-Timing"]
    for stage in ("queue", "decode", "transform", "infer", "encode"):
        assert f"{stage};dur=" in timing
    assert service.metric('stage_duration_seconds_count{stage="infer"}') == 1


def test_it_is_an_option_like_others(service):
    unset = service.upload(PICTURE, content_type="image/png").json()["id"]
    reply = service.upload(PICTURE, "?remove_background=1&format=png", "image/png").json()
    assert reply["id"] == expected_id(PICTURE, "remove_background=1\n", format="png")
    stored = service.get(f"/images/{reply['id']}")
    assert rgba(stored).shape == (256, 256, 4)
    for value in ("0", ""):
        assert service.upload(PICTURE, f"?remove_background={value}", "image/png").json()["id"] == unset
    assert post_form(service, [("remove_background", "1")], file=PICTURE).status == 200
    assert_problem(service.post_image("/transform?remove_background=yes", PICTURE, "image/png"),
                   400, "remove_background", "1 or 0")


def test_a_broken_picture_is_422(service):
    noise = encode(Image.effect_noise((200, 200), 80).convert("RGB"), "PNG")
    assert_problem(service.post_image("/transform?remove_background=1", noise[:-2000], "image/png"), 422)
    cut_out(service)


def test_off(start, tmp_path):
    service = start(BACKGROUND_MODEL=mask_model(tmp_path), REMOVE_BACKGROUND="off")
    for path in ("/transform", "/preprocess"):
        assert_problem(service.post_image(f"{path}?remove_background=1", PICTURE, "image/png"),
                       400, "remove_background", "off")
    assert service.post_image("/transform?remove_background=0", PICTURE, "image/png").status == 200
    assert not (tmp_path / "objects").exists() or not list((tmp_path / "objects").glob("*.jpg"))


def test_without_a_model_it_says_what_to_do(start, tmp_path):
    """And takes the model as soon as there is one."""
    service = start(BACKGROUND_MODEL=tmp_path / "mask.json")
    for path in ("/transform", "/preprocess"):
        assert_problem(service.post_image(f"{path}?remove_background=1", PICTURE, "image/png"),
                       501, "remove_background", "make model")
    assert "mask.json" in service.log() and "cannot be loaded" in service.log()
    assert service.post_image("/transform", PICTURE, "image/png").status == 200
    mask_model(tmp_path)
    cut_out(service)


@pytest.mark.parametrize("damage", ["sha256", "shape", "classifier", "nothing"])
def test_a_model_that_is_none(start, tmp_path, damage):
    path = mask_model(tmp_path, shape=(1, 4, 2, 2) if damage == "shape" else (1, 1, 4, 4))
    manifest = json.loads(path.read_text())
    if damage == "sha256":
        manifest["sha256"] = "0" * 64
    if damage == "classifier":
        manifest["input"]["resize"] = {"short_side": 4, "crop": "center"}
    path.write_text(json.dumps(manifest) if damage != "nothing" else "")
    service = start(BACKGROUND_MODEL=path)
    assert_problem(service.post_image("/transform?remove_background=1", PICTURE, "image/png"), 501, "make model")
    assert service.get("/readyz").status == 200


def test_onnxruntime_is_loaded_when_it_is_needed(service):
    assert service.post_image("/transform", PICTURE, "image/png").status == 200
    assert not maps_onnxruntime(service)
    cut_out(service)
    assert maps_onnxruntime(service)


def test_without_the_sandbox_it_is_the_same(service, start, tmp_path):
    bare = start(BACKGROUND_MODEL=mask_model(tmp_path), SANDBOX="off")
    assert cut_out(bare, query="&format=png").body == cut_out(service, query="&format=png").body


def test_many_at_a_time(service):
    """Whatever comes between the two steps of another."""
    pictures = {colour: encode(Image.new("RGB", (50 + n, 40), colour), "PNG")
                for n, colour in enumerate([(255, 0, 0), (200, 0, 0), (255, 60, 60), (230, 10, 0)])}

    def one(n):
        colour = list(pictures)[n % len(pictures)]
        if n % 3 == 0:
            return service.post_image("/transform", pictures[colour], "image/png").status == 200
        picture = rgba(cut_out(service, pictures[colour], "&fit=none&format=png"))
        return picture.shape[1] == Image.open(io.BytesIO(pictures[colour])).width

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(60)))


def test_one_at_a_time(start, tmp_path):
    """However many workers there are: the others wait in the queue, where they hold none."""
    service = start(BACKGROUND_MODEL=mask_model(tmp_path), WORKERS=4)
    data, busy = encode(Image.effect_noise((1200, 900), 60).convert("RGB"), "JPEG"), []
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(cut_out, service, data, "&fit=none&format=png", "image/jpeg") for _ in range(8)]
        while not all(job.done() for job in jobs):
            busy.append(service.metric("worker_busy"))
        for job in jobs:
            job.result()
    assert max(busy) == 1


# --- the real model -----------------------------------------------------------------------------


@pytest.fixture(name="u2netp")
def fixture_u2netp(start):
    return start(BACKGROUND_MODEL=U2NETP, REQUEST_TIMEOUT_MS=300000)  # on a machine with much else to do


SUBJECTS = {  # the share of the picture that the subject covers, by eye
    "parrot.jpg": (0.10, 0.30), "cat_720p.jpg": (0.25, 0.50), "n02391049_zebra.JPEG": (0.35, 0.65),
    "n02708093_analog_clock.JPEG": (0.60, 0.90), "n02110341_dalmatian.JPEG": (0.25, 0.60),
}


@needs_u2netp
@needs_photos
@pytest.mark.parametrize("name", SUBJECTS)
def test_subjects(u2netp, name):
    data = (PHOTOS / name).read_bytes()
    picture = rgba(cut_out(u2netp, data, "&fit=none&format=png", "image/jpeg"))
    with Image.open(PHOTOS / name) as photo:
        should = np.asarray(photo.convert("RGB")).astype(int)
    assert picture.shape[:2] == should.shape[:2]
    alpha = picture[..., 3]
    low, high = SUBJECTS[name]
    assert low < (alpha > 127).mean() < high
    # nearly all is decided, and what is kept is the photograph
    assert ((alpha > 0) & (alpha < 255)).mean() < 0.15
    assert np.abs(picture[alpha == 255][:, :3] - should[alpha == 255]).mean() < 1.5


@needs_u2netp
@pytest.mark.skipif(bool(os.environ.get("DARKROOM_UNDER")) or SLOW > 1, reason="figures of another program")
@pytest.mark.long
def test_memory(u2netp):
    """The budget: 400 MB over all processes while it is in use; when it is not, nearly all is given back."""
    noise = np.random.default_rng(3).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), "JPEG")
    peak = 0
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(cut_out, u2netp, data, "&fit=none&format=png", "image/jpeg") for _ in range(8)]
        while not all(job.done() for job in jobs):
            peak = max(peak, u2netp.memory_kb())
            time.sleep(0.05)  # a look walks through all of that memory
        for job in jobs:
            job.result()
    print(f"\nremove_background: {peak / 1024:.0f} MB while in use")
    assert peak < 400 * 1024
    wait_for(lambda: u2netp.memory_kb() < 80 * 1024, "the model to be let go")
    print(f"{u2netp.memory_kb() / 1024:.0f} MB after")
    cut_out(u2netp, data, "", "image/jpeg")

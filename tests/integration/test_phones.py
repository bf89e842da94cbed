"""What phones, cameras and editors make of a picture: odd JPEG files that every viewer shows whole, today's sizes,
gain maps. And what is left of a picture when bytes are missing, which is never a 200.

The reference is Pillow, at 64 x 64. CMYK has no colours without a profile of the inks, and Pillow's are others than
libvips': there the reference is what the service makes of the file before anything is done to it."""
import concurrent.futures
import functools
import io
import random
import threading

import numpy as np
import pytest
from PIL import Image, ImageCms

import heifs
import jpegs
from conftest import BUILD, ROOT, Service, Stack, wait_for
from images import encode, gradient, vips
from test_preprocess import assert_problem, query, stored

CASES = ROOT.parent / "shared/cases/images"
SMALL = query(width=64, height=64, fit="fill", format="png")
BASES = jpegs.kinds()
PATIENCE_S = 300
every_kind = pytest.mark.parametrize("kind", BASES)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Both services; the largest pictures take as long as they take."""
    patient = {"REQUEST_TIMEOUT_MS": PATIENCE_S * 1000}
    both = Stack(tmp_path_factory.mktemp("shared"), patient, patient)
    try:
        both.start()
        yield both
    finally:
        both.stop()


def post(service, path, data, content_type="image/jpeg"):
    return service.request("POST", path, data, {"Content-Type": content_type}, PATIENCE_S)


def some(files, kind, count):
    """About so many, others for each kind: all kinds together try all. Inks take libvips twenty times as long."""
    step = max(1, len(files) // (count // 2 if "cmyk" in kind else count))
    return list(files.items())[list(BASES).index(kind) % step::step]


def small(image):
    return np.asarray(image.convert("RGB").resize((64, 64), Image.Resampling.BOX), int)


def pillow(data):
    return small(Image.open(io.BytesIO(data)))


def picture(shared, data, what, content_type="image/jpeg"):
    """At 64 x 64, of a file that both services take."""
    reply = post(shared.preprocess, "/preprocess" + SMALL, data, content_type)
    assert reply.status == 200, (what, reply)
    labels = post(shared.classify, "/classify", data, content_type)
    assert labels.status == 200, (what, labels)
    return small(stored(shared, reply))


@pytest.fixture(scope="module")
def plain(shared):
    """plain(kind): the picture of a file without oddities"""
    return functools.cache(lambda kind: picture(shared, BASES[kind], kind))


def assert_same(got, reference, what, most=6):
    assert abs(got - reference).mean() < most, (what, abs(got - reference).mean())


# --- odd files ------------------------------------------------------------------------------------


@every_kind
def test_the_kinds_themselves(plain, kind):
    if "cmyk" not in kind:
        assert_same(plain(kind), pillow(BASES[kind]), kind, 2)


@every_kind
@pytest.mark.parametrize("surgery", jpegs.HARMLESS)
def test_odd_files_are_whole(shared, plain, kind, surgery):
    for name, data in some(surgery(BASES[kind]), kind, 8):
        got = picture(shared, data, (kind, name))
        assert_same(got, plain(kind), (kind, name), 1)
        if "cmyk" not in kind:
            assert_same(got, pillow(data), (kind, name))


@every_kind
@pytest.mark.parametrize("damage", jpegs.DAMAGE)
def test_missing_data_is_refused(shared, kind, damage):
    for name, data in some(damage(BASES[kind]), kind, 20):
        for reply in (shared.preprocess.upload(data, SMALL), shared.classify.post_image("/classify", data)):
            assert reply.status == 422, (kind, name, reply)


@every_kind
def test_other_bits(shared, plain, kind):
    """A bit of a number is another number: no decoder can tell. But both services say the same, and between restart
    markers little can go wrong."""
    chance = random.Random(kind)
    first = BASES[kind].index(b"\xff\xda") + 16
    for _ in range(20):
        data, at = bytearray(BASES[kind]), chance.randrange(first, len(BASES[kind]) - 4)
        data[at] ^= 1 << chance.randrange(8)
        reply = shared.preprocess.upload(bytes(data), SMALL)
        assert reply.status in (200, 422), (kind, at, reply)
        assert shared.classify.post_image("/classify", bytes(data)).status == reply.status, (kind, at)
        if reply.status == 200 and "restarts" in kind:
            assert_same(small(stored(shared, reply)), plain(kind), (kind, at))


SECRET = b"SecretPlace-52.5163"


def test_metadata_is_found_behind_strays_and_removed(shared):
    """Orientation and colours count, wherever strays are; nothing of them is in the result."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = SECRET.decode()
    p3 = vips(encode(gradient(300, 200), "PNG"), "copy", ".png[profile=p3]")
    profile = Image.open(io.BytesIO(p3)).info["icc_profile"]
    upright = gradient(300, 200)
    data = encode(upright.transpose(Image.Transpose.ROTATE_90), quality=95, exif=exif.tobytes(), icc_profile=profile)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    expected = small(ImageCms.profileToProfile(upright, ImageCms.ImageCmsProfile(io.BytesIO(profile)), srgb))
    assert abs(expected - small(upright)).mean() > 2  # or the profile proves nothing
    parts = jpegs.segments(data)
    for strays in (b"", b"\0", b"\0" * 18, SECRET):
        odd = jpegs.join(parts[:1] + [x for part in parts[1:] for x in (strays, part)])
        reply = shared.preprocess.upload(odd, query(width=300, height=200, fit="fill", quality=95))
        assert_same(small(stored(shared, reply)), expected, strays, 2)
        written = (shared.objects / reply.json()["gcs_path"].rsplit("/", 1)[1]).read_bytes()
        assert SECRET not in written and b"Exif" not in written and b"ICC_PROFILE" not in written
        picture(shared, odd, strays)


@pytest.mark.skipif(not CASES.is_dir(), reason="no drawn cases at hand")
@pytest.mark.parametrize("name", [
    "10-samsung-sos-al1.jpg", "11-pixel-18-bytes-after-exif.jpg", "15-restarts-1-extra-byte.jpg", "61-jfif-major-2.jpg",
    "63-com-length-2-short.jpg", "64-progressive-pad-before-eoi.jpg", "32-gainmap-ios18-auxl-1-3.heic",
])
def test_drawn_cases(shared, name):
    kind = "image/heic" if name.endswith("heic") else "image/jpeg"
    assert_same(picture(shared, (CASES / name).read_bytes(), name, kind), pillow((CASES / "00-base.jpg").read_bytes()), name)


@pytest.mark.skipif(not CASES.is_dir(), reason="no drawn cases at hand")
@pytest.mark.parametrize("name", ["40-xiaomi-50mp-8192x6144.jpg", "41-iphone-24mp-5712x4284.heic"])
def test_drawn_sizes(shared, name):
    data = (CASES / name).read_bytes()
    got = picture(shared, data, name, "image/heic" if name.endswith("heic") else "image/jpeg")
    if name.endswith("jpg"):
        assert_same(got, pillow(data), name)


# --- sizes ----------------------------------------------------------------------------------------

Image.MAX_IMAGE_PIXELS = None


@pytest.mark.parametrize("size, progressive", [((8192, 6144), False), ((8192, 6144), True), ((12000, 9000), False),
                                               ((12000, 9000), True)])
def test_large_jpegs(shared, size, progressive):
    data = encode(gradient(400, 300).resize(size, Image.Resampling.NEAREST), quality=75, progressive=progressive)
    assert_same(picture(shared, data, size), small(gradient(400, 300)), size)


TILES = [gradient(512, 512), gradient(512, 512).rotate(90), Image.new("RGB", (512, 512), (200, 30, 30))]


@pytest.fixture(scope="module")
def iphone_48():
    """8064 x 6048 in tiles, and what is seen of it."""
    seen = Image.new("RGB", (16 * 512, 12 * 512))
    for n in range(16 * 12):
        seen.paste(TILES[n % len(TILES)], (n % 16 * 512, n // 16 * 512))
    return heifs.grid(8064, 6048, TILES), small(seen.crop((0, 0, 8064, 6048)))


def test_48_megapixel_heic(shared, iphone_48):
    data, seen = iphone_48
    assert_same(picture(shared, data, "48 MP", "image/heic"), seen, "48 MP")


@pytest.mark.parametrize("names_both", [False, True])
def test_gain_maps(shared, names_both):
    """iOS 18's belongs to two items, for which libheif 1.15 refuses the file."""
    image = gradient(480, 320)
    assert_same(picture(shared, heifs.with_gain_map(image, names_both), "gain map", "image/heic"), small(image), "gain map")


def test_more_pictures_behind_the_first(shared):
    """Ultra HDR, MPO, Motion Photo: what stands behind the end of the first picture is somebody else's."""
    first, second = encode(gradient(480, 320), quality=90), encode(Image.new("L", (120, 80), 10), quality=90)
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/' hdrgm:Version='1.0'/>"
    mpf = b"MPF\0MM\0*\0\0\0\x08\0\0\0\0\0\0"
    mp4 = heifs.box(b"ftyp", b"mp42\0\0\0\0isom") + heifs.box(b"mdat", bytes(range(256)) * 50)
    parts = jpegs.segments(first)
    with_index = jpegs.join([jpegs.Segment(0xE1, xmp), jpegs.Segment(0xE2, mpf)] + parts)
    for name, data in {"ultra-hdr": with_index + second, "mpo": with_index + b"\0" * 3 + first,
                       "motion-photo": first + mp4}.items():
        assert_same(picture(shared, data, name), pillow(first), name, 2)


# --- memory ---------------------------------------------------------------------------------------


def test_large_decodes_wait_for_memory_and_hold_no_worker(tmp_path, services, iphone_48):
    """A HEIC of 48 megapixels and one of 9 do not fit into the budget together: they come one after the other, while the other
    worker is there for thumbnails."""
    service = Service("preprocess-service", tmp_path, EVENTS_URL="none:", WORKERS=2,
                      REQUEST_TIMEOUT_MS=PATIENCE_S * 1000)
    services.append(service)
    service.start()
    thumbnail, peak, ended = encode(gradient(300, 200)), [0], threading.Event()

    def watch():
        while not ended.wait(0.2):
            peak[0] = max(peak[0], service.memory_kb())
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        watching = pool.submit(watch)
        large = []
        # what is left of the budget is not enough for the second, however small it is beside the first
        for data, waiting in (iphone_48[0], 0), (heifs.grid(3584, 2560, TILES[::-1]), 1):
            large.append(pool.submit(post, service, "/preprocess?width=64", data, "image/heic"))
            wait_for(lambda: service.metric("worker_busy") == 1 and service.metric("worker_queue_depth") == waiting,
                     f"one at work, {waiting} waiting")
        assert service.upload(thumbnail).status == 200
        assert not any(each.done() for each in large)
        assert [each.result().status for each in large] == [200, 200]
        ended.set()
        watching.result()
    print(f"peak PSS {peak[0] // 1024} MiB")
    if BUILD.name == "release":  # sanitizers' shadows are no memory of a container
        assert 100 * 1024 < peak[0] < 1024 * 1024


def test_larger_than_the_limits(tmp_path, services):
    service = Service("preprocess-service", tmp_path, EVENTS_URL="none:", MAX_PIXELS=100000, MAX_DECODE_BYTES=1048576)
    services.append(service)
    service.start()
    image = gradient(400, 251)
    assert_problem(service.upload(encode(image)), 413, "100000")
    assert_problem(service.upload(heifs.with_gain_map(image.resize((402, 252)), True), "", "image/heic"), 413, "100000")
    assert service.upload(encode(image.crop((0, 0, 400, 250)), progressive=True)).status == 200

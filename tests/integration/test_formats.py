"""What may come in and what goes out: formats, colours, orientation, metadata; what is refused, and how."""
import io
import os
import struct
import subprocess
import time
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin

from conftest import ROOT, SLOW, Service
from images import encode, gradient, vips
from test_preprocess import BLUE, GREEN, RED, WHITE, assert_problem, bars, near, query, stored

pytestmark = pytest.mark.memory

OUTPUTS = ["jpeg", "png", "webp", "avif"]


def quarters(width=96, height=64, mode="RGB"):
    """Red, green over blue, white: channel order and position in one."""
    image = Image.new("RGB", (2, 2))
    image.putdata([RED, GREEN, BLUE, WHITE])
    return image.resize((width, height), Image.Resampling.NEAREST).convert(mode)


def assert_quarters(image, tolerance=12, colours=(RED, GREEN, BLUE, WHITE)):
    w, h = image.size
    for (x, y), colour in zip([(w // 4, h // 4), (3 * w // 4, h // 4), (w // 4, 3 * h // 4),
                               (3 * w // 4, 3 * h // 4)], colours):
        assert near(image.getpixel((x, y)), colour, tolerance), (x, y, image.getpixel((x, y)), colour)


def animation(fmt, **options):
    """The first frame is quarters(); the others are black."""
    return encode(quarters(), fmt, save_all=True, append_images=[Image.new("RGB", (96, 64))] * 2, **options)


INPUTS = {
    "jpeg": lambda image: encode(image, quality=95),
    "jpeg-444": lambda image: encode(image, quality=95, subsampling=0),
    "jpeg-progressive": lambda image: encode(image, quality=95, progressive=True),
    "png": lambda image: encode(image, "PNG"),
    "png-interlaced": lambda image: vips(encode(image, "PNG"), "copy", ".png[interlace]"),
    "png-palette": lambda image: encode(image.quantize(16), "PNG"),
    "png-16": lambda image: vips(encode(image, "PNG"), "colourspace", ".png", "rgb16"),
    "gif": lambda image: encode(image, "GIF"),
    "webp": lambda image: encode(image, "WEBP", quality=95),
    "webp-lossless": lambda image: encode(image, "WEBP", lossless=True),
    "tiff": lambda image: encode(image, "TIFF"),
    "tiff-lzw": lambda image: encode(image, "TIFF", compression="tiff_lzw"),
    "tiff-deflate-tiled": lambda image: vips(encode(image, "PNG"), "copy", ".tif[tile,compression=deflate]"),
    "tiff-big": lambda image: vips(encode(image, "PNG"), "copy", ".tif[bigtiff]"),
    "heic": lambda image: vips(encode(image, "PNG"), "copy", ".heic[compression=hevc,Q=90]"),
    "avif": lambda image: vips(encode(image, "PNG"), "copy", ".avif[Q=90,effort=0]"),
}


def probabilities(service, data, content_type="image/png"):
    reply = service.post_image("/classify?top_k=100", data, content_type)
    assert reply.status == 200, reply
    return {entry["index"]: entry["confidence"] for entry in reply.json()["top"]}


def assert_both_refuse(shared, data, status, *words):
    assert_problem(shared.preprocess.upload(data), status, *words)
    assert_problem(shared.classify.post_image("/classify", data), status, *words)


# --- in and out -----------------------------------------------------------------------------------


@pytest.mark.parametrize("source", INPUTS)
def test_colours_end_to_end(shared, source):
    """Red stays red from every format into every format."""
    data = INPUTS[source](quarters())
    for fmt in OUTPUTS:
        reply = shared.preprocess.upload(data, query(format=fmt, width=96, height=64))
        image = stored(shared, reply)
        assert image.size == (96, 64)
        assert_quarters(image, 24)


def distance(a, b):
    return sum(abs(a.get(k, 0) - b.get(k, 0)) for k in a.keys() | b.keys())


@pytest.fixture(scope="module")
def clock(shared, tmp_path_factory):
    """A picture whose labels change when channels are swapped, whichever model is served: with its labels, and how far
    those of the swapped one are from them. In no more colours than the palettes here have."""
    path = tmp_path_factory.mktemp("clock") / "clock.png"
    subprocess.run(["/usr/bin/python3", ROOT / "infra/demo/draw_clock.py", path], check=True)
    image = Image.open(path).convert("RGB").resize((320, 240)).quantize(16).convert("RGB")
    reference = probabilities(shared.classify, encode(image, "PNG"))
    swapped = probabilities(shared.classify, encode(Image.merge("RGB", image.split()[::-1]), "PNG"))
    return image, reference, distance(reference, swapped)


@pytest.mark.parametrize("source", INPUTS)
def test_the_classifier_sees_the_same_in_every_format(shared, source, clock):
    image, reference, swapped = clock
    assert distance(reference, probabilities(shared.classify, INPUTS[source](image))) * 3 < swapped


def test_first_frame_and_first_page(shared):
    heic = vips(encode(quarters(), "PNG"), "copy", ".heic[compression=hevc]")
    for data in (animation("GIF", duration=50), animation("WEBP", lossless=True), animation("TIFF"), heic):
        for width in (96, 24):
            image = stored(shared, shared.preprocess.upload(data, query(format="png", width=width)))
            assert image.size == (width, width * 2 // 3)
            assert_quarters(image, 30)


def test_grey(shared):
    ramp = Image.linear_gradient("L")
    for data in (encode(ramp, "PNG"), encode(ramp, "PNG", bits=8), encode(ramp, quality=100),
                 encode(ramp, "TIFF"), encode(ramp.convert("LA"), "PNG"),
                 encode(Image.fromarray(np.asarray(ramp, np.uint16) * 257), "PNG")):
        pixels = np.asarray(stored(shared, shared.preprocess.upload(data, "?format=png")), int)
        assert pixels.shape == (256, 256, 3)
        assert np.ptp(pixels, axis=2).max() == 0
        assert abs(pixels[:, 9, 0] - np.arange(256)).max() <= 2


def test_one_bit(shared):
    image = Image.new("1", (64, 64))
    image.paste(1, (32, 0, 64, 64))
    for data in (encode(image, "PNG"), encode(image, "TIFF"), encode(image, "GIF")):
        got = stored(shared, shared.preprocess.upload(data, "?format=png&width=64"))
        assert near(got.getpixel((10, 30)), (0, 0, 0)) and near(got.getpixel((50, 30)), WHITE)


def test_16_bit_is_scaled_not_cut(shared):
    for value in (0x00FF, 0x1234, 0x80FF, 0xFF00):
        grey = Image.fromarray(np.full((8, 8), value, np.uint16))
        for data in (encode(grey, "PNG"), encode(grey, "TIFF")):
            got = stored(shared, shared.preprocess.upload(data, "?format=png&width=8"))
            assert abs(got.getpixel((4, 4))[0] - value / 257) <= 1.5


BACKGROUNDS = [("ffffff", (255, 255, 255)), ("000000", (0, 0, 0)), ("3060c0", (0x30, 0x60, 0xC0))]


@pytest.mark.parametrize("background, colour", BACKGROUNDS)
def test_alpha_over_background(shared, background, colour):
    """Left opaque red, middle half, right clear (with green beneath, which must not shine through)."""
    image = Image.new("RGBA", (90, 30), (0, 255, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 30, 30))
    image.paste((255, 0, 0, 128), (30, 0, 60, 30))
    palette = Image.new("P", (90, 30), 1)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.paste(0, (0, 0, 30, 30))
    half = tuple((255 * 128 + c * 127) // 255 if i == 0 else c * 127 // 255 for i, c in enumerate(colour))
    grey = Image.merge("LA", (Image.new("L", (90, 30), 200), image.getchannel("A")))
    for data, opaque, middle in [
            (encode(image, "PNG"), RED, half), (encode(image, "WEBP", lossless=True), RED, half),
            (encode(image, "TIFF"), RED, half),
            (encode(palette, "PNG", transparency=1), RED, colour),
            (encode(palette, "GIF", transparency=1), RED, colour),
            (encode(grey, "PNG"), (200,) * 3, tuple((200 * 128 + c * 127) // 255 for c in colour)),
    ]:
        for width in (90, 30, 270):
            got = stored(shared, shared.preprocess.upload(
                data, query(format="png", width=width, background=background)))
            y = got.height // 2
            assert near(got.getpixel((width // 6, y)), opaque, 4)
            assert near(got.getpixel((width // 2, y)), middle, 4)
            assert near(got.getpixel((width * 5 // 6, y)), colour, 4)


def test_alpha_is_white_to_the_classifier(shared):
    image = gradient(256, 256).convert("RGBA")
    image.putalpha(Image.radial_gradient("L"))
    white = Image.new("RGBA", image.size, (255,) * 4)
    white.alpha_composite(image)
    clear = probabilities(shared.classify, encode(image, "PNG"))
    flat = probabilities(shared.classify, encode(white.convert("RGB"), "PNG"))
    assert max(abs(clear[k] - flat.get(k, 0)) for k in clear) < 0.03


def cmyk_jpeg(profile):
    """The quarters in CMYK, with or without a profile that says what the inks look like."""
    return vips(encode(quarters(), "PNG"), "icc_export", f".jpg[Q=98{'' if profile else ',strip'}]",
                "--output-profile", "cmyk")


def test_cmyk(shared):
    """With a profile the colours come back; without, no ink is white and cyan's absence is red."""
    with_profile, without = cmyk_jpeg(True), cmyk_jpeg(False)
    pillow = encode(quarters(mode="CMYK"), quality=98)
    assert Image.open(io.BytesIO(with_profile)).mode == "CMYK"
    assert "icc_profile" in Image.open(io.BytesIO(with_profile)).info
    assert "icc_profile" not in Image.open(io.BytesIO(without)).info
    tiff = encode(quarters(mode="CMYK"), "TIFF")
    for data in (with_profile, without, pillow, tiff):
        for fmt in ("png", "jpeg"):
            got = stored(shared, shared.preprocess.upload(data, query(format=fmt, width=96)))
            corners = [got.getpixel(p) for p in ((24, 16), (72, 16), (24, 48), (72, 48))]
            for channel, corner in enumerate(corners[:3]):  # each primary is still the strongest
                assert corner[channel] == max(corner) > min(corner) + 60, corners
            assert near(corners[3], WHITE, 8), corners


def test_wide_gamut_profile_is_converted(shared):
    """Display P3 red is more than sRGB red: what was (234, 51, 35) in P3 is (255, 0, 0) in sRGB."""
    p3 = vips(encode(Image.new("RGB", (64, 64), (234, 51, 35)), "PNG"), "copy", ".png[profile=p3]")
    got = stored(shared, shared.preprocess.upload(p3, "?format=png&width=64"))
    assert near(got.getpixel((30, 30)), RED, 6)
    srgb = encode(quarters(), "PNG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    assert_quarters(stored(shared, shared.preprocess.upload(srgb, "?format=png&width=96")), 2)


def test_broken_profile_is_ignored(shared):
    data = encode(quarters(), "PNG", icc_profile=b"this is no profile" * 10)
    assert_quarters(stored(shared, shared.preprocess.upload(data, "?format=png&width=96")), 2)


def test_one_pixel(shared):
    for source in INPUTS:
        if source in ("heic", "avif"):  # their encoders want more
            continue
        data = INPUTS[source](Image.new("RGB", (1, 1), (200, 30, 60)))
        for fmt in OUTPUTS:
            got = stored(shared, shared.preprocess.upload(data, query(format=fmt)))
            assert got.size == (256, 256)
            assert near(got.getpixel((128, 128)), (200, 30, 60), 16), (source, fmt)
        assert shared.classify.post_image("/classify", data).status == 200


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (2, 20000), (20000, 3)])
def test_extreme_aspect_ratios(shared, size):
    tall = size[0] < size[1]
    image = bars(*size, [RED, GREEN, BLUE], vertical=tall)
    for data in (encode(image, "PNG"), encode(image, quality=95, subsampling=0)):
        for fit in ("cover", "contain", "fill"):
            got = stored(shared, shared.preprocess.upload(data, query(fit=fit, format="png", width=90, height=90)))
            assert got.size == (90, 90)
            if fit != "contain":  # a line of one pixel mixes with the padding
                assert near(got.getpixel((45, 45)), GREEN, 30)
            if fit == "fill":
                ends = ((45, 8), (45, 80)) if tall else ((8, 45), (80, 45))
                assert near(got.getpixel(ends[0]), RED, 30) and near(got.getpixel(ends[1]), BLUE, 30)
        got = stored(shared, shared.preprocess.upload(data, query(fit="inside", format="png", width=100, height=100)))
        assert max(got.size) == 100 and min(got.size) == 1
        assert shared.classify.post_image("/classify", data).status == 200


# --- orientation and metadata ---------------------------------------------------------------------

TURNS = {1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
         4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
         7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270}


def oriented(image, orientation, fmt):
    """`image` stored turned away, with the EXIF tag that turns it back."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = image if TURNS[orientation] is None else image.transpose(TURNS[orientation])
    if fmt == "TIFF":
        return encode(turned, fmt, tiffinfo={0x0112: orientation})
    lossless = {"lossless": True} if fmt == "WEBP" else {}
    return encode(turned, fmt, exif=exif.tobytes(), **lossless)


@pytest.mark.parametrize("fmt", ["PNG", "WEBP", "TIFF"])
def test_orientation_gives_the_same_pixels(shared, fmt):
    image = gradient(160, 96)
    for options in ({"width": 160, "height": 96}, {"width": 50}, {}, {"fit": "contain", "width": 41, "height": 77}):
        results = {stored(shared, shared.preprocess.upload(oriented(image, n, fmt),
                                                           query(format="png", **options))).tobytes()
                   for n in TURNS}
        assert len(results) == 1, options


def test_orientation_of_jpeg(shared):
    """JPEG itself is not symmetric (blocks, chroma): the same within its noise."""
    image = gradient(320, 192)
    for options in ({"width": 160}, {}, {"width": 40, "height": 24}):
        upright, *others = (np.asarray(stored(shared, shared.preprocess.upload(
            encode(image if TURNS[n] is None else image.transpose(TURNS[n]), quality=98, subsampling=0,
                   exif=exif_of(n)), query(format="png", **options))), int) for n in TURNS)
        for other in others:
            assert other.shape == upright.shape
            assert abs(other - upright).max() <= 8


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def test_orientation_that_is_none(shared):
    for value in (0, 9, 65535):
        data = encode(quarters(), "PNG", exif=exif_of(value))
        assert_quarters(stored(shared, shared.preprocess.upload(data, "?format=png&width=96")), 2)


def test_classifier_turns_pictures_upright(shared):
    image = gradient(300, 200)
    reference = probabilities(shared.classify, oriented(image, 1, "PNG"))
    for n in TURNS:
        assert probabilities(shared.classify, oriented(image, n, "PNG")) == reference


SECRET = b"SecretPlace-52.5163"


def with_metadata(fmt):
    """GPS, maker, comments, XMP, a thumbnail's worth: whatever the format can carry."""
    exif = Image.Exif()
    exif[0x010F] = exif[0x013B] = exif[0x8298] = SECRET.decode()
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 58.0), 29: SECRET.decode()})
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + SECRET + b"</x:xmpmeta>"
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if fmt == "JPEG":
        data = encode(quarters(), exif=exif.tobytes(), icc_profile=icc, comment=SECRET)
        packet = b"http://ns.adobe.com/xap/1.0/\0" + xmp
        app1 = b"\xff\xe1" + (len(packet) + 2).to_bytes(2, "big") + packet
        comment = b"\xff\xfe" + (len(SECRET) + 2).to_bytes(2, "big") + SECRET
        return data[:2] + app1 + comment + data[2:]
    if fmt == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_text("Comment", SECRET.decode())
        text.add_itxt("XML:com.adobe.xmp", xmp.decode())
        return encode(quarters(), "PNG", exif=exif.tobytes(), icc_profile=icc, pnginfo=text)
    if fmt == "WEBP":
        return encode(quarters(), "WEBP", lossless=True, exif=exif.tobytes(), icc_profile=icc, xmp=xmp)
    if fmt == "TIFF":
        info = TiffImagePlugin.ImageFileDirectory_v2()
        info[270] = info[315] = SECRET.decode()
        info[700] = xmp
        return encode(quarters(), "TIFF", tiffinfo=info, icc_profile=icc)
    jpeg = with_metadata("JPEG")
    return vips(jpeg, "copy", ".heic[compression=hevc]" if fmt == "HEIC" else ".avif[effort=0]")


def chunks_of(data):
    """Names of a PNG's chunks, a WebP's chunks, or a JPEG's markers."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        at, names = 8, []
        while at < len(data):
            names.append(data[at + 4:at + 8].decode())
            at += 12 + int.from_bytes(data[at:at + 4], "big")
        return names
    if data[:4] == b"RIFF":
        at, names = 12, []
        while at < len(data):
            names.append(data[at:at + 4].decode())
            size = int.from_bytes(data[at + 4:at + 8], "little")
            at += 8 + size + size % 2
        return names
    at, names = 2, []
    while data[at + 1] != 0xDA:
        names.append(f"{data[at + 1]:02x}")
        at += 2 + int.from_bytes(data[at + 2:at + 4], "big")
    return names


ALLOWED_CHUNKS = {
    "png": {"IHDR", "IDAT", "IEND", "pHYs"},
    "webp": {"VP8 ", "VP8L"},
    "jpeg": {"e0", "db", "c0", "c2", "c4", "dd"},
}


@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP", "TIFF", "HEIC", "AVIF"])
def test_metadata_is_gone(shared, source):
    data = with_metadata(source)
    assert SECRET in data  # else this test would prove nothing
    for fmt in OUTPUTS:
        reply = shared.preprocess.upload(data, query(format=fmt, width=96))
        image = stored(shared, reply)
        raw = (shared.objects / reply.json()["gcs_path"].rsplit("/", 1)[1]).read_bytes()
        for trace in (SECRET, b"Secret", b"Exif", b"EXIF", b"GPS", b"xmp", b"adobe", b"Photoshop", b"acsp",
                      b"ICC_PROFILE", b"ICCP", b"vips", b"darkroom"):
            assert trace not in raw, (fmt, trace)
        if fmt in ALLOWED_CHUNKS:
            assert set(chunks_of(raw)) <= ALLOWED_CHUNKS[fmt], fmt
            assert not dict(image.getexif())
            assert not {"exif", "icc_profile", "xmp", "comment"} & set(image.info)
        assert_quarters(image, 24)


# --- refused: truncated ---------------------------------------------------------------------------


@pytest.mark.parametrize("source", INPUTS)
def test_truncated_is_never_a_success(shared, source):
    data = INPUTS[source](gradient(120, 90))
    for percent in range(5, 100, 5):
        part = data[:len(data) * percent // 100]
        for service, path in ((shared.preprocess, "/preprocess?width=30"), (shared.classify, "/classify")):
            reply = service.post_image(path, part)
            expected = (415, 422) if len(part) < 40 else (422,)  # its magic may be cut, too
            assert reply.status in expected, (percent, len(part), reply)


def test_last_byte_matters(shared):
    """Also those that carry no pixel: the end of a file is how one knows that it is whole."""
    for source in ("jpeg", "jpeg-progressive", "webp"):
        data = INPUTS[source](gradient(120, 90))
        for cut in (1, 2, 3, 10):
            assert_problem(shared.preprocess.upload(data[:-cut]), 422)


def test_garbage_after_the_end_is_harmless(shared):
    for source in ("jpeg", "png", "gif", "webp", "tiff"):
        data = INPUTS[source](quarters()) + b"\0garbage\xff\xd8\xff" * 3
        assert_quarters(stored(shared, shared.preprocess.upload(data, "?format=png&width=96")), 24)


def test_damaged_in_the_middle(shared):
    """Never anything but a picture or 422, and the service lives on."""
    rng = np.random.default_rng(7)
    for source in ("jpeg", "jpeg-progressive", "png", "gif", "webp", "tiff-lzw", "heic", "avif"):
        data = INPUTS[source](gradient(90, 60))
        for _ in range(12):
            damaged = bytearray(data)
            for at in rng.integers(20, len(data), 4):
                damaged[at] ^= int(rng.integers(1, 256))
            for service, path in ((shared.preprocess, "/preprocess?width=30"), (shared.classify, "/classify")):
                assert service.post_image(path, bytes(damaged)).status in (200, 413, 415, 422)
    assert shared.preprocess.upload(encode(quarters())).status == 200


# --- refused: not an image ------------------------------------------------------------------------


def zipped():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("photo.jpg", encode(quarters()))
    return out.getvalue()


@pytest.mark.parametrize("data", [
    b"", b"\xff", b"\xff\xd8", b"plain text", b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
    b"<?xml version='1.0'?><svg/>", zipped(), b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", b"\0" * 1000,
    b"P6\n1 1\n255\n\1\2\3", b"BM" + b"\0" * 60, b"\x00\x00\x01\x00" + b"\0" * 60, b"RIFF\x24\0\0\0WAVEfmt " + b"\0" * 30,
    b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0" * 30, b"\0\0\0\x20ftypisom" + b"\0" * 40, b"\x76\x2f\x31\x01" + b"\0" * 40,
    b"#!/bin/sh\n", b"GIF88a" + b"\0" * 40, b"\x89PNG\r\n\x1a\r" + b"\0" * 40, b"\0" + encode(quarters()),
    b"\x1f\x8b\x08" + b"\0" * 40, b"8BPS" + b"\0" * 40,
], ids=lambda data: repr(data[:8]))
def test_not_an_image(shared, data):
    assert_both_refuse(shared, data, 415)
    body = (b'--x\r\nContent-Disposition: form-data; name="file"; filename="photo.jpg"\r\n'
            b"Content-Type: image/jpeg\r\n\r\n" + data + b"\r\n--x--\r\n")
    for service, path in ((shared.preprocess, "/preprocess"), (shared.classify, "/classify")):
        assert service.post_image(path, body, "multipart/form-data; boundary=x").status == 415


def test_magic_alone_is_a_broken_image(shared):
    for magic in (b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"MM\0*",
                  b"RIFF\x10\0\0\0WEBPVP8 "):
        assert_both_refuse(shared, magic, 422)
        assert_both_refuse(shared, magic + b"\xff" * 100, 422)


# --- refused: bombs -------------------------------------------------------------------------------


def png_header(width, height, depth=8, kind=2):
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100000)) +
            chunk(b"IEND", b""))


def jpeg_header(width, height):
    """A small JPEG that says it is a large one."""
    data = bytearray(encode(quarters(), quality=50))
    at = data.index(b"\xff\xc0")
    data[at + 5:at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def gif_header(width, height):
    data = bytearray(encode(quarters(), "GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def webp_header(width, height):
    """VP8X may say up to 2^24 a side."""
    canvas = b"\0\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    plain = encode(quarters(), "WEBP")
    chunks = b"VP8X" + struct.pack("<I", 10) + canvas + plain[12:]
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


def tiff_header(width, height):
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
               (273, 4, 1, 200), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 100)]
    ifd = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries) + b"\0" * 4
    return (b"II*\0" + struct.pack("<I", 8) + ifd).ljust(300, b"\0")


BOMBS = {"png": png_header, "jpeg": jpeg_header, "gif": gif_header, "webp": webp_header, "tiff": tiff_header}


@pytest.mark.parametrize("fmt", BOMBS)
def test_header_bomb(shared, measurement, fmt):
    bomb = BOMBS[fmt](60000, 60000)
    for service, path in ((shared.preprocess, "/preprocess"), (shared.classify, "/classify")):
        assert_problem(service.post_image(path, bomb), 413, "60000")
        before, times = service.memory_kb("Pss_Anon"), []
        for _ in range(5):
            start = time.monotonic()
            assert service.post_image(path, bomb).status == 413
            times.append(time.monotonic() - start)
        assert service.memory_kb("Pss_Anon") - before < 4096
        measurement.must(min(times) < 0.1 * SLOW, f"refused after {times} s")


def test_stored_bomb_is_refused_too(shared):
    path = shared.objects / "bomb.png"
    path.write_bytes(png_header(60000, 60000))
    reply = shared.classify.request("POST", "/classify", b'{"gcs_path": "file://%s"}' % str(path).encode(),
                                    {"Content-Type": "application/json"})
    assert_problem(reply, 413)


def with_frames(fmt, count, **options):
    """An animation of that many frames: what the third adds to a file of two, as often as it takes."""
    first, second = quarters(300, 200), quarters(300, 200).rotate(180)  # equal neighbours would be merged
    two, three = (encode(first, fmt, save_all=True, append_images=[second, first][:n], **options) for n in (1, 2))
    if fmt == "GIF":
        return two[:-1] + three[len(two) - 1:-1] * (count - 2) + b";"
    data = two + three[len(two):] * (count - 2)
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


def test_frames_and_pages_cost_nothing(shared):
    """Only the first of them is decoded: 4,000 of 300 x 200 are no 240 megapixels."""
    pages = [quarters(30, 20)] * 899
    for data, frames in ((with_frames("GIF", 4000), 4000), (with_frames("WEBP", 900, lossless=True, minimize_size=False), 900),
                         (encode(quarters(300, 200), "TIFF", save_all=True, append_images=pages, compression="tiff_lzw"), 900)):
        assert Image.open(io.BytesIO(data)).n_frames == frames
        assert_quarters(stored(shared, shared.preprocess.upload(data, "?format=png&width=96")), 24)
        assert shared.classify.post_image("/classify", data).status == 200


def many_scans(count):
    """A progressive JPEG with its last scan repeated until there are `count`."""
    data = encode(quarters(), progressive=True)
    starts = [at for at in range(len(data) - 1) if data[at:at + 2] == b"\xff\xda"]
    last = data[starts[-1]:-2]
    return data[:-2] + last * (count - len(starts)) + b"\xff\xd9"


def test_progressive_jpeg_with_too_many_scans(shared, measurement):
    assert_both_refuse(shared, many_scans(101), 422, "100 scans")
    start = time.monotonic()
    assert_both_refuse(shared, many_scans(20000), 422, "100 scans")
    seconds = time.monotonic() - start
    assert shared.preprocess.upload(encode(quarters(), progressive=True)).status == 200
    measurement.must(seconds < 1 * SLOW, f"refused after {seconds:.1f} s")


def test_small_limits(tmp_path, services):
    services.append(Service("preprocess-service", tmp_path, EVENTS_URL="none:", MAX_PIXELS=10000,
                            MAX_DECODE_BYTES=1048576))
    service = services[0].start()
    exact, over = Image.new("RGB", (100, 100)), Image.new("RGB", (100, 101))
    for source in ("jpeg", "png", "gif", "webp", "tiff", "heic", "avif"):
        assert service.upload(INPUTS[source](exact)).status == 200, source
        assert_problem(service.upload(INPUTS[source](over)), 413, "10000")
    service.stop()
    service.restart(MAX_PIXELS=10**9)
    image = Image.new("RGB", (600, 500))  # 300,000 pixels: 0.9 MB as RGB, 1.8 MB of coefficients
    assert service.upload(INPUTS["jpeg-444"](image)).status == 200
    assert_problem(service.upload(encode(image, progressive=True, subsampling=0)), 413, "memory", "1048576")
    assert_problem(service.upload(INPUTS["png-16"](image)), 413, "memory")
    assert service.upload(INPUTS["png"](image)).status == 200


def test_nothing_is_left_behind(shared):
    """No temporary file survives all of the above."""
    assert [p for p in shared.objects.glob(".tmp/*")] == []
    assert not [name for name in os.listdir(shared.folder) if name.startswith("vips")]

"""NLImageService: the older image service's clients (nlimage_clients.py) work unchanged, and what is none of
their payloads is refused."""
import base64
import io

import grpc
import numpy as np
import pytest
from PIL import Image

from calls import CODE, code_of, raw
from conftest import SLOW, wait_for
from images import encode
from nlimage_clients import CLIENTS, Base64Text, Client, FileVerbatim, RawByContent

pytestmark = [pytest.mark.memory, pytest.mark.threads]

MIB = 1 << 20
Y, X = np.mgrid[0:4, 0:5]
RGB = np.stack([(37 * X + 59 * Y + 11) % 256, (101 * X + 17 * Y + 23) % 256, (13 * X + 149 * Y + 5) % 256], 2).astype(np.uint8)
GREY = ((53 * X + 91 * Y + 7) % 256).astype(np.uint8)
RGBA = np.dstack([RGB, np.full_like(GREY, 200)])


def file_of(pixels, kind="PNG", **options):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def mean(pixels):
    """Over the pixel and its neighbours that exist, rounded down."""
    height, width = pixels.shape[:2]
    out = np.empty_like(pixels)
    for y in range(height):
        for x in range(width):
            window = pixels[max(y - 1, 0):y + 2, max(x - 1, 0):x + 2].astype(int)
            out[y, x] = window.sum(axis=(0, 1)) // (window.shape[0] * window.shape[1])
    return out


def test_reference():
    """Five of the older servers agree on these."""
    assert mean(GREY).tolist() == [[79, 105, 115, 126, 110], [124, 122, 118, 114, 112], [130, 128, 124, 120, 118],
                                   [133, 116, 127, 137, 164]]
    assert mean(RGB)[0, 0].tolist() == [59, 82, 86] and mean(RGB)[1, 1].tolist() == [107, 112, 81]
    assert np.rot90(GREY).tolist()[0] == [219, 54, 145, 236]


@pytest.fixture(name="nlimage")
def fixture_nlimage(messages):
    return messages("nlimage")


@pytest.fixture(name="client")
def fixture_client(shared, nlimage):
    """client(kind): one, connected."""
    channels = []

    def client(kind):
        channels.append(grpc.insecure_channel(f"{shared.preprocess.host}:{shared.preprocess.port}",
                                              list(kind.options.items())))
        grpc.channel_ready_future(channels[-1]).result(timeout=10 * SLOW)  # SETTINGS come before any call
        return kind(channels[-1], nlimage)
    yield client
    for channel in channels:
        channel.close()


FILES = {"colour.png": file_of(RGB), "alpha.png": file_of(RGBA), "grey.png": file_of(GREY),
         "grey_rgb.png": file_of(np.dstack([GREY] * 3)), "colour.jpg": file_of(RGB, "JPEG", quality=95, subsampling=0),
         "grey.jpg": file_of(GREY, "JPEG", quality=95),
         "palette.png": encode(Image.fromarray(RGB).quantize(64), "PNG"),
         "palette.tif": encode(Image.fromarray(RGB).quantize(64), "TIFF"),
         "grey_clear.png": file_of(GREY, transparency=int(GREY[1, 2])),
         "colour_clear.png": file_of(RGB, transparency=tuple(map(int, RGB[1, 2])))}


def expected(kind, file, rotation):
    """What that client should see: the picture as it sends it, in the order of its calls."""
    fields = kind.encode(object.__new__(kind), file)
    if issubclass(kind, RawByContent):
        shape = (fields["height"], fields["width"], 3) if fields["color"] else (fields["height"], fields["width"])
        pixels = np.frombuffer(fields["data"], np.uint8).reshape(shape)
        pixels = pixels[:, :, ::-1] if kind.compression else pixels  # BGR
    else:
        picture = Image.open(io.BytesIO(file if kind is Base64Text else fields["data"]))
        mode = "RGBA" if "transparency" in picture.info else "RGB" if picture.mode == "P" else picture.mode
        pixels = np.asarray(picture.convert(mode))
    for call in kind.order:
        pixels = np.rot90(pixels, rotation) if call == "rotate" else mean(pixels)
    return pixels


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", CLIENTS)
def test_foreign_clients(client, kind, name):
    if kind is Base64Text and name.endswith(".tif"):
        pytest.skip("base64 is known by how a PNG or JPEG begins")
    file = FILES[name]
    caller = client(kind)
    for rotation in range(4):
        pixels, reply = caller.work(file, rotation)
        wanted = expected(kind, file, rotation)
        assert pixels.shape == wanted.shape
        assert np.abs(pixels.astype(int) - wanted).max() <= (2 if file[:2] == b"\xff\xd8" else 0)  # another libjpeg
        assert (reply.width, reply.height) == (wanted.shape[1], wanted.shape[0])


def test_answers_in_kind(client, nlimage):
    """The flag comes back as it was sent, whatever the file is; pixels stay of their size."""
    caller = client(Client)
    for color in (False, True):
        for data in FILES.values():
            for call in (lambda image: caller.mean_filter(image),
                         lambda image: caller.rotate_image(nlimage.NLImageRotateRequest(image=image, rotation=1))):
                reply = call(nlimage.NLImage(data=data, color=color, width=7, height=99))
                assert reply.color == color and Image.open(io.BytesIO(reply.data)).format == "PNG"
    reply = caller.rotate_image(nlimage.NLImageRotateRequest(
        rotation=0, image=nlimage.NLImage(data=GREY.tobytes(), width=5, height=4)))
    assert (reply.data, reply.width, reply.height, reply.color) == (GREY.tobytes(), 5, 4, False)


def test_pixels_that_begin_like_a_file(client, nlimage):
    """A signature is no file: pixels may begin with one, or with base64's."""
    caller = client(Client)
    for start in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"/9j/", b"iVBORw0KGgo"):
        pixels = np.frombuffer(start + bytes(range(60 - len(start))), np.uint8).reshape(4, 5, 3)
        reply = caller.mean_filter(nlimage.NLImage(data=pixels.tobytes(), color=True, width=5, height=4))
        assert reply.data == mean(pixels).tobytes()


def test_what_is_no_payload(shared, nlimage):
    png, grey = FILES["colour.png"], GREY.tobytes()

    def status(method, message):
        code, details, _ = code_of(raw, shared.preprocess, f"/NLImageService/{method}", message.SerializeToString())
        assert details
        return code

    image, turn = nlimage.NLImage, nlimage.NLImageRotateRequest
    for junk in (image(), image(data=b"junk"), image(data=grey), image(data=grey, width=-5, height=-4),
                 image(data=grey, width=5, height=5), image(data=grey, width=5, height=4, color=True),
                 image(width=0, height=0), image(data=b"", width=65536, height=65536, color=True),
                 image(data=png[:40]), image(data=b"\xff\xd8\xff\xe0junk"), image(data=b"/9j/!"), image(data=b"/9j/\0AAA"),
                 image(data=base64.b64encode(png)[:-9]), image(data=b"/9j/" + b"AAAA" * 9),
                 image(data=b"x" * 16, width=2**31 - 1, height=2**31 - 1)):
        assert status("MeanFilter", junk) == CODE.INVALID_ARGUMENT, junk
        assert status("RotateImage", turn(image=junk, rotation=1)) == CODE.INVALID_ARGUMENT, junk
        assert status("RotateImage", turn(image=junk)) == CODE.INVALID_ARGUMENT, junk
    assert status("RotateImage", turn(rotation=1)) == CODE.INVALID_ARGUMENT
    assert status("MeanFilter", image(data=bytes(70000), width=70000, height=1)) == CODE.RESOURCE_EXHAUSTED
    for rotation in (b"\x08\x07", b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"):  # 7, -1
        message = rotation + turn(image=image(data=png)).SerializeToString()
        assert code_of(raw, shared.preprocess, "/NLImageService/RotateImage", message)[0] == CODE.INVALID_ARGUMENT
    assert status("MeanFilter", image(data=bytes(33 * MIB))) == CODE.RESOURCE_EXHAUSTED
    assert status("CustomImageEndpoint", image(data=png)) == CODE.UNIMPLEMENTED
    shared.preprocess.settles("body_bytes_in_flight", 0)


def noise(width, height):
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)


def test_replies_that_clients_take(client, nlimage):
    """As PNG this photograph takes more than clients receive; base64 has room for less of it."""
    smooth = np.asarray(Image.fromarray(noise(400, 300)).resize((1600, 1200)))
    file = file_of(smooth, "JPEG", quality=90)
    assert len(file_of(smooth)) > 4 * MIB > len(file)
    reply = client(FileVerbatim).mean_filter(nlimage.NLImage(data=file))
    assert len(reply.SerializeToString()) <= 4 * MIB
    picture = Image.open(io.BytesIO(reply.data))
    assert (picture.format, picture.size, reply.width, reply.height) == ("JPEG", (1600, 1200), 1600, 1200)
    assert np.abs(np.asarray(picture).astype(int) - np.asarray(Image.open(io.BytesIO(file)))).mean() < 8
    reply = client(FileVerbatim).mean_filter(nlimage.NLImage(data=base64.b64encode(file)))
    assert len(reply.SerializeToString()) <= 4 * MIB
    assert Image.open(io.BytesIO(base64.b64decode(reply.data))).format == "JPEG"


def test_large_pixels(shared, nlimage):
    """As large as a body may be; more than clients receive unless they say so."""
    pixels = noise(3600, 3000)
    options = {"grpc.max_receive_message_length": -1}
    message = nlimage.NLImage(data=pixels.tobytes(), color=True, width=3600, height=3000).SerializeToString()
    reply, _ = raw(shared.preprocess, "/NLImageService/MeanFilter", message, **options)
    found = np.frombuffer(nlimage.NLImage.FromString(reply).data, np.uint8).reshape(pixels.shape)
    wide = pixels.astype(np.uint16)
    rows = wide[:-2] + wide[1:-1] + wide[2:]
    assert (found[1:-1, 1:-1] == (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) // 9).all()
    shared.preprocess.settles("body_bytes_in_flight", 0)


def test_cancelled_calls_give_their_worker_back(start, nlimage):
    """The client leaves while its picture is worked on: the next one does not wait for it."""
    service = start(WORKERS=1)
    large = nlimage.NLImage(data=file_of(noise(3900, 4000), "JPEG", quality=60))  # its PNG takes seconds
    with grpc.insecure_channel(f"{service.host}:{service.port}") as channel:
        call = channel.unary_unary("/NLImageService/MeanFilter").future(large.SerializeToString())
        wait_for(lambda: service.metric("worker_busy") == 1, "the call to run")
        call.cancel()
        wait_for(lambda: service.metric("worker_busy") == 0, "the worker to be free")
    code, _, _ = code_of(raw, service, "/NLImageService/MeanFilter", large.SerializeToString(), timeout=0.2)
    assert code == CODE.DEADLINE_EXCEEDED
    service.settles("body_bytes_in_flight", 0)

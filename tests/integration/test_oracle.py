"""Every kind of picture that the writers at hand can make (drawn.py), beside what it shows and what other software takes
it for: accepted alike, the same picture, upright, and nothing left of metadata. Cut anywhere, it is never another one."""
import contextlib
import io
import subprocess

import numpy as np
import pytest
from PIL import Image

import drawn
import other_decoders
from conftest import BUILD, ROOT, SLOW, Service
from test_preprocess import query

pytestmark = pytest.mark.memory

SIDE = 64
CASES = ROOT.parent / "shared/cases/images"


class Reader:
    """build/image-probe: our decoder alone, for thousands of files. Called with one, it is (status, PNG or reason)."""

    def __init__(self, process):
        self.process = process

    def __call__(self, data, width=SIDE, height=SIDE):
        self.process.stdin.write(b"%d %d %d\n" % (len(data), width, height) + data)
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"image-probe ended: {self.process.wait()}"
        status, size = map(int, line.split())
        return status, self.process.stdout.read(size)


@pytest.fixture(scope="module")
def reader():
    process = subprocess.Popen([BUILD / "image-probe"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with contextlib.closing(process.stdin):
        yield Reader(process)
    assert process.wait(30 * SLOW) == 0


def started(service):
    try:
        yield service.start()
    finally:
        service.stop()


@pytest.fixture(scope="module")
def uploads(tmp_path_factory):
    """preprocess-service alone, its events dropped."""
    yield from started(Service("preprocess-service", tmp_path_factory.mktemp("uploads"), EVENTS_URL="none:"))


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    yield from started(Service("classify-service", tmp_path_factory.mktemp("labels")))


# The least number of files of each: a writer that is missing takes some away.
LEAST = {"png": 130, "tiff": 250, "gif": 50, "webp": 30, "jpeg": 25, "avif": 0, "heic": 10}


@pytest.fixture(scope="module", params=LEAST)
def family(request):
    """All files of a format."""
    files = list(drawn.FAMILIES[request.param]())
    assert len(files) == len({file.name for file in files}) >= LEAST[request.param]
    if not files:
        pytest.skip("nothing writes these here: install libavif-bin")
    return files


def small(picture):
    """8 bit RGB, 64 by 64, as numbers that can be subtracted."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS), int)


def difference(a, b):
    return abs(small(a) - small(b)).mean()


def read(data):
    return Image.open(io.BytesIO(data))


def assert_all(complaints):
    """All at once: a fault is seen in which kinds have it."""
    assert not complaints, f"{len(complaints)} files:\n" + "\n".join(complaints[:40])


def judge(file, reply, stored):
    """None, or what is wrong with the answer to an upload; stored: reads the object."""
    if file.shows is None:
        if reply.status == 415 and f"not supported: {file.refused}" in reply.json()["detail"]:
            return None
        return f"{file.name}: must be 415 for {file.refused!r}: {reply}"
    if reply.status != 200:
        return f"{file.name}: {reply}"
    data = stored(reply)
    found = [trace for trace in (drawn.SECRET, b"Exif", b"eXIf", b"GPS", b"acsp", b"iCCP", b"tEXt", b"cICP") if trace in data]
    if found:
        return f"{file.name}: there is {found} in what is stored"
    off = difference(read(data), file.shows)
    return None if off <= file.limit else f"{file.name}: differs by {off:.1f}"


def test_shows_what_was_drawn(uploads, family):
    def stored(reply):
        return (uploads.folder / "objects" / reply.json()["gcs_path"].rsplit("/", 1)[1]).read_bytes()
    options = query(format="png", width=SIDE, height=SIDE, fit="fill")
    assert_all([wrong for file in family if (wrong := judge(file, uploads.upload(file.data, options), stored))])


def test_the_classifier_accepts_the_same(labels, family):
    """It decides by the same code: some are enough."""
    for file in family[::9]:
        expected = 200 if file.shows is not None else 415
        assert labels.post_image("/classify", file.data).status == expected, file.name


def test_others_see_the_same(family, reader):
    """Pillow, and another where Pillow cannot. Where theirs is not what was drawn, they are no judge."""
    complaints, judged = [], 0
    for file in family:
        if file.shows is None or any(word in file.name for word in ("curve", "cicp", "nclx")):
            continue  # code points are new to them
        status, ours = reader(file.data)
        try:
            theirs = other_decoders.decode(file.data)
        except LookupError:
            continue
        if theirs is None or difference(theirs, file.shows) > max(file.limit, drawn.LOSSY):
            continue
        judged += 1
        if status != 200 or difference(read(ours), theirs) > max(file.limit, drawn.LOSSY):
            complaints.append(f"{file.name}: {status}, but others see a picture, and what was drawn")
    assert_all(complaints)
    if judged == 0:
        pytest.skip("no other decoder here reads these")
    assert judged > 0.3 * len(family)  # ImageMagick knows no transparency of HEIC


def smooth(width, height):
    """Waves of 80 to 100 pixels: shrunk well, they only lose resolution, and a shift shows."""
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    waves = [np.sin(2 * np.pi * (x / a + y / b)) for a, b in ((80, 95), (100, 85), (90, -100))]
    return np.rint(127.5 + 100 * np.dstack(waves)).astype(np.uint8)


@pytest.mark.parametrize("kind", ("JPEG", "PNG"))
@pytest.mark.parametrize("size", ((1001, 1001), (1001, 701)), ids=str)
def test_turned_pictures_are_not_shifted(reader, size, kind):
    """Pixels are joined on the way from the stored corner on: the last ones, which mirrored come first, stand for fewer."""
    rgb, options, found = smooth(*size), {"quality": 95} if kind == "JPEG" else {}, {}
    for orientation, turn in drawn.TURNS.items():
        image = Image.fromarray(np.ascontiguousarray(turn(rgb)))
        status, data = reader(drawn.encode(image, kind, exif=drawn.exif_of(orientation), **options), 60, 60)
        assert status == 200, data
        found[orientation] = np.asarray(read(data), int)
    off = {orientation: abs(pixels - found[1]).max() for orientation, pixels in found.items()}
    assert max(off.values()) <= 3, off


def cuts(data):
    """At 20 places, and the last bytes."""
    lengths = {len(data) * k // 21 for k in range(1, 21)} | {len(data) - n for n in (1, 2, 4, 12)}
    return [data[:n] for n in sorted(lengths) if 0 < n < len(data)]


def test_a_cut_file_is_never_another_picture(family, reader):
    complaints = []
    for number, file in enumerate(family):
        if number % 8 and any(word in file.name for word in ("p3", "cicp", "curve")):
            continue  # as the plain ones, and colours take ten times as long
        whole = reader(file.data)
        for part in cuts(file.data):
            status, picture = reader(part)
            if status != 422 and not (status == 415 and (len(part) < 40 or whole[0] == 415)) and (status, picture) != whole:
                complaints.append(f"{file.name}: {len(part)} of {len(file.data)} bytes: {status}")
    assert_all(complaints)


# --- handed files: ../shared/cases/images, when it is there -----------------------------------------

# (file, what it must look like: another file, or a mean colour on white)
HANDED = [
    ("50-png-rgba16-p3-shadow.png", (244, 215, 190)), ("50-png-rgba16-p3-shadow.png", "50-png-rgba8-p3-shadow-control.png"),
    ("54-tif-rgb-alpha-extra.tif", None), ("56-avif-premultiplied.avif", (190, 164, 180)), ("70-tif-palette.tif", None),
    ("52-gif-1000x1000-51-frames.gif", (255, 255, 255)), ("53-tif-14-fax-pages.tif", None),
]
REFUSED = [("55-tif-float-grey.tif", 415), ("55-tif-ycbcr-lzw.tif", 415), ("70-tif-palette-cut-100.tif", 422)]
handed = pytest.mark.skipif(not CASES.is_dir(), reason="no ../shared/cases/images")


@handed
@pytest.mark.parametrize("name, expected", HANDED)
def test_handed(reader, name, expected):
    data = (CASES / name).read_bytes()
    status, ours = reader(data)
    assert status == 200, ours
    if isinstance(expected, tuple):
        assert abs(small(read(ours)).mean(axis=(0, 1)) - expected).max() < 2
    elif expected:
        assert difference(read(ours), read(reader((CASES / expected).read_bytes())[1])) < 2
    else:
        assert difference(read(ours), other_decoders.decode(data)) < drawn.LOSSY


@handed
@pytest.mark.parametrize("name, status", REFUSED)
def test_handed_and_refused(reader, name, status):
    assert reader((CASES / name).read_bytes())[0] == status


@handed
def test_handed_frame_and_code_points(reader):
    """Red at the first frame's place, the background around it; Display P3 is more than sRGB."""
    status, ours = reader((CASES / "51-gif-first-frame-smaller.gif").read_bytes(), 60, 40)
    assert status == 200
    pixels = np.asarray(read(ours).convert("RGB"), int)
    assert (pixels[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all() and not (pixels == 0).all(axis=2).any()
    data = (CASES / "58-png-cicp-p3.png").read_bytes()
    at = data.index(b"cICP")
    plain = data[:at - 4] + data[at + 12:]
    assert difference(read(reader(data)[1]), read(reader(plain)[1])) > 0.5

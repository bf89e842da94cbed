"""The files of test_oracle.py: every kind of picture that the writers at hand can make, each with the picture that
it shows. Small ones, of one scene whose corners all differ; what a writer needs and is missing is left out.

PNG, TIFF and animations are put together here, so that every header field can have every value.
"""
import dataclasses
import functools
import io
import itertools
import pathlib
import shutil
import struct
import subprocess
import tempfile
import zlib

import numpy as np
from PIL import Image, ImageCms

from images import encode, vips
from other_decoders import MAGICK

WIDTH, HEIGHT = 72, 56
SECRET = b"SecretPlace-52.5163"
# What has no name here is compared within the loss of lossy formats.
EXACT, LOSSY, INKS = 2.0, 6.0, 45.0  # mean difference at 64x64; inks without a profile look as one likes


@dataclasses.dataclass
class Drawn:
    name: str
    data: bytes
    shows: np.ndarray  # 8 bit RGB on white, upright; None: it is refused
    limit: float = EXACT
    refused: str = ""  # what the 415 says


# --- the scene ------------------------------------------------------------------------------------


def scene(width=WIDTH, height=HEIGHT):
    """Soft colours in 0..1, every corner another, and a dark mark at the upper left."""
    y, x = np.mgrid[0:height, 0:width] / [[[height - 1]], [[width - 1]]]
    rgb = np.stack([0.15 + 0.7 * x, 0.2 + 0.6 * y, 0.8 - 0.5 * x * y], axis=-1)
    rgb[: height // 4, : width // 4] *= 0.3
    return rgb


def shadow(width=WIDTH, height=HEIGHT):
    """Transparency: clear at the right end, opaque at the left third."""
    return np.broadcast_to(np.clip(1.3 - 1.5 * np.arange(width) / width, 0, 1), (height, width)).copy()


def grey_of(rgb):
    return rgb[..., 1]


def on_white(rgb, alpha=None):
    """Floats, RGB or grey, to what a page shows."""
    if rgb.ndim == 2:
        rgb = np.repeat(rgb[..., None], 3, axis=2)
    if alpha is not None:
        rgb = rgb * alpha[..., None] + 1 - alpha[..., None]
    return np.round(rgb * 255).astype(np.uint8)


def to_light(x):
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def from_light(x):
    x = np.clip(x, 0, 1)
    return np.where(x <= 0.0031308, x * 12.92, 1.055 * x ** (1 / 2.4) - 0.055)


def xyz_of(primaries, white=(0.3127, 0.3290)):
    """RGB to XYZ, from the chromaticities of red, green, blue."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    x, y = white
    return columns * np.linalg.solve(columns, [x / y, 1, (1 - x - y) / y])


# ITU-T H.273, table 2
PRIMARIES = {1: [(0.640, 0.330), (0.300, 0.600), (0.150, 0.060)], 12: [(0.680, 0.320), (0.265, 0.690), (0.150, 0.060)],
             9: [(0.708, 0.292), (0.170, 0.797), (0.131, 0.046)]}


def ordinary_light(nits):
    """Of a picture made for bright displays: white at 203 cd/m2, 1,000 cd/m2 become the brightest."""
    x = np.minimum(nits / 203, 1000 / 203)
    return x * (1 + x / (1000 / 203) ** 2) / (1 + x)


def pq_nits(x):
    """SMPTE ST 2084."""
    p = x ** (32 / 2523)
    return 10000 * (np.maximum(p - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * p)) ** (16384 / 2610)


def hlg_nits(x):
    """ITU-R BT.2100, on a display of 1,000 cd/m2."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    return 1000 * np.where(x <= 0.5, x * x / 3, (np.exp((x - c) / a) + b) / 12) ** 1.2


# ITU-T H.273, table 3: numbers to light
CURVES = {4: lambda x: x ** 2.2, 5: lambda x: x ** 2.8, 8: lambda x: x, 16: lambda x: ordinary_light(pq_nits(x)),
          18: lambda x: ordinary_light(hlg_nits(x))}


def in_primaries(rgb, number):
    """The same colours in numbers of other primaries, with sRGB's curve."""
    matrix = np.linalg.inv(xyz_of(PRIMARIES[number])) @ xyz_of(PRIMARIES[1])
    return from_light(to_light(rgb) @ matrix.T)


@functools.cache
def profile(name):
    if name == "srgb":
        return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = vips(encode(Image.new("RGB", (8, 8)), "PNG"), "copy", f".png[profile={name}]")
    return Image.open(io.BytesIO(data)).info["icc_profile"]


# (name, what goes into the file, what is written instead of sRGB numbers)
PROFILES = [("plain", None, lambda rgb: rgb), ("srgb", "srgb", lambda rgb: rgb),
            ("p3", "p3", lambda rgb: in_primaries(rgb, 12))]

TURNS = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
         5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, 1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
         8: lambda a: np.rot90(a, -1)}  # stored like this, with this EXIF orientation, it is upright


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = SECRET.decode()
    return exif.tobytes()


def whole(values, bits):
    """0..1 to numbers of so many bits."""
    return np.round(np.clip(values, 0, 1) * ((1 << bits) - 1)).astype(np.uint32)


def packed(rows, bits, order=">"):
    """Rows of numbers to bytes; each begins with a new byte."""
    rows = rows.reshape(rows.shape[0], -1)
    if bits >= 8:
        return [row.astype(f"{order}u{bits // 8}").tobytes() for row in rows]
    every = ((rows[..., None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8).reshape(rows.shape[0], -1)
    return [np.packbits(row).tobytes() for row in every]


# --- PNG ------------------------------------------------------------------------------------------


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(samples, kind, bits, interlaced=False, chunks=()):
    """Numbers (height, width, channels) as a PNG of this colour type."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = b""
    for x, y, dx, dy in passes if interlaced else [(0, 0, 1, 1)]:
        rows += b"".join(b"\0" + row for row in packed(samples[y::dy, x::dx], bits))
    height, width = samples.shape[:2]
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlaced)) +
            b"".join(chunk(name, body) for name, body in chunks) + chunk(b"tEXt", b"Comment\0" + SECRET) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def palette_of(bits):
    """Colours of a palette in 0..1."""
    count = 1 << bits
    steps = np.arange(count) / (count - 1)
    return np.stack([steps, 1 - steps, 0.5 + 0.4 * np.cos(steps * 3)], axis=-1)


def pngs():
    rgb, alpha, grey = scene(), shadow(), grey_of(scene())
    for interlaced, (profile_name, icc, coded) in itertools.product((False, True), PROFILES):
        chunks = [] if icc is None else [(b"iCCP", b"p\0\0" + zlib.compress(profile(icc)))]
        for bits in (8, 16):
            name = f"{bits}-{profile_name}{'-interlaced' * interlaced}"
            numbers = whole(coded(rgb), bits)
            yield Drawn(f"png-rgb{name}", png(numbers, 2, bits, interlaced, chunks), on_white(rgb))
            both = np.dstack([numbers, whole(alpha, bits)])
            yield Drawn(f"png-rgba{name}", png(both, 6, bits, interlaced, chunks), on_white(rgb, alpha))
            if profile_name == "p3":  # not for grey
                continue
            one = whole(grey, bits)[..., None]
            both = np.dstack([one, whole(alpha, bits)])
            yield Drawn(f"png-ga{name}", png(both, 4, bits, interlaced, chunks), on_white(grey, alpha))
            yield Drawn(f"png-grey{name}", png(one, 0, bits, interlaced, chunks), on_white(grey))
    for bits, interlaced in itertools.product((1, 2, 4, 8), (False, True)):
        most = (1 << bits) - 1
        level = whole(grey, bits)
        name = f"{bits}{'-interlaced' * interlaced}"
        yield Drawn(f"png-grey{name}-few", png(level[..., None], 0, bits, interlaced), on_white(level / most))
        colours = palette_of(bits)
        plte = [(b"PLTE", whole(colours, 8).astype(np.uint8).tobytes())]
        yield Drawn(f"png-palette{name}", png(level[..., None], 3, bits, interlaced, plte), on_white(colours[level]))
        clear = np.linspace(0, 1, most + 1)
        trns = (b"tRNS", whole(clear, 8).astype(np.uint8).tobytes())
        yield Drawn(f"png-palette{name}-clear", png(level[..., None], 3, bits, interlaced, [*plte, trns]),
                    on_white(colours[level], clear[level]))
    for bits in (8, 16):
        level, hole = whole(grey, bits), whole(grey, bits)[HEIGHT // 2, 0]
        trns = [(b"tRNS", struct.pack(">H", hole))]
        yield Drawn(f"png-grey{bits}-clear", png(level[..., None], 0, bits, False, trns), on_white(grey, 1.0 * (level != hole)))
        numbers = whole(rgb, bits)
        numbers[:, WIDTH // 2:] = numbers[0, -1]
        trns = [(b"tRNS", struct.pack(">HHH", *numbers[0, -1]))]
        clear = 1.0 * (np.arange(WIDTH) < WIDTH // 2) * np.ones((HEIGHT, 1))
        yield Drawn(f"png-rgb{bits}-clear", png(numbers, 2, bits, False, trns), on_white(rgb, clear))
    for orientation, turn in TURNS.items():
        exif = [(b"eXIf", exif_of(orientation)[6:])]
        yield Drawn(f"png-turned-{orientation}", png(whole(turn(rgb), 8), 2, 8, False, exif), on_white(rgb))
    for primaries, bits in itertools.product((1, 9, 12), (8, 16)):
        numbers, icc = whole(in_primaries(rgb, primaries), bits), [(b"iCCP", b"p\0\0" + zlib.compress(profile("p3")))]
        for transfer, full, extra in ((13, 1, []), (13, 1, icc), (1, 1, []), (13, 0, [])):
            low, high = (0, 1) if full else (16 / 255, 235 / 255)
            numbers = whole(low + (high - low) * in_primaries(rgb, primaries), bits)
            cicp = [(b"cICP", bytes([primaries, transfer, 0, full])), *extra]
            name = f"{bits}-{primaries}-{transfer}-{full}{'-icc' * bool(extra)}"
            yield Drawn(f"png-cicp{name}", png(numbers, 2, bits, False, cicp), on_white(rgb))
            if bits == 16:
                yield Drawn(f"png-cicp{name}-alpha", png(np.dstack([numbers, whole(alpha, bits)]), 6, bits, False, cicp),
                            on_white(rgb, alpha))
    for (transfer, curve), primaries, bits in itertools.product(CURVES.items(), (1, 9), (8, 16)):
        matrix = np.linalg.inv(xyz_of(PRIMARIES[1])) @ xyz_of(PRIMARIES[primaries])
        cicp = [(b"cICP", bytes([primaries, transfer, 0, 1]))]
        yield Drawn(f"png-curve{bits}-{primaries}-{transfer}", png(whole(rgb, bits), 2, bits, False, cicp),
                    on_white(from_light(curve(rgb) @ matrix.T)))


# --- TIFF -----------------------------------------------------------------------------------------

GREY_INVERTED, GREY, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
SHORT, LONG, LONG8 = 3, 4, 16


def pack_bits(data):
    """PackBits without any repeats, which every reader must take."""
    return b"".join(bytes([len(part) - 1]) + part for part in (data[i:i + 128] for i in range(0, len(data), 128)))


@dataclasses.dataclass
class Layout:
    """How the numbers lie in the file."""
    name: str
    order: str = "<"
    big: bool = False
    rows: int = 16
    tile: int = 0
    planar: bool = False
    compression: int = 1
    predictor: bool = False


STRIPS, PLANES = Layout("strips"), Layout("planes", planar=True)
LAYOUTS = [STRIPS, Layout("one-strip", rows=1000), Layout("big-endian", order=">"), Layout("bigtiff", big=True),
           Layout("tiles", tile=32), PLANES]
DEFLATE = Layout("deflate", compression=8, tile=16, order=">")
PACKED = Layout("packbits", compression=32773)
PREDICTED = [Layout("deflate-differences", compression=8, predictor=True),
             Layout("deflate-differences-tiles", compression=32946, predictor=True, tile=32, order=">"),
             Layout("deflate-differences-planes", compression=8, predictor=True, planar=True)]


def tiff(samples, bits, photometric, layout=STRIPS, tags=()):
    """Numbers (height, width, channels) as a TIFF; `tags` are more entries, or other ones: {number: (type, values)}."""
    height, width, channels = samples.shape
    side = layout.tile or max(width, layout.rows)
    parts, chunks = ([samples[..., i:i + 1] for i in range(channels)] if layout.planar else [samples]), []
    for part in parts:
        step = layout.tile or layout.rows
        for top, left in itertools.product(range(0, height, step), range(0, width, layout.tile or width)):
            block = part[top:top + step, left:left + (layout.tile or width)]
            if layout.tile:
                block = np.pad(block, [(0, side - block.shape[0]), (0, side - block.shape[1]), (0, 0)], "edge")
            if layout.predictor:
                block = np.diff(block.astype(np.int64), axis=1, prepend=0) & ((1 << bits) - 1)
            body = [*packed(block, bits, layout.order)]
            chunks.append({1: b"".join, 32773: lambda rows: b"".join(map(pack_bits, rows))}.get(
                layout.compression, lambda rows: zlib.compress(b"".join(rows)))(body))
    size_type = LONG8 if layout.big else LONG
    entries = {256: (LONG, [width]), 257: (LONG, [height]), 258: (SHORT, [bits] * channels),
               259: (SHORT, [layout.compression]), 262: (SHORT, [photometric]), 270: (2, list(SECRET + b"\0")),
               277: (SHORT, [channels]), 284: (SHORT, [2 if layout.planar else 1])}
    if layout.predictor:
        entries[317] = (SHORT, [2])
    if layout.tile:
        entries |= {322: (LONG, [layout.tile]), 323: (LONG, [layout.tile])}
    else:
        entries[278] = (LONG, [layout.rows])
    at, head = (324, 16) if layout.tile else (273, 8)
    head = 16 if layout.big else 8
    offsets = list(itertools.accumulate([head, *map(len, chunks)]))
    entries |= {at: (size_type, offsets[:-1]), {324: 325, 273: 279}[at]: (size_type, [len(c) for c in chunks])}
    entries |= dict(tags)
    return tiff_file(layout, b"".join(chunks), entries)


def tiff_file(layout, pixels, entries):
    """The file: header, pixels, the values that do not fit into the directory, the directory."""
    order, inline = layout.order, 8 if layout.big else 4
    formats = {1: "B", 2: "B", 7: "B", SHORT: "H", LONG: "I", LONG8: "Q", 5: "I"}
    body, directory = pixels + b"\0" * (len(pixels) % 2), b""
    head = 16 if layout.big else 8
    for tag, (kind, values) in sorted(entries.items()):
        raw = struct.pack(f"{order}{len(values)}{formats[kind]}", *values)
        count = len(values) // 2 if kind == 5 else len(values)
        if len(raw) > inline:
            at = head + len(body)
            body += raw + b"\0" * (len(raw) % 2)
            raw = struct.pack(order + ("Q" if layout.big else "I"), at)
        directory += struct.pack(order + ("HHQ" if layout.big else "HHI"), tag, kind, count) + raw.ljust(inline, b"\0")
    at = head + len(body)
    magic = {"<": b"II", ">": b"MM"}[order]
    if layout.big:
        return (magic + struct.pack(order + "HHHQ", 43, 8, 0, at) + body + struct.pack(order + "Q", len(entries)) +
                directory + b"\0" * 8)
    return magic + struct.pack(order + "HI", 42, at) + body + struct.pack(order + "H", len(entries)) + directory + b"\0" * 4


def tiff_pages(samples, pages, circle=False):
    """More pages of one black pixel each, or the first one again and again."""
    data = bytearray(tiff(samples, 8, RGB))
    link = len(data) - 4
    if circle:
        data[link:] = data[4:8]
        return bytes(data)
    entries = [(256, LONG, 1), (257, LONG, 1), (258, SHORT, 8), (259, SHORT, 1), (262, SHORT, 1), (273, LONG, 8),
               (277, SHORT, 1), (279, LONG, 1)]
    for _ in range(pages - 1):
        data[link:link + 4] = struct.pack("<I", len(data))
        data += struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", tag, kind, 1, n) for tag, kind, n in entries)
        link = len(data)
        data += b"\0" * 4
    return bytes(data)


def lab_of(rgb, bits):
    """CIELAB of D50, in TIFF's numbers: L from 0, a and b with signs."""
    lab = np.empty(rgb.shape)
    # sRGB to XYZ adapted to D50 (Bradford), as ICC profiles of sRGB have it
    matrix = np.array([[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]])
    x, y, z = np.moveaxis(to_light(rgb) @ matrix.T / [0.9642, 1, 0.8249], -1, 0)
    f = [np.where(v > 216 / 24389, np.cbrt(v), (24389 / 27 * v + 16) / 116) for v in (x, y, z)]
    lab[..., 0], lab[..., 1], lab[..., 2] = 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])
    scale = 1 << (bits - 8)
    numbers = np.round(lab * [((1 << bits) - 1) / 100, scale, scale]).astype(np.int64)
    return (numbers & ((1 << bits) - 1)).astype(np.uint32)


def extra(*kinds):
    return {338: (SHORT, list(kinds))}


def rgb_tiffs():
    rgb, alpha = scene(), shadow()
    for bits, layout in itertools.product((8, 16), [*LAYOUTS, DEFLATE, PACKED, *PREDICTED]):
        numbers, name = whole(rgb, bits), f"{bits}-{layout.name}"
        yield Drawn(f"tiff-rgb{name}", tiff(numbers, bits, RGB, layout), on_white(rgb))
        both = np.dstack([numbers, whole(alpha, bits)])
        yield Drawn(f"tiff-rgba{name}", tiff(both, bits, RGB, layout, extra(2)), on_white(rgb, alpha))
    for bits, layout in itertools.product((8, 16), [STRIPS, PLANES, DEFLATE]):
        numbers, clear = whole(rgb, bits), whole(alpha, bits)
        ramp = whole(np.linspace(0, 1, HEIGHT)[:, None] * np.ones(WIDTH), bits)
        dark = whole(rgb * alpha[..., None], bits)
        for kinds, bands, shows in [
                ((1,), [dark, clear], on_white(rgb, alpha)), ((0,), [numbers, ramp], on_white(rgb)),
                ((2, 0), [numbers, clear, ramp], on_white(rgb, alpha)), ((0, 2), [numbers, ramp, clear], on_white(rgb, alpha)),
                ((1, 0), [dark, clear, ramp], on_white(rgb, alpha)), ((0, 0, 0), [numbers, ramp, ramp, ramp], on_white(rgb)),
                ((999,), [numbers, clear], on_white(rgb, alpha))]:
            name = f"tiff-rgb{bits}-extra-{'-'.join(map(str, kinds))}-{layout.name}"
            yield Drawn(name, tiff(np.dstack(bands), bits, RGB, layout, extra(*kinds)), shows)
        yield Drawn(f"tiff-rgb{bits}-extra-unnamed-{layout.name}", tiff(np.dstack([numbers, clear]), bits, RGB, layout),
                    on_white(rgb, alpha))
    for bits, (name, icc, coded), alphas in itertools.product((8, 16), PROFILES[1:], ((), (2,), (1,))):
        numbers, tags = coded(rgb), {34675: (7, list(profile(icc)))}
        bands = [whole(numbers * (alpha[..., None] if alphas == (1,) else 1), bits)]
        if alphas:
            bands, tags = [*bands, whole(alpha, bits)], tags | extra(*alphas)
        yield Drawn(f"tiff-rgb{bits}-{name}{'-alpha%d' % alphas if alphas else ''}",
                    tiff(np.dstack(bands), bits, RGB, STRIPS, tags), on_white(rgb, alpha if alphas else None))
    for orientation, turn in TURNS.items():
        yield Drawn(f"tiff-turned-{orientation}",
                    tiff(whole(turn(rgb), 8), 8, RGB, STRIPS, {274: (SHORT, [orientation])}), on_white(rgb))


def other_tiffs():
    rgb, alpha, grey = scene(), shadow(), grey_of(scene())
    for bits, layout in itertools.product((1, 2, 4, 8, 16), [*LAYOUTS[:2], LAYOUTS[4], DEFLATE, PACKED]):
        level, most = whole(grey, bits)[..., None], (1 << bits) - 1
        shows = on_white(level[..., 0] / most)
        yield Drawn(f"tiff-grey{bits}-{layout.name}", tiff(level, bits, GREY, layout), shows)
        yield Drawn(f"tiff-inverted{bits}-{layout.name}", tiff(most - level, bits, GREY_INVERTED, layout), shows)
        if bits < 16:
            colours = palette_of(bits)
            colour_map = {320: (SHORT, whole(colours, 16).T.ravel().tolist())}
            yield Drawn(f"tiff-palette{bits}-{layout.name}", tiff(level, bits, PALETTE, layout, colour_map),
                        on_white(colours[level[..., 0]]))
    for bits, layout in itertools.product((8, 16), [STRIPS, PLANES, DEFLATE]):
        inks, name = whole(np.dstack([1 - rgb, np.zeros(grey.shape)]), bits), f"{bits}-{layout.name}"
        clear, ramp = whole(alpha, bits), whole(np.linspace(0, 1, HEIGHT)[:, None] * np.ones(WIDTH), bits)
        yield Drawn(f"tiff-cmyk{name}", tiff(inks, bits, CMYK, layout), on_white(rgb), INKS)
        yield Drawn(f"tiff-cmyka{name}", tiff(np.dstack([inks, clear]), bits, CMYK, layout, extra(2)), on_white(rgb, alpha), INKS)
        yield Drawn(f"tiff-cmykx{name}", tiff(np.dstack([inks, ramp]), bits, CMYK, layout, extra(0)), on_white(rgb), INKS)
    for bits, layout in itertools.product((8, 16), [STRIPS, LAYOUTS[4], DEFLATE]):
        one, clear, name = whole(grey, bits), whole(alpha, bits), f"{bits}-{layout.name}"
        ramp = whole(np.linspace(0, 1, HEIGHT)[:, None] * np.ones(WIDTH), bits)
        yield Drawn(f"tiff-ga{name}", tiff(np.dstack([one, clear]), bits, GREY, layout, extra(2)), on_white(grey, alpha))
        yield Drawn(f"tiff-ga-dark{name}", tiff(np.dstack([whole(grey * alpha, bits), clear]), bits, GREY, layout, extra(1)),
                    on_white(grey, alpha))
        yield Drawn(f"tiff-gx{name}", tiff(np.dstack([one, ramp]), bits, GREY, layout, extra(0)), on_white(grey))
        yield Drawn(f"tiff-gax{name}", tiff(np.dstack([one, clear, ramp]), bits, GREY, layout, extra(2, 0)), on_white(grey, alpha))
        lab = lab_of(rgb, bits)
        yield Drawn(f"tiff-lab{name}", tiff(lab, bits, LAB, layout), on_white(rgb))
        yield Drawn(f"tiff-laba{name}", tiff(np.dstack([lab, clear]), bits, LAB, layout, extra(2)), on_white(rgb, alpha))
        yield Drawn(f"tiff-labx{name}", tiff(np.dstack([lab, ramp]), bits, LAB, layout, extra(0)), on_white(rgb))
    for pages in (2, 14, 1200):
        yield Drawn(f"tiff-{pages}-pages", tiff_pages(whole(rgb, 8), pages), on_white(rgb))
    yield Drawn("tiff-pages-in-a-circle", tiff_pages(whole(rgb, 8), 2, circle=True), on_white(rgb))


def refused_tiffs():
    """What is a picture, and no kind that is read."""
    rgb, alpha = scene(), shadow()
    eight, sixteen = whole(rgb, 8), whole(rgb, 16)

    def formats(number, bands):
        return {339: (SHORT, [number] * bands)}

    def floats(values, bits):
        return np.ascontiguousarray(values, f"<f{bits // 8}").view(f"<u{bits // 8}")
    for bits in (16, 32, 64):
        for name, values, photometric in (("grey", rgb[..., :1], GREY), ("rgb", rgb, RGB)):
            yield Drawn(f"tiff-float{bits}-{name}", tiff(floats(values, bits), bits, photometric, STRIPS,
                                                         formats(3, values.shape[2])), None, refused=f"{bits}-bit float")
    yield Drawn("tiff-signed8", tiff(eight, 8, RGB, STRIPS, formats(2, 3)), None, refused="8-bit signed numbers")
    yield Drawn("tiff-signed16", tiff(sixteen, 16, RGB, STRIPS, formats(2, 3)), None, refused="16-bit signed numbers")
    yield Drawn("tiff-32", tiff(whole(rgb, 32), 32, RGB), None, refused="32 bits a channel")
    yield Drawn("tiff-grey32", tiff(whole(rgb[..., :1], 32), 32, GREY), None, refused="32 bits a channel")
    yield Drawn("tiff-rgb4", tiff(whole(rgb, 4), 4, RGB), None, refused="4 bits a channel")
    yield Drawn("tiff-mixed", tiff(eight, 8, RGB, STRIPS, {258: (SHORT, [8, 8, 16])}), None, refused="channels of different kinds")
    yield Drawn("tiff-ycbcr", tiff(eight, 8, YCBCR), None, refused="YCbCr without JPEG compression")
    yield Drawn("tiff-icclab", tiff(eight, 8, 9), None, refused="photometric interpretation 9")
    yield Drawn("tiff-mask", tiff(whole(rgb[..., :1], 1), 1, 4), None, refused="photometric interpretation 4")
    yield Drawn("tiff-cfa", tiff(sixteen[..., :1], 16, 32803), None, refused="a camera's raw file")
    yield Drawn("tiff-dng", tiff(eight, 8, RGB, STRIPS, {50706: (1, [1, 4, 0, 0])}), None, refused="a camera's raw file")
    yield Drawn("tiff-inks", tiff(np.dstack([eight, eight[..., 0]]), 8, CMYK, STRIPS, {332: (SHORT, [2])}), None,
                refused="inks that are not CMYK")
    yield Drawn("tiff-two-alphas", tiff(np.dstack([eight, whole(alpha, 8), whole(alpha, 8)]), 8, RGB, STRIPS, extra(2, 1)), None,
                refused="several kinds of transparency")
    yield Drawn("tiff-17", tiff(np.repeat(eight[..., :1], 17, axis=2), 8, GREY), None, refused="17 channels")
    gray, lab = np.dstack([eight[..., 0], whole(alpha, 8)]), lab_of(rgb, 8)
    yield Drawn("tiff-planes-ga", tiff(gray, 8, GREY, PLANES, extra(2)), None, refused="such channels in separate planes")
    yield Drawn("tiff-planes-lab", tiff(lab, 8, LAB, PLANES), None, refused="such channels in separate planes")
    yield Drawn("tiff-planes-tiles", tiff(eight, 8, RGB, Layout("", planar=True, tile=16)), None, refused="separate planes of tiles")
    yield Drawn("tiff-float-differences", tiff(floats(rgb, 32), 32, RGB, STRIPS, formats(3, 3) | {317: (SHORT, [3])}), None,
                refused="predictor 3")
    for number, name in ((6, "old-style JPEG inside"), (34712, "JPEG 2000 inside"), (34887, "LERC inside"),
                         (34676, "LogLuv inside"), (12345, "compression 12345")):
        yield Drawn(f"tiff-compression-{number}", tiff(eight, 8, RGB, STRIPS, {259: (SHORT, [number])}), None, refused=name)


def tool(*command, data, suffix, out, options=()):
    """A program that reads one file and writes another: what it wrote, or None. Options stand between the two."""
    if shutil.which(command[0]) is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, target = pathlib.Path(folder, "in" + suffix), pathlib.Path(folder, "out" + out)
        source.write_bytes(data)
        done = subprocess.run([*command, source, *options, target], capture_output=True, timeout=60)
        return target.read_bytes() if done.returncode == 0 and target.exists() else None


def copied_tiffs():
    """libtiff's own compressions."""
    rgb, grey = scene(), grey_of(scene())
    bit = whole(grey, 1)[..., None]
    lossless = ["lzw", "lzw:2", "zip:2", "packbits", "lzma", "zstd"]
    for bits, compression, options in itertools.product((8, 16), lossless, ([], ["-t", "-w", "32", "-l", "32"], ["-p", "separate"], ["-B", "-r", "5"])):
        made = tool("tiffcp", "-c", compression, *options, data=tiff(whole(rgb, bits), bits, RGB), suffix=".tif", out=".tif")
        if made:
            yield Drawn(f"tiff-copied-rgb{bits}-{compression}{'-'.join(options)}", made, on_white(rgb))
    for compression, options in itertools.product(["g3:1d", "g3:2d", "g3:fill", "g4"], ([], ["-f", "lsb2msb"], ["-r", "9"])):
        for photometric, flip in ((GREY, 0), (GREY_INVERTED, 1)):
            made = tool("tiffcp", "-c", compression, *options, data=tiff(bit ^ flip, 1, photometric), suffix=".tif", out=".tif")
            if made:
                yield Drawn(f"tiff-bit-{compression}{'-'.join(options)}-{photometric}", made, on_white(bit[..., 0] * 1.0))
    for name, options, bands in itertools.product(["jpeg:95", "jpeg:r:95"], ([], ["-t", "-w", "32", "-l", "32"], ["-r", "16"]), (1, 3, 4)):
        samples = whole({1: grey[..., None], 3: rgb, 4: np.dstack([1 - rgb, np.zeros(grey.shape)])}[bands], 8)
        made = tool("tiffcp", "-c", name, *options, data=tiff(samples, 8, {1: GREY, 3: RGB, 4: CMYK}[bands]), suffix=".tif", out=".tif")
        if made:
            yield Drawn(f"tiff-{name}{'-'.join(options)}-{bands}", made, on_white(grey if bands == 1 else rgb),
                        INKS if bands == 4 else LOSSY)


def written_tiffs():
    """As other software writes them."""
    rgb, alpha, grey = scene(), shadow(), grey_of(scene())
    colours, level = Image.fromarray(on_white(rgb)), Image.fromarray(whole(grey, 8).astype(np.uint8))
    clear = Image.fromarray(np.dstack([whole(rgb, 8), whole(alpha, 8)]).astype(np.uint8))
    bit = Image.fromarray((whole(grey, 1) * 255).astype(np.uint8)).convert("1", dither=Image.Dither.NONE)
    palette = colours.quantize(200)
    lossless = ["raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "lzma", "zstd"]
    kinds = [("bit", bit, on_white(whole(grey, 1) * 1.0), [*lossless, "tiff_ccitt", "group3", "group4"], EXACT),
             ("grey", level, on_white(grey), [*lossless, "jpeg"], LOSSY), ("rgb", colours, on_white(rgb), [*lossless, "jpeg", "webp"], LOSSY),
             ("rgba", clear, on_white(rgb, alpha), [*lossless, "webp"], LOSSY),
             ("palette", palette, np.asarray(palette.convert("RGB")), lossless, EXACT),
             ("cmyk", colours.convert("CMYK"), on_white(rgb), [*lossless, "jpeg"], INKS)]
    for name, image, shows, compressions, limit in kinds:
        for compression in compressions:
            try:
                yield Drawn(f"tiff-pillow-{name}-{compression}", encode(image, "TIFF", compression=compression), shows, limit)
            except (OSError, KeyError, ValueError):  # not in this libtiff
                continue
    for depth in (8, 16):
        inks = vips(png(whole(rgb, 16), 2, 16), "icc_export", ".tif", "--output-profile", "cmyk", "--depth", str(depth), suffix=".png")
        yield Drawn(f"tiff-cmyk-profile-{depth}", inks, on_white(rgb), 2 * LOSSY)  # not all colours can be printed
    if MAGICK is None:
        return
    source = png(np.dstack([whole(rgb, 16), whole(alpha, 16)]), 6, 16)
    for depth, kind, options in itertools.product((8, 16), ("associated", "unassociated"),
                                                  (["-compress", "LZW"], ["-compress", "Zip"], ["-compress", "None", "-endian", "MSB"])):
        made = tool(MAGICK, data=source, suffix=".png", out=".tif",
                    options=["-depth", str(depth), "-define", f"tiff:alpha={kind}", *options])
        if made:
            yield Drawn(f"tiff-magick-{depth}-{kind}-{options[1]}", made, on_white(rgb, alpha))


def tiffs():
    yield from rgb_tiffs()
    yield from written_tiffs()
    yield from other_tiffs()
    yield from refused_tiffs()
    yield from copied_tiffs()


# --- GIF and WebP: frames on a canvas ---------------------------------------------------------------


def gif(size, frames, background=0):
    """GIFs by Pillow, each of one frame, put onto one canvas: [(data, left, top)]."""
    first = frames[0][0]
    body = b"GIF89a" + struct.pack("<HH", *size) + bytes([first[10], background, 0]) + b"!\xfe\x13" + SECRET + b"\0"
    table = 3 << ((first[10] & 7) + 1) if first[10] & 0x80 else 0
    body = body[:13] + first[13:13 + table] + body[13:]
    for data, left, top in frames:
        at = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
        while data[at] == 0x21:  # extensions: only the one that says what is transparent
            end = at + 2
            while data[end]:
                end += 1 + data[end]
            if data[at + 1] == 0xF9:
                body += data[at:end + 1]
            at = end + 1
        colours = data[13:13 + (3 << ((data[10] & 7) + 1))] if data[10] & 0x80 else b""
        flags = (data[at + 9] & 0x40) | (0x80 | (data[10] & 7) if colours else 0)
        body += b"," + struct.pack("<HH", left, top) + data[at + 5:at + 9] + bytes([flags]) + colours + data[at + 10:-1]
    return body + b";"


def gifs():
    rgb = scene()
    alpha = 1.0 * (shadow() > 0.5)
    image = Image.fromarray(on_white(rgb))
    palette = image.quantize(255)
    shows = np.asarray(palette.convert("RGB"))
    clear = palette.copy()
    clear.paste(255, mask=Image.fromarray(np.uint8(255 * (alpha == 0))))
    plain, holes = encode(palette, "GIF"), encode(clear, "GIF", transparency=255)
    shows_holes = on_white(shows / 255, alpha)
    black = encode(Image.new("P", (WIDTH, HEIGHT)), "GIF")
    for name, data, seen in (("plain", plain, shows), ("holes", holes, shows_holes)):
        for canvas, left, top in (((WIDTH, HEIGHT), 0, 0), ((100, 80), 0, 0), ((100, 80), 28, 24), ((100, 80), 11, 7),
                                  ((640, 480), 300, 200), ((20, 20), 0, 0), ((0, 0), 0, 0), ((WIDTH, HEIGHT), 9, 5)):
            for later in ([], [(black, 0, 0)], [(black, 500, 400)]):
                width, height = max(canvas[0], left + WIDTH), max(canvas[1], top + HEIGHT)
                page = np.full((height, width, 3), 255, np.uint8)
                page[top:top + HEIGHT, left:left + WIDTH] = seen
                yield Drawn(f"gif-{name}-{canvas[0]}-{left}-{len(later)}{'-far' if later and later[0][1] else ''}",
                            gif(canvas, [(data, left, top), *later], background=3), page)
    yield Drawn("gif-87a", plain.replace(b"GIF89a", b"GIF87a"), shows)
    for interlace in (0, 1):
        yield Drawn(f"gif-interlace-{interlace}", encode(palette, "GIF", interlace=interlace), shows)
    for colours in (2, 4, 16, 64):
        few = image.quantize(colours)
        yield Drawn(f"gif-{colours}", encode(few, "GIF"), np.asarray(few.convert("RGB")))
    yield Drawn("gif-grey", encode(Image.fromarray(on_white(grey_of(rgb))).convert("L"), "GIF"), on_white(grey_of(rgb)))


def webp_animation(size, frames, alpha):
    """[(WebP of one picture, left, top)] on a canvas."""
    def riff(name, body):
        return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)

    def u24(n):
        return struct.pack("<I", n)[:3]
    body = riff(b"VP8X", bytes([0x02 | (0x10 if alpha else 0), 0, 0, 0]) + u24(size[0] - 1) + u24(size[1] - 1))
    body += riff(b"ANIM", b"\xff\0\0\xff\0\0")
    for data, left, top in frames:
        chunks = data[12:] if data[12:16] != b"VP8X" else data[30:]
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
        body += riff(b"ANMF", u24(left // 2) + u24(top // 2) + u24(width - 1) + u24(height - 1) + u24(50) + b"\2" + chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def webps():
    rgb, alpha = scene(), shadow()
    clear = Image.fromarray(np.dstack([whole(rgb, 8), whole(alpha, 8)]).astype(np.uint8))
    for (name, icc, coded), has_alpha, lossless in itertools.product(PROFILES, (False, True), (False, True)):
        numbers = whole(coded(rgb), 8)
        image = Image.fromarray((np.dstack([numbers, whole(alpha, 8)]) if has_alpha else numbers).astype(np.uint8))
        options = {"exif": exif_of(1)} | ({"icc_profile": profile(icc)} if icc else {})
        options |= {"lossless": True, "exact": True} if lossless else {"quality": 95}
        yield Drawn(f"webp-{name}{'-alpha' * has_alpha}{'-lossless' * lossless}", encode(image, "WEBP", **options),
                    on_white(rgb, alpha if has_alpha else None), EXACT if lossless else LOSSY)
    for orientation, turn in TURNS.items():
        image = Image.fromarray(np.ascontiguousarray(turn(whole(rgb, 8).astype(np.uint8))))
        yield Drawn(f"webp-turned-{orientation}", encode(image, "WEBP", lossless=True, exif=exif_of(orientation)), on_white(rgb))
    plain = encode(Image.fromarray(whole(rgb, 8).astype(np.uint8)), "WEBP", lossless=True)
    holes = encode(clear, "WEBP", lossless=True, exact=True)
    for (name, data, seen, flag), (canvas, left, top), more in itertools.product(
            (("plain", plain, on_white(rgb), False), ("holes", holes, on_white(rgb, alpha), True), ("unflagged", plain, on_white(rgb), True)),
            (((WIDTH, HEIGHT), 0, 0), ((100, 80), 0, 0), ((100, 80), 28, 24)), (0, 1)):
        page = np.full((canvas[1], canvas[0], 3), 255, np.uint8)
        page[top:top + HEIGHT, left:left + WIDTH] = seen
        later = [(encode(Image.new("RGB", (20, 20)), "WEBP", lossless=True), 0, 0)] * more
        yield Drawn(f"webp-animation-{name}-{canvas[0]}-{left}-{more}", webp_animation(canvas, [(data, left, top), *later], flag), page)


# --- JPEG -----------------------------------------------------------------------------------------


def jpegs():
    rgb, grey = scene(), grey_of(scene())
    for (name, icc, coded), subsampling, progressive in itertools.product(PROFILES, (0, 1, 2), (False, True)):
        image = Image.fromarray(whole(coded(rgb), 8).astype(np.uint8))
        options = {"icc_profile": profile(icc)} if icc else {}
        data = encode(image, quality=95, subsampling=subsampling, progressive=progressive, comment=SECRET, **options)
        yield Drawn(f"jpeg-{name}-{subsampling}{'-progressive' * progressive}", data, on_white(rgb), LOSSY)
    for orientation, turn in TURNS.items():
        image = Image.fromarray(np.ascontiguousarray(turn(whole(rgb, 8).astype(np.uint8))))
        yield Drawn(f"jpeg-turned-{orientation}", encode(image, quality=95, exif=exif_of(orientation)), on_white(rgb), LOSSY)
    for progressive in (False, True):
        image = Image.fromarray(on_white(grey)).convert("L")
        yield Drawn(f"jpeg-grey{'-progressive' * progressive}", encode(image, quality=95, progressive=progressive), on_white(grey), LOSSY)
        image = Image.fromarray(whole(rgb, 8).astype(np.uint8)).convert("CMYK")
        yield Drawn(f"jpeg-cmyk{'-progressive' * progressive}", encode(image, quality=95, progressive=progressive), on_white(rgb), INKS)


# --- AVIF and HEIC ----------------------------------------------------------------------------------


def avif(samples, bits, *options, chunks=()):
    kind = {1: 0, 3: 2, 4: 6}[samples.shape[2]]
    return tool("avifenc", "-s", "10", "-j", "1", "--min", "0", "--max", "8", *options,
                data=png(samples, kind, bits, False, chunks), suffix=".png", out=".avif")


def avifs():
    rgb, alpha, grey = scene(), shadow(), grey_of(scene())
    numbers, clear = whole(rgb, 8), whole(alpha, 8)
    made = []
    for depth in (8, 10):
        grey_alpha = np.dstack([np.repeat(whole(grey, 8)[..., None], 3, axis=2), clear])
        for limits in ("full", "limited"):
            made.append((f"avif-400-alpha-{depth}-{limits}",
                         avif(grey_alpha, 8, "-y", "400", "-d", str(depth), "-r", limits), on_white(grey, alpha)))
    both, sixteen = np.dstack([numbers, clear]), np.dstack([whole(rgb, 16), whole(alpha, 16)])
    for yuv, depth, limits in itertools.product(("444", "422", "420"), (8, 10, 12), ("full", "limited")):
        options = ["-y", yuv, "-d", str(depth), "-r", limits]
        made.append((f"avif-{yuv}-{depth}-{limits}", avif(numbers, 8, *options), on_white(rgb)))
    for depth, limits in itertools.product((8, 10), ("full", "limited")):
        options = ["-y", "400", "-d", str(depth), "-r", limits]
        made.append((f"avif-grey-{depth}-{limits}", avif(whole(grey, 8)[..., None], 8, *options), on_white(grey)))
        grey_alpha = np.dstack([np.repeat(whole(grey, 8)[..., None], 3, axis=2), clear])
        made.append((f"avif-grey-alpha-{depth}-{limits}", avif(grey_alpha, 8, *options), on_white(grey, alpha)))
    for depth, options in itertools.product((8, 10, 12), ([], ["-p"], ["-y", "420"], ["-p", "-y", "420"], ["-r", "limited"])):
        data = avif(both, 8, "-d", "8", *options) if depth == 8 else avif(sixteen, 16, "-d", str(depth), *options)
        made.append((f"avif-alpha-{depth}{''.join(options)}", data, on_white(rgb, alpha)))
    icc = [(b"iCCP", b"p\0\0" + zlib.compress(profile("p3")))]
    p3 = np.dstack([whole(in_primaries(rgb, 12), 16), whole(alpha, 16)])
    for depth, has_alpha in itertools.product((8, 10), (False, True)):
        samples, shows = p3 if has_alpha else p3[..., :3], on_white(rgb, alpha if has_alpha else None)
        if depth == 8:
            samples = samples >> 8
        made.append((f"avif-icc-p3-{depth}{'-alpha' * has_alpha}",
                     avif(samples, 8 if depth == 8 else 16, "-d", str(depth), chunks=icc), shows))
        made.append((f"avif-nclx-p3-{depth}{'-alpha' * has_alpha}",
                     avif(samples, 8 if depth == 8 else 16, "-d", str(depth), "--cicp", "12/13/6"), shows))
    for primaries, transfer, matrix in ((1, 13, 1), (1, 1, 1), (9, 14, 9), (9, 1, 9), (1, 13, 0), (2, 2, 2), (1, 13, 5)):
        samples = whole(in_primaries(rgb, primaries), 16) if primaries > 2 else whole(rgb, 16)
        for depth, limits in ((8, "full"), (10, "limited")):
            if matrix == 0 and limits == "limited":
                continue
            yuv = "444" if matrix == 0 else "420"
            data = avif(samples >> 8 if depth == 8 else samples, 8 if depth == 8 else 16, "-d", str(depth), "-y", yuv,
                        "-r", limits, "--cicp", f"{primaries}/{transfer}/{matrix}")
            made.append((f"avif-cicp-{primaries}-{transfer}-{matrix}-{depth}", data, on_white(rgb)))
    for transfer, depth in itertools.product((16, 18), (8, 10)):
        matrix = np.linalg.inv(xyz_of(PRIMARIES[1])) @ xyz_of(PRIMARIES[9])
        samples = whole(rgb, 16) if depth == 10 else numbers
        made.append((f"avif-curve-{transfer}-{depth}",
                     avif(samples, 16 if depth == 10 else 8, "-d", str(depth), "--cicp", f"9/{transfer}/9"),
                     on_white(from_light(CURVES[transfer](rgb) @ matrix.T))))
    for angle in range(4):
        stored = np.ascontiguousarray(np.rot90(numbers, -angle))  # irot turns it back, against the clock
        made.append((f"avif-irot-{angle}", avif(stored, 8, "--irot", str(angle)), on_white(rgb)))
    for mode in (0, 1):
        made.append((f"avif-imir-{mode}", avif(np.ascontiguousarray(numbers[::-1] if mode == 0 else numbers[:, ::-1]), 8,
                                               "--imir", str(mode)), on_white(rgb)))
    for name, data, shows in made:
        if data:
            yield Drawn(name, data, shows, LOSSY)


def heics():
    rgb, alpha = scene(), shadow()
    for bits, has_alpha, (name, icc, coded) in itertools.product((8, 10), (False, True), PROFILES):
        numbers = whole(coded(rgb), 16)
        samples = np.dstack([numbers, whole(alpha, 16)]) if has_alpha else numbers
        chunks = [] if icc is None else [(b"iCCP", b"p\0\0" + zlib.compress(profile(icc)))]
        depth, samples = (8, samples >> 8) if bits == 8 else (16, samples)
        data = vips(png(samples, 6 if has_alpha else 2, depth, False, chunks), "copy",
                    f".heic[compression=hevc,Q=95,bitdepth={bits}]", suffix=".png")
        yield Drawn(f"heic-{bits}-{name}{'-alpha' * has_alpha}", data, on_white(rgb, alpha if has_alpha else None), LOSSY)


FAMILIES = {"png": pngs, "tiff": tiffs, "gif": gifs, "webp": webps, "jpeg": jpegs, "avif": avifs, "heic": heics}

"""JPEG files of every kind that encoders write, and surgery on their bytes: what cameras and editors do to them."""
import functools

from PIL import Image

from images import encode, gradient, vips

EOI = b"\xff\xd9"
SOF = (0xC0, 0xC1, 0xC2)
SOS = 0xDA
DHT = 0xC4


class Segment:
    """A marker, what it holds, and behind a scan header the compressed data."""

    def __init__(self, marker, body=b"", data=b""):
        self.marker, self.body, self.data = marker, body, data

    def bytes(self, shift=0):
        """`shift`: so much is its length off."""
        return bytes([0xFF, self.marker]) + (len(self.body) + 2 + shift).to_bytes(2, "big") + self.body + self.data


def end_of_scan(data, pos):
    """Of compressed data from pos on: where the next marker is that is neither a restart nor a stuffed zero."""
    while True:
        pos = data.index(b"\xff", pos)
        if data[pos + 1] == 0 or 0xD0 <= data[pos + 1] <= 0xD7:
            pos += 2
        else:
            return pos


def segments(data):
    """Of a file as encoders write it, without SOI and EOI."""
    found, pos = [], 2
    while data[pos:pos + 2] != EOI:
        assert data[pos] == 0xFF
        end = pos + 2 + int.from_bytes(data[pos + 2:pos + 4], "big")
        segment = Segment(data[pos + 1], data[pos + 4:end])
        if segment.marker == SOS:
            pos = end_of_scan(data, end)
            segment.data = data[end:pos]
        else:
            pos = end
        found.append(segment)
    return found


def join(parts, end=EOI):
    return b"\xff\xd8" + b"".join(part if isinstance(part, bytes) else part.bytes() for part in parts) + end


# --- several scans in a file that is not progressive ----------------------------------------------


def huffman_tables(found):
    """{(class << 4 | number): {(length, code): symbol}}"""
    tables = {}
    for segment in found:
        body = segment.body if segment.marker == DHT else b""
        while body:
            counts, symbols, code = body[1:17], iter(body[17:]), 0
            table = tables[body[0]] = {}
            for length, count in enumerate(counts, 1):
                for _ in range(count):
                    table[length, code] = next(symbols)
                    code += 1
                code <<= 1
            body = body[17 + sum(counts):]
    return tables


def block_length(bits, pos, dc, ac):
    """Bits of the block that begins at pos."""
    start, k = pos, 0
    while k < 64:
        length = code = 0
        while (length, code) not in (ac if k else dc):
            code = code << 1 | (bits[pos] == "1")
            length += 1
            pos += 1
        symbol = (ac if k else dc)[length, code]
        pos += symbol & 15
        if k and symbol == 0:
            break
        k += 1 + (symbol >> 4 if k else 0)
    return pos - start


def packed(bits):
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")


def one_scan_each(data):
    """A 4:4:4 file without restarts, with a scan of its own for each component: the same blocks in the same order."""
    found = segments(data)
    scan = found.pop()
    tables = huffman_tables(found)
    raw = scan.data.replace(b"\xff\0", b"\xff")
    bits = bin(int.from_bytes(b"\1" + raw, "big"))[3:]
    components = [scan.body[1 + 2 * i:3 + 2 * i] for i in range(scan.body[0])]
    frame = next(s for s in found if s.marker in SOF)
    height, width = int.from_bytes(frame.body[1:3], "big"), int.from_bytes(frame.body[3:5], "big")
    pieces, pos = [[] for _ in components], 0
    for _ in range(-(-height // 8) * -(-width // 8)):
        for component, piece in zip(components, pieces):
            length = block_length(bits, pos, tables[component[1] >> 4], tables[0x10 | component[1] & 15])
            piece.append(bits[pos:pos + length])
            pos += length
    assert len(bits) - pos < 8
    return join(found + [Segment(SOS, b"\1" + component + b"\0\x3f\0", packed("".join(piece)))
                         for component, piece in zip(components, pieces)])


# --- kinds ----------------------------------------------------------------------------------------


@functools.cache
def picture(mode="RGB", size=(320, 240)):
    """Large soft shapes and some detail: differs from any part of itself."""
    image = gradient(*size)
    fine = Image.effect_noise(size, 40).resize((size[0] // 4, size[1] // 4)).resize(size)
    image = Image.blend(image, Image.merge("RGB", (fine, fine, fine)), 0.2)
    image.paste((200, 20, 40), (size[0] // 8, size[1] // 8, size[0] // 3, size[1] // 2))
    return image.convert(mode)


@functools.cache
def kinds():
    """{name: file}, all of the same picture but for grey."""
    image = picture()
    png = encode(image, "PNG")
    found = {
        "baseline-420": encode(image, quality=90),
        "baseline-422": encode(image, quality=90, subsampling=1),
        "baseline-444": encode(image, quality=90, subsampling=0),
        "optimized": encode(image, quality=90, optimize=True),
        "grey": encode(picture("L"), quality=90),
        "cmyk": encode(picture("CMYK"), quality=90),
        "restarts": vips(png, "copy", ".jpg[Q=90,restart-interval=7]"),
        "restarts-444": vips(png, "copy", ".jpg[Q=90,restart-interval=40,subsample-mode=off]"),
        "progressive-420": encode(image, quality=90, progressive=True),
        "progressive-444": encode(image, quality=90, progressive=True, subsampling=0),
        "progressive-grey": encode(picture("L"), quality=90, progressive=True),
        "progressive-cmyk": encode(picture("CMYK"), quality=90, progressive=True),
        "progressive-restarts": vips(png, "copy", ".jpg[Q=90,interlace,restart-interval=9]"),
    }
    found["scans-444"] = one_scan_each(found["baseline-444"])
    found["scans-cmyk"] = one_scan_each(found["cmyk"])
    return found


def is_progressive(data):
    return any(s.marker == 0xC2 for s in segments(data))


# --- surgery: {name: file} that every viewer shows whole ------------------------------------------

STRAYS = [b"\0", b"\0" * 18, b"\x12\x34\x56", b"\xff" * 5, b"\0\xff\0\0", bytes(range(40)), b"\xff\0\xff\0", b"II*\0" * 9]


def scan_headers(data):
    """Wrong Ss, Se, Ah, Al in a file that is not progressive."""
    if is_progressive(data):
        return {}
    found = {}
    for tail in (b"\0\x3f\1", b"\0\0\0", b"\1\x3f\0", b"\0\x3f\x10", b"\0\x40\0", b"\x3f\0\x11", b"\xff\xff\xff"):
        parts = segments(data)
        for segment in parts:
            if segment.marker == SOS:
                segment.body = segment.body[:-3] + tail
        found["scan-header-" + tail.hex()] = join(parts)
    return found


def between_segments(data):
    """Strays before one segment or another, none of them behind a scan."""
    found = {}
    for n, strays in enumerate(STRAYS):
        parts = segments(data)
        places = [i for i, s in enumerate(parts) if i == 0 or parts[i - 1].marker != SOS]
        at = places[1 + n % (len(places) - 1)]
        found[f"strays-{n}-at-{at}"] = join(parts[:at] + [strays] + parts[at:])
    return found


def padding(data):
    """Bytes behind a scan's data: the last one's, and of several each one's."""
    found = {}
    for n, strays in enumerate([b"\0", b"\0\0\0\0\0\0\0\0", b"\xff\xff\xff", b"\0" * 1000, b"\xaa" * 300,
                                b"\x12\x34", b"\xff\xd0", b"\x1a"]):
        found[f"padding-{n}"] = data[:-2] + strays + EOI
        parts = segments(data)
        for part in parts:
            if part.marker == SOS:
                part.data += strays
        found[f"padding-each-{n}"] = join(parts)
    return found


def before_restarts(data):
    found = {}
    restarts = []
    parts = segments(data)
    for part in parts:
        if part.marker == SOS:
            restarts += [(part, i) for i in range(len(part.data) - 1)
                         if part.data[i] == 0xFF and 0xD0 <= part.data[i + 1] <= 0xD7]
    for n, strays in enumerate([b"\0", b"\0\0\0", b"\xff", b"\x5a", b"\x12\x34\x56", b"\0" * 12, b"\xff\xff\xff"]):
        for which in [[k] for k in range(0, len(restarts), max(1, len(restarts) // 4))] + [range(len(restarts))]:
            parts = segments(data)
            scans = [p for p in parts if p.marker == SOS]
            originals = [p for p in segments(data) if p.marker == SOS]
            for k in reversed(list(which)):
                scan = next(i for i, p in enumerate(originals) if p.data == restarts[k][0].data)
                at = restarts[k][1]
                scans[scan].data = scans[scan].data[:at] + strays + scans[scan].data[at:]
            if restarts:
                found[f"restart-{n}-{list(which)[0]}x{len(which)}"] = join(parts)
    return found


def lengths(data):
    """Comments and application segments whose length is off: what is left counts as strays, and what is too much
    comes from another segment that nobody needs."""
    comment = Segment(0xFE, b"helloworld")
    found = {}
    for shift in (-12, -11, -10, -9, -5, -2, -1):
        parts = segments(data)
        for at in (0, 1, len(parts) - 1 if parts[-2].marker != SOS else 1):
            found[f"comment{shift}-at-{at}"] = join(parts[:at] + [comment.bytes(shift)] + parts[at:])
        found[f"app5{shift}"] = join([Segment(0xE5, b"helloworld").bytes(shift)] + parts)
    for shift in (1, 2, 3, 8):
        found[f"comment+{shift}"] = join([comment.bytes(shift), comment] + segments(data))
    return found


def headers(data):
    """JFIF and Adobe oddities."""
    jfif = b"JFIF\0%b\0\0\1\0\1\0\0"
    adobe = b"Adobe\0d\0\0\0\0%b"
    parts = [s for s in segments(data) if s.marker not in (0xE0, 0xEE)]
    own = [s for s in segments(data) if s.marker == 0xEE]
    components = next(s for s in parts if s.marker in SOF).body[5]
    found = {f"jfif-{version.hex()}": join([Segment(0xE0, jfif % version)] + own + parts)
             for version in (b"\2\0", b"\0\0", b"\1\3", b"\xff\xff")}
    found["jfif-short"] = join([Segment(0xE0, b"JFIF\0\1\1")] + own + parts)
    found["jfif-twice"] = join([Segment(0xE0, jfif % b"\1\1")] * 2 + own + parts)
    found["jfif-thumbnail"] = join([Segment(0xE0, jfif[:-2] % b"\1\1" + b"\4\4" + b"\0" * 7)] + own + parts)
    if components == 3:
        for transform in (b"\1", b"\2", b"\3", b"\xff"):
            found["adobe-" + transform.hex()] = join([Segment(0xEE, adobe % transform)] + parts)
        found["adobe-short"] = join([Segment(0xEE, b"Adobe\0d")] + parts)
        found["neither"] = join(parts)
    if components == 4:
        found["adobe-none"] = join(parts)
    return found


HARMLESS = [scan_headers, between_segments, padding, before_restarts, lengths, headers]


# --- damage: {name: file} of which pixels are missing ---------------------------------------------


def cuts(data):
    found = {}
    first = data.index(b"\xff\xda")
    for n in range(20):
        at = first + 12 + (len(data) - 30 - first) * n // 20
        found[f"cut-{n}"] = data[:at]
        found[f"cut-{n}-eoi"] = data[:at] + EOI
        found[f"cut-{n}-ff-eoi"] = data[:at] + b"\xff" + EOI
    for n in range(3, 9):
        found[f"cut-last-{n}-eoi"] = data[:-n] + EOI
    return found


def missing_scans(data):
    parts = segments(data)
    scans = [i for i, s in enumerate(parts) if s.marker == SOS]
    return {f"no-scan-{i}": join(parts[:i] + parts[i + 1:]) for i in scans if len(scans) > 1} | \
        {f"scans-up-to-{i}": join(parts[:i + 1]) for i in scans[:-1]}


def missing_restarts(data):
    found = {}
    for index, segment in enumerate(segments(data)):
        if segment.marker != SOS:
            continue
        at = [i for i in range(len(segment.data) - 1)
              if segment.data[i] == 0xFF and 0xD0 <= segment.data[i + 1] <= 0xD7]
        for count in (1, 2, 7, 8, 9):
            for first in range(0, len(at) - count, max(1, len(at) // 5)):
                parts = segments(data)
                parts[index].data = segment.data[:at[first]] + segment.data[at[first + count]:]
                found[f"no-interval-{index}-{first}x{count}"] = join(parts)
    return found


def no_such_code(data):
    """All ones is a code in no table; 32 of them, whatever is half read, meet it."""
    found = {}
    for n in range(1, 9):
        parts = segments(data)
        scan = max((p for p in parts if p.marker == SOS), key=lambda p: len(p.data))
        at = len(scan.data) * n // 9
        scan.data = scan.data[:at] + b"\xff\0" * 8 + scan.data[at + 16:]
        found[f"ones-{n}"] = join(parts)
    return found


DAMAGE = [cuts, missing_scans, missing_restarts, no_such_code]

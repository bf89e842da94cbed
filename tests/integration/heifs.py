"""HEIC files as phones make them, put together from pictures that an encoder makes: grids of tiles, gain maps."""
import struct

from images import encode, vips


def box(kind, *parts):
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full_box(kind, version, flags, *parts):
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def boxes(data):
    """[(kind, body)]"""
    found = []
    while data:
        size, kind = struct.unpack(">I4s", data[:8])
        found.append((kind, data[8:size]))
        data = data[size:]
    return found


def find(data, *path, skip=0):
    """The body of a box, by the kinds on the way to it."""
    for kind in path:
        data = dict(reversed(boxes(data)))[kind]
        data = data[4:] if kind in (b"meta", b"iref") else data
    return data


def encoded(image, quality=80):
    """A picture as HEVC: (hvcC box, data)."""
    data = vips(encode(image, "PNG"), "copy", f".heic[compression=hevc,Q={quality},strip]")
    hvcc = next(body for kind, body in boxes(find(data, b"meta", b"iprp", b"ipco")) if kind == b"hvcC")
    return box(b"hvcC", hvcc), find(data, b"mdat")


class Heif:
    """Items with their data, properties and references, of which the first is the primary one."""

    def __init__(self):
        self.items, self.properties, self.references = [], [], []

    def add(self, kind, data, *properties, hidden=False):
        self.properties += [p for p in properties if p not in self.properties]
        self.items.append((kind, data, [self.properties.index(p) + 1 for p in properties], hidden))
        return len(self.items)

    def refer(self, kind, source, *targets):
        self.references.append(box(kind, struct.pack(f">{2 + len(targets)}H", source, len(targets), *targets)))

    def file(self):
        data = {d: None for _, d, _, _ in self.items}  # equal data is there once
        head = box(b"ftyp", b"heic", b"\0\0\0\0", b"mif1heicMiHB")
        meta = self.meta(dict.fromkeys(data, 0))
        at = len(head) + len(meta) + 8
        for each in data:
            data[each], at = at, at + len(each)
        return head + self.meta(data) + box(b"mdat", *data)

    def meta(self, places):
        numbered = list(enumerate(self.items, 1))
        return full_box(
            b"meta", 0, 0,
            full_box(b"hdlr", 0, 0, b"\0\0\0\0pict", b"\0" * 13),
            full_box(b"pitm", 0, 0, struct.pack(">H", 1)),
            full_box(b"iloc", 0, 0, struct.pack(">BBH", 0x44, 0, len(numbered)), *(
                struct.pack(">HHHII", number, 0, 1, places[data], len(data))
                for number, (_, data, _, _) in numbered)),
            full_box(b"iinf", 0, 0, struct.pack(">H", len(numbered)), *(
                full_box(b"infe", 2, hidden, struct.pack(">HH4s", number, 0, kind), b"\0")
                for number, (kind, _, _, hidden) in numbered)),
            box(b"iprp", box(b"ipco", *self.properties), full_box(b"ipma", 0, 0, struct.pack(">I", len(numbered)), *(
                struct.pack(">HB", number, len(own)) + bytes(own) for number, (_, _, own, _) in numbered))),
            full_box(b"iref", 0, 0, *self.references) if self.references else b"")


def size_property(width, height):
    return full_box(b"ispe", 0, 0, struct.pack(">II", width, height))


def grid(width, height, tiles):
    """Of width x height, cut from tiles of 512 x 512 that take turns, as phones make them."""
    columns, rows = -(-width // 512), -(-height // 512)
    heif = Heif()
    heif.add(b"grid", struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height), size_property(width, height))
    coded = [encoded(tile) for tile in tiles]
    heif.refer(b"dimg", 1, *(heif.add(b"hvc1", coded[n % len(coded)][1], coded[n % len(coded)][0],
                                      size_property(512, 512), hidden=True) for n in range(columns * rows)))
    return heif.file()


def with_gain_map(image, names_both):
    """As iOS 18 makes it: a tone-mapped item of picture and gain map, and a gain map that says whose it is."""
    heif = Heif()
    hvcc, data = encoded(image)
    heif.add(b"hvc1", data, hvcc, size_property(*image.size))
    small = image.convert("L").convert("RGB").resize((image.width // 2, image.height // 2))
    hvcc, data = encoded(small)
    gain = heif.add(b"hvc1", data, hvcc, size_property(*small.size),
                    full_box(b"auxC", 0, 0, b"urn:com:apple:photo:2020:aux:hdrgainmap\0"), hidden=True)
    tmap = heif.add(b"tmap", b"\0" * 62, size_property(*image.size), hidden=True)
    heif.refer(b"dimg", tmap, 1, gain)
    heif.refer(b"auxl", gain, *((1, tmap) if names_both else (1,)))
    return heif.file()

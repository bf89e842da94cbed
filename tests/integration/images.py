"""Pictures that the tests draw."""
import io
import pathlib
import subprocess
import tempfile

from PIL import Image


def encode(image, fmt="JPEG", **options):
    out = io.BytesIO()
    image.save(out, fmt, **options)
    return out.getvalue()


def vips(data, command, output, *arguments, suffix=""):
    """`vips COMMAND <data> OUTPUT ARGUMENTS`: the bytes it writes; output is like ".heic[Q=50]"."""
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder, "in" + suffix)
        target = pathlib.Path(folder, "out" + output.split("[")[0])
        source.write_bytes(data)
        subprocess.run(["vips", command, source, f"{folder}/out{output}", *arguments],
                       check=True, capture_output=True, timeout=60)
        return target.read_bytes()


def decode(data):
    if data[4:8] == b"ftyp":  # Pillow reads neither AVIF nor HEIC
        data = vips(data, "copy", ".png")
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def gradient(width=300, height=200, mode="RGB"):
    """Every pixel different from its neighbours, no two corners alike."""
    red = Image.linear_gradient("L").resize((width, height))
    green = red.rotate(180)
    blue = Image.radial_gradient("L").resize((width, height))
    return Image.merge("RGB", (red, green, blue)).convert(mode)


def numbered_jpeg(n, data):
    """`data` made unique by a counter in a JPEG comment: nothing that is cached can answer it."""
    comment = b"n=%d" % n
    return data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + data[2:]


def colour_of(n):
    """A colour for each number, and its strongest channel: what models.tiny_model calls it."""
    colour = [n * 13 % 100, n * 29 % 100, n * 53 % 100]
    colour[n % 3] = 180 + n * 7 % 60
    return colour, ("red", "green", "blue")[n % 3]


def coloured_jpeg(n, size=(48, 48)):
    """One colour alone, and unique: its object and its result can be told from all others."""
    return numbered_jpeg(n, encode(Image.new("RGB", size, tuple(colour_of(n)[0])), quality=95, subsampling=0))

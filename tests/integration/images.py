"""Pictures that the tests draw."""
import io

from PIL import Image


def encode(image, fmt="JPEG", **options):
    out = io.BytesIO()
    image.save(out, fmt, **options)
    return out.getvalue()


def decode(data):
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

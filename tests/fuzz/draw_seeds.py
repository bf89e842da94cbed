#!/usr/bin/python3
"""Draw small pictures of every format that comes in, as what image fuzzing begins with:
draw_seeds.py FOLDER. Without Pillow or vips it says so and draws none; `make test` installs both.

FOLDER/image has them behind the eight option bytes of tests/fuzz/image.c, FOLDER/image_header as they are.
FOLDER/drawn says that they are there.
"""
import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    from PIL import Image, ImageCms, ImageDraw
except ImportError:
    Image = None

OUT = Path(sys.argv[1])
OPTIONS = (b"\x00\x08\x08\x50\xff\x80\x00\x00", b"\x15\x10\x00\x5a\x00\x00\x00\x00", b"\x81\x00\x00\x00\x00\x00\x00\x00",
           b"\x10\x00\x00\x50\x20\x80\x00\xf0")


def picture(mode="RGB", size=(25, 19)):
    image = Image.new("RGBA", size, (200, 120, 40, 255))
    draw = ImageDraw.Draw(image)
    draw.ellipse((3, 2, size[0] - 4, size[1] - 3), fill=(20, 90, 200, 128))
    draw.line((0, 0, size[0], size[1]), fill=(0, 0, 0, 255), width=2)
    return image.convert(mode)


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data.tobytes()


def by_pillow():
    srgb = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    srgb[24:36] = bytes(12)  # when it was made: now
    srgb = bytes(srgb)
    rgb = picture()
    yield "jpeg", saved(rgb, "JPEG", quality=60)
    yield "jpeg_progressive", saved(rgb, "JPEG", quality=50, progressive=True, subsampling=2)
    yield "jpeg_exif", saved(rgb, "JPEG", quality=50, exif=exif(6), subsampling=0)
    yield "jpeg_icc", saved(picture(size=(9, 9)), "JPEG", quality=30, icc_profile=srgb)
    yield "jpeg_grey", saved(picture("L"), "JPEG", quality=50)
    yield "jpeg_cmyk", saved(picture("CMYK"), "JPEG", quality=50)
    yield "jpeg_large", saved(picture(size=(300, 200)), "JPEG", quality=20)
    for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"):
        image = picture("I").convert("I;16") if mode == "I;16" else picture(mode)
        yield "png_" + mode.replace(";", ""), saved(image, "PNG")
    yield "png_transparent", saved(picture("P"), "PNG", transparency=0, dpi=(72, 72))
    yield "png_exif", saved(rgb, "PNG", exif=exif(3), icc_profile=srgb)
    yield "gif", saved(picture("P"), "GIF")
    yield "gif_animated", saved(picture("P"), "GIF", save_all=True, append_images=[picture("P").rotate(90)], loop=0)
    yield "webp", saved(rgb, "WEBP", quality=50)
    yield "webp_alpha", saved(picture("RGBA"), "WEBP", quality=50, exif=exif(8))
    yield "webp_lossless", saved(picture("RGBA"), "WEBP", lossless=True)
    yield "webp_animated", saved(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(90)])
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield "tiff_" + compression, saved(rgb, "TIFF", compression=compression)
    yield "tiff_group4", saved(picture("1"), "TIFF", compression="group4")
    yield "tiff_grey16", saved(picture("I").convert("I;16"), "TIFF")
    yield "tiff_cmyk", saved(picture("CMYK"), "TIFF")


# (name, what vips writes): formats that Pillow does not write, or not in this way
BY_VIPS = (("heic", ".heic[Q=30]"), ("avif", ".avif[Q=30,effort=0]"), ("avif_lossless", ".avif[lossless,effort=0]"),
           ("png_interlaced", ".png[interlace]"), ("tiff_tiled", ".tif[tile,tile-width=16,tile-height=16,bigtiff]"),
           ("tiff_pyramid", ".tif[tile,tile-width=16,tile-height=16,pyramid]"),
           ("jpeg_arithmetic", ".jpg[Q=40,optimize-coding,trellis-quant]"))


def by_vips():
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source.png")
        source.write_bytes(saved(picture("RGBA", (33, 21)), "PNG"))
        for name, target in BY_VIPS:
            out = Path(folder, name + target.split("[")[0])
            options = "[" + target.split("[")[1]
            done = subprocess.run(["vips", "copy", str(source), f"{out}{options}"], capture_output=True, timeout=60)
            if done.returncode == 0:
                yield name, out.read_bytes()


def main():
    if Image is None or shutil.which("vips") is None:
        print("draw_seeds.py: no pictures are drawn for the fuzz targets: install python3-pil and libvips-tools")
        return
    for target in ("image", "image_header"):
        (OUT / target).mkdir(parents=True, exist_ok=True)
    for number, (name, data) in enumerate([*by_pillow(), *by_vips()]):
        (OUT / "image_header" / f"drawn_{name}").write_bytes(data)
        (OUT / "image" / f"drawn_{name}").write_bytes(OPTIONS[number % len(OPTIONS)] + data)
    (OUT / "drawn").touch()


main()

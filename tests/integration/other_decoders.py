"""What other software takes a picture for: Pillow, and ImageMagick or libavif's avifdec where Pillow cannot."""
import io
import pathlib
import shutil
import struct
import subprocess
import tempfile
import warnings

import numpy as np
from PIL import Image, ImageCms, ImageOps

MAGICK = next((name for name in ("convert-im6.q16", "magick", "convert") if shutil.which(name)), None)
SRGB = ImageCms.createProfile("sRGB")


def in_8_bits(image):
    """Pillow's wider modes hold the file's numbers."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray((np.asarray(image).astype(np.float64) / 257 + 0.5).clip(0, 255).astype(np.uint8))
    return image


def in_srgb(image, icc):
    """Colours by the profile, as far as it fits; transparency stays."""
    alpha = image.convert("RGBA").getchannel("A") if "A" in image.mode or "transparency" in image.info else None
    if image.mode == "LAB":
        return ImageCms.applyTransform(image, ImageCms.buildTransform(ImageCms.createProfile("LAB"), SRGB, "LAB", "RGB")), alpha
    colours = image if image.mode in ("L", "CMYK") else image.convert("L" if image.mode == "LA" else "RGB")
    if icc:
        try:
            colours = ImageCms.profileToProfile(colours, ImageCms.ImageCmsProfile(io.BytesIO(icc)), SRGB,
                                                renderingIntent=1, outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            pass
    return colours.convert("RGB"), alpha


def on_white(image, icc):
    colours, alpha = in_srgb(in_8_bits(image), icc)
    if alpha is None:
        return colours
    page = Image.new("RGB", colours.size, (255, 255, 255))
    page.paste(colours, mask=alpha)
    return page


def by_pillow(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(data))
        image.load()
        return on_white(ImageOps.exif_transpose(image), image.info.get("icc_profile"))


def run(command, data, suffix, out):
    with tempfile.TemporaryDirectory() as folder:
        source, target = pathlib.Path(folder, "in" + suffix), pathlib.Path(folder, "out" + out)
        source.write_bytes(data)
        done = subprocess.run([part.format(source=source, target=target) for part in command], capture_output=True,
                              timeout=60)
        if done.returncode or not target.exists():
            raise ValueError(done.stderr.decode(errors="replace"))
        return target.read_bytes()


def by_avifdec(data):
    return by_pillow(run(["avifdec", "-j", "1", "{source}", "{target}"], data, ".avif", ".png"))


def by_magick(data):
    """Its PNG keeps the profile for Pillow to apply."""
    return by_pillow(run([MAGICK, "{source}[0]", "-auto-orient", "-depth", "8", "{target}"], data, "", ".png"))


def decoders(data):
    if data[4:8] == b"ftyp":
        return [by_avifdec] if b"avi" in data[8:48] and shutil.which("avifdec") else []
    return [by_pillow] + ([by_magick] if MAGICK else [])


def decode(data):
    """An upright RGB picture on white, or None: refused by all of them. Raises LookupError when there is none."""
    possible = decoders(data)
    if not possible:
        raise LookupError("no other decoder")
    for decoder in possible:
        try:
            return decoder(data)
        except (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, AttributeError, struct.error):
            continue
    return None

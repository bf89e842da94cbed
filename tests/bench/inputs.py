"""What the bench uploads: photographs where they are at hand, drawn pictures otherwise.

The small ones are used as they are; larger ones are made from them, with grain, since an enlarged
photograph alone has less to decode than one of that size. The same files in every run.
"""
import io
import pathlib

import numpy
from PIL import Image, JpegImagePlugin

SMALL_SIDE = (300, 600)  # of the longer side
SIZES = {"2mp": (1632, 1224), "12mp": (4032, 3024)}
S444, S420 = 0, 2        # PIL's names for chroma subsampling


def _drawn(width, height, seed):
    """Gradients, discs and noise: as hard to code as a photograph, roughly."""
    random = numpy.random.default_rng(seed)
    y, x = numpy.mgrid[0:height, 0:width].astype(numpy.float32)
    x, y = x / width, y / height
    planes = [90 + 80 * numpy.sin(3 * x + c + seed) * numpy.cos(2 * y - c) for c in range(3)]
    for _ in range(24):
        cx, cy, radius = random.random(), random.random(), 0.03 + random.random() / 6
        inside = (x - cx) ** 2 + (y - cy) ** 2 < radius ** 2
        for plane in planes:
            plane[inside] += random.integers(-70, 70)
    picture = numpy.stack(planes, axis=-1) + random.normal(0, 7, (height, width, 1))
    return Image.fromarray(picture.clip(0, 255).astype(numpy.uint8))


def _grain(image, seed):
    noise = numpy.random.default_rng(seed).normal(0, 4, (512, 512))
    width, height = image.size
    tiled = numpy.tile(noise, (height // 512 + 1, width // 512 + 1))[:height, :width, None]
    return Image.fromarray((numpy.asarray(image) + tiled).clip(0, 255).astype(numpy.uint8))


def _small(photos, folder, most):
    """Paths of small JPEGs, baseline, in colour."""
    found = []
    for path in sorted(photos.glob("*.[jJ][pP]*[gG]")) if photos.is_dir() else []:
        with Image.open(path) as image:
            if image.mode == "RGB" and SMALL_SIDE[0] <= max(image.size) <= SMALL_SIDE[1] \
                    and not image.info.get("progressive"):
                found.append(path)
    if found:
        by_sampling = {s: [p for p in found if JpegImagePlugin.get_sampling(Image.open(p)) == s] for s in (S444, S420)}
        return by_sampling[S420][:most // 4] + by_sampling[S444][:most - most // 4]
    for i in range(min(most, 12)):
        path = folder / f"small{i}.jpg"
        size = (500, 375) if i % 3 else (333, 500)
        _drawn(*size, seed=i).save(path, quality=92, subsampling=S420 if i % 4 == 0 else S444)
        found.append(path)
    return found


def _large(small, name, count, folder):
    paths = []
    for i in range(count):
        with Image.open(small[3 * i % len(small)]) as image:
            turned = image if image.width >= image.height else image.transpose(Image.Transpose.ROTATE_90)
            picture = _grain(turned.convert("RGB").resize(SIZES[name], Image.Resampling.BICUBIC), i)
        paths.append(folder / f"{name}{i}.jpg")
        picture.save(paths[-1], quality=85, subsampling=S420 if i % 2 == 0 else S444)
    return paths


def _converted(small, extension, count, folder, **options):
    paths = []
    for source in small[:count]:
        paths.append(folder / (pathlib.Path(source).stem + extension))
        with Image.open(source) as image:
            bare = Image.new("RGB", image.size)
            bare.paste(image)
            bare.save(paths[-1], **options)
    return paths


def make(photos, folder, quick=False):
    """{"small": [paths], "2mp": …, "12mp": …, "png": …, "webp": …}; made files go to `folder`."""
    small = _small(pathlib.Path(photos), folder, 6 if quick else 24)
    return {
        "small": small,
        "2mp": _large(small, "2mp", 2 if quick else 4, folder),
        "12mp": _large(small, "12mp", 1 if quick else 2, folder),
        "png": _converted(small, ".png", 2 if quick else 6, folder, compress_level=6),
        "webp": _converted(small, ".webp", 2 if quick else 6, folder, quality=90),
    }


def jpeg_settings(path):
    """libjpeg's quality and the subsampling ("444" or "420") that a JPEG was encoded with."""
    with Image.open(path) as image:
        tables, sampling = image.quantization, JpegImagePlugin.get_sampling(image)
    for quality in range(100, 0, -1):
        tried = io.BytesIO()
        Image.new("RGB", (8, 8)).save(tried, "JPEG", quality=quality)
        if Image.open(tried).quantization == tables:
            return quality, "420" if sampling == S420 else "444"
    raise ValueError(f"{path}: not libjpeg's quantisation tables")

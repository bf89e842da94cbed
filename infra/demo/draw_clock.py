#!/usr/bin/python3
"""Draw an analog clock as a PNG: a picture to try Darkroom with when there is no photograph at hand.

    draw_clock.py OUT.png

Signed distances, sampled 3 x 3 per pixel; NumPy for the pixels, the PNG (RFC 2083) written by hand.
"""
import struct
import sys
import zlib

import numpy as np

SIZE, SAMPLES = 480, 3


def png(pixels):
    height, width, _ = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
            + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + chunk(b"IEND", b""))


def bar(x, y, angle, start, end, width):
    """Inside a straight bar that points `angle` clockwise from twelve o'clock."""
    along = x * np.sin(angle) - y * np.cos(angle)
    across = x * np.cos(angle) + y * np.sin(angle)
    return (along >= start) & (along <= end) & (np.abs(across) <= width / 2)


def draw_clock():
    n = SIZE * SAMPLES
    axis = (np.arange(n) + 0.5) / n * 2 - 1
    x, y = np.meshgrid(axis, axis)
    radius = np.hypot(x, y)
    # blue wall and steel rim: ImageNet's classifiers then agree on "analog clock", not "wall clock"
    image = np.array([0.0, 40.0, 100.0]) + 25 * (-x - y)[..., None] * np.array([1.0, 0.95, 0.85])
    image[np.hypot(x - 0.05, y - 0.07) < 0.88] *= 0.7  # the shadow on the wall
    image[radius < 0.86] = (120, 122, 126)
    image[radius < 0.82] = (190, 192, 196)
    image[radius < 0.76] = (245, 242, 230)
    ink = np.zeros_like(radius, bool)
    for minute in range(60):
        angle = minute * np.pi / 30
        hour = minute % 5 == 0
        ink |= bar(x, y, angle, 0.58 if hour else 0.68, 0.72, 0.035 if hour else 0.01)
    ink |= bar(x, y, 10.15 * np.pi / 6, -0.10, 0.40, 0.05) | bar(x, y, 9 * np.pi / 30, -0.12, 0.60, 0.03)
    image[ink] = (25, 25, 30)
    image[bar(x, y, 35 * np.pi / 30, -0.15, 0.62, 0.012) | (radius < 0.035)] = (180, 30, 30)
    pixels = image.reshape(SIZE, SAMPLES, SIZE, SAMPLES, 3).mean(axis=(1, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


if __name__ == "__main__":
    with open(sys.argv[1], "wb") as out:
        out.write(png(draw_clock()))

#!/usr/bin/env python3
"""Draws a picture for the smoke test: draw_picture.py SEED FILE.png. Another seed is another picture."""
import hashlib
import struct
import sys
import zlib

SIZE, TILES = 256, 8


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(seed):
    """Tiles in colours that the seed picks."""
    colours = [hashlib.sha256(f"{seed} {n}".encode()).digest()[:3] for n in range(TILES * TILES)]
    side = SIZE // TILES
    rows = (b"\0" + b"".join(colours[y // side * TILES + x] * side for x in range(TILES)) for y in range(SIZE))
    header = struct.pack(">IIBBBBB", SIZE, SIZE, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")


if __name__ == "__main__":
    with open(sys.argv[2], "wb") as file:
        file.write(png(sys.argv[1]))

"""The peer of tests/bench/operations.c: `peer_opencv.py medianBlur|blur|rotate VALUE SECONDS`, one thread, 2 MP of RGB, into
memory that is there. Prints the same JSON. Run by an interpreter that has OpenCV (operations.py)."""
import json
import sys
import time

import cv2
import numpy

WIDTH, HEIGHT = 1920, 1080
TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180}


def call_of(function, value):
    count = numpy.arange(WIDTH * HEIGHT * 3)
    noise = numpy.random.default_rng(1).integers(0, 64, count.size)
    picture = ((count // 30 & 0x7f) + noise).astype(numpy.uint8).reshape(HEIGHT, WIDTH, 3)
    out = numpy.empty((WIDTH, HEIGHT, 3), numpy.uint8) if value == 90 else numpy.empty_like(picture)
    return {"medianBlur": lambda: cv2.medianBlur(picture, value, out), "blur": lambda: cv2.blur(picture, (value, value), out),
            "rotate": lambda: cv2.rotate(picture, TURNS[value], out)}[function]


def main():
    cv2.setNumThreads(1)
    call, seconds = call_of(sys.argv[1], int(sys.argv[2])), float(sys.argv[3])
    until = time.monotonic() + seconds / 10
    while time.monotonic() < until:
        call()
    started, cpu, count = time.monotonic(), time.process_time(), 0
    while count == 0 or time.monotonic() < started + seconds:
        call()
        count += 1
    print(json.dumps({"count": count, "cpu_ms": 1e3 * (time.process_time() - cpu) / count,
                      "per_second": count / (time.monotonic() - started), "version": cv2.__version__}))


main()

"""The peer of tests/bench/operations.c: `peer_opencv.py medianBlur|blur|rotate SECONDS`, one thread, 2 MP of RGB, into
memory that is there. Prints the same JSON. Run by an interpreter that has OpenCV (operations.py)."""
import json
import sys
import time

import cv2
import numpy

WIDTH, HEIGHT = 1920, 1080


def calls():
    count = numpy.arange(WIDTH * HEIGHT * 3)
    noise = numpy.random.default_rng(1).integers(0, 64, count.size)
    picture = ((count // 30 & 0x7f) + noise).astype(numpy.uint8).reshape(HEIGHT, WIDTH, 3)
    same, turned = numpy.empty_like(picture), numpy.empty((WIDTH, HEIGHT, 3), numpy.uint8)
    return {"medianBlur": lambda: cv2.medianBlur(picture, 5, same), "blur": lambda: cv2.blur(picture, (3, 3), same),
            "rotate": lambda: cv2.rotate(picture, cv2.ROTATE_90_CLOCKWISE, turned)}


def main():
    cv2.setNumThreads(1)
    call, seconds = calls()[sys.argv[1]], float(sys.argv[2])
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

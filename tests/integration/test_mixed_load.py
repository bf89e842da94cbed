"""Thumbnails beside huge images: each gets its fair share, neither waits for all of the other's."""
import contextlib
import http.client
import statistics
import threading
import time

import pytest
from PIL import Image

from conftest import SLOW, Service, wait_for
from images import encode, gradient, numbered_jpeg
from test_background import U2NETP, needs_u2netp


class Load:
    """Clients that upload one image after the other, each on its kept-alive connection."""

    def __init__(self, service, data, clients, query=""):
        self.port, self.data, self.path = service.port, data, f"/preprocess{query}"
        self.times, self.bad = [], []
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(n,)) for n in range(clients)]

    def run(self, client):
        n = client << 32
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30 * SLOW)) as c:
            while not self.over.is_set():
                n += 1
                started = time.monotonic()
                c.request("POST", self.path, numbered_jpeg(n, self.data), {"Content-Type": "image/jpeg"})
                response = c.getresponse()
                response.read()
                self.times.append(time.monotonic() - started)
                if response.status != 200:
                    self.bad.append(response.status)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()
        assert not self.bad


def start(tmp_path, services, **env):
    services.append(Service("preprocess-service", tmp_path, EVENTS_URL="none:", WORKERS=2, **env))
    return services[-1].start()


@pytest.mark.measures_time
@pytest.mark.once
def test_huge_images_do_not_hold_up_thumbnails(tmp_path, services, measurement):
    """First come, first served, eight thumbnail clients and four of 12 megapixels would be answered
    in turns: of each 12 replies 4 huge ones, on two workers. Here the thumbnails get half of the
    workers at least, which is tens of them for one huge image."""
    service = start(tmp_path, services)
    small_image = encode(gradient(400, 300), quality=85)
    huge_image = encode(Image.effect_noise((4000, 3000), 30), quality=80)  # as much to decode as a photograph
    with Load(service, small_image, 1) as alone:
        wait_for(lambda: len(alone.times) >= 50, "thumbnails")
    with Load(service, huge_image, 1) as huge_alone:
        wait_for(lambda: len(huge_alone.times) >= 5, "huge images")
    with Load(service, huge_image, 4) as huge, Load(service, small_image, 8) as small:
        wait_for(lambda: len(huge.times) >= 12, "huge images among thumbnails, or they starve")
    ratio = statistics.median(huge_alone.times) / statistics.median(alone.times)
    share = len(small.times) / len(huge.times)
    print(f"one huge image takes as long as {ratio:.1f} thumbnails; thumbnails per huge image: {share:.1f}; "
          f"medians {statistics.median(small.times) * 1e3:.0f} and {statistics.median(huge.times) * 1e3:.0f} ms")
    measurement.must(ratio > 5, "too little difference for this test")
    measurement.must(share > 4, f"{share:.1f} thumbnails per huge image; in turns it would be 2")
    measurement.must(statistics.median(small.times) < statistics.median(huge.times) / 2, "thumbnails wait for huge images")


@needs_u2netp
@pytest.mark.measures_time
@pytest.mark.once
def test_subjects_that_are_cut_out_do_not_either(tmp_path, services, measurement):
    """Thumbnails of eight clients, subjects of four, each a second of work."""
    service = start(tmp_path, services, BACKGROUND_MODEL=U2NETP)
    picture = encode(gradient(400, 300), quality=85)
    with Load(service, picture, 4, "?remove_background=1") as cut, Load(service, picture, 8) as small:
        wait_for(lambda: len(cut.times) >= 6, "subjects that are cut out among thumbnails")
    share = len(small.times) / len(cut.times)
    medians = [statistics.median(load.times) for load in (small, cut)]
    print(f"thumbnails per subject: {share:.1f}; medians {medians[0] * 1e3:.0f} and {medians[1] * 1e3:.0f} ms")
    measurement.must(share > 4, f"{share:.1f} thumbnails per subject; in turns it would be 2")
    measurement.must(medians[0] < medians[1] / 10, "thumbnails wait for subjects that are cut out")

"""RETENTION_DAYS: what is too old leaves the file store, and nothing else does."""
import hashlib
import os
import time

import pytest

from conftest import SLOW, Service, wait_for
from images import encode, gradient

pytestmark = pytest.mark.threads

DAYS = 24 * 3600


def put(folder, name, days):
    """A file of that age in the store."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"{}")
    age(path, days)
    return path


def age(path, days):
    then = time.time() - days * DAYS
    os.utime(path, (then, then))


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def objects(tmp_path):
    return tmp_path / "objects"


def start(services, tmp_path, **env):
    services.append(Service("preprocess-service", tmp_path, EVENTS_URL="none:", **env))
    return services[-1].start()


def expired(service):
    return service.metric("objects_expired_total")


def test_what_is_old_goes_and_what_is_newer_stays(tmp_path, services, objects):
    old = [put(objects, name, 31) for name in (
        digest("a") + ".jpg", digest("a") + ".jpg.json", digest("b") + ".avif", digest("c") + ".png.json",
        f"rejected/{digest('r')}.json", *(f"tasks/00000000-0000-4000-8000-000000000000.{ext}" for ext in ("json", "png")))]
    kept = [put(objects, name, days) for name, days in (
        (digest("d") + ".jpg", 29), (digest("d") + ".jpg.json", 31),  # a result with a newer object
        (digest("e") + ".webp", 0), (digest("b") + ".avif.json", 29),  # alone now, but not yet old
        (f"rejected/{digest('s')}.json", 29),
        # what others put there
        (digest("a"), 999), ("holiday.jpg", 999), ("holiday.jpg.json", 999), (digest("a") + ".txt", 999),
        (digest("a")[:-1] + ".jpg", 999), ("deep/" + digest("a") + ".jpg", 999), ("rejected/notes.json", 999), ("tasks/notes.json", 999))]
    service = start(services, tmp_path, RETENTION_DAYS=30)
    wait_for(lambda: expired(service) == len(old), "everything old to be deleted")
    line = wait_for(lambda: [x for x in service.log_lines() if "RETENTION_DAYS" in x["message"] and "deleted" in x],
                    "the walk's end in the log")[0]
    assert (line["severity"], line["deleted"]) == ("INFO", len(old))
    assert not [path for path in old if path.exists()]
    assert not [path for path in kept if not path.exists()]


def test_an_upload_of_ours_goes_by_its_age(tmp_path, services, objects):
    first = start(services, tmp_path)
    reply = first.upload(encode(gradient(64, 48))).json()
    newer = first.upload(encode(gradient(48, 64))).json()
    first.stop()
    age(objects / f"{reply['id']}.jpg", 2)
    second = start(services, tmp_path, RETENTION_DAYS=1)
    wait_for(lambda: second.get("/images/" + reply["id"]).status == 404, "the upload to be deleted")
    assert second.get("/images/" + newer["id"]).status == 200
    # the same upload again is a new object
    assert second.upload(encode(gradient(64, 48))).json()["id"] == reply["id"]
    assert second.get("/images/" + reply["id"]).status == 200


def test_a_prefixless_default_keeps_everything(tmp_path, services, objects):
    path = put(objects, digest("a") + ".jpg", 9999)
    service = start(services, tmp_path)
    (tmp_path / "later").mkdir()
    put(tmp_path / "later/objects", digest("a") + ".jpg", 9999)
    later = start(services, tmp_path / "later", RETENTION_DAYS=30)
    wait_for(lambda: expired(later) == 1, "the first walk of a service that was started later")
    assert path.exists() and expired(service) == 0


def test_what_cannot_be_deleted_is_told_and_the_rest_goes(tmp_path, services, objects):
    stuck = put(objects, digest("a") + ".jpg", 31)
    gone = put(objects, digest("b") + ".jpg", 31)
    stuck.unlink()
    stuck.symlink_to("/etc/hostname")  # never followed, never touched: not an object
    link = objects / (digest("c") + ".jpg")
    link.mkdir()
    service = start(services, tmp_path, RETENTION_DAYS=30)
    wait_for(lambda: expired(service) == 1, "the old object to be deleted")
    assert not gone.exists() and stuck.is_symlink() and link.is_dir()


def test_it_stops_in_the_middle_of_a_walk(tmp_path, services, objects, measurement):
    for n in range(3000):
        put(objects, digest(str(n)) + ".jpg", 31)
    service = start(services, tmp_path, RETENTION_DAYS=30)
    wait_for(lambda: expired(service) > 0, "the walk to begin")
    before = time.monotonic()
    service.stop()
    took = time.monotonic() - before
    left = len(list(objects.glob("*.jpg")))
    assert 0 < left < 3000, left
    measurement.must(took < 5 * SLOW, f"stopped after {took:.1f} s")

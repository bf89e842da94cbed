"""The include rules of ARCHITECTURE.md, checked on the #include lines."""
import re

import pytest

from conftest import ROOT

SOURCES = sorted(path for top in ("common", "preprocess_service", "classify_service")
                 for path in (ROOT / top).rglob("*.[ch]"))

# The rooms of common/, from the ground: a room may include rooms of lower floors, and itself.
FLOORS = [
    {"base"},
    {"http", "client", "image", "sandbox"},
    {"auth", "store", "events", "objects", "model"},
    {"workers"},
    {"app"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# Third-party headers and the only places that may include them.
OWNERS = {
    "microhttpd.h": r"common/http/server\.c",
    "curl/": r"common/(client/http_client|client/http_reply|store/bucket/libs3_transfer)\.[ch]",
    "vips/": r"common/image/.*",
    "jpeglib.h": r"common/image/(read|write)/jpeg_.*",
    "lcms2.h": r"common/image/read/colours\.c",
    "onnxruntime": r"common/model/model\.c",
    "libs3.h": r"common/store/bucket/libs3.*\.c",
    "expat.h": r"common/store/bucket/xml\.c",
    "seccomp.h": r"common/sandbox/sandbox_filter\.c",
    "sqlite3.h": r"common/events/outbox/outbox.*",
}


def includes(path):
    return re.findall(r'^#include\s+["<]([^">]+)[">]', path.read_text(), re.M)


def room(path):
    return path.relative_to(ROOT / "common").parts[0]


def in_common(path):
    return (ROOT / "common") in path.parents


def test_rooms_include_lower_floors_only():
    wrong = []
    for path in filter(in_common, SOURCES):
        for include in includes(path):
            other = include.split("/")[0]
            if (ROOT / "common" / include).exists() and other != room(path) and FLOOR[other] >= FLOOR[room(path)]:
                wrong.append(f"{path} includes {include}")
    assert not wrong


def test_every_room_has_a_floor():
    assert {room(path) for path in filter(in_common, SOURCES)} == set(FLOOR)


def test_common_includes_nothing_of_the_services():
    for path in SOURCES:
        for include in includes(path):
            assert "_service" not in include, f"{path} includes {include}"


def test_services_include_nothing_of_each_other():
    for ours, theirs in (("preprocess_service", "classify_service"), ("classify_service", "preprocess_service")):
        headers = {path.name for path in (ROOT / theirs).glob("*.h")} - {path.name for path in (ROOT / ours).glob("*.h")}
        for path in (ROOT / ours).glob("*.[ch]"):
            assert not headers & set(includes(path)), path


@pytest.mark.parametrize("header", sorted(OWNERS))
def test_third_party_headers_have_one_owner(header):
    users = [path for path in SOURCES if any(i.startswith(header) for i in includes(path))]
    assert users
    for path in users:
        assert re.fullmatch(OWNERS[header], str(path.relative_to(ROOT))), f"{path} includes {header}"

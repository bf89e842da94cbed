"""The dependency rules of ARCHITECTURE.md, checked on the #include lines."""
import re

import pytest

from conftest import ROOT

SOURCES = sorted(path for top in ("common", "preprocess_service", "classify_service")
                 for path in (ROOT / top).rglob("*.[ch]"))

# What a folder of common/ may include of the others; every folder includes itself and base.
ALLOWED = {
    "base": set(),
    "http": set(),
    "work": set(),
    "store": {"http"},
    "events": {"http"},
    "auth": {"http"},
    "image": set(),
    "service": {"http", "work", "store", "events", "auth", "image"},
}
# Third-party headers and the only places that may include them.
OWNERS = {
    "microhttpd.h": r"common/http/server\.c",
    "curl/": r"common/(http/client.*|store/libs3_transfer)\.[ch]",
    "vips/": r"common/image/.*",
    "jpeglib.h": r"common/image/jpeg_.*",
    "lcms2.h": r"common/image/colours\.c",
    "onnxruntime": r"classify_service/model\.c",
    "libs3.h": r"common/store/libs3.*\.c",
    "expat.h": r"common/store/xml\.c",
    "seccomp.h": r"common/work/sandbox_filter\.c",
    "sqlite3.h": r"common/events/outbox.*",
}


def includes(path):
    return re.findall(r'^#include\s+["<]([^">]+)[">]', path.read_text(), re.M)


def folder(path):
    return path.relative_to(ROOT / "common").parts[0]


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_folders_of_common(name):
    files = [path for path in SOURCES if (ROOT / "common" / name) in path.parents]
    assert files
    for path in files:
        for include in includes(path):
            other = include.split("/")[0]
            if other in ALLOWED and (ROOT / "common" / include).exists():
                assert other in ALLOWED[name] | {name, "base"}, f"{path} includes {include}"


def test_stores_and_events_do_not_know_the_server():
    for path in SOURCES:
        if "common" in path.parts and folder(path) in ("store", "events", "auth", "image"):
            for include in includes(path):
                assert include not in ("http/server.h", "http/request.h", "http/reply.h"), path


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


def test_every_folder_is_in_the_rules():
    assert {folder(path) for path in SOURCES if "common" in path.parts} == set(ALLOWED)

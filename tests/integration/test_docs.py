"""What the documents say is what is there, and what the programs do."""
import json
import os
import re
import subprocess

import pytest

from conftest import BUILD, ROOT, Stack

TOPS = ("common", "preprocess_service", "classify_service", "infra", "tests", ".github", ".devcontainer")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(path for top in TOPS for path in (ROOT / top).rglob("*.md"))])
ROOMS = sorted(path for path in (ROOT / "common").iterdir() if path.is_dir())
each = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
# a file by its kind, or anything below a folder of ours
PATH = re.compile(rf"`((?:[\w*-][\w.*-]*/)*[\w.*-]+\.(?:[ch]|py|sh|md|json|yml)|(?:{'|'.join(map(re.escape, TOPS))})/[\w./*-]*)`")
MADE = ("build/", "data/", "path/to/", "compile_commands.json")
LINK = re.compile(r"\]\(([^)#:]*)(#[^)]*)?\)")
MAKE = re.compile(r"(?:^|`)(?:[A-Z_]+=\S+ )*make ([a-z][\w.-]*(?: [a-z][\w.-]*(?![\w.=-]))*)", re.M)


def exists(document, name):
    """Below the document's folder, or from the root, or a test; `*` stands for any text."""
    pattern = name.rstrip("/")
    return any(document.parent.rglob(pattern)) or any(ROOT.glob(pattern)) or (
        name.startswith("test_") and any((ROOT / "tests").rglob(pattern)))


def anchors(text):
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {"#" + re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name, most", [("README.md", 6144), ("ARCHITECTURE.md", 8192)])
def test_it_is_short(name, most):
    assert (ROOT / name).stat().st_size <= most


@each
def test_every_path_exists(document):
    for name in PATH.findall(document.read_text()):
        assert name.startswith(MADE) or exists(document, name), name


@each
def test_every_link_leads_somewhere(document):
    for path, anchor in LINK.findall(document.read_text()):
        target = document.parent / path if path else document
        assert target.exists(), path
        assert not anchor or anchor in anchors(target.read_text()), path + anchor


@each
def test_every_make_target_exists(document):
    targets = set(" ".join(re.findall(r"^([a-z][\w. -]*):(?!=)", (ROOT / "Makefile").read_text(), re.M)).split())
    for words in MAKE.findall(document.read_text()):
        for name in words.split():
            assert name in targets, f"make {name}"


@pytest.mark.parametrize("room", ROOMS, ids=lambda path: path.name)
def test_every_room_has_its_page_and_its_line(room):
    assert (room / "README.md").is_file()
    assert re.search(rf"^\| \d \| .*`common/{room.name}/`.* \|", (ROOT / "ARCHITECTURE.md").read_text(), re.M)


def test_the_settings_are_the_programs():
    done = subprocess.run(["/usr/bin/python3", ROOT / "infra/settings_table.py", BUILD, ROOT / "infra/SETTINGS.md", "--check"])
    assert done.returncode == 0, "run `make settings-table`"


def test_every_test_the_threats_name_exists():
    section = (ROOT / "tests/README.md").read_text().split("\n## Threats", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`(test_\w+\.(?:py|c))::(\w+)`", row)
        assert named, f"no test: {row}"
        for file, name in named:
            definition = r"def (%s)\(" if file.endswith(".py") else r"(?:static void |TEST(?:_WITH)?\()(%s)[(,)]"
            text = "\n".join(path.read_text() for path in (ROOT / "tests").rglob(file))
            assert re.search("^" + definition % name, text, re.M), f"{file}::{name}"


def test_the_readmes_requests_get_the_readmes_replies(tmp_path, services):
    """As they stand there, but for the ports."""
    text = (ROOT / "README.md").read_text()
    requests = re.findall(r"^curl .*", text, re.M)
    shown = [set(json.loads(block)) for block in re.findall(r"^```json\n(.*)\n```", text, re.M)]
    assert len(requests) >= 4 and len(shown) == 2
    services.append(Stack(tmp_path, preprocess_env={"RESULTS_BASE_URL": "http://127.0.0.1:8001"}))
    stack = services[0].start()
    (tmp_path / "data").mkdir()
    subprocess.run(["/usr/bin/python3", ROOT / "infra/demo/draw_clock.py", tmp_path / "data/clock.png"], check=True)
    got = []
    for request in requests:
        for port, service in (("8000", stack.preprocess), ("8001", stack.classify)):
            request = request.replace(f"http://127.0.0.1:{port}", service.url)
        done = subprocess.run(["bash", "-c", request], cwd=tmp_path, env=os.environ | {"no_proxy": "*"},
                              capture_output=True, text=True, timeout=300)
        got.append(set(json.loads(done.stdout)))
    assert all(keys in shown for keys in got), got
    assert all(keys in got for keys in shown), got

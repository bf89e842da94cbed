"""What the documents say is what the programs do."""
import re
import subprocess

from conftest import BUILD, ROOT


def test_the_readmes_settings_are_the_programs():
    done = subprocess.run(["/usr/bin/python3", ROOT / "infra/settings_table.py", BUILD, ROOT / "README.md", "--check"])
    assert done.returncode == 0, "run `make settings-table`"


def test_every_make_target_the_documents_name_exists():
    targets = set(re.findall(r"^([a-z-]+(?: [a-z-]+)*):(?!=)", (ROOT / "Makefile").read_text(), re.M))
    targets = {name for line in targets for name in line.split()}
    for document in ("README.md", "ARCHITECTURE.md"):
        for name in re.findall(r"`make ([a-z-]+)", (ROOT / document).read_text()):
            assert name in targets, f"{document} names `make {name}`"


def test_every_path_architecture_names_exists():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for path in re.findall(r"`((?:common|preprocess_service|classify_service|infra|tests)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), path


def test_every_test_the_threats_name_exists():
    section = (ROOT / "ARCHITECTURE.md").read_text().split("**Threats", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 20
    for row in rows:
        named = re.findall(r"`(test_\w+\.(?:py|c))::(\w+)`", row)
        assert named, f"no test: {row}"
        for file, name in named:
            folder, definition = ("integration", "^def ") if file.endswith(".py") else ("unit", "^static void ")
            text = (ROOT / "tests" / folder / file).read_text()
            assert re.search(rf"{definition}{name}\(", text, re.M), f"{file}::{name}"

"""Other people's Python packages that no Debian package has: each in an environment of its own, made once on
a machine and kept outside the project."""
import fcntl
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest


def foreign_python(requirement):
    """The interpreter that has it; without a package registry within reach the test is skipped."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "darkroom"
    folder = cache / re.sub(r"[^\w.-]+", "-", requirement)
    cache.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            # Debian's python3 makes environments without a pip of their own, and has a pip that fills them
            for command in ([sys.executable, "-m", "venv", "--clear", "--without-pip", folder],
                            [sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", "-q",
                             "--disable-pip-version-check", requirement]):
                run = subprocess.run(command, capture_output=True, text=True, timeout=300)
                if run.returncode != 0:
                    shutil.rmtree(folder, ignore_errors=True)
                    why = (run.stderr or run.stdout).strip().splitlines()
                    pytest.skip(f"no {requirement} here: {why[-1] if why else run.returncode}")
            (folder / "complete").touch()
    return folder / "bin/python"

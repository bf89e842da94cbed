"""Other people's packages that no Debian package has: each in an environment of its own, made once on a machine
and kept outside the project."""
import fcntl
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest


def environment(name, commands):
    """The folder that the commands fill; without a package registry within reach the test is skipped."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "darkroom"
    folder = cache / re.sub(r"[^\w.-]+", "-", name)
    cache.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            for command in commands(folder):
                run = subprocess.run(command, capture_output=True, text=True, timeout=300)
                if run.returncode != 0:
                    shutil.rmtree(folder, ignore_errors=True)
                    why = (run.stderr or run.stdout).strip().splitlines()
                    pytest.skip(f"no {name} here: {why[-1] if why else run.returncode}")
            (folder / "complete").touch()
    return folder


def foreign_python(requirement):
    """The interpreter that has it."""
    # Debian's python3 makes environments without a pip of their own, and has a pip that fills them
    return environment(requirement, lambda folder: (
        [sys.executable, "-m", "venv", "--clear", "--without-pip", folder],
        [sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", "-q", "--disable-pip-version-check",
         requirement])) / "bin/python"


def foreign_node(*packages):
    """The folder from which node finds them (its node_modules)."""
    if not shutil.which("npm"):
        pytest.skip(f"no {packages[0]} here: npm is not installed")
    return environment(packages[0], lambda folder: (
        ["npm", "install", "--prefix", folder, "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", *packages],))

"""Programs and packages that the tests use and that are no Debian packages of ours: each is found, or made once on a
machine and kept outside the project, or its test is skipped."""
import fcntl
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from conftest import SLOW

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "darkroom"
UNPACKED = CACHE / "tools"


def tool(name):
    """Of a package that would start a daemon: (its path, the environment that it needs). It is installed, or
    infra/setup/install.sh has unpacked it."""
    environment = {"PATH": os.environ["PATH"]}
    installed = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")
    if installed:
        return installed, environment
    unpacked = shutil.which(name, path=f"{UNPACKED}/usr/sbin:{UNPACKED}/usr/bin")
    if unpacked is None:
        pytest.skip(f"NO {name.upper()} HERE: `infra/setup/install.sh test` gets it from Debian")
    libraries = ":".join(map(str, (UNPACKED / "usr/lib").glob("*-linux-gnu")))
    return unpacked, environment | {"LD_LIBRARY_PATH": libraries}


def go_tool(package, without):
    """The path of the program of package@version: in PATH, or built once where there is a Go. `without`: what is
    missing without it."""
    path, version = package.split("@")
    name = re.sub(r"/v\d+$", "", path).rsplit("/", 1)[1]
    ours = CACHE / f"{name}-{version}"
    found = shutil.which(name) or (str(ours) if ours.exists() else None)
    if found is None and shutil.which("go"):
        CACHE.mkdir(parents=True, exist_ok=True)
        scratch = CACHE / f"{name}.{os.getpid()}"
        built = subprocess.run(["go", "install", package], env=os.environ | {"GOBIN": str(scratch)},
                               timeout=300 * SLOW, capture_output=True, check=False)
        if built.returncode == 0:
            os.replace(scratch / name, ours)
            found = str(ours)
        shutil.rmtree(scratch, ignore_errors=True)
    if found is None:
        pytest.skip(f"NO {name.upper()} HERE, and no Go to build it: {without}")
    return found


def environment(name, commands):
    """The folder that the commands fill; without a package registry within reach the test is skipped."""
    folder = CACHE / re.sub(r"[^\w.-]+", "-", name)
    CACHE.mkdir(parents=True, exist_ok=True)
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

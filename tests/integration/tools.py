"""Debian's programs whose packages would start daemons: installed ones, or those that infra/setup/install.sh unpacked."""
import os
import pathlib
import shutil

import pytest

UNPACKED = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "darkroom/tools"


def tool(name):
    """(its path, the environment that it needs); without it the test is skipped."""
    places = [os.environ["PATH"], "/usr/sbin", str(UNPACKED / "usr/sbin"), str(UNPACKED / "usr/bin")]
    found = shutil.which(name, path=":".join(places))
    if found is None:
        pytest.skip(f"NOT TESTED: no {name}; `infra/setup/install.sh test` gets it")
    libraries = ":".join(map(str, (UNPACKED / "usr/lib").glob("*-linux-gnu")))
    return found, {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": libraries} if UNPACKED in pathlib.Path(found).parents else {
        "PATH": os.environ["PATH"]}

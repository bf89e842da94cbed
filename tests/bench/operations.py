"""Our operations beside OpenCV's, in turn, on one thread, by CPU time: others may load the machine."""
import json
import subprocess
import sys

import pytest

from processes import ROOT, run

sys.path.append(str(ROOT / "tests/integration"))
from foreign import foreign_python  # noqa: E402

REQUIREMENT = "opencv-python-headless==5.0.0.93"
# what it is called in the table: (our program's arguments, OpenCV's function)
PAIRS = {"median 5": (("median", 5), "medianBlur"), "mean 3": (("mean", 3), "blur"), "rotate 90": (("rotate", 90), "rotate")}


def opencv(function, seconds):
    """None, after a line on stderr, where OpenCV cannot be installed."""
    try:
        python = foreign_python(REQUIREMENT)
    except pytest.skip.Exception as why:
        print(f"NOT COMPARED WITH OPENCV: {why}", file=sys.stderr, flush=True)
        return None
    done = subprocess.run([python, ROOT / "tests/bench/peer_opencv.py", function, str(seconds)], capture_output=True,
                          text=True, check=True, timeout=60 + 10 * seconds)
    return json.loads(done.stdout)


def measure(seconds, times):
    """{name: {"cpu_ms": [ours], "opencv_cpu_ms": [theirs]}}; theirs is empty without OpenCV."""
    result = {name: {"cpu_ms": [], "opencv_cpu_ms": []} for name in PAIRS}
    for _ in range(times):
        for name, (arguments, function) in PAIRS.items():
            result[name]["cpu_ms"].append(run("operations", *arguments, seconds)["cpu_ms"])
            theirs = opencv(function, seconds)
            if theirs is None:
                return result
            result[name]["opencv_cpu_ms"].append(theirs["cpu_ms"])
    return result

"""Our operations beside OpenCV's, in turn, on one thread, by CPU time: others may load the machine."""
import json
import subprocess
import sys

import pytest

from processes import ROOT, run

sys.path.append(str(ROOT / "tests/integration"))
from tools import foreign_python  # noqa: E402

REQUIREMENT = "opencv-python-headless==5.0.0.93"
# our operation, its value, and OpenCV's function
PAIRS = [("median", 3, "medianBlur"), ("median", 5, "medianBlur"), ("mean", 3, "blur"), ("mean", 5, "blur"),
         ("rotate", 90, "rotate"), ("rotate", 180, "rotate")]


def opencv(function, value, seconds):
    """None, after a line on stderr, where OpenCV cannot be installed."""
    try:
        python = foreign_python(REQUIREMENT)
    except pytest.skip.Exception as why:
        print(f"NOT COMPARED WITH OPENCV: {why}", file=sys.stderr, flush=True)
        return None
    done = subprocess.run([python, ROOT / "tests/bench/peer_opencv.py", function, str(value), str(seconds)],
                          capture_output=True, text=True, check=True, timeout=60 + 10 * seconds)
    return json.loads(done.stdout)


def measure(seconds, times):
    """{name: {"cpu_ms": [ours], "opencv_cpu_ms": [theirs]}}; theirs is empty without OpenCV."""
    result = {f"{name} {value}": {"cpu_ms": [], "opencv_cpu_ms": []} for name, value, _ in PAIRS}
    for _ in range(times):
        for name, value, function in PAIRS:
            pair = result[f"{name} {value}"]
            pair["cpu_ms"].append(run("operations", name, value, seconds)["cpu_ms"])
            theirs = opencv(function, value, seconds)
            if theirs is None:
                return result
            pair["opencv_cpu_ms"].append(theirs["cpu_ms"])
    return result

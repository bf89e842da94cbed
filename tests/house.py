#!/usr/bin/python3
"""Prints figures about the shape of the tree: how much there is, in how many pieces, and how it hangs together.

    /usr/bin/python3 tests/house.py [FOLDER]

FOLDER is another checkout to measure, e.g. of an older commit; default: this one. Nothing is built or changed.
"""
import collections
import re
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1]).resolve()
TRACKED = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")[:-1]
PRODUCT = [name for name in TRACKED if re.match(r"(common|\w+_service)/.*\.[ch]$", name)]
TESTS = [name for name in TRACKED if re.match(r"tests/.*\.(c|h|py|sh)$", name)]
# a definition as clang-format writes it: from column 0 to its opening brace on a line of its own
FUNCTION = re.compile(r"^((?:static )?)[a-z][^;{}=#]*?\b(\w+)\([^;{}]*\)\n\{\n(.*?)^\}", re.M | re.S)


def read(name):
    return (ROOT / name).read_text()


def lines(names):
    return sum(read(name).count("\n") for name in names)


def functions():
    """(is static, name, lines of the body, lines that name it in its file besides the definition)"""
    for name in PRODUCT:
        text = read(name)
        for static, function, body in FUNCTION.findall(text):
            yield bool(static), function, body.count("\n"), len(re.findall(rf"\b{function}\b", text)) - 1


def circles():
    """Groups of files that include each other around a circle; a .c and its .h are one file."""
    includes = collections.defaultdict(set)
    for name in PRODUCT:
        stem = str(Path(name).with_suffix("")).removeprefix("common/")
        for include in re.findall(r'^#include "([^"]+)"', read(name), re.M):
            other = str(Path(include).with_suffix(""))
            if "/" not in other:  # a service's own header
                other = f"{Path(name).parts[0]}/{other}"
            if other != stem:
                includes[stem].add(other)

    def reached(start):
        seen, left = set(), [start]
        while left:
            for other in includes[left.pop()] - seen:
                seen.add(other)
                left.append(other)
        return seen

    reach = {stem: reached(stem) for stem in list(includes)}
    found = {frozenset(o for o in reach[stem] if stem in reach.get(o, ())) for stem in reach if stem in reach[stem]}
    return sorted(sorted(circle) for circle in found)


def main():
    all_functions = list(functions())
    bodies = [length for _, _, length, _ in all_functions]
    once = [length for static, _, length, uses in all_functions if static and uses == 1]
    print(f"lines of product C       {lines(PRODUCT)}")
    print(f"lines of tests           {lines(TESTS)}")
    print(f"functions                {len(all_functions)}, median {statistics.median(bodies):.0f} lines, longest {max(bodies)}")
    print(f"static and used once     {len(once)}, of at most five lines {sum(length <= 5 for length in once)}")
    print(f"circles of includes      {len(circles())}", *(" <-> ".join(circle) for circle in circles()), sep="\n                         ")
    for page in ("README.md", "ARCHITECTURE.md"):
        print(f"{page:<24} {(ROOT / page).stat().st_size} bytes")
    print(f"tracked files            {len(TRACKED)}")


main()

#!/usr/bin/python3
"""The table in SETTINGS.md, made from the services' --help.

    settings_table.py BUILD SETTINGS.md            rewrite the table
    settings_table.py BUILD SETTINGS.md --check    exit 1 if the table is out of date
"""
import pathlib
import re
import subprocess
import sys

SERVICES = {"preprocess-service": "preprocess", "classify-service": "classify"}
MARKED = re.compile(r"(<!-- settings[^>]*-->\n).*?(<!-- /settings -->)", re.S)


def rows_of(binary):
    text = subprocess.run([binary, "--help"], check=True, capture_output=True, text=True).stdout
    return re.findall(r"^  ([A-Z][A-Z0-9_]+) +(\S+) +(.*)$", text, re.M)


def table(build):
    found = {}  # (name, default, meaning) -> services, in the order of the first
    for binary, service in SERVICES.items():
        for row in rows_of(build / binary):
            found.setdefault(row, []).append(service)
    lines = ["| variable | default | service | meaning |", "|---|---|---|---|"]
    for (name, default, meaning), services in found.items():
        who = "both" if len(services) == len(SERVICES) else services[0]
        value = "" if default == "-" else f"`{default}`"
        lines.append(f"| `{name}` | {value} | {who} | {meaning.replace('|', ', ')} |")
    return "\n".join(lines) + "\n"


def main(build, document, *options):
    path = pathlib.Path(document)
    old = path.read_text()
    new = MARKED.sub(lambda m: m[1] + table(pathlib.Path(build)) + m[2], old)
    if "--check" not in options:
        path.write_text(new)
    return int(new != old)


if __name__ == "__main__":
    code = main(*sys.argv[1:])
    sys.exit(code if "--check" in sys.argv else 0)

"""Adds up JUnit reports for tests/run.sh: count.py FILE...

The first line is "PASSED FAILED SKIPPED"; then one line for each kind of thing that was not tested."""
import re
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

# What a reason for a skip is about; the first that matches. Others stand for themselves.
KINDS = (
    (r"photograph", "no photographs (../shared/photos)"),
    (r"emulator|deployment's pub/sub", "no Pub/Sub emulator"),
    (r"google cloud sdk", "no Google Cloud SDK"),
    (r"docker", "no Docker engine"),
    (r"actionlint", "no actionlint"),
    (r"systemd|strace|MDWE", "systemd's units: no systemd-analyze, no strace or too old a kernel"),
    (r"SYS_PTRACE", "no right to look into processes of other users (CAP_SYS_PTRACE)"),
    (r"network|namespace|netns|unshare", "no network namespaces"),
    (r"mount|tmpfs", "no right to mount"),
    (r"libfaketime", "no libfaketime"),
    (r"storage|server|minio|versitygw|\bS3\b", "no storage server: MinIO, versitygw, Swift or another"),
    (r"needs root|another user", "no root"),
    (r"release build", "what only the release build is tested for"),
    (r"no /proc", "no /proc"),
    (r"sandbox|seccomp", "no sandbox"),
    (r"model", "no model (make model)"),
)


def kind(reason):
    return next((kind for pattern, kind in KINDS if re.search(pattern, reason, re.I)), reason)


def unit_reasons(report):
    """cmocka's reports have no reasons: a unit test prints its own before it skips."""
    log = report.with_suffix(".log")
    return iter(re.findall(r"^SKIPPED: (.*)$", log.read_text(errors="replace"), re.M) if log.exists() else [])


def main():
    passed = failed = 0
    not_tested = Counter()
    storage = set()
    for report in map(Path, sys.argv[1:]):
        reasons = unit_reasons(report)
        for case in ET.parse(report).getroot().iter("testcase"):
            storage.update(p.get("value") for p in case.iter("property") if p.get("name") == "storage")
            skip = case.find("skipped")
            if case.find("failure") is not None or case.find("error") is not None:
                failed += 1
            elif skip is not None:
                not_tested[kind(skip.get("message") or next(reasons, case.get("name")))] += 1
            else:
                passed += 1
    print(passed, failed, not_tested.total())
    if storage:
        print("storage tested on: a directory,", ", ".join(sorted(storage)))
    for what, count in sorted(not_tested.items()):
        print(f"not tested, {count}: {what}")


main()

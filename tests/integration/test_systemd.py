"""infra/systemd: the units are valid, closed, and what they forbid is nothing that the services need."""
import ctypes
import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from conftest import BUILD, ROOT, SLOW, Stack, wait_for
from images import encode, gradient

SYSTEMD = ROOT / "infra/systemd"
UNITS = {name: SYSTEMD / f"darkroom-{name}.service" for name in ("preprocess", "classify")}
each = pytest.mark.parametrize("name", UNITS)
PR_SET_MDWE = 65


def settings(name):
    """{setting: [values]} of the [Service] section"""
    found = {}
    section = UNITS[name].read_text().split("[Service]")[1].split("[Install]")[0]
    for line in section.splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def environment(name):
    return dict(pair.split("=", 1) for line in settings(name)["Environment"] for pair in line.split())


def analyze(*arguments):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("NO SYSTEMD-ANALYZE HERE: systemd's own opinion of the units is not known")
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60 * SLOW,
                          env=os.environ | {"SYSTEMD_COLORS": "0"})


@pytest.mark.once
@each
def test_verify(name, tmp_path):
    """Every setting is one that systemd knows, with a value that it takes."""
    unit = tmp_path / UNITS[name].name
    # the programs are not installed here
    unit.write_text(UNITS[name].read_text().replace("/usr/local/bin", str(BUILD))
                    .replace("file:///usr/local/share/doc", "https://example.org"))
    done = analyze("verify", "--recursive-errors=no", unit)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if unit.name in line]
    assert done.returncode == 0 and not ours, done.stdout + done.stderr
    unit.write_text(unit.read_text().replace("PrivateTmp=yes", "PrivateTmpp=yes"))
    assert "PrivateTmpp" in analyze("verify", "--recursive-errors=no", unit).stderr


@pytest.mark.once
@each
def test_security(name, tmp_path):
    """Exposure as systemd counts it: 0 is nothing at all, 10 anything. What is left is the network."""
    done = analyze("security", "--offline=true", "--threshold=20", UNITS[name])
    assert done.returncode == 0, done.stdout + done.stderr


def test_both_are_one_dynamic_user():
    """Which is how two units with DynamicUser share a StateDirectory; the outbox is the one's alone."""
    both = [settings(name) for name in UNITS]
    assert all(s["DynamicUser"] == ["yes"] for s in both)
    assert {s["User"][0] for s in both} == {"darkroom"}
    assert [s["StateDirectory"] for s in both] == [["darkroom darkroom-preprocess"], ["darkroom"]]
    preprocess, classify = (environment(name) for name in UNITS)
    assert preprocess["STORAGE_URL"] == classify["STORAGE_URL"] == "file:///var/lib/darkroom/objects"
    assert preprocess["OUTBOX_PATH"].startswith("/var/lib/darkroom-preprocess/")
    assert preprocess["EVENTS_URL"] == f"push+http://127.0.0.1:{classify['PORT']}/pubsub"


def without_execution():
    """What MemoryDenyWriteExecute asks of a process, by the kernel's own means (Linux 6.3)."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_MDWE, 1, 0, 0, 0) != 0:
        os._exit(99)


def test_nothing_needs_memory_that_is_written_and_run(tmp_path, services):
    probe = subprocess.run(["true"], preexec_fn=without_execution, check=False)
    if probe.returncode == 99:
        pytest.skip("this kernel has no PR_SET_MDWE: MemoryDenyWriteExecute was not tried")
    stack = Stack(tmp_path)
    services.append(stack)
    for service in (stack.classify, stack.preprocess):
        with open(service.log_path, "ab") as log:
            service.process = subprocess.Popen([BUILD / service.name], env=service.env, cwd=service.folder, stdout=log,
                                               stderr=log, preexec_fn=without_execution)
        wait_for(service.is_alive, f"{service.name} to answer")
    for query in ("", "?format=webp&width=300", "?format=avif", "?format=png&fit=contain"):
        assert stack.result(stack.preprocess.upload(encode(gradient()), query).json())["label"]


def names_of(set_name, allowed):
    """The system calls of one of systemd's sets, and of the sets in it."""
    done = analyze("syscall-filter", set_name)
    for line in done.stdout.splitlines():
        word = line.strip()
        if word.startswith("@") and word != set_name:
            names_of(word, allowed)
        elif word and not word.startswith(("@", "#")):
            allowed.add(word)
    return allowed


# Tried by libraries that do as well without: affinity and NUMA policy of threads, SQLite's files when root.
REFUSED = "sched_setaffinity,set_mempolicy,fchown"
# How a sandbox process gives up being root, which the unit's user never is (capset may be refused to it).
ROOT_ONLY = {"setgroups", "setresgid", "setresuid", "capset"}


@pytest.mark.once  # and a sanitizer makes system calls of its own
@each
def test_system_calls(name, tmp_path, services):
    """All that the services do from start to stop passes SystemCallFilter, or they do well when it is refused."""
    if shutil.which("strace") is None or subprocess.run(["strace", "-o", "/dev/null", "true"], check=False).returncode:
        pytest.skip("NO STRACE HERE, or it may not trace: SystemCallFilter was not held against the services")
    allowed = names_of("@system-service", set())
    for gone in ("@privileged", "@resources"):
        allowed -= names_of(gone, set())
    *_, added = settings(name)["SystemCallFilter"]
    allowed |= set(added.split())
    stack = Stack(tmp_path)
    traced = {"preprocess": stack.preprocess, "classify": stack.classify}[name]
    services.append(stack)
    for service in (stack.classify, stack.preprocess):
        if service is not traced:
            service.start()
    trace = tmp_path / "trace"
    with open(traced.log_path, "ab") as log:
        strace = subprocess.Popen(["strace", "-f", "-qq", "-c", "-U", "name", "-o", trace, "-I1", "-e",
                                   f"inject={REFUSED}:error=EPERM", BUILD / traced.name], env=traced.env, cwd=traced.folder,
                                  stdout=log, stderr=log)
    traced.process = strace
    wait_for(traced.is_alive, f"{traced.name} under strace")
    for query in ("", "?format=avif"):
        assert stack.result(stack.preprocess.upload(encode(gradient()), query).json())["label"]
    child = int(pathlib.Path(f"/proc/{strace.pid}/task/{strace.pid}/children").read_text().split()[0])
    os.kill(child, 15)
    assert strace.wait(20 * SLOW) == 0
    traced.process = None
    used = set(re.findall(r"^([a-z_0-9]+)\s*$", trace.read_text(), re.M)) - {"syscall", "total"}
    assert len(used) > 30
    assert used - allowed - set(REFUSED.split(",")) - ROOT_ONLY == set()


@pytest.mark.once
def test_install(tmp_path):
    """What --dry-run prints, and what a DESTDIR gets."""
    if not (ROOT / "build/preprocess-service").exists():
        pytest.skip("no release build at hand to install")
    told = subprocess.run([SYSTEMD / "install.sh", "--dry-run"], capture_output=True, text=True, check=True).stdout
    assert "systemctl enable --now darkroom-classify.service darkroom-preprocess.service" in told
    done = subprocess.run([SYSTEMD / "install.sh"], env=os.environ | {"DESTDIR": str(tmp_path)}, capture_output=True,
                          text=True, check=True).stdout
    assert "systemctl" not in done
    for name in UNITS:
        unit = (tmp_path / f"etc/systemd/system/darkroom-{name}.service").read_text()
        program = re.search(r"^ExecStart=(\S+)$", unit, re.M)[1]
        installed = tmp_path / program[1:]
        assert os.access(installed, os.X_OK)
        assert subprocess.run([installed, "--version"], capture_output=True, check=True).stdout
        for value in environment(name).values():
            assert "/usr/local" not in value or (tmp_path / value[1:]).is_file(), value
    manifest = tmp_path / environment("classify")["MODEL"][1:]
    told = json.loads(manifest.read_text())
    assert {p.name for p in manifest.parent.iterdir()} >= {told["file"], told["labels"]["file"]}
    subprocess.run([SYSTEMD / "install.sh", "--uninstall"], env=os.environ | {"DESTDIR": str(tmp_path)}, check=True,
                   stdout=subprocess.DEVNULL)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]

"""What the compiler and linker were told to do against exploits is in the programs that were built. Each check is tried
on programs made without, too."""
import os
import platform
import re
import subprocess

import pytest

from conftest import BUILD

SERVICES = ("preprocess-service", "classify-service")
pytestmark = pytest.mark.skipif(BUILD.name != "release", reason="hardening is the release build's")


def run(*command):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True, timeout=60).stdout


def headers(path):
    """The program headers as (type, flags)."""
    return re.findall(r"^  (\w+) +(?:0x\w+ +){5}([RWE ]{3})", run("readelf", "-lW", path), re.M)


def dynamic(path):
    return run("readelf", "-dW", path)


def imports(path):
    return set(re.findall(r" UND (\w+)", run("readelf", "-W", "--dyn-syms", path)))


def code(path):
    return run("objdump", "-d", "--no-show-raw-insn", path)


def is_position_independent(path):
    return "Type:                              DYN" in run("readelf", "-hW", path) and "PIE" in dynamic(path)


def is_read_only_after_start(path):
    return any(kind == "GNU_RELRO" for kind, _ in headers(path)) and "BIND_NOW" in dynamic(path)


def has_data_stack(path):
    return ("GNU_STACK", "RW ") in headers(path)


def keeps_code_and_data_apart(path):
    return not any("W" in flags and "E" in flags for _, flags in headers(path))


def has_stack_protector(path):
    return "__stack_chk_fail" in imports(path)


def has_fortified_calls(path):
    return bool(imports(path) & {"__snprintf_chk", "__vsnprintf_chk", "__fprintf_chk", "__printf_chk", "__memcpy_chk"})


def probes_the_stack(path):
    """-fstack-clash-protection: a page of a large frame is touched before the next is taken. x86: orq $0, (%rsp)."""
    if platform.machine() == "x86_64":
        return re.search(r"\b(or|orq) +\$0x0,(0x\w+)?\(%rsp\)", code(path)) is not None
    return re.search(r"str\s+xzr, \[sp, #?1024\]", code(path)) is not None


def marks_jump_targets(path):
    mark = r"\bendbr64\b" if platform.machine() == "x86_64" else r"\b(bti|paciasp)\b"
    main = re.search(r"^\w+ <main>:\n(.*\n)", code(path), re.M)
    return main is not None and re.search(mark, main.group(1)) is not None


def needs_no_path(path):
    return not re.search(r"\((RPATH|RUNPATH)\)", dynamic(path))


def has_no_text_relocations(path):
    return "TEXTREL" not in dynamic(path)


# check, and the flags that undo it
CHECKS = {
    is_position_independent: "-fno-pie -no-pie",
    is_read_only_after_start: "-Wl,-z,norelro,-z,lazy",
    has_data_stack: "-Wl,-z,execstack",
    keeps_code_and_data_apart: "-DBOTH",
    has_stack_protector: "-fno-stack-protector",
    has_fortified_calls: "-U_FORTIFY_SOURCE",
    probes_the_stack: "-fno-stack-clash-protection",
    marks_jump_targets: "-fcf-protection=none" if platform.machine() == "x86_64" else "-mbranch-protection=none",
    needs_no_path: "-Wl,-rpath,/somewhere",
    has_no_text_relocations: "-fno-pie -mcmodel=large -pie -Wl,-z,notext",
}

PROGRAM = r"""
#include <stdio.h>
#include <string.h>
#ifdef BOTH
__asm__(".pushsection .both, \"awx\", %progbits\n.byte 0\n.popsection\n");
#endif
static int number = 1;
int *where = &number;
int main(int argc, char **argv)
{
    char small[16], large[100000];
    memset(large, argc, sizeof(large));
    snprintf(small, sizeof(small), argv[0], large[argc]);
    puts(small);
    return large[argc + 1] + *where;
}
"""


def make(folder, flags):
    source, program = folder / "program.c", folder / "program"
    source.write_text(PROGRAM)
    variables = run("make", "-s", "-C", BUILD.parent.parent, "VARIANT=release", "show-hardening").splitlines()
    compiler = os.environ.get("CC", "gcc")
    run(compiler, *" ".join(variables).split(), "-w", "-o", program, source, *flags.split())
    return program


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("service", SERVICES)
def test_services(service, check):
    assert check(BUILD / service)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_check_sees_the_difference(check, tmp_path):
    assert check(make(tmp_path, ""))
    assert not check(make(tmp_path, CHECKS[check]))

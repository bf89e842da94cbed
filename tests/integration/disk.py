"""A disk that fails on demand, for one service: tests/servers/disk_faults.c, built when first needed."""
import errno
import functools
import mmap
import pathlib
import struct
import subprocess
import tempfile

from conftest import ROOT

WRITE, SYNC, READ, NAME = 1, 2, 4, 8  # NAME: link, rename, unlink, truncate
CHANGE = WRITE | SYNC | NAME
DIE = -1  # instead of an errno: kill -9, before the call does anything
_FORMAT = "6i4072s"
_SKIP_TO_FAILED = 4 * 4


@functools.lru_cache
def library():
    path = pathlib.Path(tempfile.mkdtemp(prefix="darkroom-disk-"), "disk_faults.so")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-o", path,
                    ROOT / "tests/servers/disk_faults.c", "-ldl"], check=True)
    return path


class Disk:
    """env: what the service's environment needs. Nothing fails until fail() is called."""

    def __init__(self, folder):
        path = pathlib.Path(folder, "disk-faults")
        path.write_bytes(bytes(struct.calcsize(_FORMAT)))
        with open(path, "r+b") as f:
            self.control = mmap.mmap(f.fileno(), 0)
        self.env = {"LD_PRELOAD": library(), "DISK_FAULTS": path}

    def fail(self, ops, error, pattern, skip=0, count=10**9, torn=False):
        """From the call after `skip` more of these on paths like `pattern`, `count` fail. `torn`: half of a
        failing write is on the disk."""
        self.mend()
        text = str(pattern).encode()
        struct.pack_into(_FORMAT, self.control, 0, 0, error, skip, count, 0, torn, text)
        struct.pack_into("i", self.control, 0, ops)  # last: now it counts

    def mend(self):
        struct.pack_into("i", self.control, 0, 0)

    @property
    def failed(self):
        """How many calls failed since fail()."""
        return struct.unpack_from("i", self.control, _SKIP_TO_FAILED)[0]


EIO, ENOSPC, EROFS = errno.EIO, errno.ENOSPC, errno.EROFS

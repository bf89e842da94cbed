"""What the converters share about files: how one is written, and the error for one that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path


class ModelError(Exception):
    """The model cannot be converted; the message is for the user."""


def write_atomically(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)

#!/usr/bin/python3
"""Makes a model's folder: the ONNX file, its labels and its manifest, all checked by SHA-256.

    make_model.py --out build/models [--precision int8|fp32 | --manifest FILE]

The manifest says where the source comes from, how it is converted and what the result must be.
A source is looked for by its name, first in $MODEL_SOURCE_DIR, then in ../shared/models next to
the repository, then among earlier downloads; else it is downloaded from the manifest's URL.
Nothing is done when the folder already holds the right files.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import shlex
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
MANIFESTS = {"int8": HERE / "mobilenet_v2.json", "fp32": HERE / "mobilenet_v2_fp32.json"}
CONVERTER = "tflite_to_onnx.py"

DOWNLOAD_TIMEOUT_S = 60
MAX_SOURCE_BYTES = 256 * 1024 * 1024


class MakeError(Exception):
    """The model cannot be made; the message is for the user."""


def sha256_of(path: Path) -> str | None:
    """The file's SHA-256 in hex; None if there is no such file."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def check_sha256(path: Path, expected: str, what: str) -> None:
    actual = sha256_of(path)
    if actual != expected:
        raise MakeError(f"{what} {path}: SHA-256 is {actual}, the manifest wants {expected}")


def write_atomically(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


# --- sources ------------------------------------------------------------------------------------


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "darkroom"


def local_folders() -> list[Path]:
    folders = [REPOSITORY.parent / "shared" / "models"]
    if os.environ.get("MODEL_SOURCE_DIR"):
        folders.insert(0, Path(os.environ["MODEL_SOURCE_DIR"]))
    return folders


def download(url: str) -> bytes:
    print(f"make_model.py: downloading {url}", file=sys.stderr)
    try:
        with urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT_S) as response:
            content = response.read(MAX_SOURCE_BYTES + 1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise MakeError(
            f"cannot download {url}: {error}\n"
            "Put the file into a folder yourself and name the folder in MODEL_SOURCE_DIR."
        ) from error
    if len(content) > MAX_SOURCE_BYTES:
        raise MakeError(f"{url} is larger than {MAX_SOURCE_BYTES} bytes")
    return content


def find_source(url: str, sha256: str) -> Path:
    """A local file with the content of `url`, verified."""
    name = Path(urllib.parse.urlparse(url).path).name
    for folder in local_folders():
        if (folder / name).is_file():
            check_sha256(folder / name, sha256, "source")
            return folder / name
    cached = cache_folder() / name
    if sha256_of(cached) != sha256:
        content = download(url)
        actual = hashlib.sha256(content).hexdigest()
        if actual != sha256:
            raise MakeError(f"source {url}: SHA-256 is {actual}, the manifest wants {sha256}")
        write_atomically(cached, content)
    return cached


# --- the folder ---------------------------------------------------------------------------------


def read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text())
        wanted = [manifest["file"], manifest["sha256"], manifest["conversion"]]
        wanted += [manifest["source"]["url"], manifest["source"]["sha256"]]
        wanted += [manifest["labels"][key] for key in ("file", "sha256", "url")]
    except (OSError, ValueError) as error:
        raise MakeError(f"manifest {path}: {error}") from error
    except (KeyError, TypeError) as error:
        raise MakeError(f"manifest {path}: missing or wrong: {error}") from error
    for name in (manifest["file"], manifest["labels"]["file"]):
        if Path(name).name != name:
            raise MakeError(f"manifest {path}: {name!r} should be a plain file name")
    return manifest


def is_made(out: Path, manifest_path: Path, manifest: dict[str, Any]) -> bool:
    labels = manifest["labels"]
    copy = out / manifest_path.name
    return (
        copy.is_file()
        and copy.read_bytes() == manifest_path.read_bytes()
        and sha256_of(out / manifest["file"]) == manifest["sha256"]
        and sha256_of(out / labels["file"]) == labels["sha256"]
    )


def run_conversion(conversion: str, source: Path, target: Path, sha256: str) -> None:
    """Runs the manifest's `conversion`, e.g. "tflite_to_onnx.py --precision int8"."""
    script, *arguments = shlex.split(conversion)
    if script != CONVERTER:
        raise MakeError(f"unknown conversion {script!r}: only {CONVERTER} is known")
    converted = target.with_name(f".{target.name}.{os.getpid()}.converted")
    command = [sys.executable, "-B", str(HERE / script), *arguments, str(source), str(converted)]
    try:
        if subprocess.run(command, check=False).returncode != 0:
            raise MakeError(f"the conversion failed: {conversion}")
        check_sha256(converted, sha256, "converted model")
        converted.replace(target)
    finally:
        converted.unlink(missing_ok=True)


def make(out: Path, manifest_path: Path) -> None:
    manifest = read_manifest(manifest_path)
    if is_made(out, manifest_path, manifest):
        return
    labels = manifest["labels"]
    labels_source = find_source(labels["url"], labels["sha256"])
    source = find_source(manifest["source"]["url"], manifest["source"]["sha256"])

    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / labels["file"], labels_source.read_bytes())
    run_conversion(manifest["conversion"], source, out / manifest["file"], manifest["sha256"])
    write_atomically(out / manifest_path.name, manifest_path.read_bytes())
    print(f"make_model.py: made {out / manifest_path.name}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description="Make a model's ONNX file, labels and manifest.")
    parser.add_argument("--out", type=Path, required=True, help="the folder to make")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--precision", choices=list(MANIFESTS), default="int8")
    which.add_argument("--manifest", type=Path, help="another model's manifest")
    arguments = parser.parse_args()
    try:
        make(arguments.out, arguments.manifest or MANIFESTS[arguments.precision])
    except (MakeError, OSError) as error:
        print(f"make_model.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

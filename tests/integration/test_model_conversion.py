"""The model's conversion: reproducible, faithful, and clear about what it refuses.

What the converted model answers is tested through the classify service.
"""

import functools
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import threading
from collections import Counter
from pathlib import Path

import flatbuffers
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

PYTHON = "/usr/bin/python3"
REPOSITORY = Path(__file__).resolve().parents[2]
MODELS = REPOSITORY / "classify_service" / "models"
MANIFESTS = {"int8": MODELS / "mobilenet_v2.json", "fp32": MODELS / "mobilenet_v2_fp32.json"}


def run(script, *arguments, **environment):
    """Runs one of the scripts in MODELS; never raises for its exit code."""
    return subprocess.run(
        [PYTHON, "-B", str(MODELS / script), *map(str, arguments)],
        env={**os.environ, **{name: str(value) for name, value in environment.items()}},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def assert_refused(result, *words):
    """Exit code 1 and a message with `words`, not a traceback."""
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module", name="made")
def fixture_made(tmp_path_factory):
    """A folder with both models, made as `make model` makes it."""
    out = tmp_path_factory.mktemp("models")
    for precision in MANIFESTS:
        result = run("make_model.py", "--out", out, "--precision", precision)
        assert result.returncode == 0, result.stderr
    return out


@pytest.fixture(scope="module", name="sources")
def fixture_sources(made, tmp_path_factory):
    """A folder of our own with the source files, which `made` has found or downloaded."""
    manifest = json.loads((made / MANIFESTS["int8"].name).read_text())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "darkroom"
    folders = [os.environ.get("MODEL_SOURCE_DIR"), REPOSITORY.parent / "shared" / "models", cache]
    copy = tmp_path_factory.mktemp("sources")
    for url in (manifest["source"]["url"], manifest["labels"]["url"]):
        name = url.rsplit("/", 1)[1]
        found = [Path(f) / name for f in folders if f and (Path(f) / name).is_file()]
        shutil.copyfile(found[0], copy / name)
    return copy


@pytest.fixture(name="tflite")
def fixture_tflite(sources):
    return next(sources.glob("*.tflite"))


# --- what the conversion makes ------------------------------------------------------------------


@pytest.mark.parametrize("precision", MANIFESTS)
def test_same_bytes_each_time_and_as_the_manifest_says(precision, tflite, tmp_path):
    digests = []
    for seed in (1, 2):
        target = tmp_path / f"{seed}.onnx"
        result = run(
            "tflite_to_onnx.py", "--precision", precision, tflite, target, PYTHONHASHSEED=seed
        )
        assert result.returncode == 0, result.stderr
        digests.append(sha256(target))
    assert digests == [json.loads(MANIFESTS[precision].read_text())["sha256"]] * 2


@pytest.mark.parametrize("precision", MANIFESTS)
def test_structure(precision, made):
    manifest = json.loads(MANIFESTS[precision].read_text())
    model = onnx.load(made / manifest["file"])
    onnx.checker.check_model(model, full_check=True)

    def shape_of(value):
        return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]

    (source,), (result,) = model.graph.input, model.graph.output
    size = manifest["input"]
    assert (source.name, result.name) == (size["tensor"], manifest["output"]["tensor"])
    assert shape_of(source) == ["N", 3, size["height"], size["width"]]
    labels = (made / manifest["labels"]["file"]).read_text().splitlines()
    assert shape_of(result) == ["N", len(labels)]
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)


def test_int8_leaves_nothing_to_fuse(made):
    """Fusing is most of the time that ONNX Runtime would need to load the model."""
    graph = onnx.load(made / "mobilenet_v2.onnx").graph
    kinds = Counter(node.op_type for node in graph.node)
    assert kinds["QLinearConv"] == 53 and kinds["QLinearAdd"] == 10
    # into integers and out of them, with the channels last in between
    assert kinds["QuantizeLinear"] == kinds["DequantizeLinear"] == 1 and kinds["Transpose"] == 2
    used = {name for node in graph.node for name in node.input}
    assert {constant.name for constant in graph.initializer} <= used


def convolution_parameters(path):
    """For each convolution its weights and bias as float64, and the steps they are stored in."""
    graph = onnx.load(path).graph
    constants = {c.name: numpy_helper.to_array(c).astype(np.float64) for c in graph.initializer}
    layers = []
    for node in graph.node:
        if node.op_type == "Conv":
            layers.append([(constants[name], None) for name in node.input[1:3]])
        elif node.op_type == "QLinearConv":
            # x, its scale and zero point; weights, theirs; the output's; bias
            _, x_scale, _, weights, scale, zero, _, _, bias = map(constants.get, node.input)
            assert not zero.any() and (scale > 0).all() and x_scale > 0
            step = scale.reshape(-1, 1, 1, 1)
            layers.append([(weights * step, step), (bias * x_scale * scale, x_scale * scale)])
    return layers


def test_int8_keeps_weights_and_biases_within_half_a_step(made):
    """Above all in channels without weights, where a careless scale makes the bias overflow."""
    exact = convolution_parameters(made / "mobilenet_v2_fp32.onnx")
    rounded = convolution_parameters(made / "mobilenet_v2.onnx")
    assert len(exact) == len(rounded) == 53
    empty_channels = 0
    for exact_layer, rounded_layer in zip(exact, rounded):
        weights = exact_layer[0][0]
        empty_channels += int((np.abs(weights).reshape(len(weights), -1).max(axis=1) == 0).sum())
        for (want, _), (got, step) in zip(exact_layer, rounded_layer):
            # fp32's own rounding of what it stores comes on top
            assert (np.abs(got - want) <= 0.5001 * step + 1e-6 * np.abs(want)).all()
    assert empty_channels > 0


# --- make_model.py ------------------------------------------------------------------------------


def test_made_folder_is_complete_and_left_alone(made, tmp_path):
    out = shutil.copytree(made, tmp_path / "out")
    for manifest_file in MANIFESTS.values():
        assert (out / manifest_file.name).read_bytes() == manifest_file.read_bytes()
        manifest = json.loads(manifest_file.read_text())
        assert sha256(out / manifest["file"]) == manifest["sha256"]
        assert sha256(out / manifest["labels"]["file"]) == manifest["labels"]["sha256"]
    assert len(list(out.iterdir())) == 5

    before = {path: path.stat().st_ino for path in out.iterdir()}
    assert run("make_model.py", "--out", out).returncode == 0
    assert {path: path.stat().st_ino for path in out.iterdir()} == before


@pytest.mark.parametrize("name", ["mobilenet_v2.onnx", "mobilenet_v2.json", "imagenet_labels.txt"])
def test_damaged_file_is_made_again(name, made, tmp_path):
    out = shutil.copytree(made, tmp_path / "out")
    (out / name).write_bytes(b"damaged")
    result = run("make_model.py", "--out", out)
    assert result.returncode == 0, result.stderr
    assert (out / name).read_bytes() == (made / name).read_bytes()


@pytest.mark.parametrize("pattern", ["*.tflite", "*.txt"])
def test_altered_source_is_refused(pattern, sources, tmp_path):
    folder = shutil.copytree(sources, tmp_path / "sources")
    altered = next(folder.glob(pattern))
    altered.write_bytes(altered.read_bytes()[:-1] + b"?")
    out = tmp_path / "out"
    result = run("make_model.py", "--out", out, MODEL_SOURCE_DIR=folder)
    assert_refused(result, str(altered), "SHA-256", sha256(altered))
    assert not out.exists()


def test_unexpected_result_is_refused(made, sources, tmp_path):
    """Say, after a change to the converter: the model before it stays."""
    out = shutil.copytree(made, tmp_path / "out")
    manifest = json.loads(MANIFESTS["int8"].read_text())
    expected = manifest["sha256"]
    manifest["sha256"] = "0" * 64
    manifest_file = tmp_path / "mobilenet_v2.json"
    manifest_file.write_text(json.dumps(manifest))
    result = run(
        "make_model.py", "--out", out, "--manifest", manifest_file, MODEL_SOURCE_DIR=sources
    )
    assert_refused(result, "SHA-256", expected, "0" * 64)
    assert {p.name: sha256(p) for p in out.iterdir()} == {p.name: sha256(p) for p in made.iterdir()}


def test_incomplete_manifest_is_refused(tmp_path):
    manifest = json.loads(MANIFESTS["int8"].read_text())
    del manifest["labels"]["url"]
    manifest_file = tmp_path / "broken.json"
    manifest_file.write_text(json.dumps(manifest))
    result = run("make_model.py", "--out", tmp_path / "out", "--manifest", manifest_file)
    assert_refused(result, str(manifest_file), "url")


# --- downloads ----------------------------------------------------------------------------------


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    requests = 0

    def log_request(self, code="-", size="-"):
        type(self).requests += 1

    def log_message(self, format, *args):
        pass


@pytest.fixture(name="web")
def fixture_web(sources, tmp_path):
    """(manifest for a web server with the sources, folder it serves, its handler's class)."""
    # Names that no local folder has, so that they have to be downloaded.
    folder = tmp_path / "web"
    folder.mkdir()
    shutil.copyfile(next(sources.glob("*.tflite")), folder / "downloaded.tflite")
    shutil.copyfile(next(sources.glob("*.txt")), folder / "downloaded.txt")

    class Handler(QuietHandler):
        pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        manifest = json.loads(MANIFESTS["int8"].read_text())
        manifest["source"]["url"] = f"{base}/downloaded.tflite"
        manifest["labels"]["url"] = f"{base}/downloaded.txt"
        manifest_file = tmp_path / "mobilenet_v2.json"
        manifest_file.write_text(json.dumps(manifest))
        yield manifest_file, folder, Handler
        server.shutdown()


def make_from_web(manifest_file, tmp_path, out):
    return run(
        "make_model.py", "--out", out, "--manifest", manifest_file,
        XDG_CACHE_HOME=tmp_path / "cache", no_proxy="127.0.0.1",
    )  # fmt: skip


def test_source_is_downloaded_once(web, made, tmp_path):
    manifest_file, _, handler = web
    for out in (tmp_path / "first", tmp_path / "second"):
        result = make_from_web(manifest_file, tmp_path, out)
        assert result.returncode == 0, result.stderr
        assert sha256(out / "mobilenet_v2.onnx") == sha256(made / "mobilenet_v2.onnx")
    assert handler.requests == 2  # the model and the labels


def test_altered_download_is_refused_and_not_kept(web, tmp_path):
    manifest_file, folder, _ = web
    (folder / "downloaded.tflite").write_bytes(b"something else")
    result = make_from_web(manifest_file, tmp_path, tmp_path / "out")
    assert_refused(result, "downloaded.tflite", "SHA-256")
    assert not list((tmp_path / "cache").rglob("*.tflite"))


def test_failing_download_says_what_to_do(web, tmp_path):
    manifest_file, folder, _ = web
    (folder / "downloaded.tflite").unlink()
    result = make_from_web(manifest_file, tmp_path, tmp_path / "out")
    assert_refused(result, "downloaded.tflite", "404", "MODEL_SOURCE_DIR")


# --- what the converter refuses -----------------------------------------------------------------


def tiny_model(operator_code):
    """A TFLite model of one operator without options, [1,2,2,3] float32 in and out."""
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

    code = table(4, _0=("Int8", min(operator_code, 127)), _3=("Int32", operator_code))
    operator = table(5, _1=numbers(0), _2=numbers(1))
    tensors, inputs, outputs = offsets(tensor(), tensor()), numbers(0), numbers(1)
    graph = table(4, _0=tensors, _1=inputs, _2=outputs, _3=offsets(operator))
    codes, graphs, buffers = offsets(code), offsets(graph), offsets(table(1))
    builder.Finish(table(5, _1=codes, _2=graphs, _4=buffers), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize("code", [41, 150])
def test_unknown_operator_is_named(code, tmp_path):
    source, target = tmp_path / "model.tflite", tmp_path / "model.onnx"
    source.write_bytes(tiny_model(code))
    result = run("tflite_to_onnx.py", "--precision", "fp32", source, target)
    assert_refused(result, f"operator {code}", "[1, 2, 2, 3]", "not supported")
    assert not target.exists()


def test_int8_of_a_float_model_is_refused(tmp_path):
    source = tmp_path / "model.tflite"
    source.write_bytes(tiny_model(0))
    result = run("tflite_to_onnx.py", source, tmp_path / "model.onnx")
    assert_refused(result, "not quantised", "--precision fp32")


def test_files_that_are_no_model_are_refused(tflite, tmp_path):
    broken = tmp_path / "broken.tflite"
    whole = tflite.read_bytes()
    for content in (b"", b"not a model at all", whole[:8], whole[:100_000], whole[:-100_000]):
        broken.write_bytes(content)
        result = run("tflite_to_onnx.py", broken, tmp_path / "broken.onnx")
        assert_refused(result, str(broken))
    assert_refused(run("tflite_to_onnx.py", tmp_path / "absent", tmp_path / "x"), "absent")

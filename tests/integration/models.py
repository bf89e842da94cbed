"""Models that the tests draw: quick, and right."""
import hashlib
import json

import numpy as np
import onnx
from onnx import helper, numpy_helper


def _write(folder, graph, manifest):
    """The model and its manifest, whose path is returned; both have the graph's name."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    data = model.SerializeToString()
    (folder / f"{graph.name}.onnx").write_bytes(data)
    path = folder / f"{graph.name}.json"
    path.write_text(json.dumps({"name": graph.name, "file": f"{graph.name}.onnx",
                                "sha256": hashlib.sha256(data).hexdigest()} | manifest))
    return path


def tiny_model(folder, output="out", shape=(1, 3), to=onnx.TensorProto.FLOAT, times=1):
    """Three classes, red, green and blue, so many times: the mean of each channel of a 4 x 4 picture, reshaped and cast."""
    nodes = [helper.make_node("GlobalAveragePool", ["in"], ["pooled"]),
             helper.make_node("Reshape", ["pooled", "shape"], ["shaped"]),
             helper.make_node("Concat", ["shaped"] * times, ["repeated"], axis=-1),
             helper.make_node("Cast", ["repeated"], [output], to=to)]
    graph = helper.make_graph(
        nodes, "tiny", [helper.make_tensor_value_info("in", onnx.TensorProto.FLOAT, ["N", 3, 4, 4])],
        [helper.make_tensor_value_info(output, to, None)],
        [numpy_helper.from_array(np.array(shape, np.int64), "shape")])
    (folder / "tiny.txt").write_text("red, rouge\ngreen, vert\nblue, bleu\n" * times)
    return _write(folder, graph, {
        "input": {"tensor": "in", "layout": "NCHW", "height": 4, "width": 4, "mean": [0, 0, 0],
                  "std": [255, 255, 255], "resize": {"short_side": 4, "crop": "center"}},
        "output": {"tensor": output, "activation": "none", "drop_first": 0}, "labels": {"file": "tiny.txt"},
    })


def mask_model(folder, shape=(1, 1, 4, 4)):
    """What is red is foreground: the first channel of a 4 x 4 picture, reshaped."""
    nodes = [helper.make_node("Gather", ["in", "first"], ["red"], axis=1),
             helper.make_node("Reshape", ["red", "shape"], ["out"])]
    graph = helper.make_graph(
        nodes, "mask", [helper.make_tensor_value_info("in", onnx.TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array([0], np.int64), "first"),
         numpy_helper.from_array(np.array(shape, np.int64), "shape")])
    return _write(folder, graph, {
        "input": {"tensor": "in", "layout": "NCHW", "height": 4, "width": 4, "mean": [0, 0, 0],
                  "std": [255, 255, 255], "resize": {"stretch": True}},
        "output": {"tensor": "out", "activation": "none"},
    })

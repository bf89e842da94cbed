#!/usr/bin/python3
"""Converts U^2-Net small (u2netp) as its ONNX file of 2021 has it to a plain graph, in int8 or float.

    u2netp_to_onnx.py [--precision int8|fp32] IN.onnx OUT.onnx

The file's six side outputs go, and so does its arithmetic with shapes: all sizes are known for a
picture of 320 x 320. What the activations span, and so how they are rounded, is in
u2netp_ranges.json, which was measured once, on 50 photographs, in float.

The input is `input`, float32 [1,3,320,320], (rgb - mean) / std as the manifest has them; the output
`output`, float32 [1,1,320,320], 0 (background) to 1.
The same source gives the same bytes, whichever versions of numpy and onnx write them.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import helper, numpy_helper

# what all converters share is with the classifiers
sys.path.append(str(Path(__file__).resolve().parents[2] / "classify_service/models"))
from files import ModelError, write_atomically  # noqa: E402
from graph import Graph  # noqa: E402
from quantization import channel_scales  # noqa: E402

RANGES = Path(__file__).resolve().with_name("u2netp_ranges.json")
SIZE = 320
KINDS = ("Conv", "Relu", "MaxPool", "Resize", "Concat", "Add", "Sigmoid")
SIDE_MAPS = 6
# Two channels are almost constant (226.0 to 228.1, and 52.1 to 54.0). The next layer takes the constant off
# again, which no rounding to 8 bits survives. So it moves into that layer's bias, and what is left of the
# channel is enlarged: convolution, channel, constant, factor.
ALMOST_CONSTANT = [("2254", 14, 226.0, 12.0), ("2293", 12, 52.0, 1.0)]
# The scale of a channel whose weights are all zero: its bias alone matters.
EMPTY_CHANNEL_SCALE = 1.0


@dataclass
class Layer:
    """A node of the network; its shape is the output's."""

    kind: str
    inputs: list[str]
    output: str
    shape: tuple[int, ...]
    attributes: dict[str, Any]
    weights: np.ndarray | None = None
    bias: np.ndarray | None = None


# --- reading ------------------------------------------------------------------------------------


class Reader:
    """The layers that lead from the file's input to its first output, which joins the others."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._parameters = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        self._producers = {output: node for node in graph.node for output in node.output}
        self.first, self.last = graph.input[0].name, graph.output[0].name
        self._shapes = {self.first: (1, 3, SIZE, SIZE)}
        self.layers = self._needed([layer for layer in map(self._layer, graph.node) if layer])

    def _layer(self, node: onnx.NodeProto) -> Layer | None:
        inputs = [name for name in node.input if name in self._shapes]
        if node.op_type not in KINDS or not inputs:
            return None  # arithmetic with shapes
        shape = self._shapes[inputs[0]]
        weights = bias = None
        if node.op_type == "Conv":
            weights, bias = (self._parameters[name] for name in node.input[1:3])
            shape = (1, len(weights), *shape[2:])  # all keep the size
        elif node.op_type == "MaxPool":
            shape = (*shape[:2], *(-(-side // 2) for side in shape[2:]))
        elif node.op_type == "Resize":
            shape = (*shape[:2], *self._resized(node))
        elif node.op_type == "Concat":
            shape = (1, sum(self._shapes[name][1] for name in inputs), *shape[2:])
        self._shapes[node.output[0]] = shape
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        return Layer(node.op_type, inputs, node.output[0], shape, attributes, weights, bias)

    def _resized(self, node: onnx.NodeProto) -> tuple[int, ...]:
        """The height and width that a Resize asks for: those of some layer, by way of its Shape."""
        name = self._producers[node.input[3]].input[1]
        while self._producers[name].op_type != "Shape":
            name = self._producers[name].input[0]
        return self._shapes[self._producers[name].input[0]][2:]

    def _needed(self, layers: list[Layer]) -> list[Layer]:
        needed, kept = {self.last}, []
        for layer in reversed(layers):
            if layer.output in needed:
                needed.update(layer.inputs)
                kept.append(layer)
        return kept[::-1]


def move_constants(layers: list[Layer]) -> None:
    """The same network but for the outermost pixels, where padding with 0 now stands for the constant."""
    by_output = {layer.output: layer for layer in layers}
    for convolution, channel, constant, factor in ALMOST_CONSTANT:
        producer = by_output[convolution]
        producer.weights, producer.bias = producer.weights.copy(), producer.bias.copy()
        producer.weights[channel] *= factor
        producer.bias[channel] = (producer.bias[channel] - constant) * factor
        places = {convolution: channel}  # where the channel is in each tensor that it reaches
        for layer in layers:
            for name in [name for name in layer.inputs if name in places]:
                if layer.kind == "Conv":
                    place = places[name]
                    layer.weights = layer.weights.copy()
                    layer.bias = layer.bias + layer.weights[:, place].sum(axis=(1, 2)) * np.float32(constant)
                    layer.weights[:, place] /= factor
                elif layer.kind == "Concat":
                    before = layer.inputs[: layer.inputs.index(name)]
                    places[layer.output] = places[name] + sum(by_output[n].shape[1] for n in before)
                elif layer.kind in ("Relu", "MaxPool", "Resize"):
                    places[layer.output] = places[name]
                else:
                    raise ModelError(f"the almost constant channel of {convolution} meets {layer.kind}")


# --- writing ------------------------------------------------------------------------------------


def joins_side_maps(layer: Layer) -> bool:
    """The last layers, which stay in float: they decide by small differences, and cost little."""
    if layer.kind == "Conv":
        return layer.weights.shape[1] == SIDE_MAPS
    if layer.kind == "Concat":
        return layer.shape[1] == SIDE_MAPS
    return layer.shape[1] == 1 and layer.kind in ("Resize", "Sigmoid")


class Converter:
    """Writes the network layer by layer; used once. `ranges`: None for float."""

    def __init__(self, reader: Reader, ranges: dict[str, list[float]] | None) -> None:
        self._reader = reader
        self._ranges = ranges
        self._graph = Graph()
        self._names: dict[str, str] = {}  # in the new graph
        self._steps: dict[str, tuple[float, int]] = {}  # scale and zero point of what is rounded

    def convert(self) -> bytes:
        first = self._reader.first
        self._names[first] = self._rounded("input", "input") if self._ranges else "input"
        before_relu = {layer.inputs[0] for layer in self._reader.layers if layer.kind == "Relu"}
        for layer in self._reader.layers:
            rounds = self._ranges is not None and not joins_side_maps(layer)
            name = self._write(layer, rounds)
            # a range from 0 is the ReLU: rounded once, after it
            if rounds and layer.output not in before_relu:
                keeps = layer.kind in ("MaxPool", "Resize")
                name = self._rounded(name, layer.output, self._names[layer.inputs[0]] if keeps else None)
            self._names[layer.output] = name
        model = self._graph.model([1, 3, SIZE, SIZE], [1, 1, SIZE, SIZE], fuse=False)
        return model.SerializeToString(deterministic=True)

    def _write(self, layer: Layer, rounds: bool) -> str:
        inputs = [self._names[name] for name in layer.inputs]
        output = "output" if layer.output == self._reader.last else layer.output
        attributes = layer.attributes
        if layer.kind == "Relu" and rounds:
            return inputs[0]
        if layer.kind == "Conv":
            inputs += self._parameters(layer, inputs[0], rounds)
        elif layer.kind == "Resize":
            sizes = self._graph.constant(f"{layer.output}_size", np.array(layer.shape, np.int64))
            inputs += ["", "", sizes]
            attributes = {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}
        return self._graph.node(layer.kind, inputs, output, **attributes)

    def _parameters(self, layer: Layer, source: str, rounds: bool) -> list[str]:
        names = (f"{layer.output}_weights", f"{layer.output}_bias")
        if not rounds:
            return [self._graph.constant(*pair) for pair in zip(names, (layer.weights, layer.bias))]
        scale, _ = self._steps[source]
        scales = channel_scales(layer.weights, layer.bias, EMPTY_CHANNEL_SCALE, scale)
        return self._graph.quantized_parameters(names, layer.weights, layer.bias, scales, scale)

    def _rounded(self, value: str, name: str, like: str | None = None) -> str:
        """`value` in steps of its own range, or in those of `like`, whose values it picks or mixes."""
        if like is not None:
            scale, zero_point = self._steps[like]
        else:
            low, high = self._ranges[name]
            scale = float(np.float32((high - low) / 255))
            zero_point = min(max(round(-low / scale), 0), 255)
        result = self._graph.requantized(value, name, scale, zero_point)
        self._steps[result] = scale, zero_point
        return result


def read(path: Path) -> Reader:
    try:
        reader = Reader(onnx.load(path).graph)
    except OSError:
        raise
    except (DecodeError, IndexError, KeyError, ValueError) as error:
        raise ModelError(f"{path} is not u2netp.onnx: {type(error).__name__}: {error}") from error
    if not {name for name, *_ in ALMOST_CONSTANT} <= {layer.output for layer in reader.layers}:
        raise ModelError(f"{path} is not u2netp.onnx: it has other layers")
    return reader


def main() -> int:
    parser = argparse.ArgumentParser(description="Convert u2netp.onnx to a plain graph.")
    parser.add_argument("--precision", choices=("int8", "fp32"), default="int8")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    try:
        reader = read(arguments.source)
        ranges = None
        if arguments.precision == "int8":
            move_constants(reader.layers)
            ranges = json.loads(RANGES.read_text())
        write_atomically(arguments.target, Converter(reader, ranges).convert())
    except (ModelError, OSError) as error:
        print(f"u2netp_to_onnx.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

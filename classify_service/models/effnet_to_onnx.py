#!/usr/bin/python3
"""Converts the PyTorch checkpoint of EfficientNet-Lite0 to ONNX, in ONNX Runtime's integer operators.

    effnet_to_onnx.py CHECKPOINT.pth MODEL.onnx

The checkpoint holds float weights only. What the activations span, and so how they are rounded, is
in efficientnet_lite0_ranges.json: 99.999 % of what each layer gave for 50 photographs, in float.

The input is `input`, float32 [N,3,224,224], (pixel - 127) / 128; the output `output`, probabilities.
The same source gives the same bytes, whichever versions of numpy and onnx write them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from checkpoint import read_checkpoint
from files import ModelError, write_atomically
from graph import Graph, spatial_padding
from quantization import channel_scales

RANGES = Path(__file__).resolve().with_name("efficientnet_lite0_ranges.json")
SIZE = 224
CLASSES = 1000
BATCH_NORM_EPSILON = 1e-3
# (pixel - 127) / 128 in these steps is the pixel itself.
INPUT_SCALE, INPUT_ZERO_POINT = 1 / 128, 127
# The scale of a channel whose weights are all zero: its bias alone matters, and keeps its digits.
EMPTY_CHANNEL_SCALE = 1e-6


class Stage(NamedTuple):
    """Blocks of one kind; the first has the stride and changes the number of channels."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STEM_CHANNELS = 32
STAGES = [
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
]


class Value(NamedTuple):
    """What a layer gives: its name in the graph, the step it is rounded to, its height and width."""

    name: str
    scale: float
    side: int


class Converter:
    """Writes the network layer by layer; used once.

    Convolutions have their batch normalisation folded into them. A ReLU6 needs no operator:
    rounding to a range from 0 to at most 6 cuts off the same.
    """

    def __init__(self, tensors: dict[str, np.ndarray], ranges: dict[str, list[float]]) -> None:
        self._tensors = tensors
        self._ranges = ranges
        self._graph = Graph()

    def convert(self) -> bytes:
        source = self._graph.requantized("input", "input", INPUT_SCALE, INPUT_ZERO_POINT)
        value = Value(source, INPUT_SCALE, SIZE)
        value = self._convolution("stem", value, self._folded("_conv_stem", "_bn0"), stride=2)
        channels, index = STEM_CHANNELS, 0
        for stage in STAGES:
            for position in range(stage.blocks):
                value = self._block(index, value, stage, channels, first=position == 0)
                channels, index = stage.channels, index + 1
        value = self._convolution("head", value, self._folded("_conv_head", "_bn1"))
        value = self._rounded(self._graph.node("GlobalAveragePool", [value.name], "pool"), 1)
        # A convolution of one pixel: as a matrix product ONNX Runtime would leave it in float.
        weights = self._tensor("_fc.weight")[:, :, None, None]
        value = self._convolution("logits", value, (weights, self._tensor("_fc.bias")))
        flat = self._graph.node("Flatten", [value.name], "flat")
        self._graph.node("Softmax", [flat], "output", axis=-1)
        model = self._graph.model(["N", 3, SIZE, SIZE], ["N", CLASSES])
        return model.SerializeToString(deterministic=True)

    def _block(self, index: int, value: Value, stage: Stage, channels: int, first: bool) -> Value:
        """Expand, convolve each channel alone, project; blocks that change nothing else add their input."""
        name, source = f"b{index}", value
        tensors = f"_blocks.{index}."
        if stage.expansion != 1:
            folded = self._folded(f"{tensors}_expand_conv", f"{tensors}_bn0")
            value = self._convolution(f"{name}_expand", value, folded)
        value = self._convolution(
            f"{name}_depth",
            value,
            self._folded(f"{tensors}_depthwise_conv", f"{tensors}_bn1"),
            stride=stage.stride if first else 1,
            groups=channels * stage.expansion,
        )
        folded = self._folded(f"{tensors}_project_conv", f"{tensors}_bn2")
        value = self._convolution(f"{name}_project", value, folded)
        if first:
            return value
        total = self._graph.node("Add", [value.name, source.name], f"{name}_add")
        return self._rounded(total, value.side)

    def _convolution(
        self,
        name: str,
        source: Value,
        parameters: tuple[np.ndarray, np.ndarray],
        stride: int = 1,
        groups: int = 1,
    ) -> Value:
        weights, bias = parameters
        kernel = weights.shape[2]
        before, after = spatial_padding(source.side, kernel, stride)
        scales = channel_scales(weights, bias, EMPTY_CHANNEL_SCALE, source.scale)
        names = (f"{name}_weights", f"{name}_bias")
        constants = self._graph.quantized_parameters(names, weights, bias, scales, source.scale)
        self._graph.node(
            "Conv",
            [source.name, *constants],
            name,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            group=groups,
            pads=[before, before, after, after],
        )
        return self._rounded(name, -(-source.side // stride))

    def _rounded(self, name: str, side: int) -> Value:
        low, high = self._ranges[name]
        scale = float(np.float32((high - low) / 255))
        zero_point = min(max(round(-low / scale), 0), 255)
        return Value(self._graph.requantized(name, name, scale, zero_point), scale, side)

    def _tensor(self, name: str) -> np.ndarray:
        if name not in self._tensors:
            raise ModelError(f"the checkpoint has no tensor {name}")
        return self._tensors[name].astype(np.float64)

    def _folded(self, convolution: str, norm: str) -> tuple[np.ndarray, np.ndarray]:
        """The convolution's weights and bias with its batch normalisation folded in."""
        parts = ("weight", "bias", "running_mean", "running_var")
        gamma, beta, mean, variance = (self._tensor(f"{norm}.{part}") for part in parts)
        factor = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
        weights = self._tensor(f"{convolution}.weight") * factor.reshape(-1, 1, 1, 1)
        return weights, beta - mean * factor


def main() -> int:
    parser = argparse.ArgumentParser(description="Convert EfficientNet-Lite0's checkpoint to ONNX.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    try:
        converter = Converter(read_checkpoint(arguments.source), json.loads(RANGES.read_text()))
        write_atomically(arguments.target, converter.convert())
    except (ModelError, OSError) as error:
        print(f"effnet_to_onnx.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

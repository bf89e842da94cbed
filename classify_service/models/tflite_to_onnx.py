#!/usr/bin/python3
"""Converts a quantised TensorFlow Lite image model to ONNX.

    tflite_to_onnx.py [--precision int8|fp32] [--batch N|1|...] MODEL.tflite MODEL.onnx

int8 (default): ONNX Runtime's integer operators (fusion.py). Activations keep the source's uint8
    scales. Weights become symmetric int8 with one scale per output channel: the fastest form.
fp32: everything dequantised.

The input is `input`, float32 [N,C,H,W], the output `output`. The same source gives the same
bytes, whichever version of the onnx package writes them.

The operators are those of MobileNetV2 and DeepLabV3. To add one: write a method like `_add` and
enter it in OPERATORS.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Callable

import numpy as np
import onnx
from onnx import TensorProto

from files import ModelError, write_atomically
from graph import Graph, spatial_padding
from quantization import channel_scales
from tflite_reader import (
    FlatTable, Model, Operator, Quantization, Tensor, bias_values, dequantized, read_model,
)

# enum Padding, enum ActivationFunctionType of schema.fbs
PADDING_SAME = 0
ACTIVATION_NONE, ACTIVATION_RELU, ACTIVATION_RELU6 = 0, 1, 3

# TFLite's axes are N,H,W,C, ours N,C,H,W.
NCHW_AXIS = {0: 0, 1: 2, 2: 3, 3: 1}


def options_of(operator: Operator) -> FlatTable:
    if operator.options is None:
        raise ModelError(f"operator {operator.code} has no options")
    return operator.options


class Converter:
    """Turns one model into one graph; used once.

    ONNX values are named after the TFLite tensor's index: t12 as computed, t12_q quantised,
    t12_dq dequantised again. `_values` says which of them stands for a tensor.
    """

    def __init__(self, model: Model, precision: str, batch: str | int) -> None:
        self._model = model
        self._int8 = precision == "int8"
        self._batch = batch
        self._graph = Graph()
        self._values: dict[int, str] = {}

    def convert(self) -> onnx.ModelProto:
        model = self._model
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise ModelError("the model must have exactly 1 input and 1 output")
        source, result = model.tensors[model.inputs[0]], model.tensors[model.outputs[0]]
        if len(source.shape) != 4:
            raise ModelError(f"the input must have 4 dimensions, not {len(source.shape)}")
        if self._int8 and source.quantization is None:
            raise ModelError("the model is not quantised: convert it with --precision fp32")

        self._values[source.index] = self._requantized("input", source)
        for operator in model.operators:
            if operator.code not in OPERATORS:
                raise ModelError(f"{self._describe(operator)} is not supported")
            OPERATORS[operator.code](self, operator)
        if result.index not in self._values:
            raise ModelError("no operator computes the model's output")
        self._graph.rename(self._values[result.index], "output")
        _, height, width, channels = source.shape
        return self._graph.model(
            [self._batch, channels, height, width],
            [self._batch, *result.shape[1:]],
            TensorProto.INT64 if result.dtype == np.int64 else TensorProto.FLOAT,
            fuse=self._int8,
        )

    def _describe(self, operator: Operator) -> str:
        inputs = [self._model.tensors[i] for i in operator.inputs if i >= 0]
        shapes = ", ".join(f"{t.dtype} {t.shape}" for t in inputs)
        return f"TFLite operator {operator.code} (inputs: {shapes})"

    # --- building blocks ----------------------------------------------------------------------

    def _tensors(self, operator: Operator, inputs: int) -> list[Tensor]:
        """The operator's first `inputs` inputs, then its output."""
        if len(operator.inputs) < inputs or min(operator.inputs[:inputs]) < 0:
            raise ModelError(f"{self._describe(operator)} lacks an input")
        return [self._model.tensors[i] for i in [*operator.inputs[:inputs], operator.outputs[0]]]

    def _value(self, tensor: Tensor) -> str:
        if tensor.index not in self._values:
            raise ModelError(f"tensor {tensor.index} ({tensor.name}) is used before it is computed")
        return self._values[tensor.index]

    @staticmethod
    def _zero_point(tensor: Tensor, quant: Quantization) -> int:
        """An activation's zero point in uint8; TFLite's int8 is the same shifted by 128."""
        return int(quant.zero_point[0]) + (128 if tensor.dtype == np.int8 else 0)

    def _requantized(self, value: str, tensor: Tensor) -> str:
        """`value` rounded to what `tensor` can hold: a Quantize-Dequantize pair."""
        quant = tensor.quantization
        if not self._int8 or quant is None:
            return value
        zero = self._zero_point(tensor, quant)
        return self._graph.requantized(value, f"t{tensor.index}", quant.scale[0], zero)

    def _activated(self, value: str, activation: int, tensor: Tensor) -> str:
        """`value` through the activation function fused into an operator."""
        if activation not in (ACTIVATION_NONE, ACTIVATION_RELU, ACTIVATION_RELU6):
            raise ModelError(f"activation function {activation} is not supported")
        if activation == ACTIVATION_NONE or self._range_implies(activation, tensor):
            return value
        if activation == ACTIVATION_RELU:
            return self._graph.node("Relu", [value], f"{value}_act")
        low, high = self._graph.scalar("zero", 0, np.float32), self._graph.scalar("six", 6, np.float32)
        return self._graph.node("Clip", [value, low, high], f"{value}_act")

    def _range_implies(self, activation: int, tensor: Tensor) -> bool:
        """Whether quantising to `tensor` clips as the activation would, up to one rounding."""
        quant = tensor.quantization
        if not self._int8 or quant is None:
            return False
        scale, zero = float(quant.scale[0]), self._zero_point(tensor, quant)
        low, high = -zero * scale, (255 - zero) * scale
        return low >= -1e-3 and (activation != ACTIVATION_RELU6 or high <= 6 + 1e-2)

    def _weights_and_bias(
        self, weights: Tensor, bias: Tensor, source: Tensor, order: tuple[int, ...]
    ) -> list[str]:
        """Weights with their axes in `order` (output channels first) and bias, as ONNX values."""
        values = dequantized(weights).transpose(order)
        biases = bias_values(bias)
        name = f"t{weights.index}"
        bias_name = f"t{bias.index}"
        if not self._int8:
            return [
                self._graph.constant(name, values),
                self._graph.constant(bias_name, biases.astype(np.float32)),
            ]
        if weights.quantization is None or source.quantization is None:
            raise ModelError(f"tensor {weights.index} ({weights.name}) is not quantised")

        source_scale = float(weights.quantization.scale.max())
        input_scale = float(source.quantization.scale[0])
        scales = channel_scales(values, biases, source_scale, input_scale)
        return self._graph.quantized_parameters(
            (name, bias_name), values, biases, scales, input_scale
        )

    # --- operators: the positions of their options are those of schema.fbs's ...Options tables --

    def _conv(self, operator: Operator) -> None:
        options = options_of(operator)
        activation, dilations = options.int8(3), [options.int32(5, 1), options.int32(4, 1)]
        self._convolve(operator, (0, 3, 1, 2), 1, activation, dilations)

    def _depthwise_conv(self, operator: Operator) -> None:
        options = options_of(operator)
        channels = self._model.tensors[operator.inputs[0]].shape[3]
        activation, dilations = options.int8(4), [options.int32(6, 1), options.int32(5, 1)]
        self._convolve(operator, (3, 0, 1, 2), channels, activation, dilations)

    def _convolve(
        self,
        operator: Operator,
        order: tuple[int, ...],
        groups: int,
        activation: int,
        dilations: list[int],
    ) -> None:
        source, weights, bias, result = self._tensors(operator, 3)
        options = options_of(operator)
        strides = [options.int32(2), options.int32(1)]
        kernel = weights.shape[1:3]
        pads = [(0, 0), (0, 0)]
        if options.int8(0) == PADDING_SAME:
            pads = [
                spatial_padding(*sizes)
                for sizes in zip(source.shape[1:3], kernel, strides, dilations)
            ]
        value = self._graph.node(
            "Conv",
            [self._value(source), *self._weights_and_bias(weights, bias, source, order)],
            f"t{result.index}",
            kernel_shape=kernel,
            strides=strides,
            dilations=dilations,
            group=groups,
            pads=[pads[0][0], pads[1][0], pads[0][1], pads[1][1]],
        )
        value = self._activated(value, activation, result)
        self._values[result.index] = self._requantized(value, result)

    def _add(self, operator: Operator) -> None:
        left, right, result = self._tensors(operator, 2)
        value = self._graph.node("Add", [self._value(left), self._value(right)], f"t{result.index}")
        value = self._activated(value, options_of(operator).int8(0), result)
        self._values[result.index] = self._requantized(value, result)

    def _average_pool(self, operator: Operator) -> None:
        source, result = self._tensors(operator, 1)
        options = options_of(operator)
        if [options.int32(4), options.int32(3)] != source.shape[1:3]:
            raise ModelError(f"{self._describe(operator)}: only the whole image can be averaged")
        value = self._graph.node("GlobalAveragePool", [self._value(source)], f"t{result.index}")
        value = self._activated(value, options.int8(5), result)
        self._values[result.index] = self._requantized(value, result)

    def _concatenation(self, operator: Operator) -> None:
        sources = self._tensors(operator, len(operator.inputs))
        result = sources.pop()
        options = options_of(operator)
        value = self._graph.node(
            "Concat",
            [self._value(source) for source in sources],
            f"t{result.index}",
            axis=NCHW_AXIS[options.int32(0) % 4],
        )
        value = self._activated(value, options.int8(1), result)
        self._values[result.index] = self._requantized(value, result)

    def _reshape(self, operator: Operator) -> None:
        source, result = self._tensors(operator, 1)
        # With one pixel the order of the axes does not matter; with more it does.
        if source.shape[1:3] != [1, 1] or result.shape != [source.shape[0], source.shape[3]]:
            raise ModelError(f"{self._describe(operator)}: only [N,1,1,C] to [N,C] is supported")
        self._values[result.index] = self._graph.node(
            "Flatten", [self._value(source)], f"t{result.index}"
        )

    def _softmax(self, operator: Operator) -> None:
        source, result = self._tensors(operator, 1)
        if options_of(operator).float32(0) != 1.0:
            raise ModelError(f"{self._describe(operator)}: only beta 1 is supported")
        # Left in float: rounding probabilities to 1/256 would only lose them.
        self._values[result.index] = self._graph.node(
            "Softmax", [self._value(source)], f"t{result.index}", axis=-1
        )

    def _resize_bilinear(self, operator: Operator) -> None:
        source, result = self._tensors(operator, 1)
        if not isinstance(self._batch, int):
            raise ModelError(f"{self._describe(operator)} needs a fixed batch: add --batch 1")
        options = options_of(operator)
        mode = "half_pixel" if options.boolean(3) else "asymmetric"
        if options.boolean(2):
            mode = "align_corners"
        _, height, width, channels = result.shape
        sizes = np.array([self._batch, channels, height, width], np.int64)
        self._values[result.index] = self._graph.node(
            "Resize",
            [self._value(source), "", "", self._graph.constant(f"t{result.index}_sizes", sizes)],
            f"t{result.index}",
            mode="linear",
            coordinate_transformation_mode=mode,
        )

    def _arg_max(self, operator: Operator) -> None:
        source, axis, result = self._tensors(operator, 2)
        if axis.data is None or int(axis.data.reshape(-1)[0]) % 4 != 3 or len(source.shape) != 4:
            raise ModelError(f"{self._describe(operator)}: only over the channels is supported")
        self._values[result.index] = self._graph.node(
            "ArgMax", [self._value(source)], f"t{result.index}", axis=NCHW_AXIS[3], keepdims=0
        )

    def _quantize(self, operator: Operator) -> None:
        source, result = self._tensors(operator, 1)
        self._values[result.index] = self._requantized(self._value(source), result)


# enum BuiltinOperator of schema.fbs
OPERATORS: dict[int, Callable[[Converter, Operator], None]] = {
    0: Converter._add,
    1: Converter._average_pool,
    2: Converter._concatenation,
    3: Converter._conv,
    4: Converter._depthwise_conv,
    22: Converter._reshape,
    23: Converter._resize_bilinear,
    25: Converter._softmax,
    56: Converter._arg_max,
    114: Converter._quantize,
}


def convert(source: Path, precision: str, batch: str | int) -> bytes:
    """The model in the file `source` as the bytes of an ONNX file."""
    model = Converter(read_model(source), precision, batch).convert()
    return model.SerializeToString(deterministic=True)


def batch_argument(text: str) -> str | int:
    return int(text) if text.isdigit() and int(text) > 0 else text


def main() -> int:
    parser = argparse.ArgumentParser(description="Convert a TensorFlow Lite image model to ONNX.")
    parser.add_argument("--precision", choices=["int8", "fp32"], default="int8")
    parser.add_argument("--batch", type=batch_argument, default="N",
                        help="items per call: a number, or a name for any number (default N)")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    try:
        converted = convert(arguments.source, arguments.precision, arguments.batch)
        write_atomically(arguments.target, converted)
    except (ModelError, OSError) as error:
        print(f"tflite_to_onnx.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

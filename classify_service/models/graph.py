"""An ONNX graph in the making: what both converters build theirs from."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fusion import FUSED_DOMAIN, FUSED_OPSET, Fusion
from quantization import quantized

# Fixed, so that the file does not depend on the onnx package's defaults.
OPSET = 17
IR_VERSION = 8
PRODUCER = "darkroom"


def spatial_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Padding before and after one dimension for TensorFlow's SAME: an odd pixel goes after."""
    extent = (kernel - 1) * dilation + 1
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + extent - size, 0)
    return total // 2, total - total // 2


class Graph:
    """Nodes and constants, in the order in which they are added. Values are named by strings.

    A quantised value X is X_q as integers and X_dq dequantised again.
    """

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, name: str, values: np.ndarray) -> str:
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def scalar(self, name: str, value: float | int, dtype: type) -> str:
        # ascontiguousarray makes a vector of a scalar
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.array(value, dtype), name)
        return name

    def rename(self, old: str, new: str) -> None:
        for node in self._nodes:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]

    def requantized(self, value: str, name: str, scale: float, zero_point: int) -> str:
        """`value` rounded to what uint8 can hold: a Quantize-Dequantize pair."""
        steps = [
            self.scalar(f"{name}_scale", scale, np.float32),
            self.scalar(f"{name}_zero", zero_point, np.uint8),
        ]
        self.node("QuantizeLinear", [value, *steps], f"{name}_q")
        return self.node("DequantizeLinear", [f"{name}_q", *steps], f"{name}_dq")

    def quantized_parameters(
        self,
        names: tuple[str, str],
        weights: np.ndarray,
        bias: np.ndarray,
        scales: np.ndarray,
        input_scale: float,
    ) -> list[str]:
        """Weights as int8 in steps of `scales`, one for each output channel (axis 0); bias as int32."""
        bias_scales = (input_scale * scales).astype(np.float32)
        stored = quantized(weights, scales, np.int8)
        stored_bias = quantized(bias, bias_scales, np.int32)
        return [
            self._channel_constant(names[0], stored, scales),
            self._channel_constant(names[1], stored_bias, bias_scales),
        ]

    def _channel_constant(self, name: str, stored: np.ndarray, scales: np.ndarray) -> str:
        """A quantised constant with one scale for each index of axis 0."""
        inputs = [
            self.constant(f"{name}_q", stored),
            self.constant(f"{name}_scale", scales.astype(np.float32)),
            self.constant(f"{name}_zero", np.zeros(len(scales), stored.dtype)),
        ]
        return self.node("DequantizeLinear", inputs, f"{name}_dq", axis=0)

    def model(
        self,
        source_shape: list[int | str],
        result_shape: list[int | str],
        result_type: int = TensorProto.FLOAT,
        fuse: bool = True,
    ) -> onnx.ModelProto:
        """The model from `input` to `output`, checked; `fuse`: with integer operators (fusion.py)."""
        nodes = Fusion(self._nodes).fused() if fuse else self._nodes
        used = {name for node in nodes for name in node.input}
        graph = helper.make_graph(
            nodes,
            "darkroom",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, source_shape)],
            [helper.make_tensor_value_info("output", result_type, result_shape)],
            [constant for name, constant in self._constants.items() if name in used],
        )
        opsets = {"": OPSET} | ({FUSED_DOMAIN: FUSED_OPSET} if fuse else {})
        opset_imports = [helper.make_opsetid(*item) for item in opsets.items()]
        proto = helper.make_model(graph, producer_name=PRODUCER, opset_imports=opset_imports)
        proto.ir_version = IR_VERSION
        onnx.checker.check_model(proto)
        return proto

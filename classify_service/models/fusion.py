"""Replaces dequantise-compute-quantise by the integer operator that computes the same.

ONNX Runtime would do the same each time it loads the model, in more time than everything else
that loading takes. The operators are its own (domain com.microsoft, documented in its
docs/ContribOperators.md): the standard's integer convolution has no channels-last form, for which
alone there are fast kernels.
"""

from __future__ import annotations

from collections import Counter

import onnx
from onnx import helper

FUSED_DOMAIN = "com.microsoft"
FUSED_OPSET = 1
TO_CHANNELS_LAST = [0, 2, 3, 1]
TO_CHANNELS_FIRST = [0, 3, 1, 2]

INTEGER_OPERATORS = {
    "Add": "QLinearAdd",
    "Conv": "QLinearConv",
    "GlobalAveragePool": "QLinearGlobalAveragePool",
}


class Fusion:
    """Works on the nodes of one graph, in their order; used once.

    Integer operators compute channels-last values, which get `_last` appended to their names.
    Whatever else uses such a value gets it transposed back.
    """

    def __init__(self, nodes: list[onnx.NodeProto]) -> None:
        self._nodes = nodes
        self._makers = {node.output[0]: node for node in nodes}
        self._uses = Counter(name for node in nodes for name in node.input)
        self._quantizers = {n.input[0]: n for n in nodes if n.op_type == "QuantizeLinear"}
        self._made: list[onnx.NodeProto] = []
        self._values: set[str] = set()

    def fused(self) -> list[onnx.NodeProto]:
        for node in self._nodes:
            quantizer = self._quantizers.get(node.output[0])
            if self._fusible(node, quantizer):
                self._fuse(node, quantizer)
            elif node.output[0] + "_last" not in self._values:
                for name in node.input:
                    self._provide_first(name)
                self._emit(node)
        return self._used()

    def _fusible(self, node: onnx.NodeProto, quantizer: onnx.NodeProto | None) -> bool:
        return (
            node.op_type in INTEGER_OPERATORS
            and quantizer is not None
            and self._uses[node.output[0]] == 1
            and all(self._is_dequantized(name) for name in node.input)
        )

    def _is_dequantized(self, name: str) -> bool:
        return name in self._makers and self._makers[name].op_type == "DequantizeLinear"

    def _fuse(self, node: onnx.NodeProto, quantizer: onnx.NodeProto) -> None:
        sources = [list(self._makers[name].input) for name in node.input]
        inputs = [self._last(sources[0][0]), *sources[0][1:]]
        if node.op_type == "Conv":
            inputs += sources[1]
        elif node.op_type == "Add":
            inputs += [self._last(sources[1][0]), *sources[1][1:]]
        inputs += quantizer.input[1:]
        if node.op_type == "Conv":
            # the bias's scale is the product of input's and weights' by definition
            inputs.append(sources[2][0])
        output = quantizer.output[0] + "_last"
        fused = helper.make_node(INTEGER_OPERATORS[node.op_type], inputs, [output], domain=FUSED_DOMAIN)
        fused.attribute.extend(node.attribute)
        if node.op_type != "Add":  # which does not care
            fused.attribute.append(helper.make_attribute("channels_last", 1))
        self._emit(fused)

    def _emit(self, node: onnx.NodeProto) -> None:
        self._made.append(node)
        self._values.add(node.output[0])

    def _last(self, name: str) -> str:
        """The value `name` with its channels last."""
        last = name + "_last"
        if last not in self._values:
            self._emit(helper.make_node("Transpose", [name], [last], perm=TO_CHANNELS_LAST))
        return last

    def _provide_first(self, name: str) -> None:
        """Makes `name` from its channels-last form if that is all there is."""
        last = name + "_last"
        if last in self._values and name not in self._values:
            self._emit(helper.make_node("Transpose", [last], [name], perm=TO_CHANNELS_FIRST))

    def _used(self) -> list[onnx.NodeProto]:
        """Without what only fused operators used."""
        kept: list[onnx.NodeProto] = []
        used: set[str] = {"output"}
        for node in reversed(self._made):
            if node.output[0] in used:
                kept.append(node)
                used.update(node.input)
        return kept[::-1]

"""Reads a TensorFlow Lite model into plain Python objects.

A .tflite file is a FlatBuffer. Its layout is the public schema.fbs of TensorFlow Lite
(tensorflow/compiler/mlir/lite/schema/schema.fbs); every field is addressed by its position in
its table, and those positions, named below, never change once published.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flatbuffers import number_types
from flatbuffers.table import Table

from files import ModelError

FILE_IDENTIFIER = b"TFL3"

# table Model
MODEL_OPERATOR_CODES, MODEL_SUBGRAPHS, MODEL_BUFFERS = 1, 2, 4
# table OperatorCode: codes up to 126 are in the old int8 field, later ones only in the new field
CODE_DEPRECATED_BUILTIN, CODE_BUILTIN = 0, 3
# table SubGraph
GRAPH_TENSORS, GRAPH_INPUTS, GRAPH_OUTPUTS, GRAPH_OPERATORS = 0, 1, 2, 3
# table Tensor
TENSOR_SHAPE, TENSOR_TYPE, TENSOR_BUFFER, TENSOR_NAME, TENSOR_QUANTIZATION = 0, 1, 2, 3, 4
# table QuantizationParameters
QUANT_SCALE, QUANT_ZERO_POINT, QUANT_DIMENSION = 2, 3, 6
# table Operator: a union takes two positions, its type (3) and its value (4)
OP_CODE_INDEX, OP_INPUTS, OP_OUTPUTS, OP_OPTIONS = 0, 1, 2, 4
# table Buffer
BUFFER_DATA = 0

# enum TensorType; what is not here cannot be read
TENSOR_TYPES = {
    0: np.dtype(np.float32),
    2: np.dtype(np.int32),
    3: np.dtype(np.uint8),
    4: np.dtype(np.int64),
    9: np.dtype(np.int8),
}


@dataclass(frozen=True)
class Quantization:
    """real = (stored - zero_point) * scale; one pair, or one for each index of `axis`."""

    scale: np.ndarray  # float32
    zero_point: np.ndarray  # int64
    axis: int


@dataclass(frozen=True)
class Tensor:
    index: int
    name: str
    shape: list[int]
    dtype: np.dtype
    quantization: Quantization | None
    data: np.ndarray | None  # None for a tensor that is computed


@dataclass(frozen=True)
class Operator:
    code: int  # enum BuiltinOperator
    inputs: list[int]
    outputs: list[int]
    options: FlatTable | None


@dataclass(frozen=True)
class Model:
    tensors: list[Tensor]
    operators: list[Operator]
    inputs: list[int]
    outputs: list[int]


class FlatTable:
    """One FlatBuffers table; fields are named by position, absent ones have their default."""

    def __init__(self, buffer: bytes, position: int) -> None:
        self._table = Table(buffer, position)

    @classmethod
    def root(cls, buffer: bytes) -> FlatTable:
        return cls(buffer, Table(buffer, 0).Get(number_types.UOffsetTFlags, 0))

    def _offset(self, field: int) -> int:
        """Offset of `field` from the table's start, 0 if absent; a vtable's header has 4 bytes."""
        return self._table.Offset(4 + 2 * field)

    def _scalar(self, field: int, flags: type, default: int) -> int:
        offset = self._offset(field)
        return self._table.Get(flags, self._table.Pos + offset) if offset else default

    def int8(self, field: int, default: int = 0) -> int:
        return self._scalar(field, number_types.Int8Flags, default)

    def int32(self, field: int, default: int = 0) -> int:
        return self._scalar(field, number_types.Int32Flags, default)

    def uint32(self, field: int, default: int = 0) -> int:
        return self._scalar(field, number_types.Uint32Flags, default)

    def boolean(self, field: int) -> bool:
        return bool(self._scalar(field, number_types.BoolFlags, 0))

    def float32(self, field: int, default: float = 0.0) -> float:
        return self._scalar(field, number_types.Float32Flags, default)

    def string(self, field: int) -> str:
        offset = self._offset(field)
        return self._table.String(self._table.Pos + offset).decode() if offset else ""

    def table(self, field: int) -> FlatTable | None:
        """A table, or the value of a union."""
        offset = self._offset(field)
        if not offset:
            return None
        return FlatTable(self._table.Bytes, self._table.Indirect(self._table.Pos + offset))

    def tables(self, field: int) -> list[FlatTable]:
        offset = self._offset(field)
        if not offset:
            return []
        first = self._table.Vector(offset)
        positions = range(first, first + 4 * self._table.VectorLen(offset), 4)
        return [FlatTable(self._table.Bytes, self._table.Indirect(at)) for at in positions]

    def numbers(self, field: int, flags: type) -> np.ndarray:
        offset = self._offset(field)
        if not offset:
            return np.array([], number_types.to_numpy_type(flags))
        return self._table.GetVectorAsNumpy(flags, offset)

    def int32s(self, field: int) -> list[int]:
        return [int(n) for n in self.numbers(field, number_types.Int32Flags)]


def _read_quantization(tensor: FlatTable) -> Quantization | None:
    table = tensor.table(TENSOR_QUANTIZATION)
    if table is None:
        return None
    scale = table.numbers(QUANT_SCALE, number_types.Float32Flags)
    zero_point = table.numbers(QUANT_ZERO_POINT, number_types.Int64Flags)
    if len(scale) == 0:
        return None
    if len(zero_point) == 0:
        zero_point = np.zeros(len(scale), np.int64)
    return Quantization(scale, zero_point, table.int32(QUANT_DIMENSION))


def _read_tensor(index: int, table: FlatTable, buffers: list[FlatTable]) -> Tensor:
    name = table.string(TENSOR_NAME)
    type_code = table.int8(TENSOR_TYPE)
    if type_code not in TENSOR_TYPES:
        raise ModelError(f"tensor {index} ({name}) has the unsupported type {type_code}")
    dtype = TENSOR_TYPES[type_code]
    shape = table.int32s(TENSOR_SHAPE)

    data = None
    raw = buffers[table.uint32(TENSOR_BUFFER)].numbers(BUFFER_DATA, number_types.Uint8Flags)
    if len(raw) > 0:
        data = np.frombuffer(raw.tobytes(), dtype).reshape(shape)
    return Tensor(index, name, shape, dtype, _read_quantization(table), data)


def _read_operator(table: FlatTable, codes: list[int]) -> Operator:
    code = codes[table.uint32(OP_CODE_INDEX)]
    return Operator(
        code, table.int32s(OP_INPUTS), table.int32s(OP_OUTPUTS), table.table(OP_OPTIONS)
    )


def _read_model(buffer: bytes) -> Model:
    root = FlatTable.root(buffer)
    codes = [
        max(code.int8(CODE_DEPRECATED_BUILTIN), code.int32(CODE_BUILTIN))
        for code in root.tables(MODEL_OPERATOR_CODES)
    ]
    graphs = root.tables(MODEL_SUBGRAPHS)
    if len(graphs) != 1:
        raise ModelError(f"the model has {len(graphs)} subgraphs, exactly 1 is supported")
    graph = graphs[0]
    buffers = root.tables(MODEL_BUFFERS)
    tensors = [_read_tensor(i, t, buffers) for i, t in enumerate(graph.tables(GRAPH_TENSORS))]
    operators = [_read_operator(op, codes) for op in graph.tables(GRAPH_OPERATORS)]
    return Model(tensors, operators, graph.int32s(GRAPH_INPUTS), graph.int32s(GRAPH_OUTPUTS))


def read_model(path: Path) -> Model:
    """The model in the file `path`; ModelError if it is not one."""
    buffer = path.read_bytes()
    if buffer[4:8] != FILE_IDENTIFIER:
        raise ModelError(f"{path} is not a TensorFlow Lite model")
    try:
        return _read_model(buffer)
    except (struct.error, IndexError, ValueError, TypeError) as error:
        raise ModelError(f"{path} is damaged: {error}") from error


def dequantized(tensor: Tensor) -> np.ndarray:
    """The constant `tensor` as float32."""
    if tensor.data is None:
        raise ModelError(f"tensor {tensor.index} ({tensor.name}) should be a constant")
    quant = tensor.quantization
    if quant is None:
        return tensor.data.astype(np.float32)
    shape = [1] * tensor.data.ndim
    if len(quant.scale) > 1:
        shape[quant.axis] = -1
    zero = quant.zero_point.astype(np.float32).reshape(shape)
    return (tensor.data.astype(np.float32) - zero) * quant.scale.reshape(shape)


def bias_values(tensor: Tensor) -> np.ndarray:
    """The bias as float64: int32 has more digits than float32 holds."""
    if tensor.data is None:
        raise ModelError(f"tensor {tensor.index} ({tensor.name}) should be a constant")
    scale = 1.0 if tensor.quantization is None else tensor.quantization.scale.astype(np.float64)
    return tensor.data.astype(np.float64) * scale

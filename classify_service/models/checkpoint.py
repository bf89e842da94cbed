"""Reads a PyTorch checkpoint without PyTorch: a file of torch.save() before release 1.6.

Five pickles follow each other: a magic number, the format's version, facts about the machine, the
tensors' descriptions, and the storages' keys. Then each storage's numbers come: a count, and the
raw values. A pickle can name any function to call; this reader knows four names and refuses others.
"""

from __future__ import annotations

import math
import pickle
import struct
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from files import ModelError

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
STORAGES = {"FloatStorage": "<f4", "LongStorage": "<i8"}


@dataclass(frozen=True)
class Storage:
    key: str
    dtype: np.dtype
    count: int


@dataclass(frozen=True)
class Description:
    """A tensor as a view of a storage. Strides count elements; transposed tensors are not contiguous."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def view(self, values: np.ndarray) -> np.ndarray:
        if min(self.shape, default=1) < 1 or math.prod(self.shape) > len(values):
            raise ModelError("a tensor is empty or larger than its storage")
        places = np.array(self.offset)
        for size, stride in zip(self.shape, self.strides):
            places = places[..., None] + np.arange(size) * stride
        if not 0 <= places.min() <= places.max() < len(values):
            raise ModelError("a tensor reaches outside its storage")
        return values[places]


def describe_tensor(
    storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> Description:
    """Stands for torch._utils._rebuild_tensor_v2, which the pickle calls for each tensor."""
    return Description(storage, offset, shape, strides)


class Unpickler(pickle.Unpickler):
    """Makes dictionaries and descriptions of tensors, nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return describe_tensor
        if module == "torch" and name in STORAGES:
            return np.dtype(STORAGES[name])
        raise ModelError(f"{module}.{name} has no place in a checkpoint")

    def persistent_load(self, ident: Any) -> Storage:
        kind, dtype, key, _device, count, view = ident
        if kind != "storage" or view is not None:
            raise ModelError("only whole storages can be read")
        return Storage(key, dtype, count)


def read_storage(file: BinaryIO, storage: Storage) -> np.ndarray:
    (count,) = struct.unpack("<q", file.read(8))
    if count != storage.count:
        raise ModelError(f"storage {storage.key} has {count} values, not {storage.count}")
    return np.frombuffer(file.read(count * storage.dtype.itemsize), storage.dtype, count)


def read_tensors(file: BinaryIO) -> dict[str, np.ndarray]:
    magic, version, machine = (Unpickler(file).load() for _ in range(3))
    if magic != MAGIC or version != VERSION or machine["little_endian"] is not True:
        raise ModelError("not in the format of PyTorch before 1.6")
    described = Unpickler(file).load()
    storages = {tensor.storage.key: tensor.storage for tensor in described.values()}
    values = {key: read_storage(file, storages[key]) for key in Unpickler(file).load()}
    return {name: tensor.view(values[tensor.storage.key]) for name, tensor in described.items()}


def read_checkpoint(path: Path) -> dict[str, np.ndarray]:
    """The tensors by their names."""
    with path.open("rb") as file:
        try:
            return read_tensors(file)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error
        except Exception as error:  # a pickle that is no checkpoint can fail in any way
            raise ModelError(f"{path} is damaged: {type(error).__name__}: {error}") from error

"""The arithmetic of quantised constants: real = (stored - zero point) * scale."""

from __future__ import annotations

import numpy as np

INT8_MAX = np.iinfo(np.int8).max
INT32_MAX = np.iinfo(np.int32).max


def channel_scales(
    weights: np.ndarray, bias: np.ndarray, source_scale: float, input_scale: float
) -> np.ndarray:
    """The scale of each output channel (axis 0) for symmetric int8.

    Usually the channel's largest weight / 127. A channel whose weights are all zero keeps the
    source's scale. And the scale is never so small that the channel's bias, stored as int32 in
    units of input_scale * scale, would overflow.
    """
    largest = np.abs(weights).reshape(len(weights), -1).max(axis=1) / np.float32(INT8_MAX)
    scales = np.where(largest == 0, np.float32(source_scale), largest).astype(np.float64)
    return np.maximum(scales, np.abs(bias) / (input_scale * INT32_MAX))


def quantized(values: np.ndarray, scales: np.ndarray, dtype: type) -> np.ndarray:
    """`values` in steps of `scales` (one for each index of axis 0), symmetric around zero."""
    steps = scales.astype(np.float64).reshape(-1, *[1] * (values.ndim - 1))
    limit = np.iinfo(dtype).max
    return np.clip(np.round(values / steps), -limit, limit).astype(dtype)

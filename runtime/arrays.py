"""Numbers as arrays, on their way into a step and out of it."""

from __future__ import annotations

import numpy as np

from ..compiler.types import TensorType


def finite(array: np.ndarray) -> bool:
    """Whether all numbers are finite: their sum says so, but for one that overflows.

    NumPy, because torch would wake threads that then spin while the step's kernels run.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum()) or np.isfinite(array).all())


def plain(array: np.ndarray, of: TensorType) -> np.ndarray:
    """An output of a program as float32 or int64."""
    if of.format.name == "bf16":
        wide = array.view(np.uint16).astype(np.uint32) << 16
        array = wide.view(np.float32)
    elif of.format.name == "f16":
        array = array.astype(np.float32)
    return np.ascontiguousarray(array).reshape(of.shape)

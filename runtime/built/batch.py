"""Batches of a built step: arrays of NumPy, or of whatever shares its memory as they do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...compiler.errors import InputError
from ...compiler.ir import Value
from ...targets.plan.layout import DTYPES
from ...targets.plan.memory import ALIGNMENT
from ...targets.plan.state import aligned_bytes
from ..arrays import finite

SHARING = ("__array_interface__", "__array__", "__dlpack__")


def as_array(name: str, given: object) -> np.ndarray:
    """The numbers of ``given``, where they lie if it shares them; InputError where not."""
    if not isinstance(given, np.ndarray | np.generic):
        if not any(hasattr(given, how) for how in SHARING):
            raise InputError(f"{name} is a {type(given).__name__}; give a NumPy array")
        try:
            given = _shared(given)
        except (TypeError, ValueError, RuntimeError, BufferError) as error:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"{name} does not share its numbers ({said}); give a NumPy array"
            ) from None
    return np.asarray(given)


def _shared(given: object) -> np.ndarray:
    if hasattr(given, "__dlpack__") and not hasattr(given, "__array__"):
        return np.from_dlpack(given)
    return np.asarray(given)


def check_arrays(batch: Sequence[object], wanted: Sequence[Value]) -> list[np.ndarray]:
    """The batch as kernels read it; an array that already fits is not copied.

    Raises InputError where the number of arrays, a shape or a dtype differs, or one holds NaN.
    """
    if len(batch) != len(wanted):
        names = ", ".join(v.name for v in wanted)
        raise InputError(f"the step takes {len(wanted)} arrays ({names}), not {len(batch)}")
    return [_check(as_array(v.name, given), v) for given, v in zip(batch, wanted, strict=True)]


def _check(array: np.ndarray, value: Value) -> np.ndarray:
    name, want = value.name, value.type
    dtype = np.dtype(DTYPES[want.format.name])
    if array.dtype != dtype:
        raise InputError(f"{name} is {array.dtype}; the step was built for {dtype}")
    if array.shape != want.shape:
        shapes = f"{list(array.shape)}; the step was built for {list(want.shape)}"
        raise InputError(f"{name} has shape {shapes}")
    if array.dtype.kind == "f" and not finite(array):
        raise InputError(
            f"{name} holds NaN or infinity, which spoils what is computed from it; drop it"
        )
    return _placed(array)


def _placed(array: np.ndarray) -> np.ndarray:
    """An array at a multiple of a cache line, in one piece, that may be lent."""
    flags = array.flags
    if flags.c_contiguous and flags.writeable and array.ctypes.data % ALIGNMENT == 0:
        return array
    made = aligned_bytes(array.nbytes).view(array.dtype).reshape(array.shape)
    made[...] = array
    return made

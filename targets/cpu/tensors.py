"""Arrays and tensors as compiled code takes them: the address of their numbers."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_ffi import from_dlpack

from ...compiler.errors import TargetError


@dataclass(frozen=True, slots=True)
class Expected:
    """What a step wants to be called with."""

    name: str
    shape: tuple[int, ...]
    dtype: str


def address(block: object, expected: Expected) -> int:
    """Where the numbers of an array, or of a tensor that speaks DLPack, begin.

    Raises TargetError for another shape or type than expected.
    """
    tensor = from_dlpack(block, require_contiguous=True)
    if tensor.shape != expected.shape or str(tensor.dtype) != expected.dtype:
        raise TargetError(
            f"cpu: {expected.name} is {tensor.dtype}{list(tensor.shape)}; the step takes"
            f" {expected.dtype}{list(expected.shape)}"
        )
    return tensor.data_ptr()

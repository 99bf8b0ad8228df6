"""Tensors of the reference: numbers or unpacked codes in logical order, with scale and type."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...compiler.errors import InputError
from ...compiler.formats import BF16, F16, F32, I32, I64, Format
from ...compiler.types import BlockScale, Scale, Shape, TensorType
from .blocks import spread
from .powers import LEAST, LN2, exp2, log2
from .rounding import codes_type, decode, encode

Array = NDArray[Any]

PLAIN: dict[Format, np.dtype[Any]] = {
    F32: np.dtype(np.float32),
    BF16: np.dtype(ml_dtypes.bfloat16),
    F16: np.dtype(np.float16),
    I64: np.dtype(np.int64),
    I32: np.dtype(np.int32),
}


def dtype_of(f: Format) -> np.dtype[Any]:
    """NumPy's type of one element: the number itself, or uint8 or uint16 for a code."""
    return PLAIN[f] if f in PLAIN else codes_type(f)


def scale_shape(type_: TensorType) -> Shape | None:
    """Shape of the scale that goes with ``type_``; None where it carries none."""
    if type_.scale is Scale.NONE:
        return None
    if isinstance(type_.scale, BlockScale):
        grid = type_.scale.grid(type_.shape)
        outer = type_.scale.outer_grid(type_.shape)
        return grid if outer is None else (prod(outer) + prod(grid),)
    places = type_.shape[:1] if type_.scale.per_channel else ()
    return places if type_.scale.is_factor else (2, *places)


def scales_of(type_: TensorType, scale: Array) -> tuple[Array, Array]:
    """Of numbers in blocks: the scale of the tensor, or of its larger block at each place, and that
    of its block at each place."""
    assert isinstance(type_.scale, BlockScale), type_
    outer, blocks = np.ones((), scale.dtype), scale
    grid = type_.scale.outer_grid(type_.shape)
    if grid is not None:
        outer, blocks = scale[: prod(grid)].reshape(grid), scale[prod(grid) :]
        blocks = blocks.reshape(type_.scale.grid(type_.shape))
    if type_.scale.outer:
        outer = spread(outer, replace(type_.scale, block=type_.scale.outer), type_.shape)
    return np.asarray(outer), spread(blocks, type_.scale, type_.shape)


def column(scale: Array, rank: int) -> Array:
    """A scale or clip, one or one per channel of dimension 0, shaped to act on a tensor."""
    return scale.reshape(-1, *(1,) * (rank - 1)) if scale.ndim else scale


@dataclass(frozen=True, eq=False, slots=True)
class Tensor:
    """``data`` holds numbers (carriers, integers) or codes (one each) in logical order.

    ``scale`` is float32 and present exactly where the type carries one, of shape () or [K], affine
    [2] or [2, K]: scales, then offsets; squeezed [2]: alpha and beta; of blocks their grid, or in
    a row the tensor's or those of larger blocks, then theirs.
    """

    type: TensorType
    data: Array
    scale: Array | None = None

    def __post_init__(self) -> None:
        want = dtype_of(self.type.format)
        if self.data.shape != self.type.shape or self.data.dtype != want:
            have = f"{self.data.dtype} of shape {self.data.shape}"
            raise InputError(f"data is {have}; {self.type} needs {want} of shape {self.type.shape}")
        shape = None if self.scale is None else self.scale.shape
        if shape != scale_shape(self.type):
            raise InputError(f"scale has shape {shape}; {self.type} needs {scale_shape(self.type)}")

    @classmethod
    def from_numbers(
        cls, type_: TensorType, numbers: ArrayLike, scale: ArrayLike | None = None
    ) -> Tensor:
        """Round stored numbers (before scaling) to nearest even, through f32 for carriers.

        A scale that is not given is 1, an offset 0, alpha 1 and beta 0.
        """
        return cls(type_, _rounded(np.asarray(numbers), type_.format), _scale(type_, scale))

    @classmethod
    def from_float(
        cls, type_: TensorType, real: ArrayLike, scale: ArrayLike | None = None
    ) -> Tensor:
        """Round real values: stored numbers are ``real / scale``."""
        factor = _scale(type_, scale)
        numbers = np.asarray(real)
        if factor is not None and type_.scale.is_affine:
            by, offset = (column(s.astype(np.float64), numbers.ndim) for s in factor)
            numbers = (numbers - offset) / by
        elif factor is not None and type_.scale is Scale.SQUEEZED:
            numbers = squeezed(numbers, *factor)
        elif factor is not None and isinstance(type_.scale, BlockScale):
            outer, blocks = scales_of(type_, factor.astype(np.float64))
            numbers = numbers / (blocks * outer)
        elif factor is not None:
            numbers = numbers / column(factor.astype(np.float64), numbers.ndim)
        return cls(type_, _rounded(numbers, type_.format), factor)

    @classmethod
    def zeros(cls, type_: TensorType) -> Tensor:
        """All elements at the level nearest to zero, with scale 1."""
        return cls.from_numbers(type_, np.zeros(type_.shape, np.float32))

    @property
    def numbers(self) -> Array:
        """Stored numbers: float32 of carriers and codes, exact; integers as they are."""
        f = self.type.format
        if f.is_coded:
            return decode(self.data, f)
        return self.data if f.is_index else self.data.astype(np.float32, copy=False)

    def real(self) -> Array:
        """Real values in float64: stored numbers times scale, plus the offset."""
        return self._real(self.numbers.astype(np.float64))

    def dequantized(self) -> Array:
        """Real values as the op ``dequantize`` makes them, in f32."""
        return self._real(self.numbers)

    def _real(self, numbers: Array) -> Array:
        if self.scale is None:
            return numbers
        if isinstance(self.type.scale, BlockScale):
            outer, blocks = scales_of(self.type, self.scale)
            return numbers * blocks * outer
        if self.type.scale is Scale.SQUEEZED:
            return np.asarray(_unsqueezed(numbers, *self.scale), numbers.dtype)
        if self.type.scale.is_factor:
            return numbers * column(self.scale, numbers.ndim)
        factor, offset = (column(s, numbers.ndim) for s in self.scale)
        return numbers * factor + offset


def squeezed(x: Array, alpha: Array, beta: Array) -> Array:
    """2^beta |x|^alpha with the sign of x, in f32; 0 of what is below f32's normal numbers."""
    x = x.astype(np.float32)
    size = np.abs(x)
    small = size < np.float32(LEAST)
    with np.errstate(over="ignore"):
        e = np.float32(alpha) * log2(np.where(small, np.float32(1), size)) + np.float32(beta)
    return np.asarray(np.copysign(np.where(small, np.float32(0), exp2(e)), x))


def _unsqueezed(q: Array, alpha: Array, beta: Array) -> Array:
    """(2^-beta |q|)^(1/alpha) with the sign of q, in float64."""
    with np.errstate(divide="ignore"):
        logs = np.log(np.abs(q.astype(np.float64)))
    with np.errstate(over="ignore"):
        size = np.exp((logs - np.float64(beta) * LN2) / np.float64(alpha))
    return np.asarray(np.copysign(size, q))


def _rounded(numbers: Array, f: Format) -> Array:
    if f.is_coded:
        return encode(numbers, f)
    if f.is_index:
        whole = np.rint(numbers) if numbers.dtype.kind == "f" else numbers
        return whole.astype(PLAIN[f])
    # Overflow of a narrow carrier is infinity, as in the hardware's own conversion.
    with np.errstate(over="ignore", invalid="ignore"):
        return numbers.astype(np.float32, copy=False).astype(PLAIN[f], copy=False)


def _scale(type_: TensorType, scale: ArrayLike | None) -> Array | None:
    shape = scale_shape(type_)
    if shape is None:
        return None if scale is None else np.asarray(scale, np.float32)
    if scale is not None:
        return np.asarray(scale, np.float32)
    one = np.ones(shape, np.float32)
    if type_.scale.is_affine or type_.scale is Scale.SQUEEZED:
        one[1] = 0
    return one

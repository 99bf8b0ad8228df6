"""Constants of a joint graph as ops: one number, counting, a triangle, a short table; else state.

What repeats along a dimension is made once and repeated, so that little depends on the batch. State
that no ``next`` binds stays as it is; it lies in files as numbers, and is called by its contents,
so that training and evaluation, at any batch size, share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Protocol

import numpy as np

from ..formats import F32, I64
from ..ir import Attr, Value
from ..types import TensorType
from .joint import FixedTensor

SHORT = 64  # numbers that stand in the text
PREFIX = "constant."


class Emits(Protocol):
    """What a builder does for constants."""

    stored: dict[str, np.ndarray]

    def emit(
        self,
        kind: str,
        inputs: Sequence[Value],
        results: Sequence[tuple[str, TensorType]],
        **attributes: Attr,
    ) -> tuple[Value, ...]:
        """Append an op."""

    def constant(self, shape: Sequence[int], value: float, part: str = "constant") -> Value:
        """One number everywhere."""

    def kept(self, name: str, type_: TensorType) -> Value:
        """State under a name of its own."""


def emitted(b: Emits, constant: FixedTensor) -> Value:
    """The value of a constant."""
    numbers = constant.numbers
    whole = numbers.dtype.kind in "iu"
    dtype = np.int64 if whole else np.float32
    thin, dims = _thin(numbers.astype(dtype, copy=False))
    if whole and thin.size == 1:
        type_, only = TensorType(numbers.shape, I64), int(thin.reshape(-1)[0])
        return b.emit("iota", (), [("arange", type_)], start=only, step=0)[0]
    if whole:
        made = _integers(b, thin)
        return made if not dims else _repeated_integers(b, made, numbers.shape)
    if thin.size == 1:
        return b.constant(numbers.shape, float(thin.reshape(-1)[0]))
    made = _triangle(b, thin) or _floats(b, thin)
    if not dims:
        return made
    type_ = TensorType(numbers.shape, F32)
    return b.emit("broadcast", (made,), [("wide", type_)], dims=dims)[0]


def _thin(numbers: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """The numbers without what repeats along dimensions, which then have size 1, and those."""
    dims = []
    for d, size in enumerate(numbers.shape):
        first = numbers[(slice(None),) * d + (slice(0, 1),)]
        if size > 1 and _same(numbers, first):
            numbers = first
            dims.append(d)
    return numbers, tuple(dims)


def _same(numbers: np.ndarray, first: np.ndarray) -> bool:
    """Bit for bit; where strides are 0 nobody looks."""
    different = [d for d, n in enumerate(first.shape) if n == 1 != numbers.shape[d]]
    if all(numbers.strides[d] == 0 for d in different):
        return True
    bits = np.dtype(f"i{numbers.itemsize}")
    return bool((_bits(numbers, bits) == _bits(first, bits)).all())


def _bits(numbers: np.ndarray, bits: np.dtype[np.signedinteger]) -> np.ndarray:
    return np.ascontiguousarray(numbers).view(bits).reshape(numbers.shape)


def _integers(b: Emits, numbers: np.ndarray) -> Value:
    type_ = TensorType(numbers.shape, I64)
    flat = numbers.reshape(-1)
    step = int(flat[1] - flat[0]) if len(flat) > 1 else 0
    if len(flat) and bool((np.diff(flat) == step).all()):
        start = int(flat[0])
        return b.emit("iota", (), [("arange", type_)], start=start, step=step)[0]
    if flat.size <= SHORT:
        listed = tuple(map(int, flat))
        return b.emit("whole_table", (), [("table", type_)], numbers=listed)[0]
    return _stored(b, numbers, type_)


def _repeated_integers(b: Emits, made: Value, shape: tuple[int, ...]) -> Value:
    zero = b.emit("iota", (), [("zero", TensorType((), I64))], start=0, step=0)[0]
    type_ = TensorType(shape, I64)
    return b.emit("whole", (made, zero), [("wide", type_)], function="add")[0]


def _floats(b: Emits, numbers: np.ndarray) -> Value:
    type_ = TensorType(numbers.shape, F32)
    if numbers.size <= SHORT and bool(np.isfinite(numbers).all()):
        # The shortest text that names the same f32.
        listed = tuple(float(str(x)) for x in numbers.reshape(-1))
        return b.emit("table", (), [("table", type_)], numbers=listed)[0]
    return _stored(b, numbers, type_)


def _triangle(b: Emits, numbers: np.ndarray) -> Value | None:
    """Two numbers, one on and below a diagonal, the other above; as a causal mask."""
    if numbers.ndim < 2 or numbers.shape[-1] < 2:
        return None
    inside, outside = numbers[..., -1, 0].reshape(-1)[0], numbers[..., 0, -1].reshape(-1)[0]
    row = numbers[..., 0, :].reshape(-1, numbers.shape[-1])[0]
    diagonal = int((row == inside).sum()) - 1
    mask = np.tril(np.ones(numbers.shape, np.float32), diagonal)
    if inside == outside or not bool((numbers == np.where(mask == 1, inside, outside)).all()):
        return None
    type_ = TensorType(numbers.shape, F32)
    made = b.emit("triangle", (), [("triangle", type_)], diagonal=diagonal)[0]
    if (inside, outside) == (1, 0):
        return made
    below = b.emit("compare_to", (made,), [("outside", type_)], relation="eq", value=0.0)[0]
    filled = b.constant(numbers.shape, float(inside))
    return b.emit("masked", (below, filled), [("mask", type_)], value=float(outside))[0]


def _stored(b: Emits, numbers: np.ndarray, type_: TensorType) -> Value:
    """State, by what it holds."""
    held = np.array(numbers, order="C")
    digest = sha256(f"{type_}".encode() + held.tobytes()).hexdigest()[:12]
    name = f"{PREFIX}{digest}"
    b.stored[name] = held
    return b.kept(name, type_)

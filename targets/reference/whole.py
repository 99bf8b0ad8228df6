"""Reference of the arithmetic of integers."""

from __future__ import annotations

import numpy as np

from ...compiler.ir import Op
from ...compiler.ir.ops.whole import LARGEST_WHOLE
from ..numbers.tensor import Array
from .frame import Meaning, on_numbers
from .math import RELATIONS

FUNCTIONS = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


def _made(op: Op, x: Array) -> Array:
    return np.asarray(np.broadcast_to(x, op.result.type.shape))


def whole(op: Op, a: Array, b: Array) -> Array:
    """Around at 2^63, as in memory."""
    return _made(op, FUNCTIONS[op.word_attr("function")](a, b))


def whole_divided(op: Op, a: Array) -> Array:
    """NumPy rounds down."""
    by = np.int64(op.int_attr("by"))
    return np.asarray(a % by if op.bool_attr("rest") else a // by)


def whole_compare(op: Op, a: Array, b: Array) -> Array:
    """1 and 0."""
    return _made(op, RELATIONS[op.word_attr("relation")](a, b)).astype(np.float32)


def whole_where(op: Op, c: Array, a: Array, b: Array) -> Array:
    """NaN is not 0."""
    return _made(op, np.where(c != 0, a, b))


def whole_table(op: Op) -> Array:
    """Row by row."""
    return np.array(op.ints_attr("numbers"), np.int64).reshape(op.result.type.shape)


def to_whole(op: Op, x: Array) -> Array:
    """Within bounds whose f32 is an integer of 64 bits."""
    known = np.where(np.isnan(x), 0.0, x).astype(np.float64)
    return np.clip(np.trunc(known), -LARGEST_WHOLE, LARGEST_WHOLE).astype(np.int64)


def to_number(op: Op, n: Array) -> Array:
    """Rounded once."""
    return n.astype(np.float32)


WHOLE: dict[str, Meaning] = {
    "whole": on_numbers(whole),
    "whole_divided": on_numbers(whole_divided),
    "whole_compare": on_numbers(whole_compare),
    "whole_where": on_numbers(whole_where),
    "whole_table": on_numbers(whole_table),
    "to_whole": on_numbers(to_whole),
    "to_number": on_numbers(to_number),
}

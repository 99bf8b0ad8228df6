"""Reference of numbers that are scaled block by block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...compiler.formats import FORMATS
from ...compiler.ir import Op
from ...compiler.types import BlockScale
from ..numbers.blocks import largest, power_scale, spread
from ..numbers.tensor import Array, Tensor
from .frame import Meaning, on_numbers


def scale_blocks(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Dividing by a power of two is exact."""
    (x,) = (t.numbers for t in inputs)
    made = op.result.type
    assert isinstance(made.scale, BlockScale), op
    s = block_scale(op, largest(x, made.scale))
    with np.errstate(invalid="ignore"):
        numbers = x / spread(s, made.scale, made.shape)
    return (Tensor.from_numbers(made, numbers, s),)


def block_scale(op: Op, m: Array) -> Array:
    """Of largest magnitudes."""
    return power_scale(m, FORMATS[op.word_attr("to")], op.word_attr("rule"))


BLOCKS: dict[str, Meaning] = {
    "scale_blocks": scale_blocks,
    "block_scale": on_numbers(block_scale),
}

"""Products whose operands have one scale for all that a sum takes: of rows, of columns, of tensors.

    in the program                   in its place
    y = linear(q, r)                 the sums of stored numbers in f32, times the scales of q's rows
                                     and those of r's

Sums of integers are exact then, where numbers that are decoded ahead would be rounded.
"""

from __future__ import annotations

from dataclasses import replace

from ...compiler.formats import F32
from ...compiler.ir import Op, Value, unused
from ...compiler.ir.ops import GEMMS, OPS
from ...compiler.types import BlockScale, TensorType
from .composition import Composition


def factored(op: Op) -> bool:
    """Whether the scales of both operands of a product multiply its sums."""
    if op.kind not in GEMMS or op.kind.startswith("conv2d"):
        return False
    return all(v.type.format.is_integer and _whole(op, i) for i, v in enumerate(op.inputs))


def _names(op: Op) -> tuple[str, ...]:
    """The dimensions of the result of a product, by the names of its signature."""
    (names,) = OPS[op.kind].results[0].patterns
    return tuple(names)


def _own(op: Op, i: int) -> tuple[str, ...]:
    return tuple(OPS[op.kind].operand(i).patterns[0])


def _whole(op: Op, i: int) -> bool:
    """Whether blocks of an operand reach along what is summed, and cut nothing else in parts."""
    type_ = op.inputs[i].type
    if not isinstance(type_.scale, BlockScale) or type_.scale.format is not F32:
        return False
    made = _names(op)
    return all(
        block >= n or (block == 1 and name in made)
        for name, n, block in zip(_own(op, i), type_.shape, type_.scale.block, strict=True)
    )


def times_scales(
    to: Composition, op: Op, numbers: tuple[Value, Value], scales: tuple[Value, Value]
) -> None:
    """The ops of a product of stored ``numbers``, whose blocks have ``scales``."""
    made, shape, names = op.result, op.result.type.shape, _names(op)
    total = Value(unused(f"{made.name}.sum", to.taken), TensorType(shape, F32))
    to.made.append(replace(op, inputs=numbers, results=(total,)))
    for i, s in enumerate(scales):
        grid = dict(zip(_own(op, i), s.type.shape, strict=True))
        thin = tuple(grid.get(name, 1) for name in names)
        dims = tuple(d for d, (few, n) in enumerate(zip(thin, shape, strict=True)) if few < n)
        factor = to("view", "factor", s, shape=thin)
        factor = to("broadcast", "factors", factor, shape=shape, dims=dims) if dims else factor
        if i == len(scales) - 1:
            to.into("mul", made, total, factor)
        else:
            total = to("mul", "scaled", total, factor, shape=shape)

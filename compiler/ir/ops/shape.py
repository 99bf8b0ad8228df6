"""The same elements in another shape."""

from __future__ import annotations

from math import prod

from ...types import Shape
from ..program import Op
from .definition import Extents, OpDef
from .kinds import mixed
from .signature import define
from .traits import Trait


def _view(op: Op, at: Extents) -> str:
    x, y = op.inputs[0].type, op.result.type
    if prod(x.shape) != prod(y.shape):
        return f"{x.shape} has {x.elements} elements, {y.shape} has {y.elements}"
    if (x.format, x.scale) != (y.format, y.scale):
        return f"a view keeps format and scale, but {x} becomes {y}"
    if x.scale.per_channel and x.shape[:1] != y.shape[:1]:
        return f"a view keeps dimension 0, which has scales, but {x} becomes {y}"
    return ""


def _permuted(op: Op, at: Extents) -> str:
    x, dims = at["*A"], op.ints_attr("dims")
    if sorted(dims) != list(range(len(x))):
        return f"dims={list(dims)} is no order of the {len(x)} dimensions of {x}"
    made = tuple(x[d] for d in dims)
    if made != at["*B"]:
        return f"permute makes shape {made}, not {at['*B']}"
    return mixed((*op.inputs, op.result))


def _joined(op: Op, at: Extents) -> str:
    made, dim = at["*B"], op.int_attr("dim")
    shapes = [v.type.shape for v in op.inputs]
    alike = all(len(s) == len(made) and _rest(s, dim) == _rest(made, dim) for s in shapes)
    if alike and sum(s[dim] for s in shapes) == made[dim]:
        return mixed((*op.inputs, op.result))
    return f"{', '.join(map(str, shapes))} along dimension {dim} do not make {made}"


def _rest(shape: Shape, dim: int) -> Shape:
    return (*shape[:dim], *shape[dim + 1 :])


def _sliced(op: Op, at: Extents) -> str:
    return _part_of(at["*A"], at["*B"], op)


def _unsliced(op: Op, at: Extents) -> str:
    return _part_of(at["*B"], at["*A"], op)


def _part_of(whole: Shape, part: Shape, op: Op) -> str:
    dim, start, step = (op.int_attr(k) for k in ("dim", "start", "step"))
    alike = len(whole) == len(part) and _rest(whole, dim) == _rest(part, dim)
    if alike and start + (part[dim] - 1) * step < whole[dim]:
        return mixed((*op.inputs, op.result))
    return f"{part} is no slice of {whole} along dimension {dim} from {start} by {step}"


def _padded(op: Op, at: Extents) -> str:
    x, y, before = at["*A"], at["*B"], op.ints_attr("before")
    alike = len(x) == len(y) == len(before)
    if alike and all(d + b <= e for d, b, e in zip(x, before, y, strict=True)):
        return ""
    return f"{x} does not lie in {y} at {before}"


KEEPS, MOVES, LINEAR = Trait.KEEPS_CARRIER, Trait.MOVES, Trait.LINEAR
WINDOW, REORDERS, CHEAP, SIGN = Trait.WINDOW, Trait.REORDERS, Trait.CHEAP, Trait.KEEPS_SIGN
PART = "dim: dim of {}, start: int >= 0, step: int >= 1"

SHAPE: tuple[OpDef, ...] = (
    define(
        "view(x: any[*A]) -> y: any[*B]",
        "same elements in row-major order",
        KEEPS, MOVES, LINEAR, WINDOW, REORDERS, CHEAP, SIGN, Trait.KEEPS_CODES, check=_view,
    ),
    define(
        "permute(x: plain[*A]) {dims: dims of x} -> y: plain[*B]",
        "dimension dims[i] of x becomes dimension i",
        KEEPS, MOVES, LINEAR, WINDOW, REORDERS, CHEAP, SIGN, check=_permuted,
    ),
    define(
        "cat(x: plain[?]...) {dim: dim of y} -> y: plain[*B]",
        "one behind the other along dim",
        KEEPS, MOVES, LINEAR, SIGN, check=_joined,
    ),
    define(
        f"slice(x: plain[*A]) {{{PART.format('x')}}} -> y: plain[*B]",
        "start, start + step, ...",
        KEEPS, MOVES, LINEAR, WINDOW, CHEAP, SIGN, check=_sliced,
    ),
    define(
        f"slice_grad(g: float[*A]) {{{PART.format('g')}}} -> dx: float[*B]",
        "zeros elsewhere",
        KEEPS, check=_unsliced,
    ),
    define(
        "pad(x: float[*A]) {before: ints >= 0, value: float} -> y: float[*B]",
        "constant border; before[i] elements ahead of dimension i",
        KEEPS, CHEAP, check=_padded,
    ),
)  # fmt: skip

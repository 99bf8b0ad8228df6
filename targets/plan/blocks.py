"""Values that are scaled in blocks, as codes and scales of their own: targets compile such alone.

    in the program                     in its place
    xs = scale_blocks(x)               m = the largest magnitude of each block; s = block_scale(m),
                                       stored in its format; xs = x (1/s), s repeated in each block
    xs = fit_blocks(x)                 the same with f32 scales, by which x is divided
    xs = scale_blocks_twice(x, m)      the same with scalars of the tensor and numbers of fp8.143
    q = cast(xs), round_stochastic     the same of the stored numbers, whose scale is then 1
    y = dequantize(q), block_numbers   the codes' numbers times s; the former times the tensor's too
    y = outer_scale(q)                 the scalar
    y = stored_numbers(q)              the codes' numbers
    y = linear(q, r), ``factored``     the product of stored numbers, times the scales

An element and a power of two have few enough bits to be multiplied exactly in bf16.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...compiler.formats import FORMATS
from ...compiler.ir import Op, Program, Region, Value, unused
from ...compiler.ir.ops import FOUR_OVER_SIX, SCALES_OF
from ...compiler.types import BlockScale, Scale, Shape, TensorType
from .composition import Composition
from .factored import factored, times_scales


def blocks_apart(program: Program) -> Program:
    """``program`` without types that have a scale for each block."""
    if not any(isinstance(r.type.scale, BlockScale) for _, op in program.ops() for r in op.results):
        return program
    return program.rewrite(_Apart(program.names()).rule, by="blocks_apart")


@dataclass(frozen=True, slots=True)
class Cut:
    """How a tensor is cut into its blocks: filled up to ``whole``, then viewed as ``shape``.

    Its dimensions ``within`` are places in a block, the others count the ``grid`` of blocks.
    """

    whole: Shape
    shape: Shape
    within: tuple[int, ...]
    grid: Shape

    @classmethod
    def of(cls, scale: BlockScale, shape: Shape) -> Cut:
        """Dimensions along which blocks are single numbers stay as they are."""
        grid, dims, within = scale.grid(shape), list[int](), list[int]()
        for count, size in zip(grid, scale.block, strict=True):
            dims.append(count)
            if size > 1:
                within.append(len(dims))
                dims.append(size)
        whole = tuple(n * b for n, b in zip(grid, scale.block, strict=True))
        return cls(whole, tuple(dims), tuple(within), grid)


class _Apart:
    """The stored numbers and the scales of each value so far."""

    def __init__(self, taken: set[str]) -> None:
        self.taken = taken
        self.numbers: dict[Value, Value] = {}
        self.scales: dict[Value, Value] = {}
        self.outer: dict[Value, Value] = {}

    def rule(self, region: Region, op: Op) -> tuple[Op, ...] | None:
        """What stands in the place of an op that makes or reads numbers in blocks."""
        to = Composition(op, self.taken)
        if op.kind in SCALES_OF:
            self._scaled(to, op)
        elif isinstance(op.results[0].type.scale, BlockScale):
            self._rounded(to, op)
        elif factored(op):
            a, b = op.inputs
            numbers, scales = (self.numbers[a], self.numbers[b]), (self.scales[a], self.scales[b])
            times_scales(to, op, numbers, scales)
        elif op.kind == "outer_scale":
            to.into("scale", op.result, self.outer[op.inputs[0]], factor=1.0)
        elif op.inputs and isinstance(op.inputs[0].type.scale, BlockScale):
            self._decoded(to, op)
        else:
            return None
        return tuple(to.made)

    def _scaled(self, to: Composition, op: Op) -> None:
        """Scales, and numbers over them."""
        x, made = op.inputs[0], op.result
        shape, cut = x.type.shape, Cut.of(_scale(made), x.type.shape)
        m = size = _cut_up(to, to("abs", "size", x, shape=shape), cut)
        if cut.within:
            m = to("max", "largest", size, shape=cut.grid, dims=cut.within, keepdim=False)
        if op.kind == "fit_blocks":
            s = to("fit_scale", "s", m, shape=cut.grid, to=op.word_attr("to"))
            self.scales[made] = s
            self.numbers[made] = to("div", "stored", x, _spread(to, s, cut, shape), shape=shape)
            return
        factor = self._once(to, op, m) if op.kind == "scale_blocks" else self._twice(to, op, m)
        self.numbers[made] = to("mul", "stored", x, _spread(to, factor, cut, shape), shape=shape)

    def _once(self, to: Composition, op: Op, m: Value) -> Value:
        """The inverse of the scales, which are powers of two."""
        s = Value(unused(f"{op.result.name}.s", self.taken), m.type)
        to.made.append(replace(op, kind="block_scale", inputs=(m,), results=(s,)))
        self.scales[op.result] = to.into("cast", self._new(op.result, "scales", m.type.shape), s)
        return to("power", "inverse", s, shape=m.type.shape, exponent=-1.0)

    def _twice(self, to: Composition, op: Op, b: Value) -> Value:
        """What the numbers of each block are multiplied by."""
        made, grid, name = op.result, b.type.shape, op.word_attr("to")
        top, room = op.float_attr("top"), op.float_attr("headroom")
        e = to("outer_encoding", "e", op.inputs[1], shape=(), to=name, top=top)
        one = to("constant", "one", shape=(), value=1.0)
        self.outer[made] = to("div", "outer", one, e, shape=())
        s = to("inner_scale", "s", b, e, shape=grid, to=name, headroom=room)
        if op.bool_attr("four_over_six"):
            wide = to(
                "inner_scale", "wide", b, e, shape=grid, to=name, headroom=FOUR_OVER_SIX * room
            )
            near, far = (self._error(to, op, t, e) for t in (s, wide))
            less = to("compare", "less", far, near, shape=grid, relation="lt")
            s = to("where", "chosen", less, wide, s, shape=grid)
        self.scales[made] = to.into("cast", self._new(made, "scales", grid), s)
        return to("inner_factor", "factor", s, e, shape=grid)

    def _error(self, to: Composition, op: Op, s: Value, e: Value) -> Value:
        """What rounding by scales ``s`` leaves of each block, see ``rounding_error``."""
        x, made = op.inputs[0], op.result
        shape, cut = x.type.shape, Cut.of(_scale(made), x.type.shape)
        factor = to("inner_factor", "tried", s, e, shape=cut.grid)
        stored = to("mul", "tried", x, _spread(to, factor, cut, shape), shape=shape)
        element = FORMATS[op.word_attr("to")]
        code = to("cast", "tried", stored, shape=shape, f=element, scaled=Scale.POW2)
        number = to("dequantize", "tried", code, shape=shape)
        number = to("mul", "tried", number, _spread(to, s, cut, shape), shape=shape)
        outer = to.wide("outers", self.outer[made], shape)
        number = to("mul", "tried", number, outer, shape=shape)
        left = to("abs", "left", to("sub", "away", number, x, shape=shape), shape=shape)
        left = _cut_up(to, left, cut)
        if not cut.within:
            return left
        return to("sum", "error", left, shape=cut.grid, dims=cut.within, keepdim=False)

    def _rounded(self, to: Composition, op: Op) -> None:
        """Codes of the stored numbers."""
        read, *drawn = op.inputs
        made, numbers = op.result, self.numbers[read]
        if drawn:  # a rounding that keeps scales wants one
            one = to("constant", "one", shape=(), value=1.0)
            plain = Value(unused(f"{made.name}.plain", self.taken), _of_one_scale(numbers.type))
            numbers = to.into("grad_scale", plain, numbers, one)
        codes = Value(unused(f"{made.name}.codes", self.taken), _of_one_scale(made.type))
        to.made.append(replace(op, inputs=(numbers, *drawn), results=(codes,)))
        self.numbers[made], self.scales[made] = codes, self.scales[read]
        if read in self.outer:
            self.outer[made] = self.outer[read]

    def _decoded(self, to: Composition, op: Op) -> None:
        """Real numbers."""
        (read,) = op.inputs
        if op.kind == "stored_numbers":
            to.into(op.kind, op.result, self.numbers[read])
            return
        assert op.kind in ("dequantize", "block_numbers"), f"{op.kind} reads {read.type}"
        shape, cut = read.type.shape, Cut.of(_scale(read), read.type.shape)
        s = self.scales[read]
        if s.type.format.is_coded:
            s = to("dequantize", "s", s, shape=cut.grid)
        numbers = to("dequantize", "numbers", self.numbers[read], shape=shape)
        each = _spread(to, s, cut, shape)
        if op.kind == "dequantize" and read in self.outer:
            numbers = to("mul", "in_blocks", numbers, each, shape=shape)
            each = to.wide("outers", self.outer[read], shape)
        to.into("mul", op.result, numbers, each)

    def _new(self, made: Value, name: str, grid: Shape) -> Value:
        stored = TensorType(grid, _scale(made).format, Scale.POW2)
        return Value(unused(f"{made.name}.{name}", self.taken), stored)


def _of_one_scale(t: TensorType) -> TensorType:
    return replace(t, scale=Scale.POW2)


def _scale(v: Value) -> BlockScale:
    assert isinstance(v.type.scale, BlockScale), v
    return v.type.scale


def _cut_up(to: Composition, x: Value, cut: Cut) -> Value:
    """Blocks and places in them as dimensions, filled up with 0."""
    shape = x.type.shape
    if cut.whole != shape:
        x = to("pad", "whole", x, shape=cut.whole, before=(0,) * len(shape), value=0.0)
    return to("view", "cut", x, shape=cut.shape)


def _spread(to: Composition, s: Value, cut: Cut, shape: Shape) -> Value:
    """The scale of its block at each place."""
    if not cut.within:
        return s
    wide = to("broadcast", "wide", s, shape=cut.shape, dims=cut.within)
    wide = to("view", "each", wide, shape=cut.whole)
    for dim, (whole, size) in enumerate(zip(cut.whole, shape, strict=True)):
        if whole > size:
            kept = (*wide.type.shape[:dim], size, *wide.type.shape[dim + 1 :])
            wide = to("slice", "inside", wide, shape=kept, dim=dim, start=0, step=1)
    return wide

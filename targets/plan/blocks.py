"""Values that are scaled in blocks, as codes and scales of their own: targets compile such alone.

    in the program                     in its place
    xs = scale_blocks(x)               m = the largest magnitude of each block; s = block_scale(m),
                                       stored in its format; xs = x (1/s), s repeated in each block
    xs = fit_blocks(x)                 the same with f32 scales, by which x is divided
    xs = scale_blocks_twice(x, m)      the same with scalars of the tensor and numbers of fp8.143
    xs = scale_blocks_nested(x)        the same with f32 of larger blocks
    q = cast(xs), round_stochastic     the same of the stored numbers, whose scale is then 1
    y = correct_scales(q, x)           the same codes, other scales: ``corrected``
    y = dequantize(q), block_numbers   the codes' numbers times s
    y = outer_scale(q)                 the scalar
    y = dequantize(q)                  times that too, or the f32 of larger blocks
    y = stored_numbers(q)              the codes' numbers
    y = linear(q, r), ``factored``     the product of stored numbers, times the scales

An element and a power of two have few enough bits to be multiplied exactly in bf16.
"""

from __future__ import annotations

from dataclasses import replace

from ...compiler.formats import F32, FP8_143
from ...compiler.ir import Op, Program, Region, Value, unused
from ...compiler.ir.ops import FOUR_OVER_SIX, SCALES_OF
from ...compiler.spelled import format_of
from ...compiler.types import LEAST_INNER, LEAST_OUTER, BlockScale, Scale, Shape, TensorType
from .composition import Composition
from .corrected import ScaledCodes, corrected
from .cut import Cut, cut_up, largest, spread
from .factored import factored, times_scales


def blocks_apart(program: Program) -> Program:
    """``program`` without types that have a scale for each block."""
    if not any(isinstance(r.type.scale, BlockScale) for _, op in program.ops() for r in op.results):
        return program
    return program.rewrite(_Apart(program.names()).rule, by="blocks_apart")


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
        elif op.kind == "correct_scales":
            made, read = op.result, op.inputs[0]
            q = ScaledCodes(self.numbers[read], self.scales[read], self.outer[read])
            self.numbers[made], self.outer[made] = q.numbers, q.outer
            self.scales[made] = corrected(to, op, q)
        elif isinstance(op.results[0].type.scale, BlockScale):
            self._rounded(to, op)
        elif factored(op):
            a, b = op.inputs
            numbers, scales = (self.numbers[a], self.numbers[b]), (self.scales[a], self.scales[b])
            times_scales(to, op, numbers, scales)
        elif op.kind == "outer_scale":
            to.into("scale", op.result, self.outer[op.inputs[0]], factor=1.0)
        elif op.kind == "amax" and op.inputs[0] in self.numbers:  # of stored numbers
            to.made.append(replace(op, inputs=(self.numbers[op.inputs[0]],)))
        elif op.inputs and isinstance(op.inputs[0].type.scale, BlockScale):
            self._decoded(to, op)
        else:
            return None
        return tuple(to.made)

    def _scaled(self, to: Composition, op: Op) -> None:
        """Scales, and numbers over them."""
        x, made = self._real(to, op.inputs[0]), op.result
        shape, cut = x.type.shape, Cut.of(_scale(made), x.type.shape)
        m = largest(to, x, cut)
        if op.kind == "fit_blocks":
            s = to("fit_scale", "s", m, shape=cut.grid, to=op.word_attr("to"))
            self.scales[made] = s
            self.numbers[made] = to("div", "stored", x, spread(to, s, cut, shape), shape=shape)
            return
        if op.kind == "scale_blocks_nested":
            both = self._nested(to, op, x, m)
            self.numbers[made] = to("div", "stored", x, spread(to, both, cut, shape), shape=shape)
            return
        factor = self._once(to, op, m) if op.kind == "scale_blocks" else self._twice(to, op, m)
        self.numbers[made] = to("mul", "stored", x, spread(to, factor, cut, shape), shape=shape)

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

    def _nested(self, to: Composition, op: Op, x: Value, b: Value) -> Value:
        """What the numbers of each block are divided by, see ``nested_scales``."""
        made, grid, name = op.result, b.type.shape, op.word_attr("to")
        scale = _scale(made)
        assert scale.outer, made
        wide = Cut.of(replace(scale, block=scale.outer), x.type.shape)
        m = largest(to, x, wide)
        m = to("fit_scale", "over", m, shape=wide.grid, to=FP8_143.name)
        m = to("fit_scale", "fitted", m, shape=wide.grid, to=name)
        self.outer[made] = to("clamp_min", "outer", m, shape=wide.grid, low=LEAST_OUTER)
        per = tuple(n // b for n, b in zip(scale.outer, scale.block, strict=True))
        outer = spread(to, self.outer[made], Cut.of(replace(scale, block=per), grid), grid)
        share = to("div", "share", b, outer, shape=grid)
        room = op.float_attr("headroom") / format_of(name).max
        wanted = to("scale", "wanted", share, shape=grid, factor=room)
        s = to("clamp_min", "s", wanted, shape=grid, low=LEAST_INNER)
        self.scales[made] = to.into("cast", self._new(made, "scales", grid), s)
        s = to("dequantize", "inner", self.scales[made], shape=grid)
        return to("mul", "both", s, outer, shape=grid)

    def _error(self, to: Composition, op: Op, s: Value, e: Value) -> Value:
        """What rounding by scales ``s`` leaves of each block, see ``rounding_error``."""
        x, made = op.inputs[0], op.result
        shape, cut = x.type.shape, Cut.of(_scale(made), x.type.shape)
        factor = to("inner_factor", "tried", s, e, shape=cut.grid)
        stored = to("mul", "tried", x, spread(to, factor, cut, shape), shape=shape)
        element = format_of(op.word_attr("to"))
        code = to("cast", "tried", stored, shape=shape, f=element, scaled=Scale.POW2)
        number = to("dequantize", "tried", code, shape=shape)
        number = to("mul", "tried", number, spread(to, s, cut, shape), shape=shape)
        outer = to.wide("outers", self.outer[made], shape)
        number = to("mul", "tried", number, outer, shape=shape)
        left = to("abs", "left", to("sub", "away", number, x, shape=shape), shape=shape)
        left = cut_up(to, left, cut)
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
        by = spread(to, s, cut, shape)
        if op.kind == "dequantize" and read in self.outer:
            numbers = to("mul", "inner", numbers, by, shape=shape)
            outer, larger = self.outer[read], _scale(read).outer
            if larger:
                wide = Cut.of(replace(_scale(read), block=larger), shape)
                by = spread(to, outer, wide, shape)
            else:
                by = to.wide("outers", outer, shape)
        to.into("mul", op.result, numbers, by)

    def _real(self, to: Composition, x: Value) -> Value:
        """The numbers of an operand that may be codes."""
        if not x.type.format.is_coded:
            return x
        real = Value(unused(f"{x.name}.real", self.taken), TensorType(x.type.shape, F32))
        self._decoded(to, Op("dequantize", (x,), (real,), origin=to.op.origin))
        return real

    def _new(self, made: Value, name: str, grid: Shape) -> Value:
        stored = TensorType(grid, _scale(made).format, Scale.POW2)
        return Value(unused(f"{made.name}.{name}", self.taken), stored)


def _of_one_scale(t: TensorType) -> TensorType:
    return replace(t, scale=Scale.POW2)


def _scale(v: Value) -> BlockScale:
    assert isinstance(v.type.scale, BlockScale), v
    return v.type.scale

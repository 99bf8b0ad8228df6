"""The ops that measure a watched tensor, each with a small result; see ``WatchPoint``.

    exponents, codes    how many numbers of each exponent, before and behind the quantizer
    largest, mean       of |x|, of x, before
    xx, xq, error       sums of x x, x q and (x - q)^2, q what the quantizer left of x
    saturated           share of numbers beyond both ends of the format, which became its ends
    clip, scale         of the quantizer, where it is one number
    stored              the codes of a weight, to be compared with later ones
    xf, ff, away        sums of x f, f f and (x - f)^2, f the same tensor in f32 throughout

Sums are taken in f64. A tensor of each step of a loop is measured behind the loop, over all steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...compiler.formats import BF16, F32, I64, Format
from ...compiler.ir import Attr, Op, Value, attrs, unused
from ...compiler.ir.loops import ProgramLoops
from ...compiler.ir.ops.measure import BINS
from ...compiler.types import SCALAR, Scale, TensorType
from .watch_points import WatchPoint

COUNTS = TensorType((BINS,), I64)
# A clip divided by the top of a format and multiplied by it again is not always itself.
SLACK = 1.0 + 2.0**-20


@dataclass(frozen=True, slots=True)
class Gauge:
    """What the ops of a point make: a value of the program by statistic."""

    point: WatchPoint
    results: Mapping[str, Value]


class Measures:
    """The ops that measure points of a program, in order; what two points need is there once."""

    def __init__(self, found: ProgramLoops, taken: set[str]) -> None:
        self.taken, self.of = taken, dict(found.of)
        self.ops: dict[tuple[object, ...], Op] = {}

    def point(self, point: WatchPoint, beside: Value | None) -> Gauge:
        """Measure a point; ``beside`` is the same tensor in f32 throughout."""
        return _Measuring(point, self).run(beside)

    def op(
        self,
        kind: str,
        names: tuple[str, ...],
        x: tuple[Value, ...],
        made: TensorType,
        layer: str,
        attributes: Mapping[str, Attr],
    ) -> tuple[Value, ...]:
        """The results of an op with these operands, which may be there already."""
        key = (kind, *x, *sorted(attributes.items()), made)
        if key not in self.ops:
            results = tuple(Value(unused(name, self.taken), made) for name in names)
            self.ops[key] = Op(kind, x, results, attrs(**attributes), layer)
            around = [self.of[v] for v in x if v in self.of]
            if around and kind != "all_steps":
                self.of |= dict.fromkeys(results, around[-1])
        return self.ops[key].results


class _Measuring:
    """One point."""

    def __init__(self, point: WatchPoint, all_: Measures) -> None:
        self.point, self.all = point, all_
        self.results: dict[str, Value] = {}

    def run(self, beside: Value | None) -> Gauge:
        """All that there is to know of the point."""
        p = self.point
        x = self.whole(p.before)
        self.results["exponents"] = self.op("exponents", "exponents", (x,), COUNTS)
        self.results["largest"] = self.op("amax", "largest", (x,), SCALAR)
        self.results["mean"] = self.mean("mean", x)
        f = None if beside is None else self.whole(beside)
        f = f if f is not None and f.type.shape == x.type.shape else None
        if p.after is not None:
            self.quantized(p.after)
        elif f is None:
            self.dots(("xx", "", "", ""), x, x)
        if f is not None:
            self.dots(("xx", "xf", "ff", "away"), x, f)
        for name, v in (("clip", p.clip), ("scale", p.scale)):
            if v is not None and v.type == SCALAR and v not in self.all.of:
                # A value of its own: an output is made, and a clip may be state.
                self.results[name] = self.each("scale", name, (v,), F32, factor=1.0)
        return Gauge(p, self.results)

    def quantized(self, q: Value) -> None:
        """What the quantizer left of the point."""
        real = q
        if q.type.format.is_coded:
            real = self.op("dequantize", "real", (q,), TensorType(q.type.shape, F32))
            self.ends(q, real)
        x, real = self.whole(self.point.before), self.whole(real)
        self.results["codes"] = self.op("exponents", "codes", (real,), COUNTS)
        self.dots(("xx", "xq", "", "error"), x, real)

    def ends(self, q: Value, real: Value) -> None:
        """Where the format ends, and where numbers were beyond that."""
        x, f = self.point.before, q.type.format
        stored = self.op("stored_numbers", "stored", (q,), TensorType(q.type.shape, F32))
        if self.point.role == "w" and q not in self.all.of:
            self.results["stored"] = stored
        if q.type.scale is Scale.SQUEEZED:
            return
        edge = self.each("scale", "edge", (real,), F32, factor=SLACK)
        top, low = f.max, -f.max if f.signed or f.midrise else 0.0
        above = self.both(("above", "gt", "ge", top), x, edge, stored)
        below = self.both(("below", "lt", "le", low), x, edge, stored)
        ends = self.each("add", "ends", (above, below), BF16)
        self.results["saturated"] = self.mean("saturated", self.whole(ends))

    def both(
        self, which: tuple[str, str, str, float], x: Value, edge: Value, stored: Value
    ) -> Value:
        """1 where a number is beyond an end of the format, and its code is that end."""
        name, beyond, there, end = which
        out = self.each("compare", f"{name}.out", (x, edge), BF16, relation=beyond)
        at = self.each("compare_to", f"{name}.at", (stored,), BF16, relation=there, value=end)
        return self.each("mul", name, (out, at), BF16)

    def whole(self, v: Value) -> Value:
        """A value as it is, or that of all steps of a loop."""
        loop = self.all.of.get(v)
        if loop is None:
            return v
        shape = (v.type.shape[0] * loop.count, *v.type.shape[1:])
        return self.op("all_steps", "steps", (v, loop.counter), TensorType(shape, v.type.format))

    def dots(self, names: tuple[str, str, str, str], x: Value, y: Value) -> None:
        """Four sums, of which those with a name are kept."""
        full = tuple(self.named(n or "sum") for n in names)
        made = self.all.op("dots", full, (x, y), SCALAR, self.point.layer, {})
        self.results = {n: v for n, v in zip(names, made, strict=True) if n} | self.results

    def mean(self, name: str, x: Value) -> Value:
        """Of all numbers."""
        dims = tuple(range(len(x.type.shape)))
        return self.op("mean", name, (x,), SCALAR, dims=dims, keepdim=False)

    def each(
        self, kind: str, name: str, x: tuple[Value, ...], f: Format, **attributes: Attr
    ) -> Value:
        """An op element by element."""
        return self.op(kind, name, x, TensorType(x[0].type.shape, f), **attributes)

    def op(
        self, kind: str, name: str, x: tuple[Value, ...], made: TensorType, **attributes: Attr
    ) -> Value:
        """An op with one result."""
        return self.all.op(kind, (self.named(name),), x, made, self.point.layer, attributes)[0]

    def named(self, name: str) -> str:
        """A name after the point."""
        return f"{self.point.name}.watch.{name}"

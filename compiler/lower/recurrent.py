"""Lowering of recurrent layers: a loop over the steps, and one from the last to the first for dX.

Within a loop ``MODULE.hh_l0`` is a layer like any other: its three products read values of a step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..formats import I64
from ..ir import Value
from ..types import TensorType
from .builder import Builder, CallLowering, shape_of
from .cells import CELLS, GateGrads
from .joint import Arg, Call
from .pointwise import broadcast
from .steps import Carried, StepValues


@dataclass(frozen=True, slots=True)
class Operands:
    """The tensors and settings of a layer of a call, in the order of its schema."""

    gx: Value
    first: Carried
    w: Value
    bias: Value | None
    w_hr: Value | None
    mask: Value | None
    cell: str
    reverse: bool
    name: str

    @classmethod
    def of(cls, b: Builder, args: tuple[Arg, ...]) -> Operands:
        """Of the arguments of a call."""
        *tensors, cell, reverse, name = args
        gx, h, c, w, bias, w_hr, mask = (None if t is None else b.of(t) for t in tensors)
        assert gx is not None and h is not None and w is not None
        assert isinstance(cell, str) and isinstance(name, str)
        return cls(gx, Carried(h, c), w, bias, w_hr, mask, cell, bool(reverse), name)

    def layer(self, part: str) -> str:
        """``MODULE.hh_l0`` of ``MODULE.l0``."""
        module, dot, name = self.name.rpartition(".")
        return f"{module}{dot}{part}_{name}"


@dataclass(eq=False, slots=True)
class TimeLoop:
    """A loop that is being written: ``sums`` are what its steps add up, by name."""

    b: Builder
    count: int
    reverse: bool
    counter: Value = field(init=False)

    def __post_init__(self) -> None:
        whole = [("t", TensorType((), I64))]
        (self.counter,) = self.b.emit("steps", (), whole, count=self.count, reverse=self.reverse)

    def rows(self, x: Value, part: str) -> Value:
        """The rows of a step."""
        shape = (shape_of(x)[0] // self.count, *shape_of(x)[1:])
        return self.b.one("rows_of_step", (x, self.counter), part, shape)

    def carried(self, first: Value, part: str) -> Value:
        """What ``feed`` takes from step to step."""
        return self.b.one("carried", (first, self.counter), part, shape_of(first))

    def feed(self, x: Value, after: Value, part: str) -> Value:
        """What is carried, behind the last step."""
        return self.b.one("feed", (x, after), part, shape_of(x))

    def every(self, x: Value, part: str) -> Value:
        """The rows of all steps."""
        shape = (shape_of(x)[0] * self.count, *shape_of(x)[1:])
        return self.b.one("all_steps", (x, self.counter), part, shape)

    def total(self, x: Value, part: str) -> Value:
        """The sum over all steps."""
        so_far = self.carried(self.b.constant(shape_of(x), 0.0), f"{part}.sum")
        added = self.b.one("add", (so_far, x), f"{part}.added", shape_of(x))
        return self.feed(so_far, added, part)


@contextmanager
def _as_layer(b: Builder, name: str) -> Iterator[None]:
    before, b.origin = b.origin, name
    try:
        yield
    finally:
        b.origin = before


def _linear(b: Builder, layer: str, x: Value, w: Value, bias: Value | None = None) -> Value:
    with _as_layer(b, layer):
        shape = (shape_of(x)[0], shape_of(w)[0])
        y = b.one("linear", (x, w), "y", shape)
        return y if bias is None else b.one("add_bias", (y, bias), "biased", shape)


def recurrent(b: Builder, call: Call) -> None:
    """``qtr.recurrent``: rows of all steps, and what is carried behind the last one."""
    it = Operands.of(b, call.args)
    loop = TimeLoop(b, shape_of(it.gx)[0] // shape_of(it.first.h)[0], it.reverse)
    gx = loop.rows(it.gx, "gx")
    before = Carried(loop.carried(it.first.h, "h.before"))
    if it.first.c is not None:
        before = Carried(before.h, loop.carried(it.first.c, "c.before"))
    product = _linear(b, it.layer("hh"), before.h, it.w, it.bias)
    made, kept = CELLS[it.cell].forward(b, gx, product, before)
    unprojected = made.h
    if it.w_hr is not None:
        made = Carried(_linear(b, it.layer("hr"), made.h, it.w_hr), made.c)
    mask = None if it.mask is None else loop.rows(it.mask, "mask")
    if mask is not None:
        made = Carried(
            _kept_where(b, mask, made.h, before.h),
            _kept_where(b, mask, made.c, before.c) if made.c and before.c else None,
        )
    last = [loop.feed(before.h, made.h, "h.last")]
    if before.c is not None and made.c is not None:
        last.append(loop.feed(before.c, made.c, "c.last"))
    hs = loop.every(made.h, "hs")
    b.bind(call, hs, *last)
    b.steps_of[hs] = StepValues(before, kept, unprojected, mask)


def _kept_where(b: Builder, mask: Value, new: Value, old: Value) -> Value:
    """``new`` where the sequence of a sample still goes on."""
    shape = shape_of(new)
    return b.one("where", (broadcast(b, mask, shape), new, old), "masked", shape)


def recurrent_grad(b: Builder, call: Call) -> None:
    """``qtr.recurrent_grad``: the gradients of gx, h, c, w, the bias and the projection."""
    ghs, gh, gc, hs, *rest = call.args
    it = Operands.of(b, tuple(rest))
    then = b.steps_of[b.of(hs)]
    loop = TimeLoop(b, shape_of(it.gx)[0] // shape_of(it.first.h)[0], not it.reverse)
    carried = Carried(loop.carried(b.of(gh), "dh.behind"))
    if it.first.c is not None:
        carried = Carried(carried.h, loop.carried(b.of(gc), "dc.behind"))
    dh = carried.h
    if b.constants.get(b.of(ghs)) != 0.0:
        dh = b.one("add", (loop.rows(b.of(ghs), "dhs"), dh), "dh", shape_of(dh))
    work = _Gradient(b, it, then, loop)
    b.bind(call, *work.run(dh, carried))


@dataclass(frozen=True, slots=True)
class _Gradient:
    """The backward of one layer in one direction."""

    b: Builder
    it: Operands
    then: StepValues
    loop: TimeLoop

    def run(self, dh: Value, carried: Carried) -> tuple[Value | None, ...]:
        """The gradients of ``Operands``, in their order."""
        b, it, loop = self.b, self.it, self.loop
        dc, passed = carried.c, GateGrads(dh, dh)
        if self.then.mask is not None:
            dh, over_h = self._split(dh)
            dc, over_c = self._split(dc) if dc else (None, None)
            passed = GateGrads(dh, dh, over_c, over_h)
        w_hr = None
        if it.w_hr is not None:
            dh, w_hr = self._products("hr", dh, self.then.unprojected, it.w_hr)
        made = CELLS[it.cell].backward(b, dh, dc, self.then.before, self.then.kept)
        before, w = self._products("hh", made.product, self.then.before.h, it.w)
        before = self._sum(before, made.h, passed.h)
        h = loop.feed(carried.h, before, "dh")
        c = None
        if carried.c is not None and made.c is not None:
            c = loop.feed(carried.c, self._sum(made.c, passed.c), "dc")
        gx = loop.every(made.gx, "dgx")
        bias = None
        if it.bias is not None:
            rows = loop.every(made.product, "dproduct")
            with _as_layer(b, it.layer("hh")):
                bias = b.one("sum_channels", (rows,), "db", shape_of(it.bias))
        return gx, h, c, w, bias, w_hr

    def _products(self, part: str, g: Value, x: Value, w: Value) -> tuple[Value, Value]:
        """dX of a step, and dW of all steps."""
        b = self.b
        with _as_layer(b, self.it.layer(part)):
            dx = b.one("linear_input_grad", (g, w), "dx", shape_of(x))
            dw = b.one("linear_weight_grad", (g, x), "dw.step", shape_of(w))
            return dx, self.loop.total(dw, "dw")

    def _split(self, g: Value) -> tuple[Value, Value]:
        """The gradient of what a step made, and of what it passed on where a sequence had ended."""
        b, shape = self.b, shape_of(g)
        assert self.then.mask is not None
        wide = broadcast(b, self.then.mask, shape)
        made = b.one("mul", (g, wide), "made", shape)
        return made, b.one("sub", (g, made), "passed", shape)

    def _sum(self, x: Value, *others: Value | None) -> Value:
        for other in others:
            if other is not None:
                x = self.b.one("add", (x, other), "dbefore", shape_of(x))
        return x


RECURRENT: Mapping[str, CallLowering] = {
    "qtr.recurrent.default": recurrent,
    "qtr.recurrent_grad.default": recurrent_grad,
}

"""Cells of recurrent layers: what a step makes of gates and of what is carried; its gradient.

    cell            gates z = gx + h W^T (of a GRU kept apart, with a bias)
    lstm            i, f, g, o = s(z0), s(z1), tanh(z2), s(z3); c' = f c + i g; h' = o tanh(c')
    gru             r, u = s(z0), s(z1); n = tanh(gx2 + r (h W^T + b)2); h' = n + u (h - n)
    rnn_tanh, _relu h' = tanh(z), relu(z)

Gradients are written so that each op reads a gradient: its place in the backward's loop is then its
own. With s the sigmoid, s' = s - s^2; the gradient of tanh is 1 - tanh^2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..ir import Value
from .builder import Builder, shape_of
from .shape import sliced
from .steps import Carried, StepKept


@dataclass(frozen=True, slots=True)
class GateGrads:
    """Gradients of gx and of the product with h, of c, and the part of h's that is no product's."""

    gx: Value
    product: Value
    c: Value | None = None
    h: Value | None = None


class Cell(Protocol):
    """One kind of cell; ``keep`` is what its gradient reads, by name."""

    def forward(
        self, b: Builder, gx: Value, product: Value, before: Carried
    ) -> tuple[Carried, StepKept]:
        """What is carried on, ahead of a projection."""

    def backward(
        self, b: Builder, dh: Value, dc: Value | None, before: Carried, kept: StepKept
    ) -> GateGrads:
        """From the gradients of what is carried on, ahead of a projection."""


def _two(b: Builder, kind: str, x: Value, y: Value, part: str) -> Value:
    return b.one(kind, (x, y), part, shape_of(x))


def _of(b: Builder, kind: str, x: Value, part: str) -> Value:
    return b.one(kind, (x,), part, shape_of(x))


def _gates(b: Builder, z: Value, count: int) -> list[Value]:
    """The gates of all units, one beside the other."""
    units = shape_of(z)[1] // count
    return [sliced(b, z, 1, i * units, units) for i in range(count)]


def _beside(b: Builder, parts: Sequence[Value], part: str) -> Value:
    rows, units = shape_of(parts[0])
    return b.one("cat", parts, part, (rows, units * len(parts)), dim=1)


def _through_sigmoid(b: Builder, g: Value, s: Value, part: str) -> Value:
    """g (s - s^2)"""
    once = _two(b, "mul", g, s, part)
    return _two(b, "sub", once, _two(b, "mul", once, s, part), part)


def _through_tanh(b: Builder, g: Value, y: Value, part: str) -> Value:
    """g (1 - y^2)"""
    twice = _two(b, "mul", _two(b, "mul", g, y, part), y, part)
    return _two(b, "sub", g, twice, part)


class Lstm:
    """Long short-term memory."""

    def forward(
        self, b: Builder, gx: Value, product: Value, before: Carried
    ) -> tuple[Carried, StepKept]:
        """See ``Cell``."""
        assert before.c is not None
        parts = _gates(b, _two(b, "add", gx, product, "gates"), 4)
        kinds = ("sigmoid", "sigmoid", "tanh", "sigmoid")
        i, f, g, o = (
            _of(b, k, z, n) for k, z, n in zip(kinds, parts, ("i", "f", "g", "o"), strict=True)
        )
        kept_c, new = _two(b, "mul", f, before.c, "kept"), _two(b, "mul", i, g, "new")
        c = _two(b, "add", kept_c, new, "c")
        squashed = _of(b, "tanh", c, "tanh_c")
        h = _two(b, "mul", o, squashed, "h")
        return Carried(h, c), {"i": i, "f": f, "g": g, "o": o, "tanh_c": squashed}

    def backward(
        self, b: Builder, dh: Value, dc: Value | None, before: Carried, kept: StepKept
    ) -> GateGrads:
        """See ``Cell``."""
        assert dc is not None and before.c is not None
        i, f, g, o, squashed = (kept[name] for name in ("i", "f", "g", "o", "tanh_c"))
        do = _two(b, "mul", dh, squashed, "do")
        inner = _through_tanh(b, _two(b, "mul", dh, o, "dtanh"), squashed, "dc.inner")
        total = _two(b, "add", dc, inner, "dc")
        products = {"di": g, "df": before.c, "dg": i, "dc.before": f}
        di, df, dg, dbefore = (_two(b, "mul", total, v, n) for n, v in products.items())
        dz = (
            _through_sigmoid(b, di, i, "dz.i"),
            _through_sigmoid(b, df, f, "dz.f"),
            _through_tanh(b, dg, g, "dz.g"),
            _through_sigmoid(b, do, o, "dz.o"),
        )
        both = _beside(b, dz, "dgates")
        return GateGrads(both, both, c=dbefore)


class Gru:
    """Gated recurrent units, the reset behind the product as in cuDNN and torch."""

    def forward(
        self, b: Builder, gx: Value, product: Value, before: Carried
    ) -> tuple[Carried, StepKept]:
        """See ``Cell``."""
        of_x, of_h = _gates(b, gx, 3), _gates(b, product, 3)
        r, u = (
            _of(b, "sigmoid", _two(b, "add", x, h, n), n)
            for x, h, n in zip(of_x[:2], of_h[:2], ("r", "u"), strict=True)
        )
        reset = _two(b, "mul", r, of_h[2], "reset")
        n = _of(b, "tanh", _two(b, "add", of_x[2], reset, "n"), "n")
        apart = _two(b, "sub", before.h, n, "apart")
        h = _two(b, "add", n, _two(b, "mul", u, apart, "kept"), "h")
        return Carried(h), {"r": r, "u": u, "n": n, "of_h": of_h[2]}

    def backward(
        self, b: Builder, dh: Value, dc: Value | None, before: Carried, kept: StepKept
    ) -> GateGrads:
        """See ``Cell``."""
        r, u, n, of_h = (kept[name] for name in ("r", "u", "n", "of_h"))
        direct = _two(b, "mul", dh, u, "dh.direct")
        dn = _through_tanh(b, _two(b, "sub", dh, direct, "dn"), n, "dz.n")
        of_before, of_n = _two(b, "mul", dh, before.h, "du"), _two(b, "mul", dh, n, "du")
        du = _through_sigmoid(b, _two(b, "sub", of_before, of_n, "du"), u, "dz.u")
        dr = _through_sigmoid(b, _two(b, "mul", dn, of_h, "dr"), r, "dz.r")
        reset = _two(b, "mul", dn, r, "dreset")
        gx, product = (_beside(b, (dr, du, last), "dgates") for last in (dn, reset))
        return GateGrads(gx, product, h=direct)


@dataclass(frozen=True, slots=True)
class Plain:
    """One function of the sum."""

    function: str

    def forward(
        self, b: Builder, gx: Value, product: Value, before: Carried
    ) -> tuple[Carried, StepKept]:
        """See ``Cell``."""
        h = _of(b, self.function, _two(b, "add", gx, product, "gates"), "h")
        return Carried(h), {"h": h}

    def backward(
        self, b: Builder, dh: Value, dc: Value | None, before: Carried, kept: StepKept
    ) -> GateGrads:
        """See ``Cell``."""
        if self.function == "tanh":
            dz = _through_tanh(b, dh, kept["h"], "dgates")
        else:
            dz = _two(b, "relu_grad", dh, kept["h"], "dgates")
        return GateGrads(dz, dz)


CELLS: Mapping[str, Cell] = {
    "lstm": Lstm(),
    "gru": Gru(),
    "rnn_tanh": Plain("tanh"),
    "rnn_relu": Plain("relu"),
}

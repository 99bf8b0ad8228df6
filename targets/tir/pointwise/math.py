"""Rules of functions of a number, comparisons and choices; see ``ops``."""

from __future__ import annotations

import math
from collections.abc import Callable

from tvm import tirx as tir

from .. import circle
from .. import math as functions
from ..expr import Expr, Vectors
from .point import Evaluate, Point
from .space import Node

# All are false where one side is NaN. TVM's "not equal" is too, so that is left to ``_compare``.
RELATIONS: dict[str, Callable[[Expr, Expr], Expr]] = {
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "eq": lambda a, b: tir.EQ(a, b),
    "ge": lambda a, b: a >= b,
    "gt": lambda a, b: a > b,
}
OPPOSITE = {"gt": "le", "lt": "ge"}


def _wide(function: Callable[[Vectors, Expr], Expr]) -> Evaluate:
    """A function that is taken in f64."""

    def rule(p: Point, n: Node) -> None:
        v = Vectors(p.v.code, p.v.lanes, "float64")
        made = function(v, v.f(v.cast(p.number(n.inputs[0]), "float64")))
        p.put(n.results[0], p.v.f(p.v.cast(made, "float32")))

    return rule


def power(p: Point, n: Node) -> None:
    """x^exponent"""
    _wide(lambda v, x: functions.power(v, x, n.number("exponent")))(p, n)


def absolute(p: Point, n: Node) -> None:
    """|x|"""
    p.choose(n.results[0], n.inputs[0], p.v.magnitude(p.number(n.inputs[0])))


def sign(p: Point, n: Node) -> None:
    """1, 0 or -1; 0 for NaN."""
    x, v = p.number(n.inputs[0]), p.v
    below = v.f(v.where(x < v.splat(0.0), v.splat(-1.0), v.splat(0.0)))
    p.put(n.results[0], v.f(v.where(x > v.splat(0.0), v.splat(1.0), below)))


def floor(p: Point, n: Node) -> None:
    """The next integer below."""
    p.put(n.results[0], p.v.floor(p.number(n.inputs[0])))


def round_(p: Point, n: Node) -> None:
    """To the nearest integer, ties to even."""
    p.put(n.results[0], p.v.rint(p.number(n.inputs[0])))


def sqrt(p: Point, n: Node) -> None:
    """Correctly rounded."""
    p.put(n.results[0], p.v.sqrt(p.number(n.inputs[0])))


def clamp_max(p: Point, n: Node) -> None:
    """NaN stays."""
    x, high = p.number(n.inputs[0]), p.v.splat(n.number("high"))
    p.put(n.results[0], p.v.f(p.v.where(x > high, high, x)))


def shift(p: Point, n: Node) -> None:
    """x + by"""
    p.put(n.results[0], p.v.add(p.number(n.inputs[0]), p.v.splat(n.number("by"))))


def div(p: Point, n: Node) -> None:
    """a / b"""
    a, b = (p.number(i) for i in n.inputs)
    p.put(n.results[0], p.v.div(a, b))


def _better(relation: str) -> Evaluate:
    """The better of two; NaN if one is."""

    def rule(p: Point, n: Node) -> None:
        a, b = (p.number(i) for i in n.inputs)
        worse = p.v.f(p.v.where(RELATIONS[OPPOSITE[relation]](a, b), b, p.v.add(a, b)))
        p.put(n.results[0], p.v.f(p.v.where(RELATIONS[relation](a, b), a, worse)))

    return rule


def _compare(p: Point, n: Node, b: Expr) -> None:
    relation, a = str(n.attr("relation")), p.number(n.inputs[0])
    yes, no = p.v.splat(1.0), p.v.splat(0.0)
    if relation == "ne":
        relation, yes, no = "eq", no, yes
    p.put(n.results[0], p.v.f(p.v.where(RELATIONS[relation](a, b), yes, no)))


def compare(p: Point, n: Node) -> None:
    """1 or 0."""
    _compare(p, n, p.number(n.inputs[1]))


def compare_to(p: Point, n: Node) -> None:
    """1 or 0."""
    _compare(p, n, p.v.splat(n.number("value")))


def where(p: Point, n: Node) -> None:
    """a where c is not 0, else b."""
    c, a, b = (p.number(i) for i in n.inputs)
    p.put(n.results[0], p.v.f(p.v.where(tir.EQ(c, p.v.splat(0.0)), b, a)))


def masked(p: Point, n: Node) -> None:
    """A number where c is not 0, else x."""
    c, x = (p.number(i) for i in n.inputs)
    value = p.v.splat(n.number("value"))
    p.put(n.results[0], p.v.f(p.v.where(tir.EQ(c, p.v.splat(0.0)), x, value)))


def within(p: Point, n: Node) -> None:
    """x in a range, else NaN."""
    x, v = p.number(n.inputs[0]), p.v
    nan = v.splat(math.nan)
    above = v.f(v.where(x >= v.splat(n.number("low")), x, nan))
    p.put(n.results[0], v.f(v.where(x <= v.splat(n.number("high")), above, nan)))


MATH: dict[str, Evaluate] = {
    "abs": absolute,
    "sign": sign,
    "floor": floor,
    "round": round_,
    "sqrt": sqrt,
    "exp": _wide(functions.exp_any),
    "expm1": _wide(functions.expm1),
    "log": _wide(functions.log_any),
    "log1p": _wide(functions.log1p),
    "sin": _wide(circle.sin),
    "cos": _wide(circle.cos),
    "tanh": _wide(functions.tanh),
    "sigmoid": _wide(functions.sigmoid),
    "erf": _wide(functions.erf),
    "power": power,
    "clamp_max": clamp_max,
    "shift": shift,
    "div": div,
    "maximum": _better("gt"),
    "minimum": _better("lt"),
    "compare": compare,
    "compare_to": compare_to,
    "where": where,
    "masked": masked,
    "within": within,
}

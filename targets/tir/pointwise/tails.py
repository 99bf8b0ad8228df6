"""What the reductions of a pointwise kernel add up at each point, and what they make of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from ..expr import Expr, Vectors
from .ops import limit_of, regions
from .point import Frame, Point
from .space import Node

At = Callable[[Point], Expr]


@dataclass(frozen=True, eq=False, slots=True)
class ChannelSum:
    """A sum over rows, one a channel; ``finish`` makes the result of it in f64."""

    output: int
    at: At
    finish: Callable[[Vectors, Expr, Callable[[int], Expr]], Expr] | None = None
    single: int = 1  # vectors in f32 and in f64 that a block needs
    double: int = 1


@dataclass(frozen=True, eq=False, slots=True)
class Moments:
    """Mean and biased variance of each channel; an output is -1 where nobody wants it."""

    mean: int
    var: int
    at: At
    single: int = 3  # shift, sum of x - shift, sum of its square
    double: int = 2  # mean, sum of squared distances from it


@dataclass(frozen=True, eq=False, slots=True)
class LaneSum:
    """A sum over all elements."""

    output: int
    at: At


@dataclass(frozen=True, eq=False, slots=True)
class LaneMax:
    """The largest of bit patterns over all elements: of |x|, where NaN is larger than any."""

    output: int
    at: At


def channel_tails(frame: Frame) -> list[ChannelSum | Moments]:
    """The reductions to one number a channel."""
    made = list[ChannelSum | Moments]()
    for node in frame.spec.nodes:
        if node.kind in CHANNEL_TAILS:
            made += CHANNEL_TAILS[node.kind](node, frame.spec.outputs)
    return made


def lane_tails(frame: Frame) -> list[LaneSum | LaneMax]:
    """The reductions to one number."""
    nodes = (n for n in frame.spec.nodes if n.kind in LANE_TAILS)
    made = (LANE_TAILS[node.kind](node) for node in nodes)
    return [t for t in made if t.output in frame.spec.outputs]


def _number(value: int) -> At:
    return lambda p: p.number(value)


def _size(value: int) -> At:
    return lambda p: p.v.bits(p.number(value)) & p.v.u(0x7FFFFFFF)


def _first_size(node: Node) -> At:
    """The bits of |x| in the first step, else 0."""

    def at(p: Point) -> Expr:
        state = p.v.splat(p.frame.scalars[node, "state"])
        return p.v.where(state.equal(p.v.splat(0.0)), _size(node.inputs[0])(p), p.v.u(0))

    return at


def _dgamma(node: Node) -> ChannelSum:
    """sum of g * (x - mean), times 1 / sqrt(var + eps) at the end"""
    g, x, mean, var = node.inputs

    def at(p: Point) -> Expr:
        center = p.v.f(p.along(p.frame.data[mean], 1))
        return p.v.mul(p.number(g), p.v.sub(p.number(x), center))

    def finish(v: Vectors, total: Expr, parameter: Callable[[int], Expr]) -> Expr:
        spread = v.add(v.f(v.cast(parameter(var), "float64")), v.splat(node.number("eps")))
        return v.div(total, v.sqrt(spread))

    return ChannelSum(node.results[0], at, finish)


def _clipped(node: Node) -> At:
    """g above the clip, minus g below a signed one."""

    def at(p: Point) -> Expr:
        g, code, zero = p.number(node.inputs[0]), p.code(node.inputs[1]), p.v.splat(0.0)
        below = _negative(p, code == p.v.u(0), g) if node.attr("signed") else zero
        return p.v.f(p.v.where(code == p.v.u(2), g, below))

    return at


def _clipped_plus(node: Node) -> At:
    """Also g * (rint(z) - z) / top inside."""

    def at(p: Point) -> Expr:
        v = p.v
        g, x = (p.number(i) for i in node.inputs[:2])
        below, above = regions(p, node, x)
        z = v.mul(x, limit_of(p, node, "ratio"))
        error = v.mul(v.sub(v.rint(z), z), v.splat(1.0 / node.number("top")))
        outside = v.f(v.splat(0.0) - g) if node.attr("signed") else v.splat(0.0)
        inside = v.f(v.where(below, outside, v.mul(g, error)))
        return v.f(v.where(above, g, inside))

    return at


def _negative(p: Point, condition: Expr, g: Expr) -> Expr:
    return p.v.f(p.v.where(condition, p.v.f(p.v.splat(0.0) - g), p.v.splat(0.0)))


def _batch_stats(node: Node, wanted: Collection[int]) -> Sequence[ChannelSum | Moments]:
    mean, var = (r if r in wanted else -1 for r in node.results)
    return [Moments(mean, var, _number(node.inputs[0]))]


def _sum_channels(node: Node, wanted: Collection[int]) -> Sequence[ChannelSum | Moments]:
    return [ChannelSum(node.results[0], _number(node.inputs[0]))]


def _grad_stats(node: Node, wanted: Collection[int]) -> Sequence[ChannelSum | Moments]:
    sums = (_dgamma(node), ChannelSum(node.results[1], _number(node.inputs[0])))
    return [s for s in sums if s.output in wanted]


# For each tail what it reduces; ``wanted`` are the results that are stored.
CHANNEL_TAILS: dict[str, Callable[[Node, Collection[int]], Sequence[ChannelSum | Moments]]] = {
    "batch_stats": _batch_stats,
    "sum_channels": _sum_channels,
    "batch_norm_grad_stats": _grad_stats,
}
LANE_TAILS: dict[str, Callable[[Node], LaneSum | LaneMax]] = {
    "amax": lambda node: LaneMax(node.results[0], _size(node.inputs[0])),
    "amax_first": lambda node: LaneMax(node.results[0], _first_size(node)),
    "pact_grad": lambda node: LaneSum(node.results[1], _clipped(node)),
    "pact_plus_grad": lambda node: LaneSum(node.results[1], _clipped_plus(node)),
}

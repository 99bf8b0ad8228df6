"""Reduction of all elements to a few numbers, in f64 and in an order that the shape alone fixes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx as tir

from ...plan.layout import Layout
from ..expr import Code, Expr, Vectors, i32, load, ramp
from ..formats import from_memory
from ..pointwise.space import memory_dims, memory_strides
from .grid import Spot, flat
from .shape import unravel

BLOCK = 16384
MOST_BLOCKS = 64

Join = Callable[[Expr, Expr], Expr]
Terms = Callable[[Spot], Sequence[Expr]]


def add(a: Expr, b: Expr) -> Expr:
    """a + b"""
    return a + b


def wide(v: Vectors) -> Vectors:
    """The same lanes in f64."""
    return Vectors(v.code, v.lanes, "float64")


def total(
    code: Code,
    layouts: Sequence[Layout],
    lanes: int,
    terms: Terms,
    joins: Sequence[Join],
    start: float = 0.0,
) -> list[Expr]:
    """Reduce f64 ``terms`` (at least ``start`` where not added) over all elements; f64 names.

    ``terms`` reads values of one shape with ``read``. Fixed blocks of elements keep a vector each.
    """
    elements = layouts[0].type.elements
    lanes = lanes if flat(layouts) else 1
    blocks = max(1, min(MOST_BLOCKS, -(-elements // BLOCK)))
    each = -(-elements // blocks // lanes) * lanes
    size = len(joins) * (lanes + 1)
    with code.workspace("float64", blocks * size) as partial:
        with code.blocks(blocks) as block:
            first = tir.min(block * i32(each), i32(elements))
            count = tir.min(first + i32(each), i32(elements)) - first
            sums = line(code, first, count, lanes, terms, joins, start)
            for i, (vector, single) in enumerate(sums):
                at = block * i32(size) + i32(i * (lanes + 1))
                code.store(partial, ramp(at, lanes), load(vector, ramp(0, lanes)))
                code.store(partial, at + i32(lanes), load(single, i32(0)))
        results = []
        for i, join in enumerate(joins):
            result = code.local("float64", 1)
            code.store(result, i32(0), tir.const(start, "float64"))
            with code.loop(blocks) as block, code.loop(lanes + 1) as lane:
                x = load(partial, block * i32(size) + i32(i * (lanes + 1)) + lane)
                code.store(result, i32(0), join(load(result, i32(0)), x))
            results.append(code.fence(load(result, i32(0)), "float64", 1))
    return results


def line(
    code: Code,
    first: Expr,
    count: Expr,
    lanes: int,
    terms: Terms,
    joins: Sequence[Join],
    start: float = 0.0,
) -> list[tuple[Expr, Expr]]:
    """Reduce ``count`` elements from ``first`` on: for each term a vector, and the rest's number.

    ``terms`` gets spots whose only dimension, 0, counts the elements.
    """
    sums = []
    for _ in joins:
        pair = code.local("float64", lanes), code.local("float64", 1)
        for buffer, n in zip(pair, (lanes, 1), strict=True):
            code.store(buffer, ramp(0, n), Vectors(code, n, "float64").splat(start))
        sums.append(pair)

    def take(s: Spot, which: int) -> None:
        everything = ramp(0, s.v.lanes)
        for x, join, pair in zip(terms(s), joins, sums, strict=True):
            code.store(pair[which], everything, join(load(pair[which], everything), x))

    vectors = tir.floordiv(count, i32(lanes))
    with code.loop(vectors) as j:
        take(Spot(Vectors(code, lanes), {0: first + j * i32(lanes)}, 0), 0)
    if lanes > 1:
        with code.loop(count - vectors * i32(lanes)) as j:
            take(Spot(Vectors(code, 1), {0: first + vectors * i32(lanes) + j}, 0), 1)
    return sums


def across(code: Code, pair: tuple[Expr, Expr], lanes: int, join: Join) -> Expr:
    """One f64 number of the vector and the rest that ``line`` gives."""
    vector, single = pair
    with code.loop(lanes) as lane:
        code.store(single, i32(0), join(load(single, i32(0)), load(vector, lane)))
    return code.fence(load(single, i32(0)), "float64", 1)


def read(s: Spot, buffer: Expr, layout: Layout, layouts: Sequence[Layout]) -> Expr:
    """The f32 numbers of a carrier at elements counted in the memory order of ``layouts[0]``."""
    if flat(layouts):
        raw = s.raw(buffer, layout.dtype, {0: 1})
    else:
        dims, shape = memory_dims(layouts[0]), layouts[0].type.shape
        places = unravel(s.at[0], tuple(shape[d] for d in dims))
        at = {d: places[i] for i, d in enumerate(dims)}
        raw = Spot(s.v, at, -1).raw(buffer, layout.dtype, memory_strides(layout))
    return s.v.f(from_memory(s.v, raw, layout.type.format))

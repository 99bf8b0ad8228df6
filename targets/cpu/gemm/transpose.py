"""Vectors as the rows of a matrix: interleaved, or as its columns."""

from __future__ import annotations

from collections.abc import Sequence

from ...tir.expr import Code, Expr, load, shuffle
from .vectors import store


def together(rows: Sequence[Expr], lanes: int) -> Expr:
    """The first elements of all rows, then the second ones: ``lanes`` columns."""
    count = len(rows)
    return shuffle(rows, [(i % count) * lanes + i // count for i in range(count * lanes)])


def transpose(code: Code, rows: Sequence[Expr]) -> list[Expr]:
    """As many vectors of int32 as each has lanes, a power of two, as columns: rounds that swap
    halves of blocks."""
    count = len(rows)
    held = [_held(code, row, count) for row in rows]
    step = count // 2
    while step:
        stay = [j if not j & step else count + j - step for j in range(count)]
        move = [j + step if not j & step else count + j for j in range(count)]
        for i in (i for i in range(count) if not i & step):
            pair = [load(held[i], 0, count), load(held[i + step], 0, count)]
            held[i] = _held(code, shuffle(pair, stay), count)
            held[i + step] = _held(code, shuffle(pair, move), count)
        step //= 2
    return [load(row, 0, count) for row in held]


def _held(code: Code, vector: Expr, lanes: int) -> Expr:
    """A local array with the vector, which LLVM keeps in a register."""
    place = code.local("int32", lanes)
    store(code, place, 0, vector, lanes)
    return place

"""Lists of levels: the numbers of formats that no arithmetic on bits gives.

Dettmers, "8-Bit Approximations for Parallelism in Deep Learning" (2015), the dynamic data type, as
torchao's ``create_dynamic_map`` lays it out: each decade below 1 has twice as many levels as the
one below it. torchao computes them in f32, here each is the nearest f32 of the exact number.
"""

from __future__ import annotations

import struct
from fractions import Fraction

Levels = tuple[float, ...]


def dynamic(bits: int, decades: int, *, signed: bool) -> Levels:
    """0, 1 and the middles of equal parts of each decade from ``10^-decades`` to 1, ascending.

    The lowest decade has one part, or two where there are no negative levels. 1 has no negative.
    """
    positive = [
        level
        for i in range(decades)
        for level in _middles(1 << (i + (not signed)), Fraction(10) ** (i + 1 - decades))
    ]
    below = [-x for x in reversed(positive)] if signed else []
    made = (*below, Fraction(0), *positive, Fraction(1))
    assert len(made) == 1 << bits, f"{len(made)} levels are not those of {bits} bits"
    return tuple(map(_f32, made))


def linear(bits: int) -> Levels:
    """Equal steps up to 1, without 0."""
    count = 1 << bits
    return tuple((i + 1) / count for i in range(count))


def _middles(parts: int, top: Fraction) -> list[Fraction]:
    """The middles of equal parts of ``top / 10`` to ``top``."""
    width = top * Fraction(9, 10) / parts
    return [top / 10 + width * (j + Fraction(1, 2)) for j in range(parts)]


def _f32(x: Fraction) -> float:
    (made,) = struct.unpack("<f", struct.pack("<f", float(x)))
    return float(made)

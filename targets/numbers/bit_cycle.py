"""Where a cyclic precision schedule changes its bits: numbers that need no cosine at run time."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Angles are counted in sixths of half a turn: cosines of whole sixths are the rational ones (and
# the root of 3/4, which is none), so exactly there a number of bits can lie halfway.
SIXTHS = 6.0
LEAST_BITS = 2  # a range test starts there, and no quantizer has fewer


@dataclass(frozen=True, slots=True)
class Crossing:
    """``bits`` hold from r/T > at/6 on; with ``inclusive`` from r/T = at/6 on."""

    bits: int
    at: float
    inclusive: bool


def crossings(low: int, high: int) -> tuple[Crossing, ...]:
    """Where ``low + (high - low)/2 (1 - cos(pi u))`` rounds to the next number, half to even."""
    return tuple(_crossing(low, high, bits) for bits in range(low + 1, high + 1))


def _crossing(low: int, high: int, bits: int) -> Crossing:
    at = SIXTHS * math.acos(1 - 2 * (bits - 0.5 - low) / (high - low)) / math.pi
    # Far above the error of acos, far below the distance of two crossings.
    whole = round(at)
    return Crossing(bits, float(whole) if abs(at - whole) < 1e-9 else at, bits % 2 == 0)

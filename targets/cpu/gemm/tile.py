"""The tile of accumulators that a kernel without tile units keeps in registers."""

from __future__ import annotations

from dataclasses import dataclass

from .units import Dot


@dataclass(frozen=True, slots=True)
class Tile:
    """Pixels x vectors of accumulators."""

    pixels: int
    vectors: int


# Accumulators that hide the latency of a multiply-add, and the cost of a load beside it.
LATENCY, LOAD, TURN = 8, 0.15, 0.5


def registers(dot: Dot, lanes: int) -> int:
    """Vector registers for sums and for what a dot reads.

    AVX2 adds integer products by an instruction of its own: one register is between. A sum in two
    parts takes two.
    """
    if dot.split:
        return 16 if lanes == 16 else 8
    return 32 if lanes == 16 else 16 if dot.acc == "float32" else 15


def choose_tile(width: int, channels: int, lanes: int, dot: Dot) -> Tile:
    """The cheapest tile for rows of ``width`` pixels and ``channels`` lanes in all."""
    most = registers(dot, lanes)
    best, least = Tile(1, 1), float("inf")
    for vectors in range(1, max(1, min(4, channels // lanes)) + 1):
        for pixels in range(1, min(width, most) + 1):
            accumulators = pixels * vectors
            if accumulators + vectors + 1 > most:
                break
            turns = -(-width // pixels) * -(-channels // (vectors * lanes))
            loads = LOAD * (pixels + vectors)
            cost = turns * (max(accumulators, LATENCY) + loads + TURN)
            if cost < least:
                best, least = Tile(pixels, vectors), cost
    return best

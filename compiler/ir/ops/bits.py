"""Bits of quantizers, chosen in the program."""

from __future__ import annotations

from .definition import OpDef
from .signature import define

BITS: tuple[OpDef, ...] = (
    define(
        "cyclic_bits(step: int[], total: int[], low: f32[])"
        " {high: int >= 1, cycles: int >= 1, iters: int >= 0} -> bits: f32[]",
        """low + (high - low)/2 (1 - cos(pi r/T)) to nearest even, r = step mod T, T = total /
        cycles rounded down; high from step cycles T on; where low is 0 min(2 + step / iters,
        high)""",
    ),
    define(
        "range_test(step: int[], right: f32[], low: f32[], hits: f32[], before: f32[])"
        " {high: int >= 1, iters: int >= 1, batch: int >= 1, threshold: float, fallback: int >= 1}"
        " -> low1: f32[], hits1: f32[], before1: f32[]",
        """while low is 0: hits sums right; each iters steps, of b = min(2 + step / iters, high)
        bits, before1 = hits / (iters * batch), and low1 = b if b > 2 and before1 - before >
        threshold, else fallback if b is high""",
    ),
    define(
        "plateau(loss: f32[], s: f32[11]) {every: int >= 1, eps: floats} -> s1: f32[11]",
        """s = stage, epochs, norm, filled, the last 5 mean losses of every steps, sum, seen; norm:
        mean of the first 10; next stage once no |difference to the last| / norm > eps[stage]""",
    ),
    define(
        "stage_bits(s: f32[11]) {bits: ints >= 0} -> bits: f32[]",
        "bits[i], the first i with s[0] < i + 1; the last one beyond",
    ),
)

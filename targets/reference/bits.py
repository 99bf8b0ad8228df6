"""Reference of the ops that choose bits: schedules by step number, and by how the loss falls."""

from __future__ import annotations

import numpy as np

from ...compiler.ir import Op
from ..numbers.bit_cycle import LEAST_BITS, SIXTHS, crossings
from ..numbers.plateau import (
    EPOCHS,
    FILLED,
    NORM,
    NORM_EPOCHS,
    SEEN,
    STAGE,
    SUM,
    WINDOW,
    WINDOW_LENGTH,
)
from ..numbers.tensor import Array
from .frame import Meaning, on_numbers


def cyclic_bits(op: Op, step: Array, total: Array, low: Array) -> Array:
    """Comparisons of integers with products in f64."""
    high = op.int_attr("high")
    if not low > 0:
        return np.asarray(min(LEAST_BITS + int(step) // op.int_attr("iters"), high))
    if low not in range(LEAST_BITS, high):
        return np.asarray(high)
    number = int(low)
    cycles = op.int_attr("cycles")
    length = int(total) // cycles
    if int(step) >= cycles * length:
        return np.asarray(high)
    now = float(int(step) % length) * SIXTHS
    bits = number
    for c in crossings(number, high):
        at = c.at * float(length)
        bits += now >= at if c.inclusive else now > at
    return np.asarray(bits)


def range_test(
    op: Op, step: Array, right: Array, low: Array, hits: Array, before: Array
) -> tuple[Array, ...]:
    """Accuracies are f32 quotients of whole numbers."""
    if low > 0:
        return low, hits, before
    iters, high = op.int_attr("iters"), op.int_attr("high")
    hits = hits + right
    if int(step) % iters != iters - 1:
        return low, hits, before
    bits = min(LEAST_BITS + int(step) // iters, high)
    accuracy = hits / np.float32(iters * op.int_attr("batch"))
    gains = accuracy - before > np.float32(op.float_attr("threshold"))
    found = bits if bits > LEAST_BITS and gains else op.int_attr("fallback") * (bits == high)
    return np.asarray(found, np.float32), np.zeros_like(hits), accuracy


def plateau(op: Op, loss: Array, s: Array) -> Array:
    """In f32, in the order of the table; a window that is not full yet has zeros in front."""
    eps, every = op.floats_attr("eps"), op.int_attr("every")
    s = s.copy()
    if s[STAGE] >= len(eps):
        return s
    s[SUM], s[SEEN] = s[SUM] + loss, s[SEEN] + 1
    if s[SEEN] < every:
        return s
    last = s[SUM] / np.float32(every)
    s[SUM] = s[SEEN] = 0
    if s[EPOCHS] < NORM_EPOCHS:
        s[NORM] = (s[NORM] * s[EPOCHS] + last) / (s[EPOCHS] + 1)
        s[EPOCHS] += 1
    window = s[WINDOW : WINDOW + WINDOW_LENGTH]
    window[:-1] = window[1:].copy()
    window[-1] = last
    s[FILLED] = min(s[FILLED] + 1, WINDOW_LENGTH)
    far = np.abs(window[:-1] - last) / s[NORM] > np.float32(eps[int(s[STAGE])])
    if s[FILLED] == WINDOW_LENGTH and not far.any():
        s[STAGE] += 1
        s[FILLED] = 0
    return s


def stage_bits(op: Op, s: Array) -> Array:
    """A number of the list; NaN is beyond it."""
    *bits, last = op.ints_attr("bits")
    return np.asarray(next((n for i, n in enumerate(bits) if s[STAGE] < i + 1), last))


BITS: dict[str, Meaning] = {
    "cyclic_bits": on_numbers(cyclic_bits),
    "range_test": on_numbers(range_test),
    "plateau": on_numbers(plateau),
    "stage_bits": on_numbers(stage_bits),
}

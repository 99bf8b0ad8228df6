"""The precision range test: the least number of bits at which training starts to learn.

Fu et al., CPT, ICLR 2021, section 3.3. The authors' code lacks it and the paper names no threshold,
so both numbers are the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping

from quatrain.compiler.errors import UsageError

THRESHOLD, LEAST = 0.01, 3


def least_bits(
    accuracies: Mapping[int, float], threshold: float = THRESHOLD, least: int = LEAST
) -> int:
    """The first number of bits, from ``least`` up, that gains over ``threshold`` against one less.

    ``accuracies`` maps bits to the mean training accuracy (0..1) over a few iterations (50 to 100)
    at that precision; the bits are consecutive and begin at ``least - 1`` or below. Raises
    UsageError where a precision is missing or none gains that much.
    """
    most = max(accuracies, default=0)
    if missing := [b for b in range(least - 1, max(most, least) + 1) if b not in accuracies]:
        raise UsageError(
            f"the range test from {least} bits lacks the accuracy at {missing[0]} bits; it needs "
            f"every precision from {least - 1} bits up"
        )
    for bits in range(least, most + 1):
        if accuracies[bits] - accuracies[bits - 1] > threshold:
            return bits
    raise UsageError(
        f"no precision of {least}..{most} bits gains more than {threshold:g} over the one below; "
        "train longer at each, or lower the threshold"
    )

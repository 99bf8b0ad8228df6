"""Cyclic precision: forward bits go up from a least to a greatest number, again and again.

Fu et al., CPT: Efficient Deep Neural Network Training via Cyclic Precision, ICLR 2021, section 3
and the authors' ``cyclic_adjust_precision``. Plain arithmetic over iteration numbers.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from ...compiler.errors import UsageError
from .bit_operations import training_cost

CYCLES = 32


@dataclass(frozen=True, slots=True)
class Cyclic:
    """Bits that follow half a cosine from ``least`` to ``most`` in ``length`` iterations.

    A cycle starts at ``least``, ends at ``most`` and jumps back. Raises UsageError unless
    ``1 <= least <= most`` and ``length >= 1``.
    """

    least: int
    most: int
    length: int

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most or self.length < 1:
            raise UsageError(
                f"a cycle of {self.length} iterations from {self.least} to {self.most} bits is no "
                "cycle; 1 <= least <= most, and at least one iteration"
            )

    def bits(self, iteration: int) -> int:
        """Bits at an iteration, counted from 0; halves go to the even neighbour."""
        done = (iteration % self.length) / self.length
        return round(
            self.least + 0.5 * (self.most - self.least) * (1 + math.cos(math.pi * done + math.pi))
        )

    def spent(self) -> dict[int, int]:
        """Iterations of one cycle at each number of bits, ascending."""
        return dict(sorted(Counter(map(self.bits, range(self.length))).items()))

    def saving(self, backward: int) -> float:
        """Share (0..1) of the bit operations that a cycle saves against ``most`` bits throughout.

        Gradients have ``backward`` bits all the time.
        """
        cost = sum(n * training_cost(bits, backward) for bits, n in self.spent().items())
        return 1 - cost / (self.length * training_cost(self.most, backward))


def cyclic(least: int, most: int, iterations: int, cycles: int = CYCLES) -> Cyclic:
    """The schedule of a run of ``iterations`` in ``cycles`` cycles (``T = int(iterations / N)``).

    Raises UsageError where a cycle would be shorter than one iteration.
    """
    if cycles < 1 or iterations < cycles:
        raise UsageError(
            f"{iterations} iterations cannot hold {cycles} cycles; give each at least one iteration"
        )
    return Cyclic(least, most, iterations // cycles)

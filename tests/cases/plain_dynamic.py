"""Dynamic precision: what training costs where each sample picks its bits block by block.

Fu et al., FracTrain, NeurIPS 2020, section 3.2 (DFQ) and the authors' ``train_dfq.py``: the cost
counter that the gates' loss and the reports share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

from quatrain.compiler.errors import UsageError
from quatrain.runtime.report.bit_operations import F32_COST

DIRECTIONS = 3


@dataclass(frozen=True, slots=True)
class Choice:
    """Bits of activations, gradients and weights that a gate picks together."""

    activations: int
    gradients: int
    weights: int

    @property
    def cost(self) -> float:
        """Forward, dX and dW of one MAC in f32 MACs."""
        a, g, w = self.activations, self.gradients, self.weights
        return (a * w + g * w + a * g) / F32_COST

    @property
    def percent(self) -> float:
        """Cost in percent of training in f32, where every block picks this."""
        return 100 * self.cost / DIRECTIONS


CIFAR = tuple(Choice(a, g, 4) for a, g in ((3, 6), (4, 6), (4, 8), (6, 8), (6, 12)))
IMAGENET = tuple(Choice(a, g, 6) for a, g in ((3, 6), (4, 8), (6, 12), (8, 16)))


def cost_percent(
    choices: Sequence[Choice], macs: Sequence[float], picked: Sequence[Sequence[int]]
) -> float:
    """Cost of a batch in percent of training it in f32 (the ``cp`` of the paper).

    ``picked[sample][block]`` is a position in ``choices``, -1 for a block that is skipped; ``macs``
    are of each block. Raises UsageError where they do not fit together.
    """
    if not picked or any(len(row) != len(macs) for row in picked) or fsum(macs) <= 0:
        raise UsageError(
            f"each sample picks one choice for each of the {len(macs)} blocks, there is at least "
            "one sample, and the blocks multiply something"
        )
    if any(not -1 <= k < len(choices) for row in picked for k in row):
        raise UsageError(f"a choice is a position 0..{len(choices) - 1}, or -1 to skip the block")
    cost = fsum(
        choices[k].cost * n for row in picked for k, n in zip(row, macs, strict=True) if k >= 0
    )
    return 100 * cost / (len(picked) * DIRECTIONS * fsum(macs))

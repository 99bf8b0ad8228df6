"""Effective bit operations: the published price of multiplications in few bits.

A multiply-accumulate of a ``b``-bit number by a ``c``-bit one costs ``b * c`` bit operations, so
that one in f32 costs 1024; a float carrier counts with all its bits. This is the measure of
FracTrain (Fu et al., NeurIPS 2020) and CPT (Fu et al., ICLR 2021). It knows no exponents,
accumulators, scales or roundings: those are elsewhere in the bill.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

F32_BITS = 32
F32_COST = F32_BITS * F32_BITS
GIGA = 1e9


@dataclass(frozen=True, slots=True)
class BitOperations:
    """Bit operations of one training step that multiplies ``macs`` times, on ``samples`` samples.

    The total counts what the step computes: forward, dX and dW of each layer, but no dX where
    nobody needs it, as at the first layer.
    """

    total: int
    macs: int
    samples: int

    @property
    def giga(self) -> float:
        """GBitOPs of the step."""
        return self.total / GIGA

    @property
    def giga_per_sample(self) -> float:
        """GBitOPs of the step, for each sample of its batch."""
        return self.giga / self.samples

    @property
    def effective_macs(self) -> float:
        """The number of f32 multiply-accumulates that cost as much."""
        return self.total / F32_COST

    @property
    def share_of_f32(self) -> float:
        """Cost as a share (0..1) of the same step in f32; 0 for a step that multiplies nothing."""
        return self.effective_macs / max(self.macs, 1)

    def to_dict(self) -> dict[str, int | float]:
        """Plain numbers."""
        return {
            "total": self.total,
            "samples": self.samples,
            "giga_per_step": self.giga,
            "giga_per_sample": self.giga_per_sample,
            "effective_macs": self.effective_macs,
            "share_of_f32": self.share_of_f32,
        }


def bit_operations(products: Iterable[tuple[tuple[int, int], int]], samples: int) -> BitOperations:
    """The cost of GEMMs, each given as the bits of its two operands and its MACs."""
    found = [(a * b * macs, macs) for (a, b), macs in products]
    return BitOperations(sum(cost for cost, _ in found), sum(macs for _, macs in found), samples)


def training_cost(forward: float, backward: float) -> float:
    """Bit operations of a MAC in all three directions, of ``forward`` bits for weights and
    activations and ``backward`` bits for gradients: forward, dX and dW."""
    return forward * forward + 2 * forward * backward


def cost_ratio(forward: float, backward: float) -> float:
    """Cost of training at these bits as a share (0..1) of training in f32."""
    return training_cost(forward, backward) / training_cost(F32_BITS, F32_BITS)


def training_giga(macs: int, forward: float, backward: float, samples: int) -> float:
    """GBitOPs of training on ``samples`` samples (batch times steps) by the published formula.

    ``macs`` are those of one sample's forward. dX of the first layer counts, though no step
    computes it.
    """
    return macs * training_cost(forward, backward) * samples / GIGA

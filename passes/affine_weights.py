"""Affine weights: codes between the least and the largest weight, in as many bits as asked.

"Scalable Methods for 8-bit Training of Neural Networks" (Banner et al., NeurIPS 2018), section 2,
the quantizer of GEMMLOWP; the authors' later code takes a range for each output channel.

    low, high = extremes(w)                  of each output channel, or of the tensor
    step      = (high - low) / (2^bits - 1)
    wq        = rint((w - low) / step)       read by forward and dX; dw passes everywhere
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..compiler.ir import Op, Program, Region
from ..compiler.ir.ops import READS_WEIGHT, TRANSPOSED
from .parts.affine import Quantizers
from .parts.order import Makes, placed
from .parts.select import quantized


@placed(makes=Makes.CODES)
def affine_weights(
    program: Program,
    *,
    bits: Literal[2, 3, 4, 5, 6, 7, 8] = 8,
    sbm_weight_granularity: Literal["channel", "tensor"] = "channel",
    exempt: str = "none",
) -> Program:
    """Let the forward and the dX product of each layer read the weight in ``bits`` bits.

    A transposed convolution has one range for its tensor. A weight that several layers share is
    quantized once.
    """
    chosen = quantized(program, exempt)
    quantizers = Quantizers(program, "weights", bits, ())

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        if op.kind not in READS_WEIGHT or op.origin not in chosen:
            return None
        other, w = op.inputs
        if not w.type.format.is_carrier:
            return None
        ahead: tuple[Op, ...] = ()
        if w not in quantizers.codes:
            # A scale does not go along dimension 1.
            whole = sbm_weight_granularity == "tensor" or op.kind in TRANSPOSED
            limits = quantizers.limits(w, "w", op.origin, 0 if whole else w.type.shape[0])
            ahead = (limits, *quantizers.quantize(w, "wq", op.origin, *limits.results))
        return (*ahead, replace(op, inputs=(other, quantizers.codes[w])))

    return program.rewrite(rule, by="affine_weights")

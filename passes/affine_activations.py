"""Affine activations: codes between the ends of the batch's range, whatever its sign.

"Scalable Methods for 8-bit Training of Neural Networks" (Banner et al., NeurIPS 2018), section 2,
and its code; ``extreme`` is that of "CPT" (Fu et al., ICLR 2021) and "FracTrain" (Fu et al.,
NeurIPS 2020).

    sbm_act_range   range in training                            in evaluation
    sample_mean     means over the samples of their extremes     running means of these
                    of fewer than 16 numbers: extremes of        the same
                    the batch
    extreme         extremes of the batch                        the same

The rule for few numbers is ours: a sample of one number has no range, and means over small samples
lie well inside of the data.

The gradient passes everywhere, also where a value lies outside of the range.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..compiler.ir import Op, Program, Region
from ..compiler.ir.analysis import is_training
from ..compiler.ir.ops import FORWARD_GEMMS, GEMMS
from .parts.affine import Quantizers, Ranges, check_momentum
from .parts.data import data_read, named
from .parts.draws import seed_and_step, with_seed
from .parts.order import Makes, placed
from .parts.select import Attention, quantized


@placed(makes=Makes.CODES)
def affine_activations(
    program: Program,
    *,
    bits: Literal[2, 3, 4, 5, 6, 7, 8] = 8,
    sbm_act_range: Literal["sample_mean", "extreme"] = "sample_mean",
    sbm_act_rounding: Literal["nearest", "stochastic"] = "nearest",
    range_momentum: float = 0.9,
    exempt: str = "none",
    attention: Attention = "keep",
) -> Program:
    """Let the products of each layer read its data in ``bits`` bits.

    A tensor that several layers read is quantized once. ``LAYER.range.low`` and ``.high``, named
    after the first of them, are the running range; a step's range has weight ``range_momentum`` in
    it, and the first one weight 1. Stochastic rounding is for training alone.
    """
    check_momentum(range_momentum)
    chosen, per_sample = quantized(program, exempt, attention), sbm_act_range == "sample_mean"
    stochastic = sbm_act_rounding == "stochastic"
    drawn = seed_and_step(program, "sbm_act_rounding=stochastic") if stochastic else ()
    quantizers = Quantizers(program, "activations", bits, drawn)
    ranges = Ranges(quantizers, is_training(program), per_sample, range_momentum)

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        if op.origin not in chosen or op.kind not in GEMMS:
            return None
        forward = op.kind in FORWARD_GEMMS and region.name == "forward"
        ahead, inputs = list[Op](), list(op.inputs)
        for place in data_read(op):
            x = inputs[place]
            if forward and x.type.format.is_carrier and x not in quantizers.codes:
                found, low, high = ranges.of(x, op.origin, named(op, place, ""))
                name = named(op, place, "xq")
                ahead += [*found, *quantizers.quantize(x, name, op.origin, low, high)]
            inputs[place] = quantizers.codes.get(x, x)
        return (*ahead, replace(op, inputs=tuple(inputs)))

    out = ranges.carried(program.rewrite(rule, by="affine_activations"))
    return with_seed(out, drawn, bool(quantizers.codes))

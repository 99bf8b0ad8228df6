"""Narrow update: weights and momenta are numbers of a 16-bit float, rounded stochastically.

"Training Deep Neural Networks with 8-bit Floating Point Numbers" (Wang et al., NeurIPS 2018): the
update in FP16 1-6-9 with stochastic rounding, because to nearest small updates would be lost;
HFP8 (Sun et al., NeurIPS 2019) does the same.

    number                          becomes
    weight, as it is stored         one of the two neighbours of what the optimizer made
    momentum of SGD                 the same
    states of other optimizers      f32

The numbers are those of 16 bits; the memory that holds them is f32. Between the additions of one
update the authors round as well, here the optimizer's op computes in f32.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..compiler.ir import Op, Program, Region, Value, attrs, unused
from ..compiler.ir.ops import Trait, has
from .parts.draws import seed_and_step, with_seed
from .parts.names import salt_of


def narrow_update(
    program: Program, *, update_format: Literal["f32", "fp16.169", "f16"] = "f32"
) -> Program:
    """Round what the optimizer makes to ``update_format``; ``f32`` leaves it as it is.

    Draws are new in each step, from seed, step and the place of an element. A number beyond the
    largest of the format becomes that.
    """
    steps = [op for op in program.region("update").ops if has(op, Trait.UPDATE)]
    if update_format == "f32" or not steps:
        return program.done("narrow_update")
    drawn, taken = seed_and_step(program, f"update_format={update_format}"), program.names()

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        if region.name != "update" or not has(op, Trait.UPDATE):
            return None
        count = 2 if op.kind == "sgd" else 1
        # The rounded number takes the old name, and with it the readers.
        raw = [Value(unused(f"{v.name}.wide", taken), v.type) for v in op.results[:count]]
        rounded = (
            Op(
                "round_float",
                (wide, *drawn),
                (v,),
                attrs(to=update_format, salt=salt_of(v.name)),
                op.origin,
            )
            for wide, v in zip(raw, op.results, strict=False)
        )
        return (replace(op, results=(*raw, *op.results[count:])), *rounded)

    return with_seed(program.rewrite(rule, by="narrow_update"), drawn, used=True)

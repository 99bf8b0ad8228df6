"""Every kernel on single numbers that no one means: clips, limits, scales, bits, rates, stages.

A program's own constants and states may be any number; both targets make the same of it.
"""

from __future__ import annotations

import numpy as np
import pytest

from quatrain.compiler.ir import Op
from quatrain.compiler.ir.ops import OPS
from quatrain.targets.numbers.tensor import Tensor

from ..cases.op_examples import OF_ONE_KERNEL, example
from ..cases.special_numbers import (
    PLAIN,
    SIZES,
    alike,
    run,
    special_inputs,
    tolerance,
    variants,
)

pytestmark = pytest.mark.tvm
NUMBERS = (np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, 1e-42, 3e38, 0.5, 2.5, 7.0, 99.0)


def numbers_of(op: Op) -> list[int]:
    """The operands that are one real number."""
    return [
        i
        for i, v in enumerate(op.inputs)
        if v.type.shape == () and v.type.format.is_carrier and not v.type.scale.value
    ]


KINDS = sorted(kind for kind in OF_ONE_KERNEL if numbers_of(example(kind, SIZES)))


def test_there_are_ops_with_numbers() -> None:
    assert {"quantize", "quantize_bits", "quantize_affine", "grad_scale", "sgd"} <= set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_special_single_numbers(kind: str) -> None:
    for op in variants(example(kind, SIZES)):
        ordinary = special_inputs(op, 0, PLAIN)
        for i in numbers_of(op):
            v = op.inputs[i]
            for number in NUMBERS:
                if OPS[kind].operand(i).name.startswith("one_minus") and number == 0:
                    continue  # 1 - beta is no zero: torch refuses a beta of 1
                given = {**ordinary, v.name: Tensor.from_numbers(v.type, number)}
                got, want = run(op, given)
                for r in op.results:
                    alike(got[r.name], want[r.name], *tolerance(kind))

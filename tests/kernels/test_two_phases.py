"""Both phases of two-phase rounding are one kernel: they differ in what multiplies the sums."""

import re

import pytest

from quatrain.compiler.formats import FP4_EVEN, FP4_ODD, INT4, UINT4, Format
from quatrain.targets.cpu.info import detect

from ..cases.gemm_case import Case

OPERANDS = {"conv2d_input_grad": INT4, "conv2d_weight_grad": UINT4}


def text(kind: str, phase: Format) -> str:
    """The kernel's TIR, with the name of the format taken out."""
    case = Case(kind, formats=(phase, OPERANDS[kind]))
    kernel, _ = case.kernel_on(detect())
    return str(kernel.spec.build()).replace(phase.name.replace(".", ""), "PHASE")


@pytest.mark.tvm
@pytest.mark.parametrize("kind", OPERANDS)
def test_one_kernel_serves_both_phases(kind: str) -> None:
    even, odd = text(kind, FP4_EVEN), text(kind, FP4_ODD)
    units = [f"T.float32({phase.smallest})" for phase in (FP4_EVEN, FP4_ODD)]
    assert even != odd and even.replace(units[0], units[1]) == odd
    lines = zip(even.splitlines(), odd.splitlines(), strict=True)
    changed = [a for a, b in lines if a != b]
    assert changed and all(re.search(r'Cast\("float32', line) for line in changed)

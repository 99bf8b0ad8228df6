"""The stages by which a target makes a program one that it has kernels for; without TVM."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ...compiler.ir import Program
from ..plan.blocks import blocks_apart
from ..plan.composed import compose
from ..plan.decode import decode_operands
from ..plan.first_scales import first_scales
from ..plan.waive import waive
from .check import check_gemm


def lower(target: str, program: Program, allow: Sequence[str]) -> list[tuple[str, Program]]:
    """See ``Target.lower``; ``target`` is who says which GEMM it has no kernel for."""
    composed, check = compose(program), partial(check_gemm, target)
    decoded = decode_operands(composed)
    apart = blocks_apart(decoded)
    waived = waive(apart, check, allow)
    stages = [
        ("compose", composed),
        ("decode_operands", decoded),
        ("blocks_apart", apart),
        ("waive", waived),
    ]
    return [*stages, ("first_scales", first_scales(waived))]

"""The stages by which the CPU target makes a program one that it has kernels for; without TVM."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ...compiler.ir import Program
from ..gemm.check import check_gemm
from ..plan.decode import decode_operands
from ..plan.waive import waive


def lower(program: Program, allow: Sequence[str]) -> list[tuple[str, Program]]:
    """See ``Target.lower``."""
    decoded = decode_operands(program)
    return [
        ("decode_operands", decoded),
        ("waive", waive(decoded, partial(check_gemm, "cpu"), allow)),
    ]

"""The stages by which the CUDA target makes a program one that it has kernels for; without TVM."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ...compiler.ir import Program
from ..gemm.check import check_gemm
from ..plan.decode import decode_operands
from ..plan.waive import waive


def lower(program: Program, allow: Sequence[str]) -> list[tuple[str, Program]]:
    """See ``Target.lower``."""
    decoded, check = decode_operands(program), partial(check_gemm, "cuda")
    stages = [("decode_operands", decoded)]
    return [*stages, ("waive", waive(decoded, check, allow))]

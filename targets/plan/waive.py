"""Waivers: a GEMM without a kernel of its formats runs in float where the user allowed it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from ...compiler.errors import NoKernelError
from ...compiler.ir import Op, Program, Region, Value
from ...compiler.ir.ops import GEMMS
from ...compiler.types import Scale
from .decode import in_float

KernelCheck = Callable[[Op], None]


def waive(program: Program, check: KernelCheck, allow: Sequence[str]) -> Program:
    """``program`` with ``dequantize`` ahead of each GEMM that ``check`` refuses.

    ``check`` raises NoKernelError for an op that the target has no kernel for; that error goes on
    to the user, with the way out, unless a pattern of ``allow`` matches the op's layer.
    """
    refused = {op.result.name for _, op in program.ops() if _refused(op, check, allow)}
    if not refused:
        return program
    taken = program.names()

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        return in_float(op, _coded(op), taken) if op.result.name in refused else None

    return program.rewrite(rule, by="waive")


def waived(program: Program) -> tuple[str, ...]:
    """The layers whose GEMMs run in float by a waiver, in program order."""
    decoded = {
        op.result: op.origin
        for _, op in program.ops()
        if op.kind == "dequantize" and op.inputs[0].type.scale.is_factor
    }
    by_waiver = (
        op.origin
        for _, op in program.ops()
        if op.kind in GEMMS and any(decoded.get(v) == op.origin for v in op.inputs)
    )
    return tuple(dict.fromkeys(by_waiver))


def _refused(op: Op, check: KernelCheck, allow: Sequence[str]) -> bool:
    if op.kind not in GEMMS:
        return False
    try:
        check(op)
    except NoKernelError as e:
        if any(fnmatchcase(op.origin, pattern) for pattern in allow):
            return True
        way = f"allow=[{op.origin!r}] would let that layer run in float"
        raise NoKernelError(f"{e}; {way}") from None
    return False


def _coded(op: Op) -> tuple[Value, ...]:
    return tuple(dict.fromkeys(v for v in op.inputs if v.type.scale is not Scale.NONE))

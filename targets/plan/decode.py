"""Operands whose scale is no factor (an offset, a power, blocks): decoded ahead of each GEMM.

A sum of products of such numbers is no sum of stored ones times a factor. They are stored as codes,
and multiplied in f32, as the plan and the bill say; numbers of blocks in bf16, where they are
exact. Integers whose sums are of one block stay as they are, see ``factored``.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from ...compiler.formats import BF16, F32
from ...compiler.ir import Op, Program, Region, Value, unused
from ...compiler.ir.accumulation import NAMES, significant_bits
from ...compiler.ir.ops import GEMMS
from ...compiler.types import BlockScale, TensorType
from .composition import Composition
from .factored import factored


def decode_operands(program: Program) -> Program:
    """``program`` with ``dequantize`` ahead of each GEMM, for operands that need it."""
    if not any(_wanted(op) for _, op in program.ops()):
        return program
    taken = program.names()

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        return in_float(op, _wanted(op), taken) if _wanted(op) else None

    return program.rewrite(rule, by="decode_operands")


def in_float(op: Op, operands: tuple[Value, ...], taken: set[str]) -> tuple[Op, ...]:
    """``op`` reading the real values of ``operands``, behind the ops that make them.

    It adds up in f32.
    """
    plain = {v: Value(unused(f"{v.name}.plain", taken), _plain(v)) for v in operands}
    ahead = (Op(_decoding(v), (v,), (p,), origin=op.origin) for v, p in plain.items())
    attrs = MappingProxyType({k: a for k, a in op.attrs.items() if k not in NAMES})
    made = replace(op, inputs=tuple(plain.get(v, v) for v in op.inputs), attrs=attrs)
    outer = [v for v in op.inputs if v in plain and _has_outer(v)]
    return (*ahead, *(_times_outer(made, outer, taken) if outer else (made,)))


def _times_outer(op: Op, operands: list[Value], taken: set[str]) -> tuple[Op, ...]:
    """A GEMM's sums in f32, multiplied by the scales of the tensors that ``operands`` are."""
    made, shape = op.result, op.result.type.shape
    to = Composition(op, taken)
    scales = [to("outer_scale", "outer", v, shape=()) for v in operands]
    factor = scales[0] if len(scales) == 1 else to("mul", "factor", *scales, shape=())
    total = Value(unused(f"{made.name}.sum", taken), TensorType(shape, F32))
    to.made.append(replace(op, results=(total,)))
    to.into("mul", made, total, to.wide("factors", factor, shape))
    return tuple(to.made)


def _decoding(v: Value) -> str:
    return "block_numbers" if _has_outer(v) else "dequantize"


def _has_outer(v: Value) -> bool:
    return isinstance(v.type.scale, BlockScale) and v.type.scale.outer == ()


def _wanted(op: Op) -> tuple[Value, ...]:
    if op.kind not in GEMMS or factored(op):
        return ()
    return tuple(dict.fromkeys(v for v in op.inputs if not v.type.scale.is_factor))


def _plain(v: Value) -> TensorType:
    f, scale = v.type.format, v.type.scale
    if not isinstance(scale, BlockScale):
        return TensorType(v.type.shape, F32)
    if scale.format is F32 or scale.outer:
        return TensorType(v.type.shape, F32)
    bits = significant_bits(f) + (0 if scale.format.is_exponent else significant_bits(scale.format))
    return TensorType(v.type.shape, BF16 if bits <= BF16.man + 1 else F32)

"""Chunk-based accumulation: sums of products in a 16-bit float that do not stall.

"Training Deep Neural Networks with 8-bit Floating Point Numbers" (Wang et al., NeurIPS 2018), on
chunk-based accumulation: a long sum in 16 bits swamps what is added to it; sums of short chunks,
added up in the same format, keep the error at O(N / chunk + chunk) instead of O(N).

    GEMM                          sum
    of two codes                  in ``accumulator``, in chunks of ``chunk`` products
    with an operand in a carrier  unchanged, as in exempt layers
    of exempt layers              unchanged

``compiler/ir/accumulation.py`` has the arithmetic. With ``accumulator=f32`` nothing changes.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Literal

from ..compiler.errors import RecipeError
from ..compiler.ir import Op, Program, Region
from ..compiler.ir.accumulation import refusal
from ..compiler.ir.ops import GEMMS, OPS
from .parts.options import require
from .parts.order import Makes, placed
from .parts.select import quantized


@placed(after=(Makes.CODES,))
def chunked_accumulation(
    program: Program,
    *,
    accumulator: Literal["f32", "fp16.169", "f16"] = "f32",
    chunk: int = 64,
    exempt: str = "none",
) -> Program:
    """Let the GEMMs of two codes, in all layers but the exempt ones, add up in ``accumulator``.

    ``chunk=0`` makes one chunk of every sum. RecipeError where products have more significant bits
    than the accumulator, or a scale that is summed over.
    """
    require(chunk >= 0, f"chunk={chunk} of chunked_accumulation is less than 0")
    chosen = quantized(program, exempt)

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        if accumulator == "f32" or op.kind not in GEMMS or op.origin not in chosen:
            return None
        if not all(v.type.format.is_coded for v in op.inputs):
            return None
        attrs = {**op.attrs, "accumulator": accumulator, "chunk": chunk}
        marked = replace(op, attrs=MappingProxyType(attrs))
        if fact := refusal(marked, OPS[op.kind].summed):
            raise RecipeError(f"chunked_accumulation: layer {op.origin}: {fact}")
        return (marked,)

    return program.rewrite(rule, by="chunked_accumulation")

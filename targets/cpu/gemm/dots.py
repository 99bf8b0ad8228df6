"""The multiply-accumulate of each unit as an expression on vectors."""

from __future__ import annotations

from tvm import tirx as tir

from ...plan.kernel import Unit
from ...tir.expr import Code, Expr, Index, load, typed
from .units import Dot
from .vectors import bits, cast, splat

# LLVM 22 types it (v16i32, v64i8, v64i8).
VPDPBUSD = "llvm.x86.avx512.vpdpbusd.512"
# Sums of two products, by lanes of int32: of uint8 with int8 in int16, and of int16 in int32. LLVM
# makes vpdpwssd of the second and an addition.
VPMADDUBSW = {8: "llvm.x86.avx2.pmadd.ub.sw", 16: "llvm.x86.avx512.pmaddubs.w.512"}
VPMADDWD = {8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}

# TVM turns operands of type bf16 into f32 ahead of an intrinsic, so LLVM's own text is linked in.
BF16_DOT = """
declare <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float>, <32 x bfloat>, <32 x bfloat>)
define linkonce_odr <16 x float> @quatrain_bf16_dot(
    <16 x float> %c, <16 x i32> %a, <16 x i32> %b) alwaysinline {
  %x = bitcast <16 x i32> %a to <32 x bfloat>
  %y = bitcast <16 x i32> %b to <32 x bfloat>
  %d = call <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(
      <16 x float> %c, <32 x bfloat> %x, <32 x bfloat> %y)
  ret <16 x float> %d
}
"""


def prepare(code: Code, dot: Dot) -> None:
    """Give a function what the dots in it need."""
    if dot.unit is Unit.BF16_DOT:
        code.link(BF16_DOT)


def word(dot: Dot, buffer: Expr, index: Index) -> Expr:
    """One block of the broadcast operand, as the scalar that is repeated over the lanes."""
    block = load(buffer, index, dot.block)
    return block if dot.block == 1 else bits(block, "int32")


def repeated(dot: Dot, a: Expr, lanes: int) -> Expr:
    """A word in every lane, as the dot takes it."""
    if dot.block > 1:
        return bits(splat(a, "int32", lanes), dot.a, lanes * dot.block)
    return splat(a, dot.a, lanes)


def multiply_add_short(acc: Expr, a: Expr, b: Expr, lanes: int) -> Expr:
    """``acc + a * b`` on two sums of int16 for each of ``lanes`` blocks of four bytes."""
    both = typed("int16", 2 * lanes)
    return acc + tir.call_llvm_pure_intrin(both, VPMADDUBSW[lanes], a, b)


def add_short(acc: Expr, some: Expr, lanes: int) -> Expr:
    """``acc`` plus the two sums of int16 that belong to each of its lanes."""
    return acc + multiply_pairs(some, splat(1, "int16", 2 * lanes), lanes)


def add_numbers(dot: Dot, acc: Expr, b: Expr, lanes: int) -> Expr:
    """``acc`` plus the numbers of each block of ``b``."""
    ones = splat(1, dot.a, lanes * dot.block)
    if not dot.run:
        return multiply_add(dot, acc, ones, b, lanes)
    nothing = splat(0, "int16", 2 * lanes)
    return add_short(acc, multiply_add_short(nothing, ones, b, lanes), lanes)


def multiply_pairs(a: Expr, b: Expr, lanes: int) -> Expr:
    """The sum of two products of int16 in each of ``lanes`` lanes of int32."""
    return tir.call_llvm_pure_intrin(typed("int32", lanes), VPMADDWD[lanes], a, b)


def multiply_add(dot: Dot, acc: Expr, a: Expr, b: Expr, lanes: int) -> Expr:
    """``acc + a * b`` on vectors of ``lanes`` blocks."""
    if dot.unit is Unit.INT8_DOT:
        return tir.call_llvm_pure_intrin(typed("int32", lanes), VPDPBUSD, acc, a, b)
    if dot.unit is Unit.INT16_DOT:
        return acc + multiply_pairs(a, b, lanes)
    if dot.unit is Unit.BF16_DOT:
        words = (bits(x, "int32", lanes) for x in (a, b))
        return tir.call_pure_extern(typed("float32", lanes), "quatrain_bf16_dot", acc, *words)
    if dot.wide:
        return acc + cast(a, "int64", lanes) * cast(b, "int64", lanes)
    return acc + a * b

"""From kernels in TIR to CUDA C: the passes of TVM that they need, then its code generator."""

from __future__ import annotations

import re
from collections.abc import Mapping

import tvm
from tvm import tirx as tir

from .backend import written
from .code import Launch

# TVM's own begins with headers of CUDA's C++ library; these words are all that kernels need.
PRELUDE = """
#define int8_t signed char
#define uint8_t unsigned char
#define int16_t short
#define uint16_t unsigned short
#define int32_t int
#define uint32_t unsigned int
#define int64_t long long
#define uint64_t unsigned long long
#define uint unsigned int
#define uchar unsigned char
#define ushort unsigned short
#define CUDART_INF_F __int_as_float(0x7f800000)
#define CUDART_NAN_F __int_as_float(0x7fffffff)
#define CUDART_INF __longlong_as_double(0x7ff0000000000000ll)
#define CUDART_NAN __longlong_as_double(0xfff8000000000000ll)
"""
# CUDA's own has headers that its compilers come without.
HALF = """
struct half {
  unsigned short bits;
  half() = default;
  __device__ __forceinline__ half(float x) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x)); }
  __device__ __forceinline__ operator float() const {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
  }
};
struct alignas(4) half2 { half x, y; };
struct alignas(8) half4 { half x, y, z, w; };
__device__ __forceinline__ half2 make_half2(half x, half y) { return {x, y}; }
__device__ __forceinline__ half4 make_half4(half x, half y, half z, half w) { return {x, y, z, w}; }
"""
# The last lines of what TVM begins with.
BEGUN = "#define ushort unsigned short\n#endif\n"
DEVICE_KERNEL = 2  # TVM's number for functions that a host launches


def cuda_source(launches: Mapping[str, Launch], arch: str) -> str:
    """CUDA C of kernels by name, for an architecture such as ``sm_90``."""
    target = tvm.target.Target({"kind": "cuda", "arch": arch})
    functions = {
        tvm.ir.GlobalVar(name): made.function.with_attr("global_symbol", name)
        .with_attr("calling_conv", DEVICE_KERNEL)
        .with_attr("target", target)
        for name, made in launches.items()
    }
    lowered = tvm.transform.Sequential(passes())(tvm.IRModule(functions))
    _, found, kernels = written(lowered, target).partition(BEGUN)
    assert found, "TVM begins CUDA C in other words"
    texts = sorted({text for made in launches.values() for text in made.texts})
    for name, made in launches.items():
        if made.resident:
            bounds = rf"__launch_bounds__\(\d+\) {name}\("
            wanted = f"__launch_bounds__({made.threads}, {made.resident}) {name}("
            kernels = re.sub(bounds, wanted, kernels)
    half = [HALF] if re.search(r"\bhalf", kernels) else []
    return "".join([PRELUDE, *half, *texts, kernels])


def passes() -> list[tvm.transform.Pass]:
    """In order; what is written in TIR is what runs: no barrier comes in, no array shrinks."""
    return [
        tir.transform.StmtSimplify(),
        tir.transform.FlattenBuffer(),
        tir.transform.NarrowDataType(32),
        tir.transform.VectorizeLoop(),
        tir.transform.UnrollLoop(),
        tir.transform.StmtSimplify(),
        tir.transform.CommonSubexprElim(),
        tir.transform.FP8StorageLegalize(),
        tir.transform.BF16StorageLegalize(),
        tir.transform.LowerIntrin(),
    ]

"""Products of activations: kernels of forward and of both gradients against the reference."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("tvm")

from quatrain.compiler.formats import (
    BF16,
    F32,
    FP4_EVEN,
    FP4_ODD,
    FP8_143_IBM,
    FP8_152_IBM,
    INT4,
    INT8,
    INT16,
    UINT2,
    UINT4,
)
from quatrain.targets.cpu.info import CpuInfo, named
from quatrain.targets.plan.kernel import Unit

from ..cases.device_gemm import check_on_device
from ..cases.gemm_case import EACH_CPU, Case, check
from ..cuda.emulate import has_compiler

pytestmark = pytest.mark.tvm

A, DA, DB = "product", "product_input_grad", "product_weight_grad"
CASES = [
    Case(A, n=3, size=(7, 5), c=13, formats=(INT4, INT4)),
    Case(A, n=2, size=(13, 33), c=7, formats=(UINT4, INT4), made=BF16),
    Case(A, n=1, size=(1, 1), c=1, formats=(INT4, INT4)),
    Case(A, n=3, size=(7, 5), c=13, formats=(INT8, UINT2)),
    Case(A, n=3, size=(7, 5), c=13, formats=(FP8_143_IBM, FP8_143_IBM)),
    Case(DA, n=3, size=(7, 5), c=13, formats=(FP4_EVEN, INT4)),
    Case(DA, n=2, size=(13, 33), c=7, formats=(INT4, UINT4)),
    Case(DA, n=1, size=(1, 1), c=1, formats=(FP4_EVEN, INT4)),
    Case(DA, n=3, size=(7, 5), c=13, formats=(FP8_152_IBM, INT4)),
    Case(DA, n=3, size=(7, 5), c=13, formats=(BF16, INT4), made=BF16),
    Case(DB, n=3, size=(7, 5), c=13, formats=(FP4_ODD, UINT4)),
    Case(DB, n=2, size=(13, 33), c=7, formats=(FP4_ODD, INT4), made=BF16),
    Case(DB, n=1, size=(1, 1), c=1, formats=(FP4_ODD, INT4)),
    Case(DB, n=3, size=(7, 5), c=13, formats=(F32, F32)),
]


@EACH_CPU
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.kind}-{CASES.index(c)}")
def test_kernels_of_a_cpu_equal_the_reference(case: Case, cpu: CpuInfo) -> None:
    check(case, cpu, beside=CASES)


@pytest.mark.parametrize(
    ("case", "mcpu", "unit"),
    [
        (CASES[0], "znver4", Unit.INT8_DOT),
        (CASES[5], "znver4", Unit.INT16_DOT),
        (CASES[10], "sapphirerapids", Unit.INT16_DOT),
        (CASES[4], "znver4", Unit.BF16_DOT),
        (replace(CASES[0], formats=(INT16, INT16)), "znver4", Unit.INT16_DOT),
        (replace(CASES[0], formats=(INT16, INT16)), "nehalem", Unit.INT32),
    ],
    ids=lambda x: getattr(x, "kind", x),
)
def test_units_of_other_cpus(case: Case, mcpu: str, unit: Unit) -> None:
    kernel, _ = case.kernel_on(named(mcpu))
    assert kernel.unit is unit


ON_TILES = [
    (Case(A, n=2, size=(13, 9), c=33, formats=(UINT4, INT4)), "int8 mma"),
    (Case(DA, n=2, size=(13, 33), c=9, formats=(FP4_EVEN, INT4)), "int8 mma, two planes"),
    (Case(DB, n=2, size=(33, 9), c=13, formats=(FP4_ODD, UINT4)), "int8 mma, two planes"),
    (CASES[0], "products one by one, int32"),
]


@pytest.mark.skipif(not has_compiler(), reason="the emulator needs g++")
@pytest.mark.parametrize(("case", "way"), ON_TILES, ids=lambda x: getattr(x, "kind", x))
def test_kernels_of_a_gpu_equal_the_reference(case: Case, way: str) -> None:
    check_on_device(case, way, beside=[c for c, _ in ON_TILES])

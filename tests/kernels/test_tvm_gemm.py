"""GEMM kernels against the reference: every kind, formats, awkward shapes, units, thread counts."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

pytest.importorskip("tvm")

from tvm_ffi import structural_equal

from quatrain.compiler.errors import NoKernelError
from quatrain.compiler.formats import (
    BF16,
    F16,
    F32,
    FORMATS,
    FP4_EVEN,
    FP4_ODD,
    FP4_R2,
    FP4_R8,
    FP4_R16_EVEN,
    FP4_R16_ODD,
    FP5_140,
    FP8_143,
    FP8_143_IBM,
    FP8_152,
    FP8_152_IBM,
    INT4,
    INT4_MIDRISE,
    INT5_17,
    INT5_24,
    INT8,
    INT16,
    INTS,
    LUQ,
    MIDRISE,
    UINT2,
    UINT4,
    UINT8,
    UINTS,
    Format,
)
from quatrain.targets.cpu.gemm.spec import GemmSpec
from quatrain.targets.cpu.info import CpuInfo, detect, named
from quatrain.targets.cpu.module import use_threads
from quatrain.targets.numbers.integers import integers
from quatrain.targets.plan.kernel import Kernel, Unit
from quatrain.targets.plan.layout import Layout, Order

from ..cases.gemm_case import (
    EACH_CPU,
    FLOAT_UNITS,
    KINDS,
    LINEAR,
    TILES,
    WITHOUT_TILES,
    Case,
    check,
    compile_case,
    run,
    without_tiles,
)

pytestmark = pytest.mark.tvm

DOTS = [
    Case("conv2d", n=3, c=16, size=(8, 8), k=16),
    Case("conv2d", formats=(INT4, INT4)),
    Case("conv2d", formats=(INT4_MIDRISE, INT4_MIDRISE), stride=(2, 2)),
    Case("conv2d", formats=(UINT8, INT8), c=7, k=5, stride=(2, 1), padding=(2, 0), dilation=(1, 2)),
    Case("conv2d", formats=(INT8, UINT8), c=3, k=1),
    Case("conv2d", c=12, k=24, groups=4, bias=F32),
    Case("conv2d", c=33, k=33, groups=33, formats=(UINT4, INT4)),
    Case("conv2d", c=27, k=33, kernel=(1, 1), padding=(0, 0), channel_scale=True),
    Case("conv2d", n=1, c=1, k=1, size=(1, 1), kernel=(1, 1), padding=(0, 0)),
    Case("conv2d", n=1, c=3, k=7, size=(13, 33), kernel=(7, 7), padding=(3, 3), stride=(2, 2)),
    Case("conv2d", formats=(UINT2, INT4), made=BF16, bias=F16, out=BF16),
    Case("conv2d", c=3, orders=(Order.ROWS, Order.ROWS, Order.ROWS)),
    Case("conv2d_input_grad", formats=(FP4_EVEN, INT4), c=16, k=16, size=(8, 8)),
    Case("conv2d_input_grad", formats=(FP4_ODD, INT4_MIDRISE), stride=(2, 2)),
    Case("conv2d_input_grad", formats=(FP4_EVEN, INT4), stride=(3, 2), kernel=(1, 1)),
    Case("conv2d_input_grad", formats=(FP4_EVEN, INT4), stride=(2, 2), dilation=(2, 1)),
    Case("conv2d_input_grad", formats=(INT8, INT4), stride=(2, 2)),
    # Whole vectors of channels whose 4-bit weights share bytes, by bytes.
    *(Case("conv2d_input_grad", formats=(f, INT4), c=16, k=4, size=(8, 8)) for f in (UINT4, INT4)),
    Case("conv2d_input_grad", formats=(FP4_EVEN, INT4), c=12, k=20, groups=4, stride=(2, 1)),
    Case("conv2d_input_grad", formats=(FP4_EVEN, INT4), c=28, k=28, groups=28),
    Case("conv2d_input_grad", formats=(LUQ[7], INT4), stride=(2, 2)),
    Case("conv2d_input_grad", formats=(LUQ[5], INT8), c=27, k=33, n=1),
    Case("conv2d_input_grad", formats=(LUQ[8], INT4), c=3, k=7),
    Case("conv2d_input_grad", formats=(LUQ[7], INT4), c=12, k=20, groups=4),
    Case("conv2d_weight_grad", formats=(LUQ[9], UINT4), c=7, k=5, stride=(2, 1)),
    Case("linear_input_grad", n=7, c=13, k=33, formats=(LUQ[7], INT4)),
    Case("conv2d_weight_grad", formats=(FP4_ODD, UINT4), c=16, k=16, size=(8, 8)),
    Case("conv2d_weight_grad", formats=(FP4_ODD, INT4_MIDRISE), stride=(2, 2)),
    Case("conv2d_weight_grad", formats=(FP4_EVEN, UINT4), kernel=(1, 1), padding=(0, 0)),
    Case("conv2d_weight_grad", formats=(FP4_EVEN, INT4), kernel=(1, 1), stride=(2, 2), n=17),
    Case("conv2d_weight_grad", formats=(INT8, UINT8), stride=(2, 1), dilation=(1, 2), c=7, k=5),
    Case("conv2d_weight_grad", formats=(FP4_EVEN, UINT4), c=12, k=24, groups=4),
    # In two parts of int32.
    Case("conv2d", formats=(INT16, INT16), c=27, k=13, stride=(2, 1)),
    Case("conv2d_input_grad", formats=(INT16, INT16), c=33, k=7, n=1, stride=(2, 2)),
    Case("conv2d_weight_grad", formats=(INT16, INT16), c=28, k=13),
    Case("conv2d", formats=(INT16, INT16), c=13, k=13, groups=13),
    Case("conv2d_weight_grad", formats=(FP4_EVEN, UINT4), c=33, k=33, groups=33),
    Case(
        "conv2d_weight_grad",
        formats=(FP4_EVEN, UINT4),
        c=3,
        orders=(Order.PIXELS,) + (Order.ROWS,) * 2,
    ),
    Case("conv2d", formats=(UINT2, MIDRISE[2]), c=33),
    Case("conv2d", formats=(UINTS[3], MIDRISE[3]), c=27, stride=(2, 2)),
    Case("conv2d", formats=(UINTS[5], MIDRISE[5]), c=3, k=1),
    Case("conv2d", formats=(UINT8, MIDRISE[8]), c=13, k=33, bias=BF16),
    Case("conv2d", formats=(MIDRISE[5], MIDRISE[3]), c=12, k=20, groups=4),
    Case("conv2d", formats=(INT5_24, INT5_17), c=13, k=27),
    Case("conv2d", formats=(UINT4, INT5_17), c=7, k=7, groups=7),
    Case("conv2d_input_grad", formats=(LUQ[8], INT5_17), c=28, k=13, stride=(2, 2)),
    Case("conv2d_weight_grad", formats=(LUQ[8], INT5_24), c=27, k=3),
    Case("conv2d", formats=(MIDRISE[8], INTS[3]), size=(1, 1), c=7),
    Case("conv2d_input_grad", formats=(FP4_EVEN, MIDRISE[3]), c=33, k=27),
    Case("conv2d_input_grad", formats=(FP4_ODD, MIDRISE[5]), c=1, k=3, kernel=(1, 1)),
    Case("conv2d_input_grad", formats=(FP4_EVEN, MIDRISE[8]), c=28, k=28, groups=28),
    Case("conv2d_input_grad", formats=(FP5_140, MIDRISE[2]), c=13, stride=(2, 1)),
    Case("conv2d_input_grad", formats=(FP5_140, INT4), c=16, k=33),
    Case("conv2d_input_grad", formats=(FP4_R2, INT4), c=16, k=33, size=(8, 8)),
    Case("conv2d_input_grad", formats=(FP4_R2, MIDRISE[3]), k=27, groups=1, n=1),
    Case("conv2d_weight_grad", formats=(FP5_140, UINT4), c=33, k=27),
    Case("conv2d_weight_grad", formats=(FP5_140, UINTS[3]), c=7, kernel=(1, 1), stride=(2, 2)),
    Case("conv2d_weight_grad", formats=(FP4_R2, UINT2), c=27, k=3),
    Case("linear", n=5, c=64, k=10, bias=F32),
    Case("linear", n=3, c=33, k=7, formats=(FP4_R2, FP4_R2)),
    Case("linear_input_grad", n=1, c=27, k=10, formats=(FP4_EVEN, INT4)),
    Case("linear_weight_grad", n=7, c=33, k=10, formats=(FP4_ODD, UINT4)),
]


@EACH_CPU
@pytest.mark.share(2)
@pytest.mark.parametrize("case", DOTS, ids=lambda c: f"{c.kind}-{DOTS.index(c)}")
def test_integer_gemms_equal_the_reference(case: Case, cpu: CpuInfo) -> None:
    assert case.kernel_on(cpu)[0].unit not in FLOAT_UNITS
    check(case, cpu, beside=DOTS)


# Taps in pairs and one left over, phases of one and two taps, taps that lie apart, one column.
DEPTHWISE_SIZES = [
    Case("", c=2, k=2, size=(1, 1)),
    Case("", c=40, k=40, size=(9, 11), kernel=(3, 3), stride=(2, 2)),
    Case("", c=17, k=17, size=(8, 27), kernel=(5, 2), padding=(2, 0)),
    Case("", c=7, k=7, size=(13, 13), kernel=(1, 7), padding=(0, 3), dilation=(1, 2)),
    Case("", c=33, k=33, size=(12, 28), dilation=(3, 3), stride=(3, 2), padding=(3, 1)),
    Case("", c=16, k=16, size=(6, 3), kernel=(3, 1), stride=(1, 3), padding=(1, 0)),
    Case("", c=3, k=3, n=1, size=(28, 33), kernel=(4, 4), stride=(4, 4), padding=(0, 0)),
]
PAIRS = {"": (UINT4, INT4), "input_grad": (FP4_EVEN, INT4), "weight_grad": (FP4_ODD, UINT4)}
DEPTHWISE = [
    replace(s, kind=kind, groups=s.c, formats=PAIRS[kind.partition("_")[2]], orders=(order,) * 3)
    for s in DEPTHWISE_SIZES
    for kind in KINDS
    for order in (Order.PIXELS, Order.ROWS)
]


@EACH_CPU
@pytest.mark.parametrize(
    "case", DEPTHWISE, ids=lambda c: f"{c.kind}-{c.n}x{c.c}x{c.size}{c.kernel}-{c.orders[0].value}"
)
def test_depthwise_gemms_equal_the_reference(case: Case, cpu: CpuInfo) -> None:
    check(case, cpu, beside=DEPTHWISE)


DECODED = [
    Case(kind, formats=(f, other), c=7, k=3, kernel=(1, 1), size=(5, 5))
    for f in FORMATS.values()
    if f.is_element
    for other in (f if integers(f) is None else INT4,)
    for kind in KINDS
]


@EACH_CPU
@pytest.mark.share(4)
@pytest.mark.parametrize("case", DECODED, ids=lambda c: f"{c.formats[0].name}-{c.kind}")
def test_every_format_is_decoded(case: Case, cpu: CpuInfo) -> None:
    check(case, cpu, beside=DECODED)


GROUPED = [
    Case(kind, formats=(f, f), c=6, k=10, groups=2, size=(5, 5))
    for f in (UINT2, INT4, FP8_143)
    for kind in KINDS
]


@pytest.mark.parametrize("case", GROUPED, ids=lambda c: f"{c.formats[0].name}-{c.kind}")
def test_groups_are_decoded_in_channel_order(case: Case) -> None:
    check(case, detect(), beside=GROUPED)


MIXED = [
    Case(kind, formats=formats, c=c, k=k, size=(5, 5), orders=orders)
    for kind, formats in zip(
        KINDS, ((UINT4, INT4), (FP4_EVEN, INT4), (FP4_ODD, UINT4)), strict=True
    )
    for c, k in ((3, 4), (13, 28))
    for orders in product(Order, Order, Order)
    if len({*orders}) > 1
]


@EACH_CPU
@pytest.mark.share(2)
@pytest.mark.parametrize("case", MIXED, ids=lambda c: f"{c.kind}-{MIXED.index(c)}")
def test_operands_in_different_orders(case: Case, cpu: CpuInfo) -> None:
    """What a program returns lies in rows, whatever reads it beside."""
    check(case, cpu, beside=MIXED)


FLOATS = [
    *(
        Case(kind, formats=formats, stride=stride, n=3)
        for kind in KINDS
        for formats in (
            *((BF16, BF16), (F16, F16), (FP8_152, UINT4), (F32, MIDRISE[3]), (BF16, UINTS[3])),
            (FP8_152_IBM, FP8_143_IBM),
        )
        for stride in ((1, 1), (2, 2))
    ),
    Case(
        "conv2d_weight_grad", formats=(BF16, BF16), c=3, orders=(Order.PIXELS,) + (Order.ROWS,) * 2
    ),
    Case("conv2d", formats=(F32, F32), orders=(Order.ROWS,) * 3, c=3, k=16),
    Case("conv2d", formats=(F16, BF16), made=BF16, bias=F16, out=F16),
    Case("conv2d", formats=(FP8_143, FP8_152), stride=(2, 2)),
    *(Case(k, formats=(FP4_R16_ODD, UINT4), c=27, made=BF16) for k in KINDS),
    *(Case(k, formats=(FP4_R8, INT4), c=33, k=33, groups=33) for k in KINDS),
    *(Case(k, formats=(FP4_R16_EVEN, MIDRISE[5]), n=5, c=28, k=7) for k in LINEAR),
    Case("conv2d", formats=(F32, F32), c=28, k=28, groups=28),
    Case("conv2d_input_grad", formats=(F32, F32), stride=(2, 2)),
    Case("conv2d_input_grad", formats=(FP4_EVEN, INT4), channel_scale=True),
    Case("conv2d_input_grad", formats=(FP8_152, FP8_143), made=BF16),
    Case("conv2d_weight_grad", formats=(F32, F32), n=17),
    Case("conv2d_weight_grad", formats=(BF16, F32), orders=(Order.PIXELS, Order.ROWS, Order.ROWS)),
    Case("conv2d_weight_grad", formats=(FP8_152, FP8_143), c=33, k=33, groups=33),
    Case("linear", formats=(F32, F32), n=13, c=33, k=10, bias=F32),
    Case("linear_input_grad", formats=(F32, F32), n=13, c=33, k=10),
    Case("linear_weight_grad", formats=(F32, F32), n=13, c=33, k=10),
]


@pytest.mark.share(2)
@pytest.mark.parametrize("case", FLOATS, ids=lambda c: f"{c.kind}-{FLOATS.index(c)}")
@EACH_CPU
def test_float_gemms_are_near_the_reference(case: Case, cpu: CpuInfo) -> None:
    assert case.kernel_on(cpu)[0].unit in FLOAT_UNITS
    check(case, cpu, beside=FLOATS)


def test_a_kernel_without_tiles_is_one_on_both_cpus() -> None:
    """So that it is compiled once for both."""
    kernels = (case.kernel_on(detect())[0] for case in (*DOTS, *DEPTHWISE, *FLOATS))
    for spec, kernel in {(_spec(k).way.name, _spec(k).kind): k for k in kernels}.items():
        plainer = without_tiles(kernel).spec.build()
        assert structural_equal(kernel.spec.build(), plainer, map_free_vars=True), spec


def _spec(kernel: Kernel) -> GemmSpec:
    assert isinstance(kernel.spec, GemmSpec)
    return kernel.spec


@pytest.mark.parametrize("kind", KINDS)
@EACH_CPU
def test_what_scratch_memory_held_before_does_not_matter(kind: str, cpu: CpuInfo) -> None:
    """Blocks of two channels or pixels reach beyond odd sizes; there 0 times NaN would be NaN."""
    odd = Case(kind, formats=(BF16, BF16), k=27)
    evens = replace(odd, c=14, k=28), replace(odd, size=(8, 8))
    for even in evens:
        kernel, orders = even.kernel_on(cpu)
        layouts = [Layout(s.value.type, orders[s.value]) for s in kernel.slots]
        nans = [np.full(x.rows * x.cell, -1, np.int64).astype(x.dtype) for x in layouts]
        nans[-1] = np.zeros(layouts[-1].rows * layouts[-1].cell, layouts[-1].dtype)
        compile_case(kernel, even, (odd, *evens))(*nans)
        check(odd, cpu)


def test_sums_beyond_int32_are_exact() -> None:
    """2 x 36000 pixels of +-4096 times up to 15 do not fit int32, nor does one long row."""
    check(Case("linear_weight_grad", n=36000, c=1, k=2, formats=(FP4_ODD, INT4_MIDRISE)), detect())
    row = Case("linear", n=1, c=36000, k=2, formats=(FP4_ODD, FP4_EVEN))
    check(row, detect(), Unit.INT16_DOT)
    check(replace(row, c=66000), detect(), Unit.INT32)


def test_a_linear_layer_s_samples_are_one_row_of_pixels() -> None:
    """A prime number of samples is summed in one row, 8179 * 4096 * 255 at most: not in int32."""
    case = Case("linear_weight_grad", n=8179, c=1, k=2, formats=(FP4_EVEN, UINT8))
    spec = case.kernel_on(WITHOUT_TILES)[0].spec
    assert isinstance(spec, GemmSpec) and spec.dot.split
    check(case, WITHOUT_TILES)


@pytest.mark.parametrize("f", [F32, BF16], ids=lambda f: f.name)
@pytest.mark.parametrize("kind", KINDS)
def test_results_do_not_depend_on_threads(kind: str, f: Format) -> None:
    case = Case(kind, n=17, formats=(f, f))
    first, _, _ = run(case, detect())
    use_threads(1)
    try:
        second, _, _ = run(case, detect())
    finally:
        use_threads(len(os.sched_getaffinity(0)))
    assert np.array_equal(first.numbers, second.numbers)


WORDS = {
    Unit.INT8_TILE: "tdpb",
    Unit.BF16_TILE: "tdpbf16ps",
    Unit.BF16_DOT: "vdpbf16ps",
    Unit.INT8_DOT: "vpdpbusd",
    Unit.INT16_DOT: "vpdpwssd",
    Unit.INT32: "vpmulld",
    Unit.F32: "vfmadd",
}


UNITS: list[tuple[str, tuple[Format, Format], str, Unit]] = [
    ("conv2d", (UINT4, INT4), "znver4", Unit.INT8_DOT),
    ("linear", (INT4, INT4), "icelake-server", Unit.INT8_DOT),
    *((kind, (INT4, INT4), "sapphirerapids", Unit.INT8_TILE) for kind in (*KINDS, *LINEAR)),
    *((kind, (BF16, BF16), "sapphirerapids", Unit.BF16_TILE) for kind in (*KINDS, *LINEAR)),
    ("conv2d_input_grad", (FP4_EVEN, INT4), "znver4", Unit.INT16_DOT),
    ("linear_input_grad", (FP4_EVEN, INT4_MIDRISE), "znver4", Unit.INT16_DOT),
    ("conv2d_input_grad", (LUQ[7], INT4), "znver4", Unit.INT8_DOT),
    ("linear_input_grad", (LUQ[5], INT4), "znver4", Unit.INT8_DOT),
    ("conv2d_input_grad", (LUQ[8], INT4), "znver4", Unit.INT16_DOT),
    ("conv2d_weight_grad", (LUQ[7], UINT4), "sapphirerapids", Unit.INT8_TILE),
    ("conv2d_weight_grad", (FP4_ODD, UINT4), "znver4", Unit.INT16_DOT),
    ("linear_weight_grad", (FP4_ODD, UINT4), "znver4", Unit.INT16_DOT),
    *((kind, (BF16, BF16), "znver4", Unit.BF16_DOT) for kind in (*KINDS, *LINEAR)),
    *((kind, (F32, F32), "skylake-avx512", Unit.F32) for kind in (*KINDS, *LINEAR)),
]


@pytest.mark.parametrize(("kind", "formats", "mcpu", "unit"), UNITS)
def test_the_declared_unit_is_in_the_assembly(
    kind: str, formats: tuple[Format, Format], mcpu: str, unit: Unit
) -> None:
    plain = Case("", n=16, c=32, k=32)
    case = replace(plain, kind=kind, formats=formats)
    beside = [replace(plain, kind=k, formats=f) for k, f, name, _ in UNITS if name == mcpu]
    kernel, _ = case.kernel_on(named(mcpu))
    assert kernel.unit is unit
    assembly = compile_case(kernel, case, beside).assembly
    present = {u for u, word in WORDS.items() if word in assembly}
    assert unit in present
    assert not present & ({Unit.INT8_DOT, Unit.INT16_DOT} - {unit})
    assert (unit in TILES) == ("ldtilecfg" in assembly)


def test_a_scale_per_image_is_refused() -> None:
    case = Case("conv2d_weight_grad", formats=(FP4_ODD, UINT4), channel_scale=True)
    with pytest.raises(NoKernelError, match="one scale per tensor"):
        case.kernel_on(detect())


def test_equal_specs_are_equal_and_named_apart() -> None:
    spec, same, other = (
        Case("conv2d", stride=s).kernel_on(detect())[0].spec for s in ((1, 1), (1, 1), (2, 2))
    )
    assert spec == same
    assert repr(spec) == repr(same)
    assert repr(spec) != repr(other)

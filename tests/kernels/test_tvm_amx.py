"""GEMM kernels on AMX tiles: sizes that fill tiles and that do not, all pairs of number forms."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("tvm")

from quatrain.compiler.formats import (
    BF16,
    F32,
    FP4_EVEN,
    FP4_ODD,
    FP8_143,
    FP8_152,
    INT4,
    INT4_MIDRISE,
    INT8,
    UINT4,
    UINT8,
)
from quatrain.targets.cpu.dialect import LLVM
from quatrain.targets.cpu.info import detect
from quatrain.targets.cpu.ways import FEWEST_IMAGES
from quatrain.targets.plan.layout import Layout, Order

from ..cases.gemm_case import KINDS, LINEAR, TILES, Case, check

pytestmark = pytest.mark.tvm

TILE_FORMATS = {
    "": [(UINT4, INT4), (INT8, UINT8), (BF16, BF16), (UINT8, INT4_MIDRISE), (FP8_143, UINT4)],
    "input_grad": [(FP4_EVEN, INT4), (INT8, INT8), (BF16, BF16), (FP8_152, INT4)],
    "weight_grad": [(FP4_ODD, UINT4), (INT4, INT4), (BF16, BF16), (FP8_152, UINT4)],
}
# Sizes that fill tiles, and that do not: channels, images, rows and columns, phases, blocks.
TILE_SIZES = [
    Case("", n=70, c=32, k=48, size=(8, 8)),
    Case("", n=11, c=64, k=32, size=(16, 16), stride=(2, 2)),
    Case("", n=9, c=96, k=17, size=(5, 33), kernel=(3, 1), padding=(1, 0)),
    Case("", n=17, c=16, k=16, size=(4, 4), dilation=(2, 2), padding=(2, 2)),
    Case("", n=1, c=1, k=1, size=(1, 1), kernel=(1, 1), padding=(0, 0)),
    Case("", n=13, c=128, k=64, size=(9, 7), kernel=(1, 1), padding=(0, 0), stride=(2, 2)),
    Case("", n=33, c=64, k=32, size=(3, 5), kernel=(1, 1), padding=(0, 0)),
    Case("", n=10, c=3, k=20, size=(27, 28), kernel=(7, 7), padding=(3, 3), stride=(2, 2)),
]


TILE_CASES = [
    replace(size, kind=kind, formats=formats)
    for size in TILE_SIZES
    for kind in KINDS
    for formats in TILE_FORMATS[kind.partition("_")[2]]
]


def name(case: Case) -> str:
    """Sizes and formats, for the name of a test."""
    formats = "-".join(f.name for f in case.formats)
    return f"{case.kind}-{case.n}x{case.c}x{case.size}->{case.k}-{formats}"


@pytest.mark.skipif(not detect().amx, reason="this machine has no AMX")
@pytest.mark.parametrize("case", TILE_CASES, ids=name)
def test_tiles_of_all_sizes_and_formats(case: Case) -> None:
    few = case.kind.endswith("weight_grad") and case.n < FEWEST_IMAGES
    assert few or case.kernel_on(detect())[0].unit in TILES
    check(case, detect(), beside=TILE_CASES)


LINEAR_CASES = [
    Case(kind, n=n, c=c, k=k, formats=formats)
    for n, c, k in ((70, 64, 33), (5, 96, 16), (128, 48, 7), (1, 16, 128))
    for kind in LINEAR
    for formats in TILE_FORMATS[kind.partition("_")[2]]
]


@pytest.mark.skipif(not detect().amx, reason="this machine has no AMX")
@pytest.mark.parametrize("case", LINEAR_CASES, ids=name)
def test_linear_layers_on_tiles(case: Case) -> None:
    check(case, detect(), beside=LINEAR_CASES)


# Results in bf16 leave two vectors at a time: of one place, of two places, and where that ends.
BF16_SIZES = [
    Case("", n=3, c=16, k=16, size=(19, 32)),
    Case("", n=3, c=16, k=16, size=(7, 33)),
    Case("", n=9, c=32, k=32, size=(8, 16)),
    Case("", n=2, c=48, k=48, size=(5, 16)),
    Case("", n=3, c=16, k=32, size=(32, 32), stride=(2, 2)),
    Case("", n=2, c=16, k=16, size=(12, 16), kernel=(1, 1), padding=(0, 0)),
    Case("", n=2, c=24, k=24, size=(5, 32)),
]


BF16_CASES = [
    replace(size, kind=kind, formats=formats, made=BF16, bias=bias, out=BF16)
    for size in BF16_SIZES
    for kind, biases in (("conv2d", (None, BF16, F32)), ("conv2d_input_grad", (None,)))
    for bias in biases
    for formats in (TILE_FORMATS[kind.partition("_")[2]][0], (BF16, BF16))
]


@pytest.mark.skipif(not detect().amx, reason="this machine has no AMX")
@pytest.mark.parametrize("case", BF16_CASES, ids=lambda c: f"{name(c)}-{c.bias}")
def test_bf16_results_of_tiles(case: Case) -> None:
    check(case, detect(), beside=BF16_CASES)


@pytest.mark.skipif(not detect().amx, reason="this machine has no AMX")
def test_a_weight_gradient_that_is_streamed() -> None:
    case = Case("linear_weight_grad", n=9, c=2048, k=2050, formats=(FP4_ODD, UINT4))
    assert Layout(case.ops()[0].result.type, Order.PIXELS).bytes >= LLVM.streamed_bytes
    check(case, detect())

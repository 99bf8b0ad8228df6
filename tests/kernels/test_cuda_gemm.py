"""GEMM kernels of the ``cuda`` target against the reference: ways, directions, loaders, edges."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm")

from quatrain.compiler.formats import (
    BF16,
    F16,
    F32,
    FP4_EVEN,
    FP4_ODD,
    FP4_R8,
    FP8_143,
    FP8_152,
    INT4,
    INT4_MIDRISE,
    INT5_17,
    INT8,
    INT16,
    LUQ,
    MIDRISE,
    UINT2,
    UINT4,
    UINT8,
    UINTS,
)
from quatrain.compiler.types import TensorType
from quatrain.targets.cuda.gemm import frame
from quatrain.targets.cuda.gemm.frame import TileFrame
from quatrain.targets.cuda.gemm.kernel import choose
from quatrain.targets.numbers.integers import integers, unit_of
from quatrain.targets.numbers.tensor import Tensor, dtype_of
from quatrain.targets.plan.layout import Order

from ..cases.device_gemm import check_on_device, device_spec
from ..cases.gemm_case import Case
from ..cuda import emulated
from ..cuda.emulate import has_compiler

pytestmark = [
    pytest.mark.tvm,
    pytest.mark.skipif(not has_compiler(), reason="the emulator needs g++"),
]
BYTES, PLANES, FOUR = "int8 mma", "int8 mma, two planes", "int8 mma, four planes"
FLOATS, SCALAR = "bf16 mma", "f32 tiles"
FORWARD, DX, DW = "conv2d", "conv2d_input_grad", "conv2d_weight_grad"
ROWS = (Order.ROWS,) * 3

# All shapes of the three directions in bytes, from each the same in the other ways.
AWKWARD = [
    Case(FORWARD),
    Case(FORWARD, n=1, c=3, k=33, size=(13, 28), kernel=(7, 7), padding=(3, 3), stride=(2, 2)),
    Case(FORWARD, c=24, k=48, groups=2, stride=(2, 1), dilation=(2, 1), padding=(0, 2)),
    Case(FORWARD, c=28, k=27, kernel=(5, 5), padding=(2, 2), orders=ROWS, size=(5, 5)),
    Case("linear", n=1, c=96, k=27, bias=F32),
    Case(DX, stride=(2, 2), c=33, k=27),
    Case(DX, stride=(3, 2), c=33, k=27, kernel=(1, 1), padding=(0, 0), orders=ROWS),
    Case(DX, stride=(3, 2), c=48, k=16, groups=2, dilation=(1, 2)),
    Case(DX, stride=(2, 3), k=64, kernel=(5, 5), padding=(2, 3), size=(13, 13), dilation=(2, 2)),
    Case("linear_input_grad", n=13, c=33, k=96),
    Case(DW, stride=(2, 1)),
    Case(DW, c=3, k=33, kernel=(7, 7), padding=(3, 3), stride=(2, 2), size=(13, 28)),
    Case(DW, c=48, k=32, groups=2, dilation=(2, 1), padding=(2, 0)),
    Case(DW, c=96, k=96, n=1, size=(13, 7), orders=ROWS),
    Case("linear_weight_grad", n=33, c=100, k=28),
]
OF_BYTES = [replace(c, formats=(INT8, INT4) if "_" in c.kind else (UINT4, INT4)) for c in AWKWARD]
OF_PLANES = [
    *(replace(AWKWARD[i], formats=(FP4_EVEN, INT4)) for i in (0, 2, 5, 8, 10, 11)),
    replace(AWKWARD[0], formats=(INT8, INT16)),
    replace(AWKWARD[10], formats=(INT4, MIDRISE[8])),
]
OF_FOUR = [replace(AWKWARD[i], formats=(FP4_EVEN, INT16)) for i in (2, 5, 12)]
OF_FLOATS = [
    *(replace(AWKWARD[i], formats=(BF16, BF16)) for i in (0, 1, 2, 4, 5, 8, 10, 12)),
    replace(AWKWARD[0], formats=(FP8_143, UINT4), made=BF16, bias=F16, out=F16),
    replace(AWKWARD[5], formats=(FP8_143, FP8_152)),
    replace(AWKWARD[10], formats=(FP4_R8, INT8)),
]
OF_SCALARS = [
    *(replace(AWKWARD[i], formats=(F32, F16)) for i in (1, 2, 8, 10, 13)),
    replace(AWKWARD[5], formats=(FP4_EVEN, INT4), channel_scale=True),
]
# Whole words of codes: decoded ahead, or on the way where taps and channels are few.
POINT = Case(FORWARD, size=(5, 7), kernel=(1, 1), padding=(0, 0))
IN_WORDS = [
    *(replace(POINT, c=64, k=16, formats=(f, INT4)) for f in (UINTS[1], UINT2, UINT4, INT8)),
    replace(POINT, c=256, k=64, stride=(2, 2)),
    replace(POINT, c=24, k=16, formats=(INT5_17, INT4), made=BF16, bias=BF16, out=BF16),
    replace(POINT, c=64, k=32, groups=2, formats=(UINT8, INT4)),
    Case(DW, c=32, k=48, groups=2, size=(5, 7), kernel=(1, 3), formats=(INT8, INT8)),
    replace(POINT, kind=DX, c=13, k=32, formats=(LUQ[7], INT4)),
    Case(DW, c=64, k=64, size=(5, 5), formats=(INT4, INT4_MIDRISE)),
    Case(DW, c=48, k=96, size=(5, 7), kernel=(1, 3), formats=(INT4, UINT4)),
    Case(DW, c=128, k=16, size=(5, 7), formats=(LUQ[7], UINT2)),
]
IN_WORDS_OF_PLANES = [
    replace(POINT, kind=DX, c=16, k=96, formats=(FP4_EVEN, INT4)),
    replace(POINT, kind=DW, c=64, k=32, formats=(FP4_ODD, UINT4)),
    Case(DX, c=40, k=64, size=(5, 5), formats=(FP4_ODD, INT4)),
    Case(DW, c=128, k=16, size=(5, 7), formats=(LUQ[9], UINT2)),
]
IN_WORDS_OF_FLOATS = [
    replace(POINT, kind=DX, c=160, k=64, formats=(FP4_R8, INT4)),
    replace(POINT, kind=DW, c=128, k=64, stride=(2, 2), formats=(FP8_143, FP8_152)),
]
CASES = [
    *((BYTES, case) for case in (*OF_BYTES, *IN_WORDS)),
    *((PLANES, case) for case in (*OF_PLANES, *IN_WORDS_OF_PLANES)),
    *((FOUR, case) for case in OF_FOUR),
    *((FLOATS, case) for case in (*OF_FLOATS, *IN_WORDS_OF_FLOATS)),
    *((SCALAR, case) for case in OF_SCALARS),
]
ALL = [case for _, case in CASES]


@pytest.mark.parametrize(("way", "case"), CASES, ids=lambda x: getattr(x, "kind", x))
def test_gemms_on_tiles_equal_the_reference(way: str, case: Case) -> None:
    check_on_device(case, way, beside=ALL)


@pytest.mark.parametrize(
    ("way", "case"),
    [
        (BYTES, Case(FORWARD, c=64, k=160, size=(9, 9), made=BF16, bias=F32)),
        (BYTES, Case(DX, c=160, k=64, size=(9, 9), formats=(INT8, INT4), orders=ROWS)),
        (FLOATS, Case(FORWARD, c=33, k=144, size=(9, 9), formats=(BF16, BF16))),
    ],
    ids=lambda x: getattr(x, "kind", x),
)
def test_large_tiles_are_finished_in_two_parts(
    way: str, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a GPU were filled by a few blocks."""
    monkeypatch.setattr(emulated, "MADE", {})
    monkeypatch.setattr(frame, "MULTIPROCESSORS", 1)
    spec = device_spec(case)
    tile = TileFrame(spec, spec.way.unit).tile
    assert (tile.m, tile.n) == (128, 128)
    check_on_device(case, way)


def _largest(type_: TensorType, rng: np.random.Generator) -> Tensor:
    """Everywhere the number whose lower byte is largest, and its negative: their sums run up."""
    f = type_.format
    assert integers(f) is not None
    units = [int(f.decode(code) / unit_of(f)) for code in range(1 << f.bits)]
    worst = max(range(len(units)), key=lambda c: (units[c] & 255, abs(units[c])))
    codes = np.full(type_.shape, worst, dtype_of(f))
    return Tensor(type_, codes, np.asarray(1.0, np.float32))


@pytest.mark.parametrize(
    ("way", "case"),
    [
        (BYTES, Case("linear", n=1, c=33100, k=8, formats=(UINT8, UINT8))),
        (BYTES, Case("linear_weight_grad", n=66300, c=8, k=8, formats=(INT8, UINT8))),
        (FOUR, Case("linear", n=1, c=33100, k=8, formats=(FP4_ODD, FP4_EVEN))),
        (PLANES, Case("linear_weight_grad", n=33100, c=8, k=8, formats=(FP4_ODD, UINT8))),
    ],
    ids=lambda x: getattr(x, "kind", x),
)
def test_sums_beyond_int32_are_split(way: str, case: Case) -> None:
    """Up to 66300 * 127 * 255."""
    spec = device_spec(case)
    parts, steps = TileFrame(spec, spec.way.unit).split
    assert parts > 1 and steps * 64 * 255 * 127 < 1 << 31
    check_on_device(case, way, draw=_largest)


@pytest.mark.parametrize(
    "case",
    [
        Case(FORWARD, k=7),
        Case(FORWARD, c=3, kernel=(2, 2)),
        Case(FORWARD, c=28, k=28, groups=28),
        Case(DX, c=4, k=33),
    ],
    ids=str,
)
def test_what_would_leave_tiles_empty_is_made_one_by_one(case: Case) -> None:
    assert device_spec(case).way.name == "products one by one, int32"


def test_older_gpus_have_no_tiles() -> None:
    spec = device_spec(Case(FORWARD, c=64, k=64, formats=(UINT8, INT4)))
    names = {arch: choose(spec, arch).way.name for arch in ("sm_75", "sm_80", "sm_90a", "sm_120")}
    assert names.pop("sm_75") == "products one by one, int32"
    assert set(names.values()) == {BYTES}


def test_an_operand_that_lies_as_it_is_multiplied_is_not_copied() -> None:
    """Bytes without a sign, bf16 and f32, a pixel's channels side by side."""
    for f, other in ((UINT8, INT8), (BF16, BF16), (F32, F32)):
        case = Case(FORWARD, c=64, k=64, formats=(f, other))
        for made, copied in ((case, False), (replace(case, orders=ROWS), True)):
            spec = device_spec(made)
            assert bool(TileFrame(spec, spec.way.unit).unpacked[0]) is copied


def test_a_gemm_is_the_first_that_a_process_builds() -> None:
    """Nothing that it needs is there by chance."""
    code = (
        "from tests.cases.device_gemm import device_spec; from tests.cases.gemm_case import Case; "
        "print(len(device_spec(Case('conv2d', c=64, k=64)).build()))"
    )
    top = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=top,
        env={**os.environ, "PYTHONPATH": top},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and int(done.stdout) > 0, done.stderr

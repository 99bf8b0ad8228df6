"""GEMM kernels of GPUs whose tensor cores multiply numbers of 4 bits, against the reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest

pytest.importorskip("tvm")

from quatrain.compiler.formats import (
    BF16,
    F32,
    INT4,
    INT4_MIDRISE,
    INTS,
    MIDRISE,
    UINT2,
    UINT4,
    UINT8,
    UINTS,
    Format,
)
from quatrain.targets.cuda.gemm import frame, tiles, unpack, words
from quatrain.targets.cuda.gemm.frame import TileFrame
from quatrain.targets.cuda.gemm.planes import planes_of
from quatrain.targets.cuda.gemm.spec import DeviceGemm
from quatrain.targets.cuda.ptx import await_groups
from quatrain.targets.plan.kernel import Unit
from quatrain.targets.plan.layout import Order
from quatrain.targets.tir.expr import i32

from ..cases import compiled
from ..cases.device_gemm import check_on_device, device_spec
from ..cases.gemm_case import Case
from ..cuda import emulated
from ..cuda.emulate import has_compiler
from ..cuda.emulated import EmulatedGpu

pytestmark = [
    pytest.mark.tvm,
    pytest.mark.skipif(not has_compiler(), reason="the emulator needs g++"),
]
AMPERE = EmulatedGpu("sm_80")
NIBBLES, BYTES, SINGLY = "int4 mma", "int8 mma", "products one by one, int32"
FORWARD, DX, DW = "conv2d", "conv2d_input_grad", "conv2d_weight_grad"
Pair = tuple[Format, Format]
SMALL = Case(FORWARD, n=1, k=13, size=(4, 5))
POINT = replace(SMALL, n=2, c=64, kernel=(1, 1), padding=(0, 0))
SIGNED = (INT4, INT4)
CASES = [
    # As they lie: 8 and 64 are whole pieces, 7 and 15 leave a code of 0 in the last byte.
    Case(FORWARD, c=64, k=33, size=(5, 5)),
    replace(SMALL, c=7, kernel=(5, 5), padding=(2, 2), stride=(2, 2), size=(13, 9)),
    replace(SMALL, c=15, k=28, formats=(UINT4, UINT4), padding=(2, 0)),
    Case("linear", n=1, c=96, k=27, bias=F32),
    # Padded ahead, or brought in order.
    *(replace(SMALL, c=c, formats=(INT4, UINT4)) for c in (13, 28, 33)),
    replace(SMALL, c=27, k=100, stride=(2, 1), made=BF16, bias=BF16, out=BF16),
    Case(FORWARD, c=28, k=27, kernel=(5, 5), padding=(2, 2), orders=(Order.ROWS,) * 3, size=(5, 5)),
    Case(FORWARD, c=48, k=16, groups=2, stride=(2, 1), dilation=(2, 1), padding=(0, 2)),
    Case("linear", n=33, c=100, k=8, formats=SIGNED),
    # Whole words with a sign: the lowest code is lifted on the way, or where taps are many ahead.
    replace(POINT, formats=SIGNED),
    replace(POINT, c=256, formats=(INT4, UINTS[1]), stride=(2, 2)),
    Case(FORWARD, c=64, k=16, size=(5, 5), formats=(INT4, UINT4)),
    # Other formats that 4 bits hold.
    replace(POINT, c=24, formats=(UINTS[3], INTS[3])),
    replace(POINT, c=33, formats=(UINT4, MIDRISE[3])),
    # dX: phases of strides, taps that reach nothing.
    Case(DX, n=1, stride=(2, 2), c=33, k=27, formats=SIGNED),
    Case(DX, n=1, stride=(3, 2), c=33, k=64, kernel=(1, 1), padding=(0, 0), formats=SIGNED),
    Case(DX, stride=(3, 2), c=48, k=16, groups=2, dilation=(1, 2), formats=SIGNED),
    Case(DX, n=1, stride=(2, 3), k=7, kernel=(5, 5), padding=(2, 3), size=(13, 13)),
    Case("linear_input_grad", n=13, c=33, k=96, formats=SIGNED),
]


# Of other counts, signs and kinds a share.
SHARE = 13
KINDS = (
    Case(FORWARD, n=1, k=8, size=(3, 4)),
    Case(DX, n=1, c=8, size=(5, 4), stride=(2, 1)),
    Case("linear", n=1, k=8),
)
SIGNS = ((UINT4, UINT4), (UINT4, INT4), (INT4, UINT4), (INT4, INT4))


def of(case: Case, channels: int, formats: Pair) -> Case:
    """The case with so many channels to sum over."""
    if case.kind == DX:
        return replace(case, k=channels, formats=formats)
    return replace(case, c=channels, formats=formats)


GRID = [
    of(case, channels, formats)
    for channels, case, formats in product((7, 13, 27, 28, 33, 64, 100), KINDS, SIGNS)
    if case.kind != "linear" or channels > 13  # shorter sums are made one by one
]


def spec_of(case: Case, arch: str = "sm_80") -> DeviceGemm:
    return device_spec(case, EmulatedGpu(arch))


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.kind}-{c.c}-{c.k}")
def test_nibbles_on_tiles_equal_the_reference(case: Case) -> None:
    check_on_device(case, NIBBLES, beside=CASES, gpu=AMPERE)


@pytest.mark.share(SHARE)
@pytest.mark.parametrize("case", GRID, ids=lambda c: f"{c.kind}-{c.c}-{c.k}")
def test_all_counts_and_signs(case: Case) -> None:
    beside = GRID[::SHARE] if case in GRID[::SHARE] else GRID
    check_on_device(case, NIBBLES, beside=beside, gpu=AMPERE)


@pytest.mark.parametrize(
    ("case", "way"),
    [
        # A word of bytes holds them as well.
        *((Case(FORWARD, c=c, kernel=(5, 5)), BYTES) for c in (1, 3, 4)),
        (Case(FORWARD, c=64, k=7), SINGLY),
        (Case(FORWARD, c=28, k=28, groups=28), SINGLY),
        # Sums over pixels, along which no codes are packed.
        (Case(DW, c=64, k=64, formats=(INT4, UINT4)), BYTES),
        (Case("linear_weight_grad", n=33, c=64, k=64, formats=(INT4, UINT4)), BYTES),
        *(
            (Case(FORWARD, c=64, formats=formats), BYTES)
            for formats in (
                *((UINT8, INT4), (UINT4, UINT8), (UINT4, INT4_MIDRISE), (MIDRISE[3], INT4)),
                *((UINT2, INT4), (INTS[3], INT4)),
            )
        ),
    ],
    ids=lambda x: getattr(x, "kind", x),
)
def test_what_is_made_in_another_way(case: Case, way: str) -> None:
    assert spec_of(case).way.name == way


def test_gpus_that_have_them() -> None:
    case = Case(FORWARD, c=64, k=64)
    names = {n: spec_of(case, f"sm_{n}").way.name for n in (75, 80, 86, 89, 90, 100, 120)}
    assert [n for n, name in names.items() if name == NIBBLES] == [80, 86, 89]
    assert names[75] == SINGLY and names[90] == names[100] == names[120] == BYTES


def test_codes_without_a_sign_are_copied_as_they_lie() -> None:
    """The sizes of what is decoded ahead, and of what is on its way."""
    for channels, ahead in ((7, False), (8, False), (64, False), (13, True), (28, True)):
        made = TileFrame(spec_of(Case(FORWARD, c=channels)), Unit.INT4_MMA)
        assert bool(made.unpacked[0]) is ahead and made.direct == (0, 0)
    signed = TileFrame(spec_of(replace(POINT, formats=SIGNED)), Unit.INT4_MMA)
    assert signed.unpacked[0] == 0 and signed.direct == (4, 0)


def test_int32_bounds_a_sum() -> None:
    """Enough tiles that none is split but by the bound."""
    spec = spec_of(Case("linear", n=1 << 12, c=30_000_000, k=1 << 9))
    made = TileFrame(spec, spec.way.unit)
    parts, steps = made.split
    assert spec.way.name == NIBBLES and parts == 2 and steps == made.most_steps
    assert steps * 128 * 15 * 7 < 1 << 31 <= (steps + 1) * 128 * 15 * 7
    # Phases are not split.
    phases = Case(DX, n=1, k=15_000_000, c=8, kernel=(2, 2), stride=(2, 1), formats=SIGNED)
    assert spec_of(phases).way.name == NIBBLES
    assert spec_of(replace(phases, k=25_000_000)).way.name == SINGLY


def test_parts_of_a_sum_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if int32 held 300 products."""
    monkeypatch.setattr(compiled, "_COMPILED", {})
    monkeypatch.setattr(emulated, "MADE", {})
    monkeypatch.setattr(frame, "most_products", lambda a, b: 300)
    case = Case("linear", n=3, c=1400, k=13, formats=SIGNED)
    spec = spec_of(case)
    assert TileFrame(spec, spec.way.unit).split == (6, 2)
    check_on_device(case, NIBBLES, gpu=AMPERE)


FAULTS: dict[str, tuple[object, str, Callable[..., object]]] = {
    "neighbours_in_a_byte": (
        unpack._Unpack,
        "_channel",
        lambda self, channels, element, i: (
            element < i32(channels.elements),
            element * i32(2) + i32(i % 2),
        ),
    ),
    "lowest_code_left": (words, "_lifted", lambda code, word, bits: word),
    "copy_not_awaited": (tiles, "await_groups", lambda code, left: await_groups(code, left + 1)),
    "signs_exchanged": (
        frame,
        "planes_of",
        lambda f, unit, real=planes_of: real(UINT4 if f.signed else INT4, unit),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_COMPILED", {})
    monkeypatch.setattr(emulated, "MADE", {})
    case = replace(POINT, c=256, formats=(INT4, UINT4))
    monkeypatch.setattr(*FAULTS[fault])
    with pytest.raises(AssertionError) as found:
        check_on_device(case, NIBBLES, gpu=AMPERE)
    assert ("by the order" in str(found.value)) is (fault == "copy_not_awaited")

"""Number formats: their codes and levels, and casts to them, against ml_dtypes and the papers."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from quatrain.compiler.formats import (
    BF16,
    F16,
    F32,
    FORMATS,
    FP4_EVEN,
    FP4_ODD,
    FP4_ODD_LOW,
    FP8_143,
    FP8_143_IBM,
    FP8_143_READINGS,
    FP8_152,
    FP8_152_IBM,
    INT4,
    INT4_MIDRISE,
    INTS,
    LUQ,
    MIDRISE,
    UINT4,
    UINTS,
    Format,
)
from quatrain.compiler.types import Scale, TensorType
from quatrain.targets.numbers.rounding import Tie, decode, encode
from quatrain.targets.numbers.tensor import Tensor, dtype_of
from quatrain.targets.reference.evaluate import apply

CODED = [f for f in FORMATS.values() if f.is_coded]
OF_BITS = [f for f in CODED if not f.listed]  # the others: test_levels.py
# The formats that ml_dtypes has too. Its int4 uses the code that ours leaves out, -8.
PEERS: dict[Format, Any] = {
    FP8_143: ml_dtypes.float8_e4m3fn,
    FP8_152: ml_dtypes.float8_e5m2,
    INT4: ml_dtypes.int4,
    UINT4: ml_dtypes.uint4,
    INTS[2]: ml_dtypes.int2,
    UINTS[2]: ml_dtypes.uint2,
}


def all_codes(f: Format) -> np.ndarray[Any, np.dtype[Any]]:
    return np.arange(1 << f.bits).astype(dtype_of(f))


def cast(x: Any, f: Format, from_: Format = F32) -> Tensor:
    scale = Scale.TENSOR if f.is_coded else Scale.NONE
    source = Tensor.from_numbers(TensorType(np.shape(x), from_), x)
    return apply("cast", [source], [TensorType(np.shape(x), f, scale)])[0]


@pytest.mark.parametrize("f", CODED, ids=str)
def test_every_code_is_a_level_or_special(f: Format) -> None:
    numbers = decode(all_codes(f), f)
    finite = numbers[np.isfinite(numbers)]
    assert set(finite.tolist()) == set(f.levels())
    magnitudes = len(f.specials)
    assert np.sum(~np.isfinite(numbers)) == magnitudes * (2 if f.signed else 1)
    assert f.max == max(f.levels()) and f.smallest == min(v for v in f.levels() if v > 0)


def test_levels_that_the_papers_list() -> None:
    even = [4.0**k for k in range(-3, 4)]
    assert FP4_EVEN.levels() == (*(-v for v in reversed(even)), 0, *even)
    assert FP4_ODD.levels() == tuple(2 * v for v in FP4_EVEN.levels())
    assert FP4_ODD_LOW.levels() == tuple(v / 2 for v in FP4_EVEN.levels())
    for n, f in LUQ.items():
        assert [v for v in f.levels() if v > 0] == [2.0**k for k in range(n)]
        assert f.storage_bits == (4 if n < 8 else 8)
    assert INT4.levels() == tuple(range(-7, 8)) and UINT4.levels() == tuple(range(16))
    assert INT4_MIDRISE.levels() == tuple(range(-15, 16, 2))
    assert MIDRISE[2].levels() == (-3, -1, 1, 3) and MIDRISE[8].max == 255
    assert (FP8_143.max, FP8_143_IBM.max, FP8_152.max) == (448, 30, 57344)
    assert FP8_152_IBM.smallest == 2.0**-15 * 1.25 and FP8_152.smallest == 2.0**-16


def positive(name: str) -> list[float]:
    return [v for v in FORMATS[name].levels() if v > 0]


def test_levels_of_other_radices() -> None:
    """All even phases end at 64, where GradScale aims; two phases of 16 are one of radix 4."""
    assert positive("fp4.r2") == [2.0**k for k in range(7)]
    assert positive("fp4.r8") == [8.0**k for k in range(-4, 3)]
    assert positive("fp4.r16.even") == [64 * 16.0**k for k in range(-6, 1)]
    both = sorted(positive("fp4.r16.even") + positive("fp4.r16.odd"))
    assert both == [64 * 4.0**k for k in range(-12, 2)]
    assert positive("fp4.r16.odd_low") == [v / 4 for v in positive("fp4.r16.even")]
    assert positive("fp5.140") == [2.0**k for k in range(-8, 7)]
    tops = {FORMATS[n].max for n in ("fp4.even", "fp4.r2", "fp4.r8", "fp4.r16.even", "fp5.140")}
    assert tops == {64.0}


@pytest.mark.parametrize("f", PEERS, ids=str)
def test_decoding_is_that_of_ml_dtypes(f: Format) -> None:
    codes = all_codes(f)
    # ml_dtypes keeps a code below 8 bits in the low bits of a byte, sign-extended.
    wide = np.where(codes >> (f.bits - 1), codes | (0xFF << f.bits) & 0xFF, codes)
    theirs = (wide if f.signed else codes).astype(np.uint8).view(PEERS[f]).astype(np.float32)
    ours = decode(codes, f)
    if f.is_integer and f.signed:
        spare = 1 << (f.bits - 1)
        ours, theirs = np.delete(ours, spare), np.delete(theirs, spare)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("f", [FP8_143, FP8_152], ids=str)
def test_casts_are_those_of_ml_dtypes(f: Format) -> None:
    x = np.random.default_rng(0).standard_normal(4001).astype(np.float32) * np.float32(f.max / 4)
    x = np.concatenate([x, x * np.float32(2.0**-12), x * np.float32(f.smallest), [0.0, -0.0]])
    x = x[np.abs(x) <= f.max].astype(np.float32)  # beyond the top ours saturates
    np.testing.assert_array_equal(encode(x, f), x.astype(PEERS[f]).view(np.uint8))
    nan = np.array([np.nan, -np.nan], np.float32)
    np.testing.assert_array_equal(encode(nan, f), nan.astype(PEERS[f]).view(np.uint8))


@pytest.mark.parametrize("f", CODED, ids=str)
def test_levels_are_fixed_points(f: Format) -> None:
    levels = np.array(f.levels(), np.float32)
    for tie in Tie:
        np.testing.assert_array_equal(decode(encode(levels, f, tie), f), levels)
    codes = all_codes(f)
    finite = codes[np.isfinite(decode(codes, f))]
    if f.is_integer and f.signed and not f.midrise:
        half = 1 << (f.bits - 1)
        number = (finite.astype(int) ^ half) - half
        # Codes beyond an end repeat the level there; without ends the lowest code does.
        finite = finite[(number >= levels[0]) & (number <= levels[-1])]
    if f.top:
        finite = finite[finite % (1 << (f.bits - 1)) <= f.top]  # those above repeat the top level
    np.testing.assert_array_equal(encode(decode(finite, f), f), finite)


@pytest.mark.parametrize("f", OF_BITS, ids=str)
def test_midpoints_and_their_neighbours(f: Format) -> None:
    levels = np.array(f.levels(), np.float32)
    below, above = levels[:-1], levels[1:]
    middle = (below + above) / 2  # exact in float32 for every format
    just_below, just_above = np.nextafter(middle, -np.inf), np.nextafter(middle, np.inf)
    for tie in Tie:
        np.testing.assert_array_equal(decode(encode(just_below, f, tie), f), below)
        np.testing.assert_array_equal(decode(encode(just_above, f, tie), f), above)
    away = np.where(middle >= 0, above, below)
    near = np.where(middle >= 0, below, above)
    np.testing.assert_array_equal(decode(encode(middle, f, Tie.UP), f), away)
    np.testing.assert_array_equal(decode(encode(middle, f, Tie.DOWN), f), near)
    even = encode(middle, f)
    assert not np.any(even % 2) and np.all(np.isin(decode(even, f), levels))


@pytest.mark.parametrize("f", OF_BITS, ids=str)
def test_beyond_the_levels_numbers_saturate(f: Format) -> None:
    low, high = f.levels()[0], f.levels()[-1]
    x = np.array([-np.inf, np.inf, -3e38, 3e38], np.float32)
    np.testing.assert_array_equal(decode(encode(x, f), f), [low, high, low, high])
    nan = decode(encode(np.array([np.nan, -np.nan]), f), f)
    has_nan = any(np.isnan(f.decode(c)) for c in f.specials)
    np.testing.assert_array_equal(nan, [np.nan, np.nan] if has_nan else [high, low])


X = [0.001, 0.01, 0.05, 0.3, 0.99, 1.06, 1.0625, 3.3, 17, 29, 31, 100]
FP8_VECTORS = {  # 1.0625 is a tie for three bits of mantissa
    FP8_143: [0.001953, 0.009766, 0.050781, 0.3125, 1, 1, 1, 3.25, 16, 28, 32, 96],
    FP8_143_IBM: [0.000977, 0.009766, 0.050781, 0.3125, 1, 1, 1, 3.25, 16, 28, 30, 30],
    FP8_152: [0.000977, 0.009766, 0.046875, 0.3125, 1, 1, 1, 3.5, 16, 28, 32, 96],
}


MIDDLE = [0.009766, 0.050781, 0.3125, 1, 1, 1, 3.25, 16, 28]
READINGS = {  # of 1-4-3: what 0.001 becomes, what 31 and 100 become, top, least positive number
    "fp8.143.b7": (0, 32, 96, 480, 2**-7 * 1.125),
    "fp8.143.b7.nan": (0, 32, 96, 448, 2**-7 * 1.125),
    "fp8.143.b7.sub": (0.001953, 32, 96, 480, 2**-9),
    "fp8.143.b11.nan": (0.000977, 28, 28, 28, 2**-11 * 1.125),
    "fp8.143.b11.sub": (0.000977, 30, 30, 30, 2**-13),
    "fp8.143.b11.nan.sub": (0.000977, 28, 28, 28, 2**-13),
}


@pytest.mark.parametrize("f", FP8_143_READINGS, ids=str)
def test_readings_of_143(f: Format) -> None:
    least, high, higher, top, smallest = READINGS[f.name]
    assert (f.max, f.smallest) == (top, smallest)
    np.testing.assert_allclose(cast(X, f).real(), [least, *MIDDLE, high, higher], atol=5e-7, rtol=0)


@pytest.mark.parametrize("f", FP8_VECTORS, ids=str)
def test_fp8_vectors(f: Format) -> None:
    # The vectors are printed with six decimals.
    np.testing.assert_allclose(cast(X, f).real(), FP8_VECTORS[f], atol=5e-7, rtol=0)


@pytest.mark.parametrize(("f", "peer"), [(BF16, ml_dtypes.bfloat16), (F16, np.float16)], ids=str)
def test_carriers_round_to_nearest_even(f: Format, peer: Any) -> None:
    ulp = 2.0 ** -(f.man + 1)  # half a unit in the last place of 1
    numbers = [1 + ulp, 1 + 3 * ulp, 1 + ulp + 2.0**-20, -1 - ulp, 3e38, -0.0, np.nan]
    x = np.array(numbers, np.float32)
    rounded = cast(x, f).data
    with np.errstate(over="ignore"):
        theirs = x.astype(peer).astype(np.float32)
    np.testing.assert_array_equal(rounded.astype(np.float32), theirs)
    near_one = [1, 1 + 4 * ulp, 1 + 2 * ulp, -1]
    np.testing.assert_array_equal(rounded[:4].astype(np.float64), near_one)
    assert np.signbit(rounded[5])


def test_a_float64_reaches_bf16_through_f32() -> None:
    # Just above a bf16 tie, by less than f32 can tell: f32 first, so it counts as the tie.
    x = np.float64(1 + 2.0**-8 + 2.0**-40)
    assert Tensor.from_numbers(TensorType((), BF16), x).numbers == 1

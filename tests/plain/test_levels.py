"""Formats that list their levels: the lists beside torchao's, and rounding to each of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quatrain.compiler.formats import DYN4, DYN8, FORMATS, UDYN8, ULIN4, Format
from quatrain.targets.numbers.rounding import decode, encode, reaches

LISTED = [f for f in FORMATS.values() if f.listed]
F32 = np.float32
Floats = np.ndarray[Any, np.dtype[np.float32]]


def map_of_torchao(bits: int, decades: int, signed: bool) -> Floats:
    """What its ``create_dynamic_map`` computes, in f32 as there."""
    found = [F32(0), F32(1)]
    for i in range(decades):
        parts = 2 ** (i + bits - 1 - decades + (not signed))
        ends = np.linspace(F32(0.1), F32(1), parts + 1, dtype=F32)
        middles = F32(10.0 ** (i + 1 - decades)) * ((ends[:-1] + ends[1:]) / F32(2))
        found += [*middles, *(-middles if signed else ())]
    return np.sort(np.array(found, F32))


@pytest.mark.parametrize(
    ("f", "decades", "signed"), [(DYN8, 7, True), (UDYN8, 7, False), (DYN4, 3, True)], ids=str
)
def test_dynamic_levels_are_those_of_torchao(f: Format, decades: int, signed: bool) -> None:
    """But for the roundings of its arithmetic: it takes about four on the way to a level."""
    wanted = map_of_torchao(f.bits, decades, signed)
    np.testing.assert_allclose(f.listed, wanted, rtol=4 * 2.0**-24, atol=0)


def test_the_levels_of_four_bits() -> None:
    positive = [0.0055, 0.0325, 0.0775, 0.2125, 0.4375, 0.6625, 0.8875]
    wanted = [*(-x for x in reversed(positive)), 0, *positive, 1]
    np.testing.assert_array_equal(DYN4.listed, np.array(wanted, F32))
    assert ULIN4.listed == tuple((i + 1) / 16 for i in range(16))


@pytest.mark.parametrize("f", LISTED, ids=str)
def test_a_list_ascends_from_code_to_code(f: Format) -> None:
    codes = np.arange(1 << f.bits)
    numbers = decode(codes, f)
    assert np.all(np.diff(numbers) > 0) and numbers[-1] == 1
    np.testing.assert_array_equal(encode(numbers, f), codes)
    assert (numbers[0] < 0) == f.signed and (0 in numbers) == (f is not ULIN4)


@pytest.mark.parametrize("f", LISTED, ids=str)
def test_halfway_is_rounded_up(f: Format) -> None:
    """By f64 numbers; of those in f32 the first that is no nearer to the level below."""
    levels, upper = np.array(f.listed), np.arange(1, 1 << f.bits)
    middles = (levels[:-1] + levels[1:]) / 2  # exact
    np.testing.assert_array_equal(encode(middles, f), upper)
    np.testing.assert_array_equal(encode(np.nextafter(middles, -np.inf), f), upper - 1)
    first = np.array(reaches(f), F32)
    assert np.all(first >= middles) and np.all(np.nextafter(first, F32(-np.inf)) < middles)
    np.testing.assert_array_equal(encode(first, f), upper)
    np.testing.assert_array_equal(encode(np.nextafter(first, F32(-np.inf)), f), upper - 1)


@pytest.mark.parametrize("f", LISTED, ids=str)
def test_what_is_no_number_between_the_ends(f: Format) -> None:
    x = np.array([-np.inf, -7, np.inf, 7, np.nan, -np.nan], F32)
    top = (1 << f.bits) - 1
    np.testing.assert_array_equal(encode(x, f), [0, 0, top, top, 0, 0])


@pytest.mark.parametrize("f", LISTED, ids=str)
def test_no_number_moves_further_than_half_a_step(f: Format) -> None:
    levels = np.array(f.listed)
    x = np.random.default_rng(0).uniform(levels[0], 1, 4096)
    below = np.searchsorted(levels, x, side="right") - 1
    steps = levels[np.minimum(below + 1, len(levels) - 1)] - levels[below]
    assert np.all(np.abs(decode(encode(x, f), f) - x) <= steps / 2)

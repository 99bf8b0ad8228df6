"""Logarithmic and stochastic rounding against the published tables, formulas and statistics."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from quatrain.compiler.formats import (
    F32,
    FORMATS,
    FP4_EVEN,
    FP4_ODD,
    FP4_ODD_LOW,
    FP8_143,
    I64,
    INT4,
    INT4_MIDRISE,
    UINT4,
    Format,
)
from quatrain.compiler.types import Scale, TensorType
from quatrain.targets.numbers.rounding import (
    Tie,
    Underflow,
    decode,
    encode_log,
    encode_stochastic,
)
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.reference.evaluate import apply

GRIDS = (FP4_EVEN, FP4_ODD, FP4_ODD_LOW)
ARITHMETIC, HARMONIC = 1.6, 2.5

# x; even, odd 2*4^k, odd 4^k/2; arithmetic midpoint, ties down, underflow nearest.
ROWS = [
    (0.005, 0, 0, 0.0078125),
    (0.0079, 0.015625, 0, 0.0078125),
    (0.02, 0.015625, 0.03125, 0.03125),
    (0.04, 0.0625, 0.03125, 0.03125),
    (0.15, 0.0625, 0.125, 0.125),
    (0.16, 0.25, 0.125, 0.125),
    (0.62, 0.25, 0.5, 0.5),
    (0.63, 1, 0.5, 0.5),
    (1.0, 1, 0.5, 0.5),
    (1.25, 1, 0.5, 0.5),
    (1.3, 1, 2, 2),
    (2.5, 1, 2, 2),
    (2.6, 4, 2, 2),
    (5.0, 4, 2, 2),
    (5.1, 4, 8, 8),
    (10, 4, 8, 8),
    (10.1, 16, 8, 8),
    (40, 16, 32, 32),
    (41, 64, 32, 32),
    (100, 64, 128, 32),
    (-3.0, -4, -2, -2),
    (-0.7, -1, -0.5, -0.5),
]
# What the other tie and underflow change in each column.
UP_UNIFORM: tuple[dict[float, float], ...] = (
    {0.0079: 0, 2.5: 4, 10: 16, 40: 64},
    {1.25: 2, 5.0: 8},
    {1.25: 2, 5.0: 8},
)
# What the harmonic midpoint changes besides.
HARMONIC_CHANGES: tuple[dict[float, float], ...] = (
    {0.15: 0.25, 0.62: 1, 2.5: 4, 10: 16, 40: 64},
    {1.0: 2, 1.25: 2, 5.0: 8},
    {1.0: 2, 1.25: 2, 5.0: 8},
)


def rounded(x: Any, f: Format, up: float, tie: Tie, underflow: Underflow) -> Any:
    return decode(encode_log(np.asarray(x, np.float32), f, up, tie, underflow), f)


def column(i: int, changes: dict[float, float] | None = None) -> list[float]:
    return [(changes or {}).get(row[0], row[i + 1]) for row in ROWS]


@pytest.mark.parametrize("i", range(3), ids=map(str, GRIDS))
def test_radix4_table(i: int) -> None:
    x = [row[0] for row in ROWS]
    down = rounded(x, GRIDS[i], ARITHMETIC, Tie.DOWN, Underflow.NEAREST)
    np.testing.assert_array_equal(down, column(i))
    up = rounded(x, GRIDS[i], ARITHMETIC, Tie.UP, Underflow.UNIFORM)
    np.testing.assert_array_equal(up, column(i, UP_UNIFORM[i]))
    harmonic = rounded(x, GRIDS[i], HARMONIC, Tie.DOWN, Underflow.NEAREST)
    np.testing.assert_array_equal(harmonic, column(i, HARMONIC_CHANGES[i]))


def exponent_field(x: np.ndarray[Any, np.dtype[np.float32]], up: float) -> Any:
    """The published formula: two instructions on the exponent bits of ``up * |x|``."""
    field = (np.float32(up) * np.abs(x)).view(np.int32) >> 23 & 0xFF
    return np.clip((field - 125) >> 1, 0, 7)


def awkward_floats(f: Format) -> Any:
    """All floats around each threshold of both midpoints, random bits, and the specials."""
    near = [
        (np.float32(f.smallest * 4.0**k / up).view(np.int32) + np.arange(-50, 51))
        for k in range(-1, 8)
        for up in (ARITHMETIC, HARMONIC)
    ]
    bits = np.random.default_rng(0).integers(0, 1 << 31, 100_000)
    special = np.array([0, np.inf, np.nan, 1e-45, 3e38], np.float32).view(np.int32)
    positive = np.concatenate([*near, bits, special]).astype(np.int32).view(np.float32)
    return np.concatenate([positive, -positive])


@pytest.mark.parametrize("up", [ARITHMETIC, HARMONIC])
@pytest.mark.parametrize("f", GRIDS, ids=str)
def test_thresholds_equal_the_exponent_field_formula(f: Format, up: float) -> None:
    x = awkward_floats(f)
    with np.errstate(all="ignore"):
        units = x * np.float32(1 / f.smallest)  # exact: a power of two
        formula = np.signbit(x) << 3 | exponent_field(units, up)
    np.testing.assert_array_equal(encode_log(x, f, up, Tie.UP, Underflow.UNIFORM), formula)


def test_the_odd_phase_is_the_even_formula_with_half_the_coefficient() -> None:
    x = np.abs(awkward_floats(FP4_ODD))
    with np.errstate(all="ignore"):
        units = x * np.float32(1 / FP4_EVEN.smallest)
        formula = exponent_field(units, ARITHMETIC / 2)
    odd = encode_log(x, FP4_ODD, ARITHMETIC, Tie.UP, Underflow.UNIFORM)
    np.testing.assert_array_equal(odd, formula)


@pytest.mark.parametrize("tie", [Tie.UP, Tie.DOWN])
@pytest.mark.parametrize("up", [1.3, ARITHMETIC, 1.75, HARMONIC, 3.0])
def test_any_coefficient_means_level_over_threshold(up: float, tie: Tie) -> None:
    x = awkward_floats(FP4_EVEN)
    x = x[: 9 * 2 * 101]  # those around the thresholds
    levels = [Fraction(v) for v in FP4_EVEN.levels() if v > 0]
    for value, code in zip(x, encode_log(x, FP4_EVEN, up, tie, Underflow.UNIFORM), strict=True):
        edges = [v / Fraction(str(up)) for v in levels]
        exact = Fraction(float(value))
        assert code == sum(exact >= e if tie is Tie.UP else exact > e for e in edges)


@pytest.mark.parametrize("f", [f for f in FORMATS.values() if f.is_log], ids=str)
def test_every_radix_turns_at_its_midpoint(f: Format) -> None:
    """Just below, at and just above ``(1 + r) / 2`` times each level, which f32 holds exactly."""
    levels = np.array([v for v in f.levels() if v > 0], np.float32)
    middle = levels[:-1] * np.float32((1 + f.radix) / 2)
    up = 2 * f.radix / (1 + f.radix)
    for tie, at in ((Tie.UP, levels[1:]), (Tie.DOWN, levels[:-1])):
        for x, want in (
            (np.nextafter(middle, np.float32(0)), levels[:-1]),
            (middle, at),
            (np.nextafter(middle, np.float32(np.inf)), levels[1:]),
        ):
            np.testing.assert_array_equal(rounded(x, f, up, tie, Underflow.UNIFORM), want)


def test_statistics_of_two_phase_rounding() -> None:
    """Closed forms of a fine grid on [1, 4): log-uniform x, then uniform x."""
    n = 1 << 18
    u = (np.arange(n) + 0.5) / n
    for x, even_rms, odd_rms, both_rms in (
        (4.0**u, 0.3666, 0.3666, 0.2187),
        (1 + 3 * u, 0.8660, 0.9842, 0.5000),
    ):
        even, odd = (
            rounded(x, f, ARITHMETIC, Tie.UP, Underflow.UNIFORM).astype(np.float64) - x
            for f in (FP4_EVEN, FP4_ODD)
        )
        relative = even_rms == odd_rms
        even, odd = (e / x if relative else e for e in (even, odd))
        rms = [np.sqrt(np.mean(e * e)) for e in (even, odd, (even + odd) / 2)]
        np.testing.assert_allclose(rms, [even_rms, odd_rms, both_rms], atol=6e-5)
        if relative:  # the page prints four digits, and six of the mean shrink
            means = [np.mean(e) for e in (even, odd, (even + odd) / 2)]
            np.testing.assert_allclose(means, 1.2 / np.log(4) - 1, atol=1e-5)
            assert abs(np.corrcoef(even, odd)[0, 1] + 0.49) < 0.005


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (FP4_EVEN, 0.4),
        (FP4_EVEN, -3.0),
        (FP4_ODD, 0.02),
        (FP8_143, 0.0011),
        (INT4, -2.3),
        (INT4_MIDRISE, 0.25),
        (UINT4, 7.75),
    ],
    ids=str,
)
def test_stochastic_rounding_is_right_on_average(f: Format, x: float) -> None:
    n = 4096
    u = ((np.arange(n) + 0.5) / n).astype(np.float32)
    values = decode(encode_stochastic(np.full(n, x, np.float32), f, u), f).astype(np.float64)
    low = max(v for v in f.levels() if v <= x)
    high = min(v for v in f.levels() if v > x)
    assert set(values) == {low, high}
    # The even grid of u resolves the probability to one part in n.
    assert abs(values.mean() - x) <= (high - low) / n


@pytest.mark.parametrize("f", [FP4_EVEN, INT4, INT4_MIDRISE, UINT4, FP8_143], ids=str)
def test_stochastic_rounding_leaves_levels_and_saturates(f: Format) -> None:
    levels = np.array(f.levels(), np.float32)
    top = np.array([np.inf, -np.inf, 1e30], np.float32)
    for u in (0.0, 0.5, 1 - 2.0**-24):
        at_levels = encode_stochastic(levels, f, np.full(levels.shape, u, np.float32))
        np.testing.assert_array_equal(decode(at_levels, f), levels)
        beyond = encode_stochastic(top, f, np.full(top.shape, u, np.float32))
        np.testing.assert_array_equal(decode(beyond, f), levels[[-1, 0, -1]])


def test_round_stochastic_draws_by_seed_step_salt_and_index() -> None:
    type_ = TensorType((3, 7), F32, Scale.POW2)
    g = Tensor.from_numbers(type_, np.full((3, 7), 2.0), 0.5)

    def run(seed: int, step: int, salt: int) -> Any:
        words = [Tensor.from_numbers(TensorType((), I64), n) for n in (seed, step)]
        made = TensorType((3, 7), FP4_EVEN, Scale.POW2)
        (q,) = apply("round_stochastic", [g, *words], [made], salt=salt)
        assert q.scale == 0.5
        return q.numbers

    first = run(1, 2, 3)
    assert set(first.ravel()) == {1, 4}
    np.testing.assert_array_equal(first, run(1, 2, 3))
    assert all(np.any(first != run(*other)) for other in [(2, 2, 3), (1, 3, 3), (1, 2, 4)])


@pytest.mark.parametrize(
    ("to", "x", "low", "high"),
    [
        ("fp16.169", 1.0 + 2.0**-11, 1.0, 1.0 + 2.0**-9),
        ("fp16.169", -(2.0**-32), -(2.0**-31) * (1 + 2.0**-9), 0.0),
        ("fp16.169", 2.0**-31 * (1 + 2.5 * 2.0**-9), 2.0**-31 * (1 + 2 * 2.0**-9), None),
        ("fp16.169", 1e30, 2.0**33 - 2.0**24, 2.0**33 - 2.0**24),
        ("f16", 3 * 2.0**-26, 0.0, 2.0**-24),
        ("f16", -65504.0, -65504.0, -65504.0),
        ("f16", 2.0**-14 - 2.0**-26, 2.0**-14 - 2.0**-24, 2.0**-14),
    ],
)
def test_round_float_is_right_on_average(to: str, x: float, low: float, high: float | None) -> None:
    """``low`` and ``high`` enclose x; None: one step of the least binade above ``low``."""
    n, top = 20_000, low + 2.0**-40 if high is None else high
    wide = TensorType((n,), F32)
    words = [Tensor.from_numbers(TensorType((), I64), k) for k in (4, 2)]
    (y,) = apply(
        "round_float", [Tensor.from_numbers(wide, np.full(n, x)), *words], [wide], to=to, salt=1
    )
    assert set(y.numbers) <= {np.float32(low), np.float32(top)}
    if low <= x <= top:
        # Three standard deviations of a mean of n draws are at most 1.5 / sqrt(n) of the distance.
        assert abs(y.numbers.mean(dtype=np.float64) - x) <= 1.5 * (top - low) / n**0.5


def test_round_float_keeps_numbers_of_the_format_and_nan() -> None:
    numbers = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
    numbers = numbers[np.isfinite(numbers) | np.isnan(numbers)]
    type_ = TensorType(numbers.shape, F32)
    words = [Tensor.from_numbers(TensorType((), I64), k) for k in (4, 2)]
    x = Tensor.from_numbers(type_, numbers)
    (y,) = apply("round_float", [x, *words], [type_], to="f16", salt=1)
    np.testing.assert_array_equal(y.numbers, numbers)
    np.testing.assert_array_equal(np.signbit(y.numbers), np.signbit(numbers))


def test_round_log_keeps_the_scale_and_reads_its_words() -> None:
    scaled, made = (TensorType((4,), f, Scale.POW2) for f in (F32, FP4_EVEN))
    g = Tensor.from_numbers(scaled, [2.5, 0.0079, -0.005, -0.0], 2.0**20)
    (q,) = apply("round_log", [g], [made], up=1.6, tie="up", underflow="uniform")
    np.testing.assert_array_equal(q.data, [5, 0, 8, 8])
    assert q.scale == 2.0**20
    (q,) = apply("round_log", [g], [made], up=1.6, tie="down", underflow="nearest")
    np.testing.assert_array_equal(q.data, [4, 1, 8, 8])

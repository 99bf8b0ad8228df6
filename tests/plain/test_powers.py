"""log2 and 2^e of the reference beside those of NumPy in float64."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from quatrain.targets.numbers.powers import HIGHEST, LEAST, LOWEST, exp2, log2

MOST = float(np.finfo(np.float32).max)


def one(x: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array([x], np.float32)


@given(st.floats(LEAST, MOST, width=32))
def test_log2(x: float) -> None:
    """A rounding of log2 m, which lies within 1/2, and one of the sum with the exponent."""
    want = np.log2(np.float64(x))
    assert abs(float(log2(one(x))[0]) - want) <= 2**-23 + 2**-24 * abs(want)


@given(st.integers(-126, 127))
def test_log2_of_powers_is_exact(k: int) -> None:
    assert log2(one(2.0**k))[0] == k


@given(st.floats(LOWEST, HIGHEST, width=32))
def test_exp2(e: float) -> None:
    """The series leaves out 4e-7 of the number; each of its operations rounds."""
    want = np.exp2(np.float64(e))
    assert abs(float(exp2(one(e))[0]) / want - 1) <= 4e-7 + 3 * 2**-24


@given(st.integers(-126, 127))
def test_exp2_of_integers_is_exact(k: int) -> None:
    assert exp2(one(k))[0] == 2.0**k


def test_ends() -> None:
    e = np.array([-np.inf, -200, 128, np.inf, np.nan], np.float32)
    assert exp2(e).tolist()[:4] == [LEAST, LEAST, 2.0**127, 2.0**127] and np.isnan(exp2(e)[4])
    x = np.array([np.inf, np.nan], np.float32)
    assert log2(x)[0] == np.inf and np.isnan(log2(x)[1])

"""Constants of f64 are in machine code to the bit, however small: sine and cosine need 2^-216."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("tvm")

from quatrain.compiler.formats import F32
from quatrain.compiler.types import TensorType

from ..cases.one_kernel import Group, pointwise, random_inputs

pytestmark = pytest.mark.tvm
LARGE = np.array([3.4028235e38, -1e30, 7.5e22, 1e10, 123456.0, 1.0, 1e-30], np.float32)


@pytest.fixture(params=["cpu", "cuda"])
def target(request: pytest.FixtureRequest) -> None:
    """The kernel runs there: on this CPU or in the emulator."""
    if request.param == "cuda":
        request.getfixturevalue("emulated")


@pytest.mark.usefixtures("target")
@pytest.mark.parametrize("kind", ["sin", "cos"])
@pytest.mark.parametrize("count", [1, 4, 7])  # single numbers, vectors, both
def test_functions_of_large_numbers(kind: str, count: int) -> None:
    group = Group()
    x = group.input("x", TensorType((count,), F32))
    (y,) = group.op(kind, (x,), [x.type])
    got, _ = pointwise(group, (y,), random_inputs(group.inputs, given={"x": LARGE[:count]}))
    # libm's are right to 1 ulp of f64, and rounding to f32 is one more half.
    want = [np.float32(getattr(math, kind)(float(v))) for v in LARGE[:count]]
    np.testing.assert_allclose(got[y.name].numbers, want, rtol=2.0**-23)

"""What is measured of tensors, for who watches a step: no recipe needs these."""

from __future__ import annotations

from .definition import OpDef
from .signature import define
from .traits import Trait

# Zeros, subnormal numbers, the exponent fields 1 .. 254 of f32, infinities, NaN.
BINS = 258

MEASURE: tuple[OpDef, ...] = (
    define(
        f"exponents(x: float[*S]) -> n: int[{BINS}]",
        """how many numbers are 0, subnormal in f32, of each of its exponents from -126 to 127,
        infinite, NaN""",
    ),
    define(
        "dots(x: float[*S], y: float[*S]) -> xx: f32[], xy: f32[], yy: f32[], away: f32[]",
        "the sums of x x, of x y, of y y and of (x - y)^2",
    ),
    define(
        "stored_numbers(q: code[*S]) -> x: float[*S]",
        "stored numbers, without their scale",
        Trait.POINTWISE,
    ),
)

"""Pointwise ops, and functions of a number, which are taken in f64, then rounded; NaN stays."""

from __future__ import annotations

from .definition import OpDef
from .signature import define
from .traits import Trait

POINT, KEEPS, ARITHMETIC = Trait.POINTWISE, Trait.KEEPS_CARRIER, Trait.ARITHMETIC
LINEAR, SIGN, CHEAP = Trait.LINEAR, Trait.KEEPS_SIGN, Trait.CHEAP
TWO = "(a: float[*S], b: float[*S]) -> y: float[*S]"
RELATION = "relation: lt|le|eq|ne|ge|gt"
DRAWN = "seed: int[], step: int[]"

ELEMENTS: tuple[OpDef, ...] = (
    define("relu(x: float[*S]) -> y: float[*S]", "max(x, 0)", POINT, KEEPS, CHEAP, SIGN),
    define(
        "relu_grad(g: float[*S], y: mask[*S]) -> dx: float[*S]",
        "g where y > 0 (a region mask: m != 0), else 0",
        POINT, KEEPS,
    ),
    define(f"add{TWO}", "a + b", POINT, KEEPS, ARITHMETIC, LINEAR, SIGN),
    define(f"sub{TWO}", "a - b", POINT, KEEPS, ARITHMETIC, LINEAR),
    define(f"mul{TWO}", "a * b", POINT, KEEPS, ARITHMETIC, SIGN),
    define(
        "scale(x: float[*S]) {factor: float} -> y: float[*S]",
        "x * factor",
        POINT, KEEPS, ARITHMETIC, LINEAR, CHEAP,
    ),
    define(
        "add_bias(x: float[N C *S], b: float[C]) -> y: float[N C *S]",
        "b per channel",
        POINT, KEEPS, CHEAP, Trait.IMAGE,
    ),
    define(
        "clamp_min(x: float[*S]) {low: float} -> y: float[*S]",
        "max(x, low)",
        POINT, KEEPS, ARITHMETIC, CHEAP, SIGN,
    ),
    define(
        "clamp_max(x: float[*S]) {high: float} -> y: float[*S]",
        "min(x, high)",
        POINT, KEEPS, ARITHMETIC,
    ),
    define("shift(x: float[*S]) {by: float} -> y: float[*S]", "x + by", POINT, KEEPS, ARITHMETIC),
    define(f"div{TWO}", "a / b", POINT, KEEPS, ARITHMETIC, Trait.FUNCTION),
    define(f"maximum{TWO}", "a where a > b, else b; NaN if one is", POINT, KEEPS, ARITHMETIC),
    define(f"minimum{TWO}", "a where a < b, else b; NaN if one is", POINT, KEEPS, ARITHMETIC),
    define(
        f"compare(a: float[*S], b: float[*S]) {{{RELATION}}} -> m: float[*S]",
        "1 where a relation b, else 0",
        POINT, KEEPS, ARITHMETIC,
    ),
    define(
        f"compare_to(x: float[*S]) {{{RELATION}, value: float}} -> m: float[*S]",
        "1 where x relation value, else 0",
        POINT, KEEPS, ARITHMETIC,
    ),
    define(
        "where(c: float[*S], a: float[*S], b: float[*S]) -> y: float[*S]",
        "a where c != 0, else b",
        POINT, KEEPS, ARITHMETIC,
    ),
    define(
        "masked(c: float[*S], x: float[*S]) {value: float} -> y: float[*S]",
        "value where c != 0, else x",
        POINT, KEEPS, ARITHMETIC,
    ),
    define(
        "within(x: float[*S]) {low: float, high: float} -> y: float[*S]",
        "x where low <= x <= high, else NaN; a batch with such a number is refused",
        POINT, KEEPS, ARITHMETIC,
    ),
    define("constant() {value: float} -> c: f32[*S]", "value everywhere", CHEAP),
    define(
        f"initialize(w: f32[*S], {DRAWN}) {{bound: float, salt: int}} -> w1: f32[*S]",
        """at step 0 (modulo 2^32) (u - 1/2) * 2 bound, u in [0, 1) as random_mask draws it; else
        w""",
        POINT,
    ),
    define(
        f"random_mask({DRAWN}) {{keep: float 0..1, salt: int}} -> m: f32[*S]",
        "1 with probability keep, else 0; Threefry-2x32(seed, step; salt, element index)",
        POINT,
    ),
    define(
        f"random_uniform({DRAWN}) {{salt: int}} -> u: f32[*S]",
        "multiples of 2^-24 in [0, 1), drawn as by random_mask",
        POINT,
    ),
)  # fmt: skip


def _function(name: str, meaning: str, *more: Trait) -> OpDef:
    return define(f"{name}(x: float[*S]) -> y: float[*S]", meaning, POINT, KEEPS, ARITHMETIC, *more)


FUNCTIONS: tuple[OpDef, ...] = (
    _function("abs", "|x|"),
    _function("sign", "1, 0 (NaN too) or -1"),
    _function("floor", "the next integer below, or x", Trait.KEEPS_SIGN),
    _function("round", "the nearest integer, the even one of two", Trait.KEEPS_SIGN),
    _function("sqrt", "the square root", Trait.FUNCTION),
    _function("exp", "e^x", Trait.FUNCTION),
    _function("expm1", "e^x - 1", Trait.FUNCTION),
    _function("log", "the natural logarithm", Trait.FUNCTION),
    _function("log1p", "log(1 + x)", Trait.FUNCTION),
    _function("sin", "the sine, of any number as exact as near 0", Trait.FUNCTION),
    _function("cos", "the cosine", Trait.FUNCTION),
    _function("tanh", "the hyperbolic tangent", Trait.FUNCTION),
    _function("sigmoid", "1 / (1 + e^-x)", Trait.FUNCTION),
    _function("erf", "the error function", Trait.FUNCTION),
    define(
        "power(x: float[*S]) {exponent: float} -> y: float[*S]",
        "x^exponent; NaN where x < 0 and the exponent is no integer",
        POINT, KEEPS, ARITHMETIC, Trait.FUNCTION,
    ),
)  # fmt: skip

"""Stochastic rounding in generated code: Threefry-2x32-20 and the choice between two levels."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx as tir

from ...compiler.formats import Format
from ..numbers.threefry import ROTATIONS, ROUNDS
from .expr import Expr, Vectors
from .formats import (
    decode_magnitude,
    f32_bits,
    integer_bits,
    is_nan,
    log_level,
    nan_to_infinity,
    sign_code,
)


def threefry(v: Vectors, keys: Sequence[Expr], counter0: Expr, counter1: Expr) -> Expr:
    """The first of the two words of each lane; ``keys`` are three, see ``threefry.py``."""
    a = v.hold(counter0 + keys[0])
    b = v.hold(counter1 + keys[1])
    for i in range(ROUNDS):
        r = ROTATIONS[i % 8]
        a = v.hold(a + b)
        b = v.hold(((b << v.u(r)) | (b >> v.u(32 - r))) ^ a)
        if i % 4 == 3:
            n = i // 4 + 1
            a = v.hold(a + keys[n % 3])
            b = v.hold(b + (keys[(n + 1) % 3] + v.u(n)))
    return a


def encode_stochastic(v: Vectors, x: Expr, f: Format, u: Expr) -> Expr:
    """Codes of a level beside an f32 name: the upper one iff ``u (high - low) < x - low``."""
    if f.exp == 0:
        return _integer(v, x, f, u)
    top = f.levels()[-1]
    size = v.f(tir.min(v.magnitude(x), v.splat(top)))
    low = v.hold(_floor_code(v, size, f))
    below, above = (v.f(decode_magnitude(v, c, f)) for c in (low, low + v.u(1)))
    up = v.mul(u, v.sub(above, below)) < v.sub(size, below)
    code = low + v.cast(up, "uint32")
    nans = [c for c in f.specials if c >> (f.man - 1) & 1 and f.decode(c) != f.decode(c)]
    if nans:
        code = v.where(is_nan(v, x), v.u(nans[0]), code)
    return code | sign_code(v, x, f)


def _floor_code(v: Vectors, size: Expr, f: Format) -> Expr:
    """The code of the largest level <= ``size``, at most the one below the top."""
    last = next(c for c in range(1 << (f.bits - 1)) if f.decode(c) == f.max) - 1
    if f.is_log:
        code = v.unsigned(log_level(v, size, f, f32_bits(f.smallest)))
        return tir.min(code, v.u(last))
    bits = v.bits(size)
    normal = (bits >> v.u(23 - f.man)) - v.u((127 - f.bias) << f.man)
    if f.subnormals:
        scaled = v.mul(size, v.splat(2.0 ** (f.bias - 1 + f.man)))
        small = v.cast(v.cast(v.f(tir.min(scaled, v.splat(256.0))), "int32"), "uint32")
        code = v.where(bits < v.u(f32_bits(2.0 ** (1 - f.bias))), small, normal)
    else:
        code = v.where(bits < v.u(f32_bits(f.smallest)), v.u(0), normal)
    return tir.min(code, v.u(last))


def _integer(v: Vectors, x: Expr, f: Format, u: Expr) -> Expr:
    """Integers round the number itself; a midrise level is 2 code - n."""
    least, top = f.levels()[0], f.levels()[-1]
    x = nan_to_infinity(v, x)
    x = v.f(tir.min(v.f(tir.max(x, v.splat(least))), v.splat(top)))
    step = 2.0 if f.midrise else 1.0
    # In steps from a level; the first guess may be one too high where the sum was rounded.
    offset = top if f.midrise else 0.0
    places = v.mul(v.add(x, v.splat(offset)), v.splat(1 / step)) if f.midrise else x
    guess = v.floor(places)
    level = v.f(guess * v.splat(step) - v.splat(offset)) if f.midrise else guess
    guess = v.f(v.where(level > x, v.sub(guess, v.splat(1.0)), guess))
    last = ((1 << f.bits) - 2.0) if f.midrise else top - 1
    guess = v.f(tir.min(guess, v.splat(last)))
    level = v.f(guess * v.splat(step) - v.splat(offset)) if f.midrise else guess
    up = v.mul(u, v.splat(step)) < v.sub(x, level)
    code = v.add(guess, v.f(v.cast(up, "float32")))
    return integer_bits(v, code, f.bits)

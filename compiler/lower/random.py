"""Lowering of random numbers: dropout, and what a forward draws, on the counter generator.

A number depends on seed, step and a salt of its own, so that a step draws other numbers than torch,
of the same distribution.
"""

from __future__ import annotations

from math import pi
from zlib import crc32

from ..ir import SEED, STEP, Value
from .builder import Builder, CallLowering, known_as, number, refuse, result_shape, shape_of
from .joint import Arg, Call, JointTensor
from .pointwise import operand, scaled, shifted

HALF_STEP = 2.0**-25  # of the generator; what it adds keeps a logarithm finite


def dropout(b: Builder, call: Call) -> None:
    """``qtr.dropout``, forward and backward alike: the mask follows from layer, seed and step."""
    x, p, layer = call.args
    assert isinstance(layer, str)
    v, keep = b.of(x), 1.0 - number(p)
    if keep <= 0.0:
        b.bind(call, b.constant(shape_of(v), 0.0))
        return
    clocks = (b.counted(SEED), b.counted(STEP))
    # A salt of the layer's own, the same in both directions and after recompilation.
    salt = crc32(layer.encode())
    mask = b.one("random_mask", clocks, "mask", shape_of(v), keep=keep, salt=salt)
    kept = b.one("mul", (v, mask), "kept", shape_of(v))
    b.bind(call, scaled(b, kept, 1.0 / keep))


def _salt(b: Builder, call: Call) -> int:
    """Of the layer, the function and the count of its calls there, whatever the batch size."""
    name = f"{call.layer} {known_as(call.op)}"
    b.drawn[name] = b.drawn.get(name, 0) + 1
    return crc32(f"{name} {b.drawn[name]}".encode())


def drawn(b: Builder, call: Call) -> Value:
    """Numbers in [0, 1), one for each element of the result."""
    made = call.results[0]
    if made is None or made.dtype != "float32":
        raise refuse(call, "draws numbers of another kind; only float32 is drawn")
    clocks = (b.counted(SEED), b.counted(STEP))
    return b.one("random_uniform", clocks, "drawn", result_shape(call), salt=_salt(b, call))


def uniform(*, low: int | None = None, high: int | None = None) -> CallLowering:
    """Lowering of evenly distributed numbers; the arguments that are their bounds, else 0 and 1."""

    def lower(b: Builder, call: Call) -> None:
        least = 0.0 if low is None else number(call.args[low])
        most = 1.0 if high is None else number(call.args[high])
        b.bind(call, shifted(b, scaled(b, drawn(b, call), most - least), least))

    return lower


def _normal(b: Builder, call: Call) -> Value:
    """Box and Muller, "A note on the generation of random normal deviates" (1958)."""
    shape = result_shape(call)
    share = shifted(b, scaled(b, drawn(b, call), -1.0), 1.0)
    length = scaled(b, b.one("log", (share,), "log", shape), -2.0)
    length = b.one("sqrt", (length,), "length", shape)
    angle = scaled(b, drawn(b, call), 2 * pi)
    return b.one("mul", (length, b.one("cos", (angle,), "cos", shape)), "normal", shape)


def normal(*, mean: int | None = None, deviation: int | None = None) -> CallLowering:
    """Lowering of normal numbers."""

    def lower(b: Builder, call: Call) -> None:
        middle = 0.0 if mean is None else number(call.args[mean])
        wide = 1.0 if deviation is None else number(call.args[deviation])
        b.bind(call, shifted(b, scaled(b, _normal(b, call), wide), middle))

    return lower


def exponential(b: Builder, call: Call) -> None:
    """-log(u) / rate"""
    share = shifted(b, drawn(b, call), HALF_STEP)
    made = b.one("log", (share,), "log", result_shape(call))
    b.bind(call, scaled(b, made, -1.0 / number(call.args[1])))


def bernoulli(*, at: int) -> CallLowering:
    """Lowering of 1 with a probability, a number or one for each element, else 0."""

    def lower(b: Builder, call: Call) -> None:
        shape, chance = result_shape(call), call.args[at]
        u, wanted = drawn(b, call), _chance(b, chance, shape)
        b.bind(call, b.one("compare", (u, wanted), "chosen", shape, relation="lt"))

    return lower


def _chance(b: Builder, chance: Arg, shape: tuple[int, ...]) -> Value:
    assert isinstance(chance, (JointTensor, float, int))
    return operand(b, chance, shape)


RANDOM: dict[str, CallLowering] = {
    "qtr.dropout.default": dropout,
    "aten.rand.default": uniform(),
    "aten.rand_like.default": uniform(),
    "aten.uniform.default": uniform(low=1, high=2),
    "aten.randn.default": normal(),
    "aten.randn_like.default": normal(),
    "aten.normal_functional.default": normal(mean=1, deviation=2),
    "aten.exponential.default": exponential,
    "aten.bernoulli.default": bernoulli(at=0),
    "aten.bernoulli.p": bernoulli(at=1),
    "aten.bernoulli.Tensor": bernoulli(at=1),
}

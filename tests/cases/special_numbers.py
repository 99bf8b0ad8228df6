"""Numbers that a rule forgets, and kernels of any op beside the reference on them.

NaN of both signs and of all kinds, infinities, zeros of both signs, subnormals and what is beside
them, the largest numbers, and a few ordinary ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import numpy.typing as npt

from quatrain.compiler import verify
from quatrain.compiler.errors import VerifyError
from quatrain.compiler.ir import Attr, Op, Program, Region, attrs
from quatrain.compiler.ir.ops import OPS, Trait
from quatrain.compiler.types import Shape
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.plan.kernel import Kernel
from quatrain.targets.plan.layout import Order
from quatrain.targets.reference.evaluate import run_op

from . import machine
from .one_kernel import Group, Values, pointwise, random_inputs, single
from .op_examples import example

# What an op is told of: OCP's elements, a list, and one that is spelled by its bits.
ELEMENTS = ("fp8.143", "fp8.152", "fp6.123", "fp4.121", "int8", "dyn8", "fp5.e3m1")
Numbers = npt.NDArray[np.float32]

NANS = (0x7FC00000, 0xFFC00000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0xFF800001)
INFINITIES = (0x7F800000, 0xFF800000)
SMALL = (0, 0x80000000, 1, 0x80000001, 0x007FFFFF, 0x807FFFFF, 0x00800000, 0x80800000)
LARGE = (0x7F7FFFFF, 0xFF7FFFFF)
PLAIN = (0x3F800000, 0xBF800000, 0x3F000000, 0xC0600000)
EVERY = (*NANS, *INFINITIES, *SMALL, *LARGE, *PLAIN)
# Vectors of 16 and what is left of them, in one dimension and in two.
SIZES: dict[str, Shape] = {"*S": (5, 31), "N": (5,), "C": (19,)}
# A turn has special numbers everywhere, or just so many that not all sums are NaN.
TURNS = 12
SHARES = (1.0, 1.0, 0.1, 0.01)
# What an attribute may be that may be any number.
VALUES = (0.0, -0.0, 1.0, -2.5)
BITS = 3


def special(shape: Shape, rng: np.random.Generator, share: float, among: Sequence[int]) -> Numbers:
    """Ordinary numbers with a share of these bit patterns."""
    drawn = rng.choice(np.array(among, np.uint32), shape).view(np.float32)
    plain = rng.normal(size=shape).astype(np.float32)
    return np.where(rng.random(shape) < share, drawn, plain)


def special_inputs(op: Op, turn: int, among: Sequence[int] = EVERY) -> Values:
    """Special numbers for what is no parameter; codes, labels and parameters as they may be."""
    rng = np.random.default_rng(turn)
    values = tuple(dict.fromkeys(op.inputs))
    made = random_inputs(values, turn)
    for v, name in zip(op.inputs, names(op), strict=True):
        f, shape = v.type.format, v.type.shape
        if f.is_index:
            made[v.name] = Tensor(v.type, made[v.name].data % 3, None)
        elif v.type.elements > SIZES["C"][0] and not f.is_coded:
            numbers = special(shape, rng, SHARES[turn % len(SHARES)], among)
            if (op.kind, name) == ("log_softmax_grad", "y"):
                numbers = -np.abs(numbers)  # logarithms of probabilities
            made[v.name] = Tensor.from_numbers(v.type, numbers, made[v.name].scale)
        elif not f.is_coded:
            parameter = BITS if name == "bits" else rng.uniform(0.1, 0.9, shape)
            sign = -1 if name == "low" else 1
            made[v.name] = Tensor.from_numbers(v.type, sign * parameter)
    made.update(_winners(op, turn))
    return made


def names(op: Op) -> list[str]:
    """What the definition calls each operand."""
    return [OPS[op.kind].operand(i).name for i in range(len(op.inputs))]


def _winners(op: Op, turn: int) -> Values:
    """Places that pooling has made: others may lie outside of their windows."""
    places = [v for v, name in zip(op.inputs, names(op), strict=True) if name == "where"]
    if not places:
        return {}
    forward = example(op.kind.removesuffix("_grad"), SIZES)
    made = run_op(forward, list(random_inputs(forward.inputs, turn).values()))
    return {v.name: made[1] for v in places}


def variants(op: Op) -> Iterator[Op]:
    """The op with each flag and word, and with some numbers for what may be any number."""
    choices: list[list[tuple[str, Attr]]] = []
    for name, attribute in OPS[op.kind].attrs.items():
        if attribute.type == "word":
            choices.append([(name, word) for word in attribute.words])
        elif attribute.type == "format":
            choices.append([(name, f) for f in ELEMENTS])
        elif attribute.type == "flag":
            choices.append([(name, False), (name, True)])
        elif attribute.type == "float" and attribute.low == -attribute.high:
            choices.append([(name, value) for value in VALUES])
    for chosen in product(*choices):
        made = replace(op, attrs=attrs(**{**op.attrs, **dict(chosen)}))
        if accepted(made):
            yield made


def accepted(op: Op) -> bool:
    """Whether the verifier takes a program of this op."""
    inputs = tuple(dict.fromkeys(op.inputs))
    try:
        verify(Program("p", inputs, (), (Region("forward", (op,)),), op.results))
    except VerifyError:
        return False
    return True


def fused(op: Op) -> bool:
    """Whether its kernel is one of fused ops."""
    return bool(OPS[op.kind].traits & {Trait.POINTWISE, Trait.TAIL})


def kernel_of(op: Op) -> Kernel:
    """The kernel that ``run`` runs."""
    orders = dict.fromkeys((*op.inputs, *op.results), Order.PIXELS)
    return machine.kernel_of([op], op.results, orders)


def run(op: Op, inputs: Values) -> tuple[Values, Values]:
    """What the kernel of an op makes, and what the reference makes."""
    group = Group()
    group.inputs, group.ops = list(dict.fromkeys(op.inputs)), [op]
    return pointwise(group, op.results, inputs) if fused(op) else single(group, inputs)


def alike(got: Tensor, want: Tensor, relative: float = 0.0, absolute: float = 0.0) -> None:
    """NaN where NaN is, else the same number with the sign of its zeros, or one near it."""
    if got.type.format.is_coded or got.type.format.is_index:
        np.testing.assert_array_equal(got.data, want.data)
    else:
        a, b = got.numbers, want.numbers
        np.testing.assert_allclose(a, b, rtol=relative, atol=absolute, equal_nan=True)
        zeros = (a == 0) & (b == 0)
        np.testing.assert_array_equal(np.signbit(a) & zeros, np.signbit(b) & zeros)
    if want.scale is not None:
        assert got.scale is not None
        np.testing.assert_array_equal(got.scale, want.scale)


def tolerance(kind: str) -> tuple[float, float]:
    """Relative and absolute; all that neither sums nor is a function of f64 agrees to the bit."""
    traits = OPS[kind].traits
    if Trait.TAIL in traits:
        # Sums of up to 32 ordinary numbers in f32, of some 800 in f64.
        return 2.0**-18, 2.0**-15
    alone = Trait.POINTWISE not in traits and Trait.UPDATE not in traits
    # Of f64 that errs by some 1e-15 the two roundings to f32 may be neighbours.
    return (2.0**-22 if alone or Trait.FUNCTION in traits else 0.0), 0.0

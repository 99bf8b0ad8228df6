"""Kernels that measure tensors, beside the reference: counts and codes to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from quatrain.compiler.formats import BF16, F16, F32, FP4_EVEN, I64, INT4, UINT8, Format
from quatrain.compiler.ir.ops.measure import BINS
from quatrain.compiler.types import Scale, Shape, TensorType
from quatrain.targets.plan.layout import Order

from ..cases.one_kernel import Group, close, pointwise, random_inputs, same, single

pytestmark = [pytest.mark.tvm, pytest.mark.usefixtures("together")]

ODD = (0.0, -0.0, np.inf, -np.inf, np.nan, 2.0**-149, -(2.0**-126), 3e38, 1.0, -1.999)


@pytest.mark.parametrize("order", list(Order))
@pytest.mark.parametrize("f", [F32, BF16, F16])
@pytest.mark.parametrize("shape", [(1,), (13, 7), (2, 3, 5, 7), (1, 27, 33, 28)])
def test_exponents(shape: Shape, f: Format, order: Order) -> None:
    group = Group()
    x = group.input("x", TensorType(shape, f))
    (n,) = group.op("exponents", (x,), [TensorType((BINS,), I64)])
    generator = np.random.default_rng(0)
    numbers = generator.normal(size=shape) * 2.0 ** generator.integers(-60, 60, shape)
    numbers.reshape(-1)[: len(ODD)] = ODD[: numbers.size]
    with np.errstate(over="ignore"):
        got, want = single(
            group, random_inputs(group.inputs, given={"x": numbers}), lambda v: order
        )
    same(got[n.name], want[n.name])
    assert int(want[n.name].data.sum()) == numbers.size


@pytest.mark.parametrize("f", [F32, BF16])
@pytest.mark.parametrize("shape", [(1,), (13, 7), (1, 27, 33, 28)])
def test_dots(shape: Shape, f: Format) -> None:
    group = Group()
    x, y = group.input("x", TensorType(shape, f)), group.input("y", TensorType(shape, F32))
    sums = group.op("dots", (x, y), [TensorType((), F32)] * 4)
    orders = {x: Order.PIXELS, y: Order.ROWS}
    got, want = single(group, random_inputs(group.inputs), lambda v: orders.get(v, Order.ROWS))
    for v in sums:
        # Sums in f64, rounded once; of products of both signs, which cancel.
        close(got[v.name], want[v.name], 2.0**-23, 2.0**-40)


@pytest.mark.parametrize(
    ("f", "scale"),
    [(INT4, Scale.TENSOR), (FP4_EVEN, Scale.POW2), (UINT8, Scale.AFFINE), (INT4, Scale.CHANNEL)],
)
def test_stored_numbers(f: Format, scale: Scale) -> None:
    shape, group = (3, 28, 3, 3), Group()
    q = group.input("q", TensorType(shape, f, scale))
    (x,) = group.op("stored_numbers", (q,), [TensorType(shape, F32)])
    got, want = pointwise(group, (x,), random_inputs(group.inputs))
    same(got[x.name], want[x.name])

"""Ops that gates need: kernels against the reference, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm")

from quatrain.compiler.formats import BF16, F32, I64, UINT8
from quatrain.compiler.types import Scale, TensorType

from ..cases.one_kernel import Group, pointwise, random_inputs, same, single

pytestmark = pytest.mark.tvm
SCALAR = TensorType((), F32)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (7, 3), (33, 13)])
@pytest.mark.parametrize("f", [F32, BF16], ids=str)
def test_hard_choice(shape: tuple[int, int], f: object) -> None:
    group = Group()
    x = group.input("x", TensorType(shape, BF16 if f is BF16 else F32))
    (m,) = group.op("hard_choice", (x,), [TensorType(shape, F32)])
    numbers = np.round(np.random.default_rng(0).normal(size=shape), 0)  # with equal ones
    numbers[-1, -1] = np.nan
    got, want = single(group, random_inputs(group.inputs, given={"x": numbers}))
    same(got[m.name], want[m.name])
    assert np.all(want[m.name].numbers.sum(axis=1) == 1)


def test_table() -> None:
    group, numbers = Group(), (0.1, -3.0, 1e9, 0.0, 7.0, 2.0**-130)
    (t,) = group.op("table", (), [TensorType((2, 3), F32)], numbers=numbers)
    got, want = single(group, {})
    same(got[t.name], want[t.name])
    assert want[t.name].numbers[1, 0] == 0.0


@pytest.mark.parametrize("step", [0, 1, 2**31])
def test_initialize(step: int) -> None:
    for shape in ((1,), (3, 7), (33, 16)):
        group = Group()
        w = group.input("w", TensorType(shape, F32))
        seed, count = (group.input(n, TensorType((), I64)) for n in ("seed", "step"))
        (made,) = group.op(
            "initialize", (w, seed, count), [TensorType(shape, F32)], bound=0.25, salt=9
        )
        inputs = random_inputs(group.inputs, given={"step": float(step)})
        got, want = pointwise(group, (made,), inputs)
        same(got[made.name], want[made.name])
        if step == 0:
            assert np.abs(want[made.name].numbers).max() <= 0.25
            assert np.unique(want[made.name].numbers).size == np.prod(shape)


@pytest.mark.parametrize("shape", [(1, 3), (7, 13), (5, 3, 4, 4), (33, 1, 2, 2)])
@pytest.mark.parametrize("stochastic", [False, True], ids=["nearest", "stochastic"])
def test_bits_of_their_own_for_each_sample(shape: tuple[int, ...], stochastic: bool) -> None:
    group, each = Group(), TensorType(shape[:1], F32)
    x = group.input("x", TensorType(shape, F32))
    operands = [x, *(group.input(n, each) for n in ("low", "high", "bits"))]
    if stochastic:
        operands += [group.input(n, TensorType((), I64)) for n in ("seed", "step")]
    kind = "quantize_affine" + ("_stochastic" if stochastic else "")
    more = {"salt": 5} if stochastic else {}
    coded = TensorType(shape, UINT8, Scale.AFFINE_CHANNEL)
    (q,) = group.op(kind, operands, [coded], **more)
    (y,) = group.op("dequantize", (q,), [x.type])
    bits = 2.0 + np.arange(shape[0]) % 7
    given = {"low": np.full(shape[:1], -1.25), "high": np.full(shape[:1], 1.5), "bits": bits}
    got, want = pointwise(group, (q, y), random_inputs(group.inputs, given=given))
    same(got[q.name], want[q.name])
    same(got[y.name], want[y.name])
    assert np.all(want[q.name].data.reshape(shape[0], -1).max(axis=1) <= 2**bits - 1)

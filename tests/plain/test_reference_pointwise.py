"""Pointwise ops, sums and broadcasts of the reference, with signs of zero and NaN."""

from typing import Any

import numpy as np
import pytest

from quatrain.compiler.formats import BF16, F32, UINT2
from quatrain.compiler.types import TensorType
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.reference.evaluate import apply

NAN = np.nan


def f32(x: Any) -> Tensor:
    return Tensor.from_numbers(TensorType(np.shape(x), F32), x)


def run(kind: str, inputs: list[Any], shape: tuple[int, ...], **attrs: Any) -> Any:
    tensors = [x if isinstance(x, Tensor) else f32(x) for x in inputs]
    return apply(kind, tensors, [TensorType(shape, F32)], **attrs)[0].data


def test_relu_and_its_gradient() -> None:
    x = [-1.0, -0.0, 0.0, 2.0, NAN]
    y = run("relu", [x], (5,))
    np.testing.assert_array_equal(y, [0, 0, 0, 2, NAN])
    assert not np.any(np.signbit(y[:4]))
    np.testing.assert_array_equal(run("relu_grad", [[1, 2, 3, 4, 5], y], (5,)), [0, 0, 0, 4, 0])
    mask = Tensor(TensorType((3,), UINT2), np.array([0, 1, 2], np.uint8))
    np.testing.assert_array_equal(run("relu_grad", [[1, 2, 3], mask], (3,)), [0, 2, 3])


def test_arithmetic() -> None:
    a, b = [1.5, -2, 0.1], [0.25, 8, 0.2]
    tenth, fifth = np.float32(0.1), np.float32(0.2)
    np.testing.assert_array_equal(run("add", [a, b], (3,)), [1.75, 6, tenth + fifth])
    np.testing.assert_array_equal(run("sub", [a, b], (3,)), [1.25, -10, tenth - fifth])
    np.testing.assert_array_equal(run("mul", [a, b], (3,)), [0.375, -16, tenth * fifth])
    np.testing.assert_array_equal(run("scale", [a], (3,), factor=0.1)[2], tenth * tenth)
    np.testing.assert_array_equal(
        run("clamp_min", [[*a, NAN]], (4,), low=0.1), [1.5, *[tenth] * 2, NAN]
    )
    np.testing.assert_array_equal(run("constant", [], (2, 1), value=0.1), [[tenth], [tenth]])


def test_sums_in_bf16_round_once() -> None:
    a, b = (Tensor.from_numbers(TensorType((1,), BF16), [v]) for v in (1, 2.0**-8 + 2.0**-12))
    (y,) = apply("add", [a, b], [TensorType((1,), BF16)])
    assert y.numbers == 1 + 2.0**-7


@pytest.mark.parametrize("shape", [(3, 7), (1, 1), (2, 5, 13), (3, 7, 1, 9)])
def test_bias_and_its_gradient(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x, b = rng.standard_normal(shape).astype(np.float32), rng.standard_normal(shape[1])
    y = run("add_bias", [x, b], shape)
    db = run("sum_channels", [x], shape[1:2])
    for c in range(shape[1]):
        np.testing.assert_array_equal(y[:, c], x[:, c] + np.float32(b[c]))
        assert abs(db[c] - x[:, c].sum(dtype=np.float64)) <= np.spacing(np.abs(db[c]))


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dims", [(0,), (1, 3), (0, 1, 2, 3)])
def test_sums_means_and_broadcasts(dims: tuple[int, ...], keepdim: bool) -> None:
    shape = (3, 7, 1, 5)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    for kind, want in (
        ("sum", x.sum(axis=dims, keepdims=keepdim, dtype=np.float64)),
        ("mean", x.mean(axis=dims, keepdims=keepdim, dtype=np.float64)),
    ):
        made = run(kind, [x], want.shape, dims=dims, keepdim=keepdim)
        np.testing.assert_allclose(made, want, rtol=2.0**-23, atol=1e-12)
        back = run("broadcast", [made], shape, dims=dims)
        full = made.reshape([1 if i in dims else n for i, n in enumerate(shape)])
        np.testing.assert_array_equal(back, np.broadcast_to(full, shape))


def test_a_sum_is_not_lost_in_small_steps() -> None:
    x = np.full((1 << 15, 1), 1 + 2.0**-10, np.float32)
    x[0] = 2.0**24
    # In f32 each step would lose the fraction.
    assert run("sum_channels", [x], (1,)) == np.float32(2.0**24 + (2**15 - 1) * (1 + 2.0**-10))

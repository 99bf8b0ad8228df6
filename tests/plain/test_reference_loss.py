"""Losses of the reference against torch and autograd."""

from typing import Any

import numpy as np
import pytest

from quatrain.compiler.formats import F32, I64
from quatrain.compiler.types import TensorType
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.reference.evaluate import apply

pytestmark = pytest.mark.torch


def f32(x: Any) -> Tensor:
    return Tensor.from_numbers(TensorType(np.shape(x), F32), x)


def labels(x: Any) -> Tensor:
    return Tensor.from_numbers(TensorType(np.shape(x), I64), x)


def run(kind: str, inputs: list[Tensor], *shapes: Any, **attrs: Any) -> list[Tensor]:
    return list(apply(kind, inputs, [TensorType(s, F32) for s in shapes], **attrs))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(
    ("shape", "target", "ignore"),
    [
        ((1, 1), [0], -100),
        ((7, 10), [0, 9, 3, -100, 2, 2, -100], -100),
        ((3, 33), [32, 5, 5], 5),
        ((2, 3, 2), [[0, 1], [2, 1]], 1),
    ],
)
def test_cross_entropy(shape: Any, target: Any, ignore: int, reduction: str) -> None:
    import torch

    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32) * 20
    tx: Any = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    want = torch.nn.functional.cross_entropy(
        tx, torch.tensor(target), reduction=reduction, ignore_index=ignore
    )
    (want * 3).backward()
    attrs: dict[str, Any] = {"reduction": reduction, "ignore_index": ignore}
    (y,) = run("log_softmax", [f32(x)], shape)
    loss, count = run("nll_loss", [y, labels(target)], (), (), **attrs)
    (dy,) = run("nll_loss_grad", [f32(3), labels(target), count], shape, **attrs)
    (dx,) = run("log_softmax_grad", [dy, y], shape)
    assert count.data == np.sum(np.array(target) != ignore)
    # y is rounded to f32: a part in 2^24 of numbers up to 100, and so is its exponential.
    np.testing.assert_allclose(loss.data, want.detach(), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(dx.data, tx.grad, rtol=1e-5, atol=1e-6)


def test_no_label_at_all_is_nan_as_in_torch() -> None:
    attrs: dict[str, Any] = {"reduction": "mean", "ignore_index": -100}
    y, target = f32(np.zeros((2, 3))), labels([-100, -100])
    loss, count = run("nll_loss", [y, target], (), (), **attrs)
    assert np.isnan(loss.data) and count.data == 0
    (dy,) = run("nll_loss_grad", [f32(1), target, count], (2, 3), **attrs)
    np.testing.assert_array_equal(dy.data, np.zeros((2, 3)))


def test_log_softmax_of_large_numbers() -> None:
    (y,) = run("log_softmax", [f32([[1e30, 0, -1e30]])], (1, 3))
    np.testing.assert_array_equal(y.data, np.array([[0, -1e30, -2e30]], np.float32))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("shape", [(1,), (3, 7), (2, 1, 13)])
def test_mse(shape: Any, reduction: str) -> None:
    import torch

    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    tx: Any = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    want = torch.nn.functional.mse_loss(
        tx, torch.tensor(y, dtype=torch.float64), reduction=reduction
    )
    (want * 3).backward()
    (loss,) = run("mse_loss", [f32(x), f32(y)], (), reduction=reduction)
    np.testing.assert_allclose(loss.data, want.detach(), rtol=2.0**-23)
    (dx,) = run("mse_loss_grad", [f32(3), f32(x), f32(y)], shape, reduction=reduction)
    np.testing.assert_allclose(dx.data, tx.grad, rtol=4e-7)  # four f32 roundings

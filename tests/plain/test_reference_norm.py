"""Batch normalization of the reference against torch, and its statistics and written order."""

from typing import Any

import numpy as np
import pytest

from quatrain.compiler.formats import BF16, F32, I64
from quatrain.compiler.types import TensorType
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.reference.evaluate import apply

EPS = 1e-5
SHAPES = [(3, 1, 1, 1), (1, 7, 13, 9), (33, 5), (3, 28, 7, 5)]


def f32(x: Any) -> Tensor:
    return Tensor.from_numbers(TensorType(np.shape(x), F32), x)


def run(kind: str, inputs: list[Any], *shapes: Any, **attrs: Any) -> list[Any]:
    tensors = [x if isinstance(x, Tensor) else f32(x) for x in inputs]
    made = apply(kind, tensors, [TensorType(s, F32) for s in shapes], **attrs)
    return [t.data for t in made]


def arrays(shape: tuple[int, ...]) -> list[Any]:
    """x, gamma, beta, g; x away from zero, so that sums of squares would cancel."""
    rng = np.random.default_rng(0)
    sizes = [shape, shape[1:2], shape[1:2], shape]
    return [(rng.standard_normal(s) + 3).astype(np.float32) for s in sizes]


@pytest.mark.parametrize("shape", SHAPES)
def test_statistics(shape: tuple[int, ...]) -> None:
    x = arrays(shape)[0]
    mean, var = run("batch_stats", [x], shape[1:2], shape[1:2])
    by_channel = np.moveaxis(x.astype(np.float64), 1, 0).reshape(shape[1], -1)
    # Float64 sums, one rounding.
    np.testing.assert_allclose(mean, by_channel.mean(axis=1), rtol=2.0**-23)
    np.testing.assert_allclose(var, by_channel.var(axis=1), rtol=2.0**-23, atol=1e-14)


@pytest.mark.torch
@pytest.mark.parametrize("shape", SHAPES[1:])
def test_training_forward_and_backward_against_torch(shape: tuple[int, ...]) -> None:
    import torch

    x, gamma, beta, g = arrays(shape)
    leaves: list[Any] = [
        torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (x, gamma, beta)
    ]
    norm = torch.nn.functional.batch_norm
    want = norm(leaves[0], None, None, leaves[1], leaves[2], training=True, eps=EPS)
    want.backward(torch.tensor(g, dtype=torch.float64))
    channels = shape[1:2]
    mean, var = run("batch_stats", [x], channels, channels)
    (y,) = run("batch_norm", [x, mean, var, gamma, beta], shape, eps=EPS)
    stats = run("batch_norm_grad_stats", [g, x, mean, var], channels, channels, eps=EPS)
    operands = [g, x, mean, var, gamma, *stats]
    (dx,) = run("batch_norm_input_grad", operands, shape, eps=EPS)
    # f32 expressions of a handful of terms of magnitude up to 30 against float64.
    np.testing.assert_allclose(y, want.detach(), atol=1e-5)
    np.testing.assert_allclose(stats[0], leaves[1].grad, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(stats[1], leaves[2].grad, rtol=1e-6)
    np.testing.assert_allclose(dx, leaves[0].grad, atol=2e-5)


@pytest.mark.torch
def test_evaluation_backward_against_torch() -> None:
    import torch

    x, gamma, beta, g = arrays((3, 7, 5, 1))
    var = np.abs(beta)
    tx: Any = torch.tensor(x, requires_grad=True)
    parameters = [torch.tensor(v) for v in (beta, var, gamma, beta)]
    norm: Any = torch.nn.functional.batch_norm
    norm(tx, *parameters, training=False, eps=EPS).backward(torch.tensor(g))
    (dx,) = run("batch_norm_eval_grad", [g, var, gamma], x.shape, eps=EPS)
    np.testing.assert_allclose(dx, tx.grad, rtol=1e-6)  # three f32 roundings


def test_written_order_bit_for_bit() -> None:
    shape = (3, 7, 5, 3)
    x, gamma, beta, g = arrays(shape)
    mean, var = run("batch_stats", [x], (7,), (7,))
    dgamma, dbeta = run("batch_norm_grad_stats", [g, x, mean, var], (7,), (7,), eps=EPS)
    y = run("batch_norm", [x, mean, var, gamma, beta], shape, eps=EPS)[0]
    dx = run("batch_norm_input_grad", [g, x, mean, var, gamma, dgamma, dbeta], shape, eps=EPS)[0]
    for n, c, i, j in [(0, 0, 0, 0), (2, 6, 4, 2), (1, 3, 2, 1)]:
        s = np.sqrt(var[c] + np.float32(EPS))
        a = gamma[c] / s
        b = beta[c] - mean[c] * a
        assert y[n, c, i, j] == x[n, c, i, j] * a + b
        p, r = np.float32(45), np.float32(1) / s
        a = gamma[c] * r
        b = ((-a * dgamma[c]) * r) / p
        c0 = (-a * dbeta[c]) / p - mean[c] * b
        assert dx[n, c, i, j] == (g[n, c, i, j] * a + x[n, c, i, j] * b) + c0


def test_results_in_a_narrow_carrier_are_rounded_once() -> None:
    x, gamma, beta, _ = arrays((3, 7))
    operands = [f32(v) for v in (x, gamma, np.abs(beta), gamma, beta)]
    (wide,) = apply("batch_norm", operands, [TensorType((3, 7), F32)], eps=EPS)
    (narrow,) = apply("batch_norm", operands, [TensorType((3, 7), BF16)], eps=EPS)
    np.testing.assert_array_equal(
        narrow.numbers, Tensor.from_numbers(narrow.type, wide.data).numbers
    )


@pytest.mark.torch
@pytest.mark.parametrize("momentum", [0.1, None])
def test_running_statistics_against_torch(momentum: float | None) -> None:
    import torch

    norm: Any = torch.nn.BatchNorm2d(7, momentum=momentum)
    mean: Any = np.zeros(7, np.float32)
    var: Any = np.ones(7, np.float32)
    count = 0
    correction = 12 / 11
    for step in range(3):
        x = np.random.default_rng(step).standard_normal((3, 7, 2, 2)).astype(np.float32)
        norm(torch.tensor(x))
        news = run("batch_stats", [x], (7,), (7,))
        count = int(apply("increment", [i64(count)], [TensorType((), I64)])[0].data)
        olds, corrections = (mean, var), (1.0, correction)
        if momentum is None:
            mean, var = (
                run("running_average", [old, new, i64(count)], (7,), correction=c)[0]
                for old, new, c in zip(olds, news, corrections, strict=True)
            )
        else:
            mean, var = (
                run("running_stats", [old, new], (7,), momentum=momentum, correction=c)[0]
                for old, new, c in zip(olds, news, corrections, strict=True)
            )
    assert count == int(norm.num_batches_tracked)
    # A few f32 roundings a step; torch computes momentum in double.
    np.testing.assert_allclose(mean, norm.running_mean, atol=1e-6)
    np.testing.assert_allclose(var, norm.running_var, rtol=1e-6)


def i64(n: int) -> Tensor:
    return Tensor.from_numbers(TensorType((), I64), n)

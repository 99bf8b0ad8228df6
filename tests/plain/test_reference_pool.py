"""Pooling of the reference against torch: values, winners, gradients, borders, NaN, ties."""

from typing import Any

import numpy as np
import pytest

from quatrain.compiler.formats import F32, I32, UINT8
from quatrain.compiler.types import TensorType
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.reference.evaluate import apply

pytestmark = pytest.mark.torch

# shape, kernel, stride, padding, dilation, ceil mode
MAX = [
    ((1, 1, 1, 1), (1, 1), (1, 1), (0, 0), (1, 1), False),
    ((2, 3, 28, 27), (3, 3), (2, 2), (1, 1), (1, 1), False),
    ((1, 7, 13, 9), (2, 3), (1, 2), (1, 0), (1, 1), True),
    ((3, 1, 10, 7), (3, 2), (2, 3), (1, 1), (2, 1), True),
    ((1, 2, 7, 7), (2, 2), (2, 2), (0, 0), (1, 1), True),
    ((1, 2, 40, 33), (17, 17), (5, 5), (8, 8), (1, 1), False),
]


def f32(x: Any) -> Tensor:
    return Tensor.from_numbers(TensorType(np.shape(x), F32), x)


def special(shape: tuple[int, ...]) -> Any:
    """Few distinct values, so that maxima tie; some infinite, some NaN."""
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, shape).astype(np.float32)
    x.ravel()[rng.integers(0, x.size, x.size // 40)] = np.nan
    x.ravel()[rng.integers(0, x.size, x.size // 4)] = -np.inf
    return x


def places_in_plane(where: Any, case: Any) -> Any:
    """What torch returns: row * width + column of the winner in the plane."""
    shape, kernel, stride, padding, dilation, _ = case
    i, j = np.indices(where.shape[-2:])
    row = i * stride[0] - padding[0] + where // kernel[1] * dilation[0]
    return row * shape[-1] + j * stride[1] - padding[1] + where % kernel[1] * dilation[1]


@pytest.mark.parametrize("case", MAX, ids=str)
@pytest.mark.parametrize("awkward", [False, True])
def test_max_pooling(case: Any, awkward: bool) -> None:
    import torch

    shape, kernel, stride, padding, dilation, ceil = case
    x = special(shape) if awkward else np.random.default_rng(0).standard_normal(shape)
    tx: Any = torch.tensor(x, dtype=torch.float32, requires_grad=True)
    want, index = torch.nn.functional.max_pool2d(
        tx, kernel, stride, padding, dilation, ceil, return_indices=True
    )
    attrs = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    code = UINT8 if kernel[0] * kernel[1] <= 256 else I32
    types = [TensorType(tuple(want.shape), F32), TensorType(tuple(want.shape), code)]
    y, where = apply("max_pool2d", [f32(x)], types, **attrs)
    np.testing.assert_array_equal(y.data, want.detach())
    np.testing.assert_array_equal(places_in_plane(where.data.astype(int), case), index)
    g = np.random.default_rng(1).standard_normal(want.shape).astype(np.float32)
    want.backward(torch.tensor(g))
    (dx,) = apply("max_pool2d_grad", [f32(g), where], [TensorType(shape, F32)], **attrs)
    np.testing.assert_array_equal(dx.data, tx.grad)  # the same sums in the same order


# shape, kernel, stride, padding, ceil mode, count_include_pad, divisor
AVG = [
    ((1, 1, 1, 1), (1, 1), (1, 1), (0, 0), False, True, 0),
    ((2, 3, 28, 27), (3, 3), (2, 2), (1, 1), False, True, 0),
    ((2, 3, 13, 9), (3, 2), (2, 2), (1, 1), True, False, 0),
    ((1, 7, 10, 7), (3, 3), (2, 2), (1, 1), True, True, 0),
    ((3, 1, 7, 7), (2, 3), (1, 2), (0, 1), True, True, 5),
    ((3, 2, 8, 8), (8, 8), (8, 8), (0, 0), False, True, 0),
]


@pytest.mark.parametrize("case", AVG, ids=str)
def test_average_pooling(case: Any) -> None:
    import torch

    shape, kernel, stride, padding, ceil, include, divisor = case
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    tx: Any = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    want = torch.nn.functional.avg_pool2d(
        tx, kernel, stride, padding, ceil, include, divisor or None
    )
    attrs = {"kernel": kernel, "stride": stride, "padding": padding}
    attrs |= {"count_include_pad": include, "divisor": divisor}
    (y,) = apply("avg_pool2d", [f32(x)], [TensorType(tuple(want.shape), F32)], **attrs)
    # Up to 64 f32 additions of numbers below 4.
    np.testing.assert_allclose(y.data, want.detach(), atol=2e-6)
    g = np.random.default_rng(1).standard_normal(want.shape).astype(np.float32)
    want.backward(torch.tensor(g, dtype=torch.float64))
    (dx,) = apply("avg_pool2d_grad", [f32(g)], [TensorType(shape, F32)], **attrs)
    np.testing.assert_allclose(dx.data, tx.grad, atol=2e-6)


ADAPTIVE = [
    ((2, 3, 7, 5), (1, 1)),
    ((1, 1, 7, 9), (3, 4)),
    ((3, 2, 4, 4), (4, 4)),
    ((1, 2, 3, 5), (5, 7)),
]


@pytest.mark.parametrize(("shape", "places"), ADAPTIVE)
def test_adaptive_average_pooling(shape: Any, places: Any) -> None:
    import torch

    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    tx: Any = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    want = torch.nn.functional.adaptive_avg_pool2d(tx, places)
    (y,) = apply("adaptive_avg_pool2d", [f32(x)], [TensorType(tuple(want.shape), F32)])
    np.testing.assert_allclose(y.data, want.detach(), rtol=2.0**-23, atol=1e-12)
    g = np.random.default_rng(1).standard_normal(want.shape).astype(np.float32)
    want.backward(torch.tensor(g, dtype=torch.float64))
    (dx,) = apply("adaptive_avg_pool2d_grad", [f32(g)], [TensorType(shape, F32)])
    np.testing.assert_allclose(dx.data, tx.grad, atol=1e-6)  # a few f32 additions


@pytest.mark.parametrize(("shape", "places"), ADAPTIVE)
@pytest.mark.parametrize("awkward", [False, True])
def test_adaptive_max_pooling(shape: Any, places: Any, awkward: bool) -> None:
    import torch

    x = special(shape) if awkward else np.random.default_rng(0).standard_normal(shape)
    tx: Any = torch.tensor(x, dtype=torch.float32, requires_grad=True)
    want, index = torch.nn.functional.adaptive_max_pool2d(tx, places, return_indices=True)
    types = [TensorType(tuple(want.shape), f) for f in (F32, I32)]
    y, where = apply("adaptive_max_pool2d", [f32(x)], types)
    np.testing.assert_array_equal(y.data, want.detach())
    np.testing.assert_array_equal(where.data, index)
    g = np.random.default_rng(1).standard_normal(want.shape).astype(np.float32)
    want.backward(torch.tensor(g))
    (dx,) = apply("adaptive_max_pool2d_grad", [f32(g), where], [TensorType(shape, F32)])
    np.testing.assert_array_equal(dx.data, tx.grad)

"""Ops of the reference that move elements."""

from typing import Any

import numpy as np

from quatrain.compiler.formats import BF16, F32, FP4_EVEN
from quatrain.compiler.types import Scale, TensorType
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.reference.evaluate import apply


def f32(x: Any) -> Tensor:
    return Tensor.from_numbers(TensorType(np.shape(x), F32), x)


def run(kind: str, inputs: list[Any], shape: tuple[int, ...], **attrs: Any) -> Any:
    return apply(kind, [f32(x) for x in inputs], [TensorType(shape, F32)], **attrs)[0].data


X = np.arange(3 * 7 * 5).reshape(3, 7, 5).astype(np.float32)


def test_view_keeps_codes_and_scale() -> None:
    codes = np.arange(15, dtype=np.uint8).reshape(3, 5)
    q = Tensor(TensorType((3, 5), FP4_EVEN, Scale.POW2), codes, np.array(0.25, np.float32))
    (flat,) = apply("view", [q], [TensorType((15, 1), FP4_EVEN, Scale.POW2)])
    np.testing.assert_array_equal(flat.data.ravel(), np.arange(15))
    assert flat.scale == 0.25


def test_permute() -> None:
    y = run("permute", [X], (5, 3, 7), dims=(2, 0, 1))
    np.testing.assert_array_equal(y, np.einsum("abc->cab", X))


def test_cat_of_different_carriers() -> None:
    narrow = Tensor.from_numbers(TensorType((3, 2, 5), BF16), X[:, :2])
    (y,) = apply("cat", [f32(X), narrow, f32(X)], [TensorType((3, 16, 5), F32)], dim=1)
    np.testing.assert_array_equal(y.data, np.concatenate([X, X[:, :2], X], axis=1))


def test_slice_and_its_gradient() -> None:
    y = run("slice", [X], (3, 3, 5), dim=1, start=1, step=2)
    np.testing.assert_array_equal(y, X[:, [1, 3, 5]])
    dx = run("slice_grad", [y], X.shape, dim=1, start=1, step=2)
    want = np.zeros_like(X)
    want[:, [1, 3, 5]] = y
    np.testing.assert_array_equal(dx, want)


def test_pad() -> None:
    y = run("pad", [X], (3, 9, 8), before=(0, 1, 3), value=-1.5)
    want = np.pad(X, ((0, 0), (1, 1), (3, 0)), constant_values=-1.5)
    np.testing.assert_array_equal(y, want)

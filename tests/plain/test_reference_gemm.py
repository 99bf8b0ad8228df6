"""GEMMs of the reference: against torch and autograd, and exactly where operands are integers."""

from typing import Any

import numpy as np
import pytest

from quatrain.compiler.formats import (
    BF16,
    F32,
    FP4_EVEN,
    FP4_ODD,
    FP8_143,
    FP8_152,
    INT4,
    INT4_MIDRISE,
    INT8,
    UINT4,
    UINT8,
    Format,
)
from quatrain.compiler.types import Scale, TensorType
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.reference.evaluate import apply

Shape = tuple[int, ...]


def random_tensor(shape: Shape, f: Format, seed: int, scale: Scale = Scale.NONE) -> Tensor:
    rng = np.random.default_rng(seed)
    numbers: Any = rng.standard_normal(shape)
    if f.is_coded:
        numbers = rng.choice(np.array(f.levels()), shape)
        scale = scale if scale is not Scale.NONE else Scale.TENSOR
    factor: Any = None
    if scale is not Scale.NONE:
        factor = rng.random(shape[:1] if scale is Scale.CHANNEL else ()) + 0.5
        factor = np.float32(2.0**-7) if scale is Scale.POW2 else factor
    return Tensor.from_numbers(TensorType(shape, f, scale), numbers, factor)


# x, w, stride, padding, dilation, groups
CONVS = [
    ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    ((3, 7, 13, 9), (5, 7, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((2, 3, 28, 27), (4, 3, 7, 7), (2, 2), (3, 3), (1, 1), 1),
    ((1, 6, 9, 7), (6, 1, 3, 3), (2, 1), (1, 1), (1, 1), 6),
    ((2, 6, 8, 8), (9, 2, 3, 1), (1, 2), (2, 0), (2, 3), 3),
    ((3, 13, 7, 7), (33, 13, 1, 1), (2, 2), (0, 0), (1, 1), 1),
    ((1, 3, 5, 5), (2, 3, 2, 2), (3, 3), (0, 1), (1, 1), 1),  # the last column is never seen
]


def torch_conv(case: Any) -> tuple[Any, ...]:
    """x, w, g, y, dx, dw of a convolution in float64."""
    import torch

    x, w, stride, padding, dilation, groups = case
    rng = np.random.default_rng(0)
    tx, tw = (torch.tensor(rng.standard_normal(s), requires_grad=True) for s in (x, w))
    y = torch.nn.functional.conv2d(tx, tw, None, stride, padding, dilation, groups)
    g = torch.tensor(rng.standard_normal(y.shape))
    y.backward(g)
    made: list[Any] = [tx, tw, g, y, tx.grad, tw.grad]
    return tuple(t.detach().numpy() for t in made)


def run(kind: str, a: Tensor, b: Tensor, shape: Shape, case: Any = None, f: Format = F32) -> Any:
    names = ("stride", "padding", "dilation", "groups")
    attrs = dict(zip(names, case[2:], strict=True)) if case else {}
    return apply(kind, [a, b], [TensorType(shape, f)], **attrs)[0].data


def f32(x: Any) -> Tensor:
    return Tensor.from_numbers(TensorType(x.shape, F32), x)


@pytest.mark.torch
@pytest.mark.parametrize("case", CONVS, ids=str)
def test_convolutions_against_torch(case: Any) -> None:
    x, w, g, y, dx, dw = torch_conv(case)
    # Operands are rounded to f32, then everything is in float64 but for one last rounding.
    for kind, a, b, want in (
        ("conv2d", x, w, y),
        ("conv2d_input_grad", g, w, dx),
        ("conv2d_weight_grad", g, x, dw),
    ):
        a64, b64 = (v.astype(np.float32) for v in (a, b))
        made = run(kind, f32(a64), f32(b64), want.shape, case)
        np.testing.assert_allclose(made, want, rtol=0, atol=1e-6 * max(1, np.abs(want).max()))


@pytest.mark.parametrize(("n", "i", "o"), [(1, 1, 1), (3, 7, 13), (33, 28, 5)])
def test_linear_in_all_directions(n: int, i: int, o: int) -> None:
    x, w, g = (random_tensor(s, F32, k) for k, s in enumerate([(n, i), (o, i), (n, o)]))
    x64, w64, g64 = (t.real() for t in (x, w, g))
    for made, want in (
        (run("linear", x, w, (n, o)), x64 @ w64.T),
        (run("linear_input_grad", g, w, (n, i)), g64 @ w64),
        (run("linear_weight_grad", g, x, (o, i)), g64.T @ x64),
    ):
        # One rounding to f32; float64 sums in another order differ by much less.
        np.testing.assert_allclose(made, want, rtol=2.0**-23, atol=1e-12)


CODED = [
    ("conv2d", UINT4, INT4),
    ("conv2d", INT4, INT4_MIDRISE),
    ("conv2d", UINT8, INT8),
    ("conv2d", UINT4, FP8_143),
    ("conv2d", BF16, INT4),
    ("conv2d_input_grad", FP4_EVEN, INT4),
    ("conv2d_input_grad", FP8_152, INT4),
    ("conv2d_weight_grad", FP4_ODD, UINT4),
    ("conv2d_weight_grad", FP4_EVEN, INT8),
]


@pytest.mark.parametrize(("kind", "fa", "fb"), CODED, ids=str)
@pytest.mark.parametrize("made", [F32, BF16], ids=str)
def test_coded_products_are_exact(kind: str, fa: Format, fb: Format, made: Format) -> None:
    """Sums of Python integers, then the written order of roundings."""
    x, w, y = (2, 3, 5, 4), (5, 3, 3, 3), (2, 5, 3, 4)
    case = (None, None, (2, 1), (1, 1), (1, 1), 1)
    first, second, result = {
        "conv2d": (x, w, y),
        "conv2d_input_grad": (y, w, x),
        "conv2d_weight_grad": (y, x, w),
    }[kind]
    a, b = random_tensor(first, fa, 1), random_tensor(second, fb, 2)
    units = [f.smallest if f.is_integer or f.is_log else 1.0 for f in (fa, fb)]
    na, nb = (t.numbers.astype(np.float64) / u for t, u in zip((a, b), units, strict=True))
    exact = plain_conv(kind, na, nb, result, case)
    one = np.float32(1)
    scales = [
        np.float32(u) * (one if t.scale is None else t.scale)
        for u, t in zip(units, (a, b), strict=True)
    ]
    want = exact.astype(np.float32) * (scales[0] * scales[1])
    type_ = TensorType(result, made)
    got = run(kind, a, b, result, case, made).astype(np.float32)
    np.testing.assert_array_equal(got, Tensor.from_numbers(type_, want).numbers)


def plain_conv(kind: str, a: Any, b: Any, result: Shape, case: Any) -> Any:
    """Seven loops: every product of the three GEMMs of a convolution, one by one."""
    out = np.zeros(result)
    (s, t), (p, q) = case[2], case[3]
    x = {"conv2d": a, "conv2d_input_grad": out, "conv2d_weight_grad": b}[kind]
    w = {"conv2d": b, "conv2d_input_grad": b, "conv2d_weight_grad": out}[kind]
    y = {"conv2d": out, "conv2d_input_grad": a, "conv2d_weight_grad": a}[kind]
    for n, k, i, j in np.ndindex(*y.shape):
        for c, r, d in np.ndindex(*w.shape[1:]):
            h, v = i * s + r - p, j * t + d - q
            if not (0 <= h < x.shape[2] and 0 <= v < x.shape[3]):
                continue
            if kind == "conv2d":
                y[n, k, i, j] += x[n, c, h, v] * w[k, c, r, d]
            elif kind == "conv2d_input_grad":
                x[n, c, h, v] += y[n, k, i, j] * w[k, c, r, d]
            else:
                w[k, c, r, d] += y[n, k, i, j] * x[n, c, h, v]
    return out


@pytest.mark.parametrize("length", [1 << 9, 1 << 14, 1 << 17])
def test_long_sums_stay_exact(length: int) -> None:
    """131,072 products of 4096 and 15 leave int32 and the integers of f32 far behind."""
    g = random_tensor((length, 3), FP4_EVEN, 1)
    x = random_tensor((length, 2), UINT4, 2)
    x.data[:] = 15
    g.data[:, 0] = 7
    g.data[1, 0] = 1
    exact = (g.numbers * 64).astype(np.int64).T @ x.numbers.astype(np.int64)
    assert exact[0, 0] == (length - 1) * 4096 * 15 + 15
    assert g.scale is not None and x.scale is not None
    factor = np.float32(1 / 64) * g.scale * x.scale
    made = run("linear_weight_grad", g, x, (3, 2))
    np.testing.assert_array_equal(made, exact.astype(np.float32) * factor)


def test_integers_beyond_float64_are_summed_as_integers() -> None:
    from quatrain.targets.reference.gemm import _accumulator

    assert _accumulator(2.0**24 - 1) is np.float32
    assert _accumulator(2.0**24) is np.float64 and _accumulator(np.inf) is np.float64
    assert _accumulator(2.0**53) is np.int64


@pytest.mark.parametrize("kind", ["conv2d", "conv2d_input_grad", "linear", "linear_input_grad"])
def test_scales_per_output_channel(kind: str) -> None:
    """A factor of the result forward; in the data gradient part of each summed product."""
    conv = kind.startswith("conv")
    w = random_tensor((5, 3, 1, 1) if conv else (5, 3), INT4, 1, Scale.CHANNEL)
    wide, narrow = ((2, 5, 1, 1), (2, 3, 1, 1)) if conv else ((2, 5), (2, 3))
    forward = not kind.endswith("grad")
    a = random_tensor(narrow if forward else wide, UINT4, 2)
    case = (None, None, (1, 1), (0, 0), (1, 1), 1) if conv else None
    shape = wide if forward else narrow
    made = run(kind, a, w, shape, case)
    left, right = a.real().reshape(2, -1), w.real().reshape(5, 3)
    want = (left @ (right.T if forward else right)).reshape(shape)
    # The factor is rounded to f32 and so is the product: two roundings.
    np.testing.assert_allclose(made, want, rtol=2.0**-22)
    if forward:
        assert a.scale is not None and w.scale is not None
        sums = a.numbers.reshape(2, -1) @ w.numbers.reshape(5, 3).T
        exact = sums * (a.scale * w.scale)
        np.testing.assert_array_equal(made.reshape(2, 5), exact)


def test_an_exact_zero_has_no_sign() -> None:
    x = Tensor.from_numbers(TensorType((1, 2), UINT4, Scale.TENSOR), [[0, 0]], 0.5)
    w = Tensor.from_numbers(TensorType((1, 2), INT4, Scale.TENSOR), [[-1, -7]], 0.5)
    made = run("linear", x, w, (1, 1))
    assert made[0, 0] == 0 and not np.signbit(made[0, 0])

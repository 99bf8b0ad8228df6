"""Quantizers of the reference against the test vectors of the papers and against torch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from quatrain.compiler.formats import (
    BF16,
    F32,
    FP8_143,
    I64,
    INT4,
    INT4_MIDRISE,
    INT8,
    INTS,
    MIDRISE,
    UINT2,
    UINT4,
    UINTS,
    Format,
)
from quatrain.compiler.ir import Attr
from quatrain.compiler.types import Scale, TensorType
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.reference.evaluate import apply

W = [-1, -0.5, 0, 0.25, 0.5, 1.5]
SAWB = {  # code: c1, c2, clip of W
    "2": (3.12, 2.064, 1.197046),
    "3": (7.509, 6.892, 1.678151),
    "4": (12.68, 12.80, 2.107612),
    "5": (17.74, 18.64, 2.491091),
    "8": (31.76, 35.04, 3.416857),
    "103": (2.6, 1.71, 1.003789),
    "403": (12.035, 12.03, 2.074713),
    "703": (28.24, 30.81, 3.254709),
    "LUQ4": (12.1, 12.2, 2.020276),
}


def f32(x: Any, f: Format = F32) -> Tensor:
    return Tensor.from_numbers(TensorType(np.shape(x), f), x)


def floats(kind: str, inputs: Sequence[Any], *shapes: tuple[int, ...], **attrs: Attr) -> list[Any]:
    """Results of an op with f32 operands and f32 results, as arrays."""
    tensors = [x if isinstance(x, Tensor) else f32(x) for x in inputs]
    made = apply(kind, tensors, [TensorType(s, F32) for s in shapes], **attrs)
    return [t.data for t in made]


def quantize(x: Any, clip: Any, f: Format) -> Tensor:
    scale = Scale.CHANNEL if np.ndim(clip) else Scale.TENSOR
    return apply("quantize", [f32(x), f32(clip)], [TensorType(np.shape(x), f, scale)])[0]


@pytest.mark.parametrize("code", SAWB)
def test_sawb_clips(code: str) -> None:
    c1, c2, clip = SAWB[code]
    (made,) = floats("sawb_clip", [W], (), c1=c1, c2=c2)
    assert abs(made - clip) < 5e-7  # the page prints six decimals


@pytest.mark.parametrize(
    ("code", "f", "want"),
    [
        ("4", INT4_MIDRISE, [-0.983552, -0.421522, 0.140507, 0.140507, 0.421522, 1.545582]),
        ("403", INT4, [-0.889163, -0.592775, 0, 0.296388, 0.592775, 1.481938]),
    ],
)
def test_sawb_weights(code: str, f: Format, want: list[float]) -> None:
    c1, c2, _ = SAWB[code]
    (clip,) = floats("sawb_clip", [W], (), c1=c1, c2=c2)
    np.testing.assert_allclose(quantize(W, clip, f).real(), want, atol=1e-6, rtol=0)


def test_sawb_falls_back_to_the_maximum() -> None:
    # All magnitudes equal: the root mean square is the mean, and c1 < c2 makes the clip negative.
    (clip,) = floats("sawb_clip", [[0.5, -0.5]], (), c1=12.68, c2=12.80)
    assert clip == 0.5


def test_sawb_per_channel() -> None:
    w = np.random.default_rng(0).standard_normal((3, 7, 3, 3)).astype(np.float32)
    (clips,) = floats("sawb_clip", [w], (3,), c1=12.035, c2=12.03)
    for row, clip in zip(w, clips, strict=True):
        (alone,) = floats("sawb_clip", [row], (), c1=12.035, c2=12.03)
        assert abs(clip - alone) <= np.spacing(alone)  # sums in float64 may differ in order
    q = quantize(w, clips, INT4)
    for i in range(3):
        np.testing.assert_array_equal(q.data[i], quantize(w[i], clips[i], INT4).data)


def test_pact_vector() -> None:
    q = quantize([0, 0.3, 1, 2.4, 5.9, 6, 7.5], 6, UINT4)
    # 1.0 is a tie, 2.5, and goes to the even code 2.
    np.testing.assert_array_equal(q.data, [0, 1, 2, 6, 15, 15, 15])
    np.testing.assert_allclose(q.real(), [0, 0.4, 0.8, 2.4, 6, 6, 6], rtol=1e-7)
    assert q.scale == np.float32(6) / np.float32(15)


@pytest.mark.parametrize("f", [UINT4, INT4, INT8, INTS[2], UINTS[1], UINT2, INT4_MIDRISE], ids=str)
def test_quantize_rounds_to_the_nearest_level(f: Format) -> None:
    x = np.random.default_rng(1).standard_normal((13, 27)).astype(np.float32) * 3
    q = quantize(x, 2.5, f)
    levels = np.array(f.levels()) * (2.5 / (2**f.bits - 1 if f.midrise else f.max))
    nearest = np.abs(x[..., None] - levels).min(axis=-1)
    # Two roundings of the product in f32 move a number by a few parts in 2^24.
    np.testing.assert_allclose(np.abs(x - q.real()), nearest, atol=1e-6)


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize(
    ("wide", "narrow"), [(INT4, INTS), (UINT4, UINTS), (INT4_MIDRISE, MIDRISE)], ids=str
)
def test_bits_as_an_operand_are_those_of_a_narrower_format(
    bits: int, wide: Format, narrow: dict[int, Format]
) -> None:
    x = np.random.default_rng(2).standard_normal((13, 27)).astype(np.float32) * 3
    x[0, :3] = np.nan, np.inf, -np.inf
    type_ = TensorType(x.shape, wide, Scale.TENSOR)
    for clip in (2.5, 0.0):
        (q,) = apply("quantize_bits", [f32(x), f32(clip), f32(float(bits))], [type_])
        want = quantize(x, clip, narrow[bits])
        assert q.scale == want.scale
        np.testing.assert_array_equal(q.real(), want.real())
    assert bits == wide.bits or q.data.max() < 2**wide.bits


def test_a_dead_clip_and_nan_give_defined_codes() -> None:
    np.testing.assert_array_equal(quantize([1, -1, 0], 0, INT4).data, [0, 0, 0])
    np.testing.assert_array_equal(quantize([np.nan], 1, INT4).data, [9])
    np.testing.assert_array_equal(quantize([np.nan], 1, UINT4).data, [0])


def region(x: Any, clip: float, signed: bool) -> Tensor:
    made = TensorType(np.shape(x), UINT2)
    return apply("clip_region", [f32(x), f32(clip)], [made], signed=signed)[0]


X = [-7, -6, -0.5, 0, 0.5, 6, 7.5]


def test_clip_regions() -> None:
    np.testing.assert_array_equal(region(X, 6, False).data, [0, 0, 0, 0, 1, 1, 2])
    np.testing.assert_array_equal(region(X, 6, True).data, [0, 1, 1, 1, 1, 1, 2])


def test_pact_gradients() -> None:
    g = [1, 2, 4, 8, 16, 32, 64]
    dx, dclip = floats("pact_grad", [g, region(X, 6, False)], (7,), (), signed=False)
    np.testing.assert_array_equal(dx, [1, 2, 4, 8, 16, 32, 0])
    assert dclip == 64
    dx, dclip = floats("pact_grad", [g, region(X, 6, True)], (7,), (), signed=True)
    np.testing.assert_array_equal(dx, [0, 2, 4, 8, 16, 32, 0])
    assert dclip == 64 - 1


@pytest.mark.torch
@pytest.mark.parametrize("signed", [False, True])
def test_pact_gradient_is_that_of_clipping(signed: bool) -> None:
    import torch

    rng = np.random.default_rng(2)
    x, g = (rng.standard_normal((7, 33)).astype(np.float32) * 4 for _ in range(2))
    x = x if signed else np.abs(x)
    tx: Any = torch.tensor(x, requires_grad=True)
    clip: Any = torch.tensor(3.0, requires_grad=True)
    y = torch.minimum(torch.maximum(tx, -clip if signed else torch.zeros(())), clip)
    y.backward(torch.tensor(g))
    dx, dclip = floats("pact_grad", [g, region(x, 3, signed)], x.shape, (), signed=signed)
    np.testing.assert_array_equal(dx, tx.grad.numpy())
    # torch sums 231 numbers in f32.
    np.testing.assert_allclose(dclip, clip.grad.numpy(), rtol=1e-4)


@pytest.mark.parametrize("signed", [False, True])
def test_pact_plus_gradient(signed: bool) -> None:
    """Against the derivative of the quantized value by the clip: q / top inside, with q fixed."""
    rng = np.random.default_rng(3)
    top, clip = 7 if signed else 15, 2.5
    x = rng.standard_normal(331).astype(np.float32) * 2
    g = rng.standard_normal(331).astype(np.float32)
    attrs: dict[str, Attr] = {"top": top, "signed": signed}
    dx, dclip = floats("pact_plus_grad", [g, x, clip], x.shape, (), **attrs)
    q = quantize(x, clip, INT4 if signed else UINT4)
    inside = (np.abs(x) < clip) & (signed | (x > 0))
    outside = np.where(x > clip, 1, np.where(signed & (x < -clip), -1, 0))
    slope = np.where(inside, q.numbers / top - x.astype(np.float64) / clip, outside)
    # z = x top/clip is an f32 number below 16: an error of 1e-6 in each of 331 terms.
    np.testing.assert_allclose(dclip, np.sum(g * slope), atol=2e-5)
    kept = np.abs(x) < clip if signed else x <= clip
    np.testing.assert_array_equal(dx, np.where(kept, g, 0))


def init(s: float, g: Any, top: float = 64.0, always: bool = False) -> float:
    return float(floats("grad_scale_init", [s, g], (), top=top, always=always)[0])


def test_grad_scale_instant_rule() -> None:
    assert init(0, [3.1e-5, -1e-6]) == 2.0**20
    assert init(8, [3.1e-5]) == 8 and init(8, [3.1e-5], always=True) == 2.0**20
    assert init(0, [0, 0]) == 1 and init(4, [0.0], always=True) == 4
    assert init(0, [np.inf]) == 1 and init(0, [np.nan]) == 1
    assert init(0, [1e-45]) == 2.0**100 and init(0, [3e38]) == 2.0**-100


@pytest.mark.parametrize("top", [64.0, 128.0, 57344.0])
def test_grad_scale_init_is_the_largest_power_of_two_that_fits(top: float) -> None:
    rng = np.random.default_rng(4)
    edges = np.float32(top) * np.float32(2.0) ** np.arange(-9, 9, dtype=np.float32)
    near = np.concatenate([np.nextafter(edges, np.float32(0)), edges, np.nextafter(edges, np.inf)])
    for largest in (*near, *np.exp(rng.standard_normal(50) * 9).astype(np.float32)):
        s = init(0, [largest, -largest / 2], top)
        assert np.frexp(s)[0] == 0.5 and float(largest) * s <= top < float(largest) * s * 2


def test_grad_scale_step_rule() -> None:
    def step(s: float, m: float) -> float:
        return float(floats("grad_scale_step", [s, m], (), top=64.0)[0])

    assert [step(4, m) for m in (0, 1, 32, 32.1, 64, 64.1, np.inf)] == [4, 8, 8, 4, 4, 2, 2]
    assert step(4, np.nan) == 4
    assert step(2.0**100, 1) == 2.0**100 and step(2.0**-100, 65) == 2.0**-100
    s, history = 1.0, []
    for _ in range(25):
        s = step(s, 3.1e-5 * s)
        history.append(s)
    # The published constant maximum: 2^20 after twenty steps, and there it stays.
    assert history[19:] == [2.0**20] * 6


def test_grad_scale_and_amax() -> None:
    g, s = f32([[0.5, -3], [0.25, 2]], BF16), f32(8.0)
    (gs,) = apply("grad_scale", [g, s], [TensorType((2, 2), BF16, Scale.POW2)])
    np.testing.assert_array_equal(gs.numbers, [[4, -24], [2, 16]])
    np.testing.assert_array_equal(gs.real(), [[0.5, -3], [0.25, 2]])
    assert floats("amax", [gs], ())[0] == 24 and floats("amax", [g], ())[0] == 3


def test_dequantize_multiplies_once_in_f32() -> None:
    codes = np.arange(256, dtype=np.uint8).reshape(2, 128)
    scale = np.array([1 / 3, 0.1], np.float32)
    q = Tensor(TensorType((2, 128), FP8_143, Scale.CHANNEL), codes, scale)
    (x,) = floats("dequantize", [q], (2, 128))
    np.testing.assert_array_equal(x, q.numbers * scale[:, None])
    (half,) = apply("dequantize", [q], [TensorType((2, 128), BF16)])
    rounded = x.astype(half.data.dtype).astype(np.float32)
    np.testing.assert_array_equal(half.numbers, rounded)


@pytest.mark.torch
@pytest.mark.parametrize("interval", [1, 2, 3])
def test_loss_scale_step_is_the_rule_of_torch_amp(interval: int) -> None:
    """On overflows at random, and where the scale can neither grow nor shrink."""
    torch = pytest.importorskip("torch")
    rule = {"growth": 2.0, "backoff": 0.5, "interval": interval}
    overflows = np.random.default_rng(0).random(40) < 0.3
    for init, sequence in ((65536.0, overflows), (2.0**126, overflows & False)):
        theirs = torch.amp.GradScaler("cpu", init, 2.0, 0.5, interval)
        weight = torch.nn.Parameter(torch.zeros(2))
        sgd = torch.optim.SGD([weight], lr=0.1)
        s, good = np.array(init), np.array(0)
        types = [TensorType((), t) for t in (F32, I64, F32, F32)]
        for overflow in sequence:
            theirs.scale(weight.sum() * (float("inf") if overflow else 1.0)).backward()
            theirs.step(sgd)
            theirs.update()
            sgd.zero_grad()
            m = np.array(np.inf if overflow else 1.0)
            numbers = (s, good, np.array(0.5), m)
            given = [Tensor.from_numbers(t, x) for t, x in zip(types, numbers, strict=True)]
            s, good = (t.data for t in apply("loss_scale_step", given, types[:2], **rule))
            assert float(s) == theirs.get_scale() and int(good) == theirs._get_growth_tracker()

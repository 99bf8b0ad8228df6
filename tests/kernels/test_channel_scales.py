"""GradScale with a power of two for each channel: its ops on both targets, and the pass."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import ArrayLike

from quatrain.compiler.errors import RecipeError, VerifyError
from quatrain.compiler.formats import BF16, F32, INT4, MIDRISE, Format
from quatrain.compiler.ir import Program
from quatrain.compiler.ir.text import parse
from quatrain.compiler.ir.verify import read_program, verify
from quatrain.compiler.types import Scale, TensorType
from quatrain.passes import PASSES
from quatrain.passes.recipe import load_recipe
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.plan.layout import Order
from quatrain.targets.reference.evaluate import apply, evaluate
from tests.cases.residual import resnet

LARGEST = [0.0, 1e-45, 3.1e-5, 1.0, 64.0, 65.0, 3e38, np.inf, np.nan]
RECIPE = load_recipe("ultra_low_4bit")
LAYER = """program scaled
input x : f32[5x7]
input g : f32[5x3]
state fc.w : f32[3x7]

forward:
  # fc
  y = linear(x, fc.w) : f32[5x3]

backward:
  # fc
  dx = linear_input_grad(g, fc.w) : f32[5x7]
  dw = linear_weight_grad(g, x) : f32[3x7]

return y, dx, dw
"""


def f32(x: ArrayLike) -> Tensor:
    return Tensor.from_numbers(TensorType(np.shape(x), F32), np.asarray(x))


def scales(
    state: ArrayLike, largest: ArrayLike, always: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    type_ = TensorType(np.shape(state), F32)
    inputs = [f32(state), f32(largest)]
    now, inverse = apply("channel_scales", inputs, [type_, type_], top=64.0, always=always)
    return now.data, inverse.data


@pytest.mark.parametrize("always", [False, True])
def test_each_channel_follows_the_rule_of_a_layer(always: bool) -> None:
    for state in (0.0, 8.0):
        now, inverse = scales(np.full(len(LARGEST), state), LARGEST, always)
        for one, largest in zip(now, LARGEST, strict=True):
            inputs = [f32(state), f32([largest])]
            options = {"top": 64.0, "always": always}
            (s,) = apply("grad_scale_init", inputs, [TensorType((), F32)], **options)
            assert one == s.data
        assert np.all(now * inverse == 1)


def test_rescale_keeps_codes() -> None:
    w = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    (q,) = apply("quantize", [f32(w), f32(2.0)], [TensorType((3, 5), INT4, Scale.TENSOR)])
    made = TensorType((3, 5), INT4, Scale.CHANNEL)
    (y,) = apply("rescale", [q, f32([0.5, 1, 2.0**-20])], [made])
    assert np.array_equal(y.data, q.data)
    assert np.array_equal(y.real(), q.real() * np.array([[0.5], [1], [2.0**-20]]))


@pytest.mark.parametrize("types", [("int4*t[3x5]", "int4*c[3x5]"), ("int4*c[2x5]", "int4*t[2x5]")])
def test_rescale_of_other_types_is_refused(types: tuple[str, str]) -> None:
    text = f"program p\ninput q : {types[0]}\ninput s : f32[2]\n\nforward:\n  # fc\n"
    with pytest.raises(
        VerifyError, match=r"factor of rescale is \[C\] with C = 3|gets a scale a channel"
    ):
        read_program(f"{text}  y = rescale(q, s) : {types[1]}\n\nreturn y\n")


@pytest.mark.tvm
@pytest.mark.parametrize("channels", [1, 3, 13, 33])
@pytest.mark.parametrize("always", [False, True])
def test_kernels_of_scales(channels: int, always: bool) -> None:
    pytest.importorskip("tvm")
    from ..cases.one_kernel import Group, random_inputs, same, single

    for kind, form in (("channel_scales", BF16), ("grad_scale_step", F32)):
        group = Group()
        vector = TensorType((channels,), F32)
        s, m = group.input("s", vector), group.input("m", TensorType((channels,), form))
        if kind == "channel_scales":
            made = group.op(kind, (s, m), [vector, vector], top=57344.0, always=always)
        else:
            made = group.op(kind, (s, m), [vector], top=57344.0)
        given = {
            "s": np.resize([0.0, 8.0, 2.0**100, 2.0**-100], channels),
            "m": np.resize(LARGEST, channels),
        }
        got, want = single(group, random_inputs(group.inputs, given=given), lambda v: Order.ROWS)
        for v in made:
            same(got[v.name], want[v.name])


@pytest.mark.tvm
@pytest.mark.parametrize("shape", [(8, 3, 3, 3), (5, 16, 1, 1), (4, 33, 3, 3), (7, 13)])
@pytest.mark.parametrize("f", [INT4, MIDRISE[3], MIDRISE[5]], ids=str)
def test_kernels_of_rescaled_weights(shape: tuple[int, ...], f: Format) -> None:
    """With the quantizer in one kernel, and from codes in memory."""
    pytest.importorskip("tvm")
    from ..cases.one_kernel import Group, pointwise, random_inputs, same

    factors = 2.0 ** np.arange(-3, shape[0] - 3)
    for fused in (True, False):
        group = Group()
        q = group.input("q", TensorType(shape, f, Scale.TENSOR))
        if fused:
            group = Group()
            w, clip = (group.input(n, TensorType(s, F32)) for n, s in (("w", shape), ("clip", ())))
            (q,) = group.op("quantize", (w, clip), [q.type])
        s = group.input("s", TensorType(shape[:1], F32))
        (y,) = group.op("rescale", (q, s), [TensorType(shape, f, Scale.CHANNEL)])
        given = random_inputs(group.inputs, given={"s": factors})
        order = lambda v: Order.ROWS if v.name == "w" else Order.PIXELS  # noqa: E731
        got, want = pointwise(group, (y,), given, order)
        same(got[y.name], want[y.name])


def scaled(per: str) -> dict[str, Tensor]:
    """The layer after both passes, whose channels differ by powers of ten."""
    program: Program = verify(parse(LAYER))
    for name, options in (
        ("sawb_weights", {"exempt": "none"}),
        ("grad_scale", {"exempt": "none", "per": per, "gradscale": "instant"}),
        ("two_phase_rounding", {}),
    ):
        program = verify(PASSES[name](program, **options))
    rng = np.random.default_rng(1)
    g = rng.standard_normal((5, 3)) * [1e-6, 1.0, 1e4]
    given = {"x": f32(rng.standard_normal((5, 7))), "g": f32(g)}
    given["fc.w"] = f32(rng.standard_normal((3, 7)))
    return {v.name: t for v, t in evaluate(program, given).items()}


def test_small_channels_no_longer_vanish() -> None:
    layer, channel = scaled("layer"), scaled("channel")
    assert np.all(layer["dw"].data[0] == 0) and np.all(channel["dw"].data[0] != 0)
    top = np.abs(channel["fc.dy.leveled"].data).max(axis=0)
    assert np.all((top > 32) & (top <= 64))
    # Rounded to the nearest level of radix 4 a number becomes 0.4 to 1.6 times itself, or 0 where
    # it is far below the largest of its channel.
    inverse = channel["fc.grad_scale.inverse"].data
    for phase in ("even", "odd"):
        real = channel[f"fc.dys.{phase}"].numbers * inverse
        ratio = real / channel["g"].data
        assert np.all((ratio == 0) | ((ratio >= 0.4) & (ratio <= 1.6)))
    # Products of these numbers, summed in float64 and in another order: a few roundings to f32.
    np.testing.assert_allclose(channel["dw"].data, real.T @ channel["x"].data, rtol=1e-5, atol=1e-9)
    even = channel["fc.dys.even"].numbers * inverse
    want = even @ channel["fc.wq"].real()
    np.testing.assert_allclose(channel["dx"].data, want, rtol=1e-5)


def test_the_top_follows_the_format() -> None:
    program = RECIPE.with_options({"per": "channel"}).apply(resnet(middle=1))[-1][1]
    tops = {op.float_attr("top") for _, op in program.ops() if op.kind == "channel_scales"}
    assert tops == {64.0, 57344.0}
    shapes = [v.type.shape for v in program.state if v.name.endswith(".grad_scale")]
    assert shapes and all(len(shape) == 1 for shape in shapes)


def test_steps_that_are_not_applied_are_told_by_the_gradients_ahead_of_the_codes() -> None:
    """Behind codes, which saturate, nothing is infinite: neither scales of rows nor masks hide it."""
    options = {"per": "channel", "sawb_gradient": "sawb", "fp8_on": "none"}
    program = RECIPE.with_options(options).apply(resnet(middle=1))[-1][1]
    counted = verify(PASSES["skip_nonfinite"](program))
    (tally,) = (op for _, op in counted.ops() if op.kind == "tally")
    layers = {op.origin for _, op in counted.ops() if op.kind == "channel_scales"}
    told = {v.name for v in tally.inputs}
    assert layers and {f"{layer}.dy.leveled.amax" for layer in layers} <= told


def test_a_transposed_convolution_is_refused() -> None:
    conv = "{stride=[2,2], padding=[0,0], dilation=[1,1], groups=1}"
    text = (
        "program p\ninput x : f32[1x4x3x3]\ninput g : f32[1x2x6x6]\nstate w : f32[4x2x2x2]\n\n"
        f"forward:\n  # up\n  y = conv2d_transpose(x, w) {conv} : f32[1x2x6x6]\n\nbackward:\n"
        f"  # up\n  dw = conv2d_transpose_weight_grad(g, x) {conv} : f32[4x2x2x2]\n\nreturn y, dw\n"
    )
    with pytest.raises(RecipeError, match=r"the transposed convolution 'up'.*add it to exempt"):
        PASSES["grad_scale"](verify(parse(text)), per="channel", exempt="none")

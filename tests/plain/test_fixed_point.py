"""Fixed point: published vectors, options and refusals of its passes and its two recipes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quatrain.compiler.errors import RecipeError, VerifyError
from quatrain.compiler.formats import F32, FP4_EVEN, INT8, INT16, UINT8, Format
from quatrain.compiler.ir import Program
from quatrain.compiler.ir.text import parse
from quatrain.compiler.ir.verify import verify
from quatrain.compiler.types import Scale, TensorType
from quatrain.passes import PASSES
from quatrain.passes.parts.options import Setting
from quatrain.passes.recipe import load_recipe
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.reference.evaluate import apply, evaluate

from ..cases.residual import resnet

SGD = "sgd(w, dw, m, step, lr, momentum, dampening, decay) {nesterov=false, maximize=false}"
LAYER = """program layer
input x : f32[1xI]
input dy : f32[1xO]
input lr : f32[]
input momentum : f32[]
input dampening : f32[]
input decay : f32[]
state w : f32[OxI]
state m : f32[OxI]
state step : i64[]

forward:
  # fc
  y = linear(x, w) : f32[1xO]

backward:
  # fc
  dx = linear_input_grad(dy, w) : f32[1xI]
  dw = linear_weight_grad(dy, x) : f32[OxI]

update:
  # fc
  w', m' = SGD : f32[OxI], f32[OxI]
  step' = increment(step) : i64[]

return y, dx
next w = w'
next m = m'
next step = step'
""".replace("SGD", SGD)
HYPER = {"lr": 0.05, "momentum": 0.25, "dampening": 0.0, "decay": 0.0, "m": 0.0, "step": 0}


def layer(inputs: int, outputs: int) -> Program:
    """A linear layer, its gradients and its update."""
    sizes = LAYER.replace("OxI", f"{outputs}x{inputs}")
    return verify(parse(sizes.replace("xI]", f"x{inputs}]").replace("xO]", f"x{outputs}]")))


def after(name: str, program: Program, numbers: dict[str, Any], **options: Setting) -> Any:
    """The values, by name, of what a pass makes of a program."""
    made = verify(PASSES[name](program, exempt="none", **options))
    known = {**HYPER, **numbers}
    given = {
        v.name: Tensor.from_numbers(v.type, np.broadcast_to(known[v.name], v.type.shape))
        for v in (*made.inputs, *made.state)
        if v.name not in made.initial
    }
    return {v.name: t for v, t in evaluate(made, given).items()}


ERRORS = [0.9, -0.02, 0.004, 0.0003, -1e-5]


def test_the_vector_of_dynamic_fixed_point() -> None:
    x = np.array([[0.7, -3.2, 0.001]], np.float32)
    values = after("dynamic_fixed_point", layer(3, 1), {"x": x, "dy": 1.0, "w": 1.0})
    codes = values["fc.xq"]
    assert codes.type.format is INT16 and codes.scale == 2.0**-13
    assert codes.numbers.tolist() == [[5734, -26214, 8]]
    np.testing.assert_allclose(codes.real(), [[0.699951, -3.199951, 0.000977]], atol=5e-7)
    # A power of two, then its neighbours: the exponent is that of the maximum, never one more.
    for largest in (2.0, np.nextafter(np.float32(2), np.float32(0)), 2.0 + 2.0**-22):
        values = after("dynamic_fixed_point", layer(1, 1), {"x": largest, "dy": 1.0, "w": 1.0})
        assert values["fc.xq"].scale == 2.0 ** (np.floor(np.log2(np.float64(largest))) - 14)
    # The number just below a power of two rounds up to it, which no code stands for.
    below = np.nextafter(np.float32(2), np.float32(0))
    values = after("dynamic_fixed_point", layer(1, 1), {"x": below, "dy": 1.0, "w": 1.0})
    assert values["fc.xq"].numbers.item() == 32767


@pytest.mark.parametrize("x", [0.0, np.nan, np.inf, 1e-38, 3e38])
def test_dynamic_fixed_point_of_odd_numbers_is_defined(x: float) -> None:
    values = after("dynamic_fixed_point", layer(1, 1), {"x": x, "dy": 1.0, "w": 1.0})
    assert np.isfinite(values["fc.xq"].real()).all()
    if x < 1e-30:
        assert abs(values["fc.xq"].real().item() - x) < 2.0**-100


def test_the_vectors_of_weights_and_activations() -> None:
    w = np.array([[-1.2, -0.5, -0.003, 0.004, 0.3, 0.9999]], np.float32)
    x = np.array([[0.3, -0.5, 1.5, 300.0, -300.0, np.nan]], np.float32)
    values = after("fixed_operands", layer(6, 1), {"x": x, "dy": 1.0, "w": w})
    want = [[-0.992188, -0.5, 0, 0.007812, 0.296875, 0.992188]]
    np.testing.assert_allclose(values["fc.wq"].real(), want, atol=5e-7)
    assert values["fc.xq"].type.format is INT8 and values["fc.xq"].scale == 2.0**-7
    assert values["fc.xq"].numbers.tolist() == [[38, -64, 127, 127, -127, -127]]
    values = after("fixed_operands", layer(6, 1), {"x": x, "dy": 1.0, "w": w}, activations="wide")
    assert values["fc.xq"].scale == 2.0**-7
    assert values["fc.xq"].numbers.tolist() == [[38, -64, 192, 32767, -32767, -32767]]


@pytest.mark.parametrize(
    ("how", "want"),
    [
        ("flag", [0.898438, -0.023438, 0.004028, 0.000305, 0]),
        ("int8", [0.898438, -0.023438, 0.007812, 0, 0]),
        ("int16", [0.899994, -0.019989, 0.003998, 0.000305, 0]),
    ],
)
def test_the_vectors_of_gradients(how: str, want: list[float]) -> None:
    numbers = {"x": 1.0, "dy": np.array([ERRORS], np.float32), "w": 1.0}
    values = after("shift_gradients", layer(1, 5), numbers, output_gradient=how)
    np.testing.assert_allclose(values["fc.dyq"].real(), [want], atol=5e-7)


def test_the_gradient_of_an_activation_is_rounded_too() -> None:
    # 0.75 is a level; a power of two is not, the top is 127 steps of 1/128 of it.
    w = np.array([ERRORS]) / 0.75
    numbers: dict[str, Any] = {"x": 1.0, "dy": 0.75, "w": w}
    values = after("shift_gradients", layer(5, 1), numbers)
    np.testing.assert_allclose(
        values["dx"].real(), [[0.898438, -0.023438, 0.007812, 0, 0]], atol=5e-7
    )
    values = after("shift_gradients", layer(5, 1), numbers, activation_gradient=False)
    np.testing.assert_allclose(values["dx"].real(), [ERRORS], rtol=1e-6)


def test_the_shift_is_the_nearest_power_of_two() -> None:
    for largest in (1.0, 1.4142, 1.4143, 0.7071, 0.7072, 3.0, 1e-6):
        numbers = {"x": 1.0, "dy": largest, "w": 1.0}
        values = after("shift_gradients", layer(1, 1), numbers, output_gradient="int8")
        assert values["fc.dyq"].scale * 128 == 2.0 ** np.round(np.log2(np.float64(largest)))


def test_flagged_integers() -> None:
    x = [0, 0.5, 1.5, 126.5, 127.5, 127.9, 128, 191, 192, 193, 320, 16255, 16300, 1e9, np.inf]
    g = Tensor.from_numbers(TensorType((len(x),), F32, Scale.POW2), x, 0.5)
    (q,) = apply("round_flag", [g], [TensorType((len(x),), INT16, Scale.POW2)], bits=8)
    # Steps of 1 to 128, then of 128 to 127 * 128; ties go to even.
    low = [0, 0, 2, 126, 128, 128, 128]
    assert q.numbers.tolist() == [*low, 128, 256, 256, 256, *[127 * 128] * 4] and q.scale == 0.5


@pytest.mark.parametrize("f", [INT8, UINT8, FP4_EVEN])
def test_formats_too_small_for_the_flag_are_refused(f: Format) -> None:
    text = f"""program p
input g : f32*p[3]

forward:
  q = round_flag(g) {{bits=8}} : {f}*p[3]

return q
"""
    with pytest.raises(VerifyError, match=f"integers up to 16256, which {f} does not hold"):
        verify(parse(text))


@pytest.mark.parametrize("g_scale", [128, 32, 8, 2])
def test_the_update_is_in_integers(g_scale: int) -> None:
    rng = np.random.default_rng(0)
    dw = rng.standard_normal((13, 27)).astype(np.float32) * np.float32(1e-3)
    program = layer(27, 13)
    w = rng.uniform(-0.9, 0.9, (13, 27)).astype(np.float32)
    # The gradient of the layer is the outer product of dy and x; it is given through x and dy.
    numbers = {"x": dw[:1], "dy": 1.0, "w": w, "m": 2.0**-12, "step": 3}
    values = after("integer_update", program, numbers, g_scale=g_scale)
    largest = np.abs(values["dw"].numbers).max()
    unit = 2.0 ** np.round(np.log2(np.float64(largest)))
    exact = values["dw"].numbers.astype(np.float64) * g_scale / unit
    whole = values["fc.w.grad.fixed"].numbers.astype(np.float64) * 2.0**14
    assert np.abs(whole).max() <= g_scale - 1
    inside = np.abs(exact) < g_scale - 1
    # Stochastic rounding takes one of both neighbours.
    assert np.all(np.abs(whole - exact)[inside] < 1) and np.array_equal(whole, np.rint(whole))
    rate = np.rint(0.05 * 512) / 512
    assert values["lr.fixed"].numbers == np.float32(rate)
    momentum = 0.25 * 2.0**-12 + whole / 2**14
    np.testing.assert_array_equal(values["m'"].numbers, np.rint(momentum * 2**12) / 2**12)
    made = np.rint((w.astype(np.float64) - rate * momentum) * 2**23) / 2**23
    # sgd computes in f32, whose step near 1 is 2^-24: half a step of the grid.
    np.testing.assert_allclose(values["w'"].numbers, made, atol=2.0**-23, rtol=0)
    assert np.array_equal(values["w'"].numbers * 2**23, np.rint(values["w'"].numbers * 2**23))


def test_stochastic_gradients_keep_their_mean() -> None:
    x = np.full((1, 4000), 0.3)
    x[0, 0] = 1.0
    numbers = {"x": x, "dy": 1.0, "w": 0.0}
    values = after("integer_update", layer(4000, 1), numbers, g_scale=2)
    whole = values["fc.w.grad.fixed"].numbers[0, 1:] * 2**14
    assert set(whole.tolist()) == {0, 1}
    # 4000 draws of probability 0.6: five standard deviations are 0.039.
    assert abs(whole.mean() - 0.6) < 0.039


def test_other_optimizers_are_refused() -> None:
    text = str(layer(3, 2)).replace(SGD, ADAM).replace("w', m' = ", "w', m', v' = ")
    text = text.replace(": f32[2x3], f32[2x3]\n", ": f32[2x3], f32[2x3], f32[2x3]\n")
    text = text.replace("state step", "state v : f32[2x3]\nstate step")
    program = verify(parse(text.replace("next step", "next v = v'\nnext step")))
    with pytest.raises(RecipeError) as caught:
        PASSES["integer_update"](program, exempt="none")
    assert str(caught.value) == (
        "integer_update rounds what SGD makes, but the optimizer is adam; take torch.optim.SGD"
    )


ADAM = (
    "adam(w, dw, m, v, step, lr, momentum, dampening, decay, decay) "
    "{decoupled_weight_decay=false, maximize=false}"
)


def test_options_reach_the_formats() -> None:
    def found(name: str, **options: object) -> set[str]:
        program = load_recipe(name).with_options(options).apply(resnet(middle=1))[-1][1]
        return {r.type.short for _, op in program.ops() for r in op.results}

    assert {"int16*p"} <= found("dfp16") and "int8*p" not in found("dfp16")
    assert {"int8*p"} <= found("dfp16", bits=8) and "int16*p" not in found("dfp16", bits=8)
    assert {"int8*t", "uint8*t", "int15*p", "int8*p"} <= found("wageubn")
    assert "uint8*t" not in found("wageubn", activations="wide")
    eight = found("wageubn", output_gradient="int8")
    assert not {f for f in eight if f.startswith("int16")}
    assert "int4*p" in found("wageubn", g_scale=8)


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("dfp16", {"bits": 12}, "bits of dynamic_fixed_point must be 4, 5, 6, 7, 8 or 16, not 12"),
        ("dfp16", {"exempt": "frist"}, "no layer with a GEMM is called 'frist'; did you mean"),
        ("wageubn", {"g_scale": 64}, "g_scale of integer_update must be 128, 32, 8 or 2, not 64"),
        ("wageubn", {"output_gradient": "e2"}, "must be flag, int8 or int16, not 'e2'"),
        ("wageubn", {"activations": "int8"}, "must be clipped or wide, not 'int8'"),
        ("wageubn", {"activation_gradient": "E1"}, "must be true or false, not 'E1'"),
    ],
)
def test_wrong_options_are_one_sentence(recipe: str, options: Any, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe).with_options(options).apply(resnet())
    assert message in str(caught.value) and "\n" not in str(caught.value)

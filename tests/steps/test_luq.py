"""LUQ: the published probabilities, kernels against the reference, whole steps, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quatrain.compiler.errors import RecipeError
from quatrain.compiler.formats import F32, I64, INT5_17, INT5_24, INTS, LUQ, UINT4, Format
from quatrain.compiler.ir import Op, Value, attrs
from quatrain.compiler.ir.text import parse
from quatrain.compiler.ir.verify import verify
from quatrain.compiler.types import Scale, TensorType
from quatrain.passes.luq_gradients import NEAREST, luq_gradients
from quatrain.passes.recipe import load_recipe
from quatrain.passes.sawb_activations import STRETCH
from quatrain.passes.sawb_weights import pair_of
from quatrain.targets.numbers.tensor import Array, Tensor
from quatrain.targets.reference.evaluate import evaluate, run_op
from tests.cases.residual import resnet

RECIPE = load_recipe("luq4")
SCALAR = TensorType((), F32)
DY = np.array([0.9, -0.3, 0.11, 0.02, 0.004, -0.0009], np.float32)
# Lower level, upper level and the probability of the upper one, in the order of DY without its
# maximum; levels of 0.02 and below are multiples of the unit.
FIRST, SECOND = (0.225, 0.45, 0.3333), (0.05625, 0.1125, 0.9556)
PROBABILITIES = {
    5: [FIRST, SECOND, (0, 1, 0.3556), (0, 1, 0.0711), (0, 1, 0.0160)],
    7: [FIRST, SECOND, (1, 2, 0.4222), (0, 1, 0.2844), (0, 1, 0.0640)],
    8: [FIRST, SECOND, (2, 4, 0.4222), (0, 1, 0.5689), (0, 1, 0.1280)],
    9: [FIRST, SECOND, (4, 8, 0.4222), (1, 2, 0.1378), (0, 1, 0.2560)],
}
DRAWS = 20000
# What the authors' code does otherwise than the paper.
AUTHORS = {"grid": 17, "luq_act_range": "double", "luq_max": "signed", "luq_levels": 8}


def normalized(x: Array, levels: int) -> Tensor:
    """dY in units of its maximum over the top level, as the pass makes it."""
    numbers = Tensor.from_numbers(TensorType(x.shape, F32), x)
    unit = Tensor.from_numbers(SCALAR, np.abs(x).max() * np.float32(1 / LUQ[levels].max))
    values = Value("g", numbers.type), Value("unit", SCALAR)
    made = Value("n", TensorType(x.shape, F32, Scale.TENSOR))
    return run_op(Op("normalize", values, (made,)), [numbers, unit])[0]


def sampled(x: Array, levels: int, step: int = 0) -> Array:
    """Real values of one sample."""
    g = normalized(x, levels)
    clocks = [Tensor.from_numbers(TensorType((), I64), np.array(n)) for n in (7, step)]
    values = (Value("g", g.type), *(Value(n, c.type) for n, c in zip("st", clocks, strict=True)))
    made = Value("q", TensorType(x.shape, LUQ[levels], Scale.TENSOR))
    op = Op("round_stochastic", values, (made,), attrs(salt=3))
    return run_op(op, [g, *clocks])[0].real()


@pytest.mark.parametrize("levels", LUQ)
def test_the_published_probabilities(levels: int) -> None:
    unit = 0.9 / LUQ[levels].max
    made = np.abs(sampled(np.repeat(DY, DRAWS), levels)).reshape(len(DY), DRAWS)
    np.testing.assert_allclose(made[0], 0.9, rtol=1e-6)
    for row, (low, high, chance) in zip(made[1:], PROBABILITIES[levels], strict=True):
        below, above = (v if isinstance(v, float) else v * unit for v in (low, high))
        up = np.isclose(row, above, rtol=1e-6)
        assert np.all(up | np.isclose(row, below, rtol=1e-6, atol=1e-9))
        # Five deviations of the share of DRAWS events, and the digits that are printed.
        deviation = np.sqrt(chance * (1 - chance) / DRAWS)
        assert abs(up.mean() - chance) < 5 * deviation + 5e-5


def test_the_mean_of_many_samples_is_the_gradient() -> None:
    x = np.random.default_rng(0).normal(size=257).astype(np.float32)
    mean = np.mean([sampled(x, 7, step) for step in range(2000)], axis=0)
    # The variance between L and 2L is at most L^2 / 4, and L at most |x| or the unit.
    size = np.maximum(np.abs(x), np.abs(x).max() / 64)
    assert np.all(np.abs(mean - x) < 5 * size / 2 / np.sqrt(2000))


def test_a_gradient_of_zeros_stays_zero() -> None:
    assert not sampled(np.zeros(5, np.float32), 7).any()


def test_a_signed_maximum_saturates_what_is_more_negative() -> None:
    """The largest level is that of the positive numbers; without any, no sizes are left."""
    assert real(np.array([0.5, -4.0, 0.25], np.float32)).tolist() == [0.5, -0.5, 0.25]
    assert not real(np.array([-0.9, 0.0, -0.3], np.float32)).any()
    assert real(np.array([-4.0, -0.5], np.float32)).tolist() == [-0.5, -0.5]


def real(g: Array) -> Array:
    """Real values of a gradient under ``luq_max=signed``, rounded to nearest."""
    text = f"""program p
input g : f32[{g.size}x1]
input x : f32[{g.size}x3]
state fc.w : f32[1x3]

forward:
  # fc
  y = linear(x, fc.w) : f32[{g.size}x1]

backward:
  # fc
  dw = linear_weight_grad(g, x) : f32[1x3]

return y, dw
"""
    made = luq_gradients(
        verify(parse(text)), luq_max="signed", luq_rounding="log_nearest", exempt="none"
    )
    given = {
        v.name: Tensor.from_numbers(
            v.type, g.reshape(-1, 1) if v.name == "g" else np.ones(v.type.shape)
        )
        for v in (*made.inputs, *made.state)
    }
    env = {v.name: t for v, t in evaluate(made, given).items()}
    return env["fc.dyq"].real().ravel()


def test_nearest_in_the_logarithm() -> None:
    x = np.array([1.49, 1.5, 2.9, 3.0, 64], np.float32)
    g = normalized(x, 7)
    made = Value("q", TensorType(x.shape, LUQ[7], Scale.TENSOR))
    (q,) = run_op(Op("round_log", (Value("g", g.type),), (made,), NEAREST), [g])
    assert q.real().tolist() == [1, 2, 2, 4, 64]


def test_the_clip_of_the_authors_code() -> None:
    w = np.array([-1, -0.5, 0, 0.25, 0.5, 1.5], np.float32)
    c1, c2 = pair_of(INTS[4], "luq")
    clip = c1 * np.sqrt(np.mean(w.astype(np.float64) ** 2)) - c2 * np.abs(w).mean()
    assert clip == pytest.approx(2.020276, abs=5e-7)


def test_the_grids_of_the_authors_code() -> None:
    """17 integers of weights, 16 of activations over twice the clip, 24 of those with a sign."""
    w = np.array([-1, -0.5, 0, 0.25, 0.5, 1.5], np.float32)
    clip = 2.020276
    want = [-1.010138, -0.505069, 0, 0.252535, 0.505069, 1.515207]
    assert coded(w, INT5_17, clip) == pytest.approx(want, abs=1e-6)
    far = np.array([-9, 9, 2.5, -3], np.float32)
    assert coded(far, INT5_17, clip) == pytest.approx([-clip, clip, clip, -clip], rel=1e-6)
    step = 2 * clip / 23
    want = [-8 * step, 15 * step, round(2.5 / step) * step, -8 * step]
    assert coded(far, INT5_24, clip * STRETCH[INT5_24]) == pytest.approx(want, rel=1e-6)
    step = 2 * clip / 15
    want = [0, 15 * step, round(2.5 / step) * step, 0]
    assert coded(far, UINT4, clip * STRETCH[UINT4]) == pytest.approx(want, rel=1e-6)


def coded(x: Array, format_: Format, clip: float) -> list[float]:
    """Real values of the codes below a clip."""
    type_ = TensorType(x.shape, F32)
    made = Value("q", TensorType(x.shape, format_, Scale.TENSOR))
    op = Op("quantize", (Value("x", type_), Value("clip", SCALAR)), (made,))
    operands = [Tensor.from_numbers(type_, x), Tensor.from_numbers(SCALAR, np.array(clip))]
    return [float(v) for v in run_op(op, operands)[0].real()]


def test_formats_by_role() -> None:
    program = RECIPE.with_options({"smp": 2}).apply(resnet(middle=1))[-1][1]
    gemms = [op for _, op in program.ops() if op.kind.startswith("conv2d") and "layer" in op.origin]
    of = {k: {op.inputs[0].type.short for op in gemms if op.kind == k} for k in KINDS}
    assert of == {"conv2d": {"uint4*t"}, **{k: {"fp4.r2*t"} for k in KINDS[1:]}}
    count = {k: sum(op.kind == k for op in gemms) for k in KINDS}
    assert count["conv2d_weight_grad"] == 2 * count["conv2d_input_grad"]
    assert {op.inputs[1].type.short for op in gemms} == {"int4*t", "uint4*t"}


KINDS = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"luq_levels": 6}, "option luq_levels of luq_gradients must be 5, 7, 8 or 9, not 6"),
        ({"smp": 3}, "option smp of luq_gradients must be 1 or 2, not 3"),
        ({"smp": 2, "luq_rounding": "log_nearest"}, "log_nearest makes two equal ones"),
        ({"eta": 1}, "eta=1 must be at least 0 and below 1"),
        ({"bits": 8}, "coefficients=luq are those of 4 bits with a zero, not of int8; set"),
        ({"grid": 16}, "those of 4 bits with a zero, not of int4.midrise; set coefficients=sawb"),
        ({"clip_init": 0}, "clip_init=0 must be positive"),
        (
            {"grid": 17, "coefficients": "sawb"},
            "grid=17 is that of LUQ's authors; set coefficients",
        ),
        ({"grid": 17, "bits": 8}, "grid=17 is -8 .. 8, no grid of 8 bits; set bits=4"),
        (
            {"luq_act_range": "double", "bits": 8, "coefficients": "sawb"},
            "luq_act_range=double is of 4 bits; set bits=4, not 8",
        ),
        ({"luq_max": "signed", "hindsight": True}, "averages sizes; set luq_max=size"),
    ],
)
def test_wrong_options_are_one_sentence(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        RECIPE.with_options(options).apply(resnet())
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_hindsight_follows_the_formula() -> None:
    from quatrain.targets.reference.evaluate import evaluate

    from ..plain.test_pass_numbers import values

    program = RECIPE.with_options({"hindsight": True, "eta": 0.25}).apply(resnet(image=7))[-1][1]
    given = values(program)
    (name, *_) = (v.name for v in program.state if v.name.endswith(".grad_max"))
    layer = name.removesuffix(".grad_max")
    after = {s.name: v for s, v in program.next}
    env = evaluate(program, given)
    named = {v.name: t for v, t in env.items()}
    first = float(named[f"{layer}.dy.amax"].data)
    assert float(env[after[name]].data) == pytest.approx(first, rel=1e-6)
    given[name] = Tensor.from_numbers(SCALAR, np.array(10 * first))
    env = evaluate(program, given)
    named = {v.name: t for v, t in env.items()}
    assert named[f"{layer}.dy.unit"].data == np.float32(10 * first) / 64
    wanted = 0.75 * float(named[f"{layer}.dy.amax"].data) + 0.25 * 10 * first
    assert float(env[after[name]].data) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.tvm
@pytest.mark.torch
class TestSteps:
    """A small network, captured and compiled."""

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"smp": 2, "smp_scope": "both", "luq_levels": 8, "exempt": "none"},
            {"hindsight": True, "luq_levels": 5, "carrier": "f32"},
            {"luq_rounding": "log_nearest", "luq_levels": 9, "carrier": "f16"},
            AUTHORS | {"smp": 2, "smp_scope": "both", "exempt": "none"},
        ],
        ids=["plain", "smp", "hindsight", "nearest", "authors"],
    )
    def test_kernels_equal_the_reference(self, options: dict[str, object]) -> None:
        from ..cases.recipe_checks import kernels_equal_the_reference

        kernels_equal_the_reference("luq4", options)

    @pytest.mark.parametrize("target", ["reference", "cpu"])
    def test_a_saved_step_goes_on(self, target: str, tmp_path: Path) -> None:
        from ..cases.recipe_checks import a_saved_step_goes_on

        a_saved_step_goes_on("luq4", target, tmp_path)

    @pytest.mark.parametrize("recipe", ["luq4", "luq4_fnt"])
    def test_it_learns_a_batch(self, recipe: str) -> None:
        from ..cases.recipe_checks import it_learns_a_batch

        it_learns_a_batch(recipe, "cpu")

    def test_fine_tuning_starts_from_the_weights(self) -> None:
        import torch

        from ..cases.recipe_checks import compiled
        from .test_step import batch, network

        step, model = compiled("luq4"), network()
        step(*batch())
        model.load_state_dict(step.state_dict())
        tuned = compiled("luq4_fnt")
        tuned.load_state({k: v for k, v in step.state.items() if k in tuned.state})
        assert all(torch.equal(v, model.state_dict()[k]) for k, v in tuned.state_dict().items())


@pytest.mark.tvm
@pytest.mark.parametrize("shape", [(1,), (13,), (3, 27), (2, 28, 5, 3), (1, 33, 7, 7)])
def test_the_first_maximum_is_that_of_the_reference(shape: tuple[int, ...]) -> None:
    pytest.importorskip("tvm")
    from ..cases.one_kernel import Group, random_inputs, same, single

    for m in (0.0, 2.5):
        group = Group()
        operands = group.input("m", SCALAR), group.input("g", TensorType(shape, F32))
        (made,) = group.op("amax_init", operands, [SCALAR])
        got, want = single(group, random_inputs(group.inputs, given={"m": m}))
        same(got[made.name], want[made.name])

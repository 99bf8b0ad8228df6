"""Gradients as integers: unbiased, on all levels of the format, in whole steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quatrain.compiler.errors import RecipeError
from quatrain.compiler.formats import F32, I64
from quatrain.compiler.ir import Op, Program, Region, Value, attrs
from quatrain.compiler.types import TensorType
from quatrain.passes import PASSES
from quatrain.passes.recipe import load_recipe
from quatrain.targets.numbers.tensor import Array, Tensor
from quatrain.targets.reference.evaluate import evaluate
from tests.cases.residual import resnet

RECIPE = load_recipe("int4")
STEPS = 2000


def network(shape: tuple[int, int]) -> Program:
    """The weight gradient of a linear layer with a gradient from outside."""
    g, x, y = (Value(n, TensorType(shape, F32)) for n in ("g", "x", "y"))
    w, dw = (Value(n, TensorType((shape[1], shape[1]), F32)) for n in ("w", "dw"))
    step = Value("step", TensorType((), I64))
    forward = Region("forward", (Op("linear", (x, w), (y,), origin="fc"),))
    backward = Region("backward", (Op("linear_weight_grad", (g, x), (dw,), attrs(), "fc"),))
    program = Program("one", (g, x, w), (step,), (forward, backward), (y, dw))
    return PASSES["integer_gradients"](program, exempt="none")


def codes(x: Array, at: int) -> tuple[Array, Array]:
    """Stored numbers and real values of the gradient at a step."""
    program = network((x.shape[0], x.shape[1]))
    eye = np.zeros(x.shape, np.float32)
    given = {"g": x, "x": eye, "w": np.zeros((x.shape[1],) * 2), "step": np.array(at)}
    given["generator.seed"] = np.array(3)
    values = (*program.inputs, *program.state)
    env = evaluate(program, {v.name: Tensor.from_numbers(v.type, given[v.name]) for v in values})
    (q,) = (t for v, t in env.items() if v.name == "fc.dyq")
    return q.numbers, q.real()


def test_the_mean_of_many_steps_is_the_gradient() -> None:
    x = np.random.default_rng(0).normal(size=(3, 33)).astype(np.float32)
    mean = np.mean([codes(x, at)[1] for at in range(STEPS)], axis=0)
    # The variance of a choice between neighbours is at most a quarter of the squared step.
    unit = np.abs(x).max() / 7
    assert np.all(np.abs(mean - x) < 5 * unit / 2 / np.sqrt(STEPS))


def test_the_largest_is_the_top_and_zeros_stay() -> None:
    x = np.array([[0.3, -0.7, 0.0]], np.float32)
    numbers, real = codes(x, 0)
    assert numbers[0, 1:].tolist() == [-7, 0]
    # Seven times a seventh, rounded twice.
    assert real[0, 1] == pytest.approx(-0.7, rel=2**-22)
    assert not codes(np.zeros((1, 3), np.float32), 0)[1].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gradient_bits": 1}, "option gradient_bits of integer_gradients must be 2, 3, 4, 5"),
        ({"gradient_bits": 9}, "6, 7 or 8, not 9"),
        ({"gradient_rounding": "up"}, "must be stochastic or nearest, not 'up'"),
    ],
)
def test_wrong_options_are_one_sentence(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        RECIPE.with_options(options).apply(resnet())
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_formats_by_role(bits: int) -> None:
    program = RECIPE.with_options({"gradient_bits": bits}).apply(resnet(middle=1))[-1][1]
    kinds = ("conv2d_input_grad", "conv2d_weight_grad")
    found = {op.inputs[0].type.short for _, op in program.ops() if op.kind in kinds}
    assert found == {f"int{bits}*t", "bf16"}


@pytest.mark.tvm
@pytest.mark.torch
class TestSteps:
    """A small network, captured and compiled."""

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"gradient_bits": 8, "gradient_rounding": "nearest", "carrier": "f32"},
            {"gradient_bits": 3, "exempt": "none"},
        ],
        ids=["plain", "nearest8", "three"],
    )
    def test_kernels_equal_the_reference(self, options: dict[str, object]) -> None:
        from ..cases.recipe_checks import kernels_equal_the_reference

        kernels_equal_the_reference("int4", options)

    @pytest.mark.parametrize("target", ["reference", "cpu"])
    def test_a_saved_step_goes_on(self, target: str, tmp_path: Path) -> None:
        from ..cases.recipe_checks import a_saved_step_goes_on

        a_saved_step_goes_on("int4", target, tmp_path)

    def test_it_learns_a_batch(self) -> None:
        from ..cases.recipe_checks import it_learns_a_batch

        it_learns_a_batch("int4", "cpu")

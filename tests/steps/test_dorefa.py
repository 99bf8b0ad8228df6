"""DoReFa: published vectors, the gradient of the weights beside PyTorch, whole steps, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quatrain.compiler.errors import RecipeError
from quatrain.compiler.formats import F32, UINTS
from quatrain.compiler.ir import Op, Program, Region, Value
from quatrain.compiler.types import Scale, TensorType
from quatrain.passes import PASSES
from quatrain.passes.recipe import load_recipe
from quatrain.targets.numbers.tensor import Array, Tensor
from quatrain.targets.reference.evaluate import evaluate, run_op
from tests.cases.residual import resnet

RECIPE = load_recipe("dorefa")
SCALAR = TensorType((), F32)


def layer(name: str, x: Array, w: Array, g: Array, **options: object) -> dict[str, Array]:
    """Real values of a linear layer, forward and backward, after a pass."""
    rows, columns = g.shape[0], w.shape
    shapes = {"x": (rows, columns[1]), "w": columns, "g": (rows, columns[0])}
    given = {n: Value(n, TensorType(s, F32)) for n, s in shapes.items()}
    a, y, dx, dw = (
        Value(n, given[of].type) for n, of in (("a", "x"), ("y", "g"), ("dx", "x"), ("dw", "w"))
    )
    relu = Op("relu", (given["x"],), (a,), origin="relu")
    forward = Op("linear", (a, given["w"]), (y,), origin="fc")
    back = Op("linear_input_grad", (given["g"], given["w"]), (dx,), origin="fc")
    weight = Op("linear_weight_grad", (given["g"], a), (dw,), origin="fc")
    regions = Region("forward", (relu, forward)), Region("backward", (back, weight))
    inputs, state = (given["x"], given["g"]), (given["w"],)
    program = PASSES[name](
        Program("one", inputs, state, regions, (y, dx, dw)), exempt="none", **options
    )
    numbers = {"x": x, "w": w, "g": g}
    env = evaluate(program, {n: Tensor.from_numbers(v.type, numbers[n]) for n, v in given.items()})
    return {v.name: t.real() for v, t in env.items()}


def test_weights_of_the_published_vector() -> None:
    f = np.array([[-1.5, -0.2, 0, 0.4, 2]], np.float32)
    made = layer("dorefa_weights", np.ones((1, 5)), f, np.ones((1, 1)), w_bits=2)
    # The printed numbers are of y / 2 + 1 / 2, with six decimals.
    wanted = [0.030538, 0.39763, 0.5, 0.697063, 1]
    np.testing.assert_allclose(made["fc.wt.unit"][0] / 2 + 0.5, wanted, atol=5e-7)
    third = 1 / 3
    np.testing.assert_allclose(made["fc.wq"][0], [-1, -third, third, third, 1], rtol=1e-7)


def test_one_bit_is_the_sign_times_the_mean() -> None:
    w = np.array([[-0.5, 0, 1e-9, -1e-9, 2]], np.float32)
    made = layer("dorefa_weights", np.ones((1, 5)), w, np.ones((1, 1)), w_bits=1)
    mean = np.float32(2.5 / 5)
    np.testing.assert_allclose(made["fc.wq"][0], mean * np.array([-1, 1, 1, -1, 1]), rtol=1e-6)
    np.testing.assert_array_equal(made["dw"], np.ones((1, 5)))


@pytest.mark.parametrize("bits", [1, 2, 5])
def test_weights_of_zeros_are_numbers(bits: int) -> None:
    made = layer("dorefa_weights", np.ones((1, 3)), np.zeros((2, 3)), np.ones((1, 2)), w_bits=bits)
    assert np.isfinite(made["fc.wq"]).all() and np.isfinite(made["dw"]).all()


def test_activations_of_the_published_vector() -> None:
    x = np.array([[-0.2, 0.1, 0.4, 0.6, 1.3]], np.float32)
    made = layer("dorefa_activations", x, np.ones((1, 5)), np.ones((1, 1)), a_bits=2)
    np.testing.assert_allclose(made["fc.xq"][0], [0, 0, 1 / 3, 2 / 3, 1], rtol=1e-7)
    # Below 0 the ReLU, whose gradient this is not, lets nothing pass.
    np.testing.assert_array_equal(made["dx"][0], [1, 1, 1, 1, 0])


def quantized(g: Array, bits: int) -> Tensor:
    """The pass's codes without noise."""
    w = np.ones((g.shape[1], 2), np.float32)
    ones = np.ones((g.shape[0], 2), np.float32)
    made = layer("dorefa_gradients", ones, w, g, g_bits=bits, g_rounding="nearest")
    low = Tensor.from_numbers(TensorType(g.shape[:1], F32), made["fc.dy.low"])
    high = Tensor.from_numbers(low.type, made["fc.dy.high"])
    operands = (
        Tensor.from_numbers(TensorType(g.shape, F32), g),
        low,
        high,
        Tensor.from_numbers(SCALAR, np.array(bits)),
    )
    values = tuple(Value(str(i), t.type) for i, t in enumerate(operands))
    q = Value("q", TensorType(g.shape, UINTS[bits], Scale.AFFINE_CHANNEL))
    (codes,) = run_op(Op("quantize_affine", values, (q,)), operands)
    np.testing.assert_array_equal(codes.real(), made["fc.dyq"])
    return codes


def test_gradients_of_the_published_vector() -> None:
    g = np.array([[-0.8, 0.1, 0.25, 0.4], [0, 0, 0, 0], [-0.4, 0.05, 0.125, 0.2]], np.float32)
    made = quantized(g, 4).real()
    wanted = np.array([-0.8, 0.053333, 0.266667, 0.373333])
    # Printed with six decimals; the second sample is all zeros, the third half of the first.
    np.testing.assert_allclose(made, [wanted, 0 * wanted, wanted / 2], atol=1e-6)


def test_the_gradient_of_the_weights_is_that_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    w, x, g = (rng.normal(size=s).astype(np.float32) for s in ((7, 13), (3, 13), (3, 7)))
    w[2, 3] = -np.abs(w).max() - 0.25
    made = layer("dorefa_weights", np.abs(x), w, g, w_bits=3)
    leaf = torch.tensor(w, dtype=torch.float64, requires_grad=True)
    t = torch.tanh(leaf)
    y = t / t.abs().amax()
    (y * torch.tensor(g.T.astype(np.float64) @ np.abs(x))).sum().backward()
    # Ten operations in f32, on numbers up to some ten.
    np.testing.assert_allclose(made["dw"], leaf.grad.numpy(), rtol=1e-5, atol=1e-5)


def test_equal_maxima_share_the_gradient() -> None:
    torch = pytest.importorskip("torch")
    w = np.array([[1, -1, 0.5]], np.float32)
    made = layer("dorefa_weights", np.array([[1.0, 2, 3]]), w, np.ones((1, 1)), w_bits=2)
    leaf = torch.tensor(w, dtype=torch.float64, requires_grad=True)
    t = torch.tanh(leaf)
    (t / t.abs().amax() * torch.tensor([[1.0, 2, 3]])).sum().backward()
    np.testing.assert_allclose(made["dw"], leaf.grad.numpy(), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "there"),
    [
        ({}, {"int8.midrise*t", "uint8*t", "uint8*ac"}),
        ({"w_bits": 1, "a_bits": 2, "g_bits": 4}, {"int1.midrise*t", "uint2*t", "uint4*ac"}),
        ({"w_bits": 32, "a_bits": 4, "g_bits": 32}, {"uint4*t", "bf16"}),
        ({"w_bits": 1, "a_bits": 32, "g_bits": 32}, {"int1.midrise*t", "bf16"}),
        ({"a_bits": 1, "g_bits": 1}, {"int8.midrise*t", "uint1*t", "uint1*ac"}),
    ],
)
def test_formats_by_role(options: dict[str, object], there: set[str]) -> None:
    program = RECIPE.with_options(options).apply(resnet(middle=1))[-1][1]
    kinds = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")
    inner = [op for _, op in program.ops() if op.kind in kinds and "layer" in op.origin]
    assert {v.type.short for op in inner for v in op.inputs} == there


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"w_bits": 9}, "option w_bits of dorefa_weights must be 1, 2, 3, 4, 5, 6, 7, 8 or 32"),
        ({"a_bits": 0}, "option a_bits of dorefa_activations must be 1, 2, 3"),
        ({"g_bits": 16}, "option g_bits of dorefa_gradients must be 1, 2, 3"),
        ({"g_rounding": "up"}, "must be noise or nearest, not 'up'"),
        ({"a_bits": 1, "exempt": "last"}, "layer conv1 reads numbers below 0, which a_bits=1 has"),
    ],
)
def test_wrong_options_are_one_sentence(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        RECIPE.with_options(options).apply(resnet())
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.tvm
@pytest.mark.torch
class TestSteps:
    """A small network, captured and compiled."""

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"w_bits": 1, "a_bits": 2, "g_bits": 4},
            {"w_bits": 4, "a_bits": 4, "exempt": "none", "carrier": "f32"},
            {"w_bits": 6, "a_bits": 1, "g_bits": 1, "g_rounding": "nearest"},
        ],
        ids=["8-8-8", "1-2-4", "4-4-8", "6-1-1"],
    )
    def test_kernels_equal_the_reference(self, options: dict[str, object]) -> None:
        from ..cases.recipe_checks import kernels_equal_the_reference

        kernels_equal_the_reference("dorefa", options)

    @pytest.mark.parametrize("target", ["reference", "cpu"])
    def test_a_saved_step_goes_on(self, target: str, tmp_path: Path) -> None:
        from ..cases.recipe_checks import a_saved_step_goes_on

        a_saved_step_goes_on("dorefa", target, tmp_path)

    def test_it_learns_a_batch(self) -> None:
        from ..cases.recipe_checks import it_learns_a_batch

        it_learns_a_batch("dorefa", "cpu")

"""Quantized forward products: SAWB's published clips, both gradients, whole steps at every width."""

from __future__ import annotations

from math import pi, sqrt

import numpy as np
import pytest

from quatrain.compiler.formats import F32, INTS, MIDRISE, Format
from quatrain.compiler.ir import Program
from quatrain.compiler.ir.text import parse
from quatrain.compiler.ir.verify import verify
from quatrain.compiler.types import TensorType
from quatrain.passes import PASSES
from quatrain.passes.recipe import load_recipe
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.reference.evaluate import evaluate

CONV = "{stride=[1,1], padding=[0,0], dilation=[1,1], groups=1}"
W = [-1, -0.5, 0, 0.25, 0.5, 1.5]
LAYER = f"""program layer
input x : f32[1x1x1x1]
input dy : f32[1x6x1x1]
state w : f32[6x1x1x1]

forward:
  # conv
  y = conv2d(x, w) {CONV} : f32[1x6x1x1]

backward:
  # conv
  dw = conv2d_weight_grad(dy, x) {CONV} : f32[6x1x1x1]

return y, dw
"""
# Options: format, clip of W, clip over the standard deviation of Gaussian and Laplace weights.
PUBLISHED: list[tuple[dict[str, object], Format, float, float, float]] = [
    ({"bits": 2, "grid": 16}, MIDRISE[2], 1.197046, 1.473, 1.661),
    ({"bits": 3, "grid": 16}, MIDRISE[3], 1.678151, 2.010, 2.636),
    ({"bits": 4, "grid": 16}, MIDRISE[4], 2.107612, 2.467, 3.629),
    ({"bits": 5, "grid": 16}, MIDRISE[5], 2.491091, 2.867, 4.560),
    ({"bits": 8, "grid": 16}, MIDRISE[8], 3.416857, 3.802, 6.983),
    ({"bits": 2}, INTS[2], 1.003789, 1.236, 1.391),
    ({"bits": 4}, INTS[4], 2.074713, 2.436, 3.529),
    ({"bits": 7}, INTS[7], 3.254709, 3.657, 6.454),
    ({"bits": 8}, INTS[8], 3.416857, 3.802, 6.983),
    ({"bits": 4, "coefficients": "luq"}, INTS[4], 2.020276, 2.366, 3.473),
]
# Real weights of two codes as the papers' tables have them; w = 0 is a tie in the grid without 0.
ROWS = {
    16: [-0.983552, -0.421522, 0.140507, 0.140507, 0.421522, 1.545582],
    15: [-0.889163, -0.592775, 0, 0.296388, 0.592775, 1.481938],
}


def layer(**options: object) -> tuple[Program, dict[str, Tensor]]:
    """One layer after the pass, and its values on ``W`` by name."""
    program = PASSES["sawb_weights"](verify(parse(LAYER)), exempt="none", **options)
    shape = (6, 1, 1, 1)
    given = {
        "x": Tensor.from_numbers(TensorType((1, 1, 1, 1), F32), [[[[1.0]]]]),
        "dy": Tensor.from_numbers(TensorType((1, 6, 1, 1), F32), np.ones((1, 6, 1, 1))),
        "w": Tensor.from_numbers(TensorType(shape, F32), np.reshape(W, shape)),
    }
    return program, {v.name: t for v, t in evaluate(verify(program), given).items()}


@pytest.mark.parametrize(("options", "f", "clip", "gauss", "laplace"), PUBLISHED, ids=str)
def test_published_clips(
    options: dict[str, object], f: Format, clip: float, gauss: float, laplace: float
) -> None:
    program, values = layer(**options)
    assert values["conv.wq"].type.format is f
    # The page prints six decimals, and three of the ratios.
    assert abs(float(values["conv.wclip"].data) - clip) < 6e-7
    (op,) = (op for _, op in program.ops() if op.kind == "sawb_clip")
    c1, c2 = op.float_attr("c1"), op.float_attr("c2")
    assert abs(c1 - c2 * sqrt(2 / pi) - gauss) < 6e-4
    assert abs(c1 - c2 / sqrt(2) - laplace) < 6e-4


@pytest.mark.parametrize("grid", ROWS)
def test_published_weights(grid: int) -> None:
    _, values = layer(grid=grid)
    np.testing.assert_allclose(values["conv.wq"].real().ravel(), ROWS[grid], atol=1e-6, rtol=0)


def test_both_gradients() -> None:
    """The clip at 2 bits, 1.197, is below the largest weight."""
    for gradient, want in (("sawb+", [1] * 6), ("sawb", [1, 1, 1, 1, 1, 0])):
        _, values = layer(bits=2, grid=16, sawb_gradient=gradient)
        assert values["dw"].data.ravel().tolist() == want


def test_the_recipe_leaves_gradients_in_the_carrier() -> None:
    from quatrain.passes.recipe.roles import roles

    for carrier in ("f32", "bf16"):
        recipe = load_recipe("pact_sawb").with_options({"bits": 3, "carrier": carrier})
        rows = {row[0]: row[1] for row in roles(recipe).rows}
        assert rows == {
            "activation into forward": "uint3*t",
            "weight into forward": "int3.midrise*t",
            "dY into dX": carrier,
            "weight into dX": "int3.midrise*t",
            "dY into dW": carrier,
            "activation into dW": "uint3*t",
            "weight in the update": "f32",
        }

"""Products of activations under passes: numbers by the reference interpreter, choices, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quatrain.compiler.errors import NoKernelError, RecipeError
from quatrain.compiler.formats import FP4_EVEN, FP4_ODD
from quatrain.compiler.ir import Program
from quatrain.compiler.ir.analysis import gemms
from quatrain.compiler.ir.text import parse
from quatrain.compiler.ir.verify import verify
from quatrain.passes import PASSES
from quatrain.passes.parts.bounds import upper_bounds
from quatrain.passes.parts.select import first, last, quantized
from quatrain.passes.parts.sign import never_negative
from quatrain.passes.recipe import load_recipe
from quatrain.targets.gemm.check import check_gemm
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.plan.fuse import fuse
from quatrain.targets.reference.evaluate import evaluate

GOLDEN = Path(__file__).parents[1] / "golden" / "pact_activations.product.qt"
TEXT = GOLDEN.read_text(encoding="utf-8").partition("=" * 72)[0]
RULES = {"exempt": "none", "attention": "quantize"}
QK, PV = "attend#product", "attend#product2"
ALL = {"exempt": "none"}


def attention() -> Program:
    return verify(parse(TEXT))


def numbers() -> dict[str, Tensor]:
    rng = np.random.default_rng(3)
    return {
        v.name: Tensor.from_numbers(v.type, 3 * rng.standard_normal(v.type.shape))
        for v in attention().inputs
    }


def real(program: Program) -> dict[str, np.ndarray]:
    """What each value of a program stands for."""
    made = evaluate(program, numbers())
    return {v.name: t.real() for v, t in made.items()}


def test_both_gradients_of_both_products_are_those_of_the_codes() -> None:
    """Each reads codes of the other operand and its own phase of dY, and is masked by its clip."""
    program = PASSES["pact_activations"](attention(), **RULES, clip_init=4.0)
    program = PASSES["grad_scale"](program, **RULES)
    program = verify(PASSES["two_phase_rounding"](program))
    at, types = (
        real(program),
        {v.name: v.type.format for _, op in program.ops() for v in op.results},
    )
    for layer, names in ((QK, ("s", "dq", "dk")), (PV, ("y", "dp", "dv"))):
        a, b = (at[f"{layer}.{side}.xq"] for side in "ab")
        even, odd = (at[f"{layer}.dys.{phase}"] for phase in ("even", "odd"))
        assert types[f"{layer}.dys.even"] is FP4_EVEN and types[f"{layer}.dys.odd"] is FP4_ODD
        da, db = even @ b.swapaxes(1, 2), a.swapaxes(1, 2) @ odd
        for side, gradient in (("a", da), ("b", db)):
            region, share = at[f"{layer}.{side}.region"], (layer, side) == (PV, "a")
            gradient[(region == 2) if share else (region != 1)] = 0.0
            assert share or np.any(region != 1)
        # Sums of a few integers times one power of two or clip: one rounding to f32.
        for name, want in zip(names, (a @ b, da, db), strict=True):
            np.testing.assert_allclose(at[name], want, rtol=2e-7, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("recipe", ["luq4", "int4", "sbm8", "dorefa", "wageubn", "dfp16", "hfp8"])
def test_recipes_give_products_what_they_give_layers(recipe: str) -> None:
    """Forward reads two codes, each gradient a code of dY and the other operand's."""
    options = ALL if recipe == "hfp8" else {"exempt": "none", "attention": "quantize"}
    stepped = TEXT.replace("forward:", "state step : i64[]\n\nforward:", 1)
    stepped = stepped.replace("dy : f32[2x3x4]\n\nstate", "dy : f32[2x3x4]\nstate")
    counted = "update:\n  # optimizer\n  step1 = increment(step) : i64[]\n\nreturn"
    stepped = stepped.replace("return", counted, 1).rstrip() + "\nnext step = step1\n"
    for attention, coded in ((options, True), (ALL | {"attention": "keep"}, False)):
        made = load_recipe(recipe).with_options(attention).apply(verify(parse(stepped)))[-1][1]
        lines = gemms(made)
        assert [g.direction for g in lines] == ["forward", "forward", "dX", "dW", "dX", "dW"]
        assert all(t.format.is_coded is coded for g in lines for t in g.operands)


def test_which_products_are_chosen() -> None:
    program = attention()
    assert first(program) == {QK} and last(program) == {PV}
    assert quantized(program, "none", "keep") == frozenset()
    assert quantized(program, "*product2", "quantize") == {QK}
    assert quantized(program, "first", "quantize") == {PV}


def test_a_square_product_of_one_tensor_has_one_clip() -> None:
    text = """program square
input x : f32[2x3x3]
input dy : f32[2x3x3]

forward:
  # a#product
  y = product(x, x) : f32[2x3x3]

backward:
  # a#product
  da = product_input_grad(dy, x) : f32[2x3x3]
  db = product_weight_grad(dy, x) : f32[2x3x3]

return y, da, db
"""
    program = verify(PASSES["pact_activations"](verify(parse(text)), **RULES))
    quantizers = [op for _, op in program.ops() if op.kind == "quantize"]
    assert len(quantizers) == 1 and [v.name for v in program.state] == ["a#product.a.clip"]
    made = {op.kind: op.inputs for _, op in program.ops()}
    assert made["product"] == (quantizers[0].result,) * 2
    assert made["product_input_grad"][1] is made["product_weight_grad"][1] is quantizers[0].result


def test_softmax_is_never_negative_and_at_most_one() -> None:
    program = attention()
    values = {v.name: v for _, op in program.ops() for v in op.results}
    positive, bounds = never_negative(program), upper_bounds(program)
    assert {n for n, v in values.items() if v in positive} == {"e", "t", "w", "p"}
    assert {n: bounds[v] for n, v in values.items() if v in bounds} == {"p": 1.0}


def test_products_have_no_weight_for_scales_of_channels() -> None:
    with pytest.raises(RecipeError, match=r"no weight to put its scales .* set attention=keep"):
        PASSES["grad_scale"](attention(), **RULES, per="channel")


def test_a_bias_behind_a_product_is_a_kernel_of_its_own() -> None:
    """Its channels are rows of matrices, and not those of the convolution that targets make."""
    text = """program biased
input a : f32[2x3x4]
input b : f32[2x4x5]
input c : f32[3]

forward:
  # a#product
  y = product(a, b) : f32[2x3x5]
  z = add_bias(y, c) : f32[2x3x5]

return z
"""
    groups = fuse(verify(parse(text)))
    assert [[op.kind for op in g.ops] for g in groups] == [["product"], ["add_bias"]]


def test_no_kernel_takes_a_scale_for_each_matrix() -> None:
    text = """program scaled
input a : int4*t[2x3x4]
input b : int4*c[2x4x5]

forward:
  # a#product
  y = product(a, b) : f32[2x3x5]

return y
"""
    program = verify(parse(text))
    ((_, op),) = program.ops()
    rng, scales = (
        np.random.default_rng(0),
        [np.array(0.5, np.float32), np.array([2, 0.25], np.float32)],
    )
    given = {
        v.name: Tensor(v.type, rng.integers(0, 16, v.type.shape).astype(np.uint8), scale)
        for v, scale in zip(program.inputs, scales, strict=True)
    }
    made = evaluate(program, given)[op.result].real()
    np.testing.assert_array_equal(made, given["a"].real() @ given["b"].real())
    with pytest.raises(NoKernelError, match=r"layer a#product: product of int4.* one"):
        check_gemm("cpu", op)


def test_another_choice_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"attention of .* must be keep or quantize, not 'fp8'"):
        load_recipe("luq4").with_options({"attention": "fp8"})

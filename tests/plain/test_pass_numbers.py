"""What passes must not change: numbers, computed by the reference interpreter."""

from pathlib import Path

import numpy as np
import pytest

from quatrain.compiler.formats import F32, I64
from quatrain.compiler.ir import Program
from quatrain.compiler.ir.analysis import gemms, saved
from quatrain.compiler.ir.text import parse
from quatrain.compiler.ir.verify import verify
from quatrain.passes import PASSES
from quatrain.passes.recipe import load_recipe
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.reference.evaluate import evaluate
from tests.cases.residual import resnet

GOLDEN = Path(__file__).parents[1] / "golden"
RECIPE = load_recipe("ultra_low_4bit")


def values(program: Program) -> dict[str, Tensor]:
    """Random inputs and state; variances and rates are positive, labels are classes."""
    random = np.random.default_rng(7)
    rates = {"lr": 0.1, "momentum": 0.9, "dampening": 0.0, "weight_decay": 5e-4}
    made = {}
    for v in (*program.inputs, *program.state):
        if v.name in program.initial:
            continue
        numbers = random.normal(size=v.type.shape)
        if v.type.format is I64:
            numbers = np.full(v.type.shape, 3 if v.name == "y" else 1)
        elif v.name.endswith("running_var"):
            numbers = 1 + np.abs(numbers)
        elif v.name.startswith("group0."):
            numbers = np.array(rates[v.name.removeprefix("group0.")])
        else:
            assert v.type.format is F32
        made[v.name] = Tensor.from_numbers(v.type, numbers)
    return made


def results(program: Program, given: dict[str, Tensor]) -> dict[str, np.ndarray]:
    env = evaluate(program, given)
    ends = {f"return {i}": v for i, v in enumerate(program.outputs)}
    ends |= {s.name: v for s, v in program.next}
    return {name: env[v].data for name, v in ends.items()}


@pytest.mark.parametrize("options", [{}, {"exempt": "none"}, {"pact_plus": True, "carrier": "f16"}])
@pytest.mark.parametrize("mode", ["masks", "bn_input"])
def test_recompute_changes_no_bit(mode: str, options: dict[str, object]) -> None:
    program = resnet(batch=2, image=7, widths=(3, 5), middle=1)
    given = values(program)
    base = RECIPE.with_options({**options, "recompute": "none"}).apply(program)[-1][1]
    other = RECIPE.with_options({**options, "recompute": mode}).apply(program)[-1][1]
    a, b = results(base, given), results(other, given)
    assert a.keys() == b.keys()
    for name in a:
        assert np.array_equal(a[name], b[name]), name


@pytest.mark.parametrize("recipe", ["bf16", "ultra_low_4bit", "mxfp8"])
def test_probabilities_made_again_are_the_same(recipe: str) -> None:
    text, _, _ = (GOLDEN / "recompute.attention.qt").read_text(encoding="utf-8").partition("====")
    program = verify(parse(text))
    given = values(program)
    base, other = (
        load_recipe(recipe).with_options({"recompute": mode}).apply(program)[-1][1]
        for mode in ("masks", "attention")
    )
    a, b = results(base, given), results(other, given)
    for name in a:
        assert np.array_equal(a[name], b[name]), name
    scores = (2, 5, 5)
    floats = [v for v in saved(other) if v.type.format.is_carrier]
    assert scores not in {v.type.shape for v in floats}
    again = [g for g in gemms(other) if g.region == "backward" and g.direction == "forward"]
    assert len(again) == 1


def test_subsample_changes_no_bit_of_forward_and_little_of_dw() -> None:
    program = resnet(batch=2, image=7, widths=(3, 5))
    given = values(program)
    a, b = results(program, given), results(PASSES["subsample"](program), given)
    assert a.keys() == b.keys()
    for name in a:
        # The order of an f32 sum in BLAS may depend on the operands' strides.
        np.testing.assert_allclose(a[name], b[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_evaluation_reads_the_clips_that_training_learns() -> None:
    train, evaluation = (
        RECIPE.apply(resnet(image=7, training=flag))[-1][1] for flag in (True, False)
    )
    given = values(train)
    env = evaluate(train, given)
    trained = {s.name: env[v] for s, v in train.next}
    state = {v.name for v in evaluation.state}
    assert state <= {v.name for v in train.state}
    clips = [name for name in state if name.endswith(".clip")]
    assert len(clips) == 4
    assert all(trained[name].data != 8.0 for name in clips)
    (logits,) = results(evaluation, {**given, **trained}).values()
    assert logits.dtype == np.float32 and np.isfinite(logits).all()


def test_the_first_step_sets_each_scale_by_the_instant_rule() -> None:
    program = resnet(image=7)
    given = values(program)
    for rule in ("step", "instant"):
        final = RECIPE.with_options({"gradscale": rule}).apply(program)[-1][1]
        env = evaluate(final, given)
        scaled = [op for _, op in final.ops() if op.kind == "grad_scale"]
        assert len(scaled) == 4
        for op in scaled:
            stored = np.abs(env[op.result].data.astype(np.float32)).max()
            assert 32 <= stored <= 64


def test_a_clip_far_above_the_data_loses_nothing_but_the_rounding() -> None:
    """With 8-bit operands, an f32 carrier and exempt gradients the loss stays near that of f32."""
    program = resnet(batch=3, image=7)
    given = values(program)
    wide = RECIPE.with_options({"bits": 8, "carrier": "f32"}).apply(program)[-1][1]
    exact, near = (results(p, given)["return 0"] for p in (program, wide))
    # Four layers of 8 bits: relative errors of 2^-8 each, amplified by batch norm over 3x7x7.
    np.testing.assert_allclose(near, exact, rtol=0.1)

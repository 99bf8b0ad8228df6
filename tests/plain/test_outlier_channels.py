"""Outlier channels beside a product of the numbers themselves, and how they are chosen."""

from __future__ import annotations

import numpy as np
import pytest

from quatrain.compiler.errors import RecipeError
from quatrain.compiler.formats import E8M0, FP8_143
from quatrain.compiler.ir import Program
from quatrain.compiler.ir.samples import samples_apart
from quatrain.compiler.ir.verify import read_program, verify
from quatrain.compiler.types import BlockScale
from quatrain.passes.outlier_channels import outlier_channels
from quatrain.targets.numbers.blocks import largest, power_scale, spread
from quatrain.targets.numbers.rounding import decode, encode
from quatrain.targets.numbers.tensor import Array, Tensor
from quatrain.targets.reference.evaluate import evaluate

LAYER = read_program(
    "program p\ninput x : f32[7x40]\ninput dy : f32[7x5]\nstate w : f32[5x40]\n"
    "state step : i64[]\n\nforward:\n  # fc\n  y = linear(x, w) : f32[7x5]\n\n"
    "backward:\n  # fc\n  dx = linear_input_grad(dy, w) : f32[7x40]\n"
    "  dw = linear_weight_grad(dy, x) : f32[5x40]\n\n"
    "update:\n  # optimizer\n  step1 = increment(step) : i64[]\n\n"
    "return y, dx, dw\nnext step = step1\n"
)


def drawn(seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    made = {v.name: rng.standard_normal(v.type.shape) for v in (*LAYER.inputs, LAYER.state[0])}
    return {k: v.astype(np.float32) for k, v in made.items()}


def run(program: Program, given: dict[str, Array]) -> dict[str, Array]:
    """Outputs by name, and the states that follow."""
    values = (*program.inputs, *program.state)
    zeros = {v.name: np.zeros(v.type.shape) for v in values}
    tensors = {v.name: Tensor.from_numbers(v.type, (zeros | given)[v.name]) for v in values}
    found = evaluate(program, tensors)
    out = {v.name: found[v].numbers for v in program.outputs}
    return out | {state.name: found[v].numbers for state, v in program.next}


def in_fp8(x: Array, dim: int) -> Array:
    scale = BlockScale((32, 1) if dim == 0 else (1, 32), E8M0)
    s = spread(power_scale(largest(x, scale), FP8_143, "rceil"), scale, x.shape)
    return decode(encode(x / s, FP8_143), FP8_143) * s


def test_what_is_chosen_is_multiplied_in_fp8() -> None:
    program = verify(outlier_channels(LAYER, exempt="none"))
    given = drawn(0)
    places = np.array([31, 2, 17, 8])
    mask = np.zeros(40)
    mask[places] = 1
    states = {"fc.outliers": mask, "fc.outliers.places": places, "step": np.array(600)}
    made = run(program, given | states)
    x, w, dy = (given[k] for k in ("x", "w", "dy"))
    few, others = in_fp8(x[:, places], 1), np.where(mask > 0, np.float32(0), x)
    # f32 sums of 40 numbers near 1, in another order.
    close = 40 * 2.0**-22
    wanted = others @ w.T + few @ in_fp8(w[:, places], 1).T
    np.testing.assert_allclose(made["y"], wanted, rtol=0, atol=close)
    np.testing.assert_allclose(made["dx"], dy @ w, rtol=0, atol=close)
    dw = dy.T @ others
    dw[:, places] += in_fp8(dy, 0).T @ in_fp8(few, 0)
    np.testing.assert_allclose(made["dw"], dw, rtol=0, atol=close)
    np.testing.assert_array_equal(made["fc.outliers"], mask)


def test_the_largest_sums_of_norms_choose_behind_their_steps() -> None:
    """Steps 3 .. 5; what is larger ahead of them counts for nothing, nor does a single step."""
    program = verify(outlier_channels(LAYER, outlier_start=3, outlier_steps=3, exempt="none"))
    plain, sums = verify(LAYER), np.zeros(40)
    state: dict[str, Array] = {}
    for step in range(7):
        given = drawn(step)
        given["x"][:, [1, 4, 9, 30]] *= 1 if step < 3 else 2
        given["x"][:, :3] *= 9 if step < 3 else 1
        given["x"][:, 20] *= 5 if step == 4 else 1
        chosen = state.get("fc.outliers", np.zeros(40)).copy()
        made = run(program, given | state)
        state = {k: v for k, v in made.items() if k not in ("y", "dx", "dw")}
        if step < 6:  # nothing is taken apart yet
            for name, wanted in run(plain, given | {"step": np.array(step)}).items():
                np.testing.assert_array_equal(made[name], wanted)
            assert not chosen.any()
        if 3 <= step < 6:
            sums += np.sqrt(np.square(given["x"], dtype=np.float64).sum(0))
    best = np.argsort(-sums)[:4]
    np.testing.assert_array_equal(state["fc.outliers.places"], best)
    assert state["fc.outliers"].sum() == 4 and state["fc.outliers"][best].all()
    assert {1, 4, 9, 30} & set(best.tolist())


def test_samples_stay_apart_and_prediction_has_the_same_states() -> None:
    text = (
        "program p\ninput x : f32[6x40]\nstate w : f32[5x40]\n\nforward:\n  # fc\n"
        "  y = linear(x, w) : f32[6x5]\n\nreturn y\n"
    )
    alone = verify(outlier_channels(read_program(text), exempt="none"))
    assert samples_apart(alone, 6)
    training = verify(outlier_channels(LAYER, exempt="none"))
    assert {v.name for v in alone.state} < {v.name for v in training.state}


@pytest.mark.parametrize("share", [0.0, 0.01])
def test_less_than_half_a_channel_is_none(share: float) -> None:
    assert not outlier_channels(LAYER, outlier_share=share, exempt="none").state[2:]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"outlier_share": 1.0}, "outlier_share=1 must be at least 0 and below 1"),
        ({"outlier_start": -1}, "outlier_start=-1 must be at least 0"),
        ({"outlier_steps": 0}, "outlier_steps=0 must be at least 1"),
    ],
)
def test_wrong_shares_and_steps_are_refused(options: dict[str, float], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        outlier_channels(LAYER, **options)  # type: ignore[arg-type]

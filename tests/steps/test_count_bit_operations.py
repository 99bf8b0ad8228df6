"""GBitOPs of steps whose bits are chosen while they run, beside those of the bill."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from quatrain.runtime.step import Step

from .test_gates import batch, compiled

pytestmark = pytest.mark.torch


def priced(step: Step, bits: dict[str, int]) -> float:
    """GBitOPs of a step whose coded operands have other bits: w, x and g by the layer's class."""
    total = 0
    for line in step.report().gemms:
        gated = "blocks" in line.layer and "short" not in line.layer
        names = {"forward": ("x", "w"), "dX": ("g", "w"), "dW": ("g", "x")}[line.direction]
        pair = [
            bits.get(name, stored) if stored <= 16 and (gated or not bits.get("gated")) else stored
            for name, stored in zip(names, line.bits, strict=True)
        ]
        total += pair[0] * pair[1] * line.macs
    return total / 1e9


@pytest.mark.parametrize("bits", [3, 8])
def test_bits_that_stay_cost_what_the_bill_says_of_them(bits: int) -> None:
    """``cpt`` between equal bounds; gradients keep their 8 bits."""
    step = compiled({"low": bits, "high": bits, "steps": 64}, recipe="cpt")
    for _ in range(3):
        step(*batch())
    want = priced(step, {"x": bits, "w": bits})
    # A mean of equal f32 numbers: each step rounds twice.
    assert float(step.state["schedule.gbitops"]) == pytest.approx(want, rel=1e-6)


def test_the_mean_is_over_all_steps() -> None:
    """The first stage of ``pfq`` has 3 and 6 bits, the second, from the sixth step on, 4 and 6."""
    step = compiled({"eval_every": 1, "eps": 50}, recipe="pfq")
    for _ in range(8):
        step(*batch())
    costs = [priced(step, {"x": f, "w": f, "g": 6}) for f in (3, 4)]
    want = (5 * costs[0] + 3 * costs[1]) / 8
    assert float(step.state["schedule.gbitops"]) == pytest.approx(want, rel=1e-6)


def test_of_bits_for_each_sample_the_mean_counts() -> None:
    step = compiled({"activation_choices": "3,3", "gradient_choices": "6,6"})
    step(*batch())
    want = priced(step, {"x": 3, "w": 4, "g": 6, "gated": 1})
    # The bill knows no layer "gate" apart: its products are of plain floats, in both counts.
    assert float(step.state["schedule.gbitops"]) == pytest.approx(want, rel=1e-6)


def test_a_program_of_fixed_bits_stays_as_it_is() -> None:
    from quatrain.passes.count_bit_operations import count_bit_operations

    step = compiled(recipe="sbm8")
    counted = count_bit_operations(step.program)
    assert counted.state == step.program.state

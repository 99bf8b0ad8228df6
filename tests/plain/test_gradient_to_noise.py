"""The ratio of gradient and noise: noise is what roundings do to dW, in the mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quatrain.compiler.ir import Program
from quatrain.compiler.ir.verify import read_program
from quatrain.passes.gradient_to_noise import RATIO, gradient_to_noise
from quatrain.passes.nvfp4_operands import nvfp4_operands
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.reference.evaluate import evaluate
from quatrain.tools.progress import words
from quatrain.tools.train import Progress, Run

GOLDEN = Path(__file__).parents[1] / "golden"
TIMES = 150
CONV = """program groups
input x : f32[3x4x5x5]
input dy : f32[3x6x3x3]
input group0.lr : f32[]
input group0.momentum : f32[]
input group0.dampening : f32[]
input group0.weight_decay : f32[]
state w : f32[6x2x3x3]
state m : f32[6x2x3x3]
state step : i64[]

forward:
  # conv
  y = conv2d(x, w) {stride=[2,2], padding=[1,1], dilation=[1,1], groups=2} : f32[3x6x3x3]

backward:
  # conv
  dw = conv2d_weight_grad(dy, x) {stride=[2,2], padding=[1,1], dilation=[1,1], groups=2} : f32[6x2x3x3]

update:
  # conv
  w1, m1 = sgd(w, dw, m, step, group0.lr, group0.momentum, group0.dampening, group0.weight_decay) {nesterov=true, maximize=false} : f32[6x2x3x3], f32[6x2x3x3]
  step1 = increment(step) : i64[]

return y
next w = w1
next m = m1
next step = step1
"""


LINEAR = (GOLDEN / "nvfp4_operands.shared.qt").read_text(encoding="utf-8").partition("=" * 72)[0]


def coded(program: Program) -> Program:
    """In FP4, both operands of dW rounded by chance, and no number beyond the largest code."""
    made = nvfp4_operands(
        program, hadamard="none", two_d_weights=False, sr_activations=True, headroom=17 / 16,
        exempt="none",
    )  # fmt: skip
    return gradient_to_noise(made)


def given(program: Program, step: int, size: float = 1.0) -> dict[str, Tensor]:
    """The same numbers in each step."""
    rng = np.random.default_rng(0)
    known: dict[str, Tensor] = {}
    for v in (*program.inputs, *program.state):
        x = (rng.standard_normal(v.type.shape) * size).astype(np.float32)
        numbers = np.full(v.type.shape, step) if v.type.format.is_index else x
        known[v.name] = Tensor.from_numbers(v.type, numbers)
    return known


@pytest.mark.parametrize("text", [CONV, LINEAR], ids=["conv", "linear"])
def test_noise_is_what_rounding_does_to_dw_in_the_mean(text: str) -> None:
    """Of two layers that read the same codes, and of a convolution in groups: four deviations."""
    before = read_program(text)
    after = coded(before)
    exact = evaluate(before, given(before, 0))
    made = {r.name: r for _, op in after.ops() for r in op.results}
    pairs = [(v, made[v.name]) for _, op in before.ops() for v in op.results if "dw" in v.name]
    *_, noise = (v for n, v in made.items() if n.startswith(f"{RATIO}.noise") and "part" not in n)
    left = []
    for step in range(TIMES):
        values = evaluate(after, given(after, step))
        errors = (values[q].numbers.astype(np.float64) - exact[v].numbers for v, q in pairs)
        left.append(sum(np.square(e).sum() for e in errors) - values[noise].numbers)
    assert pairs and abs(np.mean(left)) < 4 * np.std(left) / np.sqrt(TIMES)


def test_without_noise_the_ratio_is_infinite() -> None:
    program = coded(read_program(CONV))
    ((state, ratio),) = ((s, v) for s, v in program.next if s.name == RATIO)
    assert program.initial[state.name] == np.inf
    for size, finite in ((0.0, False), (1.0, True)):
        made = evaluate(program, given(program, 0, size))[ratio].numbers
        assert np.isfinite(made) == finite and made > 0


def test_convolutions_in_other_groups_share_codes() -> None:
    """One x: its rows are those of each number of groups."""
    more = CONV.replace("state w :", "state u : f32[6x4x3x3]\nstate w :").replace(
        "  dw =",
        "  du = conv2d_weight_grad(dy, x) {stride=[2,2], padding=[1,1], dilation=[1,1], groups=1}"
        " : f32[6x4x3x3]\n  dw =",
    )
    program = coded(read_program(more.replace("return y", "return y, du")))
    assert {r.type.shape for _, op in program.ops() for r in op.results if "noise" in r.name} >= {
        (1, 1, 3, 3),
        (2, 1, 3, 3),
    }


def test_a_run_says_when_gradients_are_short() -> None:
    run = Run(0, 10, 10, lambda _: 1.0, {}, 0)
    for number, said in ((5.25, "gradient to noise 5.25"), (0.0, "noise 0 (below 1.73)")):
        assert f"{said}  " in words(run, Progress(10, 1.0, 1.0, precision={RATIO: number}))

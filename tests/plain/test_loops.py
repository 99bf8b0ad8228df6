"""Loops over time steps: what is in one, what it computes, what must hold, where its values lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from quatrain.compiler.errors import InputError, NoKernelError, VerifyError
from quatrain.compiler.ir import Program
from quatrain.compiler.ir.analysis import gemms, without_dead
from quatrain.compiler.ir.loops import loops
from quatrain.compiler.ir.text import show
from quatrain.compiler.ir.verify import read_program
from quatrain.passes.over_steps import over_steps
from quatrain.passes.parts.select import selected
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.reference.evaluate import evaluate

from ..cases.plan_in_numpy import planned, run_plan

COUNT, ROWS, WIDTH = 3, 2, 5
# h' = w h + x, with a sum over all steps; backward reads what forward made in the same step.
TEXT = """
program loop
input x : f32[6x5]
state w : f32[5x5]
state s : f32[]

forward:
  # cell
  zeros = constant() {value=0.0} : f32[2x5]
  t = steps() {count=3, reverse=REVERSE} : i64[]
  xt = rows_of_step(x, t) : f32[2x5]
  h = carried(zeros, t) : f32[2x5]
  # hh
  y = linear(h, w) : f32[2x5]
  # cell
  z = add(y, xt) : f32[2x5]
  last = feed(h, z) : f32[2x5]
  hs = all_steps(z, t) : f32[6x5]
  loss = sum(hs) {dims=[0,1], keepdim=false} : f32[]

backward:
  # cell
  u = steps() {count=3, reverse=true} : i64[]
  ones = constant() {value=1.0} : f32[2x5]
  g = carried(ones, u) : f32[2x5]
  squares = mul(h, h) : f32[2x5]
  more = add(g, squares) : f32[2x5]
  # hh
  dx = linear_input_grad(more, w) : f32[2x5]
  dw.step = linear_weight_grad(more, h) : f32[5x5]
  # cell
  none = constant() {value=0.0} : f32[5x5]
  so_far = carried(none, u) : f32[5x5]
  added = add(so_far, dw.step) : f32[5x5]
  dw = feed(so_far, added) : f32[5x5]
  dh = feed(g, dx) : f32[2x5]
  size = amax(more) : f32[]

update:
  # hh
  w' = add(w, dw) : f32[5x5]
  s' = add(s, size) : f32[]

return loss, last, dh
next w = w'
next s = s'
"""


def program(reverse: bool = False) -> Program:
    return read_program(TEXT.replace("REVERSE", str(reverse).lower()))


def given() -> dict[str, Tensor]:
    rng = np.random.default_rng(0)
    types = {v.name: v.type for v in (*program().inputs, *program().state)}
    # Small whole numbers: every sum is exact, in any order.
    return {name: Tensor.from_numbers(t, rng.integers(-2, 3, t.shape)) for name, t in types.items()}


def by_hand(reverse: bool) -> dict[str, np.ndarray]:
    """What the text says, step by step."""
    x, w, s = (given()[name].data.astype(np.float64) for name in ("x", "w", "s"))
    before, made = [np.zeros((ROWS, WIDTH))] * COUNT, [np.zeros((ROWS, WIDTH))] * COUNT
    h = np.zeros((ROWS, WIDTH))
    for t in range(COUNT)[:: -1 if reverse else 1]:
        before[t] = h
        h = made[t] = h @ w.T + x[ROWS * t : ROWS * (t + 1)]
    g, dw, largest = np.ones((ROWS, WIDTH)), np.zeros_like(w), 0.0
    for t in reversed(range(COUNT)):
        more = g + before[t] ** 2
        dw, largest = dw + more.T @ before[t], max(largest, np.abs(more).max())
        g = more @ w
    return {"loss": np.asarray(np.sum(made)), "last": h, "dh": g, "w": w + dw, "s": s + largest}


@pytest.mark.parametrize("reverse", [False, True])
def test_a_loop_computes_what_its_text_says(reverse: bool) -> None:
    made = over_steps(program(reverse))
    values = evaluate(read_program(show(made)), given(), keep=False)
    found = {v.name.removesuffix("'"): t.data for v, t in values.items()}
    for name, wanted in by_hand(reverse).items():
        np.testing.assert_array_equal(found[name], wanted, err_msg=name)


def test_who_is_in_which_loop() -> None:
    p = program()
    found, ops = loops(p), {r.name: op for _, op in p.ops() for r in op.results}
    counters = {name: found.body[op].counter.name for name, op in ops.items() if op in found.body}
    forward, backward = ("y", "z"), ("squares", "more", "dx", "dw.step", "added", "size")
    assert counters == {**dict.fromkeys(forward, "t"), **dict.fromkeys(backward, "u")}
    # What no step changes is ahead of the loop, whatever stands between in the text.
    (ahead, inside, behind) = found.segments(p.region("backward"))
    assert (ahead[0], behind[0]) == (None, None) and inside[0] is found.of[ops["u"].result]
    assert {op.result.name for op in behind[1]} == {"dw", "dh"}


def test_products_count_in_all_steps() -> None:
    once = {g.op.result.name: g.macs for g in gemms(program())}
    assert once == dict.fromkeys(("y", "dx", "dw.step"), COUNT * ROWS * WIDTH * WIDTH)
    behind = {g.op.result.name: g.macs for g in gemms(over_steps(program()))}
    assert behind["dw"] == once["dw.step"]


def test_what_is_carried_stands_ahead_of_the_layer() -> None:
    assert selected(program(), "first") == set()
    assert selected(program(), "last") == {"hh"}


def test_what_a_loop_carries_lives_with_what_feeds_it() -> None:
    p = program()
    kept = without_dead(replace(p, outputs=p.outputs[:1], next=()))
    assert {"last", "hs"} <= {op.result.name for op in kept.region("forward").ops}
    assert kept.region("backward").ops == ()


FED = "last = feed(h, z) : f32[2x5]"
WRONG = {
    "nothing feeds": ("last = feed(h, z)", "last = scale(z) {factor=1.0}", "nothing feeds h"),
    "a stranger": ("feed(h, z)", "feed(h, zeros)", "zeros is not made in the loop that carries h"),
    "no carried": (FED, f"{FED}\n  other = feed(zeros, y) : f32[2x5]", "zeros is no value that a"),
    "another counter": ("all_steps(z, t)", "all_steps(zeros, t)", "no value of each step of this"),
    "no counter": ("rows_of_step(x, t)", "rows_of_step(x, twos)", "twos counts no steps"),
    "rows": ("{count=3, reverse=REVERSE}", "{count=2, reverse=REVERSE}", "not 2 in each of 2"),
    "two counts": ("u = steps() {count=3", "u = steps() {count=4", "loops of 3 and of 4 steps"),
    "twice": (FED, f"{FED}\n  other = feed(h, y) : f32[2x5]", "h is fed twice"),
    "shared": ("dh = feed(g, dx)", "dh = feed(g, more)", "more feeds two values"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_loop_is_refused(name: str) -> None:
    old, new, said = WRONG[name]
    more = "  k = carried(ones, u) : f32[2x5]\n  l = feed(k, more) : f32[2x5]\n  size ="
    text = TEXT.replace("  size =", more) if name == "shared" else TEXT
    text = text.replace(
        "  # cell\n  zeros", "  twos = iota() {start=2, step=0} : i64[]\n  zeros", 1
    )
    with pytest.raises(VerifyError, match=said):
        read_program(text.replace(old, new, 1).replace("REVERSE", "false"))


def test_without_over_steps_nothing_runs() -> None:
    with pytest.raises(InputError, match="size is a value of each step of a loop; the pass over"):
        evaluate(program(), given())
    with pytest.raises(NoKernelError, match="size is a value of each step"):
        planned(program())
    assert over_steps(over_steps(program())).history == ("over_steps", "over_steps")


@pytest.mark.parametrize("reverse", [False, True])
def test_a_plan_keeps_each_step_where_it_is_read(reverse: bool) -> None:
    made = over_steps(program(reverse))
    found, wanted = run_plan(made, given()), by_hand(reverse)
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)
    plan = planned(made)
    sizes = {s.value.name: plan.bytes_of(s) for s in plan.places}
    # h of all steps and one more, each from a cache line on; y is of one step at a time.
    assert sizes["h"] == (COUNT + 1) * 64 and sizes["y"] == 64
    assert len(plan.kernels) < len([*plan.calls()])

"""Precision that changes while training, as plain arithmetic: published vectors and refusals."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from quatrain.compiler.errors import UsageError
from quatrain.runtime.report.cyclic_cost import Cyclic, cyclic

from ..cases.plain_dynamic import CIFAR, IMAGENET, Choice, cost_percent
from ..cases.plain_progressive import Progress, Progressive, Stages
from ..cases.plain_range_test import least_bits

TOP = Path(__file__).parents[2]
LOSSES = (2.0, 1.5, 1.2, 1.09, 1.08, 1.06, 1.05, 1.05)


def test_bits_of_a_cycle() -> None:
    schedule = Cyclic(3, 8, 2000)
    assert schedule.spent() == {3: 410, 4: 329, 5: 261, 6: 262, 7: 329, 8: 409}
    assert [schedule.bits(t) for t in (0, 1000, 1999, 2000, 2001)] == [3, 6, 8, 3, 3]


def test_a_run_is_cut_into_whole_cycles() -> None:
    assert cyclic(3, 8, 64_000) == Cyclic(3, 8, 2000)
    assert cyclic(3, 8, 64_031) == Cyclic(3, 8, 2000)
    with pytest.raises(UsageError, match="31 iterations cannot hold 32 cycles"):
        cyclic(3, 8, 31)
    with pytest.raises(UsageError, match="from 8 to 3 bits is no cycle"):
        Cyclic(8, 3, 10)


@pytest.mark.parametrize(
    ("least", "most", "backward", "percent"),
    [
        (3, 8, 8, -36.67), (3, 6, 6, -30.05), (4, 8, 8, -30.11), (4, 6, 6, -20.69),
        (5, 8, 8, -23.16), (5, 6, 8, -10.23), (3, 4, 6, -14.84), (4, 6, 8, -19.96),
    ],
)  # fmt: skip
def test_savings_of_a_cycle(least: int, most: int, backward: int, percent: float) -> None:
    found = -100 * Cyclic(least, most, 2000).saving(backward)
    assert found == pytest.approx(percent, abs=5e-3)  # two digits are printed


def test_a_constant_cycle_saves_nothing() -> None:
    assert Cyclic(6, 6, 7).saving(8) == 0


def test_the_indicator_switches_at_the_eighth_loss() -> None:
    indicator = Progressive()
    state = Progress(indicator.eps, norm=1.0, epochs=indicator.norm_epochs)  # norm held at 1
    stages = []
    for loss in LOSSES:
        state = indicator.after_epoch(state, loss)
        stages.append(state.stage)
    assert stages == [0] * 7 + [1]
    assert state.window == () and state.eps == 0.05 * 0.3 and state.norm == 1


def test_the_norm_is_the_mean_of_the_first_epochs() -> None:
    indicator = Progressive(norm_epochs=3)
    state = indicator.start()
    for loss in (4.0, 2.0, 3.0, 100.0):
        state = indicator.after_epoch(state, loss)
    assert state.norm == 3.0 and state.epochs == 3


def test_tolerance_shrinks_at_all_turns_but_the_last_which_ends_it() -> None:
    indicator = Progressive(eps=0.1, alpha=0.5, turns=3, window=2)
    state, seen = indicator.start(), []
    for _ in range(12):
        state = indicator.after_epoch(state, 1.0)
        seen.append((state.stage, state.eps))
    assert seen[:6] == [(0, 0.1), (1, 0.05), (1, 0.05), (2, 0.025), (2, 0.025), (3, 0.025)]
    assert seen[6:] == [(3, 0.025)] * 6


def test_iterations_make_epochs() -> None:
    indicator = Progressive(every=3, window=2)
    state = indicator.start()
    for loss in (1.0, 2.0, 3.0, 4.0):
        state = indicator.after_iteration(state, loss)
    assert state.window == (2.0,) and (state.iterations, state.total) == (1, 4.0)
    # The authors divide the sum of an epoch by the number of batches of the data.
    other = indicator.start()
    for loss in (1.0, 2.0, 3.0):
        other = indicator.after_iteration(other, loss, per_epoch=6)
    assert other.window == (1.0,)


def test_a_loss_that_is_no_number_is_no_plateau() -> None:
    indicator = Progressive(window=2)
    state = indicator.after_epoch(indicator.start(), 1.0)
    assert indicator.after_epoch(state, math.nan).stage == 0


def test_losses_of_zero_are_a_plateau() -> None:
    indicator = Progressive(window=2)
    assert indicator.after_epoch(indicator.after_epoch(indicator.start(), 0.0), 0.0).stage == 1


def test_a_saved_indicator_goes_on_to_the_same_bits() -> None:
    indicator = Progressive(every=2)
    whole = resumed = indicator.start()
    for i in range(120):
        loss = 1 / (i + 3)
        whole = indicator.after_iteration(whole, loss)
        resumed = indicator.after_iteration(resumed, loss)
        resumed = Progress.from_dict(json.loads(json.dumps(resumed.to_dict())))
        assert resumed == whole
    assert whole.stage > 0
    for damaged in ({}, {**whole.to_dict(), "stage": "1"}, {**whole.to_dict(), "window": 3}):
        with pytest.raises(UsageError, match="is damaged"):
            Progress.from_dict(damaged)


def test_bits_of_a_stage() -> None:
    assert [Stages().bits(i) for i in range(5)] == [(3, 6), (4, 6), (6, 8), (8, 8), (8, 8)]
    with pytest.raises(UsageError, match="2 stages of forward bits and 1 of backward"):
        Stages((3, 4), (6,))
    with pytest.raises(UsageError, match="at least one turning point"):
        Progressive(turns=0)


def test_the_range_test_finds_where_learning_starts() -> None:
    found = {2: 0.10, 3: 0.105, 4: 0.30, 5: 0.35}
    assert least_bits(found) == 4
    assert least_bits(found, threshold=0.001) == 3
    assert least_bits(found, threshold=0.04, least=5) == 5
    with pytest.raises(UsageError, match=r"no precision of 3\.\.5 bits gains more than 0\.5"):
        least_bits(found, threshold=0.5)
    for holes in ({}, {3: 0.1}, {2: 0.1, 4: 0.2}):
        with pytest.raises(UsageError, match=r"lacks the accuracy at [23] bits"):
            least_bits(holes)


@pytest.mark.parametrize(
    ("a", "g", "w", "percent"),
    [
        (3, 6, 4, 1.7578), (4, 6, 4, 2.0833), (4, 8, 4, 2.6042), (6, 8, 4, 3.3854),
        (6, 12, 4, 4.6875), (3, 6, 6, 2.3438), (4, 8, 6, 3.3854), (6, 12, 6, 5.8594),
        (8, 16, 6, 8.8542),
    ],
)  # fmt: skip
def test_cost_of_a_choice(a: int, g: int, w: int, percent: float) -> None:
    choice = Choice(a, g, w)
    assert choice in (*CIFAR, *IMAGENET)
    assert choice.percent == pytest.approx(percent, abs=5e-5)  # four digits are printed
    # A batch that always picks it costs as much, whatever the blocks multiply.
    assert cost_percent((choice,), (7, 1), ((0, 0), (0, 0))) == pytest.approx(choice.percent)


def test_cost_of_a_batch_weighs_blocks() -> None:
    cheap, dear = CIFAR[0], CIFAR[4]
    found = cost_percent((cheap, dear), (3, 1), ((0, 1), (1, -1)))
    assert found == pytest.approx((3 * cheap.percent + 1 * dear.percent + 3 * dear.percent) / 8)
    with pytest.raises(UsageError, match="each of the 2 blocks"):
        cost_percent(CIFAR, (1, 1), ((0,),))
    with pytest.raises(UsageError, match=r"a position 0\.\.4, or -1"):
        cost_percent(CIFAR, (1, 1), ((0, 5),))


def test_schedules_need_neither_torch_nor_tvm() -> None:
    code = "import sys; from quatrain.runtime.report import cyclic_cost; "
    code += "from tests.cases import plain_dynamic, plain_progressive, plain_range_test"
    code += "; sys.exit(bool({'torch', 'tvm'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], cwd=TOP, check=True)

"""A share of what ``python -m tests.lives`` runs, and that it finds what is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch")
pytest.importorskip("tvm")

import torch
from torch import Tensor

from quatrain.runtime.step import Step

from .. import lives
from ..cases.lives import ENDS, EVENTS, TWICE, draw_life

pytestmark = pytest.mark.tvm


@pytest.mark.parametrize("seed", range(4))
def test_random_lives(seed: int) -> None:
    assert not lives.failure(draw_life(seed), with_kernels=seed == 0)


def test_every_event_and_every_op_is_drawn() -> None:
    drawn = [draw_life(seed) for seed in range(300)]
    assert {e for life in drawn for e in life.events} == {*EVENTS, *ENDS} == {*lives.EVENTS}
    assert {b for life in drawn for b in life.blocks} == {*TWICE}


def test_a_step_that_forgets_to_write_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Step.__call__

    def wrong(step: Step, *batch: Tensor) -> Tensor:
        loss = run(step, *batch)
        return loss + torch.tensor(0.01)

    monkeypatch.setattr(Step, "__call__", wrong)
    life = replace(draw_life(0), events=("step",))
    assert "loss" in lives.failure(life)

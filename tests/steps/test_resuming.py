"""The page about resuming: its code, stopped after each number of steps, ends with the same bytes."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import nn

import quatrain
from quatrain.runtime.step import Step

from .test_readme import blocks

pytestmark = pytest.mark.torch
LOOP, ALONE = blocks("python", "docs/resuming.md")
STEPS = 18


def program(monkeypatch: pytest.MonkeyPatch, source: str = LOOP) -> dict[str, Any]:
    """A new run of the page's program, by the reference."""
    monkeypatch.setenv("QUATRAIN_TARGET", "reference")
    names: dict[str, Any] = {}
    exec(source, names)
    return names


def state(step: Step) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in step.state.items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    with pytest.MonkeyPatch.context() as patch:
        return state(program(patch)["train"](tmp_path_factory.mktemp("whole") / "run.pt"))


@pytest.mark.parametrize("stop", range(1, STEPS + 1))
def test_a_run_that_was_stopped_ends_with_the_same_bytes(
    stop: int, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.pt"
    program(monkeypatch)["train"](path, stop)
    assert state(program(monkeypatch)["train"](path)) == whole


def test_a_run_that_is_stopped_again_and_again(
    whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.pt"
    for _ in range(3):
        program(monkeypatch)["train"](path, 5)
    assert state(program(monkeypatch)["train"](path)) == whole


@pytest.mark.parametrize("lost", ["step", "optimizer", "scheduler", "shuffle", "done"])
def test_each_part_of_the_checkpoint_counts(
    lost: str, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.pt"
    program(monkeypatch)["train"](path, 11)
    kept = torch.load(path)
    step, optimizer, scheduler, generator = program(monkeypatch)["make"]()
    fresh = {"step": step.state, "scheduler": scheduler.state_dict(), "done": 0}
    fresh |= {"shuffle": generator.get_state(), "optimizer": optimizer.state_dict()}
    torch.save(kept | {lost: fresh[lost]}, path)
    assert state(program(monkeypatch)["train"](path)) != whole


def test_a_loaded_step_reads_its_own_hyper_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.WARNING, logger="quatrain"):
        step = program(monkeypatch, LOOP + ALONE)["step"]
    assert step.hyper["group0.lr"] == 0.05 and "hyper" not in caplog.text


def clips(frozen: tuple[int, ...] = (), rates: tuple[float, float] = (0.1, 0.1)) -> dict[str, bool]:
    """Which clips have moved after some steps."""
    torch.manual_seed(0)
    sizes = [layer for n in (8, 8, 8) for layer in (nn.Linear(8, n), nn.ReLU())]
    model = nn.Sequential(*sizes, nn.Linear(8, 3))
    for i in frozen:
        model[i].requires_grad_(False)
    first, *rest = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": [first], "lr": rates[0]}, {"params": rest, "lr": rates[1]}]
    x, y = 20 * torch.randn(16, 8), torch.randint(3, (16,))
    step = quatrain.compile(
        model, nn.functional.cross_entropy, (x, y), torch.optim.SGD(groups), target="reference"
    )
    before = {k: v for k, v in step.state.items() if k.endswith(".clip")}
    for _ in range(3):
        step(x, y)
    return {k: not torch.equal(v, step.state[k]) for k, v in before.items()}


def test_clips_follow_the_first_group() -> None:
    assert clips() == {"2.clip": True, "4.clip": True}
    assert clips(rates=(0.1, 0.0)) == {"2.clip": True, "4.clip": True}
    assert clips(rates=(0.0, 0.1)) == {"2.clip": False, "4.clip": False}


def test_a_clip_behind_frozen_layers_stays() -> None:
    assert clips(frozen=(0,)) == {"2.clip": False, "4.clip": True}
    assert clips(frozen=(0, 2)) == {"2.clip": False, "4.clip": False}
    assert clips(frozen=(2,)) == {"2.clip": True, "4.clip": True}


def test_a_skipped_step_takes_no_turn_of_an_accumulation() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 3, bias=False)
    large = nn.MSELoss(reduction="sum")
    x, y = torch.randn(2, 4), torch.randn(2, 3)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    example = {"example": (x, y), "recipe": "fp32", "target": "reference", "accumulate": 2}
    step = quatrain.compile(model, large, optimizer=sgd, **example)  # type: ignore[arg-type]
    before = step.state["weight"]
    step(x, y)
    assert not math.isfinite(float(step(x * 1e30, y))) and step.skipped == 1
    assert torch.equal(step.state["weight"], before)
    step(x, y)
    assert not torch.equal(step.state["weight"], before)

"""Trainings of a study that are stopped in the middle go on to the same bytes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from quatrain.compiler.errors import FileError
from quatrain.passes.recipe import load_recipe
from quatrain.runtime import bundle
from quatrain.tools.data import load_data
from quatrain.tools.study import checkpoint as checkpoint_file
from quatrain.tools.study import processes
from quatrain.tools.study.checkpoint import CheckpointPlan, Keeper, Standing
from quatrain.tools.study.jobs import Trainee, Training
from quatrain.tools.study.plan import Script

from ..cases.commands import Quatrain
from ..cases.fake_study import SOURCE, tiny_data
from ..cases.in_process import InProcess

pytestmark = pytest.mark.torch
STEPS = 11  # two epochs of four and a part of the third
DROPOUT = SOURCE.replace("nn.Flatten()", "nn.Dropout(0.3), nn.Flatten()").replace(
    "SGD(model.parameters(), 0.1, momentum=0.9)", "Adam(model.parameters(), 0.01)"
)
Start = Callable[..., Training]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Begins a training, or goes on with it where ``kept`` has a checkpoint of it."""
    (tmp_path / "net.py").write_text(DROPOUT)
    network, data = f"{tmp_path / 'net.py'}:task", str(tiny_data(tmp_path))

    def begin(kept: Path | None = None, recipe: str = "ultra_low_4bit") -> Training:
        script = Script(network, data, 19, 4, STEPS, 0.1, "cosine", "reference")
        settings = {"cycles": "2"} if recipe == "cpt" else {}
        trainee = Trainee(script, load_data(data), 1, recipe, settings)
        return Training(trainee, CheckpointPlan(kept, 1))

    return begin


def run(training: Training, last: int = STEPS) -> Training:
    while training.done < last:
        training.step()
    return training


def facts(training: Training) -> str:
    """All that the result says."""
    return json.dumps(run(training).facts(), sort_keys=True)


@pytest.mark.parametrize(("recipe", "stops"), [("ultra_low_4bit", (5, STEPS)), ("cpt", (8,))])
def test_a_training_goes_on_to_the_same_facts(
    recipe: str, stops: tuple[int, ...], start: Start, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.qtn"
    whole = facts(start(recipe=recipe))
    for stop in stops:
        run(start(kept, recipe), stop)
        again = start(kept, recipe)
        assert again.done == min(stop, STEPS - 1) and not again.remark
    assert facts(again) == whole


def test_steps_that_were_not_applied_are_counted_on(start: Start, tmp_path: Path) -> None:
    kept = tmp_path / "kept.qtn"
    training = run(start(kept), 3)
    training._lost, training._losses = 2, training._losses[:1]
    stands = Standing(3, 2, training._losses)
    training._keeper.keep(training._trainee.compiled.bundle(), stands)
    again = start(kept)
    assert (again.done, again._lost, again._losses) == (3, 2, training._losses)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def swap(path: Path, **said: object) -> None:
    found = bundle.read(path)
    about = {**found.manifest["training"], **said}  # type: ignore[dict-item]
    bundle.write(replace(found, manifest={**found.manifest, "training": about}), path)


def test_a_checkpoint_that_does_not_fit_is_set_aside(start: Start, tmp_path: Path) -> None:
    kept, aside = tmp_path / "kept.qtn", tmp_path / "kept.unfit.qtn"
    training = run(start(kept), 3)
    trainee, whole = training._trainee, kept.read_bytes()
    begun, script = start()._trainee.compiled.bundle(), trainee.script.to_dict()

    def begin(begun: bundle.Bundle = begun, **changed: object) -> tuple[Standing, str]:
        plan = CheckpointPlan(kept, 1)
        keeper = Keeper(plan, {**script, **changed}, begun)
        return keeper.resume(trainee.load), keeper.remark

    def spoilt(why: str, found: tuple[Standing, str], held: bytes) -> None:
        assert found[0].done == 0 and why in found[1] and "(kept.unfit.qtn)" in found[1], found
        assert aside.read_bytes() == held and not kept.exists()
        kept.write_bytes(whole)

    for harm, why in (
        (cut, "is no .qtn file or was cut short"),
        (lambda path: path.write_bytes(b""), "is no .qtn file or was cut short"),
        (lambda path: swap(path, done="many"), "garbles where the training stands"),
        (lambda path: swap(path, losses=3), "lacks where the training stands"),
        (lambda path: trainee.compiled.save(path), "it is of no training of a study"),
    ):
        harm(kept)
        held = kept.read_bytes()
        spoilt(why, begin(), held)
    other = replace(begun, recipe=load_recipe("luq4"))
    spoilt("its recipe is ultra_low_4bit, not luq4", begin(other), whole)
    state = {k: v + 1 for k, v in begun.state.items()}
    spoilt("its training had another start", begin(replace(begun, state=state)), whole)
    spoilt("its training had another script", begin(steps=12), whole)
    assert begin()[0].done == 3


def test_a_checkpoint_that_cannot_be_written_costs_no_training(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise FileError("the disk is full")

    monkeypatch.setattr(checkpoint_file, "write", full)
    training = run(start(tmp_path / "kept.qtn"), 2)
    assert training.done == 2 and training.remark == "has no checkpoint: the disk is full"


def test_checkpoints_by_the_clock(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = start(tmp_path / "kept.qtn")._keeper
    monkeypatch.setattr(keeper, "_plan", CheckpointPlan(tmp_path / "kept.qtn"))
    assert not keeper.due(1)
    monkeypatch.setattr(keeper, "_last", time.monotonic() - checkpoint_file.SECONDS)
    assert keeper.due(1)
    monkeypatch.setattr(keeper, "_plan", CheckpointPlan())
    assert not keeper.due(1)


@pytest.mark.slow
def test_a_killed_study_goes_on_to_the_same_bytes(
    quatrain: Quatrain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.py").write_text(DROPOUT)
    words = [
        "study", "recipes", "--network", f"{tmp_path / 'net.py'}:task", "--data",
        str(tiny_data(tmp_path)), "--recipes", "ultra_low_4bit", "--batch", "4", "--steps", "30",
        "--seeds", "1", "--rounds", "0", "--target", "reference", "--checkpoint-every", "1",
    ]  # fmt: skip
    kept = tmp_path / "killed"
    with subprocess.Popen([sys.executable, "-m", "quatrain", *words, "-o", str(kept)]) as process:
        while not (found := [*kept.glob("*.seed0.qtn")]) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    (path,) = found
    # Its worker ends by itself; here it would write on.
    done = bundle.read(path).manifest["training"]["done"]  # type: ignore[index]
    assert 0 < done < 30
    monkeypatch.setattr(processes, "Worker", InProcess)
    quatrain(*words, "-o", kept)
    quatrain(*words, "-o", tmp_path / "whole")
    names = [p.name for p in sorted(kept.iterdir())]
    assert names == [p.name for p in sorted((tmp_path / "whole").iterdir())] and len(names) == 2
    for name in names:
        assert (kept / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()

"""The training loop of ``quatrain run``: batches by step number, rates by schedule, checkpoints.

Which batch a step sees and which rate it has follow from its number alone, so a run that is resumed
computes the same bytes as one that was never stopped. A step that is not applied has a number too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..compiler.errors import UsageError
from ..compiler.ir import STEP, Program, Value
from ..passes.gated_precision import COST
from ..passes.gradient_to_noise import RATIO
from ..passes.oscillation_reset import RESETS
from ..passes.parts.plateau import PLATEAU
from ..passes.parts.range_test import LOW
from ..passes.parts.schedule_length import misfit_of
from ..passes.parts.schedules import NOW, TOTAL
from ..runtime.built.folder import check_place
from ..runtime.built.step import BuiltStep
from .batches import Measured, batches_per_epoch, measure, train_batches
from .dataset import Array, Dataset
from .files import check_writable
from .fit import is_cross_entropy

if TYPE_CHECKING:
    from ..runtime.step import Step

    Trained = Step | BuiltStep


MAX_SKIPPED = 10


@dataclass(frozen=True, slots=True)
class Run:
    """What is to be done: steps ``first`` .. ``last - 1`` of a network's life, and where to save.

    ``first`` is where the run began (not where it resumes), so that the schedule spans the run.
    More than ``max_skipped`` steps in a row that are not applied end it. ``tokens`` says what the
    loss is the cross entropy of, where it is that of text.
    """

    first: int
    last: int
    per_epoch: int
    factor: Callable[[float], float]
    peak: dict[str, float]
    seed: int
    checkpoint: Path | None = None
    every: int | None = None
    max_skipped: int = MAX_SKIPPED
    tokens: str | None = None

    def rates(self, step: int) -> dict[str, float]:
        """The hyper-parameters of a step: learning rates times the schedule's factor."""
        factor = self.factor((step - self.first) / max(self.last - self.first, 1))
        return {k: v * factor if k.endswith(".lr") else v for k, v in self.peak.items()}

    def epoch(self, done: int) -> int:
        """Which pass over the data, from 1 on and of this run, the step ``done`` belongs to."""
        return (done - 1) // self.per_epoch - self.first // self.per_epoch + 1

    def saves_after(self, done: int) -> bool:
        """Whether a checkpoint is due when ``done`` steps of the life are over."""
        if self.checkpoint is None:
            return False
        return done == self.last or done % (self.every or self.per_epoch) == 0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is: steps done, mean loss of the epoch so far, samples a second, the test part.

    ``loss`` is the mean over the steps that were applied, NaN where none was; ``skipped`` says why
    this step was not, and is empty where it was.
    ``epoch_ends`` where a pass over the data, or the run, is over; ``test`` is known only then, and
    only for data with labels, and so is where changing ``precision`` stands.
    """

    done: int
    loss: float
    speed: float
    epoch_ends: bool = False
    test: Measured | None = None
    skipped: str = ""
    precision: Mapping[str, float] = field(default_factory=dict)


def steps_done(step: Trained) -> int:
    """Training steps that the network has behind it, with those that were not applied."""
    counter = step_counter(step.program)
    return 0 if counter is None else int(step.state[counter.name]) + step.skipped


def step_counter(program: Program) -> Value | None:
    """The state that counts the steps."""
    return next((v for v in program.state if v.name == STEP), None)


def train(
    step: Trained, data: Dataset, run: Run, batch: int, stopped: Callable[[], bool]
) -> Iterator[Progress]:
    """Train until ``run.last`` or until ``stopped()``; yields after every step.

    A checkpoint holds exactly the steps that were yielded. Raises UsageError, without a checkpoint,
    when more steps in a row than ``run.max_skipped`` were not applied.
    """
    done = steps_done(step)
    losses: list[float] = []
    lost = 0
    start, samples = time.monotonic(), 0
    for x, y in _from(data, batch, run, done):
        step.hyper.update(run.rates(done))
        loss, skipped = take(step, x, y)
        losses += [] if skipped else [loss]
        lost = lost + 1 if skipped else 0
        done, samples = done + 1, samples + batch
        if lost > run.max_skipped:
            raise _lost(done, lost, skipped)
        speed = samples / max(time.monotonic() - start, 1e-9)
        ends = done == run.last or done % run.per_epoch == 0
        stop = stopped()
        if run.checkpoint is not None and (stop or run.saves_after(done)):
            step.save(run.checkpoint)
        test = test_part(step, data, batch) if ends and not stop else None
        mean = float(np.mean(losses)) if losses else math.nan
        stands = precision(step) if ends else {}
        yield Progress(done, mean, speed, ends, test, skipped, stands)
        if stop:
            return
        if ends:
            losses.clear()
            start, samples = time.monotonic(), 0


def take(step: Trained, x: Array, y: Array) -> tuple[float, str]:
    """The loss of one step, and why the step was not applied where it was not."""
    before = step.skipped
    loss = float(step(*(_given(step, array) for array in (x, y))))
    if step.skipped == before:
        return loss, ""
    if not math.isfinite(loss):
        return loss, f"the loss is {loss}"
    return loss, f"the loss is {loss:.4g}, a gradient or a running statistic is not finite"


def _lost(done: int, lost: int, why: str) -> UsageError:
    steps = f"step {done} was" if lost == 1 else f"steps {done - lost + 1} to {done} were"
    return UsageError(
        f"{steps} not applied: {why}; try a smaller --lr, look at the data, or let more such steps "
        "pass with --max-skipped"
    )


def _from(data: Dataset, batch: int, run: Run, done: int) -> Iterator[tuple[Array, Array]]:
    """The batches of the steps ``done`` .. ``run.last - 1``."""
    left = run.last - done
    epoch, position = divmod(done, run.per_epoch)
    while left > 0:
        for pair in train_batches(data, batch, seed=run.seed, epoch=epoch, start=position):
            yield pair
            left -= 1
            if left == 0:
                return
        epoch, position = epoch + 1, 0


def test_part(step: Trained, data: Dataset, batch: int) -> Measured | None:
    """What the test part says; None for data without labels."""
    if not data.has_labels:
        return None
    return measure(lambda x: np.asarray(step.predict(_given(step, x))), data, batch)


def check_run(
    steps: int | None,
    epochs: int | None,
    checkpoint: Path | None,
    check: Callable[[Path], None] = check_writable,
) -> None:
    """Raise UsageError or FileError where a run has no length or nowhere to save.

    ``check`` raises the latter.
    """
    if (steps is None) == (epochs is None):
        raise UsageError("say how long to train: --steps N or --epochs N, one of the two")
    if checkpoint is not None:
        check(checkpoint)


def plan_run(
    step: Trained,
    data: Dataset,
    batch: int,
    first: int,
    *,
    steps: int | None,
    epochs: int | None,
    lr: float | None,
    factor: Callable[[float], float],
    checkpoint: Path | None,
    every: int | None,
    max_skipped: int = MAX_SKIPPED,
) -> Run:
    """The run that the options describe, beginning at step ``first`` of the network's life."""
    built = isinstance(step, BuiltStep)
    check_run(steps, epochs, checkpoint, check_place if built else check_writable)
    per_epoch = batches_per_epoch(data, batch)
    count = steps if steps is not None else (epochs or 0) * per_epoch
    peak = step.compiled_hyper
    if lr is not None:
        ratio = lr / (peak["group0.lr"] or 1.0)
        peak = {k: v * ratio if k.endswith(".lr") else v for k, v in peak.items()}
        peak["group0.lr"] = lr
    last, seed = first + count, step.seed
    tokens = data.tokens if data.tokens and is_cross_entropy(step.program) else None
    return Run(first, last, per_epoch, factor, peak, seed, checkpoint, every, max_skipped, tokens)


def give_length(step: Trained, steps: int) -> str:
    """Tell a schedule that does not know yet how many steps the run has.

    Returns what there is to say: of its length, where that is new or another one than the run's.
    Raises UsageError where the run is too short for it.
    """
    known = step.state.get(TOTAL)
    if known is None:
        return ""
    words = "precision schedule" if NOW in step.state else "schedule of resets"
    if known.item() != 0:
        same = known.item() == steps
        spans = f"the {words} spans {int(known)} steps"
        return "" if same else f"{spans}, not the {steps} of this run"
    if why := misfit_of(step.program, steps):
        raise UsageError(f"{why}, or train longer")
    step.load_state({TOTAL: steps})
    return f"the {words} spans {steps} steps, as this run does"


def precision(step: Trained) -> dict[str, float]:
    """Where precision that changes stands: bits, stage from 1 on, least bits found, cost in %.

    With the weights that were reset so far, and the gradient beside its noise.
    """
    state, found = step.state, dict[str, float]()
    if NOW in state:
        found["bits"] = int(state[NOW])
    if int(state.get(LOW, 0)):
        found["low"] = int(state[LOW])
    if PLATEAU in state:
        found["stage"] = 1 + int(state[PLATEAU][0])
    if COST in state:
        found["cost_percent"] = round(float(state[COST]), 2)
    if RESETS in state:
        found["resets"] = int(state[RESETS])
    if math.isfinite(float(state.get(RATIO, math.inf))):
        found[RATIO] = round(float(state[RATIO]), 2)
    return found


def _given(step: Trained, array: Array) -> Any:
    """An array as the step takes it."""
    array = np.ascontiguousarray(array)
    if isinstance(step, BuiltStep):
        return array
    # Here, as a built step runs without it.
    import torch

    return torch.from_numpy(array)

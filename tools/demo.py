"""What ``quatrain demo`` does: one small network, compiled and trained by two recipes, compared."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from . import driver, train
from .models import digits_cnn
from .progress import reporter
from .schedule import schedule

if TYPE_CHECKING:
    from ..runtime.report.bill import Bill
    from .dataset import Dataset

BATCH = 64


@dataclass(frozen=True, slots=True)
class Trained:
    """A recipe's run: seconds to compile, seconds in training steps, what came of it."""

    recipe: str
    compiling: float
    training: float
    samples: int
    accuracy: float
    bill: Bill
    file: Path

    @property
    def speed(self) -> float:
        """Samples that a second of training takes in."""
        return self.samples / max(self.training, 1e-9)


def digits() -> driver.Task:
    """The task of ``examples/digits.py``: every recipe begins with the same weights."""
    torch.manual_seed(0)
    model = digits_cnn()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    example = torch.rand(BATCH, 1, 8, 8), torch.randint(10, (BATCH,))
    return driver.Task(model=model, loss=cross_entropy, optimizer=optimizer, example=example)


def trained(recipe: str, data: Dataset, epochs: int, file: Path) -> Trained:
    """Compile the digits' network by ``recipe``, train it, save it in ``file``."""
    task = digits()
    begin = time.monotonic()
    step = driver.compile(task.model, task.loss, task.example, task.optimizer, recipe=recipe)
    compiling = time.monotonic() - begin
    run = train.plan_run(
        step, data, BATCH, 0, steps=None, epochs=epochs, lr=None, factor=schedule("constant"),
        checkpoint=None, every=None,
    )  # fmt: skip
    training, accuracy = 0.0, 0.0
    with reporter(run, as_json=False, lines=False) as report:
        for at in train.train(step, data, run, BATCH, stopped=lambda: False):
            report(at)
            if at.epoch_ends:  # the speed is that of the steps: testing between epochs is left out
                training += run.per_epoch * BATCH / at.speed
                accuracy = at.test.accuracy if at.test else 0.0
    step.save(file)
    samples = run.last * BATCH
    return Trained(recipe, compiling, training, samples, accuracy, step.report(), file)

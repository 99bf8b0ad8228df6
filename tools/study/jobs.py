"""Trainings and timings of a study as jobs of a bench process."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ...compiler.errors import UsageError
from ...passes.count_bit_operations import SPENT
from ...passes.recipe import Recipe
from ...runtime.report.bill import Bill
from .. import driver, env, factory, models
from ..bare_flags import BareFlags
from ..bare_model import task_of
from ..batches import batches_per_epoch, measure, train_batches
from ..compare.network import Named, captured
from ..data import load_any
from ..dataset import Array, Dataset, Text
from ..driver import Task
from ..fit import fit, takes
from ..progress import finite
from ..schedule import schedule
from ..train import MAX_SKIPPED, give_length, precision, take
from .by_layer import by_layer, weights
from .checkpoint import NO_CHECKPOINT, CheckpointPlan, Keeper, Standing
from .entry import made_recipe
from .folder import LAYERS, SHOT
from .plan import TIME, WIDTHS, Script
from .shots import Shots

HIDDEN = 128
POINTS = 100
NOTHING: Mapping[str, str] = {}
Batch = tuple[Tensor, Tensor]


def maker(request: Mapping[str, Any]) -> Callable[[], Training | Timing | Shots]:
    """What makes the job of a request; data and libraries are loaded here."""
    script = Script(**request["script"])
    data = first_samples(load_any(script.data), script.samples)
    torch.set_num_threads(env.threads())
    if request["part"] in (LAYERS, SHOT):
        return lambda: Shots(captured_network(script, data, request["seed"]), data, request)
    recipe = made_recipe(request["recipe"], request["options"], request["without"])
    if request["part"] == TIME:
        return lambda: Timing(Trainee(script, data, request["seed"], recipe))
    kept = request.get("checkpoint")
    plan = CheckpointPlan(Path(kept) if kept else None, request.get("every"))
    return lambda: Training(Trainee(script, data, request["seed"], recipe), plan)


def first_samples(data: Dataset | Text, samples: int) -> Dataset | Text:
    """The data set with the first ``samples`` (of text: tokens) of its training part."""
    if isinstance(data, Text):
        return replace(data, train=data.train[:samples])
    return replace(data, x_train=data.x_train[:samples], y_train=data.y_train[:samples])


def build(network: str, data: Dataset) -> nn.Module:
    """A network of ``NETWORKS`` for the examples and classes of a data set."""
    shape, classes = data.x_train.shape[1:], data.classes
    channels = shape[0] if len(shape) == 3 else 1
    builders: dict[str, Callable[[], nn.Module]] = {
        "resnet20": lambda: models.resnet20(num_classes=classes, in_channels=channels),
        "resnet18": lambda: models.resnet18(classes, channels),
        "vgg11_bn": lambda: models.vgg11_bn(classes, channels),
        "mobilenetv2": lambda: models.mobilenetv2(num_classes=classes, in_channels=channels),
        "digits_cnn": lambda: models.digits_cnn(num_classes=classes),
        "mlp": lambda: models.mlp((math.prod(shape), HIDDEN, HIDDEN, classes)),
    }
    return builders[network]()


def made_task(script: Script, seed: int) -> Task:
    """What the factory makes, with the seed's weights."""
    torch.manual_seed(seed)
    made = factory.make(script.network)
    if isinstance(made, nn.Module):
        raise UsageError(f"{script.network} returned a bare model; return a quatrain.Task")
    return task_of(made, script.network, BareFlags(), None, seed)


def captured_network(script: Script, data: Dataset | Text, seed: int) -> Named:
    """The network of a script as ``compare`` takes it, with the seed's weights."""
    if isinstance(data, Text):
        return captured(script.network, made_task(script, seed))
    x, y = next(train_batches(data, script.batch, seed=seed))
    return captured(script.network, make_task(script, data, seed, (_tensor(x), _tensor(y))))


def make_task(script: Script, data: Dataset, seed: int, batch: Batch) -> Task:
    """Model with the seed's weights, loss, and the script's optimizer or the factory's own."""
    if ".py:" in script.network:
        task = made_task(script, seed)
        return Task(task.model, task.loss, task.optimizer, batch)
    torch.manual_seed(seed)
    model = build(script.network, data)
    sgd = torch.optim.SGD(
        model.parameters(),
        lr=script.lr,
        momentum=script.momentum,
        nesterov=script.momentum > 0,
        weight_decay=script.weight_decay,
    )
    return Task(model, cross_entropy, sgd, batch)


class Trainee:
    """A compiled step with its data, its optimizer's groups and the peaks of their rates."""

    def __init__(
        self,
        script: Script,
        data: Dataset | Text,
        seed: int,
        recipe: str | Recipe,
        options: Mapping[str, str] = NOTHING,
    ) -> None:
        self.script, self.seed, self.batch = script, seed, script.batch
        if isinstance(data, Text):
            task = made_task(script, seed)
        else:
            self.data = data
            x, y = next(self.batches())
            task = make_task(script, data, seed, (_tensor(x), _tensor(y)))
        self.groups = task.groups
        self.peaks = [group["lr"] for group in self.groups]
        self.compiled = driver.compile(
            task.model, task.loss, task.example, task.optimizer,
            recipe=recipe, options=options, target=script.target, seed=seed,
        )  # fmt: skip
        if isinstance(data, Text):
            source = self.compiled.source
            what = takes(source.train, source.evaluation, self.compiled.compiled_hyper)
            self.data, self.batch = fit(data, what)
        give_length(self.compiled, script.steps)

    @property
    def per_epoch(self) -> int:
        """Steps in one pass over the data."""
        return batches_per_epoch(self.data, self.batch)

    def batches(self, done: int = 0) -> Iterator[tuple[Array, Array]]:
        """The batches of all epochs, without end, from that behind ``done`` steps on."""
        first, start = divmod(done, self.per_epoch) if done else (0, 0)
        for epoch in count(first):
            yield from train_batches(
                self.data, self.batch, seed=self.seed, epoch=epoch, start=start
            )
            start = 0

    def load(self, state: Mapping[str, Array]) -> None:
        """Set all state of the step; InputError for one that does not fit."""
        self.compiled.load_state({k: torch.from_numpy(v.copy()) for k, v in state.items()})

    def set_rate(self, done: float) -> None:
        """Set the learning rates for a share (0..1) of the run that is done."""
        factor = schedule(self.script.schedule)(done)
        for group, peak in zip(self.groups, self.peaks, strict=True):
            group["lr"] = peak * factor


class Training:
    """The training of one recipe with one seed, a step a call."""

    def __init__(self, trainee: Trainee, plan: CheckpointPlan = NO_CHECKPOINT) -> None:
        self._trainee, step = trainee, trainee.compiled
        self._before = weights(step)
        self._keeper = Keeper(plan, trainee.script.to_dict(), step.bundle())
        stands = self._keeper.resume(trainee.load)
        self._done, self._lost = stands.done, stands.lost
        self._losses = stands.losses  # of the steps that were applied
        self._stream = trainee.batches(stands.done)

    @property
    def done(self) -> int:
        """Steps behind it, with those of an earlier process."""
        return self._done

    @property
    def remark(self) -> str:
        """What could not be done with its checkpoint."""
        return self._keeper.remark

    def step(self) -> float:
        """The next step; its loss. UsageError where too many in a row were not applied."""
        self._trainee.set_rate(self._done / self._trainee.script.steps)
        loss, skipped = take(self._trainee.compiled, *next(self._stream))
        self._losses += [] if skipped else [loss]
        self._lost = self._lost + 1 if skipped else 0
        self._done += 1
        if self._lost > MAX_SKIPPED:
            raise UsageError(
                f"{self._lost} steps in a row up to step {self._done} were not applied: {skipped}"
            )
        # Not behind the last step: what goes on from a checkpoint has a step to take.
        if self._done < self._trainee.script.steps and self._keeper.due(self._done):
            stands = Standing(self._done, self._lost, self._losses)
            self._keeper.keep(self._trainee.compiled.bundle(), stands)
        return loss

    def facts(self) -> dict[str, object]:
        """Test accuracy (0..1), the last epoch's mean loss, steps not applied, and the bill.

        The curve is of the losses of training, a mean for each of its parts; of text there is the
        loss on the test part. Where bits change while training also the mean GBitOPs of the steps.
        By layer there are its formats, and how far the training has moved its weight.
        """
        step, trainee = self._trainee.compiled, self._trainee
        test = measure(lambda x: step.predict(_tensor(x)).numpy(), trainee.data, trainee.batch)
        if not self._losses:
            raise UsageError(f"none of the {self._done} steps was applied")
        loss = float(np.mean(self._losses[-trainee.per_epoch :]))
        found: dict[str, object] = {"accuracy": test.accuracy, "loss": loss}
        found["curve"] = curve(self._losses)
        if trainee.data.tokens:
            found["test_loss"] = finite(test.loss)
        found["skipped"] = self._done - len(self._losses)
        found["precision"] = precision(step)
        mean = step.state.get(SPENT)
        if mean is not None:
            found["giga_per_step"] = float(mean)
        bill = step.report()
        return {**found, "bill": shortened(bill), "layers": by_layer(bill, self._before, step)}


class Timing:
    """The step on one batch again and again, at the rate that the run begins with."""

    def __init__(self, trainee: Trainee) -> None:
        self._step = trainee.compiled
        x, y = next(trainee.batches())
        self._batch = _tensor(x), _tensor(y)
        trainee.set_rate(0.0)

    def step(self) -> Tensor:
        """One step; the loss."""
        return self._step(*self._batch)

    def facts(self) -> dict[str, object]:
        """Nothing beside its time."""
        return {}


def curve(losses: list[float]) -> list[float]:
    """The mean loss of each of at most ``POINTS`` parts of equal length, to four digits."""
    parts = np.array_split(losses, min(POINTS, len(losses)))
    return [float(f"{part.mean():.4g}") for part in parts]


def shortened(bill: Bill) -> dict[str, object]:
    """The parts of a bill that a study compares; ``widths`` are shares (0..1) of the MACs by the
    bits of the wider operand."""
    keys = ("macs", "bit_operations", "classes", "exempt_share", "saved_bytes", "planned_bytes")
    found = bill.to_dict()
    widths = dict.fromkeys(map(str, WIDTHS), 0)
    for g in bill.gemms:
        widths[str(next(w for w in WIDTHS if max(g.bits) <= w))] += g.macs
    shares = {w: n / max(bill.macs, 1) for w, n in widths.items()}
    return {**{k: found[k] for k in keys}, "widths": shares}


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))

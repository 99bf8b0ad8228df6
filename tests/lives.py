"""Lives of steps: random networks whose step is called, saved, loaded, fed and changed.

    python -m tests.lives --lives 500 --seed 0 --kernels 10

Operands repeat, layers and weights are shared, the optimizer has stepped before, batches change
their size, the model is switched, frozen or changed between calls. Eager PyTorch lives beside it:
in f32, and in f64 with and without noise, which says how far f32 may be off. Every ``--kernels``-th
life, all kernels of the step are compared with the reference too, on inputs with NaN, infinities,
zeros of both signs and subnormals among them.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import quatrain
from quatrain.compiler.errors import CaptureError, InputError
from quatrain.runtime.step import Step
from quatrain.targets.cpu.info import detect

from .cases.fuzz_networks import CLASSES
from .cases.lives import BATCHES, Life, Twisted, draw_life
from .cases.seeds import FAILED, seeded, tell
from .exactness import COMPILED, compare, given
from .fuzz import CLOSE, CONDITION, MOST_KERNELS, OPTIMIZERS, away, shaken

SPECIALS = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-42, -1e-42, 1e18], np.float32)
# Where a gradient is 0 but for rounding, Adam's rate over its eps, which is 1, is all that bounds the
# step: some roundings of f32 of numbers about 1.
ROUNDINGS = 4e-6
Batch = tuple[Tensor, Tensor]


class Eager:
    """A model with its optimizer as PyTorch runs them."""

    def __init__(self, life: Life, model: torch.nn.Module) -> None:
        self.model, self.dtype = model, next(model.parameters()).dtype
        self.optimizer = OPTIMIZERS[life.optimizer](model.parameters())

    def step(self, batch: Batch) -> float:
        """One step; the loss."""
        x, y = batch
        self.optimizer.zero_grad()
        loss = cross_entropy(self.model(x.to(self.dtype)), y)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def predict(self, x: Tensor) -> Tensor:
        """In eval mode, which is left again."""
        self.model.eval()
        with torch.no_grad():
            made: Tensor = self.model(x.to(self.dtype))
        self.model.train()
        return made


class Beside:
    """The step of a life, and what PyTorch makes of the same."""

    def __init__(self, life: Life) -> None:
        self.life, self.turn = life, 0
        self.model = Twisted(life)
        self.eager = Eager(life, copy.deepcopy(self.model))
        self.exact = Eager(life, copy.deepcopy(self.model).double())
        self.noisy = Eager(life, shaken(copy.deepcopy(self.model).double()))
        self.own = Eager(life, self.model)
        for _ in range(life.before):
            batch = self.batch(life.batch)
            for each in (self.eager, self.exact, self.noisy, self.own):
                each.step(batch)
        self.step = self.compiled()

    def compiled(self) -> Step:
        """The step of the model as it is."""
        sgd, first = self.own.optimizer, self.batch(self.life.batch)
        return quatrain.compile(
            self.model, cross_entropy, first, sgd, recipe="fp32", target="reference"
        )

    def batch(self, size: int) -> Batch:
        """The next batch."""
        self.turn += 1
        generator = torch.Generator().manual_seed(1000 * self.life.seed + self.turn)
        x = torch.randn(size, *self.life.shape, generator=generator)
        return x, torch.randint(CLASSES, (size,), generator=generator)

    def run(self, event: str) -> str:
        """What is wrong behind an event; empty where nothing is."""
        return EVENTS[event](self) or self.compared()

    def stepped(self, size: int) -> str:
        """A step on both sides."""
        batch = self.batch(size)
        losses = [e.step(batch) for e in (self.eager, self.exact, self.noisy)]
        return _far("loss", *(torch.tensor(v) for v in (float(self.step(*batch)), *losses)))

    def compared(self) -> str:
        """Parameters and buffers."""
        ours = self.step.state_dict()
        sides = [e.model.state_dict() for e in (self.eager, self.exact, self.noisy)]
        return next(filter(None, (_far(k, v, *(s[k] for s in sides)) for k, v in ours.items())), "")

    def other(self) -> str:
        """A step with another batch size."""
        sizes = [n for n in BATCHES if n != self.life.batch]
        least = 2 if self.life.shape[1] * self.life.shape[2] < 4 else 1
        return self.stepped(max(sizes[self.turn % len(sizes)], least))

    def switched(self) -> str:
        """The model in eval mode: the step is what was compiled."""
        self.model.eval()
        return self.stepped(self.life.batch) or self.other()

    def rated(self) -> str:
        """Another learning rate."""
        for each in (self.eager, self.exact, self.noisy, self.own):
            each.optimizer.param_groups[0]["lr"] *= 0.5
        return self.stepped(self.life.batch)

    def saved(self) -> str:
        """The loaded step makes what this one makes, to the bit."""
        with tempfile.TemporaryDirectory() as name:
            self.step.save(Path(name) / "a.qtn")
            again = quatrain.load(Path(name) / "a.qtn", target="reference")
        batch = self.batch(self.life.batch)
        again.hyper.update(self.step.hyper)
        for each in (self.eager, self.exact, self.noisy):
            each.step(batch)
        loss = self.step(*batch)
        if not torch.equal(loss, again(*batch)):
            return "saved: the loaded step has another loss"
        same = all(torch.equal(v, again.state[k]) for k, v in self.step.state.items())
        return "" if same else "saved: the loaded step parts"

    def predicted(self) -> str:
        """Rows of another batch size."""
        x, _ = self.batch(BATCHES[self.turn % len(BATCHES)])
        sides = [e.predict(x) for e in (self.eager, self.exact, self.noisy)]
        return _far("prediction", self.step.predict(x), *sides)

    def loaded(self) -> str:
        """The model takes the step's parameters and is compiled again, with the optimizer's past."""
        self.model.load_state_dict(self.step.state_dict())
        self.model.train()
        return ""

    def fed(self) -> str:
        """A batch with NaN is refused, and nothing changes."""
        before = self.step.state
        x, y = self.batch(self.life.batch)
        x.view(-1)[self.turn % x.numel()] = float("nan")
        try:
            self.step(x, y)
        except InputError:
            same = all(torch.equal(v, before[k]) for k, v in self.step.state.items())
            return "" if same else "nan: a refused batch changed the state"
        return "nan: a batch with NaN was taken"

    def changed(self, change: Callable[[Any], object]) -> str:
        """The model is no longer what was compiled: this size goes on, another is refused."""
        change(self)
        found = self.stepped(self.life.batch)
        if found:
            return found
        sizes = {v.type.shape[0] for v in self.step.program.inputs if v.type.shape}
        fresh = next(n for n in (11, 12, 13) if n not in sizes)
        try:
            self.step(*self.batch(fresh))
        except CaptureError:
            return ""
        return "changed: another batch size was taken"


def freeze(it: Beside) -> None:
    """A layer is frozen."""
    it.model.head.requires_grad_(False)


def drop(it: Beside) -> None:
    """A dropout rate."""
    it.model.dropout.p = 0.5


def move(it: Beside) -> None:
    """A parameter leaves the optimizer."""
    it.own.optimizer.param_groups[0]["params"].pop()


EVENTS: dict[str, Callable[[Beside], str]] = {
    "step": lambda it: it.stepped(it.life.batch),
    "other": Beside.other,
    "eval": Beside.switched,
    "rate": Beside.rated,
    "save": Beside.saved,
    "predict": Beside.predicted,
    "load": Beside.loaded,
    "nan": Beside.fed,
    "freeze": lambda it: it.changed(freeze),
    "dropout": lambda it: it.changed(drop),
    "move": lambda it: it.changed(move),
}


def _far(name: str, ours: Tensor, eager: Tensor, exact: Tensor, noisy: Tensor) -> str:
    if away(ours, eager) <= CLOSE or float((ours.double() - exact).abs().max()) <= ROUNDINGS:
        return ""
    mine = away(ours.double(), exact)
    theirs = max(away(t.double(), exact) for t in (eager, noisy))
    if mine <= CLOSE + CONDITION * theirs:
        return ""
    return f"torch: {name} is {mine:.1e} from float64, eager {theirs:.1e}"


def kernels(it: Beside) -> str:
    """All kernels on special numbers."""
    if len(COMPILED) > MOST_KERNELS:
        COMPILED.clear()
    rng = np.random.default_rng(it.life.seed)
    values = given(it.step, it.batch(it.life.batch))
    x = next(v for v in it.step.program.inputs if v.type.shape and v.type.format.name == "f32")
    flat = values[x.name].data.reshape(-1)
    places = rng.choice(flat.size, min(flat.size, 4), replace=False)
    flat[places] = rng.choice(SPECIALS, places.size)
    for mismatch in compare(it.step.program, values, detect(), at_end=bool(it.life.seed % 2)):
        return f"kernel: {mismatch}"
    return ""


def failure(life: Life, *, with_kernels: bool = False) -> str:
    """What is wrong in a life; empty where nothing is."""
    event = "compile"
    try:
        it = Beside(life)
        if with_kernels and (found := kernels(it)):
            return found
        for event in life.events:
            if found := it.run(event):
                return f"{event}: {found}"
    except Exception as error:  # whatever it is, it is the finding
        return f"{event}: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
    return ""


def main() -> None:
    """Draw lives and print those that end badly."""
    parser = seeded(__doc__, "lives", 100)
    parser.add_argument("--kernels", type=int, default=0, metavar="N", help="of every N-th")
    args = parser.parse_args()
    seeds = range(args.seed, args.seed + args.lives)
    tell("lives", ((seed, _outcome(seed, args.kernels)) for seed in seeds), ["fine"], every=100)


def _outcome(seed: int, kernels: int) -> str:
    life = draw_life(seed)
    found = failure(life, with_kernels=bool(kernels) and seed % kernels == 0)
    return f"{FAILED}: {found}\n  {life}" if found else "fine"


if __name__ == "__main__":
    main()

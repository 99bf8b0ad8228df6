"""What only a GPU can tell, in one run of some minutes: are the kernels right there, and how fast.

    python -m tests.cuda.on_a_gpu results.json
    compute-sanitizer python -m tests.cuda.on_a_gpu results.json --parts kernels --networks awkward

Parts, in this order, each as long as the time lasts:

    doctor    driver, GPU, compiler, the self-test
    kernels   every kernel of training programs beside the reference
    profile   every kernel of a step alone, beside the time that the model says
    steps     whole steps beside PyTorch's in bf16, eager and compiled, channels last, in turns

Results are written after each part, so that a run that is cut off leaves what it found.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import quatrain
from quatrain.targets.cuda.predict import predict
from quatrain.tools import models
from quatrain.tools.planning import gpu_of
from quatrain.tools.self_test import self_test

from ..cases.machine import on
from ..cases.networks import NETWORKS
from ..exactness import compare_on, given
from .gpu_machine import GpuMachine

PROGRAMS = ("awkward:ultra_low_4bit", "gpt:luq4", "resnet20:ultra_low_4bit", "resnet20:bf16")
ROUNDS = 5
Batch = tuple[Tensor, Tensor]


@dataclass
class Results:
    """What was found so far, in a file."""

    path: Path
    found: dict[str, Any] = field(default_factory=dict)

    def add(self, part: str, name: str, what: object) -> None:
        """One more result, printed and kept."""
        self.found.setdefault(part, {})[name] = what
        print(part, name, what, flush=True)
        self.path.write_text(json.dumps(self.found, indent=1))


def kernels(results: Results, programs: list[str], until: float) -> None:
    """Each kernel beside the reference."""
    machine = GpuMachine()
    for program in programs:
        if time.monotonic() > until:
            return
        network, _, recipe = program.partition(":")
        made = NETWORKS[network]
        torch.manual_seed(0)
        model, batch = made.make(), made.batch()
        sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        step = quatrain.compile(model, made.loss, batch, sgd, recipe=recipe, target="reference")
        with on(machine):
            wrong = [str(m) for m in compare_on(machine, step.program, given(step, batch))]
        results.add("kernels", program, {"wrong": wrong[:20], "count": len(wrong)})


@dataclass(frozen=True)
class Case:
    """A network to time."""

    make: Callable[[], nn.Module]
    batch: Callable[[], Batch]
    recipe: str = "ultra_low_4bit"


def _images(n: int, size: int, classes: int) -> Batch:
    return torch.randn(n, 3, size, size), torch.randint(classes, (n,))


CASES = {
    "resnet20 b128": Case(models.resnet20, lambda: _images(128, 32, 10)),
    "resnet50 b256": Case(models.resnet50, lambda: _images(256, 224, 1000)),
    "mlp b512": Case(
        lambda: nn.Sequential(
            nn.Linear(1024, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 10)
        ),
        lambda: (torch.randn(512, 1024), torch.randint(10, (512,))),
    ),
}


def steps(results: Results, names: list[str], until: float) -> None:
    """Milliseconds of a step: quatrain, and PyTorch in bf16; medians of rounds in turns."""
    for name in names:
        if time.monotonic() > until:
            return
        contenders = _contenders(CASES[name])
        times: dict[str, list[float]] = {who: [] for who in contenders}
        for _ in range(ROUNDS):
            for who, run in contenders.items():
                times[who].append(_milliseconds(run))
        found = {who: round(statistics.median(t), 3) for who, t in times.items()}
        results.add("steps", name, {**found, "all": times})


def _milliseconds(run: Callable[[], object], calls: int = 10) -> float:
    run()
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    for _ in range(calls):
        run()
    last.record()
    last.synchronize()
    return float(first.elapsed_time(last)) / calls


def _contenders(case: Case) -> dict[str, Callable[[], object]]:
    torch.manual_seed(0)
    model, (x, y) = case.make(), case.batch()
    loss = nn.functional.cross_entropy
    sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    step = quatrain.compile(model, loss, (x, y), sgd, recipe=case.recipe, target="cuda")
    there = x.cuda(), y.cuda()
    found: dict[str, Callable[[], object]] = {"quatrain": lambda: step(*there)}
    for who, wrap in (("eager bf16", lambda f: f), ("compiled bf16", torch.compile)):
        found[who] = _torch_step(case.make(), there, wrap)
    return found


def _torch_step(model: nn.Module, batch: Batch, wrap: Callable[..., Any]) -> Callable[[], object]:
    """PyTorch's step under autocast."""
    x, y = batch
    layout = torch.channels_last if x.dim() == 4 else torch.contiguous_format
    x = x.to(memory_format=layout)
    model = model.cuda().to(memory_format=layout)  # type: ignore[call-overload]
    sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def forward(x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            return nn.functional.cross_entropy(model(x).float(), y)

    run = wrap(forward)

    def step() -> object:
        sgd.zero_grad()
        value = run(x, y)
        value.backward()
        sgd.step()
        return value

    return step


def profile(results: Results, name: str) -> None:
    """Each kernel of a step alone, on zeros: its time, and the model's; the slowest by it first."""
    machine, case = GpuMachine(), CASES[name]
    model, loss = case.make(), nn.functional.cross_entropy
    sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    step = quatrain.compile(model, loss, case.batch(), sgd, recipe=case.recipe, target="cuda")
    plan, gpu = step.executable.plan, gpu_of(f"cuda:{machine.arch}")
    assert plan is not None and gpu is not None, "the model knows no such GPU"
    prediction, found = predict(plan, gpu), {}
    for planned, model_s in zip(plan.kernels, prediction.kernels, strict=True):
        kernel = planned.kernel
        if kernel.spec not in found:
            arrays = [np.zeros(plan.places[slot].bytes, np.uint8) for slot in kernel.slots]
            (run,) = machine.compile([kernel])
            took, modelled = run.microseconds(arrays), 1e6 * model_s.seconds
            found[kernel.spec] = (round(modelled / took, 3), round(took, 2), kernel.spec.name)
    slowest = sorted(found.values())
    results.add("profile", name, {"step_ms": 1e3 * prediction.seconds, "kernels": slowest})


def main() -> None:
    """All parts, as long as the time lasts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--parts", nargs="+", default=["doctor", "kernels", "profile", "steps"])
    parser.add_argument("--programs", nargs="+", default=list(PROGRAMS), metavar="NETWORK:RECIPE")
    parser.add_argument("--networks", nargs="+", default=list(CASES), choices=list(CASES))
    args = parser.parse_args()
    until, results = time.monotonic() + 60 * args.minutes, Results(args.results)
    if "doctor" in args.parts:
        results.add("doctor", "self-test", self_test("cuda"))
    if "kernels" in args.parts:
        kernels(results, args.programs, until)
    if "profile" in args.parts:
        for name in args.networks:
            profile(results, name)
    if "steps" in args.parts:
        steps(results, args.networks, until)


if __name__ == "__main__":
    main()

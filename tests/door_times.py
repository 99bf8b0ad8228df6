"""A command: a training step by ``torch.compile``, by ``quatrain.compile`` and by PyTorch itself.

python -m tests.door_times --network resnet20 --recipe ultra_low_4bit --batch 16

Each contender has a process of its own; they take turns, and a round is the median of some steps.
On a machine with other work OMP_NUM_THREADS=1 QUATRAIN_THREADS=1 and --processor.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import cross_entropy

import quatrain
from quatrain.tools import models

CONTENDERS = ("torch.compile", "quatrain.compile", "eager")


def step_of(contender: str, network: str, recipe: str, batch: int) -> Callable[[], object]:
    """A function that takes one training step."""
    torch.manual_seed(0)
    model = getattr(models, network)()
    x, y = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    if contender == "quatrain.compile":
        whole = quatrain.compile(model, cross_entropy, (x, y), optimizer, recipe=recipe)
        return lambda: whole(x, y)
    if contender == "torch.compile":
        options: dict[str, Any] = {"recipe": recipe, "optimizer": optimizer}
        model = torch.compile(model, backend="quatrain", options=options)

    def step() -> object:
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def work(arguments: argparse.Namespace) -> None:
    """A contender's process: for each line on stdin a round, whose milliseconds it prints."""
    step = step_of(arguments.worker, arguments.network, arguments.recipe, arguments.batch)
    clock = time.process_time if arguments.processor else time.perf_counter
    for _ in range(3):
        step()
    print("ready", flush=True)
    for _ in sys.stdin:
        taken = []
        for _ in range(arguments.steps):
            start = clock()
            step()
            taken.append(clock() - start)
        print(1e3 * statistics.median(taken), flush=True)


def compare(arguments: argparse.Namespace) -> None:
    """All contenders in turn, and their ratios."""
    command = [sys.executable, "-m", "tests.door_times", *sys.argv[1:], "--worker"]
    workers = {
        name: subprocess.Popen(
            [*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in CONTENDERS
    }
    rounds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for turn in range(arguments.rounds + 1):
        for name, worker in workers.items():
            assert worker.stdin is not None and worker.stdout is not None
            if turn:
                print(file=worker.stdin, flush=True)
            line = worker.stdout.readline()
            if turn:
                rounds[name].append(float(line))
    for worker in workers.values():
        worker.communicate()
    ours = rounds["torch.compile"]
    for name, times in rounds.items():
        ratios = [a / b for a, b in zip(ours, times, strict=True)]
        print(
            f"{name:18} {statistics.median(times):8.1f} ms    torch.compile takes "
            f"{statistics.median(ratios):.2f} times ({min(ratios):.2f} .. {max(ratios):.2f})"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--recipe", default="ultra_low_4bit")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processor", action="store_true", help="time of the processor")
    parser.add_argument("--worker")
    given = parser.parse_args()
    if given.worker:
        work(given)
    else:
        compare(given)

"""ResNet-20 on CIFAR-10, trained by plain torch, by fake quantization, or by quatrain.

    python examples/cifar10.py train --contender torch --epochs 5 --data-dir DIR -o torch.json
    python examples/cifar10.py train --contender fakequant --epochs 5 --data-dir DIR -o fake.json
    python examples/cifar10.py train --contender quatrain --epochs 5 --data-dir DIR -o quatrain.json
    python examples/cifar10.py plot torch.json fake.json quatrain.json -o curves.svg

``--compile`` runs the first two under torch.compile. All contenders see the same initial weights
and the same batches, and share the schedule: SGD with Nesterov momentum 0.9, weight decay 5e-4, one
cycle up to a rate of 0.2.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR

import quatrain
from quatrain.tools.batches import accuracy, batches_per_epoch, train_batches
from quatrain.tools.data import Dataset, load_data
from quatrain.tools.fakequant import clips, fake_quantize, keep_clips_positive
from quatrain.tools.models import resnet20

RATE, MOMENTUM, DECAY, CLIP_DECAY = 0.2, 0.9, 5e-4, 5e-4
RECIPES = {
    "torch": ("fp32",),
    "fakequant": ("ultra_low_4bit",),
    "quatrain": ("ultra_low_4bit", "fp32"),
}


@dataclass(frozen=True)
class Contender:
    """One way to train: a whole step, a forward in eval mode, and the optimizer to schedule."""

    step: Callable[[Tensor, Tensor], Tensor]
    predict: Callable[[Tensor], Tensor]
    optimizer: SGD


@dataclass(frozen=True)
class Epoch:
    """Mean training loss, test accuracy (0..1) and the seconds that the training part took."""

    epoch: int
    loss: float
    test_accuracy: float
    seconds: float


def sgd(groups: list[dict[str, object]]) -> SGD:
    """The optimizer of all contenders."""
    return SGD(groups, lr=RATE, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY)


def in_torch(model: nn.Module, optimizer: SGD, compiled: bool) -> Contender:
    """Plain PyTorch, also for the fake-quantized model (of which it keeps the clips positive)."""
    call = torch.compile(model) if compiled else model

    def step(x: Tensor, y: Tensor) -> Tensor:
        model.train()
        optimizer.zero_grad()
        loss = cross_entropy(call(x), y)
        loss.backward()
        optimizer.step()
        keep_clips_positive(model)
        return loss.detach()

    def predict(x: Tensor) -> Tensor:
        model.eval()
        with torch.no_grad():
            output: Tensor = call(x)
        return output

    return Contender(step, predict, optimizer)


def contender(args: argparse.Namespace, example: tuple[Tensor, Tensor]) -> Contender:
    """The contender that ``args`` names, with the weights that ``args.seed`` gives."""
    torch.manual_seed(args.seed)
    model: nn.Module = resnet20()
    if args.contender == "quatrain":
        optimizer = sgd([{"params": model.parameters()}])
        step = quatrain.compile(
            model,
            cross_entropy,
            example,
            optimizer,
            recipe=args.recipe,
            target=args.target,
            seed=args.seed,
        )
        return Contender(step, step.predict, optimizer)
    model = model.to(example[0].device)
    groups: list[dict[str, object]] = [{"params": list(model.parameters())}]
    if args.contender == "fakequant":
        model = fake_quantize(model).to(example[0].device)
        groups.append({"params": clips(model), "weight_decay": CLIP_DECAY})
    return in_torch(model, sgd(groups), args.compile)


def train(args: argparse.Namespace) -> None:
    """Train one contender; print a line and rewrite the JSON after each epoch."""
    if args.threads:
        torch.set_num_threads(args.threads)
        os.environ["QUATRAIN_THREADS"] = str(args.threads)
    device = "cuda" if args.target == "cuda" else "cpu"
    data = load_data("cifar10", args.data_dir)
    count = min(args.steps or batches_per_epoch(data, args.batch), len(data.x_train) // args.batch)
    x, y = next(train_batches(data, args.batch, seed=args.seed))
    runner = contender(args, (torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)))
    # Momentum stays at 0.9, as the recipe says; torch's default would move it against the rate.
    schedule = OneCycleLR(
        runner.optimizer, RATE, total_steps=args.epochs * count, cycle_momentum=False
    )
    history: list[Epoch] = []
    for epoch in range(args.epochs):
        began = time.perf_counter()
        losses = train_epoch(runner, schedule, data, args, epoch, count)
        seconds = time.perf_counter() - began
        share = evaluate(runner, data, args)
        history.append(Epoch(epoch + 1, float(np.mean(losses)), share, seconds))
        line = "epoch {epoch}  loss {loss:.4f}  test accuracy {test_accuracy:.2%}  {seconds:.1f} s"
        print(line.format(**asdict(history[-1])), flush=True)
        write(args, history)


def train_epoch(
    runner: Contender,
    schedule: OneCycleLR,
    data: Dataset,
    args: argparse.Namespace,
    epoch: int,
    count: int,
) -> list[float]:
    """The loss of each of ``count`` steps."""
    device = "cuda" if args.target == "cuda" else "cpu"
    losses = []
    stream = train_batches(data, args.batch, seed=args.seed, epoch=epoch)
    for _, (x, y) in zip(range(count), stream, strict=False):
        loss = runner.step(torch.from_numpy(x).to(device), torch.from_numpy(y).to(device))
        losses.append(float(loss))
        schedule.step()
    return losses


def evaluate(runner: Contender, data: Dataset, args: argparse.Namespace) -> float:
    """Accuracy on the test images, 0..1."""
    device = "cuda" if args.target == "cuda" else "cpu"

    def predict(x: np.ndarray) -> np.ndarray:
        return runner.predict(torch.from_numpy(x).to(device)).float().cpu().numpy()

    return accuracy(predict, data, args.batch)


def write(args: argparse.Namespace, history: list[Epoch]) -> None:
    """What was asked and what came out, as JSON."""
    asked = {k: v for k, v in vars(args).items() if k not in ("run", "output", "data_dir")}
    versions = {"torch": torch.__version__, "quatrain": quatrain.__version__}
    found = asked | {"versions": versions, "history": [asdict(e) for e in history]}
    args.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def plot(args: argparse.Namespace) -> None:
    """Curves of several runs, a color a contender: training loss and test accuracy over epochs."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    colors: dict[str, str] = {}
    for path in args.runs:
        run = json.loads(path.read_text(encoding="utf-8"))
        epochs = [e["epoch"] for e in run["history"]]
        name = f"{run['contender']} {run['recipe']}"
        label = name if name not in colors else None
        color = colors.setdefault(name, f"C{len(colors)}")
        style = {"marker": ".", "color": color, "alpha": 0.7}
        left.plot(epochs, [e["loss"] for e in run["history"]], label=label, **style)
        right.plot(epochs, [100 * e["test_accuracy"] for e in run["history"]], **style)
    left.set(xlabel="epoch", ylabel="training loss")
    right.set(xlabel="epoch", ylabel="test accuracy, %")
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
    left.legend()
    figure.savefig(args.output)
    print(args.output)


def parse() -> argparse.Namespace:
    """The command line; the recipe defaults to the contender's first."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    modes = parser.add_subparsers(required=True)
    one = modes.add_parser("train", help="train one contender")
    one.set_defaults(run=train)
    one.add_argument("--contender", choices=RECIPES, required=True)
    one.add_argument("--recipe", choices=("fp32", "ultra_low_4bit"))
    one.add_argument("--epochs", type=int, default=5)
    one.add_argument("--steps", type=int, help="steps per epoch, for a short look")
    one.add_argument("--batch", type=int, default=128)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--target", default="cpu", help="cpu, cuda or, for quatrain, reference")
    one.add_argument("--threads", type=int)
    one.add_argument("--compile", action="store_true", help="torch, fakequant: torch.compile")
    one.add_argument("--data-dir", help="folder of CIFAR-10 (default: QUATRAIN_DATA)")
    one.add_argument("-o", "--output", type=Path, default=Path("run.json"))
    several = modes.add_parser("plot", help="draw the curves of several runs")
    several.set_defaults(run=plot)
    several.add_argument("runs", type=Path, nargs="+")
    several.add_argument("-o", "--output", type=Path, default=Path("curves.svg"))
    args = parser.parse_args()
    if args.run is train:
        args.recipe = args.recipe or RECIPES[args.contender][0]
        if args.recipe not in RECIPES[args.contender]:
            one.error(f"{args.contender} trains in {RECIPES[args.contender][0]} only")
        if args.compile and args.contender == "quatrain":
            one.error("--compile is for torch and fakequant; quatrain always compiles")
    return args


if __name__ == "__main__":
    arguments = parse()
    try:
        arguments.run(arguments)
    except quatrain.QuatrainError as error:
        raise SystemExit(str(error)) from error

"""fp32 against eager PyTorch: single steps from eager's state, then free steps.

    python -m tests.parity --networks resnet20 vgg11_bn resnet18 bottleneck_resnet --batch 128

Single steps: the compiled step starts from eager's parameters, buffers and momenta; after one step
each parameter and buffer is compared (norm of the difference over the norm), and the distances of
both to the same step in float64. Free steps: both run on their own; their distances to an eager run
in float64 are compared. A ReLU that flips between two sums that differ in the last bit throws one
run off by far more than rounding does: at a small batch whether it happens is luck.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import quatrain
from quatrain.runtime.step import Step
from quatrain.tools import models
from quatrain.tools.batches import train_batches
from quatrain.tools.data import load_data

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet20": models.resnet20,
    "vgg11_bn": models.vgg11_bn,
    "resnet18": models.resnet18,
    "bottleneck_resnet": models.bottleneck_resnet,
}
Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Singles:
    """Largest relative difference after a single step and where, and the lower quartile of the
    steps; ``own`` is the largest between eager and float64. ``near`` are the lower quartiles of the
    distances to float64: of the compiled step, of eager.

    A number near 0 that f32 sums of two orders put on different sides of a ReLU makes a step
    differ far beyond rounding, in half of the steps of some networks; an error does so in all."""

    single: float
    worst: str
    typical: float
    own: float
    near: tuple[float, float]


@dataclass(frozen=True)
class Parity:
    """Single steps, and the distances to float64 after free steps: of ours, of eager."""

    singles: Singles
    ours: float
    eager: float


def batches(count: int, size: int, data_dir: str | None) -> list[Batch]:
    """CIFAR-10, or noise of its shape without a data folder."""
    if data_dir is None:
        generator = torch.Generator().manual_seed(0)
        return [
            (
                torch.randn(size, 3, 32, 32, generator=generator),
                torch.randint(10, (size,), generator=generator),
            )
            for _ in range(count)
        ]
    stream = train_batches(load_data("cifar10", data_dir), size, seed=0)
    return [
        (torch.from_numpy(x), torch.from_numpy(y))
        for _, (x, y) in zip(range(count), stream, strict=False)
    ]


def optimizer(model: nn.Module, nesterov: bool) -> torch.optim.SGD:
    """SGD with momentum 0.9, weight decay 5e-4 and rate 0.01."""
    return torch.optim.SGD(
        model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=nesterov
    )


def eager_step(model: nn.Module, sgd: torch.optim.Optimizer, batch: Batch) -> None:
    """One step of plain PyTorch."""
    sgd.zero_grad()
    loss = cross_entropy(model(batch[0]), batch[1])
    loss.backward()
    sgd.step()


def state_of(model: nn.Module, sgd: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Parameters, buffers and momenta by the names that a step gives them."""
    state = {k: v.detach().clone() for k, v in model.state_dict().items()}
    for name, p in model.named_parameters():
        buffer = sgd.state.get(p, {}).get("momentum_buffer")
        if buffer is not None:
            state[f"{name}.momentum"] = buffer.clone()
    return state


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> Iterator[tuple[float, str]]:
    """Norm of the difference over the norm, for each floating value of ``b``."""
    for name, wanted in b.items():
        if wanted.is_floating_point():
            gap = (a[name].double() - wanted.double()).norm()
            yield float(gap / wanted.double().norm().clamp(min=1e-30)), name


def single_steps(step: Step, model: nn.Module, nesterov: bool, data: list[Batch]) -> Singles:
    """After each batch, every step starting from eager's state."""
    model = copy.deepcopy(model)
    sgd = optimizer(model, nesterov)
    worst, near, own = list[tuple[float, str]](), [], 0.0
    for i, (x, y) in enumerate(data):
        step.load_state({**state_of(model, sgd), "step": torch.tensor(i)})
        double = copy.deepcopy(model).double()
        wide = optimizer(double, nesterov)
        wide.load_state_dict(copy.deepcopy(sgd.state_dict()))  # which takes momenta to float64
        eager_step(double, wide, (x.double(), y))
        eager_step(model, sgd, (x, y))
        step(x, y)
        worst.append(max(distance(step.state, model.state_dict())))
        truth = double.state_dict()
        own = max(own, max(distance(model.state_dict(), truth))[0])
        near.append([total(state, truth) for state in (step.state_dict(), model.state_dict())])
    ours, eager = np.quantile(near, 0.25, axis=0)
    typical = float(np.quantile([size for size, _ in worst], 0.25))
    return Singles(*max(worst), typical, own, (float(ours), float(eager)))


def free_steps(
    step: Step, model: nn.Module, nesterov: bool, data: list[Batch]
) -> tuple[float, float]:
    """Distances to the float64 run after all batches: of the step, and of eager float32."""
    single, double = copy.deepcopy(model), copy.deepcopy(model).double()
    runs = [(single, optimizer(single, nesterov)), (double, optimizer(double, nesterov))]
    for x, y in data:
        step(x, y)
        eager_step(*runs[0], (x, y))
        eager_step(*runs[1], (x.double(), y))
    truth = double.state_dict()
    return total(step.state_dict(), truth), total(single.state_dict(), truth)


def total(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Distance of all parameters taken as one vector, over its norm."""
    names = [k for k, v in b.items() if v.is_floating_point()]
    gap = sum(float((a[k].double() - b[k].double()).square().sum()) for k in names)
    return float(np.sqrt(gap / sum(float(b[k].double().square().sum()) for k in names)))


def parity(network: str, nesterov: bool, data: list[Batch], singles: int, target: str) -> Parity:
    """Both comparisons for one network."""
    torch.manual_seed(0)
    model = NETWORKS[network]()

    def compiled() -> Step:
        sgd = optimizer(model, nesterov)
        return quatrain.compile(model, cross_entropy, data[0], sgd, recipe="fp32", target=target)

    alone = single_steps(compiled(), model, nesterov, data[:singles])
    return Parity(alone, *free_steps(compiled(), model, nesterov, data))


def main() -> None:
    """Print one line for each network and optimizer."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=sorted(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--singles", type=int, default=3, help="steps from eager's state")
    parser.add_argument("--steps", type=int, default=20, help="free steps")
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--data-dir", help="folder of CIFAR-10; noise without it")
    args = parser.parse_args()
    data = batches(args.steps, args.batch, args.data_dir)
    for network in args.networks:
        for nesterov in (False, True):
            p = parity(network, nesterov, data, args.singles, args.target)
            kind = "nesterov" if nesterov else "momentum"
            print(
                f"{network:18} {kind}  single step {p.singles.single:.1e} ({p.singles.worst}), "
                f"eager from float64 {p.singles.own:.1e}  "
                f"free: {p.ours:.2e} ours, {p.eager:.2e} eager, ratio {p.ours / p.eager:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

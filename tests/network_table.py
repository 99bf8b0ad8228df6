"""Networks times optimizers: single steps of ``fp32`` beside PyTorch, kernels of 4 bits exact.

    python -m tests.network_table --networks mlp gpt --optimizers sgd adam

Single steps begin at eager's state, also after eager has trained. ReLUs are replaced by SiLUs, which
have no kink on which a sum's last bit could decide, and dropout is off, because torch draws other
masks; the 4-bit kernels are compared with both as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

import quatrain
from quatrain.compiler.ir.optimizers import kept_name
from quatrain.runtime.step import Step
from quatrain.targets.cpu.info import detect

from .cases.networks import NETWORKS, Network
from .exactness import compare, given

Make = Callable[[Any], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Make] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=5e-4),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3, eps=1e-4),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3, eps=1e-4),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, eps=1e-4),
}
SINGLE_STEPS = 3
# A bias whose true gradient is 0 has only rounding in it: it moves by far less than a rate of 1e-3.
NOTHING = 1e-5


def smooth(model: nn.Module) -> nn.Module:
    """Without kinks and without dropout."""
    for name, child in model.named_children():
        if isinstance(child, nn.ReLU):
            setattr(model, name, nn.SiLU())
        elif isinstance(child, nn.Dropout):
            setattr(model, name, nn.Identity())
        else:
            smooth(child)
    return model


def eager_state(
    step: Step, model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Eager's parameters, buffers and what its optimizer keeps, as the step names them."""
    names = step.source.model_state
    state = {names[k]: v.detach().clone() for k, v in model.state_dict().items() if k in names}
    kept = step.source.optimizer.groups[0].of.kept
    for key, parameter in model.named_parameters():
        for one in kept:
            tensor = optimizer.state.get(parameter, {}).get(one.theirs)
            name = kept_name(names[key], one.ours)
            if tensor is not None and name in step.state:
                state[name] = tensor.detach().clone()
    return state


def single_steps(network: Network, make: Make) -> tuple[float, str]:
    """The largest relative difference of a parameter or buffer after a step, and whose it is."""
    torch.manual_seed(0)
    worst, where = 0.0, ""
    with mock.patch("torch.relu", nn.functional.silu):
        model = smooth(network.make())
        optimizer = make(model.parameters())
        step = quatrain.compile(model, network.loss, network.batch(), optimizer, recipe="fp32")
        for turn in range(SINGLE_STEPS):
            x, y = network.batch()
            state = eager_state(step, model, optimizer)
            step.load_state({**state, "step": torch.tensor(turn)})
            step(x, y)
            optimizer.zero_grad()
            network.loss(model(x), y).backward()
            optimizer.step()
            for name, away in differences(step, model):
                if away > worst:
                    worst, where = away, name
    return worst, where


def differences(step: Step, model: nn.Module) -> Iterator[tuple[str, float]]:
    """Norm of the difference over the norm, for all that is not 0."""
    made = step.state_dict()
    for name, tensor in model.state_dict().items():
        size = float(tensor.norm()) if tensor.is_floating_point() else 0.0
        if size > NOTHING * tensor.numel() ** 0.5:
            yield name, float((made[name] - tensor).norm()) / size


def wrong_kernels(network: Network, make: Make) -> list[str]:
    """Kernels of the 4-bit step that differ from the reference."""
    torch.manual_seed(0)
    model, batch = network.make(), network.batch()
    optimizer = make(model.parameters())
    step = quatrain.compile(
        model, network.loss, batch, optimizer, recipe="ultra_low_4bit", target="reference"
    )
    return [str(m) for m in compare(step.program, given(step, batch), detect())]


def main() -> None:
    """Print the table, a line for each pair."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument(
        "--optimizers", nargs="*", default=list(OPTIMIZERS), choices=list(OPTIMIZERS)
    )
    args = parser.parse_args()
    for name in args.networks:
        for kind in args.optimizers:
            network, make = NETWORKS[name], OPTIMIZERS[kind]
            worst, where = single_steps(network, make)
            wrong = wrong_kernels(network, make)
            four = "; ".join(wrong[:3]) or "equal the reference"
            print(
                f"{name:17} {kind:9} fp32 {worst:.1e} ({where})  4-bit kernels {four}", flush=True
            )


if __name__ == "__main__":
    main()

"""The task of a workload: model, loss, optimizer and a batch of noise, alike in each process."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from .. import factory, models
from ..bare_flags import BareFlags
from ..bare_model import task_of
from ..driver import Task
from .plan import NETWORKS, Workload

SEED, CLASSES, IMAGE = 0, 10, (3, 32, 32)
RATE, MOMENTUM, DECAY = 0.01, 0.9, 5e-4
MLP = (1024, 4096, 4096, 4096, CLASSES)
Sizes = Sequence[int]


def task(workload: Workload, *, fused: bool) -> Task:
    """The task of a workload; ``fused`` asks for PyTorch's fastest update."""
    if workload.network not in NETWORKS:
        made = factory.make(workload.network)
        return task_of(made, workload.network, BareFlags(), workload.batch, SEED)
    torch.manual_seed(SEED)
    model = BUILDERS[workload.network](workload.width, workload.depth)
    sgd = torch.optim.SGD(
        model.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY, fused=fused or None
    )
    shape = IMAGE if NETWORKS[workload.network].images else (MLP[0],)
    assert workload.batch is not None, workload
    x = torch.randn(workload.batch, *shape)
    return Task(model, cross_entropy, sgd, (x, torch.randint(CLASSES, (workload.batch,))))


def _times(sizes: Sizes, factor: float) -> tuple[int, ...]:
    return tuple(max(1, round(n * factor)) for n in sizes)


def _resnet20(width: float, depth: float) -> nn.Module:
    return models.ResNet(_times((16, 32, 64), width), _times((3, 3, 3), depth))


def _resnet18(width: float, depth: float) -> nn.Module:
    return models.ResNet(_times((64, 128, 256, 512), width), _times((2, 2, 2, 2), depth))


def _vgg11_bn(width: float, depth: float) -> nn.Module:
    groups = [_times(g, width) for g in models.VGG11]
    return models.vgg11_bn(groups=[g[:1] * _times([len(g)], depth)[0] for g in groups])


def _mobilenetv2(width: float, depth: float) -> nn.Module:
    return models.mobilenetv2(width, depth=depth)


def _mlp(width: float, depth: float) -> nn.Module:
    hidden = _times(MLP[1:2], width) * _times([len(MLP) - 2], depth)[0]
    return models.mlp((MLP[0], *hidden, MLP[-1]))


BUILDERS: dict[str, Callable[[float, float], nn.Module]] = {
    "resnet20": _resnet20,
    "resnet18": _resnet18,
    "vgg11_bn": _vgg11_bn,
    "mobilenetv2": _mobilenetv2,
    "mlp": _mlp,
}


def operations(model: nn.Module, x: Tensor) -> int:
    """Products and additions of all convolutions and linear layers in one step.

    Forward, dW, and dX where the layer's input needs a gradient; nothing is computed for it.
    """
    found = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> None:
        nonlocal found
        assert isinstance(layer.weight, Tensor)
        directions = 2 + inputs[0].requires_grad
        found += 2 * y.numel() * layer.weight[0].numel() * directions

    shadow = copy.deepcopy(model).to("meta").train()
    for layer in shadow.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    shadow(x.to("meta"))
    return found

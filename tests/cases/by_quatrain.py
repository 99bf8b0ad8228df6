"""Models under ``torch.compile(model, backend="quatrain")``, for tests of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

FLOATS = {"rtol": 1e-5, "atol": 1e-6}  # sums of f32 in another order


def chosen(recipe: str = "fp32", target: str = "reference", **more: object) -> dict[str, Any]:
    """Options that compile no kernels, unless others are asked for."""
    return {"recipe": recipe, "target": target, **more}


def by_quatrain(model: nn.Module, **options: Any) -> nn.Module:
    """The model as torch.compile gives it back."""
    made = torch.compile(model, backend="quatrain", options=chosen(**options))
    assert isinstance(made, nn.Module)
    return made


def perceptron() -> nn.Sequential:
    """Three layers, of which recipes of 4 bits quantize the second, and dropout."""
    torch.manual_seed(2)
    layers = (nn.Linear(7, 13), nn.Dropout(0.3), nn.Linear(13, 13), nn.ReLU(), nn.Linear(13, 3))
    return nn.Sequential(*layers)

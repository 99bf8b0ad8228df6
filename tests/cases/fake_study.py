"""Processes of a study that train nothing, a tiny data set, and a tiny network for real ones."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quatrain.tools.bench.process import ContenderFailed
from quatrain.tools.study import processes

SOURCE = """
import quatrain, torch
from torch import nn

def task():
    model = nn.Sequential(
        nn.Conv2d(1, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5), nn.ReLU(),
        nn.Conv2d(5, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5), nn.ReLU(),
        nn.Flatten(), nn.Linear(45, 3),
    )
    example = torch.zeros(3, 1, 3, 3), torch.zeros(3, dtype=torch.int64)
    sgd = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    return quatrain.Task(model, nn.functional.cross_entropy, sgd, example)
"""


GEMM = {"formats": "f32 x f32", "unit": "-", "gemms": 3, "macs": 8, "share": 1.0}
BILL = {
    "macs": 8, "exempt_share": 0.0, "saved_bytes": 2048, "planned_bytes": None,
    "bit_operations": {"giga_per_step": 0.5, "share_of_f32": 1.0},
    "classes": [GEMM], "widths": {"4": 0.0, "8": 0.0, "16": 0.0, "32": 1.0},
}  # fmt: skip


LAYERS = [
    {"name": "0", "op": "conv2d", "macs": 0.25, "exempt": True},
    {"name": "3", "op": "conv2d", "macs": 0.5, "exempt": False},
    {"name": "7", "op": "linear", "macs": 0.25, "exempt": True},
]


class Fake:
    """A process that trains nothing: it fails for one recipe, and remembers what was built."""

    built: list[tuple[str, str]]
    rates: list[float]
    failing = ""
    interrupt_at: int | None = None
    alive = True

    def __init__(self, variables: object = None, folder: object = None) -> None:
        self.request: Mapping[str, Any] = {}
        self.shot = -1

    def ask(self, do: str, limit: float, **details: Any) -> dict[str, Any]:
        if do == "build":
            if len(self.built) == self.interrupt_at:
                raise KeyboardInterrupt
            self.request, self.shot = details, -1
            self.built.append((details["recipe"], details["part"]))
            self.rates.append(details["script"]["lr"])
            if details["recipe"] == self.failing:
                raise ContenderFailed("RecipeError: it does not work")
            stands = {"done": 1, "remark": ""}
            return self._shoot(do) if details.get("rows") else {"seconds": 1.0, **stands}
        if self.request.get("rows"):
            return self._shoot(do)
        if do == "run":
            return {"seconds": [0.25 if self.request["options"] else 0.5] * details["steps"]}
        if self.request["part"] == "layers":
            return {"layers": LAYERS}
        right = 0.5 + 0.25 * self.request["seed"]
        facts = {"accuracy": right, "loss": 1.0, "bill": BILL, "peak_bytes": 1}
        return {**facts, "done": self.request["script"]["steps"], "remark": ""}

    def _shoot(self, do: str) -> dict[str, Any]:
        """One step of the next row; that of the layer ``failing`` fails."""
        if do != "facts":
            self.shot += 1
            if self.request["rows"][self.shot]["options"].get("exempt") == self.failing:
                raise ContenderFailed("RecipeError: it does not work")
            return {"seconds": [0.5]}
        gap = {"equal": False, "sqnr": 10.0 - self.shot, "cosine": 0.9 - self.shot / 10}
        layers = {x["name"]: {"y": gap, "dw": gap} for x in LAYERS}
        means = {"outputs": gap, "gradients": gap, "layers": layers, "left": 0.875}
        means["cosines"] = [gap["cosine"]] * self.request["batches"]
        return {"loss": [2.0, 2.5], **means, "peak_bytes": 1}

    def dismiss(self) -> None:
        pass

    def close(self, patience: float = 0.0) -> None:
        pass


def tiny_data(folder: Path) -> Path:
    """Nineteen training images of three classes, 3x3, and seven for testing."""
    rng = np.random.default_rng(0)
    y = np.arange(26) % 3
    x = rng.random((26, 1, 3, 3), np.float32) / 4 + y.reshape(-1, 1, 1, 1).astype(np.float32) / 3
    path = folder / "tiny.npz"
    np.savez(path, x_train=x[:19], y_train=y[:19], x_test=x[19:], y_test=y[19:])
    return path


def faked(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Fake]]:
    """Let a study's processes be fake ones for a test."""
    monkeypatch.setattr(processes, "Worker", Fake)
    monkeypatch.setattr("quatrain.tools.bench.rounds.PAUSE_SECONDS", 0.0)
    Fake.built, Fake.rates = [], []
    yield Fake
    Fake.failing, Fake.interrupt_at = "", None

"""``quatrain bench --predict``: a step by a GPU's published peaks, beside PyTorch's roofline."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from quatrain.tools import terminal

from ..cases.commands import Quatrain

pytestmark = pytest.mark.torch

SOURCE = """
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import quatrain

def task():
    conv = lambda n: nn.Conv2d(n, 32, 3, padding=1, bias=False)
    layers = [part for n in (3, 32, 32) for part in (conv(n), nn.BatchNorm2d(32), nn.ReLU())]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    return quatrain.Task(model, cross_entropy, sgd, (torch.zeros(64, 3, 16, 16), torch.zeros(64).long()))
"""
# Of the three convolutions, with no dX of the first, and of the linear layer.
MACS = 64 * 256 * 32 * 9 * (2 * 3 + 3 * 32 + 3 * 32) + 3 * 64 * 32 * 10


@pytest.fixture
def network(tmp_path: Path) -> str:
    path = tmp_path / "net.py"
    path.write_text(SOURCE)
    return f"{path}:task"


def predicted(quatrain: Quatrain, *words: str) -> Mapping[str, Any]:
    (found,) = json.loads(quatrain("bench", *words, "--predict", "--json"))["predictions"]
    assert isinstance(found, dict) and found["measured"] is False
    return found


def test_steps_and_kernels(quatrain: Quatrain, network: str) -> None:
    found = predicted(quatrain, network, "--target", "cuda:sm_90")
    ours, *others = found["steps"]
    torch = others[-1]
    assert found["gpu"] == "H100 SXM" and torch["name"] == "PyTorch bf16, roofline"
    # Ours count two for each of a gradient in FP4 where tensor cores take bytes.
    assert torch["products"] == MACS <= ours["products"] <= 2 * MACS
    assert torch["launches"] is None and "launches" not in torch["bounds"]
    assert ours["seconds"] >= max(ours["path"], 1e-6)
    assert 0 < ours["saved_bytes"] < torch["saved_bytes"]
    for kernels in found["kernels"].values():
        assert sum(k["products"] * k["count"] for k in kernels) >= MACS
        assert {k["bound"] for k in kernels} <= {"memory", "products", "launches"}


def test_options_of_the_recipe(quatrain: Quatrain, network: str) -> None:
    words = (network, "--target", "cuda:sm_90")
    whole = predicted(quatrain, *words)["steps"][0]["saved_bytes"]
    less = predicted(quatrain, *words, "--set", "recompute=bn_input")["steps"][0]["saved_bytes"]
    assert less < whole


def test_tables_fit(quatrain: Quatrain, network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "FILE_WIDTH", 80)
    text = quatrain("bench", network, "--predict", "--target", "cuda:sm_90")
    assert max(map(len, text.splitlines())) <= 80
    assert "Predicted from published peaks; not measured." in text
    for word in ("net.py:task on H100 SXM", "x torch", "as planned", "PyTorch bf16, roofline"):
        assert word in text


@pytest.mark.parametrize("target", ["cpu", "cuda", "cuda:sm_75"])
def test_a_target_without_published_peaks(quatrain: Quatrain, network: str, target: str) -> None:
    error = quatrain("bench", network, "--predict", "--target", target, status=2)
    assert "--target cuda:sm_90" in error and "sm_120" in error


def test_one_benchmark_at_a_time(quatrain: Quatrain, network: str) -> None:
    assert "give one" in quatrain("bench", network, "--predict", "--profile", status=2)
    wrong = quatrain(
        "bench", network, "--predict", "--target", "cuda:sm_90", "--only", "torch*", status=2
    )
    assert "--predict looks into one step of quatrain" in wrong

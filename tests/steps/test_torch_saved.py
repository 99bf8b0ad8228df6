"""The bill's PyTorch column: what saved-tensor hooks count in a run of the same forward."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import quatrain
from quatrain.compiler.capture.saved import kept_by_torch, kept_in_training
from quatrain.compiler.errors import FileError
from quatrain.runtime.bundle import read, write

pytestmark = pytest.mark.torch


class Net(nn.Module):
    """Calls a function on the layers that it holds."""

    def __init__(self, forward: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.call = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, x)


def attention(net: Any, x: Tensor) -> Tensor:
    out: Tensor = net.h(net.t(x, x, x, need_weights=False)[0].mean(1))
    return out


def twice(net: Any, x: Tensor) -> Tensor:
    out: Tensor = net.h(torch.exp(net.a(net.a(x)).tanh() * x).mean(1)) / (1 + x.square().sum())
    return out


SEQUENCES, IMAGES = (8, 12, 16), (4, 3, 13, 7)
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "attention": (
        lambda: Net(
            attention, t=nn.MultiheadAttention(16, 4, batch_first=True), h=nn.Linear(16, 5)
        ),
        SEQUENCES,
    ),
    "functions": (lambda: Net(twice, a=nn.Linear(16, 16), h=nn.Linear(16, 5)), SEQUENCES),
    "layer norm": (
        lambda: nn.Sequential(nn.LayerNorm(16), nn.GELU(), nn.Flatten(), nn.Linear(192, 5)),
        SEQUENCES,
    ),
    "encoder": (
        lambda: nn.Sequential(
            nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), nn.Flatten(), nn.Linear(192, 5)
        ),
        SEQUENCES,
    ),
    "images": (
        lambda: nn.Sequential(
            *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 6, 3), nn.GroupNorm(2, 6), nn.SiLU(), nn.Dropout(0.1)),
            *(nn.AvgPool2d((2, 1)), nn.Flatten(), nn.Linear(12, 5)),
        ),
        IMAGES,
    ),
    "frozen": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3).requires_grad_(False), nn.ReLU(), nn.Flatten(), nn.Linear(440, 5)
        ),
        IMAGES,
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_as_hooks_count_in_a_real_run(name: str) -> None:
    make, shape = MODELS[name]
    torch.manual_seed(0)
    model, x, y = make(), torch.randn(shape), torch.randint(5, (shape[0],))
    own = (*model.parameters(), *model.buffers(), x, y)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    kept = kept_in_training(model, F.cross_entropy, (x, y))
    assert kept is not None
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    real = kept_by_torch(lambda: F.cross_entropy(model(x), y), own)
    assert sorted((k.shape, k.bytes) for k in kept) == sorted((k.shape, k.bytes) for k in real)


def test_each_has_its_layer_and_function() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5))
    batch = torch.randn(7, 3), torch.randint(5, (7,))
    kept = kept_in_training(model, F.cross_entropy, batch)
    assert kept is not None
    assert [(k.layer, k.function) for k in kept[:2]] == [("1", "relu"), ("loss", "cross_entropy")]


def test_the_bill_of_a_step_and_of_its_file(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5))
    batch = torch.randn(7, 3), torch.randint(5, (7,))
    rate = torch.optim.SGD(model.parameters(), lr=0.1)
    step = quatrain.compile(model, F.cross_entropy, batch, rate, target="reference")
    path = tmp_path / "net.qtn"
    step.save(path)
    own = (*model.parameters(), *batch)
    real = kept_by_torch(lambda: F.cross_entropy(model(batch[0]), batch[1]), own)
    assert step.report().torch_bytes == sum(k.bytes for k in real)
    assert quatrain.load(path).report().torch_saved == step.report().torch_saved


@pytest.mark.parametrize("wrong", [3, [3], [{}], [{"layer": "", "function": "", "shape": 3}]])
def test_a_file_that_garbles_it(tmp_path: Path, wrong: object) -> None:
    model = nn.Linear(3, 4)
    batch = torch.randn(7, 3), torch.randint(4, (7,))
    rate = torch.optim.SGD(model.parameters(), lr=0.1)
    path = tmp_path / "net.qtn"
    quatrain.compile(model, F.cross_entropy, batch, rate, target="reference").save(path)
    bundle = read(path)
    bundle.manifest["torch_saved"] = wrong  # type: ignore[index]
    write(bundle, path)
    with pytest.raises(FileError, match=r"manifest.json lacks or garbles"):
        quatrain.load(path)


def test_a_model_that_does_not_run_without_numbers(caplog: pytest.LogCaptureFixture) -> None:
    """The column is missing then, and a line says so."""
    model = Net(lambda net, x: net.h(x) * float(x.sum()), h=nn.Linear(3, 4))
    assert (
        kept_in_training(model, F.cross_entropy, (torch.randn(2, 3), torch.tensor([0, 1]))) is None
    )
    assert "PyTorch's column" in caplog.text

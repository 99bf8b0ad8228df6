"""Layers of any name: in every recipe, in files, in the words of the step."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import quatrain
from quatrain.runtime.step import Step

KEYS = ("conv-1", "a b, c", "x=y(z)", "läufer#2", "-", "two\nlines ", "#", "1'")

pytestmark = pytest.mark.torch


class Keyed(nn.Module):
    """A layer of each key, one behind the other; each but the first is a residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({key: nn.Conv2d(6, 6, 1) for key in KEYS})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.parts[KEYS[0]](x))
        for key in KEYS[1:]:
            x = torch.relu(x + self.parts[key](x))
        return x.mean((2, 3))


def test_no_two_layers_share_a_name_in_the_program() -> None:
    step, _ = made("fp32")
    origins = {op.origin for _, op in step.program.ops() if op.kind == "conv2d"}
    assert len(origins) == len(KEYS)


@pytest.mark.parametrize("recipe", quatrain.recipes())
def test_what_save_writes_load_reads(recipe: str, tmp_path: Path) -> None:
    step, batch = made(recipe)
    step.save(tmp_path / "a.qtn")
    again = quatrain.load(tmp_path / "a.qtn")
    again.save(tmp_path / "b.qtn")
    assert (tmp_path / "a.qtn").read_bytes() == (tmp_path / "b.qtn").read_bytes()
    assert step.state_dict().keys() == Keyed().state_dict().keys()
    assert torch.equal(again.predict(batch[0]), step.predict(batch[0]))


def made(recipe: str) -> tuple[Step, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    model = Keyed()
    batch = torch.randn(4, 6, 3, 2), torch.tensor([0, 5, 2, 1])
    sgd = torch.optim.SGD(model.parameters(), 0.1)
    step = quatrain.compile(model, cross_entropy, batch, sgd, recipe=recipe, target="reference")
    return step, batch

"""``step.report().html()``: the page of a step in Python, as text and as a file."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import quatrain
from quatrain.runtime.step import Step

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def step() -> Step:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 5), nn.ReLU(), nn.Linear(5, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    example = torch.randn(4, 1, 3, 3), torch.randint(3, (4,))
    return quatrain.compile(model, cross_entropy, example, optimizer, target="reference")


def test_the_page_is_text_or_a_file(step: Step, tmp_path: Path) -> None:
    report, path = step.report(), tmp_path / "net.html"
    text = report.html()
    assert text.startswith("<!DOCTYPE html>") and all(name in text for name in step.passes)
    report.html(path)
    assert path.read_text(encoding="utf-8") == text
    assert str(report).startswith("program")


def test_it_is_the_page_of_the_saved_step(step: Step, tmp_path: Path) -> None:
    step.save(tmp_path / "net.qtn")
    assert quatrain.load(tmp_path / "net.qtn").report().html() == step.report().html()


def test_a_place_that_is_none(step: Step, tmp_path: Path) -> None:
    report = step.report()
    with pytest.raises(quatrain.QuatrainError, match="is no folder; make it first"):
        report.html(tmp_path / "nowhere" / "net.html")
    with pytest.raises(quatrain.QuatrainError, match="7 is no name of a file"):
        report.html(7)  # type: ignore[call-overload]
    assert not [*tmp_path.iterdir()]

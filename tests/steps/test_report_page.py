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


def test_the_page_of_what_was_watched(step: Step, tmp_path: Path) -> None:
    batch = torch.randn(4, 1, 3, 3), torch.randint(3, (4,))
    with step.watch("*", every=1, to=tmp_path / "run") as watcher:
        for _ in range(2):
            step(*batch)
    report = step.report()
    text = report.html(watched=watcher)
    assert 'id="watched"' in text and "at 2 looks" in text
    assert report.html(watched=watcher.rows()) == text
    written = report.html(watched=tmp_path / "run")
    assert written.replace("from run", "from step.watch") == text
    report.html(tmp_path / "net.html", watched=str(tmp_path / "run" / "watch.jsonl"))
    assert 'id="watched"' in (tmp_path / "net.html").read_text(encoding="utf-8")


def test_what_was_not_watched_of_it(step: Step, tmp_path: Path) -> None:
    report, path = step.report(), tmp_path / "net.html"
    with pytest.raises(quatrain.QuatrainError, match="watched is 7; give what"):
        report.html(path, watched=7)  # type: ignore[call-overload]
    with pytest.raises(quatrain.QuatrainError, match="there is no file dy; step"):
        report.html(path, watched="dy")
    with pytest.raises(quatrain.QuatrainError, match="no step was looked at"):
        report.html(path, watched=step.watch("dy"))
    assert not [*tmp_path.iterdir()]

"""quatrain.compare: two steps of a Python program, and a task's file on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import quatrain
from quatrain.compiler.errors import InputError, UsageError
from quatrain.runtime.step import Step

from ..cases.commands import Quatrain

pytestmark = pytest.mark.torch
TASK = """
import torch, quatrain
from torch.nn.functional import cross_entropy

def task():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    example = torch.randn(4, 6), torch.arange(4) % 3
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    return quatrain.Task(model=model, loss=cross_entropy, optimizer=optimizer, example=example)
"""


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 6, generator=generator), torch.arange(4) % 3


def step(recipe: str) -> Step:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    options = {"exempt": "none"} if recipe == "int4" else {}
    return quatrain.compile(
        model, cross_entropy, batch(), optimizer, recipe=recipe, options=options, target="reference"
    )


def test_two_steps_part_where_the_recipe_begins_and_nothing_moves() -> None:
    a, b = step("fp32"), step("int4")
    before = [s.state for s in (a, b)]
    made = quatrain.compare(a, b, batch())
    for one, held in zip((a, b), before, strict=True):
        assert all(torch.equal(held[k], v) for k, v in one.state.items())
    assert made.first is not None and made.first.row.name == "0.y"
    rows = {row.name: row for row in made.rows}
    weight = rows["0.weight"].distance
    assert rows["0.xq"].where.value == "only in B" and weight is not None and weight.equal
    text = str(made)
    assert "first to part: 0.y (forward, layer 0)" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "nothing that both have parts" in str(quatrain.compare(a, a, batch()))


def test_the_page_is_text_or_a_file(tmp_path: Path) -> None:
    made = quatrain.compare(step("fp32"), step("int4"), batch())
    text = made.html()
    assert text.startswith("<!DOCTYPE html>") and "first to part" in text
    made.html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == text
    with pytest.raises(quatrain.QuatrainError, match="is no folder; make it first"):
        made.html(tmp_path / "nowhere" / "page.html")


def test_both_start_from_the_state_of_the_first() -> None:
    a, b = step("fp32"), step("fp32")
    for _ in range(2):
        a(*batch())
    assert quatrain.compare(a, b, batch()).first is None
    assert b.state["0.weight"].ne(a.state["0.weight"]).any()


@pytest.mark.parametrize(
    ("changed", "error", "hint"),
    [
        ({"step_b": "net.qtn"}, UsageError, "'net.qtn' is no step"),
        ({"batch": torch.zeros(4, 6)}, InputError, "give its tensors together, as (x, y)"),
        ({"batch": (torch.zeros(4, 6),)}, InputError, "the batch has 1 tensors"),
        (
            {"batch": (torch.zeros(5, 6), torch.zeros(4))},
            InputError,
            "x is given with shape [5, 6]",
        ),
        ({"batch": (torch.zeros(4, 6), torch.full((4,), 3))}, InputError, "the label 3"),
        ({"tolerance": -1.0}, UsageError, "tolerance is -1.0"),
        ({"tolerance": "1"}, UsageError, "tolerance is '1'"),
    ],
)
def test_mistakes(changed: dict[str, object], error: type[Exception], hint: str) -> None:
    a = step("fp32")
    given: dict[str, object] = {"step_a": a, "step_b": a, "batch": batch(), **changed}
    with pytest.raises(error) as caught:
        quatrain.compare(**given)  # type: ignore[arg-type]
    assert hint in str(caught.value)


def test_a_task_is_captured_once_and_its_example_is_the_batch(
    tmp_path: Path, quatrain: Quatrain
) -> None:
    file = tmp_path / "task.py"
    file.write_text(TASK)
    words = ("compare", f"{file}:task", "--recipe-b", "int4", "--set-b", "exempt=none", "--json")
    made = json.loads(quatrain(*words, status=1))
    assert made["first"]["name"] == "0.y" and made["a"].endswith("task, as captured, on reference")
    labels = next(row for row in made["rows"] if row["type_a"] == "i64[4]")
    assert labels["distance"]["equal"]
    assert json.loads(quatrain(*words, "--bisect", status=1))["found"] == "sawb_weights"

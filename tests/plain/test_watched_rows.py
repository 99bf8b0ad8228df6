"""quatrain watched: numbers of a watched run over its steps, as tables and as data."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from quatrain.runtime.watched.row import Exponents, WatchRow
from quatrain.runtime.watching.files import json_line
from quatrain.tools.watched_rows import MOST_STEPS

from ..cases.commands import Quatrain

BINS = Exponents(0, (3, 5))
PLAIN = WatchRow(0, "", "", "", "", "", "f32", None, 8, 1.0, 0.0, 1.0, BINS)


def named(layer: str, role: str, step: int) -> WatchRow:
    name = f"{layer}.{role}"
    return replace(PLAIN, step=step, name=name, layer=layer, role=role, of=name, value=name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three tensors over eight looks; f32 stood beside two of them."""
    rows = []
    for step in range(0, 80, 10):
        dy = replace(named("a", "dy", step), name="a.dy.dx", format="bf16", quantized="fp4.even*p")
        rows += [replace(dy, rms=2.0**-step, underflow=step / 100), named("a", "w", step)]
    rows += [replace(named("b", "var", step), error=0.25) for step in (0, 50)]
    (tmp_path / "watch.jsonl").write_text("".join(map(json_line, rows)))
    return tmp_path


def test_a_number_over_the_steps(quatrain: Quatrain, folder: Path) -> None:
    text = quatrain("watched", folder, "--of", "dy", "--show", "rms,underflow")
    assert "rms over the steps" in text and "underflow over the steps" in text
    (head, _) = [line.split()[1:] for line in text.splitlines() if line.startswith(" tensor")]
    assert len(head) == MOST_STEPS and (head[0], head[-1]) == ("0", "70")
    (_, last) = [line.split() for line in text.splitlines() if line.startswith(" a.dy.dx")]
    assert last[1:3] == ["0.0", "%"] and last[-2:] == ["70.0", "%"]


def test_as_data_it_has_all_steps(quatrain: Quatrain, folder: Path) -> None:
    (row,) = json.loads(quatrain("watched", folder, "--of", "a.dy.*", "--show", "rms", "--json"))[
        "rows"
    ]
    assert row["format"] == "fp4.even*p" and len(row["steps"]) == 8
    assert row["steps"]["70"] == 2.0**-70
    (same,) = json.loads(quatrain("watched", folder, "--of", "a.dy", "--show", "rms", "--json"))[
        "rows"
    ]
    assert same == row
    every = json.loads(quatrain("watched", folder, "--show", "rms", "--json"))["rows"]
    assert [r["name"] for r in every] == ["a.dy.dx", "a.w", "b.var"]


def test_a_step_that_does_not_know_a_number_is_empty(quatrain: Quatrain, folder: Path) -> None:
    text = quatrain("watched", folder, "--of", "var,dy", "--show", "error")
    assert [line.split() for line in text.splitlines() if "b.var" in line] == [
        ["b.var", "0.25", "0.25"]
    ]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("--show", "snqr"), "did you mean 'sqnr'?"),
        (("--of", "dz"), "no tensor fits 'dz'; "),
        (("--of", "dy,dz"), "no tensor fits 'dz'; "),
        (
            ("--of", "var", "--show", "sqnr"),
            "no tensor that fits has sqnr; they have largest, mean, rms, error",
        ),
        (("--of", "w"), "no tensor that fits has sqnr; they have largest, mean, rms"),
    ],
)
def test_a_mistake_is_one_line(
    quatrain: Quatrain, folder: Path, words: tuple[str, ...], hint: str
) -> None:
    assert hint in quatrain("watched", folder, *words, status=2)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (None, "there is no file"),
        ("", "no step was looked at yet"),
        ('{"step": 1}\n', "line 1 is no row of a watched step"),
        ("[1]\n", "line 1 is no row of a watched step"),
        ("{\n", "line 1 is no row of a watched step"),
        ('{"step": 1', "no step was looked at yet"),
    ],
)
def test_another_folder(quatrain: Quatrain, tmp_path: Path, text: str | None, hint: str) -> None:
    if text is not None:
        (tmp_path / "watch.jsonl").write_text(text)
        assert hint in quatrain("watched", tmp_path / "watch.jsonl", status=2)
    assert hint in quatrain("watched", tmp_path, status=2)

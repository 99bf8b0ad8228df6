"""quatrain watched: numbers of a watched run over its steps, as tables and as data."""

import json
from pathlib import Path

import pytest

from quatrain.tools.watched_rows import MOST_STEPS

from ..cases.commands import Quatrain


def named(layer: str, role: str) -> dict[str, object]:
    return {"name": f"{layer}.{role}", "layer": layer, "role": role, "format": "f32"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three tensors over eight looks; f32 stood beside two of them."""
    rows = []
    for step in range(0, 80, 10):
        dy = {
            "name": "a.dy.dx",
            "layer": "a",
            "role": "dy",
            "format": "bf16",
            "quantized": "fp4.even*p",
        }
        rows += [
            {"step": step, **dy, "rms": 2.0**-step, "underflow": step / 100},
            {"step": step, **named("a", "w"), "sqnr": None, "rms": 1},
        ]
    for step in (0, 50):
        rows.append({"step": step, **named("b", "var"), "error": 0.25})
    (tmp_path / "watch.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
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
    assert [r["name"] for r in every] == ["a.dy.dx", "a.w"]


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
        (("--of", "var", "--show", "sqnr"), "no tensor that fits has sqnr; they have error"),
        (("--of", "w"), "no tensor that fits has sqnr; they have rms"),
    ],
)
def test_a_mistake_is_one_line(
    quatrain: Quatrain, folder: Path, words: tuple[str, ...], hint: str
) -> None:
    assert hint in quatrain("watched", folder, *words, status=2)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (None, "has no watch.jsonl; run --watch-to"),
        ("", "no step has been looked at yet"),
        ('{"step": 1}\n', "holds no rows of a watched step"),
        ("[1]\n", "holds no rows of a watched step"),
        ("{\n", "holds no rows of a watched step"),
        ('{"step": 1', "no step has been looked at yet"),
    ],
)
def test_another_folder(quatrain: Quatrain, tmp_path: Path, text: str | None, hint: str) -> None:
    if text is not None:
        (tmp_path / "watch.jsonl").write_text(text)
        assert "is a file" in quatrain("watched", tmp_path / "watch.jsonl", status=2)
    assert hint in quatrain("watched", tmp_path, status=2)

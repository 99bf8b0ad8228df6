"""What was watched on the page: read from files, drawn, refused where not its own."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from quatrain.compiler.errors import FileError, InputError
from quatrain.runtime.page.belonging import of_step
from quatrain.runtime.page.render import page
from quatrain.runtime.page.source import WatchedRows
from quatrain.runtime.page.troubles import in_trouble
from quatrain.runtime.page.watched import watched_run
from quatrain.runtime.page.watched_tables import layer_table, norm_table
from quatrain.runtime.watched.reading import read_rows
from quatrain.runtime.watched.row import Exponents
from quatrain.runtime.watching.files import json_line, save_rows

from ..cases.commands import Quatrain
from ..cases.page_case import AWKWARD, ReadPage, source, write_network
from ..cases.watched_case import STEPS, watched_rows

SOURCE = source()
ROWS = watched_rows(SOURCE)
LAYERS = (AWKWARD, "bn", "fc")


def test_rows_come_back_from_a_file(tmp_path: Path) -> None:
    whole = [*ROWS[:-1], replace(ROWS[-1], sqnr=math.inf)]
    save_rows(whole, tmp_path / "watch.jsonl")
    assert read_rows(tmp_path) == read_rows(tmp_path / "watch.jsonl") == tuple(whole)
    text = (tmp_path / "watch.jsonl").read_text()
    (tmp_path / "cut.jsonl").write_text(text[:-40])
    assert read_rows(tmp_path / "cut.jsonl") == tuple(whole[:-1])
    (tmp_path / "again.jsonl").write_text(text + json_line(replace(ROWS[0], rms=7.0)))
    assert read_rows(tmp_path / "again.jsonl")[0].rms == 7.0


ROW = json.loads(json_line(ROWS[0]))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "holds no rows"),
        ("[]\n", "line 1 is no row of a watched step; step.watch"),
        ("step,name\n0,a\n", "line 1 is no row"),
        (json.dumps(ROW) + "\n" + '{"loss": 3}\n', "line 2 is no row"),
        (json.dumps(ROW | {"step": "0"}) + "\n", "line 1 is no row"),
        (json.dumps(ROW | {"rms": "small"}) + "\n", "line 1 is no row"),
        (json.dumps(ROW | {"before": [1]}) + "\n", "line 1 is no row"),
        ("\udcff", "is no text"),
    ],
)
def test_files_that_hold_none(tmp_path: Path, text: str, hint: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(FileError, match=hint):
        read_rows(path)


def test_a_place_without_rows(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"there is no file .*watch.jsonl; step.watch"):
        read_rows(tmp_path)


def test_rows_of_another_network_are_refused() -> None:
    foreign = [*ROWS, replace(ROWS[0], name="other.x", value="other")]
    with pytest.raises(InputError, match=r"tells of other\.x .the value other in bf16., which"):
        of_step(foreign, "w", SOURCE.stages)
    other = replace(ROWS[0], format="bf16" if ROWS[0].format == "f32" else "f32")
    with pytest.raises(InputError, match="by another recipe"):
        of_step([other], "w", SOURCE.stages)
    with pytest.raises(InputError, match="no step was looked at"):
        of_step([], "w", SOURCE.stages)
    assert of_step(ROWS[::-1], "w", SOURCE.stages).rows[0].step == STEPS[0]


def test_looks_are_thinned_out_and_those_beside_f32_stay() -> None:
    steps = tuple(range(0, 1000, 10))
    rows = [
        replace(row, step=step, cosine=0.5 if step % 50 == 0 else None)
        for step in steps
        for row in ROWS[:3]
    ]
    run = watched_run(rows, LAYERS, most=30)
    assert len(run.steps) == 10 and run.looks == 100
    assert run.steps[0] == 0 and run.steps[-1] == 990
    assert sum(step % 50 == 0 for step in run.steps) >= 5
    assert watched_run(rows, LAYERS).steps == steps
    assert len(watched_run(rows, LAYERS, most=1).steps) == 2


def test_the_last_numbers_by_layer_with_the_worst_marked() -> None:
    rows = [replace(r, scale=2.0**17) if r.role == "dy" else r for r in ROWS]
    made = layer_table(watched_run(rows, LAYERS))
    heads = [c.head for c in made.columns]
    assert [layer for layer, _ in made.rows] == [AWKWARD, "fc"]
    conv = dict(zip(heads, made.rows[0][1], strict=True))
    assert conv["x SQNR"] is not None and conv["dY scale"] is not None
    assert conv["x SQNR"].text == "18.0"
    assert conv["dY scale"].text == "2^17"
    fc = dict(zip(heads, made.rows[1][1], strict=True))
    # Of the first look, as it alone was beside f32.
    assert conv["dW cosine"] is not None and fc["dW cosine"] is not None
    assert (conv["dW cosine"].text, conv["dW cosine"].worst) == ("0.860", True)
    assert (fc["dW cosine"].text, fc["dW cosine"].worst) == ("0.900", False)
    norms = norm_table(watched_run(ROWS, LAYERS))
    assert [layer for layer, _ in norms.rows] == ["bn"]


def test_what_is_not_finite_comes_first() -> None:
    broken = replace(ROWS[-1], before=Exponents(0, (98,), nan=2), rms=math.nan)
    found = in_trouble([*ROWS[:-1], broken])
    assert (found[0].what, found[0].tensors[0][1]) == ("NaN or infinite", "2.0 %")
    assert next(t.what for t in in_trouble(ROWS)) == "lowest SQNR"


def test_the_page_has_curves_and_exponents_and_loads_nothing() -> None:
    text = page(replace(SOURCE, watched=WatchedRows(tuple(ROWS), "run")))
    read = ReadPage(text)
    ids = set(read.values("id"))
    assert {"watched", "exponents", "curves"} <= ids and not read.values("src")
    assert {h[1:] for h in read.values("href")} <= ids
    assert AWKWARD not in text and AWKWARD in read.values("data-open")
    found = read.data()["watched"]
    assert found["steps"] == list(STEPS)
    row = ROWS[0]
    one = next(t for t in found["tensors"] if t["name"] == row.name)
    assert (row.layer, row.role, row.sqnr) == (AWKWARD, "x", 20.0)
    assert one["before"][0] == [row.before.first, 100, 0, 100, 500, 300]
    assert one["curves"]["sqnr"] == [20.0, 19.0, 18.0]
    assert one["curves"]["cosine"] == [row.cosine, None, None] and "clip" not in one["curves"]
    assert "watched" not in set(ReadPage(page(SOURCE)).values("id"))


def test_on_the_command_line(quatrain: Quatrain, tmp_path: Path) -> None:
    network, path = write_network(tmp_path / "net.qtn"), tmp_path / "net.html"
    save_rows(ROWS, tmp_path / "watch.jsonl")
    assert quatrain("report", network, "--html", path, "--watched", tmp_path) == ""
    read = ReadPage(path.read_text(encoding="utf-8"))
    assert len(read.data()["watched"]["tensors"]) * len(STEPS) == len(ROWS)
    path.unlink()
    words = "report", network, "--watched", tmp_path
    assert "give --html FILE.html too" in quatrain(*words, status=2)
    (tmp_path / "watch.jsonl").write_text(json_line(replace(ROWS[0], value="other")))
    assert "by another recipe" in quatrain(*words, "--html", path, status=2)
    assert not path.exists()

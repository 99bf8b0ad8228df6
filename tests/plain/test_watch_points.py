"""What can be watched of a program, and by which words; what rows say, in files too."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from quatrain.compiler.errors import FileError, InputError
from quatrain.compiler.formats import F32, INT4, UINT8
from quatrain.compiler.ir import Value
from quatrain.compiler.ir.ops.measure import BINS
from quatrain.compiler.ir.text import parse
from quatrain.compiler.types import Scale, TensorType
from quatrain.passes.parts.watch_points import WatchPoint, chosen_points, watch_points
from quatrain.runtime.watched.row import Exponents, WatchRow, row_of
from quatrain.runtime.watched.worst import worst
from quatrain.runtime.watching.files import json_line, save_rows
from quatrain.runtime.watching.folder import WatchFolder
from quatrain.runtime.watching.oscillation import Oscillation
from quatrain.tools.watch_table import watch_table

GOLDEN = Path(__file__).parents[1] / "golden" / "watch.conv.qt"
PROGRAM = parse(GOLDEN.read_text().partition("=" * 72)[0])
ALL = ["conv.x", "conv.w", "conv.y", "conv.dy.dx", "conv.dy.dw", "conv.dx", "conv.dw"]


def test_the_points_of_a_layer() -> None:
    found = {p.name: p for p in watch_points(PROGRAM)}
    assert sorted(found) == sorted(ALL)
    even = found["conv.dy.dw"]
    assert (even.before.name, even.after and even.after.name) == ("dy", "conv.dys.even")
    assert even.scale is not None and even.scale.name == "s"
    assert found["conv.x"].after is None


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("dy", ["conv.dy.dx", "conv.dy.dw"]),
        ("*.dy", ["conv.dy.dx", "conv.dy.dw"]),
        ("conv.dy.dw", ["conv.dy.dw"]),
        ("conv.*", ALL),
        ("dw, x", ["conv.x", "conv.dw"]),
        ("conv.dys.even", ["conv.dy.dw"]),
        ("*", ALL),
    ],
)
def test_patterns(words: str, names: list[str]) -> None:
    assert sorted(p.name for p in chosen_points(PROGRAM, words)) == sorted(names)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("*.dz", "by role: x, w, y, dy, dx, dw"),
        ("conv.dx.", "did you mean 'conv.dx'? known: conv.dw, "),
        ("dy,fc.*", "no tensor of the step is called 'fc.*'"),
        (" , ", "nothing to watch is named"),
    ],
)
def test_patterns_that_mean_nothing(words: str, hint: str) -> None:
    with pytest.raises(InputError, match="watch") as e:
        chosen_points(PROGRAM, words)
    assert hint in str(e.value) and "\n" not in str(e.value)


def bins(zero: int = 0, **at: int) -> np.ndarray:
    """Counts of zeros and by exponent, ``e3=5``, ``m2=1`` for 2^-2."""
    made = np.zeros(BINS, np.int64)
    made[0] = zero
    for name, n in at.items():
        made[128 + int(name[1:]) * (-1 if name[0] == "m" else 1)] = n
    return made


def test_counts_by_exponent() -> None:
    made = bins(4, m2=1, e1=7)
    made[[1, 256, 257]] = 2, 3, 5
    found = Exponents.of(made)
    assert (found.first, found.counts) == (-2, (1, 0, 0, 7))
    assert (found.zero, found.subnormal, found.infinite, found.nan, found.total) == (4, 2, 3, 5, 22)
    assert Exponents.of(bins(3)) == Exponents(0, (), zero=3)


def row(step: int = 0, scale: Scale = Scale.TENSOR, **numbers: float) -> WatchRow:
    """A row of ten numbers, two of them 0; three of the others became 0."""
    f = INT4 if scale is Scale.TENSOR else UINT8
    q = Value("q", TensorType((10,), f, scale))
    point = WatchPoint("conv", "x", "", Value("v", TensorType((10,), F32)), q)
    known = {"largest": 3.0, "mean": 0.5, "xx": 40.0, "xq": 38.0, "error": 0.4, **numbers}
    arrays = {k: np.asarray(v, np.float32) for k, v in known.items()}
    counts = {"exponents": bins(2, e0=5, m3=3), "codes": bins(5, e0=5)}
    return row_of(step, point, arrays | counts, None)


def test_a_row() -> None:
    found = row(xf=30.0, ff=90.0, away=10.0)
    assert found.elements == 10 and found.rms == 2.0
    assert found.underflow == 3 / 8
    assert found.sqnr == pytest.approx(20.0) and found.gain == pytest.approx(0.95)
    assert found.cosine == pytest.approx(0.5) and found.error == pytest.approx(1 / 3)
    assert found.fp32_gain == pytest.approx(1 / 3)
    assert (found.clip, found.changed, row().cosine) == (None, None, None)


def test_a_row_of_numbers_that_are_none() -> None:
    assert row(scale=Scale.AFFINE).underflow is None  # its code 0 is another number
    assert row(error=0.0).sqnr == math.inf
    lost = row(xx=math.nan, xq=math.nan, error=math.inf, xf=1.0, ff=0.0, away=1.0)
    assert math.isnan(lost.rms) and (lost.sqnr, lost.cosine, lost.error) == (None, None, None)


def test_weights_that_go_to_and_fro() -> None:
    seen = Oscillation()
    codes = [[0, 0, 0, 0], [1, 1, -1, 0], [0, 2, -1, 0], [0, 1, 0, 0]]
    found = [seen.see(np.asarray(c, np.float32)) for c in codes]
    assert found == [None, (0.75, 0.0), (0.5, 0.25), (0.5, 0.5)]


def test_rows_in_files(tmp_path: Path) -> None:
    rows = [row(), row(50, error=0.0)]
    save_rows(rows, tmp_path / "a.jsonl")
    first, second = map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())
    assert first["before"]["counts"] == [3, 0, 0, 5] and "cosine" not in first
    assert (first["step"], second["step"], second["sqnr"]) == (0, 50, None)
    save_rows(rows, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["sqnr"]) for line in lines] == [pytest.approx(20.0), math.inf]
    assert lines[0]["cosine"] == "" and "before" not in lines[0]
    with pytest.raises(FileError, match=r"neither \.jsonl nor \.csv"):
        save_rows(rows, tmp_path / "a.xlsx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "a.jsonl"]


def test_a_folder_goes_on_with_the_steps_before(tmp_path: Path) -> None:
    place = tmp_path / "new" / "run"
    for done in (0, 100):
        folder = WatchFolder(place, done)
        folder.add([row(done), row(done + 50)])
        folder.add([row(done + 100)])
        folder.close()
    path = place / "watch.jsonl"
    path.write_text(path.read_text() + json_line(row(250))[:40])  # a run that was killed
    WatchFolder(place, 300).close()
    assert [json.loads(text)["step"] for text in path.read_text().splitlines()] == [
        *(0, 50, 100, 150, 200)
    ]


def test_folders_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="it is a file; name a folder"):
        WatchFolder(tmp_path / "file", 0)
    (tmp_path / "watch.jsonl").write_text('{"loss": 3}\n')
    with pytest.raises(FileError, match="holds no rows of a watched step"):
        WatchFolder(tmp_path, 0)
    assert (tmp_path / "watch.jsonl").read_text() == '{"loss": 3}\n'


def test_the_worst_ones() -> None:
    rows = [row(0, error=40.0), row(50), row(50, saturated=0.25, xf=1.0, ff=90.0, away=1.0)]
    found = worst(rows)
    assert [len(found[why]) for why in ("lowest SQNR", "most underflow")] == [2, 2]
    assert found["most clipped"] == found["far from f32"] == [rows[2]]
    assert "2 looks" in str(watch_table(rows).title)

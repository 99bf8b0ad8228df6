"""The page of a comparison: one file that loads nothing, and says where two programs part."""

from __future__ import annotations

from pathlib import Path

import pytest

from quatrain.compiler.ir.text import parse
from quatrain.targets.registry import BindOptions
from quatrain.tools.compare.align import Comparison, compare_ran
from quatrain.tools.compare.network import Named
from quatrain.tools.compare.side import SideWish, given_to, ran, side

from ..cases.bill_programs import CAPTURED
from ..cases.browser import needs_browser, seen
from ..cases.commands import Quatrain
from ..cases.page_case import AWKWARD, ReadPage

RIGHT = CAPTURED.replace("# conv\n", f"# {AWKWARD}\n")
# Weights two times as large: everything from the convolution on is off.
WRONG = RIGHT.replace(
    "  a = conv2d(x, conv.w)", "  wide = scale(conv.w) {factor=2.0} : f32[13x5x3x3]\n  a = conv2d(x, wide)"
)  # fmt: skip


def compared(right: str, wrong: str, tolerance: float = 0.0) -> Comparison:
    """Both texts on one batch, on the reference."""
    networks = [Named(name, parse(text), None, None, {}, ()) for name, text in
                (("<i>right.qt", right), ("wrong.qt", wrong))]  # fmt: skip
    a, b = (side(network, SideWish()) for network in networks)
    given = given_to(a, b, {}, 0)
    first, second = (ran(s, given.to(s), 0, BindOptions()) for s in (a, b))
    return compare_ran(first, second, tolerance)


def test_it_loads_nothing_and_names_are_text() -> None:
    text = compared(RIGHT, WRONG).html()
    read = ReadPage(text)
    assert not read.values("src") and all(h.startswith("#") for h in read.values("href"))
    ids = read.values("id")
    assert len(ids) == len(set(ids)) and {h[1:] for h in read.values("href")} <= {*ids}
    assert AWKWARD not in text and "<i>right" not in text
    assert any("default-src 'none'" in content for content in read.values("content"))


def test_it_says_what_the_table_says() -> None:
    made = compared(RIGHT, WRONG)
    read = ReadPage(made.html())
    assert read.texts["b"][:2] == [str(len(made.parted)), "a"]
    assert [t.partition(" {")[0] for t in read.texts["pre"]] == [
        "a = conv2d(x, conv.w)",
        "a = conv2d(x, wide)",
    ]
    shown = [row for row in made.rows if not row.again]
    data = read.data()
    assert [v["name"] for v in data["values"]] == [row.name for row in shown]
    assert [int(flag) for flag in read.values("data-parts")] == [int(row.parts(0)) for row in shown]
    assert data["first"]["name"] == "a" and data["stages"]["names"] == ["A", "B"]
    assert len(data["stages"]["edits"]) == 1 and data["stages"]["edits"][0]


def test_programs_that_agree() -> None:
    made = compared(RIGHT, RIGHT)
    text = made.html()
    assert "Nothing that both have parts" in text and "the same text" in text
    assert ReadPage(text).data()["first"] is None
    within = compared(RIGHT, WRONG, 10.0).html()
    assert "parts by more than 10 of the largest number" in within


CLICKS = """
found.around = $("#around")?.textContent || "";
found.points = $$("#points circle").length;
found.ticks = $$("#points rect").length;
$("#points circle").dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
found.point = $("#point").textContent;
const shown = () => $$(".values tbody tr").filter((r) => !r.hidden).map((r) => r.cells[0].textContent);
found.parts = shown();
choose("order", "worst"); found.worst = shown()[0];
choose("order", "place"); choose("which", "all"); choose("find", "conv.w");
found.found = shown();
for (const measure of ["sqnr", "cosine", "codes"]) choose("measure", measure);
found.program = $("#program h3").textContent;
found.columns = $("#program tr:not(.gap)")?.children.length;
$("#earlier").click();
found.text = $("#program pre").textContent;
"""


@needs_browser
def test_in_a_browser(tmp_path: Path) -> None:
    made = compared(RIGHT, WRONG)
    found = seen(made.html(), tmp_path, CLICKS)
    assert found["wrong"] == []
    assert "wide = scale(conv.w)" in found["around"] and "a = conv2d(x, wide)" in found["around"]
    known = [row for row in made.rows if not row.again]
    drawn = [row for row in known if row.distance and row.distance.relative]
    assert found["points"] == len(drawn) + 1  # and a ring around the first
    assert found["ticks"] == sum(row.distance is None or row.distance.equal for row in known)
    assert found["point"].startswith("a: conv2d of ") and "relative error" in found["point"]
    assert found["parts"] == [row.name for row in made.parted]
    worst = max(made.parted, key=lambda row: (row.distance and row.distance.relative) or 0)
    assert found["worst"] == worst.name and "wide" not in found["parts"]
    assert set(found["found"]) >= {"conv.w"} and all("conv" in n for n in found["found"])
    assert found["program"] == "from A to B" and found["columns"] == 4
    assert found["text"].splitlines() == str(made.programs[0]).splitlines()
    same = seen(
        compared(RIGHT, RIGHT).html(), tmp_path, "found.rows = $('.values tbody').rows.length;"
    )
    assert same == {"wrong": [], "rows": len(known) - 1}


def test_on_the_command_line(quatrain: Quatrain, tmp_path: Path) -> None:
    for name, text in (("right.qt", CAPTURED), ("wrong.qt", WRONG)):
        (tmp_path / name).write_text(text)
    words = "compare", tmp_path / "right.qt", tmp_path / "wrong.qt"
    path = tmp_path / "page.html"
    assert "first to part: a" in quatrain(*words, "--html", path, status=1)
    read = ReadPage(path.read_text(encoding="utf-8"))
    assert read.data()["first"]["name"] == "a" and path.stat().st_size < 100_000


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("--html", "{tmp}/page.txt"), "page.txt'; for example net.html"),
        (("--html", "{tmp}/nowhere/page.html"), "is no folder; make it first"),
        (("--html", "{tmp}/page.html", "--bisect"), "compare with --after-b PASS --html"),
    ],
)
def test_mistakes_write_nothing(
    quatrain: Quatrain, tmp_path: Path, words: tuple[str, ...], hint: str
) -> None:
    (tmp_path / "a.qt").write_text(CAPTURED)
    given = [word.format(tmp=tmp_path) for word in words]
    assert hint in quatrain("compare", tmp_path / "a.qt", tmp_path / "a.qt", *given, status=2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.qt"]

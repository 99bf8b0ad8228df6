"""quatrain opt: passes from quatrain and from a person's file, what changed nothing, bad texts."""

from pathlib import Path

import pytest

from quatrain.compiler.ir.text import parse, show
from quatrain.passes.recipe import load_recipe
from quatrain.tools import dump
from quatrain.tools.cli import main
from tests.cases.bill_programs import CAPTURED
from tests.cases.residual import resnet

MINE = """
from dataclasses import replace

def widen(program, *, factor: float = 2.0, names: str = "none"):
    def rule(region, op):
        if op.kind != "relu":
            return None
        return (replace(op, kind="scale", attrs={"factor": factor}),)
    return program.rewrite(rule)
"""
Result = tuple[int, str, str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder to work in, with a captured program and a pass of one's own."""
    (tmp_path / "net.qt").write_text(CAPTURED)
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def opt(capsys: pytest.CaptureFixture[str], *words: str) -> Result:
    status = main(["opt", *words])
    return status, *capsys.readouterr()


def test_a_pass_of_ones_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("net.qt", "--pass", "mine.py:widen:factor=3,names=a,b", "--pass", "./mine.py:widen")
    status, out, err = opt(capsys, *words)
    assert (status, err) == (0, "widen#2 changed nothing\n")
    made = parse(out)
    assert {op.float_attr("factor") for _, op in made.ops() if op.kind == "scale"} == {3.0}
    assert made.history == ("widen", "widen")


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("mine.py:wide", "defines no function 'wide'; did you mean 'widen'?"),
        ("mine.py:widen:factr=3", "widen has no option 'factr'; did you mean 'factor'?"),
        ("mine.py:widen:3", "'3' is no key=value; mine.py:widen:factor=2.0,names=none"),
        ("mine.py:widen:factor=x", "option factor of widen must be a finite number, not 'x'"),
        ("gone.py:f", "the pass 'gone.py:f' is not there"),
        ("mine.py", "no pass is called 'mine.py'; one of your own is FILE.py:FUNCTION"),
        ("sawb_weights:bits=6", "bits of sawb_weights must be 2, 3, 4, 5, 7 or 8, not '6'"),
    ],
)
def test_mistakes_in_pass_words(
    folder: Path, capsys: pytest.CaptureFixture[str], word: str, hint: str
) -> None:
    status, _, err = opt(capsys, "net.qt", "--pass", word)
    assert status == 2 and hint in err and err.count("\n") == 1


def test_a_pass_that_changed_nothing_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    idle = "two_phase_rounding:phase=odd_dx"
    words = ("net.qt", "--pass", idle, "--pass", "sawb_weights:exempt=none")
    status, out, err = opt(capsys, *words)
    assert (status, err) == (0, "two_phase_rounding changed nothing\n")
    assert parse(out).history == ("two_phase_rounding", "sawb_weights")
    assert opt(capsys, "net.qt")[2] == "", "no pass ran"


def test_a_text_that_lost_a_line_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = show(resnet()).splitlines()
    for start, hint in {"return ": "no line 'return NAMES'", "next ": "line {}: update, "}.items():
        cut = next(i for i, line in enumerate(lines) if line.startswith(start))
        value = lines[cut].split()[-1]
        Path("cut.qt").write_text("\n".join(lines[:cut] + lines[cut + 1 :]))
        status, _, err = opt(capsys, "cut.qt")
        made = next(i for i, t in enumerate(lines, 1) if t.lstrip().startswith(value))
        assert status == 2 and err.startswith("error: cut.qt: ") and hint.format(made) in err


def test_a_dump_replaces_an_older_one_and_nothing_else(tmp_path: Path) -> None:
    program = resnet()
    mine = {"notes.txt": "program x", "05-note.qt": "my own", "x-lower.qt": "program x"}
    for name, text in mine.items():
        (tmp_path / name).write_text(text)
    for name in ("ultra_low_4bit", "fp32"):
        load_recipe(name).apply(program, dump.observer(tmp_path, program))
    assert {p.name for p in tmp_path.iterdir()} == {*mine, "00-lower.qt", "01-canonicalize.qt"}
    assert all((tmp_path / name).read_text() == text for name, text in mine.items())
    assert (tmp_path / "00-lower.qt").read_text() == show(program)


def test_idle_looks_past_the_line_of_the_history() -> None:
    a, b = "program p\nx\n", "program p\nafter a, b\nx\n"
    assert dump.idle([("one", a), ("two", b), ("three", f"{b}y\n")]) == ["two"]

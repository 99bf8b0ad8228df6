"""A pass that fails leaves a file that repeats it; a command of a person's after each change."""

import sys
from pathlib import Path

import pytest

from quatrain.compiler.errors import QuatrainError, RecipeError
from quatrain.compiler.ir.text import parse, show
from quatrain.passes.recipe import load_recipe
from quatrain.passes.recipe.recipe import PassEntry
from quatrain.tools import dump, env
from quatrain.tools.reproducer import repeatable

from ..cases.bill_programs import CAPTURED
from ..cases.commands import Quatrain

MINE = """
from dataclasses import replace

def fails(program, *, n: int = 3):
    return [1][n]

def breaks(program, *, n: int = 3):
    return replace(program, regions=program.regions[1:])
"""
GOOD = ("--pass", "sawb_weights:exempt=none")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder to work in; temporary files go to a folder in it."""
    (tmp_path / "net.qt").write_text(CAPTURED)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "tmp").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fails", "the pass 'fails' failed at mine.py:5 with IndexError"),
        ("breaks", "after pass breaks: backward, layer loss: one is read before it is defined"),
    ],
)
def test_a_failure_can_be_repeated_from_one_file(
    folder: Path, quatrain: Quatrain, name: str, said: str
) -> None:
    word = f"mine.py:{name}:n=7"
    error = quatrain("opt", "net.qt", *GOOD, "--pass", word, status=2)
    (path,) = (folder / "tmp").iterdir()
    assert said in error and f"; to repeat it, {path} says how" in error
    text = path.read_text()
    assert said in text and f"# again: quatrain opt {path} --pass {word}\n" in text
    assert parse(text).history == ("sawb_weights",), "what the pass was given"
    assert said in quatrain("opt", path, "--pass", word, status=2)
    assert quatrain("opt", path) == show(parse(text))


def test_with_a_folder_for_dumps_it_lies_beside_them(folder: Path, quatrain: Quatrain) -> None:
    words = ("opt", "net.qt", *GOOD, "--dump-dir", "ir")
    assert "ir/failed-fails.qt says how" in quatrain(*words, "--pass", "mine.py:fails", status=2)
    assert [p.name for p in sorted(Path("ir").iterdir())] == [
        "00-lower.qt", "01-sawb_weights.qt", "failed-fails.qt",
    ]  # fmt: skip
    quatrain(*words, "--pass", "canonicalize")
    assert [p.name for p in sorted(Path("ir").iterdir())] == [
        "00-lower.qt", "01-sawb_weights.qt", "02-canonicalize.qt",
    ]  # fmt: skip
    assert not list((folder / "tmp").iterdir())


def test_a_text_among_dumps_is_not_replaced_by_its_own(
    folder: Path, quatrain: Quatrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    quatrain("opt", "net.qt", *GOOD, "--dump-dir", "ir")
    before = {p: p.read_text() for p in Path("ir").iterdir()}
    words = ("opt", "ir/01-sawb_weights.qt", "--pass", "grad_scale")
    error = quatrain(*words, "--dump-dir", "ir", status=2)
    assert "lies in ir, whose dumps a new one replaces; name another folder" in error
    monkeypatch.setenv(env.DUMP, "ir")
    quatrain(*words)
    assert {p: p.read_text() for p in Path("ir").iterdir()} == before


def test_a_refusal_of_a_pass_is_no_bug(folder: Path, quatrain: Quatrain) -> None:
    words = ("opt", "net.qt", "--pass", "sawb_weights:exempt=cov")
    assert "to repeat it" not in quatrain(*words, status=2)
    assert not list((folder / "tmp").iterdir())
    error = quatrain(*words, "--dump-dir", "ir", status=2)
    assert "did you mean 'conv'?" in error and "ir/failed-sawb_weights.qt says how" in error


def test_a_pass_of_quatrain_that_raises_is_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise KeyError("lost")

    monkeypatch.setattr(PassEntry, "run", fails)
    with (
        pytest.raises(
            RecipeError, match="the pass canonicalize failed with KeyError: 'lost'; "
        ) as e,
        repeatable(),
    ):
        load_recipe("fp32").apply(parse(CAPTURED))
    assert isinstance(e.value.__cause__, KeyError), "a developer sees where"
    assert len(list((folder / "tmp").iterdir())) == 1


def test_a_failure_is_told_where_nothing_can_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(env.DUMP, "mine.py")
    recipe = load_recipe("fp32")
    with pytest.raises(QuatrainError, match="no layer with a GEMM") as e, repeatable():
        recipe.followed_by("sawb_weights", exempt="cov").apply(parse(CAPTURED))
    assert "to repeat it" not in str(e.value)


def test_dumps_mark_passes_that_changed_nothing(folder: Path, quatrain: Quatrain) -> None:
    quatrain("opt", "net.qt", *GOOD, "--pass", "canonicalize", "--dump-dir", "ir")
    mark = "# the pass canonicalize changed nothing\n"
    texts = [p.read_text() for p in sorted(Path("ir").iterdir())]
    assert [text.startswith(mark) for text in texts] == [False, False, True]
    assert texts[2].removeprefix(mark) == show(parse(texts[2]))
    assert dump.idle([("one", texts[1]), ("two", texts[2].removeprefix(mark))]) == ["two"]


def script(folder: Path, *lines: str) -> str:
    """A command that runs lines of Python with its words."""
    (folder / "script.py").write_text("import sys, pathlib\n" + "\n".join(lines))
    return f"{sys.executable} script.py"


LOG = "pathlib.Path('log').open('a').write(pathlib.Path(sys.argv[1]).read_text())"
PASSES = (*GOOD, "--pass", "grad_scale", "--pass", "pact_activations:exempt=none")


def test_a_command_runs_after_each_pass_that_changed_the_program(
    folder: Path, quatrain: Quatrain
) -> None:
    text = quatrain("opt", "net.qt", *PASSES, "--exec-on-change", script(folder, LOG))
    seen = [p for p in Path("log").read_text().split("program ") if p]
    assert [parse(f"program {p}").history for p in seen] == [
        ("sawb_weights",),
        ("sawb_weights", "grad_scale", "pact_activations"),
    ]
    assert parse(text).history == parse(f"program {seen[-1]}").history
    assert not list((folder / "tmp").iterdir())


def test_words_in_braces_are_filled_in(folder: Path, quatrain: Quatrain) -> None:
    write = "pathlib.Path('log').write_text(' '.join(sys.argv[1:]))"
    command = script(folder, write) + " --of={pass} --in={} end"
    quatrain("opt", "net.qt", *GOOD, "--exec-on-change", command, "--dump-dir", "ir")
    assert Path("log").read_text() == "--of=sawb_weights --in=ir/01-sawb_weights.qt end"


def test_a_status_stops_and_names_the_pass(folder: Path, quatrain: Quatrain) -> None:
    guilty = "sys.exit(7 * ('pact_activations' in pathlib.Path(sys.argv[1]).read_text()))"
    words = ("opt", "net.qt", *PASSES, "-o", "out.qt", "--exec-on-change", script(folder, guilty))
    error = quatrain(*words, status=2)
    assert (
        f"after pass pact_activations: {sys.executable} ended with status 7; the text is" in error
    )
    (path,) = (folder / "tmp").iterdir()
    assert error.rstrip().endswith(str(path)) and parse(path.read_text())
    assert not Path("out.qt").exists()


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("", "--exec-on-change is empty"),
        ("no-such-program {}", "there is no program 'no-such-program' to run"),
        ("sh -c 'x", "No closing quotation"),
    ],
)
def test_mistakes_in_a_command(folder: Path, quatrain: Quatrain, command: str, hint: str) -> None:
    assert hint in quatrain("opt", "net.qt", *GOOD, "--exec-on-change", command, status=2)

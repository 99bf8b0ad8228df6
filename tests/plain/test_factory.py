"""Factories of the command line: every way to get one wrong is one sentence with its place."""

from pathlib import Path

import pytest

from quatrain.compiler.errors import FileError, QuatrainError, UsageError
from quatrain.tools import factory, files
from quatrain.tools.arguments import pairs, sizes
from quatrain.tools.bare_flags import BareFlags
from quatrain.tools.cli import one_line

SOURCE = """import sys
import beside_it

number = 3

def good():
    return beside_it.VALUE

def with_argument(x):
    return x

def raises():
    return inner()

def inner():
    raise ValueError("two\\nlines")

def leaves():
    sys.exit(7)

def deep():
    import json
    return json.loads("{")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "beside_it.py").write_text("VALUE = 'made'\n")
    path = tmp_path / "some_task.py"
    path.write_text(SOURCE)
    return path


def line_of(text: str) -> int:
    return next(i for i, t in enumerate(SOURCE.splitlines(), 1) if text in t)


def test_a_file_may_import_what_lies_beside_it(file: Path) -> None:
    assert factory.make(f"{file}:good") == "made"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{0}:god", ("did you mean 'good'?",)),
        ("{0}:number", ("is a int",)),
        ("{0}", ("FILE.py:FACTORY",)),
        ("{0}:", ("FILE.py:FACTORY",)),
        ("{0}:a-b", ("FILE.py:FACTORY",)),
        ("task.txt:f", ("FILE.py:FACTORY",)),
        ("nothing.py:f", ("there is no file nothing.py",)),
        ("{0}:with_argument", ("some_task.py: ", "TypeError", "'x'")),
        ("{0}:raises", ("some_task.py:{raise_line}: raises() raised ValueError: two",)),
        ("{0}:leaves", ("exits with 7",)),
        ("{0}:deep", ("some_task.py:{deep_line}: ", "JSONDecodeError")),
    ],
)
def test_mistakes(file: Path, spec: str, words: tuple[str, ...]) -> None:
    places = {"raise_line": line_of("raise ValueError"), "deep_line": line_of("json.loads")}
    with pytest.raises(QuatrainError) as caught:
        factory.make(spec.format(file))
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word.format(**places) in message


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("def f(:\n", "broken.py:1: "),
        ("\nimport no_such_module\n", "broken.py:2: the file raised ModuleNotFoundError"),
        ("x = 1\n", "known: no function at all"),
    ],
)
def test_files_that_do_not_load(tmp_path: Path, source: str, word: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(source)
    with pytest.raises(QuatrainError) as caught:
        factory.make(f"{path}:f")
    assert word in one_line(caught.value)


def test_pairs() -> None:
    assert pairs(["a=1", "b.c=x=y"], "--set") == {"a": "1", "b.c": "x=y"}
    for wrong in (["a"], ["=1"], ["a="], ["a=1", "a=2"]):
        with pytest.raises(UsageError):
            pairs(wrong, "--set")


def test_sizes() -> None:
    assert sizes("3x32x32", "--input") == (3, 32, 32)
    assert sizes("13", "--input") == (13,)
    for wrong in ("", "3x", "0x3", "3X3", "-1", "3,3", "1" * 7, "1x1x1x1x1x1x1"):
        with pytest.raises(UsageError, match="3x32x32"):
            sizes(wrong, "--input")


def test_flags_remember_what_was_given() -> None:
    flags = BareFlags(classes=3, weight_decay=0.0, nesterov=False)
    assert flags.given() == ["--classes", "--weight-decay", "--nesterov"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    files.write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        files.write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no" / "x", Path("/proc/x")):
        with pytest.raises(FileError, match="cannot write"):
            files.write_text(path, "text")
        assert not (tmp_path / "no").exists()
    with pytest.raises(FileError):
        files.check_writable(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError):
        files.make_folder(tmp_path / "file" / "below")

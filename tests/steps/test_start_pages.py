"""The pages to start from: what they show of the command line is what it prints.

A line ``...`` stands for any lines, within a line for any words.
"""

import re
import shlex
from pathlib import Path

import pytest

from quatrain.tools.cli import main
from quatrain.tools.study.entry import entries

from .test_readme import ROOT, blocks

GAP = "..."
PAGES = sorted((ROOT / "docs" / "start").glob("*.md"))


def commands(page: Path) -> list[tuple[list[str], str]]:
    """The commands of a page, each with what it is said to print."""
    found = []
    for block in blocks("console", page.relative_to(ROOT).as_posix()):
        for part in re.split(r"^\$ quatrain ", block, flags=re.MULTILINE)[1:]:
            words, _, printed = part.partition("\n")
            found.append((shlex.split(words), printed))
    return found


SECONDS = re.compile(r"^.+: \d+\.\d s\n", re.MULTILINE)


def fits(printed: str, said: str) -> bool:
    """Whether a page's ``said`` is what was printed."""
    lines = (
        r"(?:.*\n)*" if line == GAP else re.escape(line).replace(re.escape(GAP), ".*") + r"\n"
        for line in said.strip("\n").splitlines()
    )
    return re.fullmatch("".join(lines), printed.strip("\n") + "\n") is not None


@pytest.mark.torch
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_first_commands(
    page: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    assert commands(page), "a page to start from begins with a command"
    for words, said in commands(page):
        assert main(words) == 0
        out, err = capsys.readouterr()
        remarks = SECONDS.sub("", err)  # what a busy machine took long for is told as well
        assert fits(remarks + out, said), f"{words} prints\n{err}{out}"


def test_studies_of_the_pages_ask_for_what_there_is() -> None:
    asked = [w for page in PAGES for w in re.findall(r"--recipes (\S+)", page.read_text())]
    assert asked and all(entries([word]) for word in asked)


def test_what_fits() -> None:
    assert fits("a\nb\nc d\n", "a\n...\nc ...\n") and fits("a\nb\nc\n", "...\nc\n")
    assert fits("a\nb\n", "a\n...\n") and not fits("a\nb\n", "b\n...\n")
    assert not fits("a\nb\n", "a\n") and not fits("abc\n", "a.c\n")

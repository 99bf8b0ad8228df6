"""The page of the reviewers' questions: its commands read as the command line reads them."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from quatrain.runtime.cost.accelerator_file import load_accelerator
from quatrain.tools.cli import app
from quatrain.tools.study.entry import entries, made_recipe

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs" / "questions.md").read_text(encoding="utf-8")
QUESTIONS = 11


def commands() -> list[str]:
    """What stands behind a ``$``, with the lines that it goes on over."""
    blocks = re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    text = "\n".join(blocks).replace("\\\n", " ")
    return re.findall(r"^\$ (.+)$", text, re.MULTILINE)


def test_every_question_has_a_command() -> None:
    parts = re.split(r"^## (\d+)\. ", PAGE, flags=re.MULTILINE)
    assert [int(n) for n in parts[1::2]] == [*range(1, QUESTIONS + 1)]
    assert all("\n$ quatrain " in part for part in parts[2::2])


@pytest.mark.parametrize("line", commands())
def test_a_command_is_read(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TOP)
    program, *words = shlex.split(line)
    assert program == "quatrain"
    group: Any = get_command(app())
    name, command, rest = group.resolve_command(group.make_context("quatrain", [*words]), words)
    while hasattr(command, "commands"):
        name, command, rest = command.resolve_command(command.make_context(name, [*rest]), rest)
    given = command.make_context(name, [*rest]).params
    named = given.get("recipes") or given.get("recipe") or ()
    for row in entries([named] if isinstance(named, str) else named):
        made_recipe(row.recipe, row.options, row.without)
    for machine in ",".join(given.get("accelerator") or ()).split(","):
        assert not machine or load_accelerator(machine)
    files = [w for w in rest if w.startswith("examples/") and "=" not in w and "," not in w]
    assert all((TOP / file.partition(":")[0]).is_file() for file in files)

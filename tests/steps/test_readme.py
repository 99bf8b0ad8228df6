"""What the README and the page about Python show is run as it stands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ..cases.commands import Quatrain
from ..cases.in_process import InProcess

ROOT = Path(__file__).parents[2]


def blocks(language: str, page: str = "README.md") -> list[str]:
    """Code blocks of one language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.torch
@pytest.mark.tvm
def test_the_python_example(tmp_path: Path) -> None:
    (source,) = blocks("python")
    # Three images: kernels that test_networks needs too.
    assert source.count("16") == 2
    few = source.replace("16", "3")
    subprocess.run([sys.executable, "-c", few], cwd=tmp_path, env=_env(), check=True)
    assert (tmp_path / "net.qtn").exists()


@pytest.mark.torch
@pytest.mark.tvm
def test_the_page_about_python(capsys: pytest.CaptureFixture[str]) -> None:
    (source,) = blocks("python", "docs/python.md")
    exec(compile(source, "page.py", "exec"), {"__name__": "__main__"})
    shown = re.findall(r"print\(step\)  # (.*)", source)
    assert capsys.readouterr().out.splitlines() == shown


@pytest.mark.torch
@pytest.mark.tvm
def test_the_commands(tmp_path: Path, quatrain: Quatrain, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    # test_study has a study's processes.
    monkeypatch.setattr("quatrain.tools.study.processes.Worker", InProcess)
    commands = [
        shlex.split(line, comments=True)
        for block in blocks("sh")
        for line in block.splitlines()
        if line.startswith("quatrain ")
    ]
    assert len(commands) >= 6
    for _, *words in commands:
        # The README's epochs are a demonstration; fewer show the same.
        if "run" in words:
            words[words.index("--epochs") + 1] = "1"
        if "recipes" in words and "study" in words:
            words += ["--steps", "2", "--rounds", "1"]
        quatrain(*words, status=int("compare" in words))  # as of diff


def _env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}

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

ROOT = Path(__file__).parents[2]


def blocks(language: str, page: str = "README.md") -> list[str]:
    """Code blocks of one language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.torch
@pytest.mark.tvm
def test_the_python_example(tmp_path: Path) -> None:
    (source,) = blocks("python")
    subprocess.run([sys.executable, "-c", source], cwd=tmp_path, env=_env(), check=True)
    assert (tmp_path / "net.qtn").exists()


@pytest.mark.torch
@pytest.mark.tvm
def test_the_page_about_python(tmp_path: Path) -> None:
    (source,) = blocks("python", "docs/python.md")
    done = subprocess.run(
        [sys.executable, "-c", source],
        cwd=tmp_path, env=_env(), check=True, capture_output=True, text=True,
    )  # fmt: skip
    shown = re.findall(r"print\(step\)  # (.*)", source)
    assert done.stdout.splitlines() == shown


@pytest.mark.torch
@pytest.mark.tvm
def test_the_commands(tmp_path: Path, quatrain: Quatrain, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
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
            words[words.index("--epochs") + 1] = "2"
        if "recipes" in words and "study" in words:
            words += ["--epochs", "1"]
        quatrain(*words)


def _env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}

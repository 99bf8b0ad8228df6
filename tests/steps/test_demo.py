"""``quatrain demo``: two recipes compared on one screen, what it refuses, how it names commands."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from quatrain.tools.commands import demo

from ..cases.commands import Quatrain


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.mark.torch
@pytest.mark.tvm
def test_one_screen(quatrain: Quatrain, folder: Path) -> None:
    lines = quatrain("demo", "--epochs", 2, "-o", folder).splitlines()
    heads = [line.split()[0] for line in lines if line.strip()]
    assert len(lines) <= 30 and all(len(line) <= 80 for line in lines if str(folder) not in line)
    assert any("ultra_low_4bit" in line and "fp32" in line for line in lines)
    assert {"images", "on", "bit", "kept", "Next"} <= set(heads)
    right = lines[-1].removeprefix("test accuracy ").removesuffix(" %")
    (both,) = (line for line in lines[:-1] if line.startswith("test accuracy"))
    assert 0 <= float(right) <= 100 and both.split()[2] == right
    for recipe in demo.RECIPES:
        assert "MACs a step" in quatrain("report", folder / f"{recipe}.qtn", "--no-plan")


@pytest.mark.torch
@pytest.mark.tvm
def test_the_whole_bill_waits_behind_full(quatrain: Quatrain, folder: Path) -> None:
    text = quatrain("demo", "--epochs", 1, "-o", folder, "--full")
    assert "By layer" in text and "Kept for backward" in text and "quatrain report" not in text
    assert "one pass over the data each" in text


def test_a_folder_that_is_a_file_is_refused(quatrain: Quatrain, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    assert "cannot make the folder" in quatrain("demo", "-o", tmp_path / "taken", status=2)
    assert "--epochs" in quatrain("demo", "--epochs", 0, "-o", tmp_path / "fresh", status=2)
    assert not (tmp_path / "fresh").exists()


def test_digits_that_are_not_installed(
    quatrain: Quatrain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert "install quatrain[demo]" in quatrain("demo", "-o", tmp_path, status=2)


def test_how_to_call_quatrain_from_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / ".venv" / "bin"
    own.mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", str(own / "python"))
    monkeypatch.setattr(shutil, "which", lambda name: "/somewhere/quatrain")
    assert demo.called() == "quatrain"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert demo.called() == "python -m quatrain"
    (own / "quatrain").touch()
    here = f"{os.curdir}{os.sep}"
    assert demo.called() == here + str(Path(".venv/bin/quatrain"))
    monkeypatch.chdir(own)
    assert demo.called() == f"{here}quatrain"
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert demo.called() == str(own / "quatrain")

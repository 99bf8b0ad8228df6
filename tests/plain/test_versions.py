"""The versions that the project says it was tried on are the same everywhere; what CI tries of them."""

import importlib.util
import re
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from quatrain.compiler.capture.version import TRIED
from quatrain.tools.doctor import PYTHON_TRIED, TVM_TRIED

TOP = Path(__file__).parents[2]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = [".".join(map(str, version)) for version in PYTHON_TRIED]


def after(release: str) -> str:
    major, minor = release.split(".")
    return f"{major}.{int(minor) + 1}"


def test_pyproject_asks_for_what_was_tried() -> None:
    assert list(TRIED[1:]) == [after(release) for release in TRIED[:-1]], "a gap in TRIED"
    assert f"torch>={TRIED[0]},<{after(TRIED[-1])}" in PROJECT["dependencies"]
    (tvm,) = (d for d in PROJECT["dependencies"] if d.startswith("apache-tvm"))
    assert tvm.startswith(f"apache-tvm>={TVM_TRIED[0]}.") and tvm.endswith(after(TVM_TRIED[-1]))


def test_pyproject_names_the_pythons() -> None:
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    named = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if "Python ::" in c]
    assert named == PYTHONS


def test_the_readme_names_the_versions() -> None:
    text = " ".join((TOP / "README.md").read_text(encoding="utf-8").split())
    assert f"Python {PYTHONS[0]} to {PYTHONS[-1]}" in text
    assert f"PyTorch {TRIED[0]} to {TRIED[-1]}" in text


def test_the_constraints_are_versions_that_were_tried() -> None:
    text = (TOP / "constraints.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([\w-]+)==(\d+\.\d+)", text, re.MULTILINE))
    assert pins["torch"] in TRIED and pins["apache-tvm"] in TVM_TRIED


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``.ci/versions.py`` on a machine with all Pythons, whose own is the oldest with torch 2.13."""
    spec = importlib.util.spec_from_file_location("versions", TOP / ".ci" / "versions.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "own", lambda: (PYTHONS[0], "2.13"))
    monkeypatch.setattr(module, "NEEDED_GB", 0)
    return module


FOUND = {python: Path(python) for python in PYTHONS}


def test_ci_knows_what_was_tried(script: ModuleType) -> None:
    assert script.releases() == TRIED
    assert set(script.pythons()) <= set(PYTHONS)


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        ([], [(PYTHONS[-1], None)]),
        ([(PYTHONS[0], "2.13")], [(PYTHONS[-1], None)]),
        ([(PYTHONS[0], "2.13"), (PYTHONS[0], "2.14")], [(PYTHONS[-1], None), (PYTHONS[0], "2.14")]),
        (
            [(PYTHONS[0], "2.12"), (PYTHONS[1], "2.14"), (PYTHONS[-1], "2.15")],
            [(PYTHONS[0], "2.12"), (PYTHONS[-1], "2.15")],
        ),
    ],
)
def test_ci_tries_the_ends_of_what_is_at_hand(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    files: list[tuple[str, str]],
    chosen: list[tuple[str, str | None]],
) -> None:
    monkeypatch.setattr(script, "is_at_hand", lambda python, torch: (str(python), torch) in files)
    assert script.choose(FOUND) == chosen
    every = len(PYTHONS) * len(TRIED)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"skipped {every - len(files)} of {every} combinations")


def test_ci_leaves_out_what_the_disk_has_no_room_for(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "is_at_hand", lambda python, torch: True)
    monkeypatch.setattr(script, "NEEDED_GB", 1 << 40)
    assert script.choose(FOUND) == [(PYTHONS[-1], None)]
    assert "GB of disk" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (None, 0, "Python 3.11 with torch 2.14: passed"),
        (subprocess.TimeoutExpired("pytest", 1), 0, "not finished when 10 minutes were over"),
        (subprocess.CalledProcessError(1, ["python", "-m", "pytest"]), 1, "FAILED"),
    ],
)
def test_ci_fails_where_a_test_failed_and_not_where_time_was_short(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception | None,
    status: int,
    words: str,
) -> None:
    def check(python: Path, torch: str | None, deadline: float) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(script, "pythons", lambda: FOUND)
    monkeypatch.setattr(script, "choose", lambda found: [(PYTHONS[0], "2.14")])
    monkeypatch.setattr(script, "check", check)
    monkeypatch.setattr(script.signal, "signal", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["versions.py"])
    assert script.main() == status
    assert words in capsys.readouterr().out

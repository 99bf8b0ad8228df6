"""What is told while a step is made and used: through the logger quatrain, a line each."""

import io
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.nn.functional import mse_loss

import quatrain
from quatrain.compiler.errors import FileError, UsageError
from quatrain.runtime import telling
from quatrain.runtime.step import Step
from quatrain.runtime.telling import SHOWN, told
from quatrain.tools import driver, env
from quatrain.tools.bench.progress import BenchProgress
from quatrain.tools.cli import main
from quatrain.tools.study.progress import StudyProgress

pytestmark = pytest.mark.torch
X, Y = torch.ones(2, 4), torch.ones(2, 3)
SECONDS = r": \d+\.\d s$"


@pytest.fixture(autouse=True)
def level(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO, logger="quatrain"):
        yield


def made(target: str = "reference", allow: tuple[str, ...] = ()) -> tuple[Step, torch.optim.SGD]:
    model = nn.Sequential(nn.Linear(4, 3))
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    step = quatrain.compile(model, mse_loss, (X, Y), sgd, recipe="fp32", target=target, allow=allow)
    return step, sgd


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [f"{r.levelname} {r.getMessage()}" for r in caplog.records if r.name == "quatrain"]
    caplog.clear()
    return found


def fits(found: list[str], *wanted: str) -> bool:
    texts = [line.rpartition(": ")[0] for line in found]
    return texts == list(wanted)


def test_each_compile_is_a_line(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    step, _ = made()
    assert fits(lines(caplog), "INFO compile Sequential, fp32, for reference")
    step(X, Y)
    assert lines(caplog) == []
    for _ in range(2):
        step(torch.ones(5, 4), torch.ones(5, 3))
    assert fits(lines(caplog), "INFO compile for another batch, 5x4, 5x3")
    for _ in range(2):
        step.predict(X)
    assert fits(lines(caplog), "INFO compile for predict")
    path = tmp_path / "net.qtn"
    step.save(path)
    quatrain.load(path)
    assert fits(lines(caplog), f"INFO load {path}")


def test_what_fails_is_no_line_beside_its_error(caplog: pytest.LogCaptureFixture) -> None:
    step, _ = made()
    lines(caplog)
    with pytest.raises(quatrain.QuatrainError):
        step(torch.ones(5, 4), torch.ones(6, 3))
    assert lines(caplog) == []


@pytest.mark.parametrize("recipe", ["ultra_low_4bit", "luq4", "dorefa"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_recipe_that_leaves_out_all_layers_is_told(
    caplog: pytest.LogCaptureFixture, recipe: str, depth: int
) -> None:
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(depth)))
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    rest = mse_loss, (X, X), sgd
    quatrain.compile(model, *rest, recipe=recipe, target="reference")
    said = [line for line in lines(caplog) if line.startswith("WARNING")]
    if depth > 2:
        assert not said
        return
    (line,) = said
    assert f"recipe {recipe} quantizes no layer" in line and f"leaves out all {depth};" in line
    quatrain.compile(model, *rest, recipe=recipe, options={"exempt": "none"}, target="reference")
    assert not [line for line in lines(caplog) if line.startswith("WARNING")]


def test_a_misspelt_variable_is_told_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUATRAIN_THREAD", "2")
    env._warn_of.cache_clear()
    for _ in range(2):
        driver.bind_options()
        assert main(["targets"]) == 0
    (line,) = lines(caplog)
    said = "WARNING QUATRAIN_THREAD is no variable of quatrain and is ignored; did you mean "
    assert line.startswith(f"{said}'QUATRAIN_THREADS'?")


@pytest.mark.parametrize("place", ["file", "file/inside"])
def test_a_dump_that_cannot_be_written_is_refused_ahead_of_the_capture(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    ran = list[int]()
    model = nn.Sequential(nn.Linear(4, 3))
    model.register_forward_hook(lambda *_: ran.append(1))
    monkeypatch.setenv(env.DUMP, str(tmp_path / place))
    with pytest.raises(
        FileError, match=r"cannot make the folder .*: it is a file, or lies in one; name another"
    ):
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        quatrain.compile(model, mse_loss, (X, Y), sgd, recipe="fp32", target="reference")
    assert main(["compile", "gone.py:task", "-o", str(tmp_path / "x.qtn")]) == 2
    assert "it is a file" in capsys.readouterr().err and not ran


def test_variables_that_are_known_are_not_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in env.NAMES:
        monkeypatch.setenv(name, "1" if name == env.THREADS else str(tmp_path))
    env.check_names()
    assert lines(caplog) == []


@pytest.mark.parametrize("words", ["0", "-1", "two", "1e9", "99999"])
def test_wrong_threads_are_refused_ahead_of_the_capture(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("captured")

    monkeypatch.setattr(driver, "capture", never)
    monkeypatch.setenv(env.THREADS, words)
    with pytest.raises(UsageError, match=rf"QUATRAIN_THREADS or --threads\) is '{words}'"):
        made()


def test_a_setting_that_changes_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    made(allow=("0", "frist*"))
    warned = [line for line in lines(caplog) if line.startswith("WARNING")]
    assert warned == ["WARNING allow: no layer with products is called 'frist*'; known: 0"]


def test_hyper_parameters_that_nobody_reads_are_told(caplog: pytest.LogCaptureFixture) -> None:
    step, sgd = made()
    sgd.param_groups[0]["lr"] = 0.5
    step(X, Y)
    assert step.hyper["group0.lr"] == 0.5 and not lines(caplog)[1:]
    step.hyper["group0.lr"] = 0.25
    step(X, Y)
    (line,) = lines(caplog)
    assert line.startswith("WARNING step.hyper is set and ignored")
    step(X, Y)
    assert lines(caplog) == []


@pytest.mark.tvm
def test_a_cache_that_cannot_be_written_is_told_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("tvm")
    (tmp_path / "file").touch()
    monkeypatch.setenv(env.CACHE, str(tmp_path / "file" / "cache"))
    for _ in range(2):
        made("cpu")
    (line,) = (line for line in lines(caplog) if line.startswith("WARNING"))
    assert str(tmp_path / "file" / "cache") in line and "QUATRAIN_CACHE" in line


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


Told = Callable[[float], str]


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Told:
    """What appears on a terminal for a block that waits for a line, or for none."""

    def run(slow: float) -> str:
        stream, begun = Terminal(), threading.Event()
        stream.flush = begun.set  # type: ignore[method-assign]
        monkeypatch.setattr(telling, "SLOW_SECONDS", slow)
        monkeypatch.setattr(sys, "stderr", stream)
        with told("compile"):
            if slow == 0 and not SHOWN.get():
                assert begun.wait(60)
        monkeypatch.undo()
        return stream.getvalue()

    return run


def test_a_slow_block_is_a_line_on_terminals(on_terminal: Told) -> None:
    assert on_terminal(1000) == ""
    begun, end, seconds = on_terminal(0).partition(" ... ")
    assert begun == "quatrain: compile" and end and seconds.endswith(" s\n")
    token = SHOWN.set(True)
    try:
        assert on_terminal(0) == ""
    finally:
        SHOWN.reset(token)


def test_no_terminal_gets_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    made()
    assert capsys.readouterr().err == ""


def test_studies_and_benchmarks_into_files_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with StudyProgress(3) as progress:
        progress.say("fp32, seed 0: compile")
        progress.advance(3, "fp32, seed 0")
        progress.line("fp32, seed 0: test accuracy 97.0 %")
    bench = BenchProgress()
    bench.stage("resnet20: fp32 gets ready (1/2)")
    with bench.bar("resnet20") as tick:
        tick("fp32", 1.0)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "fp32, seed 0: test accuracy 97.0 %",
        "resnet20: fp32 gets ready (1/2)",
    ]

"""compile and run end to end on the reference target: flags, data that does not fit, resuming."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from quatrain.compiler.ir.text import parse  # noqa: E402
from quatrain.runtime.bundle import read  # noqa: E402
from quatrain.tools import driver, env, train  # noqa: E402
from quatrain.tools.cli import main  # noqa: E402
from quatrain.tools.data import load_data  # noqa: E402
from quatrain.tools.schedule import SCHEDULES, constant  # noqa: E402

from ..cases.commands import Quatrain  # noqa: E402

pytestmark = pytest.mark.torch

SOURCE = """
import quatrain, torch
from torch import nn

def bare():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(125, 3)
    )

def task():
    model = bare()
    example = torch.zeros(3, 1, 7, 7), torch.zeros(3, dtype=torch.int64)
    return quatrain.Task(model, nn.functional.cross_entropy, torch.optim.SGD(model.parameters(), 0.1), example)

def nothing():
    pass

def frozen():
    return nn.Flatten()
"""
BARE = ("--input", "1x7x7", "--classes", "3", "--batch", "4", "--lr", "0.05")
FP32 = ("--recipe", "fp32", "--target", "reference")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "some_model.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """27 + 13 images of three classes that differ in their mean: 6 batches of 4 an epoch."""
    generator = np.random.default_rng(0)
    y = np.arange(40) % 3
    x = generator.standard_normal((40, 1, 7, 7)).astype(np.float32) + y[:, None, None, None]
    path = tmp_path / "data.npz"
    np.savez(path, x_train=x[:27], y_train=y[:27], x_test=x[27:], y_test=y[27:])
    return path


@pytest.fixture
def network(quatrain: Quatrain, source: Path, tmp_path: Path) -> Path:
    path = tmp_path / "net.qtn"
    quatrain("compile", f"{source}:bare", *BARE, *FP32, "-o", path)
    return path


def test_compile_a_bare_model(network: Path) -> None:
    bundle = read(network)
    assert bundle.train.inputs[0].type.shape == (4, 1, 7, 7)
    assert bundle.manifest["target"] == "reference"
    assert bundle.recipe.name == "fp32"


def test_compile_a_task(quatrain: Quatrain, source: Path, tmp_path: Path) -> None:
    path = tmp_path / "task.qtn"
    quatrain("compile", f"{source}:task", *FP32, "--batch", "7", "-o", path)
    assert read(path).train.inputs[0].type.shape == (7, 1, 7, 7)


def test_dumps_parse_back(quatrain: Quatrain, source: Path, tmp_path: Path) -> None:
    words = ("--set", "carrier=f32", "--target", "reference", "--dump-dir", tmp_path / "ir")
    quatrain("compile", f"{source}:bare", *BARE, *words, "-o", tmp_path / "low.qtn")
    dumped = sorted((tmp_path / "ir").iterdir())
    assert [p.name for p in dumped[:3]] == [
        "00-lower.qt",
        "01-sawb_weights.qt",
        "02-pact_activations.qt",
    ]
    programs = [parse(p.read_text()) for p in dumped]
    assert [len(p.history) for p in programs] == list(range(len(programs)))
    assert read(tmp_path / "low.qtn").recipe.options == {"carrier": "f32"}


def test_print_ir(quatrain: Quatrain, source: Path, tmp_path: Path) -> None:
    words = ("compile", f"{source}:bare", *BARE, *FP32, "-o", tmp_path / "x.qtn")
    one = quatrain(*words, "--print-ir-after", "canonicalize")
    assert parse(one).history == ("canonicalize",)
    assert "# ---- after canonicalize" in quatrain(*words, "--print-ir-after", "all")
    quatrain(*words, "--print-ir-after", "canonicalise", status=2)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("bare", "--classes", "3"), "add --input 3x32x32"),
        (("bare", "--input", "1x7x7"), "add --classes N"),
        (("bare", *BARE, "--loss", "cross_entrop"), "did you mean 'cross_entropy'?"),
        (("bare", *BARE, "--optimizer", "adan"), "did you mean 'adam'"),
        (("bare", *BARE, "--optimizer", "adam", "--momentum", "0.9"), "adam has no momentum"),
        (("bare", *BARE, "--momentum", "0", "--nesterov"), "do not fit together"),
        (("bare", *BARE, "--set", "carier=f32"), "carier"),
        (("bare", *BARE, "--set", "bits=6"), "must be 2, 3, 4, 5, 7 or 8, not '6'"),
        (("bare", *BARE, "--set", "bits=5"), "no published coefficients for 5 bits with a zero"),
        (("bare", *BARE, "--set", "fp8_on=5x5"), "no convolution has a 5x5 kernel"),
        (("bare", *BARE, "--print-ir-after", "carier"), "did you mean 'carrier'?"),
        (("bare", *BARE, "--set", "carrier"), "key=value"),
        (("bare", *BARE, "--target", "gpu"), "no target is called 'gpu'"),
        (("bare", *BARE, "--recipe", "fp64"), "no recipe is called 'fp64'"),
        (("task", "--lr", "0.1", "--classes", "3"), "--classes, --lr is for bare models"),
        (("nothing",), "returned 'NoneType'"),
        (("frozen", *BARE), "has no parameters to train"),
    ],
)
def test_mistakes_at_compile(
    quatrain: Quatrain, source: Path, tmp_path: Path, words: tuple[str, ...], hint: str
) -> None:
    path = tmp_path / "x.qtn"
    assert hint in quatrain("compile", f"{source}:{words[0]}", *words[1:], "-o", path, status=2)
    assert not path.exists()


@pytest.mark.parametrize(
    ("word", "value"),
    [("--recipe", "fp64"), ("--set", "carier=f32"), ("--target", "gpu"), ("--print-ir-after", "x")],
)
def test_cheap_mistakes_are_found_before_torch_and_the_model_are_loaded(
    quatrain: Quatrain, tmp_path: Path, word: str, value: str
) -> None:
    """The model's file does not even exist, and the mistake is found first."""
    message = quatrain("compile", "gone.py:f", "-o", tmp_path / "x.qtn", word, value, status=2)
    assert "gone.py" not in message and value.partition("=")[0] in message


def test_a_missing_file_is_found_before_torch_is_loaded(
    quatrain: Quatrain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: object) -> None:
        pytest.fail("torch was loaded")

    monkeypatch.setattr("quatrain.tools.commands.compile.stage", loaded)
    monkeypatch.setattr("quatrain.tools.train.check_run", loaded)
    gone = tmp_path / "gone"
    assert "there is no file" in quatrain("compile", f"{gone}.py:f", "-o", gone, status=2)
    words = ("run", f"{gone}.qtn", "--data", "digits", "--steps", 1)
    assert "gone.qtn does not exist; make it with: quatrain compile" in quatrain(*words, status=2)
    (tmp_path / "there").touch()
    resumed = ("run", tmp_path / "there", "--data", "digits", "--steps", 1, "--resume", gone)
    assert "make it with: quatrain run ... --checkpoint" in quatrain(*resumed, status=2)


def test_compile_names_the_passes_that_changed_nothing(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("compile", f"{source}:task", "-o", str(tmp_path / "x.qtn"))
    assert main([*words, *FP32]) == 0
    assert "changed nothing" not in capsys.readouterr().err
    assert main([*words, *FP32[2:], "--recipe", "bf16"]) == 0
    assert "subsample changed nothing\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("--data", "digits", "--steps", "1"), "the network takes 1x7x7"),
        (("--data", "{data}"), "--steps N or --epochs N"),
        (("--data", "{data}", "--steps", "1", "--resume", "gone.qtn"), "gone.qtn does not exist"),
    ],
)
def test_cheap_mistakes_are_found_before_kernels_are_built(
    quatrain: Quatrain,
    network: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    hint: str,
) -> None:
    monkeypatch.setattr(driver, "load", lambda *_, **__: pytest.fail("kernels were built"))
    filled = [w.format(data=data) for w in words]
    assert hint in quatrain("run", network, *filled, status=2)


def test_run_prints_a_line_an_epoch_and_the_accuracy(
    quatrain: Quatrain, network: Path, data: Path
) -> None:
    lines = quatrain("run", network, "--data", data, "--epochs", "2").splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "epoch 1/2",
        "epoch 2/2",
        lines[-1],
    ]
    assert lines[-1].startswith("test accuracy ") and lines[-1].endswith(" %")
    # Three classes a whole standard deviation apart, 49 pixels: guessing gives a third.
    assert float(lines[-1].split()[2]) > 50


def test_run_as_json(quatrain: Quatrain, network: Path, data: Path) -> None:
    lines = quatrain("run", network, "--data", data, "--steps", "7", "--json").splitlines()
    first, second, last = map(json.loads, lines)
    assert (first["epoch"], first["step"], second["step"]) == (1, 6, 7)
    assert last["test_accuracy"] == second["accuracy"]


def test_a_resumed_run_has_the_same_bytes(
    quatrain: Quatrain, network: Path, data: Path, tmp_path: Path
) -> None:
    whole, half, rest = (tmp_path / f"{n}.qtn" for n in ("whole", "half", "rest"))
    words = ("run", network, "--data", data, "--schedule", "onecycle", "--steps", "13")
    quatrain(*words, "-o", whole)
    found = load_data(str(data))
    step = driver.load(network)
    run = train.plan_run(
        step, found, 4, 0, steps=13, epochs=None, lr=None, factor=SCHEDULES["onecycle"],
        checkpoint=half, every=None,
    )  # fmt: skip
    seen: list[int] = []
    for at in train.train(step, found, run, 4, lambda: len(seen) == 7):
        seen.append(at.done)
    assert seen[-1] == 8
    quatrain(*words, "--resume", half, "-o", rest)
    assert rest.read_bytes() == whole.read_bytes()
    a, b = read(whole).state, read(network).state
    assert any(not np.array_equal(a[k], b[k]) for k in a)


def test_a_schedule_spans_the_run_and_is_resumed(
    source: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, whole, half, rest = (tmp_path / f"{n}.qtn" for n in ("start", "whole", "half", "rest"))
    words = ("--recipe", "cpt", "--set", "cycles=2", "--target", "reference", "-o", str(start))
    assert main(["compile", f"{source}:task", *words]) == 0
    run = ["run", str(start), "--data", str(data), "--steps", "9"]
    capsys.readouterr()
    assert main([*run, "-o", str(whole)]) == 0
    assert "the precision schedule spans 9 steps, as this run does" in capsys.readouterr().err
    step = driver.load(start)
    assert train.steps_done(step) == 0 and read(whole).state["schedule.total"] == 9
    planned = train.plan_run(
        step, load_data(str(data)), 3, 0, steps=9, epochs=None, lr=None,
        factor=constant, checkpoint=half, every=None,
    )  # fmt: skip
    assert train.give_length(step, planned.last) and not train.give_length(step, planned.last)
    assert "spans 9 steps, not the 8 of this run" in train.give_length(step, 8)
    seen: list[int] = []
    for at in train.train(step, load_data(str(data)), planned, 3, lambda: len(seen) == 4):
        seen.append(at.done)
    assert main([*run, "--resume", str(half), "-o", str(rest)]) == 0
    assert rest.read_bytes() == whole.read_bytes()
    capsys.readouterr()
    assert main(["report", str(whole)]) == 0
    spent = float(read(whole).state["schedule.gbitops"])
    assert f"spent so far       {spent:.3g} GBitOPs a step" in capsys.readouterr().out


def test_a_run_too_short_for_its_cycles_is_refused(
    source: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = tmp_path / "start.qtn"
    assert main(["compile", f"{source}:task", "--recipe", "cpt", "-o", str(start)]) == 0
    assert main(["run", str(start), "--data", str(data), "--steps", "9"]) == 2
    said = capsys.readouterr().err
    assert "32 cycles do not fit 9 steps; set cycles to 9 at most, or train longer" in said


def test_a_finished_run_has_nothing_left(
    quatrain: Quatrain, network: Path, data: Path, tmp_path: Path
) -> None:
    done, again = tmp_path / "done.qtn", tmp_path / "again.qtn"
    words = ("run", network, "--data", data, "--steps", "3")
    first = quatrain(*words, "--checkpoint", done)
    assert quatrain(*words, "--resume", done, "-o", again).splitlines() == first.splitlines()[-1:]
    assert again.read_bytes() == done.read_bytes()


def test_a_trained_network_trains_on(quatrain: Quatrain, network: Path, data: Path) -> None:
    path = network.with_name("more.qtn")
    quatrain("run", network, "--data", data, "--steps", "2", "-o", path)
    quatrain("run", path, "--data", data, "--steps", "3", "-o", path)
    assert train.steps_done(driver.load(path)) == 5


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("--data", "{data}"), "--steps N or --epochs N"),
        (("--data", "{data}", "--steps", "1", "--epochs", "1"), "one of the two"),
        (("--data", "digits", "--steps", "1"), "the network takes 1x7x7"),
        (("--data", "digit", "--steps", "1"), "digits"),
        (("--data", "{data}.npz", "--steps", "1"), "there is no file"),
        (("--data", "{data}", "--steps", "1", "--checkpoint", "/nowhere/x"), "/nowhere"),
        (("--data", "{data}", "--steps", "1", "--output", "/nowhere/x"), "/nowhere"),
        (("--data", "{data}", "--steps", "1", "--resume", "nothing.qtn"), "nothing.qtn"),
        (
            ("--data", "{data}", "--steps", "1", "--resume", "{data}"),
            "is a zip file without manifest.json",
        ),
    ],
)
def test_mistakes_at_run(
    quatrain: Quatrain, network: Path, data: Path, words: tuple[str, ...], hint: str
) -> None:
    filled = [w.format(data=data) for w in words]
    assert hint in quatrain("run", network, *filled, status=2)


def test_a_run_that_diverges_stops_and_keeps_its_checkpoint(
    quatrain: Quatrain, network: Path, data: Path, tmp_path: Path
) -> None:
    path = tmp_path / "kept.qtn"
    words = ("--steps", "9", "--lr", "1e30", "--max-skipped", "0")
    saving = ("--checkpoint", path, "--checkpoint-every", "1")
    said = quatrain("run", network, "--data", data, *words, *saving, status=2)
    assert "try a smaller --lr" in said
    assert train.steps_done(driver.load(path)) >= 1


def test_a_checkpoint_of_another_network_is_refused(
    quatrain: Quatrain, network: Path, source: Path, data: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.qtn"
    quatrain("compile", f"{source}:task", *FP32, "-o", other)
    words = ("run", network, "--data", data, "--steps", "1", "--resume", other)
    said = f"{other} is no checkpoint of {network}: its batch is 3x1x7x7, 3, not 4x1x7x7, 4"
    assert said in quatrain(*words, status=2)


def test_a_stop_leaves_a_checkpoint_of_what_was_done(
    network: Path, data: Path, tmp_path: Path
) -> None:
    found, step = load_data(str(data)), driver.load(network)
    path = tmp_path / "stopped.qtn"
    run = train.plan_run(
        step, found, 4, 0, steps=9, epochs=None, lr=None, factor=constant, checkpoint=path,
        every=None,
    )  # fmt: skip
    steps = [at.done for at in train.train(step, found, run, 4, lambda: True)]
    assert steps == [1]
    assert train.steps_done(driver.load(path)) == 1


def test_labels_out_of_range_are_refused(quatrain: Quatrain, network: Path, data: Path) -> None:
    arrays = dict(np.load(data))
    arrays["y_train"] = np.full(27, 3)
    np.savez(data, **arrays)
    assert "label 3" in quatrain("run", network, "--data", data, "--steps", "1", status=2)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_stay_within_0_and_1(name: str) -> None:
    factors = [SCHEDULES[name](i / 100) for i in range(101)]
    assert all(0 <= f <= 1 for f in factors) and max(factors) == 1


def test_a_triangle_rises_and_falls_on_straight_lines() -> None:
    factors = [SCHEDULES["triangle"](i / 8) for i in range(9)]
    # From and to the last rate of onecycle, 4e-6.
    assert factors == pytest.approx([0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25, 0], abs=5e-6)
    assert factors[0] == SCHEDULES["onecycle"](1.0)


def test_onecycle_is_torchs() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    total = 50
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=total, cycle_momentum=False
    )
    # Torch places its phases on steps 0 .. total - 1 and turns one step before 30 %.
    for i in range(total):
        share = i / (total - 1)
        turn = (0.3 * total - 1) / (total - 1)
        ours = SCHEDULES["onecycle"](
            share / turn * 0.3 if share < turn else 0.3 + (share - turn) / (1 - turn) * 0.7
        )
        assert math.isclose(ours, theirs.get_last_lr()[0], rel_tol=1e-9, abs_tol=1e-9)
        optimizer.step()
        theirs.step()


def test_the_target_may_come_from_the_environment(
    quatrain: Quatrain, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(env.TARGET, "reference")
    path = tmp_path / "x.qtn"
    quatrain("compile", f"{source}:bare", *BARE, "--recipe", "fp32", "-o", path)
    assert read(path).manifest["target"] == "reference"

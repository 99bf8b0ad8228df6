"""``quatrain run`` over steps that are not applied: what it says, when it stops, what it resumes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from quatrain.runtime.bundle import read  # noqa: E402
from quatrain.tools import driver, train  # noqa: E402
from quatrain.tools.cli import main  # noqa: E402
from quatrain.tools.data import load_data  # noqa: E402
from quatrain.tools.schedule import constant  # noqa: E402

pytestmark = pytest.mark.torch

SOURCE = """
import quatrain, torch
from torch import nn

def task():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 5, 3), nn.BatchNorm2d(5),
        nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(45, 3),
    )
    example = torch.zeros(4, 1, 7, 7), torch.zeros(4, dtype=torch.int64)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    return quatrain.Task(model, nn.functional.cross_entropy, optimizer, example)
"""
# Finite, but the variance of a batch with such an image is not.
HUGE = np.float32(1e25)
Said = tuple[int, str, str]


@pytest.fixture
def network(tmp_path: Path) -> Path:
    source, path = tmp_path / "some_source.py", tmp_path / "net.qtn"
    source.write_text(SOURCE)
    words = ("compile", f"{source}:task", "--target", "reference", "-o", str(path))
    assert main(list(words)) == 0
    return path


def data(path: Path, huge: slice) -> Path:
    """24 images, 6 batches of 4 an epoch, some of them huge."""
    generator = np.random.default_rng(0)
    y = np.arange(36) % 3
    x = generator.standard_normal((36, 1, 7, 7)).astype(np.float32) + y[:, None, None, None]
    x = x.astype(np.float32)
    x[:24][huge] *= HUGE
    np.savez(path, x_train=x[:24], y_train=y[:24], x_test=x[24:], y_test=y[24:])
    return path


def quatrain(capsys: pytest.CaptureFixture[str], *words: object) -> Said:
    capsys.readouterr()
    status = main([str(w) for w in words])
    return status, *capsys.readouterr()


def test_a_run_says_so_and_goes_on(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = data(tmp_path / "data.npz", slice(0, 1))
    words = ("run", network, "--data", found, "--epochs", 2)
    status, out, err = quatrain(capsys, *words, "-o", tmp_path / "end.qtn")
    assert status == 0 and out.count("epoch ") == 2 and "nan" not in out
    said = [line for line in err.splitlines() if "was not applied" in line]
    assert len(said) == 2 and all("is not finite" in line for line in said)
    step = driver.load(tmp_path / "end.qtn")
    assert (step.skipped, int(step.state["step"]), train.steps_done(step)) == (2, 10, 12)


def test_a_run_says_so_as_json(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = data(tmp_path / "data.npz", slice(None))
    status, out, err = quatrain(capsys, "run", network, "--data", found, "--epochs", 1, "--json")
    *events, epoch, last = map(json.loads, out.splitlines())
    assert (status, "applied" in err) == (0, False)
    assert [e["step"] for e in events] == [1, 2, 3, 4, 5, 6]
    assert all("finite" in e["skipped"] for e in events)
    assert epoch["loss"] is None is last["loss"] and last["skipped"] == 6


def test_a_resumed_run_has_the_same_bytes_where_steps_were_skipped(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = data(tmp_path / "data.npz", slice(0, 3))
    whole, half, rest = (tmp_path / f"{n}.qtn" for n in ("whole", "half", "rest"))
    words = ("run", network, "--data", found, "--steps", 14)
    assert quatrain(capsys, *words, "-o", whole)[0] == 0
    step, loaded = driver.load(network), load_data(str(found))
    run = train.plan_run(
        step, loaded, 4, 0, steps=14, epochs=None, lr=None, factor=constant, checkpoint=half,
        every=None,
    )  # fmt: skip
    *_, stopped = train.train(step, loaded, run, 4, lambda: step.skipped == 2)
    assert stopped.skipped and train.steps_done(driver.load(half)) == stopped.done < 14
    assert quatrain(capsys, *words, "--resume", half, "-o", rest)[0] == 0
    assert rest.read_bytes() == whole.read_bytes()
    assert read(whole).state["skipped"] > 2


@pytest.mark.parametrize(
    ("most", "said"), [(0, "step 1 was not applied"), (2, "steps 1 to 3 were not applied")]
)
def test_a_run_stops_after_so_many_in_a_row(
    most: int, said: str, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = data(tmp_path / "data.npz", slice(None))
    kept = tmp_path / "kept.qtn"
    words = ("run", network, "--data", found, "--epochs", 1, "--max-skipped", most)
    saving = ("--checkpoint", kept, "--checkpoint-every", 1)
    status, _, err = quatrain(capsys, *words, *saving, "-o", tmp_path / "end.qtn")
    assert status == 2 and f"error: {said}: the loss is" in err and "--max-skipped" in err
    assert err.count("error: ") == 1 and err.endswith("\n") and not (tmp_path / "end.qtn").exists()
    assert kept.exists() == (most > 0)
    if most:
        step = driver.load(kept)
        assert (step.skipped, int(step.state["step"])) == (most, 0)


def test_a_step_that_is_applied_begins_the_row_anew(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = data(tmp_path / "data.npz", slice(0, 3))
    words = ("run", network, "--data", found, "--epochs", 4, "--max-skipped", 6)
    status, _, err = quatrain(capsys, *words)
    assert status == 0 and err.count("was not applied") > 6

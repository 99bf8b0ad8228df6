"""How a run counts: its own epochs, whatever the network had behind it, and where it is over."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn.functional import cross_entropy  # noqa: E402

import quatrain as quatrain_itself  # noqa: E402
from quatrain.tools.cli import main  # noqa: E402

from ..cases.commands import Quatrain  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """6 batches of 4 an epoch."""
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((40, 5)).astype(np.float32), np.arange(40) % 3
    path = tmp_path / "data.npz"
    np.savez(path, x_train=x[:27], y_train=y[:27], x_test=x[27:], y_test=y[27:])
    return path


@pytest.fixture
def network(tmp_path: Path) -> Path:
    model = torch.nn.Linear(5, 3)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = torch.zeros(4, 5), torch.zeros(4, dtype=torch.int64)
    step = quatrain_itself.compile(
        model, cross_entropy, batch, sgd, recipe="fp32", target="reference"
    )
    step.save(tmp_path / "net.qtn")
    return tmp_path / "net.qtn"


@pytest.mark.parametrize("before", [6, 7, 12])
def test_a_run_counts_its_own_epochs(
    quatrain: Quatrain, network: Path, data: Path, tmp_path: Path, before: int
) -> None:
    """Whatever the network had behind it; a pass that begins in the middle of one is two parts."""
    begun = tmp_path / "begun.qtn"
    words = "--data", data, "--epochs"
    quatrain("run", network, "--data", data, "--steps", before, "-o", begun)
    lines = quatrain("run", begun, *words, 2).splitlines()[:-1]
    parts = 3 if before % 6 else 2
    assert [line.split("  ")[0] for line in lines] == [
        f"epoch {i}/{parts}" for i in range(1, parts + 1)
    ]
    told = [json.loads(line) for line in quatrain("run", begun, *words, 2, "--json").splitlines()]
    assert [at["epoch"] for at in told[:-1]] == list(range(1, parts + 1))
    assert told[-1]["steps"] == before + 12


@pytest.mark.parametrize(("length", "said"), [(("--epochs", 1), 6), (("--steps", 13), 13)])
@pytest.mark.parametrize("before", [0, 7])
def test_a_run_that_is_over_says_so_where_it_is_resumed(
    quatrain: Quatrain,
    network: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    length: tuple[str, int],
    said: int,
    before: int,
) -> None:
    start, kept = tmp_path / "start.qtn", tmp_path / "kept.qtn"
    quatrain("run", network, "--data", data, "--steps", before, "-o", start)
    quatrain("run", start, "--data", data, "--steps", 13, "--checkpoint", kept)
    words = ["run", start, "--data", data, *length, "--resume", kept]
    capsys.readouterr()
    assert main([str(word) for word in words]) == 0
    out, err = capsys.readouterr()
    assert f"has 13 steps of this run behind it, which has {said};" in err and "epoch" not in out
    assert main([*map(str, words[:4]), "--steps", "15", "--resume", str(kept)]) == 0
    assert "nothing to train" not in capsys.readouterr().err

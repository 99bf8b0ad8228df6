"""quatrain build, and quatrain run of what it made."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")

import quatrain as q  # noqa: E402
from quatrain.runtime.built import load  # noqa: E402
from quatrain.runtime.built.folder import write_folder  # noqa: E402
from quatrain.runtime.built.make import make  # noqa: E402
from quatrain.runtime.bundle import read  # noqa: E402

from ..cases.commands import Quatrain  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.tvm]


@pytest.fixture
def network(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(49, 12), torch.nn.ReLU(), torch.nn.Linear(12, 3)
    )
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    example = torch.zeros(4, 1, 7, 7), torch.zeros(4, dtype=torch.int64)
    loss = torch.nn.functional.cross_entropy
    q.compile(model, loss, example, optimizer, recipe="fp32", target="cpu").save(
        tmp_path / "net.qtn"
    )
    return tmp_path / "net.qtn"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    y = np.arange(40) % 3
    x = generator.standard_normal((40, 1, 7, 7)).astype(np.float32) + y[:, None, None, None]
    path = tmp_path / "data.npz"
    np.savez(path, x_train=x[:27], y_train=y[:27], x_test=x[27:], y_test=y[27:])
    return path


def test_a_built_step_trains_as_the_network_does(
    quatrain: Quatrain, network: Path, data: Path, tmp_path: Path
) -> None:
    folder, trained = tmp_path / "built", tmp_path / "trained"
    said = quatrain("build", network, "--target", "cpu", "-o", folder)
    sizes = {p.name: p.stat().st_size for p in folder.iterdir()}
    assert [line.split()[0] for line in said.splitlines()] == named(folder)
    assert f"{sizes['libtvm_runtime.so']:,} bytes" in said
    how = ("--data", data, "--epochs", "2", "--schedule", "cosine", "--lr", "0.1")
    said = quatrain("run", folder, *how, "-o", trained)
    plain = quatrain("run", network, *how, "-o", tmp_path / "trained.qtn")
    assert [without_speed(s) for s in (said, plain)] == [without_speed(plain)] * 2
    one, other = q.load(tmp_path / "trained.qtn"), load(trained)
    assert all(v.numpy().tobytes() == other.state[k].tobytes() for k, v in one.state.items())
    assert one.hyper == other.hyper
    assert load(folder).state["step"] == 0


def without_speed(said: str) -> str:
    return re.sub(r"\d+ samples/s", "", said)


def named(folder: Path) -> list[str]:
    """The files of a build in the order in which it tells them."""
    kernels = json.loads((folder / "manifest.json").read_text())["kernels"]
    files = list(dict.fromkeys(kernel["file"] for kernel in kernels))
    texts = ["manifest.json", "program.txt", "predict.txt"]
    return [*texts, *files, "libtvm_runtime.so", "state.safetensors"]


def test_a_run_that_is_stopped_goes_on(
    quatrain: Quatrain, network: Path, data: Path, tmp_path: Path
) -> None:
    folder, half, whole = (tmp_path / name for name in ("built", "half", "whole"))
    quatrain("build", network, "-o", folder)
    quatrain("run", folder, "--data", data, "--steps", "9", "-o", whole)
    quatrain("run", folder, "--data", data, "--steps", "4", "--checkpoint", half)
    quatrain("run", folder, "--data", data, "--steps", "9", "--resume", half, "--checkpoint", half)
    assert (half / "state.safetensors").read_bytes() == (whole / "state.safetensors").read_bytes()
    quatrain("build", network, "--target", "cpu:x86-64-v2", "-o", half)
    said = quatrain("run", folder, "--data", data, "--steps", "9", "--resume", half, status=2)
    assert "is no checkpoint of" in said and "it was built otherwise" in said


def test_mistakes(quatrain: Quatrain, network: Path, data: Path, tmp_path: Path) -> None:
    run = ("--data", data, "--steps", "1")
    assert "is no build" in quatrain("run", tmp_path, *run, status=2)
    assert "exists and is no build" in quatrain("build", network, "-o", tmp_path, status=2)
    folder = tmp_path / "built"
    said = quatrain("build", network, "--target", "reference", "-o", folder, status=2)
    assert "reference interprets programs" in said and not folder.exists()
    assert "nothing.qtn does not exist" in quatrain("build", "nothing.qtn", "-o", folder, status=2)
    quatrain("build", network, "-o", folder)
    said = quatrain("run", folder, *run, "--target", "cuda", status=2)
    assert "is built for cpu; build the network again for cuda" in said
    said = quatrain("run", folder, *run, "-o", network, status=2)
    assert "it is no folder, and a build is one" in said


def test_the_page_about_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "building.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    example = torch.zeros(64, 1, 8, 8), torch.zeros(64, dtype=torch.int64)
    loss = torch.nn.functional.cross_entropy
    step = q.compile(model, loss, example, optimizer, recipe="fp32", target="cpu")
    step.save(tmp_path / "net.qtn")
    monkeypatch.chdir(tmp_path)
    write_folder(Path("net-cpu"), make(read(Path("net.qtn")), Path("net.qtn"), "cpu", "0"))
    exec(compile(source, "building.md", "exec"), {})
    assert load("net-later").hyper == load("net-cpu").hyper
    assert load("net-cpu").hyper["group0.lr"] == 0.025

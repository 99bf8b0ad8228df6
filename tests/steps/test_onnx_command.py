"""``quatrain compile net.onnx``: an ONNX network becomes a program; every wrong flag is one sentence."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
torch = pytest.importorskip("torch")

import onnx  # noqa: E402

from quatrain.tools.driver import load  # noqa: E402

from ..cases.commands import Quatrain  # noqa: E402
from ..cases.onnx_networks import keras_network, torch_network  # noqa: E402

pytestmark = pytest.mark.torch
REFERENCE = ("--recipe", "fp32", "--target", "reference")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(torch_network(), path)
    return path


def test_a_network_is_compiled_run_and_reported(
    file: Path, tmp_path: Path, quatrain: Quatrain
) -> None:
    net, data, trained = (tmp_path / n for n in ("net.qtn", "data.npz", "trained.qtn"))
    flags = ("--batch", 3, "--optimizer", "adamw", "--lr", 0.01, "--freeze", "body.*")
    quatrain("compile", file, *REFERENCE, *flags, "-o", net)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 3, 7, 7)).astype(np.float32), np.arange(6) % 5
    np.savez(data, x_train=x, y_train=y, x_test=x, y_test=y)
    quatrain("run", net, "--data", data, "--steps", 2, "-o", trained)
    assert "Network" in quatrain("report", trained)
    assert "# body.0.conv" in quatrain("inspect", trained)


def test_a_softmax_is_left_out_and_said(tmp_path: Path, quatrain: Quatrain) -> None:
    path, net = tmp_path / "keras.onnx", tmp_path / "net.qtn"
    onnx.save(keras_network(), path)
    quatrain("compile", path, *REFERENCE, "--batch", 2, "-o", net)
    step = load(net)
    scores = step.predict(torch.randn(2, 9, 9, 2))
    assert scores.shape == (2, 4) and not torch.allclose(scores.sum(1), torch.ones(2))
    quatrain("compile", path, *REFERENCE, "--batch", 2, "--loss", "mse", "-o", net)
    scores = load(net).predict(torch.randn(2, 9, 9, 2))
    torch.testing.assert_close(scores.sum(1), torch.ones(2))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--loss", "hinge"), "no loss is called 'hinge'"),
        (("--optimizer", "newton"), "no optimizer is called 'newton'"),
        (("--classes", 7), "has 5 classes, not 7"),
        (("--input", "3x8x8"), "--input 3x8x8 does not fit the input 'x'"),
        (("--freeze", "tail.*"), "--freeze 'tail.*' fits no parameter"),
        (("--freeze", "*"), "has no parameters to train"),
        (("--network-output", "sores"), "no output 'sores'; did you mean 'scores'?"),
        (("--network-output", "s"), "gives 4 for a batch of 3"),
    ],
)
def test_flags_that_do_not_fit(
    file: Path, tmp_path: Path, quatrain: Quatrain, flags: tuple[object, ...], words: str
) -> None:
    net = tmp_path / "net.qtn"
    said = quatrain("compile", file, *REFERENCE, "--batch", 3, *flags, "-o", net, status=2)
    assert words in said and not net.exists()


def test_a_file_that_is_missing(tmp_path: Path, quatrain: Quatrain) -> None:
    said = quatrain("compile", "no.onnx", "-o", tmp_path / "net.qtn", status=2)
    assert "there is no file no.onnx" in said

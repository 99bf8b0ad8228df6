"""Networks as ONNX: several recipes by onnxruntime, batches of any size, Python and the commands."""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

import onnx  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn.functional import cross_entropy, dropout, mse_loss  # noqa: E402

import quatrain as q  # noqa: E402
from quatrain.compiler.capture.program import Capture, capture  # noqa: E402
from quatrain.compiler.errors import ExportError, UsageError  # noqa: E402
from quatrain.passes.recipe import load_recipe  # noqa: E402
from quatrain.runtime.initial import initial_state  # noqa: E402
from quatrain.runtime.step import Step  # noqa: E402
from quatrain.targets.numbers.tensor import Array  # noqa: E402
from quatrain.tools.cli import main  # noqa: E402
from quatrain.tools.commands.compile import exports  # noqa: E402

from ..cases.commands import Quatrain  # noqa: E402
from ..cases.networks import NETWORKS, Gpt  # noqa: E402
from ..cases.onnx_case import reference, run, written  # noqa: E402

pytestmark = pytest.mark.torch
# Where clips and running ranges start they say little of numbers around 0.
STARTS = {"clip": 1.37, "range.low": -1.23, "range.high": 2.31}


@cache
def captured(name: str) -> tuple[Capture, Array]:
    torch.manual_seed(0)
    network = NETWORKS[name]
    model, (x, y) = Gpt(8, 2, 1) if name == "gpt" else network.make(), network.batch()
    return capture(model, network.loss, (x, y), torch.optim.SGD(model.parameters(), 0.1)), x.numpy()


@pytest.mark.parametrize(
    ("name", "recipe", "exact", "sums"),
    [
        ("awkward", "ultra_low_4bit", False, False),
        ("awkward", "ultra_low_4bit", True, False),
        ("awkward", "dorefa", True, False),
        ("awkward", "sbm8", False, True),
        ("gpt", "int4", True, False),
        ("gpt", "wageubn", True, False),
        ("mlp", "s2fp8", False, True),
        ("mlp", "dfp16", False, True),
        ("mlp", "fp16_amp", False, True),
    ],
)
def test_networks(name: str, recipe: str, exact: bool, sums: bool) -> None:
    """Sums of integers, and what follows, are the reference's to the bit where that is asked for."""
    found, x = captured(name)
    rules = load_recipe(recipe)
    if "exempt" in {k.rpartition(".")[2] for k in rules.settings}:
        rules = rules.with_options({"exempt": "none"})
    program = rules.apply(found.evaluation)[-1][1]
    state = initial_state(program, {k: np.asarray(v) for k, v in found.state.items()}, 0)
    for end, number in STARTS.items():
        state |= {k: np.full_like(v, number) for k, v in state.items() if k.endswith(end)}
    (wanted,) = reference(program, state, {program.inputs[0].name: x})
    data = written(program, state, exact=exact)
    more = np.concatenate([x[2:], x])
    for (made,) in run(data, {program.inputs[0].name: more}):
        assert made.shape == (len(more), *wanted.shape[1:])
        whole = made[len(x) - 2 :]
        np.testing.assert_allclose(made[: len(x) - 2], whole[2:], rtol=1e-5, atol=1e-6)
        if exact and not sums:
            np.testing.assert_array_equal(whole, wanted)
        else:  # a number in the middle between two codes or carriers may take the other one
            largest = np.abs(wanted).max()
            np.testing.assert_allclose(whole, wanted, atol=1e-2 * largest, rtol=0)


class Meeting(nn.Module):
    """Samples that all have something of each other."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Without the mean."""
        made: Tensor = self.layer(x - x.mean(0))
        return made


class Sharing(nn.Module):
    """What all samples share stands beside them, is added to them and multiplies them."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.place = nn.Parameter(torch.randn(1, 1, 6)), nn.Parameter(torch.randn(4, 6))
        self.mix, self.layer = nn.Parameter(torch.randn(4, 4)), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Of three rows a sample."""
        h = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.place
        seen = torch.bmm(self.mix.softmax(1).expand(len(x), -1, -1), h)
        made: Tensor = self.layer(seen.transpose(1, 2).flatten(0, 1).view(len(x), 4, 6))
        return made


class Drawing(nn.Module):
    """Dropout that stays on."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Half of it."""
        made: Tensor = dropout(self.layer(x))
        return made


def step_of(model: nn.Module, *shape: int, recipe: str = "fp32") -> Step:
    torch.manual_seed(0)
    x = torch.randn(shape)
    sgd = torch.optim.SGD(model.parameters(), 0.1)
    example = x, torch.zeros_like(model(x))
    return q.compile(model, mse_loss, example, sgd, recipe=recipe, target="reference")


def test_what_samples_share_is_there_for_any_number_of_them(tmp_path: Path) -> None:
    step = step_of(Sharing(), 3, 3, 6)
    step.export(tmp_path / "net.onnx")
    x = torch.randn(7, 3, 6)
    wanted = step.predict(x).numpy()
    name = step.source.evaluation.inputs[0].name
    for (made,) in run((tmp_path / "net.onnx").read_bytes(), {name: x.numpy()}):
        np.testing.assert_allclose(made, wanted, rtol=1e-5, atol=1e-6)


def test_the_batch_is_fixed_where_samples_meet(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    step = step_of(Meeting(), 3, 5)
    with caplog.at_level("INFO", "quatrain"):
        step.export(tmp_path / "net.onnx")
    assert "the batch is fixed at 3x5: the program does not keep samples apart" in caplog.messages
    shape = onnx.load(tmp_path / "net.onnx").graph.input[0].type.tensor_type.shape
    assert [d.dim_value for d in shape.dim] == [3, 5]


def test_random_numbers_are_refused(tmp_path: Path) -> None:
    step = step_of(Drawing(), 3, 5)
    with pytest.raises(ExportError, match="draws random numbers, anew at each predict"):
        step.check_export()
    with pytest.raises(ExportError, match="draws random numbers, anew at each predict"):
        step.export(tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_what_no_package_or_dialect_is_there_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = step_of(nn.Linear(5, 3), 3, 5)
    with pytest.raises(UsageError, match="no dialect of ONNX is called 'qqd'; did you mean 'qdq'"):
        step.export(tmp_path / "net.onnx", dialect="qqd")
    monkeypatch.setitem(sys.modules, "onnx", None)
    step.check_export()
    with pytest.raises(ExportError, match=r"onnx is not installed; pip install 'quatrain\[onnx\]'"):
        step.export(tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


# -- the command line


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks, one of which has FP8 numbers that ONNX has no type for, and data."""
    folder = tmp_path_factory.mktemp("export")
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3)),
        *(nn.ReLU(), nn.Flatten(), nn.Linear(100, 3)),
    )
    sgd = torch.optim.SGD(model.parameters(), 0.05)
    example = torch.randn(4, 1, 7, 7), torch.arange(4) % 3
    for recipe in ("ultra_low_4bit", "hfp8"):
        step = q.compile(model, cross_entropy, example, sgd, recipe=recipe, target="reference",
                         options={"exempt": "none"})  # fmt: skip
        step(*example)
        step.save(folder / f"{recipe}.qtn")
    generator = np.random.default_rng(0)
    y, x = np.arange(16) % 3, generator.standard_normal((16, 1, 7, 7)).astype(np.float32)
    np.savez(folder / "data.npz", x_train=x[:6], y_train=y[:6], x_test=x[6:], y_test=y[6:])
    return folder


def test_export_and_verify(quatrain: Quatrain, files: Path, tmp_path: Path) -> None:
    network, made = files / "ultra_low_4bit.qtn", tmp_path / "net.onnx"
    said = quatrain("export", network, "-o", made, "--exact", "--verify", files / "data.npz")
    first, *lines = said.splitlines()
    assert first == f"{made}: {made.stat().st_size:,} bytes"
    agreed = "top-1 agreement 10 of 10, largest difference 0, 10 of 10 samples equal to the bit"
    assert lines == [f"onnxruntime, optimizations {word}: {agreed}" for word in ("off", "on")]
    model = onnx.load(made)
    assert {n.op_type for n in model.graph.node} >= {"QuantizeLinear", "DequantizeLinear", "Conv"}
    kinds = {t.name: onnx.TensorProto.DataType.Name(t.data_type) for t in model.graph.initializer}
    assert kinds["3.wq"] == "INT4" and model.opset_import[0].version == 21
    facts = {p.key: p.value for p in model.metadata_props}
    assert facts["recipe"] == "ultra_low_4bit" and facts["exact"] == "true"


def test_what_cannot_be_written_leaves_the_file_of_before(
    quatrain: Quatrain, files: Path, tmp_path: Path
) -> None:
    made = tmp_path / "net.onnx"
    made.write_text("before")
    error = quatrain("export", files / "hfp8.qtn", "-o", made, status=2)
    assert re.search(r"layer '0', op cast .* fp8\.143\.ibm, which ONNX has no type for", error)
    assert made.read_text() == "before" and list(tmp_path.iterdir()) == [made]


def test_arguments_that_do_not_fit(quatrain: Quatrain, files: Path, tmp_path: Path) -> None:
    network, made = files / "ultra_low_4bit.qtn", tmp_path / "net.onnx"
    how = ("export", network, "-o", made)
    error = quatrain(*how, "--dialect", "qonnx", "--verify", "digits", status=2)
    assert "--verify runs onnxruntime, which has no operations of qonnx" in error
    assert "no dialect of ONNX" in quatrain(*how, "--dialect", "onnx", status=2)
    x, y = np.zeros((3, 1, 8, 8), np.float32), np.arange(3)
    np.savez(tmp_path / "other.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    error = quatrain(*how, "--verify", tmp_path / "other.npz", status=2)
    assert "other has examples of 1x8x8; the network takes 1x7x7" in error and not made.exists()
    assert "is no folder" in quatrain("export", network, "-o", tmp_path / "no" / "x", status=2)


def test_the_program_itself_for_viewers(quatrain: Quatrain, files: Path, tmp_path: Path) -> None:
    network, made = files / "ultra_low_4bit.qtn", tmp_path / "ir.onnx"
    for how in ((), ("--eval",), ("--after", "sawb_weights")):
        assert quatrain("inspect", network, *how, "--onnx", made) == ""
        onnx.checker.check_model(onnx.load(made))
    quatrain("inspect", network, "--onnx", made)
    model, program = onnx.load(made), q.load(network).program
    lines = [op for _, op in program.ops()]
    assert [n.op_type for n in model.graph.node] == [op.kind for op in lines]
    for node, op in zip(model.graph.node, lines, strict=True):
        facts = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        assert node.domain == "quatrain" and facts["layer"].decode() == op.origin
        assert [t.decode() for t in facts["types"]] == [str(v.type) for v in op.results]
    about = {v.name: v.doc_string for v in model.graph.value_info}
    assert about["3.wq"] == "int4*t[4x4x3x3]"
    assert "--onnx goes with" in quatrain("inspect", network, "--plan", "--onnx", made, status=2)


def test_compile_says_whether_it_can_be_exported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    how = ("--target", "reference", "--recipe", "hfp8", "-o", str(tmp_path / "net.qtn"))
    file = Path(__file__).parents[2] / "examples" / "digits.py"
    assert main(["compile", f"{file}:digits", "--batch", "3", *how]) == 0
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("cannot be exported to ONNX: layer '") and said.endswith(
        "use fp8.143 or fp8.152"
    )
    assert exports(step_of(nn.Linear(5, 3), 3, 5)) == "can be exported to ONNX"

"""`run` on text, and what of data does not fit a network; weights of a checkpoint that compile."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402
from torch import nn  # noqa: E402

from quatrain.compiler.errors import QuatrainError  # noqa: E402
from quatrain.runtime.bundle import read  # noqa: E402
from quatrain.tools import driver, train  # noqa: E402
from quatrain.tools.data import load_any  # noqa: E402
from quatrain.tools.dataset import Dataset  # noqa: E402
from quatrain.tools.fit import fit, is_cross_entropy, takes, takes_built  # noqa: E402
from quatrain.tools.schedule import constant, schedule  # noqa: E402
from quatrain.tools.weights import load_weights  # noqa: E402

from ..cases.commands import Quatrain  # noqa: E402

pytestmark = pytest.mark.torch

SOURCE = """
import quatrain, torch
from torch import nn
from torch.nn.functional import cross_entropy

class Summed(nn.Module):
    def __init__(self, axis, rows=7, classes=7):
        super().__init__()
        self.axis, self.table, self.scores = axis, nn.Embedding(rows, 5), nn.Linear(5, classes)
    def forward(self, x):
        return self.scores(torch.cumsum(self.table(x), self.axis))

class Flat(Summed):
    def forward(self, x):
        return super().forward(x).flatten(0, 1)

def task(model, flat=False, smoothing=0.0, inner=7):
    def loss(scores, y):
        return cross_entropy(scores.reshape(-1, inner), y.flatten(), label_smoothing=smoothing)
    torch.manual_seed(0)
    x = torch.zeros(2, 3, 4, dtype=torch.int64)
    sgd = torch.optim.SGD(model.parameters(), 0.5)
    return quatrain.Task(model=model, loss=loss, optimizer=sgd, example=(x[0], x[1]))

def batch_first(): return task(Summed(1))
def time_first(): return task(Summed(0))
def flat(): return task(Flat(1))
def smoothed(): return task(Summed(1), smoothing=0.1)
def words(): return task(Summed(1, rows=6))
def bigrams(): return task(Summed(2))
"""
FP32 = ("--recipe", "fp32", "--target", "reference")
# 133 letters of seven kinds, of which the last 13 are held out.
LETTERS = "".join("abcdefg"[(i * i + i // 7) % 7] for i in range(120)) + "abcdefgfedcba"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "letters.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture
def data(tmp_path: Path) -> str:
    path = tmp_path / "letters.txt"
    path.write_text(LETTERS)
    return f"{path}:held_out={13 / 133}"


@pytest.fixture
def network(quatrain: Quatrain, source: Path, tmp_path: Path) -> Path:
    path = tmp_path / "net.qtn"
    quatrain("compile", f"{source}:batch_first", *FP32, "-o", path)
    return path


def test_run_says_perplexity_and_bits_beside_the_loss(
    quatrain: Quatrain, network: Path, data: str
) -> None:
    lines = quatrain("run", network, "--data", data, "--epochs", 2, "--json").splitlines()
    first, second, last = map(json.loads, lines)
    # Three streams of 39 letters, in windows of four.
    assert (first["step"], second["step"]) == (9, 18)
    assert last["test_loss"] == second["test_loss"] > 0
    assert last["test_perplexity"] == pytest.approx(math.exp(last["test_loss"]))
    assert last["test_bits_per_character"] == pytest.approx(last["test_loss"] / math.log(2))
    step, x = driver.load(network), load_any(data)
    bundle = read(network)
    fitted, batch = fit(x, takes(bundle.train, bundle.evaluation, step.compiled_hyper))
    assert (batch, fitted.x_train.shape, fitted.x_test.shape) == (3, (27, 4), (3, 4))
    found = train.test_part(step, fitted, batch)
    scores = step.predict(torch.from_numpy(fitted.x_test))
    labels = torch.from_numpy(fitted.y_test)
    wanted = torch.nn.functional.cross_entropy(scores.flatten(0, 1), labels.flatten())
    # Twelve float32 logarithms.
    assert found is not None and found.loss == pytest.approx(float(wanted), rel=1e-6)
    said = quatrain("run", network, "--data", data, "--epochs", 1)
    assert f"loss {first['loss']:.4f} (perplexity {math.exp(first['loss']):.4g}, " in said
    assert "bits a character)" in said.splitlines()[-1]


def test_a_run_on_text_is_resumed_to_the_byte(
    quatrain: Quatrain, network: Path, data: str, tmp_path: Path
) -> None:
    whole, half, rest = (tmp_path / f"{n}.qtn" for n in ("whole", "half", "rest"))
    words = ("run", network, "--data", data, "--schedule", "cosine", "--steps", 13)
    quatrain(*words, "-o", whole)
    step, bundle = driver.load(network), read(network)
    fitted, batch = fit(load_any(data), takes(bundle.train, bundle.evaluation, step.hyper))
    run = train.plan_run(
        step, fitted, batch, 0, steps=13, epochs=None, lr=None,
        factor=schedule("cosine"), checkpoint=half, every=None,
    )  # fmt: skip
    seen: list[int] = []
    for at in train.train(step, fitted, run, batch, lambda: len(seen) == 4):
        seen.append(at.done)
    assert seen[-1] == 5
    quatrain(*words, "--resume", half, "-o", rest)
    assert rest.read_bytes() == whole.read_bytes() != network.read_bytes()


@pytest.mark.parametrize(
    ("factory", "batch", "axis"), [("time_first", 4, 1), ("flat", 3, 0), ("smoothed", 3, 0)]
)
def test_a_network_tells_which_dimension_is_time(
    quatrain: Quatrain, source: Path, data: str, tmp_path: Path, factory: str, batch: int, axis: int
) -> None:
    path = tmp_path / "other.qtn"
    quatrain("compile", f"{source}:{factory}", *FP32, "-o", path)
    bundle = read(path)
    hyper = bundle.manifest["hyper"]
    assert isinstance(hyper, dict)
    fitted, found = fit(load_any(data), takes(bundle.train, bundle.evaluation, hyper))
    assert (found, fitted.axis) == (batch, axis)
    # A smoothed loss is no logarithm of a perplexity.
    assert is_cross_entropy(bundle.train) == (factory != "smoothed")
    said = quatrain("run", path, "--data", data, "--steps", 2)
    assert ("perplexity" in said) == (factory != "smoothed") and "test accuracy" in said


def test_a_network_that_does_not_tell_asks(
    quatrain: Quatrain, source: Path, data: str, tmp_path: Path
) -> None:
    path = tmp_path / "other.qtn"
    quatrain("compile", f"{source}:bigrams", *FP32, "-o", path)
    words = ("run", path, "--steps", 1, "--data")
    assert "batch 3x4 may be [batch, time] or [time, batch]; say which" in quatrain(
        *words, data, status=2
    )
    quatrain(*words, f"{data},time_first=true")


def test_a_build_tells_that_samples_are_rows_or_nothing(network: Path, data: str) -> None:
    bundle = read(network)
    hyper = driver.load(network).compiled_hyper
    parts = bundle.train, takes(bundle.train, bundle.evaluation, hyper).checks, bundle.evaluation
    fitted, _ = fit(load_any(data), takes_built(*parts, True, hyper))
    assert fitted.axis == 0
    with pytest.raises(QuatrainError, match="say which with --data NAME:time_first"):
        fit(load_any(data), takes_built(*parts, False, hyper))


def test_data_that_do_not_fit(
    quatrain: Quatrain, source: Path, network: Path, data: str, tmp_path: Path
) -> None:
    def refused(path: Path, word: object, message: str) -> None:
        assert message in quatrain("run", path, "--data", word, "--steps", 1, status=2)

    more = tmp_path / "more.txt"
    more.write_text(LETTERS + LETTERS.replace("a", "z"))
    refused(network, more, "more has 8 different characters; the network's table has 7")
    refused(network, f"{more}:tokens=words", "takes 3 windows of 4 at a time")
    np.savez(tmp_path / "some.npz", x=np.zeros((9, 4), np.float32), y=np.arange(9) % 3)
    refused(network, tmp_path / "some.npz", "takes integers, as of text; some has floats")
    rows = tmp_path / "rows.qtn"
    quatrain("compile", f"{source}:words", *FP32, "-o", rows)
    refused(rows, data, "letters has 7 different characters; the network's table has 6")


def test_scores_that_are_none_are_refused_ahead(data: str) -> None:
    model = nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 8), nn.Flatten(0))
    x = torch.zeros(3, 4, dtype=torch.int64)
    step = driver.compile(
        model, lambda made, y: nn.functional.cross_entropy(made.view(12, 8), y.flatten()), (x, x),
        torch.optim.SGD(model.parameters(), 0.1), recipe="fp32", target="reference",
    )  # fmt: skip
    what = takes(step.source.train, step.source.evaluation, step.compiled_hyper)
    with pytest.raises(
        QuatrainError, match="predict of the network gives 96 for labels 3x4, which"
    ):
        fit(load_any(data), what)


def dense(shape: tuple[int, ...], classes: int = 3) -> driver.Task:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(math.prod(shape), classes))
    example = torch.zeros(2, *shape), torch.zeros(2, dtype=torch.int64)
    sgd = torch.optim.SGD(model.parameters(), 0.1)
    return driver.Task(model, torch.nn.functional.cross_entropy, sgd, example)


@pytest.mark.parametrize(
    ("shape", "classes", "message"),
    [
        ((1, 3, 2), 3, ""),
        ((3, 2), 3, ""),
        ((3, 1, 2), 3, ""),
        ((2, 3), 3, "made has examples of 1x3x2, the network takes 2x3"),
        ((3, 3, 2), 3, "made has examples of 1x3x2, the network takes 3x3x2"),
        ((1, 3, 2), 2, "made has the label 2; the network's labels are 0 .. 1"),
    ],
)
def test_shapes_decide_and_dimensions_of_one_do_not(
    shape: tuple[int, ...], classes: int, message: str
) -> None:
    task = dense(shape, classes)
    step = driver.compile(
        task.model, task.loss, task.example, task.optimizer, recipe="fp32", target="reference"
    )
    x, y = np.arange(42, dtype=np.uint8).reshape(7, 1, 3, 2), np.arange(7) % 3
    data = Dataset("made", x[:5], y[:5], x[5:], y[5:])
    what = takes(step.source.train, step.source.evaluation, step.compiled_hyper)
    if message:
        with pytest.raises(QuatrainError, match=message):
            fit(data, what)
        return
    fitted, batch = fit(data, what)
    assert batch == 2 and fitted.x_train.shape == (5, *shape)
    run = train.plan_run(
        step, fitted, 2, 0, steps=1, epochs=None, lr=None, factor=constant, checkpoint=None,
        every=None,
    )  # fmt: skip
    assert len([*train.train(step, fitted, run, 2, lambda: False)]) == 1


def test_a_loader_of_torch_feeds_a_step() -> None:
    task = dense((3, 2))
    step = driver.compile(
        task.model, task.loss, task.example, task.optimizer, recipe="fp32", target="reference"
    )
    rows = torch.utils.data.TensorDataset(torch.rand(7, 3, 2), torch.arange(7) % 3)
    for x, y in torch.utils.data.DataLoader(rows, batch_size=3):
        task.model.load_state_dict(step.state_dict())
        wanted = task.loss(task.model(x), y).item()
        # Batches of three, of three and of one; sums of a few float32 products.
        assert float(step(x, y)) == pytest.approx(wanted, rel=1e-5)
    assert train.steps_done(step) == 3


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight


def test_weights_of_a_checkpoint_are_compiled(
    quatrain: Quatrain, source: Path, network: Path, tmp_path: Path
) -> None:
    weights = driver.load(network).state_dict()
    whole = tmp_path / "model.safetensors"
    save_file(weights, whole)
    torch.save(weights, tmp_path / "model.pt")
    names = sorted(weights)
    for part in (0, 1):
        save_file({n: weights[n] for n in names[part::2]}, tmp_path / f"part{part}.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    places = {n: f"part{i % 2}.safetensors" for i, n in enumerate(names)}
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    for path in (whole, tmp_path / "model.pt", index):
        out = tmp_path / "loaded.qtn"
        quatrain("compile", f"{source}:batch_first", *FP32, "--weights", path, "-o", out)
        state = driver.load(out).state_dict()
        assert all(torch.equal(state[n], weights[n]) for n in names)
    out = tmp_path / "refused.qtn"
    words = ("compile", f"{source}:words", *FP32, "-o", out, "--weights")
    said = quatrain(*words, whole, status=2)
    assert "does not fit Summed: table.weight is float32[7, 5], not float32[6, 5]" in said
    assert "there is no file" in quatrain(*words, tmp_path / "absent.pt", status=2)
    assert not out.exists()


def test_weights_that_do_not_fit_change_nothing(tmp_path: Path) -> None:
    model = Tied()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    given = {"a.weight": torch.ones(3, 3, dtype=torch.bfloat16), "a.bias": torch.ones(3)}
    path = tmp_path / "model.safetensors"
    for more, message in (
        ({}, "model.safetensors does not fit Tied: it lacks b.bias$"),
        ({"b.bias": torch.ones(3), "c": torch.ones(1)}, "it has c more$"),
        ({"b.bias": torch.ones(2)}, r"b\.bias is float32\[2\], not float32\[3\]"),
        ({"b.bias": torch.ones(3, dtype=torch.int64)}, r"b\.bias is int64\[3\], not float32"),
    ):
        save_file(given | more, path)
        with pytest.raises(QuatrainError, match=message):
            load_weights(model, path)
        assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    # One name of a tied weight is enough, and a narrow format is widened.
    save_file(given | {"b.bias": torch.ones(3)}, path)
    load_weights(model, path)
    assert torch.equal(model.b.weight, torch.ones(3, 3)) and model.b.weight is model.a.weight


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt", "model.safetensors.index.json"])
@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04broken", b"[1]"])
def test_a_damaged_checkpoint_is_one_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(QuatrainError, match=rf"{name} (is|holds)") as found:
        load_weights(Tied(), tmp_path / name)
    assert "\n" not in str(found.value)


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    torch.save({"a": Path("x")}, tmp_path / "model.pt")
    with pytest.raises(QuatrainError, match=r"holds more than tensors; save model\.state_dict"):
        load_weights(Tied(), tmp_path / "model.pt")
    torch.save([torch.ones(1)], tmp_path / "model.pt")
    with pytest.raises(QuatrainError, match="is no state_dict"):
        load_weights(Tied(), tmp_path / "model.pt")

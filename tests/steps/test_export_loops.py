"""Recurrent networks as ONNX: each form beside ``predict``, and batches of any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

import onnx  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import quatrain as q  # noqa: E402
from quatrain.compiler.errors import ExportError  # noqa: E402
from quatrain.compiler.ir.verify import read_program  # noqa: E402
from quatrain.runtime.step import Step  # noqa: E402

from ..cases.onnx_case import agree, reference, run, text, written  # noqa: E402
from ..cases.recurrent import FORMS, WORDS, Tagger  # noqa: E402

pytestmark = pytest.mark.torch


def squares(made: Tensor | tuple[Tensor, ...], target: Tensor) -> Tensor:
    """Of all outputs."""
    parts = made if isinstance(made, tuple) else (made,)
    return sum((p.square().mean() for p in parts), target.sum())


def step_of(model: nn.Module, *inputs: Tensor, recipe: str) -> Step:
    sgd = torch.optim.SGD(model.parameters(), 0.1)
    example = (*inputs, torch.zeros(()))
    return q.compile(model, squares, example, sgd, recipe=recipe, target="reference")


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_what_predict_says(form: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, inputs = FORMS[form]()
    step = step_of(model, *inputs, recipe="fp32")
    step.check_export()
    step.export(tmp_path / "net.onnx")
    names = [v.name for v in step.source.evaluation.inputs]
    feed = {n: x.numpy() for n, x in zip(names, inputs, strict=True)}
    wanted = step.predict(*inputs)
    parts = wanted if isinstance(wanted, tuple) else (wanted,)
    for made in run((tmp_path / "net.onnx").read_bytes(), feed):
        for one, other in zip(made, parts, strict=True):
            # Sums in another order, some ten times over.
            np.testing.assert_allclose(one, other.numpy(), rtol=1e-5, atol=1e-6)


# A layer in 4 bits that reads a loop behind it and the step's number, whatever their order.
CODES = """
program p
input x : f32[12x5]
state w : f32[3x5]
state v : f32[5x5]
state clip : f32[] = 1.37

forward:
  zeros = constant() {value=0.25} : f32[3x5]
  t = steps() {count=4, reverse=FIRST} : i64[]
  xt = rows_of_step(x, t) : f32[3x5]
  a = carried(zeros, t) : f32[3x5]
  aq = quantize(a, clip) : int4*t[3x5]
  vq = quantize(v, clip) : int4*t[5x5]
  y = linear(aq, vq) : f32[3x5]
  b = maximum(y, xt) : f32[3x5]
  a.last = feed(a, b) : f32[3x5]
  as = all_steps(a, t) : f32[12x5]
  u = steps() {count=4, reverse=SECOND} : i64[]
  c = carried(zeros, u) : f32[3x5]
  number = to_number(u) : f32[]
  spread = broadcast(number) {dims=[0,1]} : f32[3x5]
  bq = quantize(b, clip) : int4*t[3x5]
  z = linear(bq, vq) : f32[3x5]
  more = add(z, spread) : f32[3x5]
  d = maximum(more, c) : f32[3x5]
  c.last = feed(c, d) : f32[3x5]
  ds = all_steps(d, u) : f32[12x5]

return as, ds, a.last, c.last
"""


@pytest.mark.parametrize("second", ["false", "true"])
@pytest.mark.parametrize("first", ["false", "true"])
def test_codes_of_steps_are_those_of_the_reference(first: str, second: str) -> None:
    program = read_program(CODES.replace("FIRST", first).replace("SECOND", second))
    generator = np.random.default_rng(0)
    state = {
        v.name: np.asarray(generator.standard_normal(v.type.shape), np.float32)
        for v in program.state
        if v.type.shape
    }
    feed = {"x": np.asarray(generator.standard_normal((12, 5)), np.float32)}
    wanted = reference(program, state, feed)
    for made in run(written(program, state, exact=True), feed):
        for one, other in zip(made, wanted, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_loop_that_reads_nothing_of_each_step() -> None:
    program = text(
        "input x : f32[2x3]",
        "t = steps() {count=5, reverse=false} : i64[]",
        "a = carried(x, t) : f32[2x3]",
        "b = mul(a, a) : f32[2x3]",
        "y = feed(a, b) : f32[2x3]",
    )
    agree(
        program,
        {"x": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)},
        exact=False,
        close=False,
    )


def test_any_number_of_samples(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Tagger(nn.LSTM, num_layers=2, bidirectional=True, batch_first=True)
    step = step_of(model, torch.randint(WORDS, (3, 4)), recipe="fp32")
    step.export(tmp_path / "net.onnx")
    more = torch.randint(WORDS, (7, 4))
    name = step.source.evaluation.inputs[0].name
    for (made,) in run((tmp_path / "net.onnx").read_bytes(), {name: more.numpy()}):
        np.testing.assert_allclose(made, step.predict(more).numpy(), rtol=1e-5, atol=1e-6)


def test_constants_are_outside_of_the_loops(tmp_path: Path) -> None:
    """Not decoded in each step."""
    torch.manual_seed(0)
    step = step_of(*_two_layers(), recipe="ultra_low_4bit")
    step.export(tmp_path / "net.onnx")
    graph = onnx.load(tmp_path / "net.onnx").graph
    scans = [n for n in graph.node if n.op_type == "Scan"]
    bodies = [a.g for n in scans for a in n.attribute if a.name == "body"]
    assert len(bodies) == 2
    decoded = {
        i for b in bodies for n in b.node if n.op_type == "DequantizeLinear" for i in n.input
    }
    assert decoded.isdisjoint({c.name for c in graph.initializer if len(c.dims) == 2})
    assert not any(b.initializer for b in bodies)


def test_qonnx_has_no_loops(tmp_path: Path) -> None:
    step = step_of(*_two_layers(), recipe="ultra_low_4bit")
    with pytest.raises(ExportError, match=r"layer 'rnn.l0', op steps .* starts a loop"):
        step.export(tmp_path / "net.onnx", dialect="qonnx")
    assert not [*tmp_path.iterdir()]


def _two_layers() -> tuple[nn.Module, Tensor]:
    return Tagger(nn.GRU, num_layers=2), torch.randint(WORDS, (4, 3))

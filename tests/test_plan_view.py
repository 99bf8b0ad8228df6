"""The plan as rows and as text, on a plan made by hand: no TVM needed."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from quatrain.compiler.text import parse
from quatrain.compiler.verify import verify
from quatrain.runtime.bill import plan_units
from quatrain.runtime.bill_tables import size
from quatrain.targets.kernel import Kernel, Unit, slots_of
from quatrain.targets.layout import orders
from quatrain.targets.plan import Plan, PlannedKernel, place_slots
from quatrain.targets.state_layout import state_layout
from quatrain.tools.plan_tables import tables
from quatrain.tools.plan_view import PlanView, view_plan
from quatrain.tools.terminal import show

from .bill_programs import QUANTIZED


@dataclass(frozen=True)
class Spec:
    name: str
    build: Callable[[], object]


@pytest.fixture
def made() -> Plan:
    """A kernel for each op, but one for the convolution and the ReLU behind it."""
    program = verify(parse(QUANTIZED))
    kernels, ops = [], list(program.ops())
    while ops:
        region, op = ops.pop(0)
        group = [op]
        if op.kind == "conv2d" and ops[0][1].kind == "relu":
            group.append(ops.pop(0)[1])
        unit = Unit.INT8_DOT if op.kind == "conv2d" else Unit.NONE
        inputs, outputs = slots_of(op.inputs), slots_of(group[-1].results)
        spec = Spec("_".join(o.kind for o in group), lambda: None)
        kernel = Kernel(spec, tuple(group), inputs, outputs, unit)
        kernels.append(PlannedKernel(kernel, region.name))
    return place_slots(program, kernels, orders(program), {}, state_layout(program))


@pytest.fixture
def view(made: Plan) -> PlanView:
    return view_plan(made, "cpu")


def test_rows_follow_the_plan(made: Plan, view: PlanView) -> None:
    assert [k.index for k in view.kernels] == list(range(len(made.kernels)))
    fused = next(k for k in view.kernels if k.kernel == "conv2d_relu")
    assert fused.ops == ("conv2d", "relu") and fused.unit == "int8 dot"
    assert fused.layer == "body.conv, body.relu" and fused.region == "forward"
    assert [b.name for b in fused.inputs] == ["xq", "xq (scale)", "wq", "wq (scale)"]
    assert fused.inputs[0].format == "uint4*t[2x3x7x7]" and fused.inputs[0].bytes == 2 * 49 * 2
    assert fused.inputs[1].format == "f32[1]" and fused.inputs[1].bytes == 4
    assert {b.where for b in fused.outputs} == {"arena"}
    assert view.arena == made.arena and view.saved_bytes == made.saved_bytes()


def test_buffers_lie_in_the_arena(view: PlanView) -> None:
    for k in view.kernels:
        for b in (*k.inputs, *k.outputs):
            assert b.where != "arena" or 0 <= b.offset <= view.arena - b.bytes


def test_only_one_layer(view: PlanView) -> None:
    kernels = view.of_layer("body.relu").kernels
    assert [k.kernel for k in kernels] == ["conv2d_relu", "relu_grad"]
    assert view.of_layer("body").kernels == ()


def test_units_of_ops(made: Plan) -> None:
    assert {op.kind for op in plan_units(made)} == {"conv2d", "relu"}


def test_as_json(view: PlanView) -> None:
    data = json.loads(json.dumps(view.to_dict()))
    assert data["kernels"][0]["region"] == "forward"


@pytest.mark.parametrize("width", [40, 80, 132])
def test_as_text(
    view: PlanView, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("quatrain.tools.terminal.FILE_WIDTH", width)
    show(tables(view))
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= width
    assert "conv2d_relu" in text and size(view.arena) in text and "int8 dot" in text

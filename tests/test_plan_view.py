"""The plan as rows and as text, on a plan made by hand: no TVM needed."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from quatrain.compiler.ir.text import parse
from quatrain.compiler.ir.verify import verify
from quatrain.runtime.report.bill import plan_units
from quatrain.targets.plan.kernel import Kernel, Unit, slots_of
from quatrain.targets.plan.layout import orders
from quatrain.targets.plan.plan import Plan, PlannedKernel, place_slots
from quatrain.targets.plan.state import state_layout
from quatrain.tools.plan_tables import overview, plan_tables
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
    assert [b.name for b in fused.inputs] == ["xq", "scale(xq)", "wq", "scale(wq)"]
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
    assert view.of_layer("*relu").kernels == kernels
    body = view.of_layer("body")
    assert {name.partition(".")[0] for k in body.kernels for name in k.layers} == {"body"}
    assert body.total == len(view.kernels) > len(body.kernels) > len(kernels)
    assert view.of_layer("bod").kernels == ()


def test_what_is_kept_is_marked(made: Plan, view: PlanView) -> None:
    marked = {b.name for k in view.kernels for b in k.outputs if b.kept}
    slots = {f"scale({s.value.name})" if s.scale else s.value.name for s, _ in made.saved()}
    assert marked == slots and {"xq", "scale(xq)", "wq"} <= marked


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
    show(plan_tables(view))
    for text in (capsys.readouterr().out, overview(view, width)):
        assert max(map(len, text.splitlines())) <= width
        flat = "".join(text.split())
        for word in ("conv2d+relu", "arena10.8KiB", "int8dot", "xq!", "keptforbackward"):
            # The table breaks words into pieces where it is narrower than a row.
            assert width < 80 or word in flat


def test_kernels_of_the_update_that_are_alike_share_a_line(view: PlanView) -> None:
    last = view.kernels[-1]
    alike = tuple(replace(last, index=last.index + i, region="update") for i in range(3))
    lines = overview(replace(view, kernels=alike), 100).splitlines()
    (line,) = (t for t in lines[lines.index("update:") + 1 :] if t.startswith("   "))
    assert line.split()[0] == str(last.index)
    assert f"3 x {' + '.join(last.ops)}" in line

"""Depthwise convolutions under a schedule: their bits stay, on both targets."""

from __future__ import annotations

from pathlib import Path

import pytest

from quatrain.compiler.errors import RecipeError
from quatrain.compiler.ir import Op, Program
from quatrain.compiler.text import parse, show
from quatrain.passes.cyclic_precision import cyclic_precision
from quatrain.passes.depthwise_bits import depthwise_bits
from quatrain.passes.progressive_precision import progressive_precision
from quatrain.passes.schedules import BITS
from quatrain.passes.select import depthwise

GOLDEN = Path(__file__).parent / "golden"


def program(case: str) -> Program:
    """What the golden of the pass begins with; layer 2 is depthwise."""
    text = (GOLDEN / f"depthwise_bits.{case}.qt").read_text(encoding="utf-8")
    return parse(text.partition("=" * 72)[0])


def quantizers(program: Program) -> dict[str, Op]:
    return {op.result.name: op for _, op in program.ops() if op.kind in BITS}


def read_by(program: Program, op: Op) -> str:
    """The kind of the op that makes the bits of a quantizer."""
    maker = program.producers()[op.inputs[BITS[op.kind]]]
    return maker.kind


@pytest.mark.parametrize("schedule", [cyclic_precision, progressive_precision])
def test_schedules_leave_depthwise_layers_alone(schedule: object) -> None:
    assert callable(schedule)
    found = schedule(depthwise_bits(program("affine")))
    moved = "cyclic_bits" if schedule is cyclic_precision else "stage_bits"
    kinds = {name: read_by(found, op) for name, op in quantizers(found).items()}
    for name in ("2.wq", "2.xq", "2.dyq"):
        assert kinds[name] == "constant"
    assert kinds["0.wq"] == kinds["0.xq"] == moved
    assert quantizers(found)["2.dyq"].result.type.format.name == "uint16"
    assert quantizers(found)["0.dyq"].result.type.format.name == "uint8"


def test_codes_with_a_clip_keep_the_bits_of_the_base() -> None:
    found = cyclic_precision(depthwise_bits(program("clipped")), low=2, high=4)
    assert read_by(found, quantizers(found)["2.wq"]) == "constant"
    assert [op.kind for op in found.region("forward").ops if op.origin == "0"][1] == "quantize_bits"


def test_none_leaves_them_to_the_schedule() -> None:
    before = program("affine")
    assert depthwise(before) == {"2"}
    same = depthwise_bits(before, cpt_dws_bits="none")
    assert show(same).partition("input")[2] == show(before).partition("input")[2]
    apart = depthwise_bits(before, cpt_dws_bits="8/8")
    assert show(apart).partition("input")[2] != show(before).partition("input")[2]


@pytest.mark.parametrize("asked", ["8", "8/x", "8/16/4", ""])
def test_a_word_that_is_no_pair_is_refused(asked: str) -> None:
    with pytest.raises(RecipeError, match="is no FORWARD/BACKWARD, such as 8/16, and not none"):
        depthwise_bits(program("affine"), cpt_dws_bits=asked)


@pytest.mark.parametrize("asked", ["1/16", "8/17"])
def test_bits_that_no_code_has_are_refused(asked: str) -> None:
    with pytest.raises(RecipeError, match="bits are not 2 to 16"):
        depthwise_bits(program("affine"), cpt_dws_bits=asked)


@pytest.mark.torch
@pytest.mark.tvm
@pytest.mark.parametrize("recipe", ["cpt", "pfq"])
def test_both_targets_compute_the_same(recipe: str) -> None:
    """Kernels against the reference, op for op, at the least bits of the schedule."""
    torch = pytest.importorskip("torch")
    from torch import nn
    from torch.nn.functional import cross_entropy

    import quatrain
    from quatrain.targets.cpu_info import detect

    from .exactness import compare, given

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 7, 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(7, 7, 3, groups=7, bias=False),
        nn.BatchNorm2d(7),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(63, 3),
    )
    batch = torch.randn(5, 3, 5, 5), torch.arange(5) % 3
    sgd = torch.optim.SGD(model.parameters(), lr=0.05)
    options = {"steps": 9, "cycles": 1} if recipe == "cpt" else {}
    step = quatrain.compile(
        model, cross_entropy, batch, sgd, recipe=recipe, options=options, target="reference"
    )
    for _ in range(2):
        found = [str(m) for m in compare(step.program, given(step, batch), detect())]
        assert not found, "\n".join(found)
        step(*batch)

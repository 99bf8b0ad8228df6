"""Depthwise convolutions under a schedule: their bits stay, on both targets."""

from __future__ import annotations

from pathlib import Path

import pytest

from quatrain.compiler.errors import RecipeError
from quatrain.compiler.ir import Op, Program
from quatrain.compiler.ir.text import parse, show
from quatrain.passes.depthwise_bits import depthwise_bits
from quatrain.passes.parts.schedules import bits_of
from quatrain.passes.parts.select import depthwise

GOLDEN = Path(__file__).parents[1] / "golden"


def program(case: str) -> Program:
    """What the golden of the pass begins with; layer 2 is depthwise."""
    text = (GOLDEN / f"depthwise_bits.{case}.qt").read_text(encoding="utf-8")
    return parse(text.partition("=" * 72)[0])


def quantizers(program: Program) -> dict[str, Op]:
    return {op.result.name: op for _, op in program.ops() if bits_of(op)}


def read_by(program: Program, op: Op) -> str:
    """The kind of the op that makes the bits of a quantizer."""
    bits = bits_of(op)
    assert bits is not None
    maker = program.producers()[bits]
    return maker.kind


def test_the_others_follow_the_schedule() -> None:
    found = depthwise_bits(program("affine"))
    kinds = {name: read_by(found, op) for name, op in quantizers(found).items()}
    for name in ("2.wq", "2.xq", "2.dyq"):
        assert kinds[name] == "constant"
    assert kinds["0.wq"] == kinds["0.xq"] == "cyclic_bits"
    assert quantizers(found)["2.dyq"].result.type.format.name == "uint16"
    assert quantizers(found)["0.dyq"].result.type.format.name == "uint8"


def test_a_code_that_another_layer_reads_has_its_bits() -> None:
    found = {
        name: bits.name
        for name, op in quantizers(depthwise_bits(program("shared"))).items()
        if (bits := bits_of(op))
    }
    shared = found.pop("a.xq"), found.pop("b.wq")
    assert shared == ("schedule.bits", "schedule.bits")
    assert found == {"a.wq": "schedule.depthwise.bits"}


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
@pytest.mark.parametrize(
    ("recipe", "options"),
    [("cpt", {"steps": 9, "cycles": 1}), ("pfq", {}), ("dfq", {}), ("fractrain", {})],
)
def test_both_targets_compute_the_same(recipe: str, options: dict[str, object]) -> None:
    """Kernels against the reference, op for op, at the least bits of the schedule."""
    torch = pytest.importorskip("torch")
    from torch.nn.functional import cross_entropy

    import quatrain
    from quatrain.targets.cpu.info import detect

    from ..cases.depthwise_block import network
    from ..exactness import compare, given

    torch.manual_seed(0)
    model, batch = network(), (torch.randn(5, 3, 5, 5), torch.arange(5) % 3)
    sgd = torch.optim.SGD(model.parameters(), lr=0.05)
    step = quatrain.compile(
        model, cross_entropy, batch, sgd, recipe=recipe, options=options, target="reference"
    )
    kept = {name: op for name, op in quantizers(step.program).items() if name.startswith("block")}
    formats = {name.rpartition(".")[2]: op.result.type.format.name for name, op in kept.items()}
    assert {formats[n] for n in ("wq", "xq")} == {"uint8"} and formats["dyq"] == "uint16"
    assert {read_by(step.program, op) for op in kept.values()} == {"constant"}
    for _ in range(2):
        found = [str(m) for m in compare(step.program, given(step, batch), detect())]
        assert not found, "\n".join(found)
        step(*batch)

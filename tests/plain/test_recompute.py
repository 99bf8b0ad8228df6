"""What crosses from forward to backward, in bytes, against what PyTorch keeps in f32."""

import pytest

from quatrain.compiler.ir import Program
from quatrain.compiler.ir.analysis import gemms, saved
from quatrain.passes.recipe import load_recipe
from tests.cases.residual import resnet

RECIPE = load_recipe("ultra_low_4bit")
RESNET20 = resnet(batch=32, image=32, widths=(16, 32, 64), blocks=3)


def kept(program: Program) -> dict[str, int]:
    """Bytes by name; the batch itself does not count."""
    return {v.name: v.type.bytes for v in saved(program) if v not in program.inputs}


def torch_bytes(program: Program) -> int:
    """Four bytes an element for each input of a convolution, linear layer or batch norm."""
    kinds = ("conv2d", "linear", "batch_norm")
    reads = {op.inputs[0] for op in program.region("forward").ops if op.kind in kinds}
    return sum(v.type.bytes for v in reads if v not in program.inputs)


@pytest.mark.parametrize(("mode", "share"), [("masks", 0.36), ("bn_input", 1 / 6)])
def test_share_of_what_pytorch_keeps(mode: str, share: float) -> None:
    program = RECIPE.with_options({"recompute": mode}).apply(RESNET20)[-1][1]
    assert sum(kept(program).values()) <= share * torch_bytes(RESNET20)


def test_only_codes_batch_norm_inputs_and_two_bits_after_an_add_are_kept() -> None:
    program = RECIPE.apply(resnet())[-1][1]
    by_format: dict[str, set[str]] = {}
    for v in saved(program):
        if v not in program.inputs and len(v.type.shape) == 4:
            by_format.setdefault(v.type.format.name, set()).add(v.name)
    layers = ("layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1", "layer2.0.conv2")
    assert by_format == {
        "uint4": {f"{n}.xq" for n in layers},
        "bf16": {
            *(f"{n}.y" for n in (*layers, "conv1", "layer2.0.downsample.0")),
            "layer2.0.downsample.0.x.width",
        },
        "uint2": {"layer2.0.conv1.region", "layer2.0.relu#2.y.region"},
    }


def test_bn_input_keeps_no_batch_norm_input_and_runs_those_gemms_twice() -> None:
    program = RECIPE.with_options({"recompute": "bn_input"}).apply(resnet())[-1][1]
    norms = [op for _, op in program.ops() if op.kind == "batch_norm"]
    assert not {op.inputs[0].name for op in norms} & kept(program).keys()
    again = [g for g in gemms(program) if g.region == "backward" and g.direction == "forward"]
    assert len(again) == 6, "all but the last layer, which no batch norm follows"


def test_without_quantization_no_gemm_reads_what_another_one_makes_again() -> None:
    options = {"exempt": "first,last,shortcut,layer*", "recompute": "bn_input"}
    program = RECIPE.with_options(options).apply(resnet(blocks=2))[-1][1]
    makers = program.producers()
    backward = set(program.region("backward").ops)
    for gemm in gemms(program):
        if gemm.region != "backward" or gemm.direction != "forward":
            continue
        todo, reads = [gemm.op.inputs[0]], set()
        while todo:
            op = makers.get(todo.pop())
            if op in backward and op is not None:
                reads.add(op.kind)
                todo += op.inputs
        assert "conv2d" not in reads


def test_none_keeps_floats() -> None:
    program = RECIPE.with_options({"recompute": "none"}).apply(resnet())[-1][1]
    assert "layer1.0.relu.y" in kept(program)

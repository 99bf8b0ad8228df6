"""The 4-bit recipe on captured networks: which layers, which formats, how many bytes."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from quatrain.compiler.capture.program import Capture, capture
from quatrain.compiler.ir.analysis import gemms, saved
from quatrain.passes.parts.select import first, last, shortcut
from quatrain.passes.recipe import load_recipe
from quatrain.tools import models

pytestmark = pytest.mark.torch
RECIPE = load_recipe("ultra_low_4bit")
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet20": (lambda: models.resnet20(width=4), (4, 3, 32, 32)),
    "bottleneck": (lambda: models.bottleneck_resnet(width=4), (3, 3, 13, 13)),
    "vgg11_bn": (models.vgg11_bn, (1, 3, 32, 32)),
    "mlp": (models.mlp, (7, 64)),
    "digits_cnn": (lambda: models.digits_cnn(width=3), (5, 1, 8, 8)),
}


def captured(name: str) -> Capture:
    build, shape = NETWORKS[name]
    model = build()
    batch = torch.zeros(shape), torch.zeros(shape[0], dtype=torch.long)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return capture(model, torch.nn.functional.cross_entropy, batch, optimizer)


@pytest.mark.parametrize("name", NETWORKS)
def test_all_but_exempt_layers_run_in_4_bits_or_fp8(name: str) -> None:
    c = captured(name)
    train, evaluation = (RECIPE.apply(p)[-1][1] for p in (c.train, c.evaluation))
    exempt = first(c.train) | last(c.train) | shortcut(c.train)
    assert exempt == first(c.evaluation) | last(c.evaluation) | shortcut(c.evaluation)
    for program in (train, evaluation):
        for gemm in gemms(program):
            assert gemm.quantized == (gemm.op.origin not in exempt)
            bits = 8 if "fp8.152" in gemm.formats else 4
            assert gemm.bits == (16 if gemm.op.origin in exempt else bits)
    assert {v.name for v in evaluation.state} <= {v.name for v in train.state}
    assert evaluation.outputs[0].type == c.evaluation.outputs[0].type


@pytest.mark.parametrize(("mode", "share"), [("masks", 0.36), ("bn_input", 1 / 6)])
def test_bytes_kept_by_a_captured_resnet(mode: str, share: float) -> None:
    c = captured("resnet20")
    kinds = ("conv2d", "linear", "batch_norm")
    reads = {op.inputs[0] for op in c.train.region("forward").ops if op.kind in kinds}
    torch_keeps = sum(v.type.bytes for v in reads if v not in c.train.inputs)
    program = RECIPE.with_options({"recompute": mode}).apply(c.train)[-1][1]
    keeps = sum(v.type.bytes for v in saved(program) if v not in program.inputs)
    assert keeps <= share * torch_keeps

"""Effective bit operations: in the bill, and the published formula with its printed figures."""

import json

import pytest

from quatrain.compiler.ir.text import parse
from quatrain.compiler.ir.verify import verify
from quatrain.runtime.report.bill import bill_of
from quatrain.runtime.report.bit_operations import cost_ratio, training_giga

from ..cases.bill_programs import CAPTURED, QUANTIZED

# Forward MACs of one 32x32 image in convolutions and 1x1 shortcuts: 6n + 2 layers.
CIFAR_MACS = {6: 83_279_872, 12: 168_214_528, 18: 253_149_184, 25: 352_239_616}


def test_of_a_step_by_hand() -> None:
    bill = bill_of(verify(parse(QUANTIZED)))
    conv, last = 2 * 13 * 7 * 7 * 27, 2 * 7 * 7 * 13
    found = bill.bit_operations
    assert found.total == 3 * 16 * conv + 256 * last
    assert [g.bit_operations for g in bill.gemms] == [16 * conv, 256 * last, 16 * conv, 16 * conv]
    assert (found.samples, found.macs) == (2, bill.macs)
    assert found.giga_per_sample == found.total / 2 / 1e9
    assert found.effective_macs == found.total / 1024
    data = json.loads(json.dumps(bill.to_dict()))
    assert data["bit_operations"]["total"] == found.total
    assert data["gemms"][0]["bit_operations"] == 16 * conv
    assert f"{found.giga:.3g} GBitOPs a step" in " ".join(str(bill).split())


def test_f32_costs_its_macs() -> None:
    found = bill_of(verify(parse(CAPTURED))).bit_operations
    assert found.effective_macs == found.macs and found.share_of_f32 == 1


def test_nothing_multiplied_costs_nothing() -> None:
    program = parse("program p\ninput x : f32[]\n\nforward:\n  y = relu(x) : f32[]\n\nreturn y\n")
    found = bill_of(program).bit_operations
    assert (found.total, found.samples, found.share_of_f32) == (0, 1, 0)


@pytest.mark.parametrize(
    ("forward", "backward", "printed"),
    [(3, 6, 0.01465), (4, 6, 0.02083), (6, 8, 0.04297), (8, 8, 0.0625), (8, 16, 0.10417)],
)
def test_published_cost_ratios(forward: int, backward: int, printed: float) -> None:
    assert cost_ratio(forward, backward) == pytest.approx(printed, abs=5e-6)  # five digits printed


@pytest.mark.parametrize(("blocks", "printed"), [(6, 1.31), (12, 2.65), (18, 3.98), (25, 5.54)])
def test_published_absolute_cost(blocks: int, printed: float) -> None:
    giga = training_giga(CIFAR_MACS[blocks], 8, 8, 64_000 * 128)
    assert giga / 1e8 == pytest.approx(printed, abs=5e-3)  # three digits are printed


@pytest.mark.torch
@pytest.mark.parametrize("blocks", CIFAR_MACS)
def test_published_macs_of_the_cifar_resnets(blocks: int) -> None:
    torch = pytest.importorskip("torch")
    from quatrain.tools.models import ResNet

    found = 0

    def count(layer, inputs, output) -> None:  # type: ignore[no-untyped-def]
        nonlocal found
        found += output[0].numel() * layer.weight[0].numel()

    with torch.device("meta"):
        model = ResNet((16, 32, 64), (blocks,) * 3)
        for layer in model.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.register_forward_hook(count)
        model(torch.empty(1, 3, 32, 32))
    assert found == CIFAR_MACS[blocks]


@pytest.mark.torch
def test_the_bill_of_a_captured_resnet_agrees() -> None:
    torch = pytest.importorskip("torch")
    from quatrain.compiler.capture.program import capture
    from quatrain.tools.models import ResNet

    torch.manual_seed(0)
    model = ResNet((16, 32, 64), (6, 6, 6))
    sgd = torch.optim.SGD(model.parameters(), 0.1)
    batch = torch.randn(2, 3, 32, 32), torch.tensor([0, 1])
    bill = bill_of(capture(model, torch.nn.functional.cross_entropy, batch, sgd).train)
    forward = sum(g.macs for g in bill.gemms if g.direction == "forward")
    stem, linear = 2 * 32 * 32 * 16 * 27, 2 * 64 * 10
    assert forward == 2 * CIFAR_MACS[6] + linear
    # The formula counts a dX of the first layer; the step has none.
    assert bill.macs == 3 * forward - stem
    by_formula = training_giga(forward // 2, 32, 32, bill.samples)
    assert bill.bit_operations.giga == pytest.approx(by_formula - 1024 * stem / 1e9, rel=1e-12)

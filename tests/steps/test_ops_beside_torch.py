"""Each op's value and gradient: one step of a small network beside the same step in PyTorch."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("tvm")

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import quatrain

from ..cases.op_cases import CASES, CLASSES, LOSSES, Loss, target_of
from ..exactness import compare, given

pytestmark = pytest.mark.tvm
# The ops are tried one by one in tests/kernels.
TARGETS = ("reference", pytest.param("cpu", marks=pytest.mark.share(2)))
# Both sum in f32 and round each op once; sums of some hundred terms differ by less than this.
CLOSE = 2e-6


def check(model: nn.Module, loss: Loss, x: Tensor, y: Tensor, target: str) -> None:
    """Loss, parameters and buffers after one step are eager's."""
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    step = quatrain.compile(model, loss, (x, y), sgd, recipe="fp32", target=target)
    value = step(x, y)
    wanted = loss(model(x), y)
    wanted.backward()
    sgd.step()
    torch.testing.assert_close(value, wanted.detach(), rtol=CLOSE, atol=CLOSE)
    made = step.state_dict()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(made[name], tensor, rtol=CLOSE, atol=CLOSE, msg=name)
    model.eval()
    with torch.no_grad():
        # After a step whose gradients differ in the last bits.
        torch.testing.assert_close(step.predict(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CASES)
def test_one_step_equals_eager(name: str, target: str) -> None:
    torch.manual_seed(0)
    model, x = CASES[name]()
    y = torch.randn(model(x).shape)
    check(model, F.mse_loss, x, y, target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", LOSSES)
def test_losses_equal_eager(name: str, target: str) -> None:
    torch.manual_seed(1)
    loss, kind = LOSSES[name]
    places = 2 if kind == "dense" else 1
    model, x = nn.Sequential(nn.Linear(7, CLASSES * places)), torch.randn(4, 7)
    check(model, loss, x, target_of(kind), target)


LAYERS = ("conv1d", "conv_transpose2d", "conv_transpose2d_groups", "transformer", "group_norm")


@pytest.mark.parametrize("name", (*LAYERS, "upsample_bilinear", "reflect", "embedding", "gelu"))
def test_kernels_of_four_bit_steps_equal_the_reference(name: str) -> None:
    from quatrain.targets.cpu.info import detect

    torch.manual_seed(0)
    model, x = CASES[name]()
    y = torch.randn(model(x).shape)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    options = {"exempt": "none"}
    step = quatrain.compile(
        model, F.mse_loss, (x, y), sgd, recipe="ultra_low_4bit", options=options, target="reference"
    )
    assert not list(compare(step.program, given(step, (x, y)), detect()))


def test_the_bill_counts_products_of_activations() -> None:
    torch.manual_seed(0)
    model, x = CASES["transformer"]()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    step = quatrain.compile(model, F.mse_loss, (x, torch.randn(x.shape)), sgd, recipe="fp32")
    bill = step.report()
    products = [g for g in bill.gemms if "#product" in g.layer]
    # Two a head of each sample, and two gradients of each: 5 x 5 places, 4 features.
    assert len(products) == 6
    assert sum(g.macs for g in products) == 6 * 2 * 2 * 5 * 5 * 4
    assert {g.layer for g in products} == {"self_attn#product", "self_attn#product2"}
    rows = [line for line in str(bill).splitlines() if line.strip().startswith("self_attn#product")]
    # Each forward and in both directions back, a line for the layer or one for each direction.
    assert rows and all("f32 x f32" in row for row in rows)

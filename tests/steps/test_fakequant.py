"""The fake-quantized PyTorch version that studies are compared with: its levels and gradients."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.functional import conv2d, cross_entropy, linear  # noqa: E402

import quatrain  # noqa: E402
from quatrain.targets.numbers.tensor import Tensor as Stored  # noqa: E402
from quatrain.targets.reference.evaluate import evaluate  # noqa: E402
from quatrain.tools import fakequant  # noqa: E402
from quatrain.tools.models import (  # noqa: E402
    bottleneck_resnet,
    mlp,
    mobilenetv2,
    resnet20,
    vgg11_bn,
)

pytestmark = pytest.mark.torch
fake: Any = fakequant  # torch leaves the calls of its own functions untyped


# x, even, odd: arithmetic midpoints with ties up, zero below L_min / 1.6, saturation at the top.
LEVELS = [
    (0.005, 0, 0), (0.0079, 0, 0), (0.01, 1 / 64, 0), (0.02, 1 / 64, 1 / 32),
    (0.04, 1 / 16, 1 / 32), (0.15, 1 / 16, 1 / 8), (0.16, 1 / 4, 1 / 8), (0.62, 1 / 4, 1 / 2),
    (0.63, 1, 1 / 2),
    (1.0, 1, 1 / 2), (1.25, 1, 2), (1.3, 1, 2), (2.5, 4, 2), (2.6, 4, 2), (5.0, 4, 8), (5.1, 4, 8),
    (10, 16, 8), (10.1, 16, 8), (40, 64, 32), (41, 64, 32), (100, 64, 128), (1e30, 64, 128),
    (0, 0, 0), (1e-30, 0, 0),
]  # fmt: skip


@pytest.mark.parametrize("sign", [1, -1])
def test_radix4_levels(sign: int) -> None:
    x, even, odd = (sign * torch.tensor(column, dtype=torch.float32) for column in zip(*LEVELS))  # noqa: B905
    assert torch.equal(fake.radix4(x, fake.EVEN), even)
    assert torch.equal(fake.radix4(x, fake.ODD), odd)


def test_radix4_keeps_its_own_levels() -> None:
    even = torch.cat([s * 4.0 ** torch.arange(-3.0, 4) for s in (1, -1)])
    assert torch.equal(fake.radix4(even, fake.EVEN), even)
    assert torch.equal(fake.radix4(2 * even, fake.ODD), 2 * even)


@pytest.mark.parametrize(
    ("largest", "scale"), [(3.1e-5, 2.0**20), (64.0, 1.0), (64.1, 0.5), (1.0, 64.0), (33.0, 1.0)]
)
def test_grad_scale_aligns_the_maximum(largest: float, scale: float) -> None:
    dy = torch.tensor([0.0, -largest, largest / 3])
    assert fake.grad_scale(dy, fake.FP4_TOP).item() == scale


def test_a_zero_gradient_stays_zero() -> None:
    x = torch.rand(1, 3, 7, 7, requires_grad=True)
    for kernel in (1, 3):
        w = torch.rand(2, 3, kernel, kernel, requires_grad=True)
        y = fake.ConvWithLowBitGradient.apply(x, w, (1, 1), (0, 0))
        dx, dw = torch.autograd.grad(y, (x, w), torch.zeros_like(y))
        assert not dx.any() and not dw.any()


def test_pact() -> None:
    x = torch.tensor([-1, 0, 0.3, 1, 2.4, 5.9, 6, 7.5], requires_grad=True)
    clip = torch.tensor(6.0, requires_grad=True)
    y = fake.Pact.apply(x, clip)
    # Codes are exact; code * (6 / 15) is one float32 rounding off the decimal.
    assert torch.allclose(y, torch.tensor([0, 0, 0.4, 0.8, 2.4, 6, 6, 6]), rtol=1e-6, atol=0)
    y.backward(torch.arange(1.0, 9))
    assert x.grad is not None and x.grad.tolist() == [0, 2, 3, 4, 5, 6, 7, 0]
    assert clip.grad is not None and clip.grad.item() == 8


def test_sawb_has_fifteen_levels_and_passes_the_gradient() -> None:
    w = torch.randn(28, 13, 3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    wq = fake.Sawb.apply(w)
    # Of unit normal weights the clip is 12.035 - 12.03 * sqrt(2 / pi) = 2.44; 3,276 samples
    # move both moments by under 3 %, so it by under 0.3.
    assert len(wq.unique()) == 15 and wq.max().item() == pytest.approx(2.44, abs=0.3)
    wq.sum().backward()
    assert w.grad is not None and bool((w.grad == 1).all())
    assert not fake.Sawb.apply(torch.zeros(1, 1, 3, 3)).any()


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1)]
)
def test_gradients_of_representable_dy_are_torchs(kernel: int, stride: int, padding: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 16, (1, 3, 13, 7), generator=generator).float().requires_grad_()
    w = torch.randint(-7, 8, (5, 3, kernel, kernel), generator=generator).float().requires_grad_()
    y = conv2d(x, w, stride=stride, padding=padding)
    dy = 4.0 ** torch.randint(-3, 4, y.shape, generator=generator) * torch.where(y > 0, 1.0, -1.0)
    want_x, want_w = torch.autograd.grad(y, (x, w), dy, retain_graph=True)
    got = fake.ConvWithLowBitGradient.apply(x, w, (stride, stride), (padding, padding))
    got_x, got_w = torch.autograd.grad(got, (x, w), dy)
    # Sums of multiples of 1/64 below 2^17 are exact in float32.
    assert torch.equal(got_x, want_x)
    if kernel == 1:
        assert torch.equal(got_w, want_w)
    else:
        odd = fake.radix4(dy, fake.ODD)
        assert torch.equal(got_w, torch.autograd.grad(y, w, odd)[0])


@pytest.mark.parametrize("groups", [1, 4])
def test_groups_and_linear_layers_of_representable_dy(groups: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-7, 8, (3, 4, 7, 7), generator=generator).float().requires_grad_()
    w = torch.randint(-7, 8, (8, 4 // groups, 3, 3), generator=generator).float().requires_grad_()
    y = conv2d(x, w, padding=1, groups=groups)
    dy = 4.0 ** torch.randint(-3, 4, y.shape, generator=generator)
    got = fake.ConvWithLowBitGradient.apply(x, w, (1, 1), (1, 1), groups)
    assert torch.equal(got, y)
    # Sums of multiples of 1/64 below 2^17 are exact in float32.
    assert torch.equal(torch.autograd.grad(got, x, dy)[0], torch.autograd.grad(y, x, dy)[0])

    rows, v = x.detach()[:, :, 0, :].requires_grad_(), torch.ones(5, 7, requires_grad=True)
    z = linear(rows, v)
    dz = 4.0 ** torch.randint(-3, 4, z.shape, generator=generator)
    got = fake.LinearWithLowBitGradient.apply(rows, v)
    want_x, want_v = torch.autograd.grad(z, (rows, v), dz, retain_graph=True)
    got_x, got_v = torch.autograd.grad(got, (rows, v), dz)
    assert torch.equal(got_x, want_x) and want_v.shape == got_v.shape
    # The even levels are odd ones in the odd phase only up to a factor of two.
    assert torch.equal(got_v, torch.autograd.grad(z, v, fake.radix4(dz, fake.ODD))[0])


def test_signed_pact() -> None:
    x = torch.tensor([-9, -6, -2.4, -0.4, 0, 2.4, 6, 7.5], requires_grad=True)
    clip = torch.tensor(7.0, requires_grad=True)
    y = fake.SignedPact.apply(x, clip)
    assert y.tolist() == [-7, -6, -2, 0, 0, 2, 6, 7]
    y.backward(torch.arange(1.0, 9))
    assert x.grad is not None and x.grad.tolist() == [0, 2, 3, 4, 5, 6, 7, 0]
    assert clip.grad is not None and clip.grad.item() == 8 - 1


def test_inputs_that_may_be_negative_get_signed_levels() -> None:
    model = fake.fake_quantize(mobilenetv2(0.25, depth=0.1), torch.randn(2, 3, 8, 8))
    layers = {n: m for n, m in model.named_modules() if isinstance(m, fake.FakeQuantLayer)}
    # After a linear bottleneck comes the expansion of the next block, or the head.
    assert {n for n, m in layers.items() if m.signed} == {
        n for n in layers if n.endswith(("expand.0", "head.0"))
    }
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    ("factory", "quantized"),
    [(resnet20, 18), (bottleneck_resnet, 18), (vgg11_bn, 7), (lambda: mlp((192, 13, 7, 5, 10)), 2)],
)
def test_only_inner_layers_are_replaced(factory: object, quantized: int) -> None:
    assert callable(factory)
    model: nn.Module = fake.fake_quantize(factory())
    replaced = [n for n, m in model.named_modules() if isinstance(m, fake.FakeQuantLayer)]
    assert len(replaced) == quantized == len(fake.clips(model))
    assert not any("shortcut" in n or n.startswith(("stem", "fc")) for n in replaced)
    size = 32 if factory is vgg11_bn else 8
    model(torch.rand(2, 3, size, size)).sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_clips_stay_positive() -> None:
    model = fake.fake_quantize(resnet20(1))
    with torch.no_grad():
        fake.clips(model)[0].fill_(-1.0)
    fake.keep_clips_positive(model)
    assert fake.clips(model)[0].item() > 0


def test_codes_equal_the_reference_on_one_step() -> None:
    """Each quantizer of both, on the values that one step of ResNet-20 really has."""
    torch.manual_seed(0)
    model = resnet20()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    batch = torch.randn(4, 3, 32, 32), torch.randint(10, (4,))
    options = {"carrier": "f32", "gradscale": "instant"}
    step = quatrain.compile(model, cross_entropy, batch, sgd, options=options, target="reference")
    program = step.program
    numbers = {"x": batch[0], "y": batch[1], **step.state}
    numbers |= {k: torch.tensor(v) for k, v in step.hyper.items()}
    given = {
        v.name: Stored(v.type, numbers[v.name].numpy()) for v in (*program.inputs, *program.state)
    }
    values = evaluate(program, given)
    compared = 0
    for _, op in program.ops():
        if op.kind not in ("quantize", "round_log"):
            continue
        source, codes = (torch.from_numpy(values[v].real()) for v in (op.inputs[0], op.result))
        scale = torch.from_numpy(values[op.result].scale)
        if op.kind == "round_log":
            phase = fake.EVEN if op.result.type.format.name == "fp4.even" else fake.ODD
            made = fake.radix4((source / scale).float(), phase)
        elif op.result.type.format.signed:
            made = fake.Sawb.apply(source.float()) / scale
        else:
            clip = torch.from_numpy(values[op.inputs[1]].data)
            made = fake.Pact.apply(source.float(), clip) / scale
        wanted = codes / scale
        # SAWB's clip is a sum of floats, so its codes agree but for values at the edge of two.
        wrong = (made.double().round(decimals=3) != wanted.round(decimals=3)).double().mean()
        assert wrong <= (1e-3 if op.kind == "quantize" and op.result.type.format.signed else 0)
        compared += 1
    # An activation, both roundings of a gradient, a weight in forward and again for backward.
    assert compared == 18 * 5

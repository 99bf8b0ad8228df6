"""Products of activations, as in attention: captured as layers, quantized, on all targets."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.optim import SGD  # noqa: E402

import quatrain  # noqa: E402
from quatrain.compiler.capture.program import capture  # noqa: E402
from quatrain.compiler.ir import Program  # noqa: E402
from quatrain.runtime.step import Step  # noqa: E402
from tests.cuda.device import device  # noqa: E402
from tests.cuda.emulate import has_compiler  # noqa: E402

pytestmark = pytest.mark.torch
N, T, C, HEADS = 3, 7, 6, 2
Call = Callable[[Tensor, Tensor, Tensor], Tensor]
GRADIENTS = ("product_input_grad", "product_weight_grad")
HIDDEN = torch.rand(T, T, generator=torch.Generator().manual_seed(2)) < 0.3
HIDDEN[:, 0] = False


def heads(x: Tensor) -> Tensor:
    return x.view(N, T, HEADS, -1).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    return x.transpose(1, 2).reshape(N, T, C)


def linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Without a softmax: both products are of three factors' parts, the divisor is none."""
    q, k = F.elu(heads(q)) + 1, F.elu(heads(k)) + 1
    kept = torch.einsum("bhnd,bhne->bhde", k, heads(v))
    part = torch.einsum("bhnd,bhd->bhn", q, k.sum(2))
    made: Tensor = torch.einsum("bhnd,bhde->bhne", q, kept) / part.unsqueeze(-1)
    return joined(made)


def one_head(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    made: Tensor = torch.bmm(torch.softmax(torch.bmm(q, k.mT) / C**0.5, -1), v)
    return made


def plainly(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Few kernels."""
    return q @ k.mT @ v


# How a model may write it, and how many products of activations that is.
FORMS: dict[str, tuple[Call, int]] = {
    "causal": (
        lambda q, k, v: joined(
            F.scaled_dot_product_attention(heads(q), heads(k), heads(v), is_causal=True)
        ),
        2,
    ),
    "a mask": (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=~HIDDEN), 2),
    "one head": (one_head, 2),
    "linear attention": (linear_attention, 2),
    "q is k": (lambda q, k, v: torch.tanh(q @ q.mT) @ v, 2),
    "shared keys": (
        lambda q, k, v: joined(heads(q) @ heads(k)[:, :1].mT @ heads(v)[:, :1]),
        2,
    ),
    "baddbmm": (lambda q, k, v: torch.baddbmm(q, q @ k.mT, v, alpha=0.1), 2),
    "einsum of three": (lambda q, k, v: torch.einsum("btc,bsc,bsd->btd", q, k, v) * 0.1, 2),
    "matrices": (lambda q, k, v: (q[0] @ k[0].T) @ v, 2),
}


class Attending(nn.Module):
    """Queries, keys and values by one layer, a product of them, a classifier."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.call, self.qkv, self.out = call, nn.Linear(5, 3 * C), nn.Linear(C, 4)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        made: Tensor = self.out(self.call(q, k, v).mean(1))
        return made


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = 2 * torch.randn(N, T, 5, generator=generator)
    return x, torch.randint(4, (N,), generator=generator)


def sgd(model: nn.Module) -> SGD:
    return SGD(model.parameters(), lr=0.1, momentum=0.9)


def captured(model: nn.Module) -> Program:
    return capture(model, F.cross_entropy, batch(), sgd(model)).train


def kinds(program: Program) -> list[str]:
    return [op.kind for _, op in program.ops()]


def compiled(call: Call, recipe: str, target: str, **options: object) -> Step:
    model = Attending(call)
    return quatrain.compile(
        model, F.cross_entropy, batch(), sgd(model), recipe=recipe, target=target, options=options
    )


@pytest.mark.parametrize("name", FORMS)
def test_products_are_layers_and_steps_those_of_eager(name: str) -> None:
    call, count = FORMS[name]
    step, eager = compiled(call, "fp32", "reference"), Attending(call)
    found, theirs = kinds(step.program), sgd(eager)
    assert "matmul" not in found or name == "linear attention"
    assert [found.count(k) for k in ("product", *GRADIENTS)] == [count] * 3
    x, y = batch()
    for _ in range(2):
        theirs.zero_grad()
        F.cross_entropy(eager(x), y).backward()
        theirs.step()
        step(x, y)
    for key, value in eager.state_dict().items():
        # Sums of at most 21 products in another order, two updates of a tenth of them.
        torch.testing.assert_close(step.state_dict()[key], value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(step.predict(x), eager(x).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "call",
    [
        lambda q, k, v: q * torch.einsum("btc,btc->bt", k, v).unsqueeze(-1),
        lambda q, k, v: q * torch.mv(k[0], v[0, 0]).sum(),
        lambda q, k, v: q @ torch.eye(C),
    ],
)
def test_products_of_vectors_and_constants_are_none(call: Call) -> None:
    assert not {"product", *GRADIENTS} & {*kinds(captured(Attending(call)))}


def test_products_of_a_loss_are_none() -> None:
    model = nn.Linear(5, C)

    def loss(y: Tensor, _: Tensor) -> Tensor:
        return (y @ y.mT).square().mean()

    found = capture(model, loss, batch(), sgd(model)).train
    assert "matmul" in kinds(found) and "product" not in kinds(found)
    assert {op.origin for _, op in found.ops() if op.kind == "matmul"} == {"loss"}


class Encoder(nn.Module):
    """torch's own attention, twice, in a module of a name."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attn, self.out = nn.MultiheadAttention(C, HEADS, batch_first=True), nn.Linear(C, 4)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = self.attn(x, x, x, need_weights=False)[0]
        made: Tensor = self.out(x.mean(1))
        return made


def test_names_follow_the_module_and_functions_choose() -> None:
    model, asked = Encoder(), list[str]()

    def exempt(module: nn.Module, name: str) -> bool:
        if "product" in name:
            asked.append(name)
            assert module is model.attn
        return name.endswith("product2")

    x, y = torch.randn(N, T, C), torch.randint(4, (N,))
    options = {"exempt": exempt, "attention": "quantize"}
    step = quatrain.compile(
        model, F.cross_entropy, (x, y), sgd(model), recipe="int4", target="reference",
        options=options,
    )  # fmt: skip
    names = [f"attn#product{n}" for n in ("", 2, 3, 4)]
    assert asked == names
    lines = [g for g in step.report().gemms if g.layer in names]
    assert len(lines) == 12
    assert all(max(g.bits) == (16 if g.layer.endswith("2") else 4) for g in lines)


RECIPES = {
    "ultra_low_4bit": {"attention": "quantize"},
    "hfp8": {},
    "sbm8": {"attention": "quantize"},
    "luq4": {"attention": "quantize"},
}


@pytest.mark.tvm
@pytest.mark.parametrize("recipe", RECIPES)
def test_whole_steps_are_those_of_the_reference(recipe: str) -> None:
    pytest.importorskip("tvm")
    floats = recipe in ("hfp8", "sbm8")
    call = plainly if recipe == "luq4" else one_head
    steps = [compiled(call, recipe, t, **RECIPES[recipe]) for t in TARGETS]
    # Sums of floats differ in their last bits, by which a number at a tie goes to the next of 255.
    alike(steps, 1 / 255 if floats else 2e-6)
    lines = [g for g in steps[0].report().gemms if "product" in g.layer]
    bits = 8 if floats else 4
    assert len(lines) == 6 and all(g.bits == (bits, bits) for g in lines)


TARGETS = ("reference", "cpu")


def alike(steps: list[Step], near: float = 2e-6) -> None:
    """Losses and states after two steps; what is not a sum of codes is one of floats in f32."""
    x, y = batch()
    for _ in range(2):
        losses = [float(step(x, y)) for step in steps]
        assert losses[1] == pytest.approx(losses[0], rel=near)
    first, second = (step.state for step in steps)
    for name, value in first.items():
        largest = float(value.abs().max()) if value.numel() else 0.0
        torch.testing.assert_close(second[name], value, rtol=0.0, atol=near * largest + 1e-9)
    torch.testing.assert_close(steps[1].predict(x), steps[0].predict(x), rtol=near, atol=near)


@pytest.mark.tvm
@pytest.mark.slow
@pytest.mark.skipif(not has_compiler(), reason="the emulator needs g++")
def test_a_whole_step_of_a_gpu_is_that_of_the_reference() -> None:
    pytest.importorskip("tvm")
    with device(capability=90):
        targets = ("reference", "cuda")
        steps = [compiled(plainly, "int4", t, attention="quantize") for t in targets]
        alike(steps)

"""Products with a weight are layers, however a model spells them; all others are not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import quatrain
from quatrain.compiler.capture.labels import einsum_labels
from quatrain.compiler.capture.program import capture
from quatrain.compiler.errors import CaptureError
from quatrain.compiler.ir import Program

pytestmark = pytest.mark.torch

Call = Callable[[Any, Tensor], Tensor]
N, C, K, E, H = 24, 16, 10, 4, 6


class Between(nn.Module):
    """A product between two layers, so that a recipe exempts neither first nor last."""

    def __init__(self, call: Call, w: tuple[int, ...], v: tuple[int, ...] = (K, K)) -> None:
        super().__init__()
        self.call = call
        self.first, self.last = nn.Linear(C, C), nn.Linear(K, 3)
        self.w, self.v = (nn.Parameter(torch.randn(size) / 4) for size in (w, v))
        self.b = nn.Parameter(torch.randn(K))
        self.register_buffer("mask", (torch.rand(w) > 0.1).float())

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.last(torch.relu(self.call(self, torch.relu(self.first(x)))))
        return made


PLAIN: dict[str, tuple[Call, tuple[int, ...]]] = {
    "x @ w": (lambda m, x: x @ m.w, (C, K)),
    "x @ w.T": (lambda m, x: x @ m.w.T, (K, C)),
    "(w @ x.T).T": (lambda m, x: (m.w @ x.T).T, (K, C)),
    "mm": (lambda m, x: torch.mm(x, m.w), (C, K)),
    "matmul of more dimensions": (lambda m, x: (x.view(2, -1, C) @ m.w).view(N, K), (C, K)),
    "w @ more dimensions": (
        lambda m, x: (m.w @ x.view(2, -1, C).mT).mT.reshape(N, K),
        (K, C),
    ),
    "addmm": (lambda m, x: torch.addmm(m.b, x, m.w), (C, K)),
    "addmm with factors": (lambda m, x: torch.addmm(m.b, x, m.w, beta=0.5, alpha=2.0), (C, K)),
    "einsum": (lambda m, x: torch.einsum("bc,ck->bk", x, m.w), (C, K)),
    "einsum, weight first": (lambda m, x: torch.einsum("kc,bc->bk", m.w, x), (K, C)),
    "einsum without arrow": (lambda m, x: torch.einsum("nc,ck", x, m.w).T, (C, K)),
    "einsum with dots": (
        lambda m, x: torch.einsum("...c,kc->...k", x.view(2, -1, C), m.w).reshape(N, K),
        (K, C),
    ),
    "einsum of heads": (
        lambda m, x: torch.einsum("bhd,hkd->bk", x.view(N, E, -1), m.w),
        (E, K, C // E),
    ),
    "einsum that sums a dimension": (
        lambda m, x: torch.einsum("bsc,ck->bk", x.view(N, 1, C).expand(N, 3, C), m.w),
        (C, K),
    ),
    "tensordot": (lambda m, x: torch.tensordot(x, m.w, ([-1], [1])), (K, C)),
    "inner": (lambda m, x: torch.inner(x, m.w), (K, C)),
    "a slice": (lambda m, x: x @ m.w[:, 1 : K + 1], (C, K + 2)),
    "a copy": (lambda m, x: x @ m.w.T.contiguous().clone(), (K, C)),
    "computed weights": (lambda m, x: x @ torch.tanh(m.w * m.mask), (C, K)),
    "a product of weights": (lambda m, x: x @ (m.w @ m.v), (C, K)),
    "a vector": (lambda m, x: (x @ m.w)[:, None] * m.b, (C,)),
    "a vector on each side": (
        lambda m, x: torch.stack([torch.dot(row, m.w) for row in x[:2]]).sum() + x[:, :K],
        (C,),
    ),
    "mv": (lambda m, x: torch.mv(m.w, x.mean(0)) + x[:, :K], (K, C)),
    "functional linear": (lambda m, x: F.linear(x, m.w, m.b), (K, C)),
}
IN_GROUPS: dict[str, tuple[Call, tuple[int, ...]]] = {
    "bmm": (lambda m, x: torch.bmm(x.view(E, H, C), m.w).reshape(N, K), (E, C, K)),
    "bmm, weight first": (
        lambda m, x: torch.bmm(m.w, x.view(E, H, C).mT).mT.reshape(N, K),
        (E, K, C),
    ),
    "baddbmm": (lambda m, x: torch.baddbmm(m.b, x.view(E, H, C), m.w).view(N, K), (E, C, K)),
    "matmul of experts": (lambda m, x: (x.view(2, E, -1, C) @ m.w).reshape(N, K), (E, C, K)),
    "einsum of experts": (
        lambda m, x: torch.einsum("bec,eck->bek", x.view(H, E, C), m.w).reshape(N, K),
        (E, C, K),
    ),
    "every expert on everything": (
        lambda m, x: torch.einsum("ebc,eck->ebk", x.expand(E, N, C), m.w).sum(0),
        (E, C, K),
    ),
}
FORMS = PLAIN | IN_GROUPS


def captured(model: nn.Module) -> Program:
    batch = torch.randn(N, C), torch.randint(3, (N,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return capture(model, F.cross_entropy, batch, optimizer).train


def kinds(program: Program) -> list[str]:
    return [op.kind for _, op in program.ops()]


@pytest.mark.parametrize("name", FORMS)
def test_it_is_a_layer(name: str) -> None:
    program = captured(Between(*FORMS[name]))
    found = kinds(program)
    layers = [k for k in found if k in ("linear", "conv2d")]
    gradients = [k for k in found if k.endswith(("_input_grad", "_weight_grad"))]
    assert len(layers) >= 3 and len(gradients) >= 2 * len(layers) - 1
    assert ("conv2d" in layers) == (name in IN_GROUPS)
    assert ("matmul" in found) == (name == "a product of weights")


@pytest.mark.parametrize("name", FORMS)
def test_steps_are_those_of_eager(name: str) -> None:
    torch.manual_seed(0)
    model = Between(*FORMS[name])
    eager = copy.deepcopy(model)
    x, y = torch.randn(N, C), torch.randint(3, (N,))
    ours, theirs = (torch.optim.SGD(m.parameters(), lr=0.1) for m in (model, eager))
    step = quatrain.compile(model, F.cross_entropy, (x, y), ours, target="reference", recipe="fp32")
    for _ in range(3):
        theirs.zero_grad()
        F.cross_entropy(eager(x), y).backward()
        theirs.step()
        step(x, y)
    state = step.state_dict()
    for key, value in eager.state_dict().items():
        # Sums of at most 24 x 16 products in another order, three updates of a tenth of them.
        torch.testing.assert_close(state[key], value, rtol=1e-4, atol=1e-5)
    eager.eval()
    torch.testing.assert_close(step.predict(x), eager(x).detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("recipe", ["ultra_low_4bit", "hfp8", "luq4"])
@pytest.mark.parametrize("name", ["x @ w", "addmm", "einsum of heads", "bmm"])
def test_recipes_quantize_it(name: str, recipe: str) -> None:
    model = Between(*FORMS[name])
    batch = torch.randn(N, C), torch.randint(3, (N,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step = quatrain.compile(
        model, F.cross_entropy, batch, optimizer, recipe=recipe, target="reference"
    )
    lines = {g.direction: g for g in step.report().gemms if g.layer == "model"}
    assert set(lines) == {"forward", "dX", "dW"}
    assert all(max(line.bits) <= 8 for line in lines.values())


class Others(nn.Module):
    """Products with constants, and of weights."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call, self.l = call, nn.Linear(C, 3)
        self.p = nn.Parameter(torch.randn(C, C))
        self.register_buffer("constant", torch.randn(C, C))

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.l(self.call(self, x))
        return made


@pytest.mark.parametrize(
    "call",
    [
        lambda m, x: x @ m.constant,
        lambda m, x: torch.einsum("ab,cb->ac", x, m.constant),
        lambda m, x: torch.einsum("ab,bc,cd->ad", x, m.constant, m.constant.T),
        lambda m, x: x + (m.p @ m.p.T).sum(),
    ],
)
def test_other_products_are_none(call: Call) -> None:
    found = kinds(captured(Others(call)))
    assert found.count("linear") <= 2 and "matmul" in found and "product" not in found


@pytest.mark.parametrize(
    "call",
    [
        lambda m, x: x[:, :15] @ m.p,
        lambda m, x: torch.mm(x, m.p[:7]),
        lambda m, x: torch.einsum("bc,ck->bk", x[:, :3], m.p),
        lambda m, x: torch.bmm(x.view(4, -1, C), m.p.expand(3, C, C))[0],
        lambda m, x: torch.addmm(m.p[0], x, m.p[:, :5]) @ m.p,
        lambda m, x: torch.tensordot(x, m.p, ([0], [0])),
    ],
)
def test_sizes_that_do_not_fit_are_refused_as_torch_does(call: Call) -> None:
    with pytest.raises(CaptureError, match=r"test_products_with_weights\.py:\d+"):
        captured(Others(call))


def test_a_scale_a_column_is_no_layer() -> None:
    found = kinds(captured(Others(lambda m, x: torch.einsum("bc,c->bc", x, m.p[0]))))
    assert found.count("linear") == 1


@pytest.mark.parametrize("equation", ["bi,ii->bi", "bi,ii->b"])
def test_a_diagonal_is_no_layer(equation: str) -> None:
    found = kinds(captured(Others(lambda m, x: torch.einsum(equation, x, m.p).sum() * x)))
    assert found.count("linear") == 1


def test_every_product_of_a_layer_has_a_name_of_its_own() -> None:
    program = captured(Between(lambda m, x: (x @ m.w) @ m.v + torch.mm(x, m.w), (C, K)))
    names = [op.origin for _, op in program.ops() if op.kind == "linear"]
    assert names == ["first", "model", "model#2", "model#3", "last"]


def test_labels_of_an_equation() -> None:
    read = einsum_labels("...ij, jk -> ...ik", [4, 2])
    assert read is not None
    assert read.operands == ((-2, -1, "i", "j"), ("j", "k")) and read.out == (-2, -1, "i", "k")
    implicit = einsum_labels("ba,cb", [2, 2])
    assert implicit is not None and implicit.out == ("a", "c")
    for equation, ranks in (("ij,jk->ik", [2]), ("ij->i", [3]), ("i...j->i", [1])):
        assert einsum_labels(equation, ranks) is None

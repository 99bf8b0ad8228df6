"""Lion, of packages beside torch, and Muon, whose elements meet: beside the classes themselves."""

from __future__ import annotations

import copy
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import quatrain
from quatrain.compiler.errors import CaptureError, InputError

from .test_kinds_of_optimizers import compiled, twins
from .test_optimizers import batches, network, same, train

pytestmark = pytest.mark.torch
TARGETS = ("reference", pytest.param("cpu", marks=pytest.mark.tvm))


class Lion(torch.optim.Optimizer):
    """As packages write it; what ``more`` adds is said by no setting, or by one."""

    def __init__(self, params: Any, lr: float = 1e-2, more: str = "", **settings: Any) -> None:
        self.more, self.first_lr = more, lr
        super().__init__(params, {"lr": lr, "betas": (0.9, 0.97), "weight_decay": 0.0, **settings})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.move(p, p.grad, group)

    def move(self, p: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        if not self.state[p]:
            self.state[p]["exp_avg"] = torch.zeros_like(p)
        average, (beta1, beta2) = self.state[p]["exp_avg"], group["betas"]
        decay = group["weight_decay"] / (self.first_lr if self.more == "decoupled" else 1.0)
        grad = -grad if group.get("maximize") else grad
        update = average.clone().mul_(beta1).add(grad, alpha=1.0 - beta1).sign_()
        if self.more == "cautious" or group.get("caution"):
            update *= update * grad > 0
        p.mul_(1.0 - group["lr"] * decay).add_(update, alpha=-group["lr"])
        average.mul_(beta2).add_(grad, alpha=1.0 - beta2)
        if self.more == "raises":
            raise RuntimeError("a kernel for one GPU")
        if self.more == "forgets":
            self.state[p].clear()


@pytest.mark.parametrize("target", TARGETS)
def test_lion_equals_its_class(target: str) -> None:
    model, other, mine, theirs = twins(lambda p: Lion(p, weight_decay=0.1))
    train(model, mine, batches(2))
    train(other, theirs, batches(2))
    step = compiled(model, mine, target=target)
    for i, batch in enumerate(batches(6)[2:]):
        for group in (mine.param_groups[0], theirs.param_groups[0]):
            group["lr"] = 0.02 / (i + 1)
            group["betas"] = (0.9, 0.9 + 0.01 * i)
        step(*batch)
        train(other, theirs, [batch])
    same(step, other)


def test_lion_may_maximize() -> None:
    model, other, mine, theirs = twins(lambda p: Lion(p, maximize=True))
    step = compiled(model, mine)
    for batch in batches(3):
        step(*batch)
    train(other, theirs, batches(3))
    same(step, other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"more": "decoupled", "weight_decay": 0.1}, "are not those of Lion"),
        ({"more": "cautious"}, "are not those of Lion"),
        ({"caution": True}, "under the settings of parameter group 0 are not those of Lion"),
        ({"more": "forgets"}, "are not those of Lion"),
        ({"more": "raises"}, r"raises RuntimeError\('a kernel for one GPU'\); give a Lion that"),
    ],
)
def test_what_only_looks_like_lion_is_refused(settings: dict[str, Any], message: str) -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    optimizer = Lion(model.parameters(), **settings)
    with pytest.raises(CaptureError, match=message) as found:
        compiled(model, optimizer)
    assert "\n" not in str(found.value) and not optimizer.state
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_a_trial_leaves_lion_alone() -> None:
    model = network()
    optimizer = Lion(model.parameters(), weight_decay=0.1)
    train(model, optimizer, batches(1))
    before = copy.deepcopy(optimizer.state_dict())
    compiled(model, optimizer)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for mine, theirs in zip(after["state"].values(), before["state"].values(), strict=True):
        assert torch.equal(mine["exp_avg"], theirs["exp_avg"])


def test_a_lion_with_another_zero_grad_is_refused() -> None:
    class Clearing(Lion):
        def zero_grad(self, set_to_none: bool = True) -> None:
            self.param_groups[0]["lr"] *= 0.5

    Clearing.__name__ = "Lion"
    model = network()
    with pytest.raises(CaptureError, match="zero_grad of the optimizer has been replaced"):
        compiled(model, Clearing(model.parameters()))


def matrices() -> nn.Module:
    """Wide, square and tall ones."""
    torch.manual_seed(0)
    sizes = ((7, 13), (13, 13), (13, 5))
    linear = [nn.Linear(*size, bias=False) for size in sizes]
    return nn.Sequential(linear[0], nn.Tanh(), linear[1], nn.Tanh(), linear[2])


MUONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "adjusted": {
        "nesterov": False,
        "adjust_lr_fn": "match_rms_adamw",
        "ns_steps": 2,
        "momentum": 0.8,
        "ns_coefficients": (3.0, -4.0, 2.0),
        "eps": 1e-3,
    },
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", MUONS)
def test_muon_equals_torch(name: str, target: str) -> None:
    """Products of bf16 in f32 are rounded once: now and then to the other neighbour, by 2^-8 of an
    element of about 1/4, which iterations pass on and a rate of 0.02 makes small."""
    model, other = matrices(), matrices()
    mine, theirs = (
        torch.optim.Muon(m.parameters(), lr=0.02, **MUONS[name]) for m in (model, other)
    )
    train(model, mine, batches(1))
    train(other, theirs, batches(1))
    step = compiled(model, mine, target=target)
    for batch in batches(4)[1:]:
        for optimizer in (mine, theirs):
            optimizer.param_groups[0]["lr"] *= 0.9
        step(*batch)
        train(other, theirs, [batch])
    same(step, other, 5e-4)


def test_muon_comes_back_from_a_file(tmp_path: Any) -> None:
    model, data = matrices(), batches(3)
    step = compiled(model, torch.optim.Muon(model.parameters(), **MUONS["adjusted"]))
    step(*data[0])
    step.save(tmp_path / "a.qtn")
    again = quatrain.load(tmp_path / "a.qtn")
    for batch in data[1:]:
        assert torch.equal(step(*batch), again(*batch))
    for key, value in step.state.items():
        assert torch.equal(value, again.state[key]), key


def test_a_changed_setting_of_muon_is_refused() -> None:
    model = matrices()
    optimizer = torch.optim.Muon(model.parameters())
    step = compiled(model, optimizer)
    optimizer.param_groups[0]["adjust_lr_fn"] = "match_rms_adamw"
    with pytest.raises(InputError, match="adjust_lr_fn of parameter group 0 was 'original' when"):
        step(*batches(1)[0])

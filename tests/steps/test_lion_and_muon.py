"""Lion, of packages beside torch, and Muon, whose elements meet: beside the classes themselves."""

from __future__ import annotations

import copy
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from quatrain.compiler.errors import CaptureError, InputError, RecipeError

from ..cases.resumed import goes_on
from ..cuda.device import device
from ..cuda.emulate import has_compiler
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
        if self.more == "draws":
            torch.rand(1)
        if self.more == "raises":
            raise RuntimeError("a kernel for one GPU")
        if self.more == "forgets":
            self.state[p].clear()


def test_lion_equals_its_class() -> None:
    model, other, mine, theirs = twins(lambda p: Lion(p, weight_decay=0.1))
    train(model, mine, batches(2))
    train(other, theirs, batches(2))
    step = compiled(model, mine)
    for i, batch in enumerate(batches(6)[2:]):
        for group in (mine.param_groups[0], theirs.param_groups[0]):
            group["lr"] = 0.02 / (i + 1)
            group["betas"] = (0.9, 0.9 + 0.01 * i)
        step(*batch)
        train(other, theirs, [batch])
    same(step, other)


def test_lion_takes_another_batch_size() -> None:
    model, other, mine, theirs = twins(Lion)
    step, data = (
        compiled(model, mine),
        [(x[:n], y[:n]) for n, (x, y) in zip((9, 3), batches(2), strict=True)],
    )
    for batch in data:
        step(*batch)
    train(other, theirs, data)
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
    optimizer = Lion(model.parameters(), weight_decay=0.1, more="draws")
    train(model, optimizer, batches(1))
    before, generator = copy.deepcopy(optimizer.state_dict()), torch.get_rng_state()
    compiled(model, optimizer)
    assert torch.equal(generator, torch.get_rng_state())
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


@pytest.mark.parametrize("name", MUONS)
def test_muon_equals_torch(name: str) -> None:
    """Products of bf16 in f32 are rounded once: now and then to the other neighbour, by 2^-8 of an
    element of about 1/4, which iterations pass on and a rate of 0.02 makes small."""
    model, other = matrices(), matrices()
    mine, theirs = (
        torch.optim.Muon(m.parameters(), lr=0.02, **MUONS[name]) for m in (model, other)
    )
    train(model, mine, batches(1))
    train(other, theirs, batches(1))
    step = compiled(model, mine)
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
    goes_on(step, data[1:], tmp_path)


def test_a_changed_setting_of_muon_is_refused() -> None:
    model = matrices()
    optimizer = torch.optim.Muon(model.parameters())
    step = compiled(model, optimizer)
    optimizer.param_groups[0]["adjust_lr_fn"] = "match_rms_adamw"
    with pytest.raises(InputError, match="adjust_lr_fn of parameter group 0 was 'original' when"):
        step(*batches(1)[0])


class TestSeveralOptimizers:
    """A list of optimizers that share the parameters out, as Muon asks for."""

    @staticmethod
    def made(model: nn.Module) -> list[torch.optim.Optimizer]:
        """Muon for matrices, Adam with a rate of their own for the rest."""
        matrix = [p for p in model.parameters() if p.ndim == 2]
        rest = [p for p in model.parameters() if p.ndim != 2]
        return [torch.optim.Muon(matrix, lr=0.02, ns_steps=2), torch.optim.AdamW(rest, lr=0.003)]

    @pytest.mark.parametrize("target", TARGETS)
    def test_each_takes_its_own_steps(self, target: str) -> None:
        model, other = network(), network()
        mine, theirs = self.made(model), self.made(other)
        for one, two in ((model, mine), (other, theirs)):
            for optimizer in two:
                train(one, optimizer, batches(1))
        schedules = [torch.optim.lr_scheduler.StepLR(o, 1, 0.8) for o in (*mine, *theirs)]
        step = compiled(model, mine, target=target)
        for x, y in batches(4)[1:]:
            step(x, y)
            other.zero_grad()
            cross_entropy(other(x), y).backward()
            for optimizer in theirs:
                optimizer.step()
            for schedule in schedules:
                schedule.step()
        same(step, other, 5e-4)
        assert step.hyper["group1.lr"] == pytest.approx(0.003 * 0.8**2)

    @pytest.mark.tvm
    @pytest.mark.slow
    @pytest.mark.skipif(not has_compiler(), reason="the emulator needs g++")
    def test_each_takes_its_own_steps_on_a_gpu(self) -> None:
        with device():
            self.test_each_takes_its_own_steps("cuda")

    def test_clips_of_a_recipe_follow_the_one_that_trains_numbers(self) -> None:
        torch.manual_seed(0)
        layers = [nn.Linear(7, 13), nn.ReLU(), nn.Linear(13, 13), nn.ReLU(), nn.Linear(13, 5)]
        model = nn.Sequential(*layers)
        muon, adam = self.made(model)
        step = compiled(model, [muon, adam], recipe="ultra_low_4bit")
        step(*batches(1)[0])
        (clip,) = (k for k in step.state if k.endswith(".clip"))
        assert step.state[clip] < 8.0  # no activation reaches it: its decay
        kept = {k.removeprefix(f"{clip}.") for k in step.state if k.startswith(f"{clip}.")}
        assert kept == {"exp_avg", "exp_avg_sq"}
        for p in (layers[0].bias, layers[2].bias, layers[4].bias):
            p.requires_grad_(False)
        with pytest.raises(
            RecipeError, match=r"the recipe trains \S+clip, but the optimizer is mu"
        ):
            compiled(model, muon, recipe="ultra_low_4bit")

    def test_what_does_not_fit_together_is_refused(self) -> None:
        model = network()
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        wrong = {
            r"a\.weight is in two of the optimizers; leave it in one": [sgd, self.made(model)[0]],
            "the list of optimizers is empty": [],
            r"the optimizer is torch\.optim\.lbfgs\.LBFGS": [
                sgd,
                torch.optim.LBFGS(model.parameters()),
            ],
        }
        for message, optimizers in wrong.items():
            with pytest.raises(CaptureError, match=message):
                compiled(model, optimizers)

    def test_hooks_and_methods_of_each_are_looked_at(self) -> None:
        model = network()
        muon, adam = self.made(model)
        handle = adam.register_step_post_hook(lambda *_: None)
        with pytest.raises(CaptureError, match="has a hook on its step"):
            compiled(model, [muon, adam])
        handle.remove()
        adam.zero_grad = lambda *_: None  # type: ignore[method-assign]
        with pytest.raises(CaptureError, match="zero_grad of the optimizer has been replaced"):
            compiled(model, [muon, adam])

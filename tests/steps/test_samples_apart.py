"""What ``predict`` makes of any number of samples, of models whose samples meet and of others."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import quatrain
from quatrain.compiler.errors import InputError
from quatrain.runtime.step import Step

pytestmark = pytest.mark.torch


class Net(nn.Module):
    """A function of parts, and a linear layer ``b`` of 8 features."""

    def __init__(self, call: Callable[[Any, Tensor], Tensor], **parts: Any) -> None:
        super().__init__()
        self.call, self.b = call, nn.Linear(8, 4)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, x)


def encoder(**options: bool) -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, **options)  # type: ignore[arg-type]


ROWS, SEQUENCES, IMAGES = (4, 8), (4, 5, 8), (4, 3, 9, 9)
Made = tuple[Callable[[], nn.Module], tuple[int, ...]]
APART: dict[str, Made] = {
    "layers": (lambda: nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)), ROWS),
    "attention": (
        lambda: Net(
            lambda m, x: m.b(m.t(x, x, x, need_weights=False)[0].mean(1)),
            t=nn.MultiheadAttention(8, 2, batch_first=True),
        ),
        SEQUENCES,
    ),
    "encoder": (
        lambda: Net(lambda m, x: m.b(m.t(x).mean(1)), t=encoder(batch_first=True)),
        SEQUENCES,
    ),
    "recurrent": (
        lambda: Net(lambda m, x: m.b(m.t(x)[0][:, -1]), t=nn.LSTM(8, 8, batch_first=True)),
        SEQUENCES,
    ),
    "positions": (
        lambda: Net(lambda m, x: m.b((x + m.p).mean(1)), p=nn.Parameter(torch.randn(5, 8))),
        SEQUENCES,
    ),
    "a token ahead": (
        lambda: Net(
            lambda m, x: m.b(torch.cat([m.p.expand(len(x), -1, -1), x], 1)[:, 0] + x.mean(1)),
            p=nn.Parameter(torch.randn(1, 1, 8)),
        ),
        SEQUENCES,
    ),
    "experts": (
        lambda: Net(
            lambda m, x: m.b(torch.einsum("bsc,ecd->bed", x, m.w).mean(1)),
            w=nn.Parameter(torch.randn(3, 8, 8)),
        ),
        SEQUENCES,
    ),
    "images": (
        lambda: nn.Sequential(
            *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 8, 3, groups=2), nn.GroupNorm(2, 8), nn.GELU(), nn.Upsample((3, 5))),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
        ),
        IMAGES,
    ),
    "patches": (
        lambda: nn.Sequential(
            *(nn.Conv2d(3, 8, 3, 3), nn.Flatten(2)),
            Net(lambda m, x: m.b(m.t(x.mT).mean(1)), t=encoder(batch_first=True)),
        ),
        IMAGES,
    ),
    "gates of channels": (
        lambda: Net(
            lambda m, x: m.b(
                (m.c(x) * torch.sigmoid(m.c(x).mean((2, 3)))[..., None, None]).mean((2, 3))
            ),
            c=nn.Conv2d(3, 8, 3),
        ),
        IMAGES,
    ),
}
MEETING: dict[str, Made] = {
    "batch statistics": (
        lambda: nn.Sequential(nn.BatchNorm1d(8, track_running_stats=False), nn.Linear(8, 4)),
        ROWS,
    ),
    "centred": (lambda: Net(lambda m, x: m.b(x - x.mean(0))), ROWS),
    "shares": (lambda: Net(lambda m, x: m.b(torch.softmax(x, 0))), ROWS),
    "neighbours": (lambda: Net(lambda m, x: m.b(x.roll(1, 0))), ROWS),
    "reversed": (lambda: Net(lambda m, x: m.b(x.flip(0))), ROWS),
    "all with all": (lambda: Net(lambda m, x: m.b(torch.softmax(x @ x.T, -1) @ x)), ROWS),
    "the first one": (lambda: Net(lambda m, x: m.b(x) + m.b(x)[:1]), ROWS),
    "the largest": (lambda: Net(lambda m, x: m.b(x) / m.b(x).amax()), ROWS),
    "by place": (
        lambda: Net(lambda m, x: m.b(x) * m.p[: len(x)], p=nn.Parameter(torch.randn(9, 1))),
        ROWS,
    ),
    "by place, in a product": (
        lambda: Net(
            lambda m, x: m.b(x) + (m.p.expand(len(x), -1, -1) @ m.q[: len(x)])[:, 0],
            p=nn.Parameter(torch.randn(1, 1, 8)),
            q=nn.Parameter(torch.randn(9, 8, 4)),
        ),
        ROWS,
    ),
    "time first": (lambda: Net(lambda m, x: m.b(m.t(x).mean(1)), t=encoder()), SEQUENCES),
    "turned": (lambda: Net(lambda m, x: m.b((x.reshape(8, -1).T).reshape(x.shape))), ROWS),
}


def made(name: str, size: int = 4) -> tuple[nn.Module, Step, tuple[int, ...]]:
    torch.manual_seed(0)
    make, shape = (APART | MEETING)[name]
    model = make()
    batch = torch.randn(size, *shape[1:]), torch.arange(size) % 4
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    step = quatrain.compile(model, cross_entropy, batch, sgd, recipe="fp32", target="reference")
    return model.eval(), step, shape[1:]


def check(model: nn.Module, step: Any, x: Tensor) -> None:
    # Sums of at most some hundred products in another order than torch's.
    torch.testing.assert_close(step.predict(x), model(x).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", APART | MEETING)
def test_any_number_of_samples_is_as_in_eager(name: str) -> None:
    model, step, shape = made(name)
    for count in (4, 2, 3, 9) if name == "batch statistics" else (4, 1, 3, 9):
        check(model, step, torch.randn(count, *shape))


@pytest.mark.parametrize("name", APART | MEETING)
def test_a_loaded_step_cuts_batches_where_samples_are_apart(name: str, tmp_path: Path) -> None:
    model, step, shape = made(name)
    step.save(tmp_path / "a.qtn")
    loaded = quatrain.load(tmp_path / "a.qtn")
    check(model, loaded, torch.randn(4, *shape))
    x = torch.randn(9, *shape)
    if name in APART:
        check(model, loaded, x)
    else:
        with pytest.raises(InputError, match=r"meet each other.*predict takes 4 samples, not 9"):
            loaded.predict(x)


@pytest.mark.parametrize("name", ["images", "encoder", "centred", "all with all"])
def test_a_step_of_single_samples(name: str) -> None:
    torch.manual_seed(0)
    model = (APART | MEETING)[name][0]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    shape = (APART | MEETING)[name][1][1:]
    batch = torch.randn(1, *shape), torch.tensor([2])
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    step = quatrain.compile(model, cross_entropy, batch, sgd, recipe="fp32", target="reference")
    check(model.eval(), step, torch.randn(5, *shape))
    loaded = copy.deepcopy(step)
    check(model, loaded, torch.randn(1, *shape))
    with pytest.raises(InputError, match="one sample does not tell"):
        loaded.predict(torch.randn(5, *shape))


def test_inputs_that_have_no_samples() -> None:
    """At their own shapes."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(8, 4)

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            made: Tensor = self.a(x) * t.mean()
            return made

    model = Scaled()
    x, y = torch.randn(4, 8), torch.arange(4)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    for t in (torch.tensor(2.0), torch.randn(3, 8)):
        step = quatrain.compile(
            model, cross_entropy, (x, t, y), sgd, recipe="fp32", target="reference"
        )
        torch.testing.assert_close(step.predict(x, t), model(x, t).detach())
        with pytest.raises(InputError):
            step.predict(x[:2], t)


@pytest.mark.parametrize("wrong", [torch.randn(8), torch.randn(4, 7), torch.tensor(1.0)])
def test_samples_of_another_shape(wrong: Tensor) -> None:
    with pytest.raises(InputError, match=r"predict takes N samples, \[N, 8\], not "):
        made("layers")[1].predict(wrong)

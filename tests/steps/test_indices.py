"""Rows by index, places and integers, in forwards and losses: one step beside the same in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import quatrain
from quatrain.compiler.errors import CaptureError, InputError
from quatrain.compiler.ir.samples import samples_apart
from quatrain.runtime.step import Step

from ..cuda.device import device
from ..cuda.emulate import has_compiler

pytestmark = pytest.mark.torch
Use = Callable[..., Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


class Net(nn.Module):
    """A layer, and what a test makes of it, of two tables and of more inputs."""

    def __init__(self, use: Use) -> None:
        super().__init__()
        self.layer, self.use = nn.Linear(6, 5), use
        self.table, self.rows = nn.Parameter(torch.randn(5, 3)), nn.Embedding(40, 5)
        self.register_buffer("pairs", torch.randint(0, 5, (5, 5)))

    def forward(self, x: Tensor, *more: Tensor) -> Tensor:
        return self.use(self, self.layer(x), *more)


def written(m: Any, h: Tensor) -> Tensor:
    """Slices, single places and rows by index, written in turn."""
    h = h.clone()
    h[:, :2] = h[:, 3:] * 2
    h[:, ::2] = h[:, ::2].exp()
    h[:, 1] = 0
    h[0, torch.tensor([1, -1])] += 1
    h[torch.tensor([2, 0])] = h[1] * 3
    return h


def mixture(m: Any, h: Tensor) -> Tensor:
    """The two largest gates of a row."""
    gates, chosen = h.softmax(-1).topk(2)
    made: Tensor = torch.zeros_like(h).scatter(1, chosen, gates) @ m.table
    return made


def messages(m: Any, h: Tensor, edges: Tensor) -> Tensor:
    """A graph layer: neighbours are added up."""
    return torch.zeros_like(h).index_add(0, edges[:, 0], h[edges[:, 1]])


def positions(m: Any, h: Tensor, tokens: Tensor) -> Tensor:
    """Of tokens that are no padding, as RoBERTa counts them."""
    real = tokens.ne(1).int()
    made: Tensor = h + m.rows((torch.cumsum(real, 1).type_as(real) * real).long() + 1)
    return made


def integers(m: Any, h: Tensor, n: Tensor) -> Tensor:
    """Integers in order, also those that a number would round, and their extremes."""
    n = (n - 4) * ((1 << 40) + 1) + n.argsort(1)
    ordered, places = n.sort(1, descending=True)
    high, low = n.max(1), n.min(0)
    made = h.gather(1, places) * (ordered[:, :1] == high[0][:, None])
    return made + (high[1][:, None] + low[1]) * 0.5 + n.argmin(1, True) + n.argmax().float()


# What is made of h (rows x 5), and the other inputs: shapes of integers below a number.
FORMS: dict[str, tuple[Use, tuple[int, ...], tuple[tuple[int, ...], int] | None]] = {
    "relative positions": (
        lambda m, h: h @ m.table[m.pairs.view(-1)].view(5, 5, 3).sum(-1),
        (3,),
        None,
    ),
    "side by side": (
        lambda m, h: h[torch.arange(3), torch.tensor([0, 2, -1])],
        (3, 4),
        None,
    ),
    "apart": (lambda m, h: h[[0, 2, 1, 1], :, [0, 2, -1, 2]], (3, 4), None),
    "last token": (lambda m, h, n: h[torch.arange(3), n], (3, 4), ((3,), 4)),
    "written": (written, (3,), None),
    "added": (
        lambda m, h: torch.index_put(h, (torch.tensor([0, 2, 2]),), h[:1] * 2, accumulate=True),
        (3,),
        None,
    ),
    "gather": (lambda m, h, n: h.gather(1, n), (3,), ((3, 7), 5)),
    "gather less": (lambda m, h, n: h.gather(0, n), (3, 4), ((3, 3, 2), 3)),
    "select": (lambda m, h, n: m.table.index_select(0, n) * h[:, :1], (3,), ((3,), 5)),
    "scatter_add": (lambda m, h, n: h.scatter_add(1, n, h * 2), (3,), ((3, 5), 5)),
    "scatter": (lambda m, h, n: h.scatter(1, n[:, :1], h[:, 1:2] * 3), (3,), ((3, 5), 5)),
    "scatter less": (
        lambda m, h: h.scatter(1, torch.tensor([[[0, 2], [1, 1]]]), 3 * h[:1, :2, :2]),
        (3, 4),
        None,
    ),
    "scatter a number": (lambda m, h, n: h.scatter(1, n, 0.5), (3,), ((3, 2), 5)),
    "messages": (messages, (7,), ((13, 2), 7)),
    "max": (lambda m, h: h.max(1)[0], (3,), None),
    "min": (lambda m, h: h.min(-2, keepdim=True).values, (3, 4), None),
    "places of max": (lambda m, h: h * (h.max(1)[1] + 1.0)[:, None], (3,), None),
    "mixture": (mixture, (7,), None),
    "sort": (lambda m, h: h.sort(0, descending=True)[0].cumsum(0), (7,), None),
    "argsort": (lambda m, h: m.rows(h.argsort(-1)).sum(1) + h, (7,), None),
    "argmax": (lambda m, h: h * (h.argmax(-1, True) == torch.arange(5)), (7,), None),
    "sorted integers": (integers, (3,), ((3, 5), 9)),
    "cumsum": (lambda m, h: h.cumsum(1).cumsum(-1), (3, 4), None),
    "padding": (lambda m, h, n: (h * (n != 0)[..., None]).sum(1), (3, 4), ((3, 4), 3)),
    "positions": (positions, (3, 4), ((3, 4), 3)),
    "one_hot": (lambda m, h, n: h * F.one_hot(n, 5), (3,), ((3,), 5)),
    "arithmetic": (
        lambda m, h, n: h * n + (n // 2)[:, :1] + (3 - n) % 3 + n.float().exp() / n.sum() * n,
        (3,),
        ((3, 5), 9),
    ),
    "choices": (
        lambda m, h, n: m.rows(torch.where(n > 3, n - 1, n + 2).masked_fill(n == 2, 7)).sum(1) + h,
        (3,),
        ((3, 5), 9),
    ),
    "cast": (lambda m, h, n: h * (n.float() * 1.7).long().clamp(1, 9), (3,), ((3, 5), 9)),
    "moved": (
        lambda m, h, n: m.rows(F.pad(n.flip(1).roll(1, 0), (1, 0), value=3)[:, ::2]).sum(1) + h,
        (3,),
        ((3, 5), 9),
    ),
}


def check(model: nn.Module, loss: Loss, batch: tuple[Tensor, ...], target: str) -> Step:
    """Loss and state after one step, and outputs; 1e-5 is ten roundings of f32."""
    *xs, y = batch
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    step = quatrain.compile(model, loss, batch, sgd, recipe="fp32", target=target)
    value, wanted = step(*batch), loss(model(*xs), y)
    wanted.backward()
    sgd.step()
    torch.testing.assert_close(value, wanted.detach(), rtol=1e-5, atol=1e-5)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(step.state_dict()[name], tensor, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(step.predict(*xs), model(*xs), rtol=1e-4, atol=1e-4)
    return step


@pytest.mark.parametrize("name", FORMS)
def test_forms_equal_eager(name: str) -> None:
    torch.manual_seed(1)
    use, rows, more = FORMS[name]
    model, given = Net(use), [torch.randn(*rows, 6)]
    given += [torch.randint(0, more[1], more[0])] if more else []
    check(model, F.mse_loss, (*given, torch.randn(model(*given).shape)), "reference")


@pytest.mark.parametrize("name", ["gather", "mixture", "positions", "scatter_add", "written"])
def test_any_number_of_samples(name: str) -> None:
    torch.manual_seed(1)
    use, rows, more = FORMS[name]
    given = [torch.randn(*rows, 6)] + ([torch.randint(0, more[1], more[0])] if more else [])
    step, model = compiled(use, *given), Net(use)
    model.load_state_dict(step.state_dict())
    samples = [torch.cat([t.flip(0), t, t[:1]]) for t in given]
    with torch.no_grad():
        torch.testing.assert_close(step.predict(*samples), model(*samples), rtol=1e-4, atol=1e-4)
    assert samples_apart(step.source.evaluation, rows[0]) == (name != "written")


def shifted(output: Tensor, y: Tensor) -> Tensor:
    """As language models shift labels."""
    labels = F.pad(y, (0, 1), value=-100)[:, 1:]
    return F.cross_entropy(output.reshape(-1, 5), labels.reshape(-1))


def weighted(output: Tensor, y: Tensor) -> Tensor:
    """A weight for each sample, by its class; some do not count."""
    lost = F.cross_entropy(output, y, reduction="none")
    counted = (y != 1).float() * torch.tensor([1.0, 2.0, 0.5, 3.0, 1.5])[y]
    return (lost * counted).sum() / counted.sum()


LOSSES: dict[str, tuple[Loss, tuple[int, ...]]] = {
    "shifted labels": (shifted, (3, 4)),
    "margin": (lambda o, y: F.cross_entropy(o - 0.3 * F.one_hot(y, 5), y), (7,)),
    "values of actions": (lambda o, y: F.mse_loss(o.gather(1, y[:, None])[:, 0], y * 0.1), (7,)),
    "weighted": (weighted, (7,)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_equal_eager(name: str) -> None:
    torch.manual_seed(1)
    loss, rows = LOSSES[name]
    check(nn.Linear(6, 5), loss, (torch.randn(*rows, 6), torch.randint(0, 5, rows)), "reference")


@pytest.mark.tvm
@pytest.mark.parametrize("name", ["written", "messages", "positions"])
def test_kernels_equal_eager(name: str) -> None:
    pytest.importorskip("tvm")
    kernels(name, "cpu")


@pytest.mark.tvm
@pytest.mark.skipif(not has_compiler(), reason="the emulator needs g++")
def test_kernels_of_a_gpu_equal_eager() -> None:
    pytest.importorskip("tvm")
    with device():
        kernels("mixture", "cuda")


def kernels(name: str, target: str) -> None:
    """A form on a target."""
    torch.manual_seed(1)
    use, rows, more = FORMS[name]
    model, given = Net(use), [torch.randn(*rows, 6)]
    given += [torch.randint(0, more[1], more[0])] if more else []
    check(model, F.mse_loss, (*given, torch.randn(model(*given).shape)), target)


def compiled(use: Use, *given: Tensor, **options: Any) -> Step:
    model = Net(use)
    y = torch.randn(model(*given).shape)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    options = {"recipe": "fp32", "target": "reference", **options}
    return quatrain.compile(model, F.mse_loss, (*given, y), sgd, **options)


GIVEN: dict[str, tuple[Use, str]] = {
    "gather": (lambda m, h, n: h.gather(1, n[:, None]), "rows are 0 .. 4"),
    "index": (lambda m, h, n: h[:, n], r"rows are -5 .. 4"),
    "place": (lambda m, h, n: h[torch.arange(3), n], r"rows are -5 .. 4"),
    "scatter": (lambda m, h, n: h.scatter(1, n[:, None], 0.0), "rows are 0 .. 4"),
    "select": (lambda m, h, n: h.index_select(1, n), "rows are 0 .. 4"),
}


@pytest.mark.parametrize("name", GIVEN)
def test_a_wrong_row_of_a_batch_is_refused_and_changes_nothing(name: str) -> None:
    use, said = GIVEN[name]
    x, n = torch.randn(3, 6), torch.tensor([0, 4, 1])
    step = compiled(use, x, n)
    before, y = step.state, torch.randn(step.predict(x, n).shape)
    with pytest.raises(InputError, match=said):
        step(x, torch.tensor([0, 5, 1]), y)
    assert all(torch.equal(before[name], value) for name, value in step.state.items())


COMPUTED: dict[str, Use] = {
    "take": lambda m, h, n: m.rows(n * 30) + h,
    "gather": lambda m, h, n: h.gather(1, (n * 3)[:, None]),
    "place": lambda m, h, n: h[torch.arange(3), n * 3],
    "scatter": lambda m, h, n: h.scatter(1, (n * 3)[:, None], 0.0),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_a_wrong_row_that_is_computed_skips_the_step(name: str) -> None:
    x, n = torch.randn(3, 6), torch.tensor([0, 1, 1])
    step = compiled(COMPUTED[name], x, n)
    y = torch.randn(step.predict(x, n).shape)
    before = step.state
    assert step(x, torch.tensor([0, 2, 1]), y).isnan() and step.skipped == 1
    assert all(torch.equal(before[k], v) for k, v in step.state.items() if k != "skipped")
    assert step(x, n, y).isfinite() and step.skipped == 1


REFUSED: dict[str, tuple[Use, str]] = {
    "constant": (lambda m, h: h[:, torch.tensor([0, 5])], r"names row 5 of 5; rows are -5 \.\. 4"),
    "divisor": (lambda m, h: h * (m.pairs // m.pairs), "a fixed number, not 0"),
    "bits": (lambda m, h: h * (m.pairs ^ 3), "bitwise_xor in layer 'model' at"),
    "largest integer": (lambda m, h: h * m.pairs.amax(), "works on integers; there are"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_there_is_refused(name: str) -> None:
    use, said = REFUSED[name]
    model = Net(use)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(CaptureError, match=said):
        quatrain.compile(
            model,
            lambda o, y: o.mean(),
            (torch.randn(5, 6), torch.zeros(5)),
            sgd,
            target="reference",
        )


@pytest.mark.parametrize("recipe", ["ultra_low_4bit", "bf16", "sbm8"])
def test_recipes_take_them(recipe: str) -> None:
    torch.manual_seed(0)
    x, n = torch.randn(3, 4, 6), torch.randint(3, (3, 4))
    step = compiled(positions, x, n, recipe=recipe)
    assert step(x, n, torch.randn(3, 4, 5)).isfinite()


def test_a_label_that_is_computed_and_no_class_skips_the_step() -> None:
    model, x = nn.Linear(6, 5), torch.randn(3, 4, 6)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    y = torch.randint(0, 5, (3, 4))

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output.reshape(-1, 5), (target + 1).reshape(-1), ignore_index=6)

    step = quatrain.compile(model, loss, (x, y), sgd, recipe="fp32", target="reference")
    assert step(x, torch.full((3, 4), 4)).isnan() and step.skipped == 1
    y = torch.tensor([0, 1, 5]).repeat(4).reshape(3, 4)
    torch.testing.assert_close(step(x, y), loss(model(x), y).detach(), rtol=1e-5, atol=1e-5)
    assert step.skipped == 1

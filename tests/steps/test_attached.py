"""What is attached to a model, its tensors or its optimizer: honoured, or refused by a sentence."""

import random
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.optimizer import register_optimizer_step_pre_hook

import quatrain
from quatrain.compiler.errors import CaptureError

from ..cases.attached import SGD, Body, batch, made, plain, refused, same_as_eager

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("name", ["a.weight", "b.bias"])
@pytest.mark.parametrize("kind", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_on_parameters_are_refused(name: str, kind: str) -> None:
    model = Body(plain)
    handle = getattr(model.get_parameter(name), kind)(lambda g: None)
    refused(model, rf"^{name} has a hook.*{kind}")
    handle.remove()
    made(model)


@pytest.mark.parametrize("kind", ["register_step_pre_hook", "register_step_post_hook"])
def test_hooks_on_the_optimizer_are_refused(kind: str) -> None:
    model = Body(plain)
    adam = torch.optim.Adam(model.parameters())
    getattr(adam, kind)(lambda *_: None)
    refused(model, "has a hook on its step", adam)


def test_hooks_on_all_optimizers_are_refused() -> None:
    handle = register_optimizer_step_pre_hook(lambda *_: None)
    try:
        refused(Body(plain), "has a hook on its step")
    finally:
        handle.remove()


def doubled(module: nn.Module, given: Any, out: Any) -> Any:
    return tuple(g if g is None else 2 * g for g in given)


def tripled(module: nn.Module, given: Any) -> Any:
    return (given[0] * 3,)


HONOURED: dict[str, Callable[[nn.Module], object]] = {
    "forward": lambda m: m.register_forward_hook(lambda _, __, out: out * 2),
    "forward pre": lambda m: m.register_forward_pre_hook(lambda _, given: (given[0] + 1,)),
    "backward": lambda m: m.register_full_backward_hook(doubled),
    "backward pre": lambda m: m.register_full_backward_pre_hook(tripled),
}


@pytest.mark.filterwarnings("ignore:Full backward hook")
@pytest.mark.parametrize("kind", HONOURED)
@pytest.mark.parametrize("layer", ["", "b"])
def test_hooks_on_modules_run(kind: str, layer: str) -> None:
    model = Body(plain)
    HONOURED[kind](model.get_submodule(layer))
    same_as_eager(model)


def test_hooks_on_tensors_of_the_forward_run_without_a_condition() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        hidden = torch.relu(m.a(x))
        hidden.register_hook(lambda g: g * 0.5)
        made: Tensor = m.b(hidden)
        return made

    model = Body(forward)
    same_as_eager(model)


def test_hooks_on_tensors_of_the_forward_run() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        hidden = torch.relu(m.a(x))
        if hidden.requires_grad:
            hidden.register_hook(lambda g: g * 0.5)
        made: Tensor = m.b(hidden)
        return made

    same_as_eager(Body(forward))


def replaced(m: Any, x: Tensor) -> Tensor:
    m.mean = 0.9 * m.mean + 0.1 * m.a(x).detach().mean(0)
    return plain(m, x)


def registered_again(m: Any, x: Tensor) -> Tensor:
    m.register_buffer("mean", m.a(x).detach().mean(0))
    return plain(m, x)


def replaced_in_eval(m: Any, x: Tensor) -> Tensor:
    if not m.training:
        m.mean = m.mean + 1
    return plain(m, x)


@pytest.mark.parametrize("forward", [replaced, registered_again, replaced_in_eval])
def test_buffers_that_are_replaced_are_refused(forward: Callable[..., Tensor]) -> None:
    model = Body(forward)
    mean = model.mean
    refused(model, r"replaces the buffer mean by assignment.*self\.mean\.copy_")
    refused(nn.Sequential(model), r"the buffer 0\.mean")
    assert model.mean is mean


def test_buffers_written_in_place_are_followed() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        m.mean.mul_(0.9).add_(m.a(x).detach().mean(0), alpha=0.1)
        made: Tensor = plain(m, x) + m.mean[:4]
        return made

    same_as_eager(Body(forward))


def counted(m: Any, x: Tensor) -> Tensor:
    m.count += 1
    return plain(m, x)


def switched(m: Any, x: Tensor) -> Tensor:
    m.on = not m.on if m.training else m.on
    return plain(m, x)


@pytest.mark.parametrize(("forward", "name"), [(counted, "count"), (switched, "on")])
def test_numbers_that_the_forward_changes_are_refused(
    forward: Callable[..., Tensor], name: str
) -> None:
    model = Body(forward)
    before = getattr(model, name)
    refused(model, rf"the forward changes {name} from {before!r}")
    assert getattr(model, name) is before


def counted_in_a_dict(m: Any, x: Tensor) -> Tensor:
    m.cache["kept"] += 1
    return plain(m, x)


def counted_in_a_list(m: Any, x: Tensor) -> Tensor:
    m.seen[0] += 1
    return plain(m, x)


@pytest.mark.parametrize(
    ("forward", "name"), [(counted_in_a_dict, "cache['kept']"), (counted_in_a_list, "seen[0]")]
)
def test_numbers_in_containers_are_refused(forward: Callable[..., Tensor], name: str) -> None:
    model = Body(forward)
    refused(model, rf"the forward changes {re.escape(name)} from 1 to 2")
    assert (model.seen, model.cache) == ([1], {"kept": 1})


@pytest.mark.parametrize("draw", [random.random, np.random.rand])
def test_random_numbers_of_python_are_refused(draw: Callable[[], float]) -> None:
    refused(
        Body(lambda m, x: plain(m, x) * draw()), "draws from Python's or NumPy's random numbers"
    )
    made(Body(plain))


class Annealed(nn.Module):
    """A loss with a number that grows."""

    def __init__(self) -> None:
        super().__init__()
        self.share = 0.0

    def forward(self, out: Tensor, y: Tensor) -> Tensor:
        self.share += 0.5
        return cross_entropy(out, y) * self.share


class Called:
    """A loss that is no module."""

    share = 0.0

    def __init__(self) -> None:
        self.share = 0.0

    def __call__(self, out: Tensor, y: Tensor) -> Tensor:
        self.share += 0.5
        return cross_entropy(out, y) * self.share


def closed() -> Callable[[Tensor, Tensor], Tensor]:
    share = 0.0

    def loss(out: Tensor, y: Tensor) -> Tensor:
        nonlocal share
        share += 0.5
        return cross_entropy(out, y) * share

    return loss


@pytest.mark.parametrize("make", [Annealed, Called, closed])
def test_numbers_that_the_loss_changes_are_refused(make: Callable[[], Any]) -> None:
    model = Body(plain)
    sgd = SGD(model.parameters(), lr=0.1)
    with pytest.raises(CaptureError, match=r"^the loss changes share from 0\.0 to 0\.5"):
        quatrain.compile(model, make(), batch(), sgd, recipe="fp32", target="reference")


def test_what_the_loss_keeps_is_put_back() -> None:
    seen, model = list[Tensor](), Body(plain)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        seen.append(out.mean())
        return cross_entropy(out, y)

    sgd = SGD(model.parameters(), lr=0.1)
    quatrain.compile(model, loss, batch(), sgd, recipe="fp32", target="reference")
    assert seen == []


def test_a_model_in_eval_mode_is_told(caplog: pytest.LogCaptureFixture) -> None:
    made(Body(plain))
    assert "eval mode" not in caplog.text
    made(Body(plain).eval())
    assert "the model is in eval mode" in caplog.text


def test_other_threads_run_modules_meanwhile() -> None:
    """Hooks of modules belong to the process: what others run is no part of the trace."""
    other, x, wrong = Body(plain), batch()[0], list[BaseException]()
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                with torch.no_grad(), torch.autograd.graph.saved_tensors_hooks(abs, abs):
                    other(x)
            except BaseException as error:
                wrong.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        texts = {made(Body(plain)).ir() for _ in range(6)}
    finally:
        stop.set()
        thread.join()
    assert len(texts) == 1 and not wrong


def test_what_the_forward_keeps_is_put_back() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        hidden = torch.relu(m.a(x))
        m.last, m.seen[:] = hidden, [*m.seen, hidden]
        m.cache["hidden"] = hidden
        made: Tensor = m.b(hidden)
        return made

    model = Body(forward)
    made(model)
    assert (model.seen, model.cache) == ([1], {"kept": 1}) and not hasattr(model, "last")


def compiled(model: nn.Module) -> Any:
    return torch.compile(model)


def exported(model: nn.Module) -> nn.Module:
    return torch.export.export(model, (batch()[0],)).module()


WRAPPED: dict[str, tuple[Callable[[nn.Module], nn.Module], str]] = {
    "torch.compile": (compiled, "compiled by torch.compile"),
    "export": (exported, "comes from torch.export"),
    "trace": (lambda m: torch.jit.trace(m, batch()[0]), "scripted or traced by torch.jit"),
    "script": (torch.jit.script, "scripted or traced by torch.jit"),
    "parallel": (nn.DataParallel, "wrapped in DataParallel"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("kind", WRAPPED)
def test_modules_that_are_no_python_are_refused(kind: str, inside: bool) -> None:
    wrap, message = WRAPPED[kind]
    wrapped = wrap(nn.Linear(6, 4))
    refused(nn.Sequential(nn.ReLU(), wrapped) if inside else wrapped, message)


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(CaptureError, match=r"the model is a function; give a torch\.nn\.Module"):
        sgd = SGD([torch.zeros(2, requires_grad=True)], lr=0.1)
        quatrain.compile(plain, cross_entropy, batch(), sgd, recipe="fp32")  # type: ignore[arg-type]


def test_inputs_that_require_gradients() -> None:
    same_as_eager(Body(lambda m, x: m.b(torch.tanh(m.a(x.requires_grad_(True))))))


@pytest.mark.parametrize(
    "forward",
    [
        lambda m, i: m.b(m.e(i).sum(1)) * (i != 0).float().sum(1, keepdim=True),
        lambda m, i: m.b(m.e(i[:, 0])),
        lambda m, i: m.b(m.e(i).sum(1)) * i.float().mean(),
        lambda m, i: m.b(m.e(torch.where(i > 3, i, i + 1)).sum(1)),
    ],
)
def test_what_is_computed_with_indices(forward: Callable[[Any, Tensor], Tensor]) -> None:
    model = Body(forward)
    model.e = nn.Embedding(9, 6)
    x, y = torch.randint(8, (8, 5)), batch()[1]
    sgd = SGD(model.parameters(), lr=0.1)
    step = quatrain.compile(model, cross_entropy, (x, y), sgd, recipe="fp32", target="reference")
    made = step(x, y)
    wanted = cross_entropy(model(x), y)
    wanted.backward()
    sgd.step()
    torch.testing.assert_close(made, wanted.detach(), rtol=1e-5, atol=1e-5)
    for name, ours in step.state_dict().items():
        torch.testing.assert_close(ours, model.state_dict()[name], rtol=1e-5, atol=1e-5)

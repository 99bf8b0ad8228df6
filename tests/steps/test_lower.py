"""Lowering: one whole step of the captured program equals one step of PyTorch, op by op family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.nn import functional as F

from quatrain.compiler.capture.program import Capture, capture
from quatrain.compiler.ir import Program
from quatrain.compiler.ir.text import parse, show
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.reference.evaluate import evaluate

pytestmark = pytest.mark.torch
# Both sides compute in f32 and sum in another order; the rest is the bound of a faithful step.
BOUND = 1e-4


def run(program: Program, values: dict[str, Any]) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """Outputs and next state of ``program``, interpreted."""
    given = {
        v.name: Tensor(
            v.type,
            np.asarray(values[v.name]).astype(np.int64 if v.type.format.is_index else np.float32),
        )
        for v in (*program.inputs, *program.state)
    }
    env = evaluate(program, given)
    return [env[v].data for v in program.outputs], {s.name: env[v].data for s, v in program.next}


def distance(got: np.ndarray, want: torch.Tensor) -> float:
    """Relative distance in norm; below a norm of 1e-3 absolute, for what is 0 but for rounding."""
    expected = want.detach().numpy()
    return float(np.linalg.norm(got - expected)) / max(float(np.linalg.norm(expected)), 1e-3)


def assert_steps_agree(
    model: nn.Module,
    batch: tuple[torch.Tensor, ...],
    loss: Callable[..., torch.Tensor] | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    steps: int = 2,
    skip: Sequence[str] = (),
) -> Capture:
    """Compare ``steps`` steps and the evaluation after them with eager PyTorch."""
    loss = loss or nn.CrossEntropyLoss()
    optimizer = optimizer or torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3
    )
    made = capture(model, loss, batch, optimizer)
    train = parse(show(made.train))
    state: dict[str, Any] = dict(made.state)
    names = [v.name for v in train.inputs[: len(batch)]]
    given = {n: t.numpy().copy() for n, t in zip(names, batch, strict=True)}
    for _ in range(steps):
        (value,), changed = run(train, {**state, **given, **made.optimizer.read(optimizer)})
        state |= changed
        optimizer.zero_grad()
        expected = loss(model(*batch[:-1]), batch[-1])
        expected.backward()
        optimizer.step()
        assert abs(value - expected.item()) <= BOUND * max(abs(expected.item()), 1e-3)
        for key, tensor in model.state_dict().items():
            if key not in skip:
                assert distance(state[made.model_state[key]], tensor) <= BOUND, key
    model.eval()
    evaluation = made.evaluation
    inputs = {v.name: t.numpy() for v, t in zip(evaluation.inputs, batch, strict=False)}
    (output,), _ = run(evaluation, {**state, **inputs})
    with torch.no_grad():
        assert distance(output, model(*batch[:-1])) <= 10 * BOUND
    return made


def images(n: int = 3, c: int = 3, h: int = 13, w: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(n, c, h, w), torch.randint(0, 5, (n,))


class Headed(nn.Module):
    """Some image layers and a linear head of five classes."""

    def __init__(self, *body: nn.Module, channels: int = 4) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(*body), nn.Linear(channels, 5)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.body(x).flatten(2).mean(2))


CONVS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: nn.Conv2d(3, 4, 3),
    "stride, padding, oblong": lambda: nn.Conv2d(3, 4, (3, 2), (2, 1), (1, 0), bias=False),
    "dilation": lambda: nn.Conv2d(3, 4, 3, dilation=(2, 1)),
    "same": lambda: nn.Conv2d(3, 4, 3, padding="same", dilation=2),
    "same, even": lambda: nn.Conv2d(3, 4, (2, 4), padding="same"),
    "valid": lambda: nn.Conv2d(3, 4, 5, 3, padding="valid"),
    "groups": lambda: nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 3, 2, 1, groups=2)),
    "depthwise": lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=4)),
    "pointwise": lambda: nn.Conv2d(3, 4, 1, 2, bias=False),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch's own kernel warns of a copy
@pytest.mark.parametrize("case", CONVS)
def test_convolutions(case: str) -> None:
    torch.manual_seed(0)
    assert_steps_agree(Headed(CONVS[case](), nn.ReLU()), images())


def test_one_image_of_one_channel() -> None:
    torch.manual_seed(1)
    assert_steps_agree(Headed(nn.Conv2d(1, 4, 3), nn.ReLU()), images(1, 1, 3, 3))


POOLS: dict[str, Callable[[], nn.Module]] = {
    "max": lambda: nn.MaxPool2d(3, 2, 1),
    "max, rounding up": lambda: nn.MaxPool2d(3, 2, ceil_mode=True),
    "max, dilated": lambda: nn.MaxPool2d((2, 3), (1, 2), dilation=(2, 1)),
    "max of a large window": lambda: nn.MaxPool2d((11, 5), 1, (5, 2)),
    "average": lambda: nn.AvgPool2d(3, 2, 1),
    "average without the border": lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "average by a given divisor": lambda: nn.AvgPool2d(2, divisor_override=3),
    "average, rounding up": lambda: nn.AvgPool2d(2, 3, ceil_mode=True),
    "adaptive average": lambda: nn.AdaptiveAvgPool2d((3, 2)),
    "adaptive average, one side free": lambda: nn.AdaptiveAvgPool2d((None, 3)),
    "global average": lambda: nn.AdaptiveAvgPool2d(1),
    "adaptive max": lambda: nn.AdaptiveMaxPool2d((3, 2)),
    "global max": lambda: nn.AdaptiveMaxPool2d(1),
}


@pytest.mark.parametrize("case", POOLS)
def test_pooling(case: str) -> None:
    torch.manual_seed(2)
    assert_steps_agree(Headed(nn.Conv2d(3, 4, 3), POOLS[case](), nn.ReLU()), images())


def in_eval_mode(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    norm.eval()
    if norm.running_var is not None:
        norm.running_var.uniform_(0.5, 2.0)
    return norm


NORMS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: nn.BatchNorm2d(4),
    "eps and momentum": lambda: nn.BatchNorm2d(4, eps=1e-2, momentum=0.3),
    "cumulative": lambda: nn.BatchNorm2d(4, momentum=None),
    "without parameters": lambda: nn.BatchNorm2d(4, affine=False),
    "without statistics": lambda: nn.BatchNorm2d(4, track_running_stats=False),
    "in eval mode": lambda: in_eval_mode(nn.BatchNorm2d(4)),
    "in eval mode, without parameters": lambda: in_eval_mode(nn.BatchNorm2d(4, affine=False)),
}


@pytest.mark.parametrize("case", NORMS)
def test_batch_norm(case: str) -> None:
    torch.manual_seed(3)
    net = Headed(nn.Conv2d(3, 4, 3, bias=False), NORMS[case](), nn.ReLU(), nn.Conv2d(4, 4, 1))
    assert_steps_agree(net, images(), steps=3)


def test_a_norm_that_is_used_twice_updates_twice() -> None:
    torch.manual_seed(4)
    norm = nn.BatchNorm2d(4, momentum=None)
    net = Headed(nn.Conv2d(3, 4, 3, bias=False), norm, nn.ReLU(), norm)
    made = assert_steps_agree(net, images())
    assert [op.kind for _, op in made.train.ops()].count("increment") == 3  # two, and the step


class Shapes(nn.Module):
    """Everything that moves elements, in place and out of place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> Any:
        h = self.conv(x)
        h += F.relu(h.clone())
        h = F.pad(h, (1, -1, -2, 2), value=0.5)
        h = torch.cat([h[:, :, 1::2, ::3], h[:, :, :6, -3:]], 1)
        a, b = h.chunk(2, 1)
        h = torch.stack([b, a], 1).flatten(1, 2).transpose(2, 3)
        h = h[:, :, 0, 1:] + h[:, :, -1, 1:].unsqueeze(0).squeeze(0)
        first, *rest = h.unbind(2)
        return self.fc(first + torch.stack(rest, 2).reshape(x.shape[0], 8, -1).mean(-1))


def test_shapes() -> None:
    torch.manual_seed(5)
    assert_steps_agree(Shapes(), images())


class Arithmetic(nn.Module):
    """Two inputs, broadcasts, numbers, a parameter that is no layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 5), nn.Linear(7, 5, bias=False)
        self.gain = nn.Parameter(torch.rand(5))

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> Any:
        h = self.a(x) * self.gain - self.b(z) / 3
        h = torch.add(h, h.mean(0, keepdim=True), alpha=0.5) + 1
        return (1 - h) * 2 - h.sum(1, keepdim=True)


def pair() -> tuple[torch.Tensor, ...]:
    return torch.randn(3, 3), torch.randn(3, 7), torch.randint(0, 5, (3,))


def test_arithmetic_of_two_inputs() -> None:
    torch.manual_seed(6)
    made = assert_steps_agree(Arithmetic(), pair())
    assert [v.name for v in made.train.inputs[:3]] == ["x0", "x1", "y"]
    assert [v.name for v in made.evaluation.inputs] == ["x0", "x1"]


class Tied(nn.Module):
    """Linear layers on three dimensions, tied weights, both kinds of BatchNorm1d."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(7, 9), nn.Linear(9, 9), nn.Linear(9, 9, bias=False)
        self.c.weight = self.b.weight
        self.wide, self.flat = nn.BatchNorm1d(5), nn.BatchNorm1d(9)

    def forward(self, x: torch.Tensor) -> Any:
        h = self.c(F.relu(self.b(self.wide(self.a(x)))))
        return self.flat(h.sum(1))


def test_linear_of_any_rank_and_tied_weights() -> None:
    torch.manual_seed(7)
    assert_steps_agree(Tied(), (torch.randn(6, 5, 7), torch.randint(0, 9, (6,))))


class Dense(nn.Module):
    """A label for each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, x: torch.Tensor) -> Any:
        return self.conv(x)


LABELS = torch.tensor([0, 2, -100, 4, 1])
REAL = torch.linspace(-1, 1, 25).reshape(5, 5)
LOSSES: dict[str, tuple[Callable[..., torch.Tensor], torch.Tensor]] = {
    "mean": (nn.CrossEntropyLoss(), LABELS),
    "sum": (nn.CrossEntropyLoss(reduction="sum", ignore_index=2), LABELS.clamp(min=0)),
    "probabilities": (nn.CrossEntropyLoss(), REAL.softmax(1)),
    "squares": (nn.MSELoss(), REAL),
    "sum of squares": (nn.MSELoss(reduction="sum"), REAL),
    "own": (lambda o, y: F.cross_entropy(o, y) * 0.5 + 0.1 * (o * o).mean(), LABELS),
    "negative likelihood": (lambda o, y: F.nll_loss(F.log_softmax(o, -1), y), LABELS),
}


@pytest.mark.parametrize("case", LOSSES)
def test_losses(case: str) -> None:
    torch.manual_seed(8)
    loss, target = LOSSES[case]
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 5))
    assert_steps_agree(net, (torch.randn(5, 3, 2, 2), target), loss)


def test_a_label_for_each_pixel() -> None:
    torch.manual_seed(9)
    labels = torch.randint(0, 5, (2, 5, 3))
    labels[0, 0] = -100
    assert_steps_agree(Dense(), (torch.randn(2, 3, 5, 3), labels))


def two_groups(model: nn.Module) -> torch.optim.SGD:
    assert isinstance(model, Arithmetic)
    groups = [
        {"params": [model.a.weight, model.gain], "lr": 0.01, "maximize": True},
        {"params": [model.b.weight], "momentum": 0.7, "nesterov": True},
    ]
    return torch.optim.SGD(groups, lr=0.2)


def well_used(model: nn.Module) -> torch.optim.SGD:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, dampening=0.5)
    x, z, _ = pair()
    model(x, z).sum().backward()
    optimizer.step()
    return optimizer


OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "plain": lambda m: torch.optim.SGD(m.parameters(), lr=0.1),
    "dampening": lambda m: torch.optim.SGD(
        m.parameters(), lr=0.1, momentum=0.5, dampening=0.3, weight_decay=0.1
    ),
    "nesterov": lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.5, nesterov=True),
    "groups": two_groups,
    "after a step": well_used,
}


@pytest.mark.parametrize("case", OPTIMIZERS)
def test_optimizers(case: str) -> None:
    torch.manual_seed(10)
    model = Arithmetic()
    assert_steps_agree(model, pair(), optimizer=OPTIMIZERS[case](model), steps=3)


def test_schedules_act_without_a_new_capture() -> None:
    torch.manual_seed(11)
    model = Arithmetic()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    made = capture(model, nn.CrossEntropyLoss(), pair(), optimizer)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.1)
    optimizer.step()
    scheduler.step()
    assert made.optimizer.read(optimizer)["group0.lr"] == pytest.approx(0.01)


def tripled(module: nn.Module, gradients: Any, _: Any) -> Any:
    return (gradients[0] * 3,)


def test_hooks_and_own_gradients_are_kept() -> None:
    torch.manual_seed(12)

    class Halved(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x * 1.0

        @staticmethod
        def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:  # on purpose not the true one
            return g * 0.5

    class Hooked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 5)
            self.b.register_full_backward_hook(tripled)

        def forward(self, x: torch.Tensor) -> Any:
            h = F.relu(self.a(x))
            own: Any = Halved.apply(h)  # type: ignore[no-untyped-call]
            return self.b(own + h.detach())

    assert_steps_agree(Hooked(), (torch.randn(3, 4), torch.randint(0, 5, (3,))))


def test_buffers_that_the_forward_writes_are_carried() -> None:
    class Decaying(nn.Module):
        offset: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 5)
            self.register_buffer("offset", torch.ones(5))

        def forward(self, x: torch.Tensor) -> Any:
            self.offset.mul_(0.5)
            return self.fc(x) + self.offset

    torch.manual_seed(13)
    model = Decaying()
    made = capture(
        model, nn.CrossEntropyLoss(), pair_of_vectors(), torch.optim.SGD(model.parameters())
    )
    values = {**made.state, **made.optimizer.initial()}
    x, y = pair_of_vectors()
    _, changed = run(made.train, {**values, "x": x.numpy(), "y": y.numpy()})
    np.testing.assert_array_equal(changed["offset"], np.full(5, 0.5, np.float32))


def pair_of_vectors() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.ones(3, 4), torch.tensor([0, 2, 4])


def test_nothing_dead_is_left() -> None:
    torch.manual_seed(14)
    net = Headed(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
    made = capture(net, nn.CrossEntropyLoss(), images(), torch.optim.SGD(net.parameters(), lr=0.1))
    for program in (made.train, made.evaluation):
        read = {v for _, op in program.ops() for v in op.inputs}
        read |= {*program.outputs, *(v for _, v in program.next)}
        assert all(read.intersection(op.results) for _, op in program.ops())

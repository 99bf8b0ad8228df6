"""Capture: layers and places in the joint graph, refusals, and a model that is left as it was."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatch
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.nn import functional as F

from quatrain.compiler.capture.program import Capture, capture
from quatrain.compiler.capture.version import TRIED, require_tried
from quatrain.compiler.errors import CaptureError, InputError, UnsupportedOpError
from quatrain.compiler.ir import Program
from quatrain.compiler.ir.text import parse, show

pytestmark = pytest.mark.torch
BATCH = (torch.ones(3, 4), torch.tensor([0, 2, 1]))
IMAGES = (torch.ones(2, 3, 13, 7), torch.tensor([0, 2]))


def sgd(model: nn.Module, **options: Any) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), **{"lr": 0.1, "momentum": 0.9, **options})


def captured(model: nn.Module, batch: tuple[torch.Tensor, ...] = BATCH) -> Capture:
    return capture(model, nn.CrossEntropyLoss(), batch, sgd(model))


def origins(program: Program, kind: str) -> list[str]:
    return [op.origin for _, op in program.ops() if op.kind == kind]


class Block(nn.Module):
    """A convolution, a norm and a shared convolution around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> Any:
        y = self.relu(self.bn(self.conv(x)))
        y = self.conv(y)
        y += x
        return self.relu(y)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3, 2)
        self.blocks = nn.Sequential(Block(5), Block(5))
        self.fc = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> Any:
        return self.fc(F.adaptive_avg_pool2d(self.blocks(self.stem(x)), 1).flatten(1))


def test_every_layer_call_is_one_forward_one_dx_and_one_dw() -> None:
    train = captured(Net(), IMAGES).train
    convs = ["blocks.0.conv", "blocks.0.conv#2", "blocks.1.conv", "blocks.1.conv#2"]
    assert origins(train, "conv2d") == ["stem", *convs]
    assert origins(train, "conv2d_input_grad") == convs[::-1]  # the batch needs no gradient
    assert origins(train, "conv2d_weight_grad") == [*convs[::-1], "stem"]
    for kind in ("linear", "linear_input_grad", "linear_weight_grad"):
        assert origins(train, kind) == ["fc"]


def test_dx_and_dw_of_a_layer_read_the_same_gradient() -> None:
    grads: dict[str, set[str]] = {}
    for _, op in captured(Net(), IMAGES).train.ops():
        if op.kind.endswith(("_input_grad", "_weight_grad")) and "batch" not in op.kind:
            grads.setdefault(op.origin, set()).add(op.inputs[0].name)
    assert len(grads) == 6 and all(len(names) == 1 for names in grads.values()), grads


def test_every_op_knows_its_layer_also_in_backward() -> None:
    train = captured(Net(), IMAGES).train
    known = {name for name, _ in Net().named_modules()} - {""} | {"model", "loss", "optimizer"}
    assert {op.origin.partition("#")[0] for _, op in train.ops()} <= known
    assert origins(train, "relu") == origins(train, "relu_grad")[::-1]
    assert set(origins(train, "relu")) == {
        *("blocks.0.relu", "blocks.0.relu#2", "blocks.1.relu", "blocks.1.relu#2")
    }
    # A shortcut's addition belongs to its block, and so does the sum of its two gradients.
    sums = [o for o in origins(train, "add") if not fnmatch(o, "*.conv*")]
    assert {o for o in sums if o in ("blocks.0", "blocks.1")} == {"blocks.0", "blocks.1"}


def test_names_read_like_the_model() -> None:
    train = captured(Net(), IMAGES).train
    wanted = {
        *("stem.y", "stem.biased", "stem.dw", "stem.db", "blocks.0.conv.y", "blocks.0.conv.dx"),
        *("blocks.1.bn.mean", "blocks.1.bn.var", "blocks.1.bn.y", "blocks.1.bn.dgamma", "loss"),
        *("blocks.1.bn.dbeta", "blocks.1.bn.dx", "blocks.0.relu", "blocks.0.relu.dx", "fc.dw"),
        *("blocks.0.bn.running_mean", "blocks.0.bn.num_batches_tracked", "fc.weight.momentum"),
        *("x", "y", "step", "group0.lr", "group0.dampening", "fc.weight'"),
    }
    assert wanted <= train.names()
    assert [v.name for v in train.outputs] == ["loss"]


def test_programs_round_trip_as_text() -> None:
    made = captured(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3)))
    for program in (made.train, made.evaluation):
        assert show(parse(show(program))) == show(program)
    assert "state 1.weight : f32[3x4]" in show(made.train)


def test_regions_and_state_of_both_programs() -> None:
    made = captured(Net(), IMAGES)
    assert [r.name for r in made.train.regions] == ["forward", "backward", "update"]
    assert [r.name for r in made.evaluation.regions] == ["forward"]
    assert {v.name for v in made.train.state} == set(made.state)
    evaluated = {v.name for v in made.evaluation.state}
    assert evaluated == {v.name for v in made.train.state if "momentum" not in v.name} - {"step"}
    assert made.evaluation.next == () and not origins(made.evaluation, "batch_stats")


def snapshot(model: nn.Module) -> list[Any]:
    tensors = [t.clone() for t in model.state_dict().values()]
    grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    flags = [m.training for m in model.modules()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    settings = [getattr(m, "momentum", None) for m in model.modules()]
    same = [id(t) for m in model.modules() for t in (*m._parameters.values(), *m._buffers.values())]
    return [tensors, grads, flags, hooks, settings, same, torch.get_rng_state()]


def assert_unchanged(before: list[Any], after: list[Any]) -> None:
    for a, b in zip(before[:2], after[:2], strict=True):
        for x, y in zip(a, b, strict=True):
            assert y is None if x is None else torch.equal(x, y)
    assert before[2:-1] == after[2:-1]
    assert torch.equal(before[-1], after[-1])


def well_used(model: nn.Module) -> nn.Module:
    """With gradients present, one norm frozen and one of cumulative momentum."""
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    norms[0].eval()
    norms[1].momentum = None
    return model


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training: bool) -> None:
    model = well_used(Net().train(training))
    optimizer = sgd(model)
    before, settings = snapshot(model), optimizer.state_dict()
    capture(model, nn.CrossEntropyLoss(), IMAGES, optimizer)
    assert_unchanged(before, snapshot(model))
    assert str(settings) == str(optimizer.state_dict())


def test_a_module_with_two_names_is_left_as_it_was() -> None:
    norm = nn.BatchNorm1d(4)
    shared = nn.Sequential(norm, nn.Linear(4, 4))
    model = nn.Sequential(shared, nn.ReLU(), shared, norm)
    before = snapshot(model)
    made = captured(model)
    assert_unchanged(before, snapshot(model))
    assert origins(made.train, "linear") == ["0.1", "0.1#2"]
    assert set(made.model_state) == set(model.state_dict())


def test_the_model_and_torch_are_left_as_they_were_after_an_error() -> None:
    class Failing(Net):
        def forward(self, x: torch.Tensor) -> Any:
            super().forward(x)
            raise ValueError("no luck")

    model = well_used(Failing())
    before = snapshot(model)
    kernels = dict(torch.ops.aten.conv2d.default.py_kernels)
    hooks = len(nn.modules.module._global_forward_hooks)
    with pytest.raises(CaptureError, match=r"Failing at .*test_capture.py:\d+ failed .*: no luck"):
        capture(model, nn.CrossEntropyLoss(), IMAGES, sgd(model))
    assert_unchanged(before, snapshot(model))
    assert torch.ops.aten.conv2d.default.py_kernels == kernels
    assert len(nn.modules.module._global_forward_hooks) == hooks
    assert torch.backends.mkldnn.enabled


def test_state_is_a_copy() -> None:
    model = nn.Linear(4, 3)
    made = captured(model)
    before = model.weight.detach().clone()
    made.state["weight"][...] = 7
    assert torch.equal(model.weight, before)


def test_tied_parameters_are_one_state() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    made = captured(model)
    assert made.model_state["2.weight"] == made.model_state["0.weight"] == "0.weight"
    assert "2.weight" not in made.state and set(made.model_state) == set(model.state_dict())
    assert sorted(origins(made.train, "sgd")) == ["0", "0", "2"]  # the weight, and two biases


class Both(nn.Module):
    """A layer to train, a frozen weight and a layer that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.unused = nn.Linear(4, 3), nn.Linear(3, 3), nn.Linear(2, 2)
        self.b.weight.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> Any:
        return self.b(F.relu(self.a(x)))


def test_untrained_parameters_are_state_without_a_next() -> None:
    net = Both()
    optimizer = torch.optim.SGD([*net.a.parameters(), net.b.weight], lr=0.1)
    made = capture(net, nn.CrossEntropyLoss(), BATCH, optimizer)
    changed = {state.name for state, _ in made.train.next}
    trained = {f"a.{name}{end}" for name in ("weight", "bias") for end in ("", ".momentum")}
    assert changed == {*trained, "step"}
    assert {"b.weight", "b.bias", "unused.weight"} <= set(made.state)
    assert origins(made.train, "linear_weight_grad") == ["a"]


def test_momenta_of_earlier_steps_are_taken_over() -> None:
    model = nn.Linear(4, 3)
    optimizer = sgd(model)
    F.cross_entropy(model(BATCH[0]), BATCH[1]).backward()
    optimizer.step()
    made = capture(model, nn.CrossEntropyLoss(), BATCH, optimizer)
    momentum = optimizer.state[model.weight]["momentum_buffer"]
    np.testing.assert_array_equal(made.state["weight.momentum"], momentum.numpy())
    assert made.state["step"] == 0
    assert made.state["optimizer.step"] == 1


def test_hyper_parameters_are_read_from_the_optimizer_of_now() -> None:
    model = nn.Linear(4, 3)
    groups: list[dict[str, Any]] = [{"params": [model.weight]}, {"params": [model.bias], "lr": 0.5}]
    optimizer = torch.optim.SGD(groups, lr=0.25, momentum=0.5, nesterov=True)
    spec = capture(model, nn.CrossEntropyLoss(), BATCH, optimizer).optimizer
    optimizer.param_groups[1]["lr"] = 0.125
    read = spec.read(optimizer)
    assert (read["group0.lr"], read["group1.lr"], read["group1.momentum"]) == (0.25, 0.125, 0.5)
    assert spec.initial()["group1.lr"] == 0.5
    optimizer.param_groups[0]["nesterov"] = False
    with pytest.raises(InputError, match="nesterov of parameter group 0 was True"):
        spec.read(optimizer)
    optimizer.param_groups.pop()
    with pytest.raises(InputError, match="1 parameter groups, the step was compiled with 2"):
        spec.read(optimizer)


class Lacking(nn.Module):
    """A module of what no step has."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.renorm(2, 0, 1.0)


class Using(nn.Module):
    """A linear layer, then whatever a test wants."""

    def __init__(self, use: Callable[[nn.Module, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.fc, self.act, self.use = nn.Linear(4, 3), Lacking(), use

    def forward(self, x: torch.Tensor) -> Any:
        return self.use(self, self.fc(x))


CONSTANT, TRAINED = torch.ones(3), torch.ones(3, requires_grad=True)
REFUSED_MODELS: dict[str, tuple[Callable[..., Any], str]] = {
    "op": (lambda m, h: m.act(h), r"renorm in layer 'act' at .*\.py:\d+ is not supported"),
    "functional": (
        lambda m, h: h.cummax(1)[0],
        r"cummax in layer 'model' at .*test_capture\.py:\d+",
    ),
    "places": (
        lambda m, h: h * h.mode(1)[1][:, None],
        r"mode in layer 'model' at .*:\d+",
    ),
    "volume": (
        lambda m, h: F.adaptive_max_pool3d(h[None, None, None], 3)[0, 0, 0],
        r"adaptive_max_pool3d\w* .*in layer 'model' at .* of volumes there are",
    ),
    "integers": (
        lambda m, h: h * (h.argmax(1) & 1)[:, None],
        r"bitwise_and in layer 'model'",
    ),
    "row": (lambda m, h: h[:, torch.tensor([0, 3])], r"names row 3 of 3; rows are -3 \.\. 2"),
    "double": (lambda m, h: h.double().float(), r"to in layer 'model'"),
    "division": (lambda m, h: torch.div(h, 2.0, rounding_mode="trunc") + h, r"div in .* rounds"),
    "branch": (
        lambda m, h: h if h.sum() > 0 else -h,
        r"a branch .* at .*test_capture\.py:\d+ needs the value",
    ),
    "trained constant": (lambda m, h: h * TRAINED, r"at .*:\d+ uses a tensor that requires a grad"),
    "written constant": (
        lambda m, h: h * CONSTANT.add_(1),
        r"at .*:\d+ writes into a tensor that is",
    ),
    "shape": (lambda m, h: m.fc(h), r"layer 'fc#2' takes 4 features, but its input has 3"),
}


@pytest.mark.parametrize("case", REFUSED_MODELS)
def test_a_model_outside_of_the_set_is_refused(case: str) -> None:
    use, message = REFUSED_MODELS[case]
    with pytest.raises(CaptureError, match=message) as caught:
        captured(Using(use))
    assert "\n" not in str(caught.value)


REFUSED_LOSSES: dict[str, tuple[Callable[..., Any], str]] = {
    "ranks": (lambda o, y: o.mode(1)[0].sum(), r"mode in layer 'loss'"),
    "no reduction": (nn.CrossEntropyLoss(reduction="none"), r"shape \(3,\); reduce it"),
    "number": (lambda o, y: 1.0, "returns a float"),
    "no gradient": (lambda o, y: F.cross_entropy(o.detach(), y), "depends on no parameter"),
}


@pytest.mark.parametrize("case", REFUSED_LOSSES)
def test_a_loss_outside_of_the_set_is_refused(case: str) -> None:
    loss, message = REFUSED_LOSSES[case]
    model = nn.Linear(4, 3)
    with pytest.raises(CaptureError, match=message):
        capture(model, loss, BATCH, sgd(model))


def test_an_unsupported_op_has_an_error_class_of_its_own() -> None:
    with pytest.raises(UnsupportedOpError):
        captured(nn.Sequential(nn.Linear(4, 3), Lacking()))


REFUSED_OPTIMIZERS: dict[str, tuple[Callable[[nn.Module], Any], str]] = {
    "kind": (lambda m: torch.optim.LBFGS(m.parameters()), "LBFGS; supported of torch.optim"),
    "foreign": (lambda m: sgd(nn.Linear(4, 3)), r"\(3, 4\) tensor that is no parameter of the"),
    "frozen": (lambda m: sgd(m.requires_grad_(False)), "unfreeze one"),
    "nothing": (lambda m: None, "the optimizer is builtins.NoneType"),
}


@pytest.mark.parametrize("case", REFUSED_OPTIMIZERS)
def test_an_optimizer_outside_of_the_set_is_refused(case: str) -> None:
    make, message = REFUSED_OPTIMIZERS[case]
    model = nn.Linear(4, 3)
    with pytest.raises(CaptureError, match=message):
        capture(model, nn.CrossEntropyLoss(), BATCH, make(model))


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (BATCH[:1], r"a batch \(x, y\)"),
        ((BATCH[0].double(), BATCH[1]), "element 0 of the example is float64"),
        ((BATCH[0], [0, 2, 1]), "element 1 of the example is a list"),
    ],
)
def test_an_example_that_is_no_batch_is_refused(example: Any, message: str) -> None:
    model = nn.Linear(4, 3)
    with pytest.raises(CaptureError, match=message):
        capture(model, nn.CrossEntropyLoss(), example, sgd(model))


def test_state_of_other_types_is_refused() -> None:
    model = nn.Linear(4, 3)
    model.register_buffer("mask", torch.ones(3, dtype=torch.int16))
    with pytest.raises(CaptureError, match="mask of the model is int16"):
        captured(model)


@pytest.mark.parametrize("found", ["2.1.2", "2.99.0a0+git1234", "3.0"])
def test_an_untried_torch_is_refused(found: str) -> None:
    tried = re.escape(f"{TRIED[0]} to {TRIED[-1]} only")
    with pytest.raises(CaptureError, match=rf"torch {re.escape(found)} .*works with torch {tried}"):
        require_tried(found)


def test_the_tried_torch_is_accepted() -> None:
    for release in TRIED:
        require_tried(f"{release}.1+cpu")

"""``torch.compile(model, backend="quatrain")``: beside eager, beside ``quatrain.compile``."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402
from torch.optim import SGD, Optimizer  # noqa: E402

import quatrain  # noqa: E402

from ..cases.by_quatrain import FLOATS, by_quatrain, chosen, perceptron  # noqa: E402
from ..cuda.device import device  # noqa: E402
from ..cuda.emulate import has_compiler  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """What torch keeps of models that are gone counts against its limit of recompiles."""
    torch._dynamo.reset()
    yield


class Images(nn.Module):
    """Convolutions, batch norm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.stem, self.norm = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)
        self.deep, self.head = nn.Conv2d(3, 7, 3), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.norm(self.stem(x)))
        h = torch.relu(self.deep(h))
        y: Tensor = self.head(h.mean((2, 3)))
        return y


def train(
    model: nn.Module, optimizer: Optimizer, seeds: range, shape: tuple[int, ...]
) -> list[float]:
    """Losses of a loop as anybody writes it; the last batch is smaller."""
    losses = []
    for seed in seeds:
        draw = torch.Generator().manual_seed(seed)
        count = shape[0] - (seed == seeds[-1])
        x = torch.randn((count, *shape[1:]), generator=draw)
        y = torch.randint(3, (count,), generator=draw)
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def sgd(model: nn.Module) -> SGD:
    return SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)


@pytest.mark.tvm
def test_kernels_give_what_the_interpreter_gives() -> None:
    pytest.importorskip("tvm")
    models = [perceptron() for _ in range(2)]
    made = [
        by_quatrain(m, recipe="ultra_low_4bit", target=target)
        for m, target in zip(models, ("cpu", "reference"), strict=True)
    ]
    losses = [train(m, sgd(m), range(1), (4, 7)) for m in made]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for name, wanted in models[1].state_dict().items():
        torch.testing.assert_close(models[0].state_dict()[name], wanted, **FLOATS)


@pytest.mark.tvm
@pytest.mark.slow
@pytest.mark.skipif(not has_compiler(), reason="the emulator needs g++")
def test_halves_of_a_gpu_give_what_the_interpreter_gives() -> None:
    """Two forwards ahead of their backwards, on a stand-in for the driver."""
    found = []
    with device():
        for target in ("cuda", "reference"):
            model = perceptron()
            made, x = by_quatrain(model, recipe="ultra_low_4bit", target=target), torch.ones(4, 7)
            (made(x).square().sum() + made(x).sum()).backward()
            found.append([*model.buffers(), *(p.grad for p in model.parameters())])
    for ours, wanted in zip(*found, strict=True):
        torch.testing.assert_close(ours, wanted, **FLOATS)


def test_fp32_follows_eager_in_training_and_evaluation() -> None:
    ours, eager = Images(), Images()
    made = by_quatrain(ours)
    losses = [train(m, sgd(m), range(2), (3, 1, 7, 7)) for m in (made, eager)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for name, wanted in eager.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name), wanted, **FLOATS)
    for wanted, found in zip(eager.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, **FLOATS)
    made.eval(), eager.eval()
    x = torch.randn(2, 1, 7, 7)
    with torch.no_grad():
        torch.testing.assert_close(made(x), eager(x), **FLOATS)


def test_a_forward_without_gradients_writes_running_statistics() -> None:
    ours, eager, x = Images(), Images(), torch.randn(3, 1, 7, 7)
    with torch.no_grad():
        torch.testing.assert_close(by_quatrain(ours)(x), eager(x), **FLOATS)
    torch.testing.assert_close(ours.norm.running_var, eager.norm.running_var, **FLOATS)
    assert int(ours.norm.num_batches_tracked) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("recipe", ["ultra_low_4bit", "fp16_amp"])
def test_a_recipe_is_that_of_quatrain_compile(recipe: str) -> None:
    ours, whole = Images(), Images()
    optimizers = sgd(ours), sgd(whole)
    x, y = torch.randn(3, 1, 7, 7), torch.tensor([0, 2, 1])
    step = quatrain.compile(
        whole, cross_entropy, (x, y), optimizers[1], recipe=recipe, target="reference"
    )
    made = by_quatrain(ours, recipe=recipe, optimizer=lambda: optimizers[0])
    for _ in range(3):
        optimizers[0].zero_grad()
        loss = cross_entropy(made(x), y)
        loss.backward()
        optimizers[0].step()
        # The loss is torch's here, so that the gradients differ in their last digit.
        assert loss.item() == pytest.approx(float(step(x, y)), rel=1e-5)
    for name, wanted in step.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], wanted, **FLOATS, msg=name)
    if recipe == "ultra_low_4bit":
        for kept in ("clip", "clip.momentum", "grad_scale"):
            held = ours.state_dict()[f"deep.quatrain_{kept.replace('.', '_')}"]
            torch.testing.assert_close(held, step.state[f"deep.{kept}"], **FLOATS, msg=kept)


def test_a_run_goes_on_from_state_dicts_to_the_byte() -> None:
    def begun() -> tuple[nn.Module, nn.Module, SGD]:
        model = perceptron()
        optimizer = sgd(model)
        options = {"recipe": "ultra_low_4bit", "optimizer": optimizer, "seed": 3}
        return model, by_quatrain(model, **options), optimizer

    model, made, optimizer = begun()
    train(made, optimizer, range(1), (4, 7))
    kept = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    train(made, optimizer, range(1, 3), (4, 7))
    again, remade, resumed = begun()
    quatrain.attach(again).load_state_dict(kept[0])
    resumed.load_state_dict(kept[1])
    train(remade, resumed, range(1, 3), (4, 7))
    found = again.state_dict()
    assert found.keys() == model.state_dict().keys()
    assert {"2.quatrain_clip", "quatrain_step", "quatrain_generator_seed"} < found.keys()
    assert all(torch.equal(found[name], wanted) for name, wanted in model.state_dict().items())


def test_a_copy_has_scales_of_its_own() -> None:
    model = perceptron()
    train(by_quatrain(model, recipe="ultra_low_4bit"), sgd(model), range(1), (4, 7))
    before = copy.deepcopy(model.state_dict())
    other = copy.deepcopy(model)
    train(by_quatrain(other, recipe="ultra_low_4bit"), sgd(other), range(1, 3), (4, 7))
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert int(other.quatrain_step) == 3  # type: ignore[arg-type]
    assert len(quatrain.compiled(model).graphs) == 1


class Forms(nn.Module):
    """Several inputs, a keyword among them; a frozen layer; outputs of all kinds."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.a, self.b = nn.Linear(3, 5), nn.Linear(5, 3)
        self.a.weight.requires_grad_(False)

    def forward(self, x: Tensor, y: Tensor, *, scale: float = 2.0) -> dict[str, Any]:
        h = self.a(x) * scale + y
        z = self.b(torch.tanh(h))
        return {"z": z, "pair": (h, [h.argmax(-1), z > 0]), "n": 3, "x": x}


def test_inputs_outputs_and_gradients_of_any_form() -> None:
    ours, eager = Forms(), Forms()
    x, y = torch.randn(7, 3), torch.randn(5)
    given = [x.clone().requires_grad_() for _ in range(2)]
    made = [m(t, y, scale=3.0) for m, t in zip((by_quatrain(ours), eager), given, strict=True)]
    assert made[0]["n"] == 3 and made[0]["x"] is given[0]
    for i in range(2):
        found, wanted = (m["pair"][1][i] for m in made)
        assert found.dtype == wanted.dtype and torch.equal(found, wanted)
        assert not found.requires_grad
    for m in made:
        (m["z"].sum() + m["pair"][0].square().sum()).backward()
    torch.testing.assert_close(given[0].grad, given[1].grad, **FLOATS)
    torch.testing.assert_close(ours.b.weight.grad, eager.b.weight.grad, **FLOATS)
    assert ours.a.weight.grad is None


def test_forwards_ahead_of_their_backwards() -> None:
    """Each draws its own dropout, and no backward forgets what another one made of the clips."""
    model = perceptron()
    made, x = by_quatrain(model, recipe="ultra_low_4bit", exempt="none"), torch.randn(4, 7)
    model(x)
    losses = [made(x).square().sum() for _ in range(2)]
    assert losses[0].item() != losses[1].item()
    clip = model.get_buffer("2.quatrain_clip")
    found = [clip.item()]
    for loss in losses:
        loss.backward()
        found.append(clip.item())
    assert found[0] > found[1] > found[2]
    assert int(model.get_buffer("quatrain_step")) == 2


def test_a_backward_of_no_finite_gradients_gives_none() -> None:
    model = perceptron()
    made, x = by_quatrain(model, recipe="fp32"), torch.randn(4, 7)
    (made(x).sum() * float("inf")).backward()
    assert all(p.grad is None for p in model.parameters())
    made(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert quatrain.compiled(made).skipped == 1


def test_evaluation_in_inference_mode_may_come_first() -> None:
    model = perceptron()
    made, x = by_quatrain(model, recipe="ultra_low_4bit"), torch.randn(4, 7)
    with torch.inference_mode():
        made.eval()(x)
    before = model.get_buffer("2.quatrain_clip").clone()
    made.train()(x).square().sum().backward()
    assert model.get_buffer("2.quatrain_clip") < before


def test_sizes_that_torch_calls_dynamic_are_compiled_one_by_one() -> None:
    ours, eager = Forms(), Forms()
    made = torch.compile(ours, backend="quatrain", dynamic=True, options=chosen())
    for count in (7, 3):
        x, y = torch.randn(count, 3), torch.randn(5)
        torch.testing.assert_close(made(x, y)["z"], eager(x, y)["z"], **FLOATS)
    assert len(quatrain.compiled(ours).programs) == 2


def test_layers_are_chosen_by_a_function() -> None:
    model, asked = perceptron(), list[str]()

    def exempt(module: nn.Module, name: str) -> bool:
        asked.append(name)
        return isinstance(module, nn.Linear) and module.out_features == 13

    by_quatrain(model, recipe="ultra_low_4bit", exempt=exempt)(torch.randn(4, 7))
    assert asked == ["0", "2", "4"]
    found = {name for name, _ in model.named_buffers()}
    assert "4.quatrain_clip" in found and "2.quatrain_clip" not in found


def test_a_model_is_not_kept_alive() -> None:
    import gc
    import weakref

    model = perceptron()
    by_quatrain(model)(torch.randn(4, 7)).sum().backward()
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_programs_and_bills_can_be_read() -> None:
    model = perceptron()
    made = by_quatrain(model, recipe="ultra_low_4bit")
    made(torch.randn(4, 7)).sum().backward()
    made.eval()
    with torch.no_grad():
        made(torch.randn(4, 7))
    said = quatrain.compiled(made)
    assert len(said.programs) == 2
    assert "conv" not in str(said.programs[0]) and "int4*t[13x13]" in str(said.programs[0])
    assert [r.name for r in said.programs[1].regions] == ["forward"]

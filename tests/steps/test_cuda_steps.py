"""Whole steps of the ``cuda`` target on a stand-in for the driver, with kernels in the emulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")

from torch import Tensor, nn  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402

import quatrain  # noqa: E402
from quatrain.compiler.errors import InputError, TargetError  # noqa: E402
from quatrain.compiler.ir import Value  # noqa: E402
from quatrain.runtime import edge  # noqa: E402
from quatrain.runtime.step import Step  # noqa: E402
from quatrain.tools.self_test import self_test  # noqa: E402

from ..cuda.device import device  # noqa: E402
from ..cuda.emulate import has_compiler  # noqa: E402
from ..cuda.tensors import as_if_torch_had_cuda, room, there  # noqa: E402
from . import test_skipped_steps as skipped  # noqa: E402
from . import test_step as whole  # noqa: E402
from .test_step import batch, compiled, network, sgd  # noqa: E402

pytestmark = [
    pytest.mark.torch,
    pytest.mark.tvm,
    pytest.mark.slow,
    pytest.mark.skipif(not has_compiler(), reason="the emulator needs g++"),
]
SEEDS = range(3)


@pytest.fixture
def gpu() -> Iterator[None]:
    """A GPU."""
    with device():
        yield


def trained(target: str, recipe: str = "ultra_low_4bit") -> tuple[Step, list[float]]:
    """A step after some batches, and its losses."""
    step = compiled(recipe, target)
    return step, [float(step(*batch(seed=seed))) for seed in SEEDS]


@pytest.mark.parametrize(
    ("recipe", "capability"), [("ultra_low_4bit", 90), ("ultra_low_4bit", 80), ("luq4", 90)]
)
def test_a_step_is_that_of_a_cpu(recipe: str, capability: int) -> None:
    with device(capability=capability):
        (cpu, wanted), (cuda, losses) = (trained(target, recipe) for target in ("cpu", "cuda"))
        held = cuda.state
    # Codes and scales are alike to the bit; dW of the first and last layer are sums of floats.
    assert losses == pytest.approx(wanted, rel=1e-6)
    for name, value in cpu.state.items():
        largest = value.abs().max() if value.numel() else 0.0
        torch.testing.assert_close(held[name], value, rtol=0.0, atol=2e-6 * float(largest) + 1e-9)


@pytest.mark.parametrize(
    "test",
    [
        whole.test_fp32_follows_eager,
        whole.test_the_4bit_step_learns_a_batch,
        whole.test_another_batch_size_compiles_once_more,
        whole.test_predict_takes_any_number_of_samples,
    ],
)
def test_what_holds_on_other_targets(test: Callable[[str], None], gpu: None) -> None:
    test("cuda")


def test_a_saved_step_goes_on(tmp_path: Path, gpu: None) -> None:
    whole.test_a_saved_step_goes_on_as_if_nothing_had_happened("cuda", tmp_path)


@pytest.mark.parametrize("kind", skipped.HOSTILE)
def test_whether_a_step_is_applied_is_decided_on_the_device(kind: str, gpu: None) -> None:
    skipped.test_a_gradient_that_is_not_finite_is_not_applied(kind, skipped.RECIPES[0], "cuda")


def test_scales_react_to_steps_that_are_not_applied(gpu: None) -> None:
    skipped.test_an_overflow_halves_the_scale_of_its_layer("inf", 0.5, "cuda")


def test_a_file_is_the_same_on_both_targets(tmp_path: Path, gpu: None) -> None:
    path, again = tmp_path / "cuda.qtn", tmp_path / "cpu.qtn"
    step, _ = trained("cuda")
    step.save(path)
    loaded = quatrain.load(path, target="cpu")
    assert all(torch.equal(v, step.state[k]) for k, v in loaded.state.items())
    # Forward passes are sums of integers, and of floats in one order.
    x, y = batch(seed=7)
    torch.testing.assert_close(step.predict(x), loaded.predict(x), rtol=1e-5, atol=1e-6)
    loaded(x, y)
    loaded.save(again)
    assert float(quatrain.load(again, target="cuda")(x, y)) == pytest.approx(
        float(loaded(x, y)), rel=1e-6
    )


def test_results_do_not_depend_on_the_order_of_a_graph() -> None:
    states = []
    for settings in ({"seed": 1}, {"seed": 2, "late": 1, "backwards": 1}):
        with device(**settings):
            step, losses = trained("cuda")
            states.append((losses, step.state))
            del step
    (losses, state), (others, other) = states
    assert losses == others
    assert all(torch.equal(v, other[k]) for k, v in state.items())


def test_two_steps_do_not_disturb_each_other(gpu: None) -> None:
    one, _ = trained("cuda")
    first, second = (compiled("ultra_low_4bit", "cuda") for _ in range(2))
    for seed in SEEDS:
        first(*batch(seed=seed))
        second(*batch(seed=seed + 7))
    assert all(torch.equal(v, first.state[k]) for k, v in one.state.items())


def made(target: str) -> Step:
    model = network()
    return quatrain.compile(model, cross_entropy, batch(), sgd(model), target=target)


def test_no_device() -> None:
    with pytest.raises(TargetError, match=r"finds no GPU .* target 'cpu'"), device(devices=0):
        pass


def test_another_capability() -> None:
    with device(), pytest.raises(TargetError, match=r"do not run on .* is sm_90: compile them"):
        made("cuda:sm_80")


def test_an_architecture_that_kernels_are_made_for_not() -> None:
    with device(), pytest.raises(TargetError, match="cuda makes kernels for no 'znver4'"):
        made("cuda:znver4")


def test_no_room_leaves_the_state_as_it_was() -> None:
    with device(memory=300_000):
        step = made("cuda")
        before = step.state
        with pytest.raises(TargetError, match=r"has no room for .* are free"):
            step(*batch(4096))
        assert all(torch.equal(v, before[k]) for k, v in step.state.items())
        step(*batch())


def test_the_doctor_s_layer(gpu: None) -> None:
    assert "built for cuda equals the reference" in self_test("cuda")


@pytest.fixture
def torch_with_cuda(gpu: None) -> Iterator[None]:
    """See ``as_if_torch_had_cuda``."""
    with as_if_torch_had_cuda():
        yield


def test_tensors_on_the_device_are_taken_as_they_are(torch_with_cuda: None) -> None:
    (here, losses), there_ = trained("cuda"), compiled("ultra_low_4bit", "cuda")
    # Other tensors each time, so that graphs get other addresses.
    batches = [tuple(there(t) for t in batch(seed=seed)) for seed in SEEDS]
    found = [there_(*b) for b in batches[:-1]]
    loss, outputs = there_(*batches[-1], outputs=True)
    found.append(loss)
    there_.state  # noqa: B018 - waits
    assert loss.device.type == outputs.device.type == "cuda"
    made = cross_entropy(torch.tensor(outputs.tolist()), batch(seed=SEEDS[-1])[1])
    assert float(made) == pytest.approx(losses[-1], rel=1e-5)
    assert [float(loss) for loss in found] == losses
    assert all(torch.equal(v, there_.state[k]) for k, v in here.state.items())
    x, _ = batch(seed=5)
    assert torch.equal(there_.predict(there(x)), there_.predict(x))


@pytest.mark.parametrize("wrong", ["nan", "label"])
def test_a_wrong_batch_on_the_device_changes_nothing_and_is_told(
    wrong: str, torch_with_cuda: None
) -> None:
    step = compiled("ultra_low_4bit", "cuda")
    step(*map(there, batch()))
    before = step.state
    x, y = batch(seed=1)
    if wrong == "nan":
        x[0, 0, 0, 0] = torch.nan
    else:
        y[2] = whole.CLASSES
    step(there(x), there(y))
    said = "x held NaN" if wrong == "nan" else "y held a label outside of 0 .. 4"
    with pytest.raises(InputError, match=f"in an earlier batch {said}.* were not applied"):
        step.state  # noqa: B018
    # It is told once, and the step is as if the batch had not been.
    assert all(torch.equal(v, before[k]) for k, v in step.state.items())
    step(*map(there, batch(seed=2)))
    assert int(step.state["step"]) == 2


@pytest.mark.parametrize("row", [-1, 11, (1 << 32) + 3])
def test_a_row_outside_of_a_table_is_read_nowhere_and_told(row: int, torch_with_cuda: None) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(11, 8), nn.Flatten(), nn.Linear(24, whole.CLASSES))
    x, y = torch.arange(12).reshape(4, 3) % 11, torch.arange(4)
    step = quatrain.compile(model, cross_entropy, (x, y), sgd(model), target="cuda")
    step(there(x), there(y))
    before = step.state
    wrong = x.clone()
    wrong[2, 1] = row
    step(there(wrong), there(y))
    with pytest.raises(
        InputError, match=r"earlier batch x held a row outside of 0 \.\. 10; the st"
    ):
        step.state  # noqa: B018
    assert all(torch.equal(v, before[k]) for k, v in step.state.items())
    step(there(x), there(y))
    assert int(step.state["step"]) == 2


def test_a_wrong_batch_for_predict_stops_no_step(torch_with_cuda: None) -> None:
    step = compiled("ultra_low_4bit", "cuda")
    x, _ = batch(seed=1)
    with pytest.raises(InputError, match="x held NaN"):
        step.predict(there(torch.full_like(x, torch.nan)))
    # On the host, where no check of the device is of this batch.
    step(*batch(seed=2))
    assert int(step.state["step"]) == 1


def test_the_host_may_write_over_what_it_gave(torch_with_cuda: None) -> None:
    """Beside tensors that lie on the device nobody waits for a copy."""
    step = compiled("ultra_low_4bit", "cuda")
    x, y = batch()
    step(x, there(y))
    held = step._memory.stream._held.values()  # type: ignore[attr-defined]
    assert x.shape in [a.shape for a in held]
    assert not any(np.shares_memory(a, x.numpy()) for a in held)


def test_streams_that_work_late_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Tensor] = []  # torch gives memory to others in the order of its stream

    def empty(value: Value, device: object) -> Tensor:
        kept.append(room(value.type.shape, edge.FLOATS[value.type.format.name]))
        return kept[-1]

    monkeypatch.setattr(edge, "current_stream", lambda device: 0)
    monkeypatch.setattr(edge, "empty", empty)
    with device(late=1):
        step, other = (compiled("ultra_low_4bit", "cuda") for _ in range(2))
        for seed in SEEDS:
            x, y = batch(seed=seed)
            given = x.clone()
            kept.append(there(y))
            step(given, kept[-1])
            given.fill_(7.0)
            other(x, y)
        held = other.state
        assert all(torch.equal(v, held[k]) for k, v in step.state.items())
        kept.clear()
        del step, other


def test_a_wrong_batch_is_told_by_a_later_call(torch_with_cuda: None) -> None:
    step = compiled("ultra_low_4bit", "cuda")
    x, y = batch()
    x[...] = torch.inf
    step(there(x), there(y))
    step._memory.stream.synchronize()  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="in an earlier batch x held NaN or infinity"):
        step(*map(there, batch()))
    step(*map(there, batch()))
    assert int(step.state["step"]) == 1

"""A compiled step as a user meets it: runs, refuses, carries state, saves and loads."""

from __future__ import annotations

import copy
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402
from torch.optim import SGD  # noqa: E402

import quatrain  # noqa: E402
from quatrain.compiler.errors import FileError, InputError, RecipeError, TargetError  # noqa: E402
from quatrain.passes.recipe import load_recipe  # noqa: E402
from quatrain.runtime.step import Step  # noqa: E402

from ..cases.captured import captured_once  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.tvm]
TARGETS = ("reference", "cpu")
CLASSES = 5


def network() -> nn.Sequential:
    """Three inner layers, an odd number of channels, a branch, a linear layer."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 7, 3, padding=1, bias=False),
        nn.BatchNorm2d(7),
        nn.ReLU(),
        nn.Conv2d(7, 13, 3, stride=2, padding=1),
        nn.BatchNorm2d(13),
        nn.ReLU(),
        nn.Conv2d(13, 8, 1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, CLASSES),
    )


def batch(size: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 3, 9, 9, generator=generator)
    return x, torch.randint(CLASSES, (size,), generator=generator)


def sgd(model: nn.Module, lr: float = 0.1) -> SGD:
    return SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)


@captured_once("test_step")
def compiled(recipe: str = "ultra_low_4bit", target: str = "reference") -> Step:
    model = network()
    return quatrain.compile(model, cross_entropy, batch(), sgd(model), recipe=recipe, target=target)


@pytest.mark.parametrize("target", TARGETS)
def test_fp32_follows_eager(target: str) -> None:
    model = network()
    eager = copy.deepcopy(model)
    theirs = sgd(eager)
    step = quatrain.compile(model, cross_entropy, batch(), sgd(model), recipe="fp32", target=target)
    for seed in range(3):
        x, y = batch(seed=seed)
        theirs.zero_grad()
        loss = cross_entropy(eager(x), y)
        loss.backward()
        theirs.step()
        # f32 sums in another order; three steps of so small a network stay within 1e-5.
        assert step(x, y).item() == pytest.approx(loss.item(), rel=1e-5)
    eager.eval()
    model.load_state_dict(step.state_dict())
    model.eval()
    with torch.no_grad():
        wanted = eager(x)
        assert torch.allclose(model(x), wanted, atol=1e-4)
        assert torch.allclose(step.predict(x), wanted, atol=1e-4)


@pytest.mark.parametrize("target", TARGETS)
def test_the_4bit_step_learns_a_batch(target: str) -> None:
    step = compiled(target=target)
    x, y = batch()
    losses = [step(x, y).item() for _ in range(12)]
    assert losses[-1] < 0.5 * losses[0]


def test_both_targets_predict_alike() -> None:
    """Eval statistics are state, so all but the f32 sums of the exempt layers is exact."""
    one, two = compiled(target="reference"), compiled(target="cpu")
    x, y = batch()
    one(x, y)
    two.load_state(one.state)
    assert torch.allclose(one.predict(x), two.predict(x), rtol=2e-2, atol=2e-2)


def test_the_model_and_its_optimizer_stay_as_they_were() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    optimizer = sgd(model)
    step = quatrain.compile(model, cross_entropy, batch(), optimizer, target="reference")
    step(*batch())
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not optimizer.state
    model.load_state_dict(step.state_dict(), strict=True)
    assert not torch.equal(model[3].weight, before["3.weight"])


def test_hyper_parameters_are_read_at_every_call_and_schedulers_do_not_warn() -> None:
    model = network()
    optimizer = sgd(model, lr=0.0)
    step = quatrain.compile(
        model, cross_entropy, batch(), optimizer, recipe="fp32", target="reference"
    )
    weight = step.state["3.weight"]
    step(*batch())
    assert torch.equal(step.state["3.weight"], weight)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: epoch)
        optimizer.param_groups[0]["lr"] = 0.1
        step(*batch())
        schedule.step()
    assert not torch.equal(step.state["3.weight"], weight)


WRONG: dict[str, Callable[[Tensor, Tensor], tuple[Any, ...]]] = {
    "x has shape [4, 3, 8, 8]; the step was compiled for [4, 3, 9, 9]": lambda x, y: (
        x[:, :, :8, :8],
        y,
    ),
    "x is torch.float64; the step was compiled for torch.float32": lambda x, y: (x.double(), y),
    "the step takes 2 tensors (x, y), not 1": lambda x, y: (x,),
    "y holds the label 5; labels are 0 .. 4": lambda x, y: (x, y.clone().fill_(5)),
    "x holds NaN or infinity, which spoils what is computed from it; drop it": lambda x, y: (
        x / x.new_zeros(()),
        y,
    ),
    "y is a list; give a torch tensor": lambda x, y: (x, y.tolist()),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_batch_that_does_not_fit_changes_nothing(message: str) -> None:
    step = compiled("fp32")
    before = step.state
    with pytest.raises(InputError) as e:
        step(*WRONG[message](*batch()))
    assert str(e.value) == message
    assert all(torch.equal(v, before[k]) for k, v in step.state.items())


def test_a_step_with_an_infinite_loss_is_not_applied() -> None:
    step = compiled("fp32")
    whole = step.state
    step.load_state({"11.weight": torch.full_like(whole["11.weight"], float("inf"))})
    before = step.state
    assert not torch.isfinite(step(*batch()))
    assert step.skipped == 1
    before["skipped"] += 1
    assert all(torch.equal(v, before[k]) for k, v in step.state.items())
    step.load_state(whole)
    assert torch.isfinite(step(*batch()))


@pytest.mark.parametrize("target", TARGETS)
def test_another_batch_size_compiles_once_more(target: str) -> None:
    step = compiled(target=target)
    step(*batch())
    losses = [step(*batch(size)).item() for size in (1, 3, 4, 3)]
    assert all(loss == loss for loss in losses)


@pytest.mark.parametrize("target", TARGETS)
def test_predict_takes_any_number_of_samples(target: str) -> None:
    step = compiled(target=target)
    x, _ = batch(9)
    whole = step.predict(x)
    assert whole.shape == (9, CLASSES)
    assert torch.equal(step.predict(x[:1]), whole[:1])
    assert torch.equal(step.predict(x[5:]), whole[5:])
    with pytest.raises(InputError, match=r"N samples, \[N, 3, 9, 9\], not \[9, 3, 8, 9\]"):
        step.predict(x[:, :, 1:])


@pytest.mark.parametrize("target", TARGETS)
def test_a_saved_step_goes_on_as_if_nothing_had_happened(target: str, tmp_path: Path) -> None:
    step = compiled(target=target)
    step(*batch())
    step.save(tmp_path / "a.qtn")
    again = quatrain.load(tmp_path / "a.qtn")
    assert again.ir() == step.ir()
    for s in (step, again):
        s(*batch(seed=1))
    assert all(torch.equal(v, again.state[k]) for k, v in step.state.items())
    step.save(tmp_path / "b.qtn")
    again.save(tmp_path / "c.qtn")
    assert (tmp_path / "b.qtn").read_bytes() == (tmp_path / "c.qtn").read_bytes()


def test_the_file_holds_text_json_and_tensors_only(tmp_path: Path) -> None:
    compiled().save(tmp_path / "a.qtn")
    with zipfile.ZipFile(tmp_path / "a.qtn") as archive:
        assert sorted(archive.namelist()) == [
            "evaluation.qt",
            "manifest.json",
            "recipe.json",
            "state.safetensors",
            "train.qt",
        ]
        assert archive.read("train.qt").startswith(b"program ")


def damaged(path: Path, how: str) -> None:
    """Break a file in one of several ways."""
    data = path.read_bytes()
    if how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "foreign":
        path.write_bytes(b"not a zip")
    elif how == "entry":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("../evil.py", "print()")
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["cut", "foreign", "entry", "missing"])
def test_a_damaged_file_is_refused(how: str, tmp_path: Path) -> None:
    path = tmp_path / "a.qtn"
    compiled("fp32").save(path)
    damaged(path, how)
    with pytest.raises(FileError) as e:
        quatrain.load(path)
    assert str(path) in str(e.value)


def test_saving_where_nothing_can_be_written_leaves_nothing(tmp_path: Path) -> None:
    step = compiled("fp32")
    with pytest.raises(FileError):
        step.save(tmp_path / "missing" / "a.qtn")
    assert not (tmp_path / "missing").exists()


def test_state_that_does_not_fit_is_refused() -> None:
    step = compiled("fp32")
    with pytest.raises(InputError, match=r"did you mean '3\.weight'"):
        step.load_state({"3.weigth": torch.zeros(1)})
    with pytest.raises(InputError, match=r"3.weight has shape \(1,\)"):
        step.load_state({"3.weight": torch.zeros(1)})
    with pytest.raises(InputError, match="step is a str; state is given as tensors or numbers"):
        step.load_state({"step": "3"})  # type: ignore[dict-item]
    step.load_state({"step": 3})
    assert step.state["step"] == 3
    with pytest.raises(RecipeError, match="options are a dictionary, not a list"):
        load_recipe("fp32").with_options(["carrier"])  # type: ignore[arg-type]


def test_unknown_names_are_refused_with_the_closest() -> None:
    model = network()
    for words, error in (
        ({"recipe": "ultra_low_4bits"}, RecipeError),
        ({"target": "cpus"}, TargetError),
        ({"options": {"carier": "f32"}}, RecipeError),
    ):
        with pytest.raises(error, match="did you mean"):
            quatrain.compile(model, cross_entropy, batch(), sgd(model), **words)
    with pytest.raises(RecipeError, match="did you mean 'two_phase_rounding'"):
        compiled().ir(after="two_phases_rounding")


def test_every_stage_can_be_read() -> None:
    step = compiled()
    for name in step.passes:
        assert step.ir(after=name).startswith("program ")
    assert str(step.program) == step.ir() == step.ir(after=step.passes[-1])

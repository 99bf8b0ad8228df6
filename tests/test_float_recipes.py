"""The recipes of floats on a small network: every kernel, whole steps, resume, learning."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")

from torch import Tensor, nn  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402

import quatrain  # noqa: E402
from quatrain.compiler.errors import RecipeError  # noqa: E402
from quatrain.compiler.ops import GEMMS, WEIGHT_GRADS  # noqa: E402
from quatrain.compiler.optimizers import UPDATES  # noqa: E402
from quatrain.runtime.step import Step  # noqa: E402
from quatrain.targets.cpu_info import detect  # noqa: E402

from .exactness import compare, given  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.tvm]
CLASSES = 5
# Recipe, options, and half of the distance of neighbours in its carrier, of a number near 1.
RECIPES: dict[str, tuple[str, dict[str, object], float]] = {
    "bf16": ("bf16", {}, 2.0**-9),
}
EACH = pytest.mark.parametrize("case", RECIPES)


def network() -> nn.Sequential:
    """Odd channels, a depthwise convolution, one in groups, a strided 1x1, a linear layer."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 7, 3, padding=1, bias=False),
        nn.BatchNorm2d(7),
        nn.ReLU(),
        nn.Conv2d(7, 7, 3, padding=1, groups=7),
        nn.Conv2d(7, 15, 1, stride=2),
        nn.BatchNorm2d(15),
        nn.ReLU(),
        nn.Conv2d(15, 9, 3, padding=1, groups=3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(9, 13),
        nn.ReLU(),
        nn.Linear(13, CLASSES),
    )


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4, 3, 9, 9, generator=generator)
    return x, torch.randint(CLASSES, (4,), generator=generator)


def compiled(case: str, target: str, **options: object) -> Step:
    model = network()
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    recipe, own, _ = RECIPES[case]
    return quatrain.compile(
        model, cross_entropy, batch(), sgd, recipe=recipe, options=own | options, target=target
    )


@EACH
def test_every_kernel_equals_the_reference(case: str) -> None:
    """Codes and all pointwise results bit for bit, sums of floats within what ``compare`` states."""
    step = compiled(case, "reference")
    for seed in range(2):
        found = [str(m) for m in compare(step.program, given(step, batch(seed)), detect())]
        assert not found, "\n".join(found)
        step(*batch(seed))


@EACH
def test_both_targets_take_the_same_step(case: str) -> None:
    """f32 sums in another order may round to the neighbour in the carrier, and go on from there.

    The bound is eight such halves of a step of the largest number of each state: one rounding for
    each layer that a gradient goes through.
    """
    one, two = compiled(case, "reference"), compiled(case, "cpu")
    losses = [s(*batch()).item() for s in (one, two)]
    half = RECIPES[case][2]
    assert losses[0] == pytest.approx(losses[1], rel=8 * half)
    for name, wanted in one.state.items():
        got = two.state[name]
        if not wanted.is_floating_point():
            assert torch.equal(got, wanted), name
            continue
        torch.testing.assert_close(got, wanted, rtol=0, atol=8 * half * wanted.abs().max().item())


@EACH
@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_a_saved_step_goes_on_with_the_same_bytes(case: str, target: str, tmp_path: Path) -> None:
    step = compiled(case, target)
    step(*batch())
    step.save(tmp_path / "a.qtn")
    again = quatrain.load(tmp_path / "a.qtn")
    for s, name in ((step, "b"), (again, "c")):
        s(*batch(1))
        s.save(tmp_path / f"{name}.qtn")
    assert (tmp_path / "b.qtn").read_bytes() == (tmp_path / "c.qtn").read_bytes()


@EACH
def test_it_learns_a_batch_and_predicts(case: str) -> None:
    step = compiled(case, "cpu")
    losses = [step(*batch()).item() for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0]
    assert step.predict(batch()[0]).shape == (4, CLASSES)


@EACH
def test_what_stays_in_f32(case: str) -> None:
    """Master weights, weight gradients, what the optimizer keeps, statistics and the loss."""
    step = compiled(case, "reference")
    for _, op in step.program.ops():
        if op.kind in WEIGHT_GRADS | UPDATES | {"batch_stats", "batch_norm_grad_stats"}:
            assert all(r.type.short == "f32" for r in op.results), op.kind
    assert {v.type.short for v in step.program.state} <= {"f32", "i64"}
    assert step.program.outputs[0].type.short == "f32"


def operands(step: Step) -> set[str]:
    """The formats that GEMMs read."""
    gemms = (op for _, op in step.program.ops() if op.kind in GEMMS)
    return {v.type.short for op in gemms for v in op.inputs}


def test_bf16_has_one_format_and_no_loss_scale() -> None:
    step = compiled("bf16", "reference")
    assert operands(step) == {"bf16"}
    assert not any("loss_scale" in name for name in step.state)


def test_bf16_follows_autocast() -> None:
    """PyTorch's autocast rounds at other places: the losses of five steps agree within 2 %."""
    model = network()
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    step = compiled("bf16", "cpu")
    for seed in range(5):
        x, y = batch(seed)
        sgd.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = cross_entropy(model(x), y)
        loss.backward()
        sgd.step()
        assert step(x, y).item() == pytest.approx(loss.item(), rel=0.02)


def test_an_unknown_carrier_is_refused() -> None:
    with pytest.raises(RecipeError, match="must be bf16, f32 or f16, not 'fp8'"):
        compiled("bf16", "reference", carrier="fp8")

"""The recipes of floats on a small network: every kernel, whole steps, resume, learning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tvm")

from torch import Tensor, nn  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402

import quatrain  # noqa: E402
from quatrain.compiler.errors import RecipeError  # noqa: E402
from quatrain.compiler.ir.ops import GEMMS, WEIGHT_GRADS, Trait, having  # noqa: E402
from quatrain.runtime.step import Step  # noqa: E402
from quatrain.targets.cpu.info import detect  # noqa: E402
from quatrain.targets.plan.kernel import Unit  # noqa: E402

from ..cases.captured import captured_once  # noqa: E402
from ..exactness import compare, given  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.tvm]
CLASSES = 5
# What a run of some hundred steps begins with, in two.
SOON: dict[str, object] = {"reset_start": 1, "reset_every": 5, "reset_window": 2}
SOON |= {"outlier_start": 0, "outlier_steps": 1}
# Recipe, options, and half of the distance of neighbours in its carrier, of a number near 1. In FP8 a
# code may turn to its neighbour, by 2^-2 at most in 1-5-2: one of the 100 terms of a gradient.
RECIPES: dict[str, tuple[str, dict[str, object], float]] = {
    "bf16": ("bf16", {}, 2.0**-9),
    "fp16_amp": ("fp16_amp", {}, 2.0**-12),
    "fp16_amp, static": ("fp16_amp", {"mode": "static", "init": 1000}, 2.0**-12),
    "hfp8": ("hfp8", {}, 2.0**-9),
    "hfp8, 1-5-2": ("hfp8", {"fwd_format": "152", "fp8_subnormals": True}, 2.0**-9),
    "hfp8, narrow": ("hfp8", {"update_format": "fp16.169"}, 2.0**-9),
    "mxfp8": ("mxfp8", {}, 2.0**-9),
    "mxfp4": ("mxfp4", {}, 2.0**-9),
    "deepseek_fp8": ("deepseek_fp8", {}, 2.0**-9),
    "int8_mixed": ("int8_mixed", {"sr": True}, 2.0**-9),
    "switchback": ("switchback", {}, 2.0**-9),
    "nvfp4": ("nvfp4", {}, 2.0**-9),
    "nvfp4, random": (
        "nvfp4",
        {"hadamard": "random", "two_d_weights": False, "four_over_six": True},
        2.0**-9,
    ),
    "tetrajet2": (
        "tetrajet2",
        SOON,
        2.0**-9,
    ),
    "fp4_all_the_way": ("fp4_all_the_way", {}, 2.0**-9),
    "quartet2": ("quartet2", {}, 2.0**-9),
    "hfp8, chunks": ("hfp8", {"accumulator": "fp16.169", "chunk": 8}, 2.0**-9),
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


@captured_once("test_float_recipes")
def compiled(case: str, target: str, *, clip_norm: float = 0.0, **options: Any) -> Step:
    model = network()
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    recipe, own, _ = RECIPES.get(case, (case, {}, 0.0))
    return quatrain.compile(
        model,
        cross_entropy,
        batch(),
        sgd,
        recipe=recipe,
        options=own | options,
        target=target,
        clip_norm=clip_norm,
    )


@EACH
@pytest.mark.share(2)
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

    The bound is eight halves of a step, one rounding for each layer that a gradient goes through, of
    the largest gradient or of the state's own largest number: sums may cancel.
    """
    one, two = compiled(case, "reference"), compiled(case, "cpu")
    losses = [s(*batch()).item() for s in (one, two)]
    bound = 8 * RECIPES[case][2]
    assert losses[0] == pytest.approx(losses[1], rel=bound)
    gradient = max(v.abs().max().item() for k, v in one.state.items() if k.endswith(".momentum"))
    for name, wanted in one.state.items():
        largest = max(gradient, wanted.abs().max().item()) if wanted.is_floating_point() else 0
        torch.testing.assert_close(two.state[name], wanted, rtol=0, atol=bound * largest)


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
        if op.kind in WEIGHT_GRADS | having(Trait.UPDATE) | {
            "batch_stats",
            "batch_norm_grad_stats",
        }:
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


def test_fp16_amp_has_f16_operands_and_a_loss_scale() -> None:
    step = compiled("fp16_amp", "reference")
    assert operands(step) == {"f16"}
    plan = compiled("fp16_amp", "cpu").executable.plan
    assert plan is not None
    units = {p.kernel.unit for p in plan.kernels if p.kernel.ops[0].kind in GEMMS}
    assert units == {Unit.F32}
    assert step.state["loss_scale"] == 65536 and step.state["loss_scale.good"] == 0
    step(*batch())
    assert step.state["loss_scale"] == 65536 and step.state["loss_scale.good"] == 1
    assert "loss_scale" not in compiled("fp16_amp, static", "reference").state


@pytest.mark.parametrize("case", [c for c in RECIPES if c in ("fp16_amp", "hfp8")])
@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_the_scale_follows_grad_scaler_over_the_same_overflows(case: str, target: str) -> None:
    step = compiled(case, target, init=2.0**26, interval=2)
    theirs = torch.amp.GradScaler("cpu", 2.0**26, 2.0, 0.5, 2)
    weight = nn.Parameter(torch.zeros(1))
    sgd = torch.optim.SGD([weight], lr=0.1)
    overflows = []
    for seed in range(20):
        before = step.state
        assert torch.isfinite(step(*batch(seed)))
        overflows.append(step.skipped > int(before["skipped"]))
        theirs.scale(weight.sum() * (float("inf") if overflows[-1] else 1.0)).backward()
        theirs.step(sgd)
        theirs.update()
        sgd.zero_grad()
        assert step.state["loss_scale"] == theirs.get_scale()
        assert step.state["loss_scale.good"] == theirs._get_growth_tracker()
        assert torch.equal(step.state["0.weight"], before["0.weight"]) == overflows[-1]
    assert overflows[0] and {True, False} == set(overflows[4:])
    assert all(torch.isfinite(v).all() for v in step.state.values())


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_weights_and_momenta_become_numbers_of_the_narrow_float(target: str) -> None:
    """Nine bits of mantissa, beside the step that keeps f32."""
    step, wide = (compiled(case, target) for case in ("hfp8, narrow", "hfp8"))
    for s in (step, wide):
        s(*batch())
    parameters = [k for k in wide.state if k.endswith(("weight", "bias", "momentum"))]
    assert parameters
    for name in parameters:
        made = step.state[name].numpy()
        assert not np.any(made.view(np.uint32) & ((1 << 14) - 1)), name
        # One step of the larger of two numbers apart, and momenta near nothing.
        np.testing.assert_allclose(made, wide.state[name].numpy(), rtol=2.0**-9, atol=2.0**-30)


@pytest.mark.parametrize("mode", ["dynamic", "static"])
@pytest.mark.parametrize("clip_norm", [0.0, 0.1])
def test_a_power_of_two_leaves_no_trace_in_f32(clip_norm: float, mode: str) -> None:
    """What the optimizer, clipping and the norm see is divided by the scale."""
    plain = compiled("fp32", "reference", clip_norm=clip_norm)
    scaled = compiled("fp16_amp", "reference", clip_norm=clip_norm, carrier="f32", mode=mode)
    for seed in range(2):
        assert torch.equal(plain(*batch(seed)), scaled(*batch(seed)))
    state = scaled.state
    assert all(torch.equal(v, state[k]) for k, v in plain.state.items())


FORWARD = {
    (11, 30, False): "fp8.143.ibm",
    (11, 28, False): "fp8.143.b11.nan",
    (7, 28, True): "fp8.143",
    (7, 30, False): "fp8.143.b7",
}


@pytest.mark.parametrize(("bias", "top", "subnormals"), FORWARD)
def test_hfp8_formats_follow_the_options(bias: int, top: int, subnormals: bool) -> None:
    options = {"hfp8_fwd_bias": bias, "hfp8_fwd_max": top, "fp8_subnormals": subnormals}
    step = compiled("hfp8", "reference", **options)
    backward = "fp8.152" if subnormals else "fp8.152.ibm"
    forward = FORWARD[bias, top, subnormals]
    assert operands(step) == {"f16", f"{forward}*p", f"{backward}*p"}
    for _, op in step.program.ops():
        if op.kind in GEMMS and op.origin not in ("0", "13"):
            gradient = op.kind.endswith("_grad")
            wanted = (backward if gradient else forward, forward)
            assert tuple(v.type.format.name for v in op.inputs) == wanted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fwd_format": "134"}, "fwd_format of fp8_operands must be 143 or 152, not '134'"),
        ({"hfp8_fwd_bias": 4}, "hfp8_fwd_bias of fp8_operands must be 11 or 7, not 4"),
        ({"hfp8_fwd_max": 448}, "hfp8_fwd_max of fp8_operands must be 30 or 28, not 448"),
        ({"fp8_subnormals": "some"}, "fp8_subnormals of fp8_operands must be true or false"),
        ({"exempt": "12"}, "no layer with a GEMM is called '12'"),
    ],
)
def test_wrong_options_of_hfp8_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        compiled("hfp8", "reference", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "automatic"}, "mode of loss_scale must be dynamic or static, not 'automatic'"),
        ({"init": 0}, "init=0 of loss_scale is not above 0 and below 2^127"),
        ({"growth": 0.5}, "growth=0.5 of loss_scale is less than 1"),
        ({"backoff": 1}, "backoff=1 of loss_scale is not between 0 and 1"),
        ({"interval": 0}, "interval=0 of loss_scale is less than 1"),
    ],
)
def test_wrong_loss_scales_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message.replace("^", r"\^")):
        compiled("fp16_amp", "reference", **options)


@pytest.mark.parametrize(
    ("recipe", "options", "words"),
    [
        ("mxfp8", {"mx_block": 0}, "mx_block=0 must be at least 1"),
        ("mxfp4", {"mx_block": 24}, "mx_block=24 must be a power of two where hadamard=fixed"),
        ("mxfp8", {"mx_scale": "up"}, "mx_scale of mx_operands must be .*, not 'up'"),
        ("mxfp8", {"mx_format": "fp8"}, "mx_format of mx_operands must be .*, not 'fp8'"),
        ("int8_mixed", {"fit_block": -1}, "fit_block=-1 must be at least 0"),
        ("int8_mixed", {"fit_weights": "square"}, "fit_weights=square is tiles of fit_block"),
        ("nvfp4", {"headroom": 0.0}, "headroom=0 must be positive"),
        ("tetrajet2", {"headroom": -1.0}, "headroom=-1 must be positive"),
        ("fp4_all_the_way", {"products": "dw"}, "products of nvfp4_operands must be .*, not 'dw'"),
        ("quartet2", {"hadamard_size": 24}, "hadamard_size=24 must be a power of two, at least 16"),
        ("quartet2", {"hadamard_size": 8}, "hadamard_size=8 must be a power of two, at least 16"),
        ("quartet2", {"hadamard": "none"}, "hadamard of quartet2_operands must be .*, not 'none'"),
        ("nvfp4", {"hadamard": "some"}, "hadamard of nvfp4_operands must be .*, not 'some'"),
    ],
)
def test_options_of_blocks_that_mean_nothing(
    recipe: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(RecipeError, match=words):
        compiled(recipe, "reference", **options)

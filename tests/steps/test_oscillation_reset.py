"""OsciReset beside what it says, computed from the states of a step that resets nothing."""

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
from quatrain.compiler.formats import F32, FP4_121, FP8_143  # noqa: E402
from quatrain.compiler.ir.verify import read_program  # noqa: E402
from quatrain.compiler.types import BlockScale, TensorType  # noqa: E402
from quatrain.passes.oscillation_reset import oscillation_reset  # noqa: E402
from quatrain.runtime.step import Step  # noqa: E402
from quatrain.targets.numbers.blocks import nested_scales  # noqa: E402
from quatrain.targets.numbers.rounding import decode, encode  # noqa: E402
from quatrain.targets.numbers.tensor import Array, scales_of  # noqa: E402

from ..cases.captured import captured_once  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.tvm]
WEIGHT = "2.weight"
SOON: dict[str, Any] = {"reset_start": 2, "reset_every": 7, "reset_window": 4, "reset_ratio": 2.0}


def batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(6, 9, generator=generator), torch.randint(5, (6,), generator=generator)


@captured_once("test_oscillation_reset")
def compiled(target: str = "reference", recipe: str = "tetrajet2", **options: Any) -> Step:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(9, 33), nn.ReLU(), nn.Linear(33, 17), nn.ReLU(), nn.Linear(17, 5)
    )
    sgd = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    return quatrain.compile(
        model, cross_entropy, batch(0), sgd, recipe=recipe, options=options, target=target
    )  # fmt: skip


def coded(w: Array) -> Array:
    """The numbers that forward multiplies in place of a weight."""
    kind = TensorType(w.shape, F32, BlockScale((1, 16), FP8_143, (1, 128)))
    assert isinstance(kind.scale, BlockScale)
    scales = np.concatenate([s.ravel() for s in nested_scales(w, kind.scale, FP4_121, 1.0)])
    outer, each = scales_of(kind, scales)
    return decode(encode(w / (outer * each), FP4_121), FP4_121) * each * outer


def test_what_swings_is_reset_behind_each_window() -> None:
    step, plain = compiled(**SOON), compiled(oscillation_reset=False)
    moved = swung = np.zeros((17, 33), np.float32)
    resets = 0
    for t in range(20):
        state = step.state
        plain.load_state({k: v for k, v in state.items() if k in plain.state})
        before = state[WEIGHT].numpy()
        for s in (step, plain):
            s(*batch(t))
        after, phase = plain.state[WEIGHT].numpy(), (t - 2) % 7
        wanted = after
        if t >= 2 and phase == 5:
            with np.errstate(divide="ignore", invalid="ignore"):
                swings = (moved > 0) & (swung / moved >= 2)
            wanted = np.where(swings, coded(after), after)
            resets += int(swings.sum())
        inside = t >= 2 and 1 <= phase <= 4
        moved = moved + np.abs(after - before) if inside else np.zeros_like(moved)
        swung = swung + np.abs(coded(after) - coded(before)) if inside else np.zeros_like(swung)
        np.testing.assert_array_equal(step.state[WEIGHT].numpy(), wanted)
        np.testing.assert_array_equal(step.state[f"{WEIGHT}.moved"].numpy(), moved)
        np.testing.assert_array_equal(step.state[f"{WEIGHT}.swung"].numpy(), swung)
        assert int(step.state["resets"]) == resets
    assert resets > 10


def test_the_start_is_a_share_of_a_run_whose_length_is_known() -> None:
    """0.5 of 8 steps: the window is that of steps 5 .. 6."""
    soon: dict[str, Any] = {
        "reset_share": 0.5,
        "reset_every": 4,
        "reset_window": 2,
        "reset_ratio": 1.0,
    }
    unknown, known = compiled(**soon), compiled(**soon)
    known.load_state({"schedule.total": 8})
    counts = []
    for t in range(9):
        for s in (unknown, known):
            s(*batch(t))
        counts.append(int(known.state["resets"]))
    assert not any(counts[:7]) and counts[7] > 0
    assert int(unknown.state["resets"]) == 0
    assert int(compiled(steps=100).state["schedule.total"]) == 100


@pytest.mark.parametrize("recipe", ["nvfp4", "mxfp4", "int4"])
def test_other_recipes_of_codes_may_reset_too(recipe: str, tmp_path: Path) -> None:
    """A step that is saved in the middle of a window goes on with the same bytes."""
    passes = "\n".join(
        f"[[passes]]\npass = {name!r}" + ("\nreset_start = 1\nreset_ratio = 0.01" if last else "")
        for last, name in (
            *((False, n) for n in PASSES_OF[recipe]),
            *((False, n) for n in ("carrier", "recompute")),
            (True, "oscillation_reset"),
        )
    )
    path = tmp_path / "mine.toml"
    path.write_text(f'title = "mine"\n{passes}\nreset_window = 2\nreset_every = 4\n')
    step = compiled(recipe=str(path))
    for t in range(3):
        step(*batch(t))
    step.save(tmp_path / "a.qtn")
    again = quatrain.load(tmp_path / "a.qtn")
    for s, name in ((step, "b"), (again, "c")):
        for t in range(3, 6):
            s(*batch(t))
        s.save(tmp_path / f"{name}.qtn")
    assert (tmp_path / "b.qtn").read_bytes() == (tmp_path / "c.qtn").read_bytes()
    assert int(step.state["resets"]) > 0


PASSES_OF = {
    "nvfp4": ("nvfp4_operands",),
    "mxfp4": ("mx_operands",),
    "int4": ("sawb_weights", "sawb_activations"),
}


def test_codes_of_a_function_of_a_weight_reset_nothing() -> None:
    golden = Path(__file__).parents[1] / "golden" / "oscillation_reset.shared.qt"
    text = golden.read_text(encoding="utf-8").partition("=" * 72)[0]
    reads = "scale_blocks_nested(fc1.w)"
    assert reads in text
    twice = "  fc1.twice = scale(fc1.w) {factor=2.0} : f32[3x13]\n  fc1.w.tj1.scaled"
    text = text.replace("  fc1.w.tj1.scaled", twice, 1).replace(reads, reads.replace("w", "twice"))
    made = oscillation_reset(read_program(text), reset_start=1)
    assert [v.name for v in made.state if v.name.endswith(".moved")] == ["fc2.w.moved"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reset_window": 0}, "reset_window=0 must be at least 1"),
        ({"reset_every": 51}, r"reset_every=51 must be at least reset_window \+ 2"),
        ({"reset_share": 1.0}, "reset_share=1 must be at least 0 and below 1"),
        ({"reset_start": -1}, "reset_start=-1, steps=0 are below 0"),
        ({"reset_ratio": 0}, "reset_ratio=0 must be positive"),
    ],
)
def test_options_that_reset_nothing_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        compiled(**options)

"""What every recipe must hold: kernels equal the reference in a whole step, a file goes on as is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

import quatrain
from quatrain.compiler.ir import Program
from quatrain.runtime.step import Step
from quatrain.targets.cpu.info import detect
from quatrain.targets.numbers.tensor import Tensor

from ..exactness import compare, given
from ..steps.test_step import batch, network, sgd
from .captured import captured_once


@captured_once("test_step")
def compiled(recipe: str, target: str = "reference", **options: object) -> Step:
    """A step of the network of ``test_step``."""
    model = network()
    return quatrain.compile(
        model, cross_entropy, batch(), sgd(model), recipe=recipe, options=options, target=target
    )


def steps(
    recipe: str, options: Mapping[str, object]
) -> Iterator[tuple[Program, dict[str, Tensor]]]:
    """The training program with its values, at the first step and at the second."""
    step = compiled(recipe, "reference", **options)
    for seed in range(2):
        yield step.program, given(step, batch(seed=seed))
        step(*batch(seed=seed))


def kernels_equal_the_reference(recipe: str, options: Mapping[str, object]) -> None:
    """Each kernel of two steps, bit for bit but for sums of floats."""
    for program, values in steps(recipe, options):
        found = [str(m) for m in compare(program, values, detect())]
        assert not found, "\n".join(found)


def a_saved_step_goes_on(recipe: str, target: str, folder: Path) -> None:
    """Two steps with a file between them write the same bytes as two steps without."""
    step = compiled(recipe, target)
    step(*batch())
    step.save(folder / "a.qtn")
    again = quatrain.load(folder / "a.qtn")
    for s, name in ((step, "b.qtn"), (again, "c.qtn")):
        s(*batch(seed=1))
        s.save(folder / name)
    assert (folder / "b.qtn").read_bytes() == (folder / "c.qtn").read_bytes()


def it_learns_a_batch(recipe: str, target: str, **options: object) -> None:
    """A dozen steps on one batch halve the loss."""
    step = compiled(recipe, target, **options)
    x, y = batch()
    losses = [step(x, y).item() for _ in range(12)]
    assert losses[-1] < 0.5 * losses[0]
    assert torch.isfinite(step.predict(x)).all()

"""Programs of a task or of a ``.qtn`` by several recipes: captured once, no kernel built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...compiler.errors import UsageError
from ...compiler.ir import Program
from ...compiler.saved import Kept
from ...passes.recipe import Recipe
from ...runtime.bundle import read
from ...runtime.source import torch_saved_of
from ..files import factory_file
from ..stages import stage
from ..update import Update

SUFFIX = ".qtn"


@dataclass(frozen=True, slots=True)
class Uncompiled:
    """A captured training step ahead of all passes; ``recipe`` is that of a ``.qtn``."""

    name: str
    train: Program
    torch_saved: tuple[Kept, ...] | None
    recipe: Recipe | None = None

    def by(self, recipe: Recipe) -> Program:
        """The program that the recipe's passes make, with what every step has at its end."""
        full = Update().after(recipe, self.train) if recipe is not self.recipe else recipe
        with stage(f"passes of {recipe.name}"):
            return full.apply(self.train)[-1][1]


def uncompiled(spec: str, batch: int | None = None) -> Uncompiled:
    """What ``FILE.py:FACTORY`` or a ``.qtn`` file holds; UsageError where ``batch`` does not fit.

    Neither weights nor kernels are made of it, nor anything written.
    """
    if spec.endswith(SUFFIX):
        return _of_file(Path(spec), batch)
    factory_file(spec)  # a missing file is found before seconds go to torch
    with stage("load torch"):
        from torch import nn

        from ...compiler.capture.program import capture
        from .. import factory
        from ..bare_flags import BareFlags
        from ..bare_model import task_of
    with stage("make the model"):
        made = factory.make(spec)
        if isinstance(made, nn.Module):
            raise UsageError(
                f"{spec} returned a bare model; return a quatrain.Task(model, loss, optimizer, "
                "example), or compile it with --input and --classes and name the .qtn file"
            )
        task = task_of(made, spec, BareFlags(), batch, 0)
    with stage("capture"):
        found = capture(task.model, task.loss, task.example, task.optimizer)
    return Uncompiled(spec.rpartition(":")[2], found.train, found.torch_saved)


def _of_file(path: Path, batch: int | None) -> Uncompiled:
    if batch is not None:
        raise UsageError(f"{path} was compiled for its batch; --batch goes with FILE.py:FACTORY")
    bundle = read(path, state=False)
    return Uncompiled(path.stem, bundle.train, torch_saved_of(bundle), bundle.recipe)


def recipe_of(found: Uncompiled, given: Recipe | None, default: Recipe) -> Recipe:
    """The recipe that was asked for, or the one of a ``.qtn``, or a default."""
    return given or found.recipe or default


def check_specs(specs: Sequence[str]) -> None:
    """UsageError or FileError where one of them names no file, ahead of slow work."""
    for spec in specs:
        if not spec.endswith(SUFFIX):
            factory_file(spec)
        elif not Path(spec).is_file():
            raise UsageError(f"there is no file {spec}; name a .qtn file or FILE.py:FACTORY")

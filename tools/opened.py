"""A ``.qtn`` file opened for looking: programs after every stage, and the plan; without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..compiler.errors import FileError, UsageError
from ..compiler.ir import Program
from ..compiler.saved import Kept
from ..passes.recipe import Recipe
from ..runtime.bundle import Bundle, read
from ..runtime.source import torch_saved_of
from ..targets.plan.plan import Plan
from ..targets.registry import find_target
from . import dump, env
from .planning import plan_program


@dataclass(frozen=True, slots=True)
class Opened:
    """What a ``.qtn`` holds, with its passes applied again."""

    bundle: Bundle
    stages: list[tuple[str, Program]]
    target: str

    @property
    def recipe(self) -> Recipe:
        """The recipe with its options."""
        return self.bundle.recipe

    @property
    def final(self) -> Program:
        """The program after all passes and the target's own stages: what is planned."""
        return self.stages[-1][1]

    @property
    def allow(self) -> tuple[str, ...]:
        """Layers whose precision was waived."""
        return _allowed(self.bundle)

    @property
    def torch_saved(self) -> tuple[Kept, ...] | None:
        """What PyTorch would keep for the same step; None in a file that does not say."""
        try:
            return torch_saved_of(self.bundle)
        except (KeyError, TypeError, ValueError) as e:
            raise FileError(f"manifest.json: torch_saved lacks or garbles {e}") from None

    def plan(self) -> Plan:
        """The kernels of the target; UsageError for a target that has none."""
        made = plan_program(self.target, self.final)
        if made is None:
            raise UsageError(f"{self.target} interprets and has no plan; try --target cpu")
        return made


def open_network(path: Path, *, evaluation: bool = False, target: str | None = None) -> Opened:
    """Open ``path``, apply its passes and lower it; ``target`` replaces its own."""
    bundle = read(path, state=False)
    captured = bundle.evaluation if evaluation else bundle.train
    chosen = find_target(target or str(bundle.manifest.get("target") or env.target()))
    passes = bundle.recipe.apply(captured)
    stages = [*passes, *chosen.lower(passes[-1][1], _allowed(bundle))]
    return Opened(bundle, dump.stages(captured, stages), chosen.name)


def _allowed(bundle: Bundle) -> tuple[str, ...]:
    allow = bundle.manifest.get("allow")
    return tuple(map(str, allow)) if isinstance(allow, list) else ()

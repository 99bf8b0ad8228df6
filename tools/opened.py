"""A ``.qtn`` file opened for looking: programs after every pass, and the plan; without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..compiler.errors import UsageError
from ..compiler.ir import Program
from ..passes.recipe import Recipe
from ..runtime.bundle import Bundle, read
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
        """The program after all passes."""
        return self.stages[-1][1]

    @property
    def allow(self) -> tuple[str, ...]:
        """Layers whose precision was waived."""
        allow = self.bundle.manifest.get("allow")
        return tuple(map(str, allow)) if isinstance(allow, list) else ()

    def plan(self) -> Plan:
        """The kernels of the target; UsageError for a target that has none."""
        made = plan_program(self.target, self.final, self.allow)
        if made is None:
            raise UsageError(f"{self.target} interprets and has no plan; try --target cpu")
        return made


def open_network(path: Path, *, evaluation: bool = False, target: str | None = None) -> Opened:
    """Open ``path`` and apply its passes; ``target`` replaces the one it was compiled for."""
    bundle = read(path, state=False)
    captured = bundle.evaluation if evaluation else bundle.train
    name = find_target(target or str(bundle.manifest.get("target") or env.target())).name
    return Opened(bundle, dump.stages(captured, bundle.recipe.apply(captured)), name)

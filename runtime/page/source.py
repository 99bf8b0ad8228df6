"""What a page is drawn from: the bill, the programs after every pass, the plan and its times."""

from __future__ import annotations

from dataclasses import dataclass

from ...compiler.ir import Program
from ...passes.recipe import Recipe
from ...targets.plan.plan import Plan
from ..report.costs import Costs
from ..watched.row import WatchRow

CAPTURED = "lower"  # the stage ahead of all passes


@dataclass(frozen=True, slots=True)
class KernelTimes:
    """Seconds of each kernel of a plan, of all its runs in a step; ``origin`` says whence.

    ``measured`` is false for what published peaks predict.
    """

    seconds: tuple[float, ...]
    origin: str
    measured: bool = True


@dataclass(frozen=True, slots=True)
class WatchedRows:
    """What was watched of the step, by step, and where that is from."""

    rows: tuple[WatchRow, ...]
    origin: str


@dataclass(frozen=True, slots=True)
class PageSource:
    """All that a page shows.

    ``stages`` are the program as captured, then after every pass and every stage of the target;
    ``plan`` is None where no target was asked, ``times`` where no kernel was timed, ``watched``
    where nothing was watched.
    """

    bill: Costs
    recipe: Recipe
    stages: tuple[tuple[str, Program], ...]
    plan: Plan | None = None
    times: KernelTimes | None = None
    watched: WatchedRows | None = None

    @property
    def program(self) -> Program:
        """The program that runs: what is planned."""
        return self.stages[-1][1] if self.plan is None else self.plan.program

    @property
    def exempt_terms(self) -> str:
        """What the recipe's option ``exempt`` says; empty where no pass has it."""
        passes = self.recipe.passes
        terms = dict.fromkeys(
            str(entry.settings["exempt"]) for entry in passes if "exempt" in entry.settings
        )
        return "; ".join(terms)

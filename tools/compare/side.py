"""One side of a comparison: a network under a recipe or passes, at a stage, on a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ...compiler.errors import UsageError
from ...compiler.ir import Program
from ...passes.recipe import PassEntry, Recipe, load_recipe
from ...targets.registry import BindOptions, Target, find_target
from ...targets.seen import seen
from ..dump import find, stages
from ..stages import stage
from ..update import Update
from .align import Ran
from .network import Named
from .start import GivenArray, fitting, said_of_drawn, start

REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class SideWish:
    """What a person says of one side; None and nothing: the network's own, the last stage."""

    recipe: str | None = None
    settings: Mapping[str, str] | None = None
    passes: Sequence[PassEntry] = ()
    target: str | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class ComparedSide:
    """A program after each of its stages; ``last`` is the one to run, on ``target``."""

    network: Named
    made_by: str
    stages: tuple[tuple[str, Program], ...]
    last: int
    target: Target

    @property
    def program(self) -> Program:
        """The one to run."""
        return self.stages[self.last][1]

    @property
    def about(self) -> str:
        """Network, what made the program, and the target."""
        after = f" after {self.stages[self.last][0]}" if self.last + 1 < len(self.stages) else ""
        made = f", {self.made_by}" if self.made_by else ""
        return f"{self.network.word}{made}{after}, on {self.target.name}"

    def at(self, index: int) -> ComparedSide:
        """The same side at another stage."""
        return replace(self, last=index)


@dataclass(frozen=True, slots=True)
class Given:
    """What both sides start from: ``ours`` is A's, drawn or not; B adds what A has not.

    ``drawn`` names what nobody gave either of them.
    """

    ours: Mapping[str, GivenArray]
    drawn: tuple[str, ...] = ()

    def said(self, seed: int) -> str:
        """What was drawn, in a line; empty where nothing was."""
        count = len({*self.ours, *self.drawn})
        return said_of_drawn(self.drawn, count, seed) if self.drawn else ""

    def to(self, of: ComparedSide) -> dict[str, GivenArray]:
        """For one side; a number of A's that is of another shape there is left out."""
        return {**of.network.numbers, **fitting(of.program, self.ours)}


def given_to(a: ComparedSide, b: ComparedSide, file: Mapping[str, GivenArray], seed: int) -> Given:
    """Numbers of a file ahead of those of A's network, which come ahead of drawn ones.

    Drawn for A as it was captured: what a weight is for shows there, not behind all passes.
    """
    known = {**a.network.numbers, **file}
    values, drawn = start(a.stages[0][1], known, seed)
    ours = {k: t.data if t.type.format.is_index else t.numbers for k, t in values.items()}
    given = Given({**known, **ours}, tuple(drawn))
    _, more = start(b.program, given.to(b), seed)
    return replace(given, drawn=tuple(dict.fromkeys((*drawn, *more))))


def side(network: Named, wish: SideWish, *, evaluation: bool = False) -> ComparedSide:
    """The stages of a side; UsageError where a wish does not fit its network."""
    target = find_target(wish.target or REFERENCE)
    recipe = _recipe(network, wish)
    captured = network.evaluation if evaluation else network.train
    if captured is None:
        raise UsageError(f"{network.word} is the text of one program; --eval is for networks")
    applied = recipe.apply(captured)
    final = applied[-1][1] if applied else captured
    made = stages(captured, [*applied, *target.lower(final, network.allow)])
    last = len(made) - 1 if wish.after is None else find(made, wish.after)
    return ComparedSide(network, _said_of(recipe, network), tuple(made), last, target)


def _said_of(recipe: Recipe, network: Named) -> str:
    """The recipe with what was changed of it; what of a network without one."""
    if not recipe.name:
        return "" if network.evaluation is None else "as captured"
    return " ".join([recipe.name, *(f"{k}={v}" for k, v in recipe.options.items())])


def _recipe(network: Named, wish: SideWish) -> Recipe:
    """The passes of a side: of a recipe, as listed, or those that it was compiled with."""
    if wish.passes:
        if wish.recipe is not None or wish.settings:
            raise UsageError("--pass lists all passes of a side; leave --recipe and --set out")
        names = " + ".join(entry.name for entry in wish.passes)
        return Recipe(names, "", "", tuple(wish.passes))
    if wish.recipe is not None:
        recipe = load_recipe(wish.recipe).with_options(wish.settings or {})
        return Update().after(recipe, network.train)
    if network.recipe is not None:
        return network.recipe.with_options(wish.settings or {})
    if wish.settings:
        raise UsageError(f"--set changes a recipe, and {network.word} has none; give --recipe")
    return Recipe("", "", "", ())


def ran(of: ComparedSide, given: Mapping[str, GivenArray], seed: int, options: BindOptions) -> Ran:
    """Run the program of a side once, from ``given`` and where that says nothing from a seed."""
    program = of.program
    lowered = of.target.lower(program, of.network.allow)
    ready = lowered[-1][1] if lowered else program
    values, _ = start(ready, given, seed)
    with stage(f"run {of.about}"):
        return Ran(of.about, ready, seen(of.target, ready, values, options))

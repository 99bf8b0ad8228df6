"""What a step does to its update beyond the optimizer, as passes behind a recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, cast

from ..compiler.errors import UsageError, shown
from ..compiler.ir import OPTIMIZER_STEP, Program
from ..compiler.ir.loops import loops
from ..passes.average_weights import AVERAGE
from ..passes.low_bit_states import STORED
from ..passes.parts.order import check_order
from ..passes.recipe import Recipe

if TYPE_CHECKING:
    from ..runtime.step import Step

MOST = (1 << 31) - 1
# The pass and the option that an argument ends in, and the argument, which a person knows.
GIVEN_AS = {
    ("average_weights", "decay"): "average",
    ("accumulate_gradients", "batches"): "accumulate",
    ("clip_gradients", "norm"): "clip_norm",
    ("clip_gradients", "value"): "clip_value",
    ("low_bit_states", "adam_states"): "adam_states",
}


@dataclass(frozen=True, slots=True)
class Update:
    """Bounds of the gradients (0: none), steps a turn of the optimizer, decay of an average, and
    what the optimizer's own averages are stored in."""

    clip_norm: float = 0.0
    clip_value: float = 0.0
    accumulate: int = 1
    average: float = 0.0
    adam_states: str = "f32"

    def __post_init__(self) -> None:
        """UsageError, which names the argument, for what is no number of its range."""
        for name in ("clip_norm", "clip_value"):
            _demand(name, getattr(self, name), "a number of at least 0", lambda v: v >= 0)
        whole = isinstance(self.accumulate, int) and not isinstance(self.accumulate, bool)
        _demand(
            "accumulate",
            self.accumulate,
            f"a whole number of 1 .. {MOST}",
            lambda v: whole and 1 <= v <= MOST,
        )
        _demand("average", self.average, "a number of at least 0 and below 1", lambda v: 0 <= v < 1)
        if not isinstance(self.adam_states, str) or self.adam_states not in ("f32", *STORED):
            words = f"f32 or one of {', '.join(STORED)}"
            raise UsageError(f"adam_states is {shown(self.adam_states)}; it is {words}")

    def after(self, recipe: Recipe, program: Program | None = None) -> Recipe:
        """The recipe with the passes that are asked for, and behind them what every step has.

        ``program`` is what it will be applied to, where that is known. RecipeError where the recipe
        has a pass that must stand behind one of them.
        """
        if self.average:
            recipe = recipe.followed_by("average_weights", decay=self.average)
        if self.accumulate != 1:
            recipe = recipe.followed_by("accumulate_gradients", batches=self.accumulate)
        if self.clip_norm or self.clip_value:
            bounds = {"norm": self.clip_norm, "value": self.clip_value}
            recipe = recipe.followed_by("clip_gradients", **bounds)
        if self.adam_states != "f32":
            recipe = recipe.followed_by("low_bit_states", adam_states=self.adam_states)
        check_order([(entry.reference, entry.function) for entry in recipe.passes])
        recipe = recipe.ending_with("skip_nonfinite")
        return recipe.ending_with("over_steps") if program and loops(program).of else recipe

    def begin(self, step: Step) -> Step:
        """The step, with averages of the weights where torch's optimizer has taken steps before."""
        state = step.state
        if self.average and OPTIMIZER_STEP in state:
            kept = {k: k.removesuffix(AVERAGE) for k in state if k.endswith(AVERAGE)}
            step.load_state({k: state[name] for k, name in kept.items() if name in state})
        return step


def _demand(name: str, value: object, wanted: str, holds: Callable[[float], bool]) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    if not number or not holds(cast(float, value)):
        raise UsageError(f"{name} is {shown(value)}; it is {wanted}")

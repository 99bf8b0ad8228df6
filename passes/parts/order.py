"""The order of passes: what a pass says of its place among others, and the check of a list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import combinations
from typing import TypeVar

from ...compiler.errors import RecipeError
from .options import Pass


class Makes(Enum):
    """What several passes make, each of some tensors, and others look at."""

    CODES = auto()  # operands of GEMMs in codes
    BITS = auto()  # numbers of bits that quantizers read


@dataclass(frozen=True, slots=True)
class PassPlace:
    """Where a pass stands: behind ``after`` and ahead of ``before``, where a list has those."""

    makes: Makes | None = None
    after: tuple[str | Makes, ...] = ()
    before: tuple[str | Makes, ...] = ()


PLACES: dict[Pass, PassPlace] = {}
P = TypeVar("P", bound=Pass)


def placed(
    *,
    makes: Makes | None = None,
    after: tuple[str | Makes, ...] = (),
    before: tuple[str | Makes, ...] = (),
) -> Callable[[P], P]:
    """Say of a pass what it ``makes`` and which passes it stands behind and ahead of."""

    def place(function: P) -> P:
        PLACES[function] = PassPlace(makes, after, before)
        return function

    return place


def check_order(passes: Sequence[tuple[str, Pass]]) -> None:
    """RecipeError for a pass that stands ahead of one that it must stand behind.

    A pass that is there twice may stand on both sides.
    """
    places = {name: PLACES.get(function, PassPlace()) for name, function in passes}
    names = [name for name, _ in passes]
    last = {name: i for i, name in enumerate(names)}
    for first, second in combinations(places, 2):
        apart = last[first] < names.index(second)
        behind = {second, places[second].makes}.intersection(places[first].after)
        ahead = {first, places[first].makes}.intersection(places[second].before)
        if apart and (behind or ahead):
            raise RecipeError(f"{first} stands ahead of {second} and must stand behind it")

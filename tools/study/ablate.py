"""What an ablation compares: a recipe, the same without one pass each, with one option swapped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ...compiler.errors import UsageError
from ...passes.recipe import Recipe, load_recipe
from ...passes.recipe.recipe import FINISHING
from ..arguments import pairs
from .entry import BASELINE, WITHOUT, Entry, distinct, entry

# Passes that leave all numbers as they are, and with them the accuracy.
EXACT = {*FINISHING, "subsample", "count_bit_operations", "skip_nonfinite"}
ALL = "all"


def ablated(
    name: str, settings: Sequence[str], without: Sequence[str], swaps: Sequence[str]
) -> tuple[Entry, ...]:
    """``fp32``, the recipe, and a row for each pass to leave out and each option to swap.

    With neither all passes but the ``EXACT`` ones are left out in turn. UsageError or RecipeError
    where there is nothing to compare.
    """
    mine = pairs(settings, "--set")
    recipe = load_recipe(name).with_options(mine)
    outs = list(without)
    if not outs and not swaps:
        outs = [label for label in recipe.labels if label.partition("#")[0] not in EXACT]
    rows = [_leaving_out(name, recipe, mine, label) for label in outs]
    rows += [entry(name, {**mine, k: v}, f"{k}={v}") for k, v in _swaps(recipe, swaps)]
    if not rows:
        raise UsageError(f"recipe {name} has no pass that changes numbers; name one by --without")
    return distinct([entry(BASELINE, {}), entry(name, mine), *rows])


def _leaving_out(name: str, recipe: Recipe, mine: Mapping[str, str], label: str) -> Entry:
    recipe.without(label)
    return entry(name, {**mine, WITHOUT: label}, f"without {label}")


def _swaps(recipe: Recipe, words: Sequence[str]) -> Iterator[tuple[str, str]]:
    for word in words:
        if word == ALL:
            yield from _each_other(recipe)
        else:
            yield from pairs([word], "--swap").items()


def _each_other(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Each flag turned over, and each other word of the options that have a list of them."""
    shared = recipe.settings
    seen: set[str] = set()
    for label, one in zip(recipe.labels, recipe.passes, strict=True):
        if one.name in EXACT:
            continue
        for key, option in one.options().items():
            name = key if key in shared else f"{label}.{key}"
            choices = (False, True) if option.type is bool else option.choices
            if name not in seen:
                yield from ((name, _word(c)) for c in choices if c != one.settings[key])
            seen.add(name)


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

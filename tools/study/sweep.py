"""``study sweep FILE.toml``: axes of recipes, options and schedules, and the rows of their product.

data = "digits"                     # what the options of study recipes say, by the same names:
steps = 200                         # network, batch, epochs, lr, schedule, seeds, train_samples,
seeds = 3                           # rounds
recipes = ["fp32", "luq4:smp=2"]    # an axis, as --recipes takes them
schedules = ["onecycle", "cosine"]  # an axis, where there is one
[options]                           # an axis each: options of recipes, lr, momentum, weight_decay,
lr = [0.02, 0.05]                   # without; a recipe that has no such option has no such axis
luq_levels = [3, 7]
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from ...compiler.errors import UsageError, closest
from ...passes.recipe import load_recipe
from ..files import read_text
from .entry import OWN_KEYS, SCHEDULE, WITHOUT, Entry, distinct, entry, split

# What the options of a command are called here, and what they are.
SCRIPT_KEYS: Mapping[str, type | tuple[type, ...]] = {
    "data": str, "network": str, "schedule": str, "lr": (int, float), "seeds": int, "steps": int,
    "epochs": int, "batch": int, "train_samples": int, "rounds": int,
}  # fmt: skip
LEAST = {"seeds": 1, "steps": 1, "epochs": 1, "batch": 1, "train_samples": 1, "rounds": 0, "lr": 0}
RECIPES, SCHEDULES, OPTIONS = "recipes", "schedules", "options"
KEYS = (*SCRIPT_KEYS, RECIPES, SCHEDULES, OPTIONS)
AxisValue = str | bool | int | float


@dataclass(frozen=True, slots=True)
class Sweep:
    """Rows, and what the file says of the script by the names of the command's options."""

    rows: tuple[Entry, ...]
    script: Mapping[str, str | int | float]


def read_sweep(path: Path) -> Sweep:
    """The sweep of a file; UsageError or RecipeError says what in it is wrong."""
    try:
        data = tomllib.loads(read_text(path))
    except ValueError as error:
        raise UsageError(f"{path} is no TOML: {error}") from None
    for key in data:
        if key not in KEYS:
            raise UsageError(f"{path}: {key!r} is no key of a sweep; {closest(key, KEYS)}")
    said = {key: _checked(path, key, data[key]) for key in SCRIPT_KEYS if key in data}
    options = data.get(OPTIONS, {})
    if not isinstance(options, dict):
        raise UsageError(f"{path}: [options] is a table of lists, such as lr = [0.02, 0.05]")
    axes = {key: _list(path, f"options.{key}", values) for key, values in options.items()}
    if SCHEDULES in data:
        axes[SCHEDULE] = _list(path, SCHEDULES, data[SCHEDULES])
    if RECIPES not in data:
        raise UsageError(f'{path} names no recipes; add a line like recipes = ["fp32", "luq4"]')
    chosen = split(_list(path, RECIPES, data[RECIPES]))
    for key in axes:
        if not any(_has(name, key) for name, _ in chosen):
            known = {o for name, _ in chosen for o in load_recipe(name).settings} | {*OWN_KEYS}
            raise UsageError(
                f"{path}: none of its recipes has an option {key!r}; {closest(key, known)}"
            )
    rows = [row for name, own in chosen for row in _rows(path, name, own, axes)]
    return Sweep(distinct(rows), said)


def _rows(
    path: Path, name: str, own: Mapping[str, str], axes: Mapping[str, tuple[str, ...]]
) -> list[Entry]:
    """One recipe at each point of the axes that it has."""
    mine = {key: values for key, values in axes.items() if _has(name, key)}
    if both := [key for key in mine if key in own]:
        raise UsageError(f"{path}: recipe {name} sets {both[0]}, and so does an axis; say it once")
    points = product(*mine.values())
    return [entry(name, {**own, **dict(zip(mine, point, strict=True))}) for point in points]


def _has(name: str, key: str) -> bool:
    """Whether a recipe has an option, of all passes or of one."""
    recipe = load_recipe(name)
    label, dot, option = key.rpartition(".")
    pairs = zip(recipe.labels, recipe.passes, strict=True)
    return key in (*OWN_KEYS, SCHEDULE, WITHOUT) or any(
        option in s.settings and (not dot or label == n) for n, s in pairs
    )


def _checked(path: Path, key: str, value: object) -> str | int | float:
    kind = SCRIPT_KEYS[key]
    right = isinstance(value, kind) and not isinstance(value, bool)
    if not right or not isinstance(value, str | int | float):
        wanted = "text" if kind is str else "a number" if key == "lr" else "an integer"
        raise UsageError(f"{path}: {key} = {value!r} must be {wanted}")
    if not isinstance(value, str) and not LEAST[key] <= value < float("inf"):
        raise UsageError(f"{path}: {key} = {value} must be at least {LEAST[key]}")
    return value


def _list(path: Path, key: str, value: object) -> tuple[str, ...]:
    """The values of an axis as words."""
    if not isinstance(value, list) or not value or not all(isinstance(v, AxisValue) for v in value):
        raise UsageError(f"{path}: {key} must be a list of values, as an axis has, not {value!r}")
    words = [str(v).lower() if isinstance(v, bool) else str(v) for v in value]
    return tuple(dict.fromkeys(words))

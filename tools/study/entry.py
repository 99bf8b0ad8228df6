"""What a study compares, as plain data: recipes with options, a row each.

A command loads neither torch nor TVM: each training and each timing runs in its own process.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from ...compiler.errors import UsageError
from ...passes.recipe import Recipe, load_recipe, recipe_names
from ..arguments import pairs
from ..schedule import schedule as find_schedule
from .plan import Script

BASELINE = "fp32"
SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
# What a recipe may have otherwise than the script: a method's own rate, say.
OWN_KEYS = ("lr", "momentum", "weight_decay")
SCHEDULE = "schedule"
# Passes of a recipe that a row does without.
WITHOUT = "without"


@dataclass(frozen=True, slots=True)
class Entry:
    """A recipe with options, as a row of the table; ``digest`` is of what it does.

    ``own`` are fields of the script that this row has otherwise, ``without`` are passes of the
    recipe that are left out, and ``name`` is what tables call it.
    """

    recipe: str
    options: Mapping[str, str]
    digest: str
    own: Mapping[str, float | str]
    without: tuple[str, ...] = ()
    name: str = ""

    @property
    def label(self) -> str:
        """Its name, or all of it in words: ``ultra_low_4bit carrier=f32``."""
        return self.name or " ".join(self.words)

    @property
    def words(self) -> list[str]:
        """The recipe and what is changed of it."""
        out = {WITHOUT: ",".join(self.without)} if self.without else {}
        changed = {**self.options, **out, **self.own}
        return [self.recipe, *(f"{k}={v}" for k, v in changed.items())]

    def script(self, common: Script) -> Script:
        """The script that this row is trained by."""
        lr, momentum, decay = (float(self.own.get(k, getattr(common, k))) for k in OWN_KEYS)
        rate = str(self.own.get(SCHEDULE, common.schedule))
        return replace(common, lr=lr, momentum=momentum, weight_decay=decay, schedule=rate)

    @property
    def stem(self) -> str:
        """The beginning of its files' names: two recipes that do the same share them."""
        name = "".join(c if c in SAFE else "_" for c in Path(self.recipe).stem)
        return f"{name}-{self.digest[:12]}"

    def to_dict(self) -> dict[str, object]:
        """Plain data, for a process and for the folder; ``made_recipe`` reads it."""
        return {
            "recipe": self.recipe,
            "options": dict(self.options),
            "own": dict(self.own),
            "without": list(self.without),
        }


def entries(words: Sequence[str]) -> tuple[Entry, ...]:
    """The rows of ``--recipes NAME[:key=value,...],...``; all recipes of quatrain for no words.

    A part without ``=`` continues the value ahead of it, unless it is a recipe. Keys are options of
    the recipe or ``OWN_KEYS``. Raises RecipeError or UsageError for anything else.
    """
    pairs = split(words) if words else [(n, dict[str, str]()) for n in recipe_names()]
    return distinct([entry(name, options) for name, options in pairs])


def baseline() -> Entry:
    """The recipe that times are compared with."""
    return entry(BASELINE, {})


def made_recipe(name: str, options: Mapping[str, str], without: Sequence[str]) -> Recipe:
    """The recipe of a row: options first, as they may be those of a pass that is left out."""
    return load_recipe(name).with_options(options).without(*without)


def entry_recipe(row: Entry) -> Recipe:
    """The recipe of a row; UsageError for what is of a training, where nothing is trained."""
    check_untrained([row])
    return made_recipe(row.recipe, row.options, row.without)


def check_untrained(rows: Sequence[Entry]) -> None:
    """UsageError for what is of a training, where nothing is trained."""
    for row in rows:
        if row.own:
            said = ", ".join(row.own)
            raise UsageError(f"{row.recipe}: {said} is of a training; nothing is trained")


def entry(name: str, settings: Mapping[str, str], called: str = "") -> Entry:
    """A recipe with settings, which may be options, ``OWN_KEYS``, a schedule and ``without``."""
    known = load_recipe(name).settings
    mine = {k: v for k, v in settings.items() if k not in known}
    own: dict[str, float | str] = {k: _number(name, k, mine[k]) for k in OWN_KEYS if k in mine}
    if SCHEDULE in mine:
        find_schedule(mine[SCHEDULE])
        own[SCHEDULE] = mine[SCHEDULE]
    without = tuple(w for w in mine.get(WITHOUT, "").split(",") if w)
    taken = {*own, *(mine.keys() & {WITHOUT})}
    options = {k: v for k, v in settings.items() if k not in taken}
    digest = made_recipe(name, options, without).digest
    if own:
        digest = sha256(f"{digest} {sorted(own.items())}".encode()).hexdigest()
    return Entry(name, options, digest, own, without, called)


def distinct(found: Sequence[Entry]) -> tuple[Entry, ...]:
    """Without rows that do the same as one ahead of them."""
    first: dict[str, Entry] = {}
    for row in found:
        first.setdefault(row.digest, row)
    return tuple(first.values())


def _number(name: str, key: str, word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise UsageError(f"--recipes {name}: {key}={word} is no number of at least 0")
    return number


def split(words: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """The names of ``--recipes`` with their settings."""
    found: list[tuple[str, list[str]]] = []
    for part in (p.strip() for word in words for p in word.split(",")):
        name, colon, option = part.partition(":")
        if _is_recipe(name) or not found or not found[-1][1]:
            if "=" in name:
                raise UsageError(f"--recipes: {part!r} follows no recipe; give NAME:key=value")
            found.append((name, [option] if colon else []))
        elif "=" in part:
            found[-1][1].append(part)
        else:
            found[-1][1][-1] += f",{part}"
    return [(name, pairs(options, f"--recipes {name}:")) for name, options in found]


def _is_recipe(name: str) -> bool:
    return name in recipe_names() or name.endswith(".toml")


def check_own(rows: Sequence[Entry], common: Script) -> None:
    """UsageError where a row has a rate of its own and the network an optimizer of its own."""
    for row in rows:
        rates = [key for key in row.own if key in OWN_KEYS]
        if rates and ".py:" in common.network:
            raise UsageError(
                f"--recipes {row.recipe}: {', '.join(rates)} is for the networks by name; "
                f"{common.network} brings its own optimizer"
            )

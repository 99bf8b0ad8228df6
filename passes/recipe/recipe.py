"""Recipes: ordered lists of passes with options, as data.

title = "..."                        # one line
paper = "..."                        # the source
base = "sbm8"                        # optional: a recipe whose passes come first, see Schedule
[options]                            # optional: settings of all passes that have the option, or
exempt = "first,last"                # of all passes of the base
[[passes]]
pass = "sawb_weights"                # a pass of quatrain, or FILE.py:FUNCTION beside this file
grid = 16                            # its options
"""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from ...compiler.errors import (
    FailedPass,
    QuatrainError,
    RecipeError,
    VerifyError,
    closest,
    shown,
)
from ...compiler.ir import Program
from ...compiler.ir.text import show
from ...compiler.ir.verify import verify
from .. import PASSES
from ..parts.options import Option, Pass, Setting, as_typed, options_of, read_options
from ..parts.order import check_order
from .user_pass import Origin, load_pass, loaded_pass, run_pass

Settings = Mapping[str, Setting]
Observer = Callable[[str, Program], None]
KEYS = ("name", "title", "paper", "base", "options", "passes")
BASE = "base"
# They see what all others made, so that passes over a base come ahead of them.
FINISHING = ("recompute", "canonicalize")
FOLDER = Path(__file__).parents[1] / "recipes"
NOTHING: Settings = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class PassEntry:
    """One pass with all its options; ``origin`` is set for a pass from a user's file."""

    name: str
    settings: Settings
    origin: Origin | None = None

    @property
    def reference(self) -> str:
        """The pass as a recipe names it."""
        return f"{self.origin.file}:{self.name}" if self.origin else self.name

    @property
    def function(self) -> Pass:
        """The pass."""
        return loaded_pass(self.name, self.origin) if self.origin else PASSES[self.name]

    def options(self) -> dict[str, Option]:
        """The options that the pass has."""
        return options_of(self.function)

    def set(self, raw: Mapping[str, object]) -> PassEntry:
        """The entry with some options changed; RecipeError for an unknown key or a wrong value."""
        read = read_options(self.name, self.options(), {**self.settings, **raw})
        return replace(self, settings=MappingProxyType(read))

    def run(self, program: Program) -> Program:
        """The program that the pass makes of ``program``."""
        settings = dict(self.settings)
        if self.origin:
            return run_pass(self.name, self.origin, program, settings)
        return PASSES[self.name](program, **settings)

    @property
    def words(self) -> str:
        """The pass as ``quatrain opt --pass`` takes it, with the options that are no defaults."""
        known = self.options()
        changed = {k: v for k, v in self.settings.items() if v != known[k].default}
        pairs = ",".join(f"{k}={as_typed(v)}" for k, v in changed.items())
        return f"{self.reference}:{pairs}" if pairs else self.reference

    def to_dict(self) -> dict[str, object]:
        """Plain data."""
        origin = {"file": self.origin.file, "sha256": self.origin.sha256} if self.origin else {}
        return {"pass": self.name, **origin, "options": dict(self.settings)}


@dataclass(frozen=True, slots=True)
class Schedule:
    """Passes over any static recipe; ``options`` are those that its own ``base`` gets.

    The passes come behind those of the base, but ahead of the ones that finish a program.
    """

    passes: tuple[PassEntry, ...]
    base: str
    options: Mapping[str, object]

    def over(self, name: str) -> tuple[PassEntry, ...]:
        """All passes; another base keeps its own options."""
        base = load_recipe(name)
        if base.schedule is not None:
            raise RecipeError(f"recipe {base.name} has a base of its own; give a static recipe")
        passes = base.with_options(self.options if name == self.base else {}).passes
        end = len(passes)
        while end and passes[end - 1].name in FINISHING:
            end -= 1
        return (*passes[:end], *self.passes, *passes[end:])


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named list of passes; ``options`` are the changes made by ``with_options``, as text.

    ``schedule`` is set where some of the passes are those of a base.
    """

    name: str
    title: str
    paper: str
    passes: tuple[PassEntry, ...]
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    schedule: Schedule | None = field(default=None, compare=False)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the passes; a repeated one is ``name#2``."""
        names = [s.name for s in self.passes]
        nth = (names[: i + 1].count(n) for i, n in enumerate(names))
        return tuple(n if k == 1 else f"{n}#{k}" for n, k in zip(names, nth, strict=True))

    @property
    def base(self) -> str:
        """The recipe that a schedule goes over; empty for a static one."""
        return self.options.get(BASE, self.schedule.base if self.schedule else "")

    @property
    def settings(self) -> dict[str, Setting]:
        """All options with their values; one that passes do not share alike is ``pass.key``."""
        values: dict[str, set[Setting]] = {}
        for entry in self.passes:
            for key, value in entry.settings.items():
                values.setdefault(key, set()).add(value)
        return {
            (key if len(values[key]) == 1 else f"{label}.{key}"): value
            for label, entry in zip(self.labels, self.passes, strict=True)
            for key, value in entry.settings.items()
        }

    def with_options(self, changes: Mapping[str, object]) -> Recipe:
        """The recipe with other settings.

        ``key`` sets the option of every pass that has it, ``pass.key`` that of one pass; the latter
        outranks the former. Values are text, flags or numbers. ``base`` puts the passes of a
        schedule over another recipe, ahead of all other changes.
        """
        if not isinstance(changes, Mapping):
            raise RecipeError(f"options are a dictionary, not a {type(changes).__name__}")
        if odd := [key for key in changes if not isinstance(key, str)]:
            raise RecipeError(f"the option {shown(odd[0])} is no name; options are named by words")
        recipe = self._over(str(changes[BASE])) if BASE in changes else self
        for key in sorted(changes.keys() - {BASE}, key=lambda k: ("." in k, k)):
            recipe = recipe._with(key, changes[key])
        return recipe

    def _over(self, base: str) -> Recipe:
        if self.schedule is None:
            raise RecipeError(f"recipe {self.name} has no base; cpt and pfq go over another recipe")
        passes = self.schedule.over(base)
        return replace(self, passes=passes, options=MappingProxyType({BASE: base}))

    def _with(self, key: str, raw: object) -> Recipe:
        label, dot, option = key.rpartition(".")
        changed = {
            i: entry.set({option: raw})
            for i, (name, entry) in enumerate(zip(self.labels, self.passes, strict=True))
            if option in entry.settings and (not dot or name == label)
        }
        if not changed:
            known = {k for s in self.passes for k in s.settings}
            known |= {f"{n}.{k}" for n in self.labels for k in self._entry(n).settings if dot}
            hint = closest(key, known) if known else "it has none"
            raise RecipeError(f"recipe {self.name} has no option {key!r}; {hint}")
        passes = tuple(changed.get(i, s) for i, s in enumerate(self.passes))
        said = as_typed(next(iter(changed.values())).settings[option])
        return replace(self, passes=passes, options=MappingProxyType({**self.options, key: said}))

    def followed_by(self, name: str, **settings: Setting) -> Recipe:
        """The recipe with one more pass of quatrain at its end."""
        return replace(self, passes=(*self.passes, _known(name).set(settings)))

    def without(self, *labels: str) -> Recipe:
        """The recipe with some of its passes left out; RecipeError for one that it has not."""
        for label in labels:
            if label not in self.labels:
                hint = closest(label, self.labels)
                raise RecipeError(f"recipe {self.name} has no pass {label!r} to leave out; {hint}")
        pairs = zip(self.labels, self.passes, strict=True)
        left = tuple(entry for label, entry in pairs if label not in labels)
        if not left:
            raise RecipeError(f"without {', '.join(labels)} recipe {self.name} has no pass left")
        return replace(self, passes=left)

    def ending_with(self, name: str) -> Recipe:
        """The recipe with a pass of quatrain, without settings, at its end if it is nowhere."""
        if any(entry.name == name for entry in self.passes):
            return self
        return self.followed_by(name)

    def _entry(self, label: str) -> PassEntry:
        return self.passes[self.labels.index(label)]

    def apply(
        self, program: Program, observer: Observer | None = None
    ) -> list[tuple[str, Program]]:
        """Run the passes; the program after each, verified, with the label of the pass.

        ``observer`` sees each label and program as soon as they are there. An error says in
        ``failed`` what repeats it.
        """
        stages = []
        for label, entry in zip(self.labels, self.passes, strict=True):
            program = _applied(label, entry, program)
            stages.append((label, program))
            if observer:
                observer(label, program)
        return stages

    @property
    def digest(self) -> str:
        """SHA-256 over what the recipe does: passes, their order, all options, users' code."""
        content = json.dumps([s.to_dict() for s in self.passes], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def to_dict(self) -> dict[str, object]:
        """Plain data, for a file; ``from_dict`` reads it."""
        return {
            "name": self.name,
            "title": self.title,
            "paper": self.paper,
            "passes": [s.to_dict() for s in self.passes],
            "options": dict(self.options),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Recipe:
        """Read back what ``to_dict`` wrote; nothing in ``data`` makes code run."""
        entries, options = data.get("passes"), data.get("options", {})
        if not isinstance(entries, list) or not isinstance(options, dict):
            raise RecipeError("the saved recipe has no list of passes or no options; it is damaged")
        return cls(
            str(data.get("name", "")),
            str(data.get("title", "")),
            str(data.get("paper", "")),
            tuple(_saved_entry(entry) for entry in entries),
            MappingProxyType({str(k): str(v) for k, v in options.items()}),
        )


def _applied(label: str, entry: PassEntry, program: Program) -> Program:
    """The verified program that a pass makes."""
    refused = False
    try:
        made = entry.run(program)
        return verify(replace(made, history=(*program.history, entry.name)))
    except VerifyError as e:
        error: QuatrainError = VerifyError(f"after pass {label}: {e}")
    except QuatrainError as e:
        error, refused = e, e.__cause__ is None
    except (ImportError, OSError):  # of the machine: no program repeats it
        raise
    except Exception as e:
        error = RecipeError(f"the pass {label} failed with {type(e).__name__}: {e}")
        error.__cause__ = e
    error.failed = FailedPass(label, entry.words, show(program), refused)
    raise error


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes that quatrain carries."""
    return tuple(sorted(p.stem for p in FOLDER.glob("*.toml")))


def load_recipe(which: str | os.PathLike[str] | Recipe) -> Recipe:
    """A recipe by name or from a TOML file; one that is a recipe already is returned as it is."""
    if isinstance(which, Recipe):
        return which
    if not isinstance(which, str | os.PathLike):
        raise RecipeError(f"recipe is {shown(which)}; it is a name, a .toml file or a Recipe")
    path = Path(which)
    if isinstance(which, str) and which in recipe_names():
        path = FOLDER / f"{which}.toml"
    elif path.suffix != ".toml":
        hint = closest(str(which), recipe_names())
        raise RecipeError(
            f"no recipe is called {shown(str(which))}; give a .toml file or a name; {hint}"
        )
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise RecipeError(f"recipe {path}: {e.strerror or type(e).__name__}") from None
    except ValueError as e:
        raise RecipeError(f"recipe {path} is no TOML: {e}") from None
    try:
        recipe = _from_toml(data, path)
        check_order([(entry.reference, entry.function) for entry in recipe.passes])
    except QuatrainError as e:
        raise RecipeError(f"recipe {path}: {e}") from None
    return recipe


def _from_toml(data: Mapping[str, object], path: Path) -> Recipe:
    for key in data:
        if key not in KEYS:
            raise RecipeError(f"{key!r} is no key of a recipe; {closest(key, KEYS)}")
    entries, options = data.get("passes", []), data.get("options", {})
    if not isinstance(entries, list) or not entries or not isinstance(options, dict):
        raise RecipeError("a recipe has at least one [[passes]] entry and [options] is a table")
    passes = tuple(_toml_entry(entry, path.parent) for entry in entries)
    title, paper = str(data.get("title", "")), str(data.get("paper", ""))
    recipe = Recipe(str(data.get("name", path.stem)), title, paper, passes)
    if BASE in data:
        base = _base(str(data[BASE]), path.parent)
        schedule = Schedule(passes, base, MappingProxyType(options))
        passes = schedule.over(base)
        return replace(recipe, passes=passes, schedule=schedule)
    shared = replace(recipe.with_options(options), options=MappingProxyType({}))
    # What a pass's own entry says outranks the shared table.
    own = (
        s.set({k: v for k, v in e.items() if k != "pass"})
        for s, e in zip(shared.passes, entries, strict=True)
    )
    return replace(shared, passes=tuple(own))


def _base(name: str, folder: Path) -> str:
    """A recipe's name, or the path of a file beside the one that names it."""
    return str(folder / name) if name.endswith(".toml") else name


def _toml_entry(entry: object, folder: Path) -> PassEntry:
    if not isinstance(entry, dict) or not isinstance(entry.get("pass"), str):
        raise RecipeError('each [[passes]] entry needs a line pass = "NAME"')
    reference = entry["pass"]
    options = {k: v for k, v in entry.items() if k != "pass"}
    if ":" in reference:
        name, origin = load_pass(reference, folder)
        return PassEntry(name, NOTHING, origin).set(options)
    return _known(reference).set(options)


def _known(name: str) -> PassEntry:
    if name not in PASSES:
        raise RecipeError(f"no pass is called {name!r}; {closest(name, PASSES)}")
    return PassEntry(name, NOTHING)


def _saved_entry(entry: object) -> PassEntry:
    if not isinstance(entry, dict) or not isinstance(entry.get("options"), dict):
        raise RecipeError("a pass of the saved recipe has no options; it is damaged")
    name = str(entry.get("pass"))
    if "file" not in entry:
        return _known(name).set(entry["options"])
    origin = Origin(str(entry["file"]), str(entry.get("sha256")))
    return PassEntry(name, NOTHING, origin).set(entry["options"])

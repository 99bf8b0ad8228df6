"""Passes from a person's own Python file, loaded only when that person's recipe names the file.

A saved step records such a pass by name and content hash. Opening a saved step never runs a file:
the pass must have been loaded in the same process, by the recipe that names it.
"""

from __future__ import annotations

import hashlib
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from ...compiler.errors import RecipeError, closest
from ...compiler.ir import Program
from ..parts.options import Pass, Setting, options_of


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a user's pass comes from: the file's name and the SHA-256 of its content."""

    file: str
    sha256: str


# What recipes of this process have loaded, by pass name and content.
LOADED: dict[tuple[str, str], Pass] = {}
# The content that a pass was last loaded with, by pass name and the file's own name.
LATEST: dict[tuple[str, str], str] = {}
SHOWN = 8  # hex digits of a hash, enough to tell two files apart


def load_pass(reference: str, folder: Path) -> tuple[str, Origin]:
    """Load ``FILE.py:NAME``, relative to ``folder``; the pass is in ``LOADED`` afterwards."""
    file, _, name = reference.rpartition(":")
    path = folder / file
    try:
        source = path.read_bytes()
    except OSError as e:
        why = e.strerror or type(e).__name__
        raise RecipeError(f"the pass {reference!r} is not there: {path}: {why}") from None
    origin = Origin(file, hashlib.sha256(source).hexdigest())
    key = name, origin.sha256
    if key not in LOADED:
        LOADED[key] = _function(_run(path, source), name, path)
    LATEST[name, path.name] = origin.sha256
    return name, origin


def loaded_pass(name: str, origin: Origin) -> Pass:
    """The user's pass of that name and content; RecipeError if no recipe has loaded it."""
    key = name, origin.sha256
    if key in LOADED:
        return LOADED[key]
    now = LATEST.get((name, Path(origin.file).name), origin.sha256)
    if now != origin.sha256:
        raise RecipeError(
            f"{origin.file} has changed since the step was saved with its pass {name!r} (saved "
            f"sha256 {origin.sha256[:SHOWN]}.., now {now[:SHOWN]}..); bring the saved content back "
            "or compile again"
        )
    raise RecipeError(
        f"the pass {name!r} is from {origin.file}, and opening a saved step runs no code; name the "
        "recipe that has it: --recipe FILE.toml on the command line, in Python first call "
        'quatrain.passes.recipe.load_recipe("FILE.toml")'
    )


def run_pass(name: str, origin: Origin, program: Program, settings: dict[str, Setting]) -> Program:
    """Run a user's pass; what it raises becomes one RecipeError that names the line."""
    try:
        made = loaded_pass(name, origin)(program, **settings)
    except RecipeError:
        raise
    except Exception as e:
        frames = traceback.extract_tb(e.__traceback__)
        line = next((f.lineno for f in reversed(frames) if f.filename.endswith(origin.file)), "?")
        raise RecipeError(
            f"the pass {name!r} failed at {origin.file}:{line} with {type(e).__name__}: {e}"
        ) from e
    if not isinstance(made, Program):
        raise RecipeError(
            f"the pass {name!r} of {origin.file} returned a {type(made).__name__}, not a Program"
        )
    return made


def _run(path: Path, source: bytes) -> ModuleType:
    module = ModuleType(f"quatrain_user_{hashlib.sha256(source).hexdigest()[:16]}")
    module.__file__ = str(path)
    # Annotations are looked up through the module's name.
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except Exception as e:
        del sys.modules[module.__name__]
        first = str(e).partition("\n")[0]
        raise RecipeError(f"{path} cannot be loaded: {type(e).__name__}: {first}") from e
    return module


def _function(module: ModuleType, name: str, path: Path) -> Pass:
    found = vars(module).get(name)
    own = [
        n
        for n, f in vars(module).items()
        if callable(f) and getattr(f, "__module__", "") == module.__name__ and n[0] != "_"
    ]
    if not callable(found):
        hint = closest(name, own) if own else "it defines none"
        raise RecipeError(f"{path} defines no function {name!r}; {hint}")
    options_of(found)
    function: Pass = found
    return function

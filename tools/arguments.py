"""Options that several commands share, and how their words are read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from ..compiler.errors import UsageError
from . import env

NetworkArgument = Annotated[Path, typer.Argument(metavar="NET.qtn", help="A compiled network.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]
TargetOption = Annotated[
    str | None, typer.Option("--target", help=f"reference, cpu, cuda, cuda:1, ...  ({env.TARGET})")
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", min=1, help=f"Threads of a step.  ({env.THREADS})"),
]
CacheDirOption = Annotated[
    Path | None,
    typer.Option("--cache-dir", help=f"Folder of compiled kernels.  ({env.CACHE})"),
]
SettingsOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the recipe.")
]
DataDirOption = Annotated[
    Path | None, typer.Option("--data-dir", help=f"Folder of data sets.  ({env.DATA})")
]
UserRecipeOption = Annotated[
    Path | None,
    typer.Option("--recipe", metavar="FILE.toml", help="Its own passes, if the network has any."),
]
DumpDirOption = Annotated[
    Path | None,
    typer.Option("--dump-dir", help=f"Write the IR text after every pass there.  ({env.DUMP})"),
]


def pairs(words: Iterable[str], option: str) -> dict[str, str]:
    """``key=value`` words as a dictionary; UsageError for another form or a repeated key."""
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise UsageError(f"{option} {word!r} is no key=value, for example {option} carrier=f32")
        if key.strip() in found:
            raise UsageError(f"{option} names {key.strip()!r} twice; give it once")
        found[key.strip()] = value.strip()
    return found


def sizes(word: str, option: str) -> tuple[int, ...]:
    """``3x32x32`` as (3, 32, 32); every size 1 .. 999999."""
    if not re.fullmatch(r"[1-9]\d{0,5}(x[1-9]\d{0,5}){0,5}", word):
        raise UsageError(f"{option} {word!r} is no shape; one reads like {option} 3x32x32")
    return tuple(map(int, word.split("x")))


def load_user_passes(recipe: Path | None) -> None:
    """Load the passes of a person's own recipe file; a saved network names them but has no code."""
    if recipe is not None:
        from ..passes.recipe import load_recipe

        load_recipe(recipe)

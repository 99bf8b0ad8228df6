"""``quatrain build``: a ``.qtn`` file becomes a folder of machine code that runs by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...targets.registry import find_target
from .. import env, terminal
from ..arguments import (
    NetworkArgument,
    TargetOption,
    UserRecipeOption,
    load_user_passes,
)
from ..stages import stage

FolderOption = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="The folder to write.")
]


def command(
    network: NetworkArgument,
    output: FolderOption,
    target: TargetOption = None,
    recipe: UserRecipeOption = None,
) -> None:
    """Build the step ahead of time: quatrain run DIR needs no compiler, no torch, no TVM package."""
    from ... import __version__
    from ...runtime.built.folder import check_place, write_folder
    from ...runtime.built.make import make
    from ...runtime.bundle import read

    load_user_passes(recipe)
    name = _target(target)
    check_place(output)
    bundle = read(network)
    with stage(f"build {network}"):
        contents = make(bundle, network, name, __version__)
        write_folder(output, contents)
    width = max(map(len, contents))
    for file, data in contents.items():
        terminal.line(f"{file:{width}}  {len(data):>12,} bytes")


def _target(given: str | None) -> str | None:
    """The target that was asked for; None: that of the network."""
    name = given or (env.target() if env.target() != env.DEFAULT_TARGET else None)
    if name is not None:
        find_target(name).check_builds()
    return name

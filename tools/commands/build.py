"""``quatrain build``: a ``.qtn`` file becomes a folder of machine code that runs by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...targets.registry import find_target
from .. import terminal
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
    """Build the step ahead of time: to run DIR takes no compiler, no torch and no TVM package."""
    from ... import __version__
    from ...runtime.built.folder import check_place, write_folder
    from ...runtime.built.make import make
    from ...runtime.bundle import read

    load_user_passes(recipe)
    if target is not None:
        find_target(target).check_builds()
    check_place(output)
    bundle = read(network)
    with stage(f"build {network}"):
        contents = make(bundle, network, target, __version__)
        write_folder(output, contents)
    width = max(map(len, contents))
    for file, data in contents.items():
        terminal.line(f"{file:{width}}  {len(data):>12,} bytes")

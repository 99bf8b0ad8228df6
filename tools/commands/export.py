"""``quatrain export``: what a network predicts becomes a file of ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...compiler.errors import UsageError
from ...compiler.ir import Program
from .. import env, terminal
from ..arguments import (
    DataDirOption,
    NetworkArgument,
    ThreadsOption,
    UserRecipeOption,
    load_user_passes,
)
from ..files import check_writable
from ..stages import stage

if TYPE_CHECKING:
    from ..dataset import Dataset

FileOption = Annotated[Path, typer.Option("--output", "-o", help="The .onnx file to write.")]
DialectOption = Annotated[
    str, typer.Option(metavar="qdq|qonnx", help="ONNX's pairs of quantizers, or QONNX's IntQuant.")
]
ExactOption = Annotated[
    bool, typer.Option("--exact", help="Scales behind the products: the codes of predict.")
]
VerifyOption = Annotated[
    str | None,
    typer.Option(metavar="DATA", help="Run both on test data, named as for run."),
]


def command(
    network: NetworkArgument,
    output: FileOption,
    dialect: DialectOption = "qdq",
    exact: ExactOption = False,
    verify: VerifyOption = None,
    data_dir: DataDirOption = None,
    threads: ThreadsOption = None,
    recipe: UserRecipeOption = None,
) -> None:
    """Write the network as ONNX, opset 21; --verify compares onnxruntime with predict."""
    from ...runtime.bundle import read
    from ...runtime.export import export
    from ...runtime.source import source_of

    if verify is not None and dialect != "qdq":
        raise UsageError(f"--verify runs onnxruntime, which has no operations of {dialect}")
    load_user_passes(recipe)
    check_writable(output)
    bundle = read(network)
    with env.chosen(threads=threads, data=data_dir):
        data = None if verify is None else _data(verify, bundle.evaluation)
        with stage(f"export {network}"):
            made = export(source_of(bundle), bundle.state, output, dialect=dialect, exact=exact)
        for text in made.remarks:
            terminal.remark(text)
        terminal.line(f"{output}: {made.bytes:,} bytes")
        if data is not None:
            _verify(network, output, data)


def _data(name: str, program: Program) -> Dataset:
    """What both are to run, known to fit ahead of any work."""
    from ..data import load_data
    from ..onnx_agreement import check_examples

    found = load_data(name)
    check_examples(program, found)
    return found


def _verify(network: Path, output: Path, data: Dataset) -> None:
    with stage("load torch"):
        from ..driver import load
        from ..onnx_agreement import agreements
    step = load(network)
    with stage(f"verify {output}"):
        lines = agreements(output, step, data, env.threads())
    for agreement in lines:
        terminal.line(str(agreement))

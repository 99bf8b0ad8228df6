"""What a step predicts as a file of ONNX: the evaluation program with the state as it is now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from ..compiler.ir import Program
from ..targets.onnx.program import check_writable, write_graph
from ..targets.onnx.write import encoded
from .files import path_of, place_of, write_bytes
from .initial import initial_state
from .source import Source


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was written: its bytes, and what a person should know, a sentence each."""

    bytes: int
    remarks: tuple[str, ...]


def export(
    source: Source,
    state: Mapping[str, np.ndarray],
    path: str | Path,
    *,
    dialect: str = "qdq",
    exact: bool = False,
) -> Exported:
    """Write what ``predict`` computes with ``state`` to ``path``, whole or not at all.

    ``dialect`` is ``qdq`` (QuantizeLinear and DequantizeLinear) or ``qonnx``; ``exact`` keeps
    codes apart from their scales until products are summed, as the program does. Raises ExportError
    where the program has what ONNX, or the dialect, does not.
    """
    place = path_of(path)
    place_of(place)
    program = evaluated(source)
    given = initial_state(program, state, source.seed)
    written = write_graph(program, given, dialect=dialect, exact=exact)
    facts = {
        "recipe": source.recipe.name,
        "after": ", ".join(program.history),
        "dialect": dialect,
        "exact": str(exact).lower(),
    }
    data = encoded(replace(written.graph, facts=MappingProxyType(facts)))
    write_bytes(place, data)
    return Exported(len(data), written.remarks)


def check_export(source: Source, *, dialect: str = "qdq") -> None:
    """Raise the ExportError that ``export`` would; takes no numbers and no package ``onnx``."""
    check_writable(evaluated(source), dialect=dialect)


def evaluated(source: Source) -> Program:
    """The program of ``predict``, behind all passes and the target's own stages."""
    return source.stages(source.evaluation)[-1][1]

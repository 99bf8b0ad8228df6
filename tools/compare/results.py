"""What a program made in one run: a row of figures for each result, and all of them as a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path

import numpy as np
from rich.table import Table
from rich.text import Text
from safetensors.numpy import save as save_tensors

from ...compiler.errors import UsageError, closest
from ...compiler.ir import Program
from ...runtime.files import write_bytes
from ...runtime.report.tables import table
from ...targets.numbers.tensor import Tensor
from ...targets.seen import Seen

FIGURES = ("result", "least", "largest", "mean", "rms", "zeros")
BAD = "NaN, inf"
OUTPUT, NEXT, INSIDE = "output", "next state", "value"


@dataclass(frozen=True, slots=True)
class RunResult:
    """A result by name: a next state by the name of its state, so that a file of it goes on."""

    name: str
    what: str
    tensor: Tensor


@dataclass(frozen=True, slots=True)
class Figures:
    """A result in figures, of its real numbers; ``bad`` are NaN and infinite, left out else."""

    name: str
    what: str
    type: str
    least: float | None
    largest: float | None
    mean: float | None
    rms: float | None
    zeros: float
    bad: int


def results(program: Program, seen: Seen, patterns: Sequence[str]) -> list[RunResult]:
    """Outputs, values that ``patterns`` name, and the next state; UsageError for an odd pattern."""
    made = [RunResult(v.name, OUTPUT, seen.values[v]) for v in program.outputs]
    made += [RunResult(name, INSIDE, tensor) for name, tensor in _picked(program, seen, patterns)]
    made += [RunResult(s.name, NEXT, seen.values[v]) for s, v in program.next]
    return list({r.name: r for r in reversed(made)}.values())[::-1]


def _picked(program: Program, seen: Seen, patterns: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
    known = [v for _, op in program.ops() for v in op.results]
    for pattern in patterns:
        found = [v for v in known if v.name == pattern or fnmatchcase(v.name, pattern)]
        if not found:
            names = [v.name for v in known]
            raise UsageError(f"--value: no value is called {pattern!r}; {closest(pattern, names)}")
        shown = [v for v in found if v in seen.values]
        if not shown:
            raise UsageError(
                f"--value {pattern!r}: what fused kernels hand on in registers is not seen; run "
                "with --target reference"
            )
        yield from ((v.name, seen.values[v]) for v in shown)


def figures(result: RunResult) -> Figures:
    """The figures of a result."""
    real = np.asarray(result.tensor.real(), np.float64)
    good = real[np.isfinite(real)]
    least = largest = mean = rms = None
    if good.size:
        least, largest, mean = float(good.min()), float(good.max()), float(good.mean())
        rms = float(np.sqrt((good**2).mean()))
    zeros = float((real == 0).mean()) if real.size else 0.0
    head = result.name, result.what, str(result.tensor.type)
    return Figures(*head, least, largest, mean, rms, zeros, int(real.size - good.size))


def results_table(made: Sequence[RunResult]) -> Table:
    """A row for each result, outputs first; a column for NaN and infinities where there are any."""
    rows = [figures(result) for result in made]
    heads = (*FIGURES, BAD) if any(row.bad for row in rows) else FIGURES
    grid = table("", *heads, right=heads[1:])
    grid.title = None
    for what, some in groupby(rows, lambda row: row.what):
        grid.add_row(Text(f"{what}:", "italic"))
        for row in some:
            numbers = (row.least, row.largest, row.mean, row.rms)
            head = f"{row.name} : {row.type}"
            words = [head, *("-" if x is None else f"{x:.3g}" for x in numbers)]
            bad = [str(row.bad or "")] if BAD in heads else []
            grid.add_row(*words, f"{100 * row.zeros:.0f}%", *bad)
    return grid


def results_dict(made: Sequence[RunResult]) -> list[Mapping[str, object]]:
    """The figures as plain data."""
    return [asdict(figures(result)) for result in made]


def write_results(path: Path, made: Sequence[RunResult]) -> None:
    """All results by name: integers and floats as they are, codes as the f32 that they stand for.

    A file of them is one that ``--state`` reads, so that a second run goes on where one ended.
    """
    arrays = {r.name: _array(r.tensor) for r in made}
    write_bytes(path, save_tensors(arrays))


def _array(tensor: Tensor) -> np.ndarray:
    f = tensor.type.format
    plain = tensor.data if f.is_index else np.asarray(tensor.dequantized(), np.float32)
    return np.ascontiguousarray(plain).reshape(tensor.type.shape)

"""Two programs that have run, aligned by the names of their values: a comparison."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

from ...compiler.ir import Op, Program, Value
from ...runtime.files import path_of, write_bytes
from ...targets.numbers.tensor import Tensor
from ...targets.seen import Seen
from .distance import Gap, distance
from .rows import END, ComparisonRows, Line, Parting, ValueRow, Where
from .tables import as_text


@dataclass(frozen=True, slots=True)
class Comparison(ComparisonRows):
    """What ``compare`` gives; prints as a table, of 80 columns. ``programs`` are those that ran."""

    programs: tuple[Program, Program] = field(repr=False, compare=False)

    def __str__(self) -> str:
        """The table."""
        return as_text(self)

    @overload
    def html(self) -> str: ...
    @overload
    def html(self, path: str | Path) -> None: ...
    def html(self, path: str | Path | None = None) -> str | None:
        """The page as one HTML file that needs nothing else: its text, or written to ``path``.

        It holds no weights and no batches. FileError where ``path`` cannot be written.
        """
        from .page import comparison_page

        place = None if path is None else path_of(path)
        text = comparison_page(self, *self.programs)
        if place is None:
            return text
        write_bytes(place, text.encode())
        return None


@dataclass(frozen=True, slots=True)
class Ran:
    """A side that has run: what it is, the program, and the values that could be seen."""

    about: str
    program: Program
    seen: Seen


@dataclass(frozen=True, slots=True)
class _Defined:
    """A value of one side: what it is, the op that made it, and its region."""

    value: Value
    op: Op | None
    region: str


def compare_ran(a: Ran, b: Ran, tolerance: float) -> Comparison:
    """The rows of two sides, aligned by the names of their values."""
    ours, theirs = _by_name(a.program), _by_name(b.program)
    pairs = [(n, ours.get(n), theirs.get(n)) for n in _in_order(list(ours), list(theirs))]
    rows = [_row(name, x, y, a.seen, b.seen) for name, x, y in pairs]
    first = next((row for row in rows if row.parts(tolerance)), None)
    parting = None
    if first is not None:
        lines = _line(ours.get(first.name), a.seen), _line(theirs.get(first.name), b.seen)
        parting = Parting(first, *lines)
    return Comparison(a.about, b.about, tolerance, tuple(rows), parting, (a.program, b.program))


def _by_name(program: Program) -> dict[str, _Defined]:
    """All values in order; what ``next`` binds and outputs also by what they are to the outside.

    So that ends are compared where a pass made them of values of another name.
    """
    found = {v.name: _Defined(v, None, "input") for v in program.inputs}
    found |= {v.name: _Defined(v, None, "state") for v in program.state}
    for region, op in program.ops():
        found |= {v.name: _Defined(v, op, region.name) for v in op.results}
    for i, v in enumerate(program.outputs):
        found[f"output {i}"] = _Defined(v, found[v.name].op, END)
    found |= {f"next {s.name}": _Defined(v, found[v.name].op, END) for s, v in program.next}
    return found


def _in_order(a: Iterable[str], b: Iterable[str]) -> list[str]:
    """The names of both: in A's order, and what only B has ahead of the next that both have."""
    ours = dict.fromkeys(a)
    ahead: dict[str, list[str]] = {}
    waiting: list[str] = []
    for name in b:
        if name in ours:
            ahead[name] = waiting
            waiting = []
        else:
            waiting.append(name)
    return [*(n for name in ours for n in (*ahead.get(name, ()), name)), *waiting]


def _row(name: str, x: _Defined | None, y: _Defined | None, a: Seen, b: Seen) -> ValueRow:
    made = x or y
    assert made is not None
    type_a, type_b = (str(m.value.type) if m else "" for m in (x, y))
    op = made.op
    again = made.region == END and (x is None or y is None or x.value.name == y.value.name)
    where, apart = Where.ONLY_A if x else Where.ONLY_B, None
    if x and y:
        where, apart = _both(a.values.get(x.value), b.values.get(y.value), x.value, y.value)
    layer, kind = (op.origin, op.kind) if op else ("", "")
    return ValueRow(name, made.region, layer, kind, type_a, type_b, where, apart, again)


def _both(a: Tensor | None, b: Tensor | None, x: Value, y: Value) -> tuple[Where, Gap | None]:
    if x.type.shape != y.type.shape:
        return Where.SHAPES, None
    if a is None or b is None:
        return Where.HIDDEN, None
    return Where.BOTH, distance(a, b)


def _line(made: _Defined | None, seen: Seen) -> Line:
    if made is None or made.op is None:
        return Line("", "", ())
    op = made.op
    return Line(str(op), seen.kernels.get(made.value, ""), tuple(v.name for v in op.inputs))

"""The launches of a bundle: a range of blocks for each member."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, count
from typing import Protocol

from tvm import tirx as tir
from tvm.tirx import stmt as st

from ..tir.expr import Expr, i32
from .code import Body, DeviceCode, KernelParameter, Launch, Maker, parameter, threads_function

# Of small kernels none fills a multiprocessor; 128 registers a thread are enough for all.
RESIDENT = 2

Pointed = tuple[str, int]


class Bundled(Protocol):
    """What has launches that may be parts of others."""

    def build_by(self, make: Maker[None]) -> list[None]:
        """Its launches in order, each from ``make``."""


def build(members: Sequence[tuple[Bundled, tuple[int, ...]]]) -> list[Launch]:
    """As many launches as the member with most has; each with the numbers of its parameters."""
    rounds: list[_Round] = []
    shapes: dict[int, Pointed] = {}
    for member, wiring in members:
        turn = count()

        def make(
            parameters: Sequence[Pointed],
            threads: int,
            body: Body,
            wiring: tuple[int, ...] = wiring,
            turn: count[int] = turn,
        ) -> None:
            if (number := next(turn)) == len(rounds):
                rounds.append(_Round())
            given = [*zip(wiring, parameters, strict=True)]
            shapes.update(given)
            rounds[number].add(given, threads, body)

        member.build_by(make)
    return [each.launch(shapes) for each in rounds]


Key = tuple[str, int]
"""The type of a shared array, and which one of this type it is."""


@dataclass(eq=False, slots=True)
class _Arrays:
    """See ``SharedArrays``: ``views`` of arrays that other parts use at other times."""

    views: dict[Key, Expr] = field(default_factory=dict)

    def take(self, dtype: str, size: int) -> Expr:
        """See ``SharedArrays``."""
        key = dtype, sum(taken == dtype for taken, _ in self.views)
        self.views[key] = _shared(key, size)
        return self.views[key]


def _shared(key: Key, size: int) -> Expr:
    dtype, number = key
    return tir.decl_buffer((size,), dtype, f"{dtype}_{number}", scope="shared", layout=None)


@dataclass(frozen=True, eq=False, slots=True)
class _Part:
    """One member's statements, in a grid of its own."""

    code: DeviceCode
    body: st.Stmt
    views: Mapping[Key, Expr]


@dataclass(eq=False, slots=True)
class _Round:
    """A launch: the same threads and parameters for all parts."""

    parts: list[_Part] = field(default_factory=list)
    given: dict[int, KernelParameter] = field(default_factory=dict)

    def parameter(self, number: int, shape: Pointed) -> KernelParameter:
        """The one with that number."""
        if number not in self.given:
            self.given[number] = parameter(number, *shape)
        return self.given[number]

    def add(self, given: Sequence[tuple[int, Pointed]], threads: int, body: Body) -> None:
        """See ``Maker``."""
        arrays = _Arrays()
        code = DeviceCode(threads, arrays)
        body(code, [self.parameter(*item).buffer for item in given])
        self.parts.append(_Part(code, code.done(), arrays.views))

    def launch(self, shapes: Mapping[int, Pointed]) -> Launch:
        """All parts, one behind the other."""
        thread, block = (tir.Var(name, "int32") for name in ("thread", "block"))
        whole = self._whole()
        bodies = [_part(part, thread, whole) for part in self.parts]
        ends = [*accumulate(part.code.grid for part in self.parts)]
        allocated = [st.AllocBuffer(array) for array in whole.values()]
        chosen = _chosen(block, [*zip(self.parts, bodies, strict=True)], ends)
        threads = max(part.code.threads for part in self.parts)
        made = threads_function(
            [self.parameter(number, shapes[number]) for number in sorted(shapes)],
            _sequence([*allocated, chosen]),
            (thread, threads),
            (block, ends[-1]),
        )
        texts = {text for part in self.parts for text in part.code.texts}
        return Launch(made, ends[-1], threads, tuple(sorted(texts)), resident=RESIDENT)

    def _whole(self) -> dict[Key, Expr]:
        """Shared arrays, each as large as the part that uses most of it asks for."""
        sizes: dict[Key, int] = {}
        for key, view in (item for part in self.parts for item in part.views.items()):
            sizes[key] = max(sizes.get(key, 0), int(view.shape[0]))
        return {key: _shared(key, size) for key, size in sizes.items()}


def _part(part: _Part, thread: Expr, whole: Mapping[Key, Expr]) -> st.Stmt:
    """A member's statements with what they name."""
    views = [st.DeclBuffer(view, data=whole[key].data) for key, view in part.views.items()]
    return _sequence([st.Bind(part.code.thread, thread), *views, part.body])


def _chosen(block: Expr, parts: Sequence[tuple[_Part, st.Stmt]], ends: Sequence[int]) -> st.Stmt:
    """The part that a block belongs to, by halves."""
    if len(parts) == 1:
        ((part, body),) = parts
        own = st.Bind(part.code.block, block - i32(ends[0] - part.code.grid))
        return _sequence([own, body])
    half = len(parts) // 2
    low = _chosen(block, parts[:half], ends[:half])
    high = _chosen(block, parts[half:], ends[half:])
    return st.IfThenElse(block < i32(ends[half - 1]), low, high)


def _sequence(statements: Sequence[st.Stmt]) -> st.Stmt:
    """One behind the other; TVM takes no sequence in another."""
    flat: list[st.Stmt] = []
    for statement in statements:
        flat += statement.seq if isinstance(statement, st.SeqStmt) else [statement]
    return flat[0] if len(flat) == 1 else st.SeqStmt(flat)

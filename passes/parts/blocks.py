"""Products that read their operands in blocks: what each asks for, and codes that are made once.

A sum runs along one dimension of each operand, so that a tensor which several products read is
quantized for each of these, from its own numbers. Codes of data for backward are made in forward:
what is kept is codes then. Those of weights are made where they are read, and late ones, which are
made of codes that are kept anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from ...compiler.formats import F32, Format
from ...compiler.ir import Op, Program, Region, Value, attrs, unused
from ...compiler.ir.ops import GEMMS, OPS
from ...compiler.types import BlockScale, Shape, TensorType
from .data import roles_of
from .names import part

Asked = TypeVar("Asked")
Ask = Callable[[Op, int], Asked]
Quantize = Callable[[Op, int, Asked], tuple[list[Op], Value]]


def sum_dims(op: Op) -> tuple[int, int]:
    """The dimension of both operands along which a product sums: the first one it has not."""
    definition = OPS[op.kind]
    (made,) = definition.results[0].patterns
    dims = (definition.operand(i).patterns[0] for i in range(2))
    first, second = (next(d for d, name in enumerate(p) if name not in made) for p in dims)
    return first, second


class BlockOperands(Generic[Asked]):
    """The codes of a program's operands, each by what a product asks of it.

    ``ask`` says what a product wants of an operand, ``quantize`` makes the ops and the codes;
    ``kinds`` are the products that read codes, ``late`` what is made where it is read.
    """

    def __init__(
        self,
        program: Program,
        chosen: frozenset[str],
        ask: Ask[Asked],
        quantize: Quantize[Asked],
        kinds: frozenset[str] = GEMMS,
        late: Callable[[Asked], bool] = lambda _: False,
    ) -> None:
        self.chosen, self.ask, self.quantize, self.kinds = chosen, ask, quantize, kinds
        self.late = late
        self.weights = frozenset(program.state)
        self.codes: dict[tuple[Value, Asked], Value] = {}
        self.asked: dict[Value, list[Asked]] = {}
        for _, op in program.ops():
            if self.is_chosen(op):
                for i, v in enumerate(op.inputs):
                    self.asked.setdefault(v, []).append(ask(op, i))

    def is_chosen(self, op: Op) -> bool:
        """Whether an op is a product of a chosen layer."""
        return op.kind in self.kinds and op.origin in self.chosen

    def rule(self, region: Region, op: Op) -> tuple[Op, ...] | None:
        """A product that reads codes, behind what makes those that are new."""
        if not self.is_chosen(op):
            return None
        ahead = [o for i in range(2) for o in self._ahead(op, i)]
        read = ((v, self.ask(op, i)) for i, v in enumerate(op.inputs))
        return (*ahead, replace(op, inputs=tuple(self.codes.get(key, key[0]) for key in read)))

    def _ahead(self, op: Op, i: int) -> list[Op]:
        v, kind = op.inputs[i], self.ask(op, i)
        if not v.type.format.is_carrier or (v, kind) in self.codes:
            return []
        ops: list[Op] = []
        alone = v in self.weights or self.late(kind)
        early = dict.fromkeys(k for k in self.asked[v] if not self.late(k))
        for wanted in [kind] if alone else early:
            made, self.codes[v, wanted] = self.quantize(op, i, wanted)
            ops += made
        return ops


def along(x: Value, size: int, *dims: int) -> Shape:
    """The block of ``x`` that is so many numbers long along some dimensions."""
    return tuple(size if d in dims else 1 for d in range(len(x.type.shape)))


def name_of(op: Op, i: int, ending: str, taken: set[str]) -> str:
    """A new name for what is made of operand ``i``: ``fc1.x.mx1``."""
    return unused(part(op.origin, f"{roles_of(op)[i]}.{ending}"), taken)


@dataclass(frozen=True, slots=True)
class BlockCodes:
    """Makes codes of operands: new names, and a salt for each stochastic rounding."""

    taken: set[str]
    salts: Iterator[int]

    def of(
        self,
        op: Op,
        i: int,
        ending: str,
        made: tuple[Format, BlockScale],
        scaling: Op,
        drawn: tuple[Value, ...],
    ) -> tuple[list[Op], Value]:
        """What ``scaling``, still without a result, makes of its first operand, rounded to codes:
        to the nearest, or stochastically by ``drawn``."""
        shape, (f, scale) = scaling.inputs[0].type.shape, made
        scaled, code = (
            Value(name_of(op, i, name, self.taken), TensorType(shape, stored, scale))
            for name, stored in ((f"{ending}.scaled", F32), (ending, f))
        )
        rounded = Op("cast", (scaled,), (code,), origin=op.origin)
        if drawn:
            how = attrs(salt=next(self.salts))
            rounded = Op("round_stochastic", (scaled, *drawn), (code,), how, op.origin)
        return [replace(scaling, results=(scaled,)), rounded], code

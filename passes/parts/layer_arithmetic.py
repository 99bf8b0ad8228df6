"""What stays f32 inside of layers that take functions, whatever the format between layers."""

from __future__ import annotations

from collections.abc import Iterator

from ...compiler.ir import Op, Program, Value
from ...compiler.ir.ops import Trait, has


def inner_values(program: Program) -> set[str]:
    """Names of values inside the arithmetic of layers that take functions.

    Of ops that follow each other in one layer: what only they read, and statistics.
    """
    return _Arithmetic(program).inner()


class _Arithmetic:
    """The arithmetic of layers that take functions; ``ops`` make what may stay inside of it."""

    def __init__(self, program: Program) -> None:
        self.readers = program.readers()
        self.places = {op: (region.name, op.origin) for region, op in program.ops()}
        layers = {op.origin for op in self.places if has(op, Trait.FUNCTION)}
        ends = {*program.outputs, *(v for _, v in program.next)}
        self.ops = {
            op
            for op in self.places
            if has(op, Trait.ARITHMETIC) and op.origin in layers and op.result not in ends
        }

    def inner(self) -> set[str]:
        """Names of what no op outside reads, and of statistics."""
        statistics = self.statistics()
        return {
            op.result.name
            for op in self.ops
            if op.result in statistics or all(self.readers_inside(op))
        }

    def statistics(self) -> set[Value]:
        """Reductions that the arithmetic itself reads, and what is computed from those alone."""
        found: set[Value] = set()
        for op in self.places:
            if op not in self.ops and op.kind != "view":
                continue
            reduces = has(op, Trait.REDUCTION) and any(self.readers_inside(op))
            if reduces or (op.inputs and found.issuperset(op.inputs)):
                found.add(op.result)
        return found

    def readers_inside(self, op: Op) -> list[bool]:
        """Of each reader, whether it is arithmetic of the same layer and region."""
        return [
            has(reader, Trait.ARITHMETIC) and self.places[reader] == self.places[op]
            for reader in self.readers_of(op.result)
        ]

    def readers_of(self, value: Value) -> Iterator[Op]:
        """The ops that read a value, those that read a view of it among them."""
        for op in self.readers.get(value, ()):
            if op.kind == "view":
                yield from self.readers_of(op.result)
            else:
                yield op

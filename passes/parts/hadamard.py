"""Operands behind a Hadamard transform, all by one vector of signs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from ...compiler.formats import BF16, F32, Format
from ...compiler.ir import Op, Value, attrs, unused
from ...compiler.types import Shape, TensorType
from .blocks import name_of

Hadamard = Literal["none", "fixed", "random"]
# Transformer Engine's own signs; longer transforms repeat them.
FIXED = (1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1)


class Turns:
    """Transforms of ``size`` numbers, which make numbers of ``made``.

    ``signs`` are fixed, or drawn anew in each step.
    """

    def __init__(
        self,
        signs: Hadamard,
        size: int,
        taken: set[str],
        drawn: tuple[Value, ...],
        salts: Iterator[int],
        made: Format = BF16,
    ) -> None:
        self.fixed, self.size, self.taken = signs == "fixed", size, taken
        self.drawn, self.salts, self.made = drawn, salts, made
        self.signs: Value | None = None

    def turned(
        self, op: Op, i: int, dim: int, ending: str, of: Value | None = None
    ) -> tuple[list[Op], Value]:
        """An operand, or what is made ``of`` it, behind transforms along ``dim``, rounded once."""
        x, size = of or op.inputs[i], self.size
        ops = [] if self.signs else self._make_signs(op.origin)
        assert self.signs is not None
        whole: Shape = tuple(
            -(-n // size) * size if d == dim else n for d, n in enumerate(x.type.shape)
        )
        name = name_of(op, i, f"{ending}.turned", self.taken)
        made = Value(name, TensorType(whole, self.made))
        turn = Op("hadamard", (x, self.signs), (made,), attrs(dim=dim), op.origin)
        return [*ops, turn], made

    def _make_signs(self, layer: str) -> list[Op]:
        signs = TensorType((self.size,), F32)
        self.signs = Value(unused("signs", self.taken), signs)
        if self.fixed:
            numbers = attrs(numbers=tuple(float(FIXED[i % len(FIXED)]) for i in range(self.size)))
            return [Op("table", (), (self.signs,), numbers, layer)]
        u, low, twice = (
            Value(unused(f"signs.{name}", self.taken), signs) for name in ("u", "low", "twice")
        )
        return [
            Op("random_uniform", self.drawn, (u,), attrs(salt=next(self.salts)), layer),
            Op("compare_to", (u,), (low,), attrs(relation="lt", value=0.5), layer),
            Op("scale", (low,), (twice,), attrs(factor=2.0), layer),
            Op("shift", (twice,), (self.signs,), attrs(by=-1.0), layer),
        ]

"""What decides a kernel that is no fused group; a plan is made of it without TVM."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ....compiler.ir import Attr, Op, Value
from ....compiler.types import TensorType
from ...plan.kernel import Identity
from ...plan.layout import Layout, Order


@dataclass(frozen=True, eq=False)
class Single(Identity):
    """One op without names: types and orders of operands and results."""

    kind: str
    attrs: tuple[tuple[str, Attr], ...]
    types: tuple[TensorType, ...]
    orders: tuple[Order, ...]
    operands: int
    lanes: int

    @cached_property
    def inputs(self) -> tuple[Layout, ...]:
        """Layouts of the operands."""
        return self.layouts[: self.operands]

    @cached_property
    def outputs(self) -> tuple[Layout, ...]:
        """Layouts of the results."""
        return self.layouts[self.operands :]

    @cached_property
    def layouts(self) -> tuple[Layout, ...]:
        """Layouts of operands and results."""
        return tuple(map(Layout, self.types, self.orders))

    @cached_property
    def op(self) -> Op:
        """The op again, for its typed attributes."""
        values = tuple(Value(f"v{i}", t) for i, t in enumerate(self.types))
        results = values[self.operands :]
        return Op(self.kind, values[: self.operands], results, dict(self.attrs))

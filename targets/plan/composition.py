"""A list of ops that a target puts in the place of one."""

from __future__ import annotations

from ...compiler.formats import F32, Format
from ...compiler.ir import Attr, Op, Value, attrs, unused
from ...compiler.types import Scale, Shape, TensorType


class Composition:
    """The ops that take the place of one, in order; values are named after its first result."""

    def __init__(self, op: Op, taken: set[str]) -> None:
        self.op, self.taken, self.made = op, taken, list[Op]()

    def __call__(
        self,
        kind: str,
        part: str,
        *x: Value,
        shape: Shape,
        f: Format = F32,
        scaled: Scale = Scale.NONE,
        **more: Attr,
    ) -> Value:
        name = f"{self.op.results[0].name}.{part}"
        made = Value(unused(name, self.taken), TensorType(shape, f, scaled))
        return self.into(kind, made, *x, **more)

    def into(self, kind: str, made: Value, *x: Value, **more: Attr) -> Value:
        """Append an op that makes ``made``."""
        self.made.append(Op(kind, x, (made,), attrs(**more), self.op.origin))
        return made

    def wide(self, part: str, number: Value, shape: Shape) -> Value:
        """A number at every place."""
        dims, f = tuple(range(len(shape))), number.type.format
        return self("broadcast", part, number, shape=shape, f=f, dims=dims)

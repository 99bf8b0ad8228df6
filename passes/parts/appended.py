"""Ops that a pass puts one behind the other, with names of their own."""

from __future__ import annotations

from ...compiler.formats import F32, Format
from ...compiler.ir import Attr, Op, Value, attrs, unused
from ...compiler.types import Shape, TensorType


class Appended:
    """``ops`` so far; a call appends one with a single result."""

    def __init__(self, taken: set[str], origin: str) -> None:
        self.taken, self.origin, self.ops = taken, origin, list[Op]()

    def __call__(
        self, kind: str, name: str, shape: Shape, *x: Value, f: Format = F32, **more: Attr
    ) -> Value:
        made = self.new(name, shape, f)
        self.ops.append(Op(kind, x, (made,), attrs(**more), self.origin))
        return made

    def new(self, name: str, shape: Shape, f: Format = F32) -> Value:
        """A value that is still to be made, or a state."""
        return Value(unused(name, self.taken), TensorType(shape, f))

    def repeated(self, name: str, x: Value, shape: Shape) -> Value:
        """Numbers repeated along all dimensions where they are single and others are not."""
        pairs = enumerate(zip(x.type.shape, shape, strict=True))
        dims = tuple(d for d, (few, many) in pairs if few < many)
        return self("broadcast", name, shape, x, dims=dims) if dims else x

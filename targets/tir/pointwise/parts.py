"""Codes of packed values by whole bytes: a vector of channels for each part of the bytes.

The parts of a byte are channels ``cell`` apart, so vectors at ``parts`` places of a row make whole
bytes. Values with fewer codes a byte take several vectors of bytes for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..expr import Expr, Vectors, i32, load, ramp, typed
from .point import Frame, Point


@dataclass(frozen=True, eq=False, slots=True)
class Parts:
    """``lanes`` bytes from ``j`` of a row on, of the value with most codes a byte, ``parts``.

    Bytes are ``loaded`` once for all parts that share them.
    """

    frame: Frame
    lanes: int
    parts: int
    row: Expr
    j: Expr
    loaded: dict[tuple[int, int], Expr] = field(default_factory=dict)

    @property
    def cell(self) -> int:
        """Bytes of a row of that value."""
        return self.frame.space.channels // self.parts

    def codes(self, q: int) -> Callable[[int], Expr]:
        """The codes of a packed input at part ``q``."""

        def of(value: int) -> Expr:
            layout, v = self.frame.spec.layout(value), Vectors(self.frame.code, self.lanes)
            part, m = divmod(q, self.parts // layout.parts)
            if (value, m) not in self.loaded:
                at = self.row * i32(layout.cell) + self.j + i32(m * self.cell)
                raw = load(self.frame.data[value], ramp(at, v.lanes))
                self.loaded[value, m] = self.frame.code.let(raw, typed("uint8", v.lanes))
            bits = layout.type.format.storage_bits
            byte = v.cast(self.loaded[value, m], "uint32")
            return (byte >> v.u(part * bits)) & v.u((1 << bits) - 1)

        return of

    def join(self, value: int, points: Sequence[Point]) -> None:
        """Store the bytes of a packed result, from the codes of all parts."""
        layout, v = self.frame.spec.layout(value), points[0].v
        step = self.parts // layout.parts
        for m in range(step):
            byte = points[m].code(value)
            for i in range(1, layout.parts):
                shift = v.u(i * layout.type.format.storage_bits)
                byte = byte | (points[i * step + m].code(value) << shift)
            at = self.row * i32(layout.cell) + self.j + i32(m * self.cell)
            v.code.store(self.frame.data[value], ramp(at, v.lanes), v.cast(byte, "uint8"))

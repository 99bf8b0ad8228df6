"""Largest magnitudes of what is quantized; those of data are kept, as prediction reads the last."""

from __future__ import annotations

from dataclasses import replace

from ...compiler.ir import Op, Program, Value, unused
from ...compiler.types import SCALAR
from .blocks import name_of


class KeptLargest:
    """States such as ``LAYER.x.nv1.max``, 0 before any training step."""

    def __init__(self, program: Program, taken: set[str]) -> None:
        self.taken, self.training = taken, bool(program.region("backward").ops)
        self.state: list[Value] = []
        self.pairs: list[tuple[Value, Value]] = []

    def of(self, op: Op, i: int, x: Value, ending: str, kept: bool) -> tuple[list[Op], Value]:
        """The largest of ``x``, an operand of ``op`` or what is made of it.

        Where it is ``kept`` prediction takes that of the last training step.
        """
        m = Value(name_of(op, i, f"{ending}.max", self.taken), SCALAR)
        if not kept:
            return [Op("amax", (x,), (m,), origin=op.origin)], m
        self.state.append(m)
        if not self.training:
            return [], m
        now = Value(unused(f"{m.name}.now", self.taken), SCALAR)
        self.pairs.append((m, now))
        return [Op("amax", (x,), (now,), origin=op.origin)], now

    def added(self, program: Program) -> Program:
        """``program`` with these states."""
        out = program.with_state(dict.fromkeys(self.state, 0.0))
        return replace(out, next=(*out.next, *self.pairs))

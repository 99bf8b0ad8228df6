"""The largest magnitude of activations: that of the batch in training, a running one in evaluation.

    running' = 0.9 running + 0.1 max |x|        the first step starts it: max |x|

What a network makes of a sample must not depend on the others beside it. Before the first step the
running magnitude is 8, where PACT begins too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...compiler.ir import STEP, Op, Program, Value, attrs, unused
from ...compiler.ir.analysis import is_training
from ...compiler.types import SCALAR
from .names import part

MOMENTUM, START = 0.1, 8.0


@dataclass(frozen=True, slots=True)
class _Magnitude:
    """The running magnitude of a layer's data, and that of this step."""

    layer: str
    kept: Value
    now: Value


class LargestMagnitudes:
    """What there is to know about the activations of one program; ``taken`` are names in use."""

    def __init__(self, program: Program, taken: set[str]) -> None:
        self.taken, self.training = taken, is_training(program)
        updates = any(r.name == "update" for r in program.regions)
        counters = [v for v in program.state if v.name == STEP and updates]
        self.steps = next(iter(counters), None)
        self.running: list[_Magnitude] = []
        self.first = Value(unused("largest.first", taken), SCALAR)

    def of(self, x: Value, layer: str, name: str) -> tuple[list[Op], Value | None]:
        """The ops and the magnitude for ``x``; None where a program trains without an update."""
        if self.training and self.steps is None:
            return [], None
        kept = self._new(layer, f"{name}.largest")
        if not self.training:
            self.running.append(_Magnitude(layer, kept, kept))
            return [], kept
        now = self._new(layer, f"{name}.amax")
        ops = [Op("amax", (x,), (now,), origin=layer)]
        if not self.running:  # ahead of the update, where steps are those of the optimizer
            assert self.steps is not None
            ops.append(Op("turn", (self.steps,), (self.first,), attrs(of=0, at=0), layer))
        self.running.append(_Magnitude(layer, kept, now))
        return ops, now

    def carried(self, program: Program) -> Program:
        """``program`` with the running magnitudes as state and, in training, their next values."""
        out = program.with_state({it.kept: START for it in self.running})
        if not self.running or self.steps is None:
            return out
        blend = attrs(momentum=MOMENTUM, correction=1.0)
        for it in self.running:
            mean, after = (self._new(it.layer, f"largest.{end}") for end in ("mean", "next"))
            ops = (
                Op("running_stats", (it.kept, it.now), (mean,), blend, it.layer),
                Op("where", (self.first, it.now, mean), (after,), origin=it.layer),
            )
            out = replace(out.append("update", ops), next=(*out.next, (it.kept, after)))
        return out

    def _new(self, layer: str, name: str) -> Value:
        return Value(unused(part(layer, name), self.taken), SCALAR)

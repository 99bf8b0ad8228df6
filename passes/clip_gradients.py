"""Gradient clipping, by value and by the norm of all gradients together.

Pascanu, Mikolov and Bengio, "On the Difficulty of Training Recurrent Neural Networks" (ICML 2013),
section 3.2, in the form of torch.nn.utils.

    by value    g = min(max(g, -value), value)
    by norm     g = g * min(1, norm / (|all g| + 1e-6))
"""

from __future__ import annotations

from ..compiler.ir import Attr, Op, Program, Value, attrs, unused
from ..compiler.types import SCALAR, TensorType
from .parts.optimized import gradient, updates, widened, with_gradients
from .parts.options import require
from .parts.order import placed

SMALL = 1e-6


@placed(after=("loss_scale", "accumulate_gradients"))
def clip_gradients(program: Program, *, norm: float = 0.0, value: float = 0.0) -> Program:
    """Bound what the optimizer reads; 0 leaves a bound out. First by value, then by norm."""
    require(norm >= 0 and value >= 0, f"norm={norm}, value={value} of clip_gradients are below 0")
    trained = updates(program)
    if not trained or not (norm or value):
        return program.done("clip_gradients")
    work = _Clipping(program.names())
    clipped = {op: gradient(op) for op in trained}
    if value:
        for op, g in clipped.items():
            below = work.op("clamp_max", op, g.type, "at_most", g, high=value)
            clipped[op] = work.op("clamp_min", op, g.type, "clipped", below, low=-value)
    if norm:
        factor = work.factor(clipped, norm)
        for op, g in clipped.items():
            wide, widening = widened(factor, g, op.origin, work.taken)
            work.ops += widening
            clipped[op] = work.op("mul", op, g.type, "in_norm", g, wide)
    changed = {op.result: g for op, g in clipped.items()}
    return with_gradients(program, changed, work.ops).done("clip_gradients")


class _Clipping:
    """The ops made so far."""

    def __init__(self, taken: set[str]) -> None:
        self.taken, self.ops = taken, list[Op]()

    def op(self, kind: str, of: Op, type_: TensorType, part: str, *x: Value, **more: Attr) -> Value:
        """Append an op for the gradient of one update."""
        made = Value(unused(f"{of.inputs[0].name}.grad.{part}", self.taken), type_)
        self.ops.append(Op(kind, x, (made,), attrs(**more), of.origin))
        return made

    def factor(self, gradients: dict[Op, Value], norm: float) -> Value:
        """What all gradients are multiplied by."""
        total: Value | None = None
        for op, g in gradients.items():
            square = self.op("mul", op, g.type, "square", g, g)
            dims = tuple(range(len(g.type.shape)))
            if dims:
                square = self.op("sum", op, SCALAR, "squares", square, dims=dims, keepdim=False)
            total = square if total is None else self.all("add", "squares", total, square)
        assert total is not None
        length = self.all("shift", "length", self.all("sqrt", "norm", total), by=SMALL)
        inverse = self.all("power", "inverse", length, exponent=-1.0)
        ratio = self.all("scale", "ratio", inverse, factor=norm)
        return self.all("clamp_max", "factor", ratio, high=1.0)

    def all(self, kind: str, part: str, *x: Value, **more: Attr) -> Value:
        """Append an op on single numbers."""
        made = Value(unused(f"clip.{part}", self.taken), SCALAR)
        self.ops.append(Op(kind, x, (made,), attrs(**more), "optimizer"))
        return made

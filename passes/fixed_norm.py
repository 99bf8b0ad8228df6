"""Fixed norm: batch normalization on grids of 8 and 16 bits.

"Training High-Performance and Large-Scale Deep Neural Networks with Full 8-bit Integers" (Yang et
al., Neural Networks 125, 2020; WAGEUBN), Q_BN; details follow the authors' published code.
Q(x, k) = rint(x 2^(k-1)) / 2^(k-1).

    y = Q(gamma, 8) n + Q(beta, 8)     n = Q((x - Q(mean, 16)) / d, 8)     d = Q(sd, 16) + 2^-15

sd is the root of the variance. Gradients pass the roundings: dgamma = sum of dy n, and dx is that
of batch normalization with these gamma, mean and d. Running statistics are those of the unrounded
mean and variance. All numbers stay in f32, which holds these grids exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..compiler.ir import Attr, Op, Program, Region, Value, attrs, unused
from .parts.names import part

STATISTICS_BITS, NUMBER_BITS = 16, 8
EPS = 2.0**-15


@dataclass(frozen=True, eq=False, slots=True)
class RoundedNorm:
    """What the backward of one normalization reads."""

    normal: Value
    mean: Value
    square: Value
    gamma: Value
    zero: Value
    one: Value


def fixed_norm(program: Program) -> Program:
    """Round statistics, numbers and parameters of every batch normalization."""
    work = _Norms(program.names())
    return program.rewrite(work.rule, by="fixed_norm")


class _Norms:
    """The rule of the pass, with the normalizations of forward by the name of what they read."""

    def __init__(self, taken: set[str]) -> None:
        self.taken = taken
        self.done: dict[tuple[str, str], RoundedNorm] = {}
        self.ops: list[Op] = []
        self.layer = ""

    def rule(self, region: Region, op: Op) -> tuple[Op, ...] | None:
        self.ops, self.layer = [], op.origin
        if op.kind == "batch_norm":
            return self.forward(op)
        if op.kind == "batch_norm_grad_stats":
            g, x, mean, _ = op.inputs
            if it := self.done.get((x.name, mean.name)):
                return self.swapped(op, (g, it.normal, it.zero, it.one))
        if op.kind == "batch_norm_input_grad":
            g, x, mean, _, _, dgamma, dbeta = op.inputs
            if it := self.done.get((x.name, mean.name)):
                return self.swapped(op, (g, x, it.mean, it.square, it.gamma, dgamma, dbeta))
        if op.kind == "batch_norm_eval_grad":
            g, var, gamma = op.inputs
            return self.swapped(op, (g, self.square(var), self.fixed(gamma, "gamma", NUMBER_BITS)))
        return None

    def forward(self, op: Op) -> tuple[Op, ...]:
        """Normal numbers, then what gamma and beta make of them."""
        x, mean, var, gamma, beta = op.inputs
        middle, square = self.fixed(mean, "mean", STATISTICS_BITS), self.square(var)
        zero, one = (self.constant(mean, n) for n in (0.0, 1.0))
        plain = self.emit("batch_norm", (x, middle, square, one, zero), "normal.f", x, eps=0.0)
        normal = self.fixed(plain, "normal", NUMBER_BITS)
        wide, low = (
            self.fixed(v, name, NUMBER_BITS) for v, name in ((gamma, "gamma"), (beta, "beta"))
        )
        self.done[x.name, mean.name] = RoundedNorm(normal, middle, square, wide, zero, one)
        return self.swapped(op, (normal, zero, one, wide, low))

    def square(self, var: Value) -> Value:
        """d^2, of which a normalization without eps takes the root again."""
        root = self.emit("sqrt", (var,), "deviation.f", var)
        deviation = self.fixed(root, "deviation", STATISTICS_BITS)
        least = self.emit("shift", (deviation,), "deviation.eps", var, by=EPS)
        return self.emit("mul", (least, least), "deviation.square", var)

    def fixed(self, v: Value, name: str, bits: int) -> Value:
        """On the grid."""
        return self.emit("round_fixed", (v,), f"{name}.fixed", v, bits=bits)

    def constant(self, like: Value, number: float) -> Value:
        """One number a channel."""
        return self.emit("constant", (), "one" if number else "zero", like, value=number)

    def emit(
        self, kind: str, inputs: tuple[Value, ...], name: str, like: Value, **options: Attr
    ) -> Value:
        """Append an op ahead of the one that the rule looks at."""
        made = Value(unused(part(self.layer, name), self.taken), like.type)
        self.ops.append(Op(kind, inputs, (made,), attrs(**options), self.layer))
        return made

    def swapped(self, op: Op, inputs: tuple[Value, ...]) -> tuple[Op, ...]:
        """``op`` on other operands and without eps."""
        return (*self.ops, Op(op.kind, inputs, op.results, attrs(eps=0.0), op.origin))

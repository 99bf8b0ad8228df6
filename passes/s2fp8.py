"""S2FP8: 8-bit floats of numbers whose logarithms are shifted and squeezed to fit.

"Shifted and Squeezed 8-bit Floating Point Format for Low-Precision Training of Deep Neural
Networks" (Cambier et al., ICLR 2020), section 3. For each tensor, over what is not 0:

    mu = mean log2 |x|     m = max log2 |x|     alpha = 15 / (m - mu)     beta = -alpha mu
    q  = sign(x) 2^beta |x|^alpha to fp8.152, nearest even, so that m becomes 2^15
    x' = sign(q) (2^-beta |q|)^(1/alpha)

    tensor                                     alpha and beta
    weights; gradients                         of this step's tensor
    data, results of forward products          the same; prediction takes those of the last step

Every product reads such operands, in all layers, and what it makes passes through the format too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..compiler.formats import FP8_152
from ..compiler.ir import Op, Program, Region, Value, attrs, unused
from ..compiler.ir.ops import (
    BETWEEN_ACTIVATIONS,
    DATA_GRADS,
    GEMMS,
    GRADIENT_PRODUCTS,
    PRODUCTS,
    WEIGHT_GRADS,
)
from ..compiler.types import SCALAR, Scale, TensorType
from .parts.data import roles_of
from .parts.names import part
from .parts.order import Makes, placed
from .parts.select import Attention, layers, quantized


@placed(makes=Makes.CODES)
def s2fp8(
    program: Program,
    *,
    s2fp8_results: Literal["all", "weight_gradients"] = "all",
    s2fp8_degenerate: Literal["center", "identity"] = "center",
    exempt: str = "none",
    attention: Attention = "quantize",
) -> Program:
    """Squeeze the operands of all products, and their results or the weight gradients alone.

    ``s2fp8_degenerate`` says what holds where all numbers have one size: alpha = 1 and beta = -mu,
    or beta = 0. States ``LAYER.x.alpha`` and so on keep constants of forward for prediction; before
    any training step they are 1 and 0.
    """
    out_of_it = frozenset(layers(program)) - quantized(program, exempt, attention)
    work = _Squeeze(program, s2fp8_degenerate)

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        if op.kind not in PRODUCTS or op.origin in out_of_it:
            return None
        ahead: list[Op] = []
        names = roles_of(op) if op.kind in GEMMS else ("a", "b")
        inputs = tuple(
            work.operand(region, op, v, name, ahead)
            for v, name in zip(op.inputs, names, strict=True)
        )
        op = replace(op, inputs=inputs)
        if s2fp8_results == "all" or op.kind in GRADIENT_PRODUCTS - DATA_GRADS:
            return (*ahead, *work.result(region, op))
        return (*ahead, op)

    out = program.rewrite(rule, by="s2fp8").with_state(work.initial)
    return replace(out, next=(*out.next, *work.pairs))


class _Squeeze:
    """What the rule knows: codes made so far, state for prediction, names in use."""

    def __init__(self, program: Program, degenerate: str) -> None:
        self.how, self.taken = attrs(degenerate=degenerate), program.names()
        self.training = bool(program.region("backward").ops)
        self.state = frozenset(program.state)
        self.codes: dict[Value, Value] = {}
        self.plain: dict[Value, Value] = {}
        self.initial: dict[Value, float] = {}
        self.pairs: list[tuple[Value, Value]] = []

    def new(self, layer: str, name: str, type_: TensorType = SCALAR) -> Value:
        """A value of a layer."""
        return Value(unused(part(layer, name), self.taken), type_)

    def operand(self, region: Region, op: Op, v: Value, name: str, ahead: list[Op]) -> Value:
        """The codes of ``v``; for a product of no layer the numbers that they stand for."""
        if not v.type.format.is_carrier:
            return v
        if v not in self.codes:
            ahead += self.squeeze(region, op.origin, v, name or "x")
        if op.kind != "matmul":
            return self.codes[v]
        if v not in self.plain:
            made = self.new(op.origin, f"{name}.plain", v.type)
            ahead.append(Op("dequantize", (self.codes[v],), (made,), origin=op.origin))
            self.plain[v] = made
        return self.plain[v]

    def squeeze(self, region: Region, layer: str, v: Value, name: str) -> list[Op]:
        """Constants and codes of ``v``."""
        ops: list[Op] = []
        kept = region.name == "forward" and v not in self.state
        alpha, beta = (self.new(layer, f"{name}.{end}") for end in ("alpha", "beta"))
        if kept:
            self.initial |= {alpha: 1.0, beta: 0.0}
        if self.training or not kept:
            now = (alpha, beta)
            if kept:
                now = self.new(layer, f"{name}.alpha.now"), self.new(layer, f"{name}.beta.now")
                self.pairs += [(alpha, now[0]), (beta, now[1])]
            ops.append(Op("squeeze_stats", (v,), now, self.how, layer))
            alpha, beta = now
        q = self.new(layer, f"{name}.s2", TensorType(v.type.shape, FP8_152, Scale.SQUEEZED))
        ops.append(Op("squeeze", (v, alpha, beta), (q,), origin=layer))
        self.codes[v] = q
        return ops

    def result(self, region: Region, op: Op) -> tuple[Op, ...]:
        """``op``, and its result through the format and back under the old name."""
        made = op.result
        raw = Value(unused(f"{made.name}.raw", self.taken), made.type)
        operands = "ab" if op.kind in BETWEEN_ACTIVATIONS else "xw"
        name = f"d{operands[op.kind in WEIGHT_GRADS]}" if region.name == "backward" else "y"
        ops = self.squeeze(region, op.origin, raw, name)
        back = Value(made.name, made.type)
        # Whoever multiplies it next reads these codes.
        self.codes[back] = self.codes[raw]
        self.plain[back] = back
        decode = Op("dequantize", (self.codes[raw],), (back,), origin=op.origin)
        return (replace(op, results=(raw,)), *ops, decode)

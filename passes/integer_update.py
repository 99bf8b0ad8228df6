"""Integer update: gradients, rate, momenta and weights on fixed grids.

"Training High-Performance and Large-Scale Deep Neural Networks with Full 8-bit Integers" (Yang et
al., Neural Networks 125, 2020; WAGEUBN), Q_G and the update; details follow the authors' published
code. Q(x, k) = rint(x 2^(k-1)) / 2^(k-1), R = 2^round(log2 max |dw|).

    number                          becomes
    gradient of a weight            n / 2^14, n stochastically g_scale dw / R, |n| < g_scale
    gradient of a vector            Q(dw, 15)
    learning rate                   min(Q(lr, 10), 1 - 2^-9)
    momentum, as it is stored       Q(m, 13)
    weight or vector, as stored     Q(w, 24)

Vectors are biases and the parameters of normalizations. Of exempt layers only the rate is rounded.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..compiler.errors import RecipeError
from ..compiler.formats import F32, INTS
from ..compiler.ir import Op, Program, Region, Value, attrs, unused
from ..compiler.ir.ops import Trait, has
from ..compiler.types import Scale, TensorType
from .parts.draws import seed_and_step, with_seed
from .parts.names import part
from .parts.optimized import widened
from .parts.select import layers, quantized
from .parts.shift import Shifts, around

VECTOR_BITS, RATE_BITS, MOMENTUM_BITS, WEIGHT_BITS = 15, 10, 13, 24
GRADIENT_STEP = 2.0**-14


def integer_update(
    program: Program,
    *,
    g_scale: Literal[128, 32, 8, 2] = 128,
    exempt: str = "first,last",
) -> Program:
    """Round what SGD reads and makes; ``g_scale`` is a weight gradient's number of levels.

    The authors lower ``g_scale`` from 128 over 32 and 8 to 2 as the rate falls. RecipeError for
    another optimizer.
    """
    exempted = frozenset(layers(program)) - quantized(program, exempt)
    work = _Update(program, g_scale, exempted)
    out = program.rewrite(work.rule, by="integer_update")
    return with_seed(out, work.noise, work.drawn)


class _Update:
    """The rule of the pass, with the rates rounded so far and the number of random draws."""

    def __init__(self, program: Program, g_scale: int, exempt: frozenset[str]) -> None:
        self.exempt, self.g_scale = exempt, g_scale
        self.taken = program.names()
        self.shifts = Shifts(self.taken)
        trains = bool(program.region("update").ops)
        self.noise = seed_and_step(program, "integer_update") if trains else ()
        self.salt = max(
            (op.int_attr("salt") for _, op in program.ops() if "salt" in op.attrs), default=0
        )
        self.drawn = False
        self.rates: dict[Value, Value] = {}

    def rule(self, region: Region, op: Op) -> tuple[Op, ...] | None:
        if region.name != "update" or not has(op, Trait.UPDATE):
            return None
        if op.kind != "sgd":
            raise RecipeError(
                f"integer_update rounds what SGD makes, but the optimizer is {op.kind}; take "
                "torch.optim.SGD"
            )
        w, dw, momentum, step, rate, *rest = op.inputs
        ahead, slow = self.rate(rate)
        if op.origin in self.exempt:
            return (*ahead, replace(op, inputs=(w, dw, momentum, step, slow, *rest)))
        made, dw = self.weight(op, dw) if len(dw.type.shape) > 1 else self.vector(op, dw)
        raw = tuple(Value(unused(f"{r.name}.f", self.taken), r.type) for r in op.results)
        inputs = (w, dw, momentum, step, slow, *rest)
        stored = (
            _fixed(a, b, bits, op.origin)
            for a, b, bits in zip(raw, op.results, (WEIGHT_BITS, MOMENTUM_BITS), strict=True)
        )
        return (*ahead, *made, replace(op, inputs=inputs, results=raw), *stored)

    def rate(self, rate: Value) -> tuple[list[Op], Value]:
        """The rounded rate, made once for all that share it."""
        if rate in self.rates:
            return [], self.rates[rate]
        wide, kept = (
            Value(unused(f"{rate.name}.{end}", self.taken), rate.type) for end in ("grid", "fixed")
        )
        self.rates[rate] = kept
        most = attrs(high=1 - 2.0 ** (1 - RATE_BITS))
        fixed = _fixed(rate, wide, RATE_BITS, "optimizer")
        return [fixed, Op("clamp_max", (wide,), (kept,), most, "optimizer")], kept

    def vector(self, op: Op, dw: Value) -> tuple[list[Op], Value]:
        """The gradient of a bias or of a normalization's parameter."""
        made = self.value(op, "fixed", dw.type)
        return [_fixed(dw, made, VECTOR_BITS, op.origin)], made

    def weight(self, op: Op, dw: Value) -> tuple[list[Op], Value]:
        """Integers of the stored numbers: what the shift was is forgotten."""
        top, name = around(float(self.g_scale)), f"{_last(op)}.grad"
        ops, s, scaled = self.shifts.scaled(op.origin, dw, name, top)
        bits = self.g_scale.bit_length()
        codes = self.value(op, "q", TensorType(dw.type.shape, INTS[bits], Scale.POW2))
        real, whole, made = (
            self.value(op, end, TensorType(dw.type.shape, F32))
            for end in ("real", "whole", "fixed")
        )
        wide, widening = widened(s, real, op.origin, self.taken)
        self.salt, self.drawn = self.salt + 1, True
        how = attrs(salt=self.salt)
        ops += [
            Op("round_stochastic", (scaled, *self.noise), (codes,), how, op.origin),
            Op("dequantize", (codes,), (real,), origin=op.origin),
            *widening,
            Op("mul", (real, wide), (whole,), origin=op.origin),
            Op("scale", (whole,), (made,), attrs(factor=GRADIENT_STEP), op.origin),
        ]
        return ops, made

    def value(self, op: Op, end: str, type_: TensorType) -> Value:
        """A value named after the parameter."""
        return Value(unused(part(op.origin, f"{_last(op)}.grad.{end}"), self.taken), type_)


def _last(op: Op) -> str:
    """The parameter's name without its module's."""
    return op.inputs[0].name.rpartition(".")[2]


def _fixed(a: Value, b: Value, bits: int, origin: str) -> Op:
    return Op("round_fixed", (a,), (b,), attrs(bits=bits), origin)

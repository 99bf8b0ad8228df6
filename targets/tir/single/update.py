"""The optimizer's step: its rule as a kernel, in f32 and in the written order.

What depends on no element stands ahead of the loop over a parameter.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx as tir

from ....compiler.ir.rule import Act, RuleStep
from ....compiler.ir.updates import KINDS, rule_of
from ..expr import Code, Expr, Vectors, i32, load
from ..formats import from_memory
from ..math import exp_any, log1p
from ..pointwise.space import memory_dims, memory_strides
from .grid import Single, Spot, flat
from .loops import Buffers

FUNCTIONS: dict[Act, Callable[..., Expr]] = {
    Act.ADD: Vectors.add,
    Act.SUB: Vectors.sub,
    Act.MUL: Vectors.mul,
    Act.DIV: Vectors.div,
    Act.NEGATE: lambda v, a: v.mul(v.splat(-1.0), a),
    Act.SIZE: Vectors.magnitude,
    Act.SQRT: Vectors.sqrt,
    Act.EXP: exp_any,
    Act.LOG1P: log1p,
    Act.ABOVE: lambda v, a, b, yes, no: v.f(v.where(a > b, yes, no)),
    Act.EQUAL: lambda v, a, b, yes, no: v.f(v.where(a.equal(b), yes, no)),
}


class _Numbers:
    """The numbers of a rule's steps: of those alike for all elements, and of a place."""

    def __init__(self, b: Buffers, spec: Single) -> None:
        self.b, self.spec, self.rule = b, spec, rule_of(spec.op)
        self.alike: dict[int, Expr] = {}
        for i, step in enumerate(self.rule.steps):
            if not step.each:
                self.alike[i] = self._alike(step)

    def _alike(self, step: RuleStep) -> Expr:
        code, of = self.b.code, [self.alike[i] for i in step.of]
        v = _vectors(code, 1, wide=step.wide)
        if step.act is Act.CONSTANT:
            return v.splat(step.value)
        if step.act in (Act.WIDEN, Act.NARROW):
            return v.f(v.cast(of[0], v.dtype))
        if step.act in FUNCTIONS:
            return FUNCTIONS[step.act](v, *of)
        number = load(self.b.inputs[step.operand], i32(0))
        if step.act is Act.READ:
            return v.f(number)
        if step.act is Act.TURN:
            return v.add(v.f(v.cast(number, v.dtype)), v.splat(1.0))
        none = tir.const(0, self.spec.inputs[step.operand].dtype)
        return v.f(tir.Cast(v.dtype, number.equal(none)))

    def at(self, s: Spot, line: bool) -> dict[int, Expr]:
        """Those of some elements."""
        made: dict[int, Expr] = {}
        for i, step in enumerate(self.rule.steps):
            if not step.each:
                continue
            if step.act is Act.READ:
                layout = self.spec.inputs[step.operand]
                strides = {0: 1} if line else memory_strides(layout)
                raw = s.raw(self.b.inputs[step.operand], layout.dtype, strides)
                made[i] = s.v.f(from_memory(s.v, raw, layout.type.format))
                continue
            of = (made[k] if k in made else s.v.splat(self.alike[k]) for k in step.of)
            made[i] = FUNCTIONS[step.act](s.v, *of)
        return made


def _vectors(code: Code, lanes: int, *, wide: bool) -> Vectors:
    return Vectors(code, lanes, "float64" if wide else "float32")


def by_rule(b: Buffers, spec: Single) -> None:
    """Run a rule over a parameter and what stands beside it."""
    numbers = _Numbers(b, spec)
    rule, w = numbers.rule, spec.inputs[0]
    read = {step.operand for step in rule.steps if step.each and step.act is Act.READ}
    results = [i for i, place in enumerate(rule.made) if rule.steps[place].each]
    line = flat([*(spec.inputs[i] for i in sorted(read)), *(spec.outputs[i] for i in results)])
    for i, place in enumerate(rule.made):
        if i not in results:
            b.code.store(b.outputs[i], i32(0), numbers.alike[place])

    def body(s: Spot) -> None:
        made = numbers.at(s, line)
        for i in results:
            layout, x = spec.outputs[i], made[rule.made[i]]
            if s.v.lanes > 1 and line and layout.bytes >= b.code.dialect.streamed_bytes:
                b.code.stream(b.outputs[i], s.at[s.side], x, s.v.lanes)
            else:
                s.put(b.outputs[i], layout, x, {0: 1} if line else memory_strides(layout))

    if line:
        b.loops.over((w.type.elements,), (0,), spec.lanes, body)
    else:
        b.loops.over(w.type.shape, memory_dims(w), spec.lanes, body)


UPDATE = {kind.op: by_rule for kind in KINDS.values() if kind.formula is not None}

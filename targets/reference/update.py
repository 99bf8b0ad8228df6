"""Reference of the updates: their rules on arrays, in f32 but for what is wide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ...compiler.ir import Op
from ...compiler.ir.rule import Act, RuleStep
from ...compiler.ir.updates import KINDS, rule_of
from ..numbers.tensor import Array
from .frame import Meaning, on_numbers

MOST = 700.0  # e^700 is far above f32, e^-700 far below


def _above(a: Array, b: Array, yes: Array, no: Array) -> Array:
    return np.asarray(np.where(a > b, yes, no))


def _equal(a: Array, b: Array, yes: Array, no: Array) -> Array:
    return np.asarray(np.where(a == b, yes, no))


FUNCTIONS: dict[Act, Callable[..., Array]] = {
    Act.ADD: np.add,
    Act.SUB: np.subtract,
    Act.MUL: np.multiply,
    Act.DIV: np.divide,
    Act.NEGATE: np.negative,
    Act.SIZE: np.abs,
    Act.SQRT: np.sqrt,
    Act.EXP: lambda a: np.exp(np.clip(a, -MOST, MOST)),
    Act.LOG1P: np.log1p,
    Act.ABOVE: _above,
    Act.EQUAL: _equal,
    Act.WIDEN: partial(np.asarray, dtype=np.float64),
    Act.NARROW: partial(np.asarray, dtype=np.float32),
}


def by_rule(op: Op, *operands: Array) -> tuple[Array, ...]:
    """The results of an update whose elements do not meet."""

    def take(step: RuleStep, of: Sequence[Array]) -> Array:
        if step.act is Act.CONSTANT:
            return np.asarray(step.value, np.float64 if step.wide else np.float32)
        if step.act is Act.READ:
            return operands[step.operand]
        if step.act is Act.FIRST:
            return np.asarray(operands[step.operand] == 0, np.float32)
        if step.act is Act.TURN:
            return np.asarray(operands[step.operand] + 1.0, np.float64)
        return FUNCTIONS[step.act](*of)

    return tuple(rule_of(op).run(take))


UPDATE: dict[str, Meaning] = {
    kind.op: on_numbers(by_rule) for kind in KINDS.values() if kind.formula is not None
}

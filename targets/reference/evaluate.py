"""The reference target: the plain NumPy meaning of every op, and an interpreter of programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...compiler.errors import InputError
from ...compiler.ir import Attr, Op, Program, Value, attrs
from ...compiler.ir.loop_rules import unready
from ...compiler.ir.loops import loops
from ...compiler.types import TensorType
from ..numbers.tensor import Tensor
from ..plan.composed import COMPOSED
from .bits import BITS
from .blocks import BLOCKS
from .frame import Meaning
from .gather import GATHER
from .gemm import GEMM
from .loop import LOOP, LoopValues
from .loss import LOSS
from .math import MATH
from .measure import MEASURE
from .norm import NORM
from .pointwise import POINTWISE
from .pool import POOL
from .quantize import QUANTIZE
from .shape import SHAPE
from .squeeze import SQUEEZE
from .update import UPDATE
from .whole import WHOLE


def _composed(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What the ops make that a target puts in the place of ``op``."""
    env = dict(zip(op.inputs, inputs, strict=True))
    for part in COMPOSED[op.kind](op, {v.name for v in (*op.inputs, *op.results)}):
        made = run_op(part, [env[v] for v in part.inputs])
        env.update(zip(part.results, made, strict=True))
    return tuple(env[v] for v in op.results)


FUNCTIONS: dict[str, Meaning] = {
    **GEMM,
    **QUANTIZE,
    **BLOCKS,
    **SQUEEZE,
    **NORM,
    **BITS,
    **POINTWISE,
    **MATH,
    **POOL,
    **SHAPE,
    **GATHER,
    **WHOLE,
    **LOOP,
    **LOSS,
    **UPDATE,
    **MEASURE,
    **dict.fromkeys(COMPOSED, _composed),
}


def run_op(op: Op, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The results of ``op``, of the types that its values declare."""
    # Infinities and NaNs are values like others here: overflow is no event to warn of.
    with np.errstate(all="ignore"):
        return FUNCTIONS[op.kind](op, inputs)


def apply(
    kind: str, inputs: Sequence[Tensor], results: Sequence[TensorType], **attributes: Attr
) -> tuple[Tensor, ...]:
    """Run one op outside of any program."""
    operands = tuple(Value(f"x{i}", t.type) for i, t in enumerate(inputs))
    made = tuple(Value(f"y{i}", t) for i, t in enumerate(results))
    return run_op(Op(kind, operands, made, attrs(**attributes)), inputs)


def evaluate(
    program: Program, values: Mapping[str, Tensor], *, keep: bool = True
) -> dict[Value, Tensor]:
    """Run a whole program on its inputs and state, given by name.

    Returns all values, or without ``keep`` just outputs and the next state, and then forgets
    each other one after its last reader; of a loop's values those of its step 0. State with an
    initial number may be left out.
    """
    env = {v: _given(program, v, values) for v in (*program.inputs, *program.state)}
    ends = {*program.outputs, *(v for _, v in program.next)}
    waiting = {v: len(readers) for v, readers in program.readers().items()}
    found = loops(program)
    if why := unready(program):
        raise InputError(f"{program.name}: {why}")
    work = LoopValues(found, env, run_op)
    for loop, ops in ((loop, ops) for r in program.regions for loop, ops in found.segments(r)):
        if loop:
            work.loop(loop, ops)
        for op in ops:
            if not loop:
                work.outside(op)
            for v in dict.fromkeys(op.inputs):
                waiting[v] -= 1
                if not keep and not waiting[v] and v not in ends:
                    work.forget(v)
    return env if keep else {v: t for v, t in env.items() if v in ends}


def _given(program: Program, value: Value, values: Mapping[str, Tensor]) -> Tensor:
    if value.name in values:
        tensor = values[value.name]
        if tensor.type != value.type:
            raise InputError(f"{value.name} is {tensor.type}; {program.name} needs {value.type}")
        return tensor
    if value.name in program.initial:
        number = program.initial[value.name]
        return Tensor.from_numbers(value.type, np.full(value.type.shape, number))
    raise InputError(f"{program.name} needs a value of {value.name} : {value.type}; none is given")

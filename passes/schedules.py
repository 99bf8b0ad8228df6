"""What passes share that let the bits of affine quantizers change from step to step."""

from __future__ import annotations

from dataclasses import replace

from ..compiler.errors import RecipeError
from ..compiler.formats import I64
from ..compiler.ir import STEP, Op, Program, Region, Value
from ..compiler.ops import GEMMS
from ..compiler.types import TensorType
from .affine import QUANTIZERS

LEAST, BITS = 2, 3  # fewest bits of a quantizer; the operand that has them
SCHEDULE = "schedule"
# State: the steps of the run (0: not known), and the bits of the last step's forward.
TOTAL, NOW = f"{SCHEDULE}.total", f"{SCHEDULE}.bits"
INTEGER = TensorType((), I64)


def with_bits(program: Program, bits: Value, region: str, ahead: tuple[Op, ...]) -> Program:
    """Let the quantizers of a region with constant bits read ``bits``, which ``ahead`` makes."""
    constants = {op.inputs[BITS] for op in scheduled(program, region)}
    started = False

    def rule(where: Region, op: Op) -> tuple[Op, ...] | None:
        nonlocal started
        if op.kind == "constant" and op.result in constants:
            first, started = not started, True
            return ahead if first else ()
        if op.kind in QUANTIZERS and op.inputs[BITS] in constants:
            inputs = (*op.inputs[:BITS], bits, *op.inputs[BITS + 1 :])
            return (replace(op, inputs=inputs),)
        return None

    return program.rewrite(rule)


def scheduled(program: Program, region: str) -> list[Op]:
    """The quantizers of a region whose bits are a constant."""
    made = program.producers()
    return [
        op
        for op in program.region(region).ops
        if op.kind in QUANTIZERS
        and op.inputs[BITS] in made
        and made[op.inputs[BITS]].kind == "constant"
    ]


def check_quantizers(program: Program, name: str) -> bool:
    """Whether there are quantizers to schedule; False for a program without layers.

    RecipeError where the layers have none.
    """
    if scheduled(program, "forward"):
        return True
    if not any(op.kind in GEMMS for _, op in program.ops()):
        return False
    coded = any(v.type.format.is_coded for _, op in program.ops() for v in op.results)
    why = "integer formats of fixed bits" if coded else "no integer format"
    raise RecipeError(
        f"{name} changes the bits of affine quantizers, and the recipe that it follows has {why}; "
        "set base to one with affine_weights or affine_activations, such as sbm8"
    )


def check_bits(program: Program, region: str, least: int, most: int, name: str) -> None:
    """RecipeError unless the quantizers of a region can store ``least`` .. ``most`` bits."""
    if not LEAST <= least <= most:
        raise RecipeError(f"{name}: bits from {least} to {most} do not rise from at least {LEAST}")
    for op in scheduled(program, region):
        format_ = op.result.type.format
        if most > format_.bits:
            raise RecipeError(
                f"{name}: {most} bits do not fit {format_}, in which {op.origin} stores "
                f"{op.result.name}; the base decides that, 8 bits are the most"
            )


def counter(program: Program, name: str) -> Value:
    """The state that counts the steps; RecipeError where there is none."""
    for v in program.state:
        if v.name == STEP:
            return v
    raise RecipeError(f"{name} follows the number of the step, and nothing counts the steps")


def with_next(program: Program, state: Value, after: Value, start: float) -> Program:
    """``program`` with a new state and, where there is an update, its value after the step."""
    out = program.with_state({state: float(start)})
    if not any(r.name == "update" for r in out.regions):
        return out
    return replace(out, next=(*out.next, (state, after)))

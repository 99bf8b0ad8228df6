"""What passes share that let the bits of integers change from step to step.

Affine quantizers read their bits already. A quantizer with a clip (``quantize``) becomes one that
reads them (``quantize_bits``): the clip stays, the grid below it has fewer levels, and the codes
are stored in the format that the base chose.
"""

from __future__ import annotations

from dataclasses import replace

from ...compiler.errors import RecipeError
from ...compiler.formats import I64
from ...compiler.ir import STEP, Op, Program, Region, Value
from ...compiler.ir.ops import GEMMS, OPS
from ...compiler.types import Scale, TensorType

LEAST = 2  # fewest bits of a quantizer
FIXED, READS = "quantize", "quantize_bits"
SCHEDULE = "schedule"
# State: the steps of the run (0: not known), and the bits of the last step's forward.
TOTAL, NOW = f"{SCHEDULE}.total", f"{SCHEDULE}.bits"
INTEGER = TensorType((), I64)


def bits_of(op: Op) -> Value | None:
    """The operand that has the bits of a quantizer; None for an op that reads none."""
    at = OPS[op.kind].place("bits")
    return None if at is None else op.inputs[at]


def with_bits(program: Program, bits: Value, region: str, ahead: tuple[Op, ...]) -> Program:
    """Let the quantizers of a region with constant bits read ``bits``, which ``ahead`` makes."""
    chosen = scheduled(program, region)
    constants = {bits_of(op) for op in chosen if op.kind != FIXED}
    # Backward makes codes of weights again.
    clipped = {op.inputs[0] for op in chosen if op.kind == FIXED}
    waiting = list(ahead)

    def start() -> tuple[Op, ...]:
        ops = tuple(waiting)
        waiting.clear()
        return ops

    def rule(where: Region, op: Op) -> tuple[Op, ...] | None:
        if op.kind == "constant" and op.result in constants:
            return start()
        if op.kind == FIXED and op.inputs[0] in clipped:
            return (*start(), replace(op, kind=READS, inputs=(*op.inputs, bits)))
        at = OPS[op.kind].place("bits")
        if at is not None and op.inputs[at] in constants:
            return (replace(op, inputs=(*op.inputs[:at], bits, *op.inputs[at + 1 :])),)
        return None

    return program.rewrite(rule)


def scheduled(program: Program, region: str) -> list[Op]:
    """The quantizers of a region whose bits are a constant; with a clip, those of forward alone."""
    made = program.producers()

    def constant(op: Op) -> bool:
        if op.kind == FIXED:
            return region == "forward"
        bits = bits_of(op)
        return bits in made and made[bits].kind == "constant"

    return [op for op in program.region(region).ops if constant(op)]


def check_quantizers(program: Program, name: str) -> bool:
    """Whether there are quantizers to schedule; False for a program without layers.

    RecipeError where the layers have none, or where a gradient depends on their number of levels.
    """
    for _, op in program.ops():
        if op.kind == "pact_plus_grad":
            raise RecipeError(
                f"{name} changes the levels below the clip that layer {op.origin} trains, which "
                "the gradient of pact_plus=true takes as constant; set pact_plus=false"
            )
        if op.kind == FIXED and op.result.type.format.ends:
            raise RecipeError(
                f"{name} needs all integers of some number of bits, and the codes of layer "
                f"{op.origin} are {op.result.type.format}; set grid=15 and luq_act_range=clip"
            )
    if scheduled(program, "forward") and not _changing(program):
        return True
    if not any(op.kind in GEMMS for _, op in program.ops()):
        return False
    if _changing(program):
        why = "bits that change already"
    elif any(_is_number(v) for _, op in program.ops() for v in op.results):
        why = "integers without a range, whose step is a power of two"
    else:
        why = "no integer format"
    raise RecipeError(
        f"{name} changes the bits of integers, and the recipe that it follows has {why}; set base "
        "to a static one with integer weights or activations, such as sbm8 or int4"
    )


def _changing(program: Program) -> bool:
    """Whether the bits of any quantizer are no constant."""
    made = program.producers()
    reads = (bits for _, op in program.ops() if (bits := bits_of(op)))
    return any(v not in made or made[v].kind != "constant" for v in reads)


def _is_number(v: Value) -> bool:
    """Whether a value has integers with a scale; regions and places have none."""
    return v.type.format.is_integer and v.type.scale is not Scale.NONE


def check_bits(program: Program, region: str, least: int, most: int, asked: str) -> None:
    """RecipeError unless the quantizers of a region can store ``least`` .. ``most`` bits.

    ``asked`` are the options that want them, as a user wrote them.
    """
    if not LEAST <= least <= most:
        raise RecipeError(f"{asked} do not rise from at least {LEAST} bits")
    codes = {op.origin: op.result.type.format for op in scheduled(program, region)}
    narrow = [layer for layer, format_ in codes.items() if most > format_.bits]
    if narrow:
        wider = "gradient_bits" if region == "backward" else "bits"
        raise RecipeError(
            f"{asked}: {most} bits do not fit the {codes[narrow[0]]} codes of layer {narrow[0]}; "
            f"ask for {min(f.bits for f in codes.values())} at most, or for wider codes by {wider}"
        )


def step_counter(program: Program, name: str) -> Value:
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

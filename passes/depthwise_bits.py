"""Depthwise convolutions in bits of their own, which no schedule of a later pass changes.

The authors of FracTrain and CPT hold those of MobileNetV2 at 8 bits forward and 16 backward
(``DWS_BITS`` and ``DWS_GRAD_BITS`` of their program), while all other layers follow the schedule.

    codes of a depthwise layer   bits
    affine, made in forward      the first number of cpt_dws_bits
    affine, made in backward     the second one
    with a clip                  as they are

A code that several layers read belongs to the first of them.
"""

from __future__ import annotations

from dataclasses import replace

from ..compiler.errors import RecipeError
from ..compiler.ir import Op, Program, Region, Value, attrs, unused
from ..compiler.types import SCALAR
from .affine import stored
from .options import require
from .schedules import BITS, FIXED, LEAST, READS, UNSCHEDULED
from .select import depthwise

MOST = 16


def depthwise_bits(program: Program, *, cpt_dws_bits: str = "8/16") -> Program:
    """Give the quantizers of depthwise convolutions constant bits, ``none``: leave them alone.

    ``cpt_dws_bits`` is FORWARD/BACKWARD, each 2 to 16. RecipeError for anything else.
    """
    wanted = _read(cpt_dws_bits)
    chosen = depthwise(program) if wanted else set[str]()
    made_in = {op.result: r.name for r, op in program.ops() if op.kind == "constant"}
    taken = program.names()
    bits: dict[tuple[str, int], Value] = {}

    def constant(region: str, number: int) -> tuple[tuple[Op, ...], Value]:
        """The bits as a value that ops of the region and later ones can read."""
        known = (region, number) in bits
        if not known:
            bits[region, number] = Value(unused(f"{UNSCHEDULED}.bits", taken), SCALAR)
        value = bits[region, number]
        how = attrs(value=float(number))
        return () if known else (Op("constant", (), (value,), how, UNSCHEDULED),), value

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        if op.origin not in chosen:
            return None
        if op.kind == FIXED and region.name == "forward" and not op.result.type.format.ends:
            ahead, value = constant(region.name, op.result.type.format.bits)
            return (*ahead, replace(op, kind=READS, inputs=(*op.inputs, value)))
        source = made_in.get(op.inputs[BITS[op.kind]]) if op.kind in BITS else None
        if source is None:
            return None
        number = wanted[source]
        ahead, value = constant(source, number)
        at, q = BITS[op.kind], op.result
        type_ = replace(q.type, format=stored(number))
        inputs = (*op.inputs[:at], value, *op.inputs[at + 1 :])
        return (*ahead, replace(op, inputs=inputs, results=(Value(q.name, type_),)))

    return program.rewrite(rule, by="depthwise_bits")


def _read(asked: str) -> dict[str, int]:
    """Bits by the region that makes codes; empty for ``none``."""
    if asked == "none":
        return {}
    try:
        forward, backward = (int(word) for word in asked.split("/"))
    except ValueError:
        raise RecipeError(
            f"cpt_dws_bits={asked} is no FORWARD/BACKWARD, such as 8/16, and not none"
        ) from None
    for n in (forward, backward):
        require(LEAST <= n <= MOST, f"cpt_dws_bits={asked}: {n} bits are not {LEAST} to {MOST}")
    return {"forward": forward, "backward": backward}

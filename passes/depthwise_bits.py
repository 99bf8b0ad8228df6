"""Depthwise convolutions in bits of their own, whatever the passes ahead let the others follow.

The authors of FracTrain and CPT hold those of MobileNetV2 at 8 bits forward and 16 backward
(``DWS_BITS`` and ``DWS_GRAD_BITS`` of their program), while all other layers follow the schedule or
the gate.

    codes of depthwise layers              bits
    affine, weights and activations        the first number of cpt_dws_bits
    affine, gradients                      the second one
    with a clip                            all that their format has; gradients beside them stay

A code that another layer reads as well has the bits of that layer.
"""

from __future__ import annotations

from dataclasses import replace

from ..compiler.errors import RecipeError
from ..compiler.ir import Op, Program, Region, Value, attrs, unused
from ..compiler.ir.ops import GRADIENT_PRODUCTS, OPS
from ..compiler.types import SCALAR
from .parts.affine import stored
from .parts.options import require
from .parts.order import Makes, placed
from .parts.schedules import LEAST, SCHEDULE
from .parts.select import depthwise, layers

MOST = 16
ORIGIN = f"{SCHEDULE}.depthwise"


@placed(after=(Makes.BITS,))
def depthwise_bits(program: Program, *, cpt_dws_bits: str = "8/16") -> Program:
    """Let the quantizers of depthwise convolutions read constant bits; ``none``: leave them alone.

    ``cpt_dws_bits`` is FORWARD/BACKWARD, each 2 to 16. RecipeError for anything else.
    """
    wanted = _read(cpt_dws_bits)
    own = _codes(program) if wanted else {}
    taken = program.names()
    bits: dict[tuple[str, int], Value] = {}

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        at = OPS[op.kind].place("bits")
        role = None if at is None else own.get(op.result)
        if at is None or role is None:
            return None
        q, affine = op.result, OPS[op.kind].affine
        number = wanted[role] if affine else q.type.format.bits
        ahead: tuple[Op, ...] = ()
        if (role, number) not in bits:
            value = bits[role, number] = Value(unused(f"{ORIGIN}.bits", taken), SCALAR)
            ahead = (Op("constant", (), (value,), attrs(value=float(number)), ORIGIN),)
        inputs = (*op.inputs[:at], bits[role, number], *op.inputs[at + 1 :])
        format_ = stored(number) if affine else q.type.format
        made = Value(q.name, replace(q.type, format=format_))
        return (*ahead, replace(op, inputs=inputs, results=(made,)))

    return program.rewrite(rule, by="depthwise_bits")


def _codes(program: Program) -> dict[Value, str]:
    """What depthwise layers alone read: ``forward``, or ``backward`` for gradients.

    Gradients of layers whose forward codes have clips are not among them.
    """
    chosen, readers, gradients = depthwise(program), dict[Value, set[str]](), set[Value]()
    for _, op in program.ops():
        for v in op.inputs:
            readers.setdefault(v, set()).add(op.origin)
        if op.kind in GRADIENT_PRODUCTS:
            gradients.add(op.inputs[0])
    known = layers(program).items()
    affine = {n for n, op in known if all(v.type.scale.is_affine for v in op.inputs)}
    found = {v: names for v, names in readers.items() if names <= chosen}
    return {
        v: "backward" if v in gradients else "forward"
        for v, names in found.items()
        if v not in gradients or names <= affine
    }


def _read(asked: str) -> dict[str, int]:
    """Bits by role; empty for ``none``."""
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

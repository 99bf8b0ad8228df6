"""The carrier: the format of everything between GEMMs.

"Ultra-Low Precision 4-bit Training" (Sun et al., NeurIPS 2020) carries 16-bit floats between its
4-bit products; "Mixed Precision Training" (Micikevicius et al., ICLR 2018), section 3, says what
has to stay in f32.

    carrier                                       f32
    what a forward or dX product makes            weight gradients, weights, all other state
    activations, gradients between layers         statistics, reductions to channels or scalars
    operands of GEMMs that no pass quantized      the loss, and the program's outputs

A program input is cast where a layer reads it, a weight where an exempt GEMM does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..compiler.formats import F32, FORMATS, Format
from ..compiler.ir import Op, Program, Region, Value, unused
from ..compiler.ir.loops import CARRIED, FEED
from ..compiler.ir.ops import OPS, PRODUCTS, Trait, has
from .parts.layer_arithmetic import inner_values
from .parts.order import Makes, placed

LOSS = "loss"
BORDERS = (CARRIED, FEED)


@placed(after=(Makes.CODES, "grad_scale"))
def carrier(program: Program, *, carrier: Literal["bf16", "f32", "f16"] = "bf16") -> Program:
    """Keep all data between GEMMs in ``carrier``; ``f32`` leaves the program as it is."""
    if carrier == "f32":
        return program.done("carrier")
    work = _Carrier(program, FORMATS[carrier])
    return _ends(program.rewrite(work.rule, by="carrier"), work)


class _Carrier:
    """The rule of the pass, with what it has cast so far."""

    def __init__(self, program: Program, format_: Format) -> None:
        self.format = format_
        self.exact = _parameter_sums(program)
        self.inner = inner_values(program)
        # What is f32 inside of a layer's arithmetic and made of data in the carrier.
        self.carried: set[Value] = set()
        # f32 data that layers read through a cast: the batch, and gradients out of the loss.
        self.outside = {v for v in program.inputs if _is_f32_data(v)}
        self.taken = program.names()
        self.casts: dict[Value, Value] = {}

    def rule(self, region: Region, op: Op) -> tuple[Op, ...]:
        ahead: list[Op] = []
        inputs = tuple(
            self.cast(v, to, op.origin, ahead) if (to := self.wanted(region, op, i)) else v
            for i, v in enumerate(op.inputs)
        )
        cast = replace(op, inputs=inputs)
        made = replace(cast, results=self.results(cast))
        if op.origin == LOSS and region.name == "backward":
            self.outside.update(filter(_is_f32_data, made.results))
        return (*ahead, made)

    def cast(self, v: Value, to: Format, origin: str, ahead: list[Op]) -> Value:
        if v not in self.casts:
            name = unused(f"{v.name}.{to.name}", self.taken)
            self.casts[v] = Value(name, replace(v.type, format=to))
            ahead.append(Op("cast", (v,), (self.casts[v],), origin=origin))
        return self.casts[v]

    def wanted(self, region: Region, op: Op, i: int) -> Format | None:
        """The format to cast operand ``i`` to; None to leave it."""
        v = op.inputs[i]
        if op.kind in BORDERS:  # what goes from step to step of a loop stays in f32
            return F32 if v.type.format is self.format else None
        if region.name == "update":
            return F32 if has(op, Trait.UPDATE) and v.type.format is self.format else None
        takes = OPS[op.kind].operand(i).format_class
        if v.type.format is self.format and takes == "f32":
            return F32  # what another layer has rounded
        if v.type.format is not F32 or op.kind == "cast":
            return None
        if op.kind in PRODUCTS:
            return self.format
        if op.origin == LOSS or v not in self.outside:
            return None
        return None if takes in ("f32", "number") else self.format

    def results(self, op: Op) -> tuple[Value, ...]:
        """The results of an op, the first of them in the carrier where it is data of such."""
        first, *others = op.results
        if first.type.format is not F32 or not self.makes_data(op):
            return op.results
        if self.stays_inside(op):
            if self.reads_data(op):
                self.carried.add(first)
            return op.results
        if self.stays_exact(op):
            return op.results
        return (Value(first.name, replace(first.type, format=self.format)), *others)

    def reads_data(self, op: Op) -> bool:
        """Whether an operand is in the carrier, or inside of a layer and made of such."""
        return any(v.type.format is self.format or v in self.carried for v in op.inputs)

    def makes_data(self, op: Op) -> bool:
        """Whether the result is data that the carrier may hold; the loss only moves such."""
        if has(op, Trait.MAKES_CARRIER):
            return True
        keeps = Trait.MOVES if op.origin == LOSS else Trait.KEEPS_CARRIER
        return has(op, keeps) and self.reads_data(op)

    def stays_inside(self, op: Op) -> bool:
        """Whether the result is inside of a layer's arithmetic, or a view of what is."""
        return op.result.name in self.inner or (op.kind == "view" and op.inputs[0] in self.carried)

    def stays_exact(self, op: Op) -> bool:
        """Whether the result is a reduction to one number, or one that updates a parameter."""
        summed = not op.result.type.shape or op.result.name in self.exact
        return has(op, Trait.REDUCTION) and summed


def _is_f32_data(v: Value) -> bool:
    return v.type.format is F32 and bool(v.type.shape)


def _parameter_sums(program: Program) -> set[str]:
    """Names of sums that reach the update or the next state, such as the gradient of a bias."""
    made = program.producers()
    todo = [v for _, v in program.next]
    todo += [v for op in program.region("update").ops for v in op.inputs]
    found: set[str] = set()
    seen: set[Value] = set()
    while todo:
        v = todo.pop()
        op = made.get(v)
        if op is None or v in seen:
            continue
        seen.add(v)
        if has(op, Trait.REDUCTION):
            found.add(v.name)
        elif has(op, Trait.LINEAR):
            todo += op.inputs
    return found


def _ends(out: Program, work: _Carrier) -> Program:
    """Bring outputs and next state, which face the outside, back to f32."""
    ends = [*out.outputs, *(v for _, v in out.next)]
    home = {r: region.name for region, op in out.ops() for r in op.results}
    swap: dict[Value, Value] = {}
    for v in ends:
        if v.type.format is not work.format or v in swap or v not in home:
            continue
        ahead: list[Op] = []
        swap[v] = work.cast(v, F32, out.producers()[v].origin, ahead)
        out = out.append(home[v], tuple(ahead))
    outputs = tuple(swap.get(v, v) for v in out.outputs)
    return replace(out, outputs=outputs, next=tuple((s, swap.get(v, v)) for s, v in out.next))

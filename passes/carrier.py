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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from ..compiler.formats import F32, FORMATS, Format
from ..compiler.ir import Op, Program, Region, Value, unused
from ..compiler.ir.ops import OPS, PRODUCTS, Trait, has

LOSS = "loss"


def carrier(program: Program, *, carrier: Literal["bf16", "f32", "f16"] = "bf16") -> Program:
    """Keep all data between GEMMs in ``carrier``; ``f32`` leaves the program as it is."""
    if carrier == "f32":
        return program.done("carrier")
    work = _Carrier(program, FORMATS[carrier])
    return _ends(program.rewrite(work.rule, by="carrier"), work)


class _Carrier:
    """The rule of the pass, with the casts made so far."""

    def __init__(self, program: Program, format_: Format) -> None:
        self.format = format_
        self.exact = _parameter_sums(program)
        self.inner = _inner(program)
        # f32 values that such arithmetic made of data in the carrier.
        self.carried: set[Value] = set()
        self.taken = program.names()
        self.casts: dict[Value, Value] = {}
        # f32 data that layers read through a cast: the batch, and gradients out of the loss.
        self.outside = {v for v in program.inputs if v.type.format is F32 and v.type.shape}

    def rule(self, region: Region, op: Op) -> tuple[Op, ...]:
        ahead: list[Op] = []
        inputs = tuple(
            self.cast(v, to, op.origin, ahead) if (to := self.wanted(region, op, i)) else v
            for i, v in enumerate(op.inputs)
        )
        op = replace(op, inputs=inputs)
        op = replace(op, results=self.results(op))
        if op.origin == LOSS and region.name == "backward":
            self.outside.update(r for r in op.results if r.type.format is F32 and r.type.shape)
        return (*ahead, op)

    def cast(self, v: Value, to: Format, origin: str, ahead: list[Op]) -> Value:
        if v not in self.casts:
            name = unused(f"{v.name}.{to.name}", self.taken)
            self.casts[v] = Value(name, replace(v.type, format=to))
            ahead.append(Op("cast", (v,), (self.casts[v],), origin=origin))
        return self.casts[v]

    def wanted(self, region: Region, op: Op, i: int) -> Format | None:
        """The format to cast operand ``i`` to; None to leave it."""
        v = op.inputs[i]
        if region.name == "update":
            return F32 if has(op, Trait.UPDATE) and v.type.format is self.format else None
        if v.type.format is not F32 or op.kind == "cast":
            return None
        if op.kind in PRODUCTS:
            return self.format
        wants_f32 = OPS[op.kind].operand(i).format_class == "f32"
        return self.format if v in self.outside and op.origin != LOSS and not wants_f32 else None

    def results(self, op: Op) -> tuple[Value, ...]:
        first = op.results[0]
        reads = any(v.type.format is self.format or v in self.carried for v in op.inputs)
        keeps = has(op, Trait.MOVES if op.origin == LOSS else Trait.KEEPS_CARRIER) and reads
        if not (has(op, Trait.MAKES_CARRIER) or keeps) or first.type.format is not F32:
            return op.results
        if first.name in self.inner or (op.kind == "view" and op.inputs[0] in self.carried):
            self.carried.update({first} if reads else ())
            return op.results
        if has(op, Trait.REDUCTION) and (not first.type.shape or first.name in self.exact):
            return op.results
        return (Value(first.name, replace(first.type, format=self.format)), *op.results[1:])


def _inner(program: Program) -> set[str]:
    """Names of values inside the arithmetic of layers that take functions.

    Of ops that follow each other in one layer: what only they read, and statistics, which are
    reductions that they read and what is computed from those alone.
    """
    places = {op: (region.name, op.origin) for region, op in program.ops()}
    delicate = {op.origin for op in places if has(op, Trait.FUNCTION)}
    ends = {*program.outputs, *(v for _, v in program.next)}
    readers, found = program.readers(), set[str]()
    statistics: set[Value] = set()
    for op, place in places.items():
        if op.kind == "view" and op.inputs[0] in statistics:
            statistics.add(op.result)
        if not has(op, Trait.ARITHMETIC) or op.origin not in delicate or op.result in ends:
            continue
        inside = [
            has(r, Trait.ARITHMETIC) and places[r] == place
            for r in _through_views(op.result, readers)
        ]
        reduced = has(op, Trait.REDUCTION) and any(inside)
        if reduced or (op.inputs and statistics.issuperset(op.inputs)):
            statistics.add(op.result)
        if all(inside) or op.result in statistics:
            found.add(op.result.name)
    return found


def _through_views(value: Value, readers: Mapping[Value, Sequence[Op]]) -> Iterator[Op]:
    for op in readers.get(value, ()):
        if op.kind == "view":
            yield from _through_views(op.result, readers)
        else:
            yield op


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

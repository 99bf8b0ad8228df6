"""Bit operations of a step whose bits are chosen while it runs: their mean over the steps so far.

A multiply-accumulate of a ``b``-bit number by a ``c``-bit one costs ``b * c`` bit operations, the
measure of FracTrain (Fu et al., NeurIPS 2020) and CPT (Fu et al., ICLR 2021). Codes count with the
bits that their quantizer read, for each sample its own, all other numbers with those of their
format. The bill of a program can only count what is stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..compiler.formats import F32
from ..compiler.ir import STEP, Attr, Op, Program, Value, attrs, unused
from ..compiler.ir.analysis import is_training, macs
from ..compiler.ir.loops import loops
from ..compiler.ir.ops import PRODUCTS, Trait, has
from ..compiler.types import SCALAR, TensorType
from .canonicalize import canonicalize
from .parts.order import Makes, placed
from .parts.schedules import SCHEDULE, bits_of

GIGA = 1e9
SPENT = f"{SCHEDULE}.gbitops"

Bits = Value | int


@placed(after=(Makes.BITS, "depthwise_bits"))
def count_bit_operations(program: Program) -> Program:
    """Keep, as the state ``schedule.gbitops``, the mean GBitOPs of a step.

    A program whose bits do not change, or that trains nothing, stays as it is.
    """
    groups = _groups(canonicalize(program))
    counted = {s: v for s, v in program.next if s.name == STEP}
    chosen = any(isinstance(b, Value) for pair in groups for b in pair)
    if not (chosen and counted and is_training(program)):
        return program.done("count_bit_operations")
    work = _Sum(program.names())
    for (a, b), number in groups.items():
        work.add(a, b, number / GIGA)
    assert work.total is not None
    mean, after = Value(SPENT, SCALAR), Value(unused(f"{SPENT}.next", work.taken), SCALAR)
    (count,) = counted.values()
    inputs = (mean, work.total, count)
    average = Op("running_average", inputs, (after,), attrs(correction=1.0), SCHEDULE)
    out = program.with_state({mean: 0.0}).append("update", (*work.ops, average))
    return replace(out, next=(*out.next, (mean, after))).done("count_bit_operations")


def _groups(program: Program) -> dict[tuple[Bits, Bits], int]:
    """MACs of all products by the bits of their operands; ``program`` has no dead ones."""
    made = program.producers()

    def bits(v: Value) -> Bits:
        op = made.get(v)
        while op is not None and has(op, Trait.KEEPS_CODES):
            op = made.get(op.inputs[0])
        read = bits_of(op) if op else None
        if read is None:
            return v.type.format.bits
        fixed = made.get(read)
        if fixed is not None and fixed.kind == "constant":
            return int(fixed.float_attr("value"))
        return read

    groups: dict[tuple[Bits, Bits], int] = {}
    found = loops(program)
    for _, op in program.ops():
        if op.kind in PRODUCTS:
            pair = bits(op.inputs[0]), bits(op.inputs[1])
            groups[pair] = groups.get(pair, 0) + macs(op) * found.times(op)
    return groups


@dataclass(eq=False)
class _Sum:
    """A sum under construction."""

    taken: set[str]
    total: Value | None = None

    def __post_init__(self) -> None:
        self.ops: list[Op] = []

    def op(self, kind: str, type_: TensorType, *x: Value, **more: Attr) -> Value:
        """Append an op."""
        made = Value(unused(f"{SCHEDULE}.cost", self.taken), type_)
        self.ops.append(Op(kind, x, (made,), attrs(**more), SCHEDULE))
        return made

    def add(self, a: Bits, b: Bits, weight: float) -> None:
        """Add ``a * b * weight``; of bits for each sample the mean."""
        chosen = [x for x in (a, b) if isinstance(x, Value)]
        for x in (a, b):
            weight *= x if isinstance(x, int) else 1.0
        part = self._product(chosen)
        if part is None:
            part = self.op("constant", SCALAR, value=weight)
        else:
            part = self.op("scale", SCALAR, part, factor=weight)
        self.total = part if self.total is None else self.op("add", SCALAR, self.total, part)

    def _product(self, chosen: list[Value]) -> Value | None:
        each = next((x.type.shape for x in chosen if x.type.shape), ())
        type_ = TensorType(each, F32)
        same = [
            x if x.type.shape == each else self.op("broadcast", type_, x, dims=(0,)) for x in chosen
        ]
        if not same:
            return None
        product = same[0] if len(same) == 1 else self.op("mul", type_, *same)
        return self.op("mean", SCALAR, product, dims=(0,), keepdim=False) if each else product

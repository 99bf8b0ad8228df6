"""Recompute: keep for backward what is small, and make the rest again, bit for bit.

"Training Deep Nets with Sublinear Memory Cost" (Chen et al., 2016), section 3, with the choice made
by element size; activations that are codes already are kept.

    recompute   kept from forward to backward                   made again in backward
    none        everything that backward reads                  nothing
    masks       codes of activations, inputs of batch norm;     codes of weights, casts, views, what
                where a relu follows an add: its region,        codes decode to, relu and clip masks
                2 bits                                          behind a batch norm
    bn_input    the same without the inputs of batch norm       these too: their GEMMs run twice
    attention   as masks, without the probabilities             these too: products of q and k, and
                of attention                                    its softmax, run twice
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from ..compiler.formats import F32, UINT2
from ..compiler.ir import Op, Program, Region, Value, attrs, unused
from ..compiler.ir.ops import BETWEEN_ACTIVATIONS, FORWARD_GEMMS, Trait, has
from ..compiler.types import TensorType
from .parts.order import Makes, placed

Recompute = Literal["none", "masks", "bn_input", "attention"]
NORM_GRADS = frozenset(("batch_norm_grad_stats", "batch_norm_input_grad"))


@placed(after=(Makes.CODES, Makes.BITS, "depthwise_bits", "carrier", "loss_scale", "subsample"))
def recompute(program: Program, *, recompute: Recompute = "masks") -> Program:
    """Cut what crosses from forward to backward; the numbers stay the same."""
    if recompute == "none" or not program.region("backward").ops:
        return program.done("recompute")
    out = _read_masks(program)
    out = _keep_masks(out, _Plan.of(out, recompute))
    plan = _Plan.of(out, recompute)
    return out.rewrite(_Again(out, plan).rule, by="recompute")


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which forward values backward can make again, given those that are kept.

    ``again`` are ops that may run twice though they are not cheap.
    """

    makers: dict[Value, Op]
    again: frozenset[Op]
    weights: frozenset[Value]
    kept: set[Value] = field(default_factory=set)

    @classmethod
    def of(cls, program: Program, mode: Recompute) -> _Plan:
        """Go through the values in order: one that cannot be made from those kept is kept too."""
        forward = program.region("forward").ops
        makers = {r: op for op in forward for r in op.results}
        backward, update = (program.region(n).ops for n in ("backward", "update"))
        needed = {v for op in backward for v in op.inputs if v in makers}
        again: frozenset[Op] = frozenset()
        if mode == "bn_input":
            again = _norm_inputs(backward, makers)
        elif mode == "attention":
            again = _probabilities(needed, makers)
        plan = cls(makers, again, frozenset(program.state))
        # Kept: what no cheap op makes, and what the update reads, at the very end.
        plan.kept.update(v for v in needed if not plan.cheap(v))
        codes = [plan.makers[v] for v in needed if plan.weight_codes(v)]
        plan.kept.update(i for op in codes for i in op.inputs[1:] if i in makers)
        decoded = [makers[v] for v in needed if makers[v].kind == "dequantize"]
        plan.kept.update(op.inputs[0] for op in decoded if op.inputs[0] in makers)
        plan.kept.update(v for op in update for v in op.inputs if v in makers)
        for v in makers:
            if v in needed and not plan.possible(v):
                plan.kept.add(v)
        return plan

    def cheap(self, v: Value) -> bool:
        """Whether the op that makes ``v`` may run twice."""
        op = self.makers[v]
        return has(op, Trait.CHEAP) or op in self.again or self.weight_codes(v)

    def weight_codes(self, v: Value) -> bool:
        """Whether ``v`` is a quantized weight: with its limits at hand one pass makes it again."""
        op = self.makers[v]
        return has(op, Trait.CHEAP_ON_WEIGHTS) and op.inputs[0] in self.weights

    def possible(self, v: Value, gemm: bool = True) -> bool:
        """Whether ``v`` is at hand in backward or can be made there, by at most one GEMM.

        A chain of GEMMs would run most of forward again and hold all of it at once.
        """
        if v in self.kept or v not in self.makers:
            return True
        op = self.makers[v]
        multiplies = op.kind in FORWARD_GEMMS
        if not self.cheap(v) or (multiplies and not gemm):
            return False
        return all(self.possible(i, gemm and not multiplies) for i in op.inputs)


def _norm_inputs(backward: tuple[Op, ...], makers: dict[Value, Op]) -> frozenset[Op]:
    """The forward GEMMs whose results batch norm's gradient reads, through a bias or a view."""
    todo = [op.inputs[1] for op in backward if op.kind in NORM_GRADS]
    found: set[Op] = set()
    while todo:
        op = makers.get(todo.pop())
        if op is None or op in found:
            continue
        if op.kind in FORWARD_GEMMS:
            found.add(op)
        elif has(op, Trait.CHEAP):
            todo += op.inputs
    return frozenset(found)


def _probabilities(needed: set[Value], makers: dict[Value, Op]) -> frozenset[Op]:
    """The ops from products of activations to what backward reads of their exponentials."""
    found: set[Op] = set()
    for v in (v for v in needed if v.type.format.is_carrier):
        todo, ops = [v], set[Op]()
        while todo:
            op = makers.get(todo.pop())
            if op is None or op in ops or not _in_softmax(op):
                continue
            ops.add(op)
            todo += op.inputs if op.kind not in FORWARD_GEMMS else ()
        kinds = {op.kind for op in ops}
        if "exp" in kinds and not kinds.isdisjoint(FORWARD_GEMMS):
            found |= ops
    return frozenset(found)


def _in_softmax(op: Op) -> bool:
    """Whether an op may stand between two products of activations, or is the first of these."""
    if op.kind in FORWARD_GEMMS:
        return op.kind in BETWEEN_ACTIVATIONS
    traits = (Trait.POINTWISE, Trait.CHEAP, Trait.REDUCTION)
    return not has(op, Trait.QUANTIZER) and (not op.inputs or any(has(op, t) for t in traits))


def _read_masks(program: Program) -> Program:
    """Let ``relu_grad`` read the region of its relu's output where forward computes one."""
    regions = {
        op.inputs[0]: op.result
        for op in program.region("forward").ops
        if op.kind == "clip_region" and not op.bool_attr("signed")
    }

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        if op.kind != "relu_grad" or op.inputs[1] not in regions:
            return None
        return (replace(op, inputs=(op.inputs[0], regions[op.inputs[1]])),)

    return program.rewrite(rule)


def _keep_masks(program: Program, plan: _Plan) -> Program:
    """Give ``relu_grad`` two bits an element where it alone would keep a float alive."""
    later = [op for n in ("backward", "update") for op in program.region(n).ops]
    other = {v for op in later if op.kind != "relu_grad" for v in op.inputs}
    floats = {
        op.inputs[1]
        for op in later
        if op.kind == "relu_grad" and op.inputs[1] in plan.kept and op.inputs[1] not in other
    }
    taken, masks = program.names(), dict[Value, Value]()

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        if op.kind == "relu_grad" and op.inputs[1] in masks:
            return (replace(op, inputs=(op.inputs[0], masks[op.inputs[1]])),)
        if region.name != "forward" or not floats.intersection(op.results):
            return None
        # No clip: nothing is above infinity, and the region tells positive from not positive.
        y = op.result
        no_clip = Value(unused(f"{y.name}.no_clip", taken), TensorType((), F32))
        masks[y] = Value(unused(f"{y.name}.region", taken), TensorType(y.type.shape, UINT2))
        return (
            op,
            Op("constant", (), (no_clip,), attrs(value=float("inf")), op.origin),
            Op("clip_region", (y, no_clip), (masks[y],), attrs(signed=False), op.origin),
        )

    return program.rewrite(rule)


class _Again:
    """The rule that puts the ops which run again ahead of their first reader in backward."""

    def __init__(self, program: Program, plan: _Plan) -> None:
        self.plan = plan
        self.taken = program.names()
        self.again: dict[Value, Value] = {}

    def rule(self, region: Region, op: Op) -> tuple[Op, ...] | None:
        if region.name != "backward":
            return None
        ahead: list[Op] = []
        inputs = tuple(self.remake(v, ahead) for v in op.inputs)
        return (*ahead, replace(op, inputs=inputs))

    def remake(self, v: Value, ahead: list[Op]) -> Value:
        if v in self.plan.kept or v not in self.plan.makers:
            return v
        if v not in self.again:
            op = self.plan.makers[v]
            inputs = tuple(self.remake(i, ahead) for i in op.inputs)
            self.again[v] = Value(unused(f"{v.name}.again", self.taken), v.type)
            ahead.append(replace(op, inputs=inputs, results=(self.again[v],)))
        return self.again[v]

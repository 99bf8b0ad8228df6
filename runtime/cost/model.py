"""A program costed for an accelerator: every op a line, one kernel after the other.

The step is one like any other: what the first one alone does, where scales start, costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...compiler.formats import INTS, UINTS, Format
from ...compiler.ir import Op, Program, Value
from ...compiler.ir.analysis import Gemm, gemms, saved, without_dead
from ...compiler.ir.loops import loops
from ...compiler.ir.nest import SIDES, NestSide
from ...compiler.ir.ops import PRODUCTS
from ...targets.plan.first_scales import first_scales
from ...targets.plan.fuse import Group, fuse
from .accelerator import Accelerator
from .between import behind_product, group_cost
from .lines import OpCost
from .products import CostedGemm, gemm_cost
from .step_cost import StepCost


@dataclass(frozen=True, slots=True)
class OperandBits:
    """Bits that integer codes of products count as, for programs whose bits change."""

    activations: int
    weights: int
    gradients: int

    def of(self, f: Format, side: int, gemm: Gemm) -> Format:
        """The format that an operand counts as; floats stay."""
        if not f.is_integer or f.is_carrier or f.is_index:
            return f
        gradient = gemm.direction in ("dX", "dW") and side == 0
        weight = SIDES[gemm.op.kind][side] is NestSide.W
        bits = self.gradients if gradient else self.weights if weight else self.activations
        return (INTS if f.signed else UINTS).get(bits, f)

    def __str__(self) -> str:
        return f"{self.activations}/{self.weights}/{self.gradients}"


def step_cost(program: Program, machine: Accelerator, bits: OperandBits | None = None) -> StepCost:
    """What a step of ``program`` takes on ``machine``; codes of products as of so many bits.

    Raises UsageError where the machine cannot multiply what the program does.
    """
    program = first_scales(without_dead(program))
    seen = _Seen(program)
    lines: list[OpCost] = []
    for group in fuse(program):
        if _first_only(group):
            continue
        if group.ops[0].kind in PRODUCTS:
            found = seen.gemm(group, bits)
            lines.append(gemm_cost(found, machine))
            if len(group.ops) > 1:
                lines += behind_product(group, machine)
        else:
            kept = {} if group.region == "forward" else seen.kept
            lines += group_cost(group, machine, kept, seen.later)
    return StepCost(
        program.name, machine, tuple(lines), seen.samples, None if bits is None else str(bits)
    )


def _first_only(group: Group) -> bool:
    """Whether a group makes nothing but what scales start from."""
    made = {op.result for op in group.ops if op.kind == "amax_first"}
    return bool(made) and made == {*group.outputs}


class _Seen:
    """What the costs of single ops need to know of their program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.gemms: Mapping[Op, Gemm] = {g.op: g for g in gemms(program)}
        self.steps = loops(program)
        fixed = {*program.inputs, *program.state}
        held = [v for v in saved(program) if v not in fixed]
        self.kept: dict[Value, bool] = dict.fromkeys(held, True)
        forward = {v for op in program.region("forward").ops for v in op.inputs}
        self.later = {v for v in held if v not in forward and v not in program.outputs}
        self.samples = next((v.type.shape[0] for v in program.inputs if v.type.shape), 1)
        self.sources = program.producers()

    def gemm(self, group: Group, bits: OperandBits | None) -> CostedGemm:
        """A product with its surroundings."""
        op, region = group.ops[0], group.region
        found = self.gemms[op]
        formats = [t.format for t in found.operands]
        if bits is not None:
            formats = [bits.of(f, i, found) for i, f in enumerate(formats)]
        later = region != "forward"
        made = group.outputs[0] if group.outputs else op.result
        reads = tuple(later and v in self.kept for v in op.inputs)
        return CostedGemm(
            found,
            (formats[0], formats[1]),
            made.type,
            self.steps.times(op),
            any(self._is_batch(v) for v in op.inputs),
            (reads[0], reads[1]),
            made in self.later,
        )

    def _is_batch(self, v: Value) -> bool:
        """Whether a value is the batch, or its codes."""
        maker = self.sources.get(v)
        if maker is not None and len(maker.inputs) and v.type.shape == maker.inputs[0].type.shape:
            return maker.inputs[0] in self.program.inputs
        return v in self.program.inputs

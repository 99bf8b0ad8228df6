"""The bill of a step: what multiplied in which format, what was kept for backward, what was waived.

Plain data, computed from programs, and from state where bits change; ``print`` shows tables,
``to_dict`` is for machines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ...compiler.ir import Op, Program, Value
from ...compiler.ir.analysis import Gemm, gemms, saved
from ...compiler.ir.loops import loops
from ...compiler.ir.ops import Trait, has
from ...compiler.saved import Kept
from ...passes.count_bit_operations import SPENT
from ...passes.parts.select import selected
from ...targets.plan.kernel import Unit
from ...targets.plan.layout import orders
from ...targets.plan.waive import waived
from .bill_tables import text
from .costs import NO_UNIT, ConversionLine, Costs, GemmLine, Making, SavedLine
from .kept_states import kept_states
from .op_counts import op_counts
from .stored_bytes import stored_bytes

if TYPE_CHECKING:
    from ...passes.recipe import Recipe
    from ...targets.plan.plan import Plan


@dataclass(frozen=True, slots=True)
class Bill(Costs):
    """What one training step costs and how it computes; ``print`` it, or take ``to_dict()``."""

    def __str__(self) -> str:
        return text(self)


def make_bill(
    program: Program,
    plan: Plan | None,
    *,
    captured: Program,
    recipe: Recipe,
    target: str,
    allow: Sequence[str],
    torch_saved: Sequence[Kept] | None,
) -> Bill:
    """The bill of a step: ``program`` as the recipe's passes made it of ``captured``, its plan."""
    return bill_of(
        program,
        torch_saved,
        making=making_of(recipe, target, program, allow, plan),
        units=None if plan is None else plan_units(plan),
        exempt=exempt_layers(recipe, captured),
        planned_bytes=None if plan is None else plan.saved_bytes(),
        kept=kept_states(captured, program),
    )


def with_spent(bill: Bill, state: Mapping[str, np.ndarray]) -> Bill:
    """The bill of a program with this state: what its steps so far have cost, if bits change."""
    spent = float(state.get(SPENT, 0.0))
    return replace(bill, spent_giga=spent) if spent else bill


def exempt_layers(recipe: Recipe, captured: Program) -> frozenset[str]:
    """The layers that the recipe leaves in the carrier by its option ``exempt``."""
    terms = {str(s.settings["exempt"]) for s in recipe.passes if "exempt" in s.settings}
    return frozenset().union(*(selected(captured, t) for t in terms))


def making_of(
    recipe: Recipe, target: str, program: Program, allow: Sequence[str], plan: Plan | None
) -> Making:
    """How ``program`` was made; without a plan the waivers are what was allowed, not what came."""
    return Making(
        recipe.name,
        tuple((key, str(value)) for key, value in recipe.options.items()),
        recipe.digest,
        target,
        program.history,
        tuple(allow) if plan is None else waived(plan.program),
    )


def plan_units(plan: Plan) -> dict[Op, str]:
    """What multiplies in each op that a multiplying kernel covers."""
    return {
        op: p.kernel.unit.value
        for p in plan.kernels
        if p.kernel.unit is not Unit.NONE
        for op in p.kernel.ops
    }


def bill_of(
    program: Program,
    torch_saved: Sequence[Kept] | None = None,
    *,
    making: Making | None = None,
    units: Mapping[Op, str] | None = None,
    exempt: frozenset[str] | None = None,
    planned_bytes: int | None = None,
    kept: tuple[int, int] = (0, 0),
) -> Bill:
    """The bill of a program without the step around it.

    ``torch_saved`` is what PyTorch keeps for the same step; ``units`` says what multiplies in each
    GEMM (from the target's plan); ``exempt`` names the layers whose GEMMs of two plain floats count
    as exempt. Where that is None, all of them do if any other GEMM of the program is quantized.
    ``kept`` is what the optimizer keeps, see ``kept_states``.
    """
    found = gemms(program)
    return Bill(
        program.name,
        making or Making(passes=program.history),
        _gemm_lines(found, units or {}, exempt),
        _saved_lines(program),
        None if torch_saved is None else tuple(torch_saved),
        _conversion_lines(program),
        planned_bytes,
        _samples(program),
        kept_states=kept,
        ops=op_counts(program),
    )


def _samples(program: Program) -> int:
    """The size of the batch: dimension 0 of the first input that has one."""
    return next((v.type.shape[0] for v in program.inputs if v.type.shape), 1)


def _gemm_lines(
    found: Sequence[Gemm], units: Mapping[Op, str], exempt: frozenset[str] | None
) -> tuple[GemmLine, ...]:
    total = sum(g.macs for g in found) or 1
    partly = any(g.quantized for g in found)
    lines = []
    for g in found:
        a, b = g.operands
        plain = a.format.is_carrier and b.format.is_carrier
        lines.append(
            GemmLine(
                g.op.origin,
                g.direction,
                (a.short, b.short),
                (a.format.bits, b.format.bits),
                (a.elements, b.elements),
                units.get(g.op, NO_UNIT),
                g.macs,
                g.macs / total,
                plain and (partly if exempt is None else g.op.origin in exempt),
            )
        )
    return tuple(lines)


def _saved_lines(program: Program) -> tuple[SavedLine, ...]:
    order = orders(program)
    makers = program.producers()
    fed, numbers, steps = _fed_by_batch(program), _update_inputs(program), loops(program)
    lines = []
    for v in saved(program):
        if v in numbers:
            continue
        layer = makers[v].origin if v in makers else ""
        kind = "batch" if v in program.inputs else "activation" if v in fed else "weights"
        size = stored_bytes(v, order[v]) * steps.kept(v)
        lines.append(SavedLine(v.name, layer, v.type.short, v.type.shape, size, kind))
    return tuple(lines)


def _update_inputs(program: Program) -> set[Value]:
    """Inputs that only the update reads: learning rates and the like, no part of the batch."""
    earlier = (op for name in ("forward", "backward") for op in program.region(name).ops)
    return set(program.inputs) - {v for op in earlier for v in op.inputs}


def _fed_by_batch(program: Program) -> set[Value]:
    """Values that depend on a program input."""
    fed, feeds = set(program.inputs), loops(program).feeds
    before = -1
    while before < len(fed):  # what a loop carries depends on what its steps make
        before = len(fed)
        for _, op in program.ops():
            if fed.intersection(op.inputs):
                fed.update(op.results)
        fed.update(x for x, feed in feeds.items() if fed.intersection(feed.inputs))
    return fed


def _conversion_lines(program: Program) -> tuple[ConversionLine, ...]:
    groups: dict[tuple[str, str, str], list[int]] = {}
    steps = loops(program)
    for _, op in program.ops():
        if has(op, Trait.CONVERTS):
            key = (op.kind, op.inputs[0].type.short, op.result.type.short)
            groups.setdefault(key, []).append(op.result.type.elements * steps.times(op))
    lines = (ConversionLine(*key, len(sizes), sum(sizes)) for key, sizes in groups.items())
    return tuple(sorted(lines, key=lambda c: (-c.elements, c.op, c.result)))

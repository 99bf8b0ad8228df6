"""The bill of a step: what multiplied in which format, what was kept for backward, what was waived.

Plain data, computed from programs, and from state where bits change; ``print`` shows tables,
``to_dict`` is for machines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ...compiler.ir import Op, Program, Value
from ...compiler.ir.analysis import Gemm, gemms, saved
from ...compiler.types import Shape
from ...passes.count_bit_operations import SPENT
from ...passes.parts.select import selected
from ...targets.plan.kernel import Unit
from ...targets.plan.layout import Layout, Order, orders
from ...targets.plan.waive import waived
from .bit_operations import BitOperations, bit_operations
from .torch_saved import Kept, torch_saved

if TYPE_CHECKING:
    from ...passes.recipe import Recipe
    from ...targets.plan.plan import Plan
    from ..step import Source

NO_UNIT = "-"
FOUR_BITS, EIGHT_BITS = 4, 8
# Ops that turn numbers of one format into numbers of another; each costs a read and a write.
CONVERSIONS = frozenset(
    {
        *("quantize", "quantize_bits", "quantize_affine", "quantize_affine_stochastic"),
        *("squeeze", "round_log", "round_stochastic", "cast", "dequantize"),
    }
)


@dataclass(frozen=True, slots=True)
class GemmLine:
    """One GEMM: its layer and direction, storage of both operands, what multiplies, its MACs."""

    layer: str
    direction: str
    operands: tuple[str, str]
    bits: tuple[int, int]
    unit: str
    macs: int
    share: float
    exempt: bool

    @property
    def formats(self) -> str:
        """The format class: ``uint4 x int4``."""
        return " x ".join(o.partition("*")[0] for o in self.operands)

    @property
    def bit_operations(self) -> int:
        """Bits of one operand times bits of the other, for each MAC."""
        return self.bits[0] * self.bits[1] * self.macs

    @property
    def four_bit(self) -> bool:
        """Whether both operands are stored in at most four bits."""
        return max(self.bits) <= FOUR_BITS

    @property
    def eight_bit(self) -> bool:
        """Whether both operands are stored in at most eight bits, and not both in four."""
        return FOUR_BITS < max(self.bits) <= EIGHT_BITS


@dataclass(frozen=True, slots=True)
class ClassLine:
    """All GEMMs of one format class on one unit: their number, MACs and share of the step."""

    formats: str
    unit: str
    gemms: int
    macs: int
    share: float


@dataclass(frozen=True, slots=True)
class SavedLine:
    """A value that backward reads: format with scale, shape, bytes; ``kind`` says where it is from.

    ``kind`` is ``batch`` (a program input), ``weights`` (computed from state alone) or
    ``activation``.
    """

    name: str
    layer: str
    format: str
    shape: Shape
    bytes: int
    kind: str


@dataclass(frozen=True, slots=True)
class ConversionLine:
    """Elements that one kind of op converts per step between two formats."""

    op: str
    source: str
    result: str
    tensors: int
    elements: int


@dataclass(frozen=True, slots=True)
class Making:
    """How the program came about: recipe with options and hash, target, passes, waivers."""

    recipe: str = NO_UNIT
    options: tuple[tuple[str, str], ...] = ()
    digest: str = NO_UNIT
    target: str = NO_UNIT
    passes: tuple[str, ...] = ()
    waivers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bill:
    """What one training step costs and how it computes; ``print`` it, or take ``to_dict()``.

    ``torch_saved`` is None where the captured f32 program was not at hand; ``planned_bytes`` is
    what the target's memory plan keeps between forward and backward, None without a plan;
    ``samples`` is the size of the batch; ``spent_giga`` are, of a program whose bits change while
    it runs, the mean GBitOPs of its steps so far.
    """

    program: str
    making: Making
    gemms: tuple[GemmLine, ...]
    saved: tuple[SavedLine, ...]
    torch_saved: tuple[Kept, ...] | None
    conversions: tuple[ConversionLine, ...]
    planned_bytes: int | None = None
    samples: int = 1
    spent_giga: float | None = None

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole step."""
        return sum(g.macs for g in self.gemms)

    @property
    def bit_operations(self) -> BitOperations:
        """What the multiplications cost by the bits of their operands."""
        return bit_operations(((g.bits, g.macs) for g in self.gemms), self.samples)

    @property
    def four_bit_share(self) -> float:
        """Share (0..1) of all MACs, exempt ones included, whose operands both have <= 4 bits."""
        return sum(g.macs for g in self.gemms if g.four_bit) / max(self.macs, 1)

    @property
    def eight_bit_share(self) -> float:
        """Share (0..1) of all MACs whose wider operand has 5..8 bits, such as those in FP8."""
        return sum(g.macs for g in self.gemms if g.eight_bit) / max(self.macs, 1)

    @property
    def exempt_share(self) -> float:
        """Share (0..1) of all MACs in layers that the recipe leaves in the carrier."""
        return sum(g.macs for g in self.gemms if g.exempt) / max(self.macs, 1)

    @property
    def classes(self) -> tuple[ClassLine, ...]:
        """MACs by format class and unit, the largest first."""
        groups: dict[tuple[str, str], list[GemmLine]] = {}
        for g in self.gemms:
            groups.setdefault((g.formats, g.unit), []).append(g)
        lines = (
            ClassLine(f, u, len(g), sum(x.macs for x in g), sum(x.share for x in g))
            for (f, u), g in groups.items()
        )
        return tuple(sorted(lines, key=lambda c: (-c.macs, c.formats)))

    @property
    def saved_bytes(self) -> int:
        """Bytes kept for backward; the batch, which the caller holds anyway, does not count."""
        return sum(s.bytes for s in self.saved if s.kind != "batch")

    @property
    def torch_bytes(self) -> int | None:
        """Bytes that PyTorch would keep in f32, parameters and batch not counted."""
        if self.torch_saved is None:
            return None
        return sum(k.bytes for k in self.torch_saved)

    def to_dict(self) -> dict[str, object]:
        """Everything as plain numbers, words, lists and dictionaries, ready for JSON."""
        return {
            "program": self.program,
            "recipe": {
                "name": self.making.recipe,
                "options": dict(self.making.options),
                "hash": self.making.digest,
            },
            "target": self.making.target,
            "passes": list(self.making.passes),
            "waivers": list(self.making.waivers),
            "macs": self.macs,
            "bit_operations": self.bit_operations.to_dict(),
            "spent_giga_per_step": self.spent_giga,
            "four_bit_share": self.four_bit_share,
            "eight_bit_share": self.eight_bit_share,
            "exempt_share": self.exempt_share,
            "classes": [asdict(c) for c in self.classes],
            "gemms": [
                {**asdict(g), "formats": g.formats, "bit_operations": g.bit_operations}
                for g in self.gemms
            ],
            "saved": [asdict(s) for s in self.saved],
            "saved_bytes": self.saved_bytes,
            "planned_bytes": self.planned_bytes,
            "torch_saved": None
            if self.torch_saved is None
            else [asdict(k) for k in self.torch_saved],
            "torch_bytes": self.torch_bytes,
            "conversions": [asdict(c) for c in self.conversions],
        }

    def __str__(self) -> str:
        from .tables import text

        return text(self)


def make_bill(source: Source, program: Program, plan: Plan | None) -> Bill:
    """The bill of a step: ``program`` as the passes of ``source`` made it, and its plan."""
    return bill_of(
        program,
        source.train,
        making=making_of(source.recipe, source.target, program, source.allow, plan),
        units=None if plan is None else plan_units(plan),
        exempt=exempt_layers(source.recipe, source.train),
        planned_bytes=None if plan is None else plan.saved_bytes(),
    )


def with_spent(bill: Bill, state: Mapping[str, np.ndarray]) -> Bill:
    """The bill of a program with this state: what its steps so far have cost, if bits change."""
    spent = float(state.get(SPENT, 0.0))
    return replace(bill, spent_giga=spent) if spent else bill


def exempt_layers(recipe: Recipe, captured: Program) -> frozenset[str]:
    """The layers that the recipe leaves in the carrier by its option ``exempt``."""
    terms = {str(s.settings["exempt"]) for s in recipe.steps if "exempt" in s.settings}
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
    captured: Program | None = None,
    *,
    making: Making | None = None,
    units: Mapping[Op, str] | None = None,
    exempt: frozenset[str] | None = None,
    planned_bytes: int | None = None,
) -> Bill:
    """The bill of a program without the step around it.

    ``captured`` is the f32 program it was made from; ``units`` says what multiplies in each GEMM
    (from the target's plan); ``exempt`` names the layers whose GEMMs of two plain floats count as
    exempt. Where that is None, all of them do if any other GEMM of the program is quantized.
    """
    found = gemms(program)
    return Bill(
        program.name,
        making or Making(passes=program.history),
        _gemm_lines(found, units or {}, exempt),
        _saved_lines(program),
        None if captured is None else torch_saved(captured),
        _conversion_lines(program),
        planned_bytes,
        _samples(program),
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
    fed, numbers = _fed_by_batch(program), _update_inputs(program)
    lines = []
    for v in saved(program):
        if v in numbers:
            continue
        layer = makers[v].origin if v in makers else ""
        kind = "batch" if v in program.inputs else "activation" if v in fed else "weights"
        size = stored_bytes(v, order[v])
        lines.append(SavedLine(v.name, layer, v.type.short, v.type.shape, size, kind))
    return tuple(lines)


def stored_bytes(value: Value, order: Order) -> int:
    """Bytes that ``value`` takes in memory: packed codes and its scale."""
    layout = Layout(value.type, order)
    return layout.bytes + 4 * layout.scales


def _update_inputs(program: Program) -> set[Value]:
    """Inputs that only the update reads: learning rates and the like, no part of the batch."""
    earlier = (op for name in ("forward", "backward") for op in program.region(name).ops)
    return set(program.inputs) - {v for op in earlier for v in op.inputs}


def _fed_by_batch(program: Program) -> set[Value]:
    """Values that depend on a program input."""
    fed = set(program.inputs)
    for _, op in program.ops():
        if fed.intersection(op.inputs):
            fed.update(op.results)
    return fed


def _conversion_lines(program: Program) -> tuple[ConversionLine, ...]:
    groups: dict[tuple[str, str, str], list[int]] = {}
    for _, op in program.ops():
        if op.kind in CONVERSIONS:
            key = (op.kind, op.inputs[0].type.short, op.result.type.short)
            groups.setdefault(key, []).append(op.result.type.elements)
    lines = (ConversionLine(*key, len(sizes), sum(sizes)) for key, sizes in groups.items())
    return tuple(sorted(lines, key=lambda c: (-c.elements, c.op, c.result)))

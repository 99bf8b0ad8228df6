"""The cost of a whole step on an accelerator: sums by part, products by bits, and all lines."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from .accelerator import Accelerator
from .lines import PRODUCT_ROLES, Energy, MovedBits, OpCost, PartSum, Role, part_sum

PJ = 1e-12


@dataclass(frozen=True, slots=True)
class StepCost:
    """What a step takes on ``machine``; ``bits`` where codes counted as others than stored."""

    program: str
    machine: Accelerator
    lines: tuple[OpCost, ...]
    samples: int = 1
    bits: str | None = None

    @property
    def cycles(self) -> float:
        """One kernel after the other."""
        return sum(x.cycles for x in self.lines)

    @property
    def stalled(self) -> float:
        """Cycles in which array or lanes wait for memory."""
        return sum(x.stalled for x in self.lines)

    @property
    def seconds(self) -> float:
        """Of a step."""
        return self.machine.seconds(self.cycles)

    @property
    def energy(self) -> Energy:
        """pJ of a step."""
        return self.total.energy

    @property
    def joules(self) -> float:
        """Of a step."""
        return self.energy.total * PJ

    @property
    def scale_pj(self) -> float:
        """pJ of multiplications by scales behind products."""
        return sum(x.products.scale_pj for x in self.lines if x.products)

    @property
    def parts(self) -> tuple[PartSum, ...]:
        """The parts of a step that do anything, in their order."""
        found = []
        for role in Role:
            lines = [x for x in self.lines if x.role is role]
            made = part_sum(role, lines)
            if role is Role.SCALE and self.scale_pj:
                energy = made.energy + Energy(self.scale_pj)
                made = PartSum(role, made.cycles, made.stalled, 0, made.bits, energy)
            if lines or made.energy.total:
                found.append(made)
        return tuple(found)

    @property
    def total(self) -> PartSum:
        """All parts together."""
        found = self.parts
        return PartSum(
            "step",
            sum(p.cycles for p in found),
            sum(p.stalled for p in found),
            sum(p.macs for p in found),
            sum((p.bits for p in found), MovedBits()),
            sum((p.energy for p in found), Energy()),
        )

    @property
    def by_bits(self) -> dict[tuple[int, int], int]:
        """Products by the bits of their operands, the wider one first; most of them first."""
        found: Counter[tuple[int, int]] = Counter()
        for x in self.lines:
            if x.products:
                a, b = sorted(x.products.bits, reverse=True)
                found[a, b] += x.products.macs
        return dict(found.most_common())

    @property
    def utilization(self) -> float:
        """Products over what the units that made them could have made in their cycles."""
        made = [x for x in self.lines if x.products]
        cycles = sum(x.cycles for x in made)
        busy = sum(x.products.utilization * x.cycles for x in made if x.products)
        return busy / cycles if cycles else 0.0

    @property
    def assumed_macs(self) -> int:
        """Products of numbers that the published machine has no unit for."""
        return sum(x.products.macs for x in self.lines if x.products and x.products.assumed)

    @property
    def macs(self) -> int:
        """All products."""
        return sum(x.products.macs for x in self.lines if x.products)

    def to_dict(self) -> dict[str, object]:
        """Everything as plain data, ready for JSON."""
        return {
            "program": self.program,
            "accelerator": self.machine.name,
            "samples": self.samples,
            "counted_bits": self.bits,
            "seconds": self.seconds,
            "joules": self.joules,
            "cycles": self.cycles,
            "stalled": self.stalled,
            "utilization": self.utilization,
            "area_mm2": self.machine.mm2,
            "macs": self.macs,
            "assumed_macs": self.assumed_macs,
            "products": [{"bits": list(k), "macs": n} for k, n in self.by_bits.items()],
            "parts": [_part(p) for p in (*self.parts, self.total)],
            "assumptions": list(self.machine.assumptions),
            "ops": [x.to_dict() for x in self.lines],
        }


def product_lines(cost: StepCost) -> list[OpCost]:
    """The products of a step."""
    return [x for x in cost.lines if x.role in PRODUCT_ROLES]


def _part(p: PartSum) -> dict[str, object]:
    return {
        "part": str(p.name),
        "cycles": p.cycles,
        "stalled": p.stalled,
        "macs": p.macs,
        "bits": p.bits.to_dict(),
        "energy": p.energy.to_dict(),
    }

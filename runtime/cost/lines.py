"""What a step takes on an accelerator, as data: a line for each op, and their sums by part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Which part of a step an op belongs to."""

    FORWARD = "forward"
    INPUT_GRAD = "dX"
    WEIGHT_GRAD = "dW"
    PRODUCT = "other products"
    CONVERSION = "conversions"
    SCALE = "scales"
    ARITHMETIC = "between products"
    OPTIMIZER = "optimizer"


PRODUCT_ROLES = (Role.FORWARD, Role.INPUT_GRAD, Role.WEIGHT_GRAD, Role.PRODUCT)


@dataclass(frozen=True, slots=True)
class Energy:
    """pJ: of arithmetic, of on-chip memory, of DRAM; ``kept`` is DRAM for what backward is kept."""

    compute: float = 0.0
    sram: float = 0.0
    dram: float = 0.0
    kept: float = 0.0

    @property
    def total(self) -> float:
        """All four."""
        return self.compute + self.sram + self.dram + self.kept

    def __add__(self, other: Energy) -> Energy:
        return Energy(
            self.compute + other.compute,
            self.sram + other.sram,
            self.dram + other.dram,
            self.kept + other.kept,
        )

    def to_dict(self) -> dict[str, float]:
        """pJ by name."""
        return {
            "compute_pj": self.compute,
            "sram_pj": self.sram,
            "dram_pj": self.dram,
            "kept_pj": self.kept,
        }


@dataclass(frozen=True, slots=True)
class MovedBits:
    """Bits moved: of on-chip memory read and written, of DRAM read and written.

    Of those of DRAM ``kept`` are there because a value is kept for backward.
    """

    sram_read: int = 0
    sram_written: int = 0
    dram_read: int = 0
    dram_written: int = 0
    kept: int = 0

    @property
    def dram(self) -> int:
        """Read and written."""
        return self.dram_read + self.dram_written

    @property
    def sram(self) -> int:
        """Read and written."""
        return self.sram_read + self.sram_written

    def __add__(self, other: MovedBits) -> MovedBits:
        return MovedBits(
            self.sram_read + other.sram_read,
            self.sram_written + other.sram_written,
            self.dram_read + other.dram_read,
            self.dram_written + other.dram_written,
            self.kept + other.kept,
        )

    def to_dict(self) -> dict[str, int]:
        """Bits by name."""
        return {
            "sram_read": self.sram_read,
            "sram_written": self.sram_written,
            "dram_read": self.dram_read,
            "dram_written": self.dram_written,
            "kept": self.kept,
        }


@dataclass(frozen=True, slots=True)
class MadeProducts:
    """The products of a GEMM: how many, of which formats and bits, on which unit, in which tiles.

    ``matrices`` are M, N and K of each of ``groups``.
    """

    macs: int
    formats: tuple[str, str]
    bits: tuple[int, int]
    unit: str
    assumed: bool
    groups: int
    matrices: tuple[int, int, int]
    utilization: float
    tile: tuple[tuple[str, int], ...]
    order: tuple[str, ...]
    scale_pj: float

    def to_dict(self) -> dict[str, object]:
        """Plain data."""
        return {
            "macs": self.macs,
            "formats": list(self.formats),
            "bits": list(self.bits),
            "unit": self.unit,
            "assumed": self.assumed,
            "groups": self.groups,
            **dict(zip("mnk", self.matrices, strict=True)),
            "utilization": self.utilization,
            "tile": dict(self.tile),
            "order": list(self.order),
        }


@dataclass(frozen=True, slots=True)
class OpCost:
    """What one op takes: cycles, those of them that wait for memory, bits and energy.

    ``operations`` are those of the lanes. Ops that share a kernel share its cycles.
    """

    layer: str
    op: str
    region: str
    role: Role
    cycles: float
    stalled: float
    operations: int
    bits: MovedBits
    energy: Energy
    products: MadeProducts | None = None

    def to_dict(self) -> dict[str, object]:
        """Plain data, ready for JSON."""
        return {
            "layer": self.layer,
            "op": self.op,
            "region": self.region,
            "part": str(self.role),
            "cycles": self.cycles,
            "stalled": self.stalled,
            "operations": self.operations,
            "bits": self.bits.to_dict(),
            "energy": self.energy.to_dict(),
            "products": None if self.products is None else self.products.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class PartSum:
    """All ops of a part together."""

    name: str
    cycles: float
    stalled: float
    macs: int
    bits: MovedBits
    energy: Energy


def part_sum(name: str, lines: Iterable[OpCost]) -> PartSum:
    """The sum of some lines; what scaled their products is left to the part of scales."""
    found = list(lines)
    return PartSum(
        name,
        sum(x.cycles for x in found),
        sum(x.stalled for x in found),
        sum(x.products.macs for x in found if x.products),
        sum((x.bits for x in found), MovedBits()),
        sum((x.energy for x in found), Energy()),
    )

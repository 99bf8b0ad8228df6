"""An accelerator as data: an array that multiplies, buffers, memory, and lanes for all the rest."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction


class Gathers(StrEnum):
    """Which layers put the taps of a convolution beside its channels (im2col), to fill the rows."""

    NEVER = "never"
    BATCH = "batch"  # those that read the batch, which the host lays out
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class CostedUnit:
    """What multiplies two numbers: the kinds it ``takes``, its rate, and pJ of one product.

    ``rate`` is products of a cell of the array in a cycle. One that is ``assumed`` stands for
    numbers that the published machine has no unit for.
    """

    name: str
    takes: tuple[str, str]
    rate: Fraction
    pj: float
    assumed: bool
    source: str


@dataclass(frozen=True, slots=True)
class CostedArray:
    """``inputs`` numbers a sum and ``outputs`` sums, of each of ``pixels``, in all ``arrays``."""

    inputs: int
    outputs: int
    pixels: int
    arrays: int
    gathers: Gathers
    source: str

    @property
    def cells(self) -> int:
        """Products of a cycle at a rate of 1."""
        return self.inputs * self.outputs * self.pixels * self.arrays


@dataclass(frozen=True, slots=True)
class CostedBuffer:
    """On-chip memory for one kind of operand: usable bits, and pJ of a bit read and written."""

    kib: float
    usable: float
    read_pj: float
    write_pj: float
    source: str

    @property
    def bits(self) -> int:
        """Bits that a tile may take; half of a buffer that is filled while it is read."""
        return int(self.kib * 1024 * 8 * self.usable)


@dataclass(frozen=True, slots=True)
class CostedMemory:
    """DRAM: bits of a cycle, read and written together, and pJ of a bit."""

    bits_per_cycle: float
    pj_per_bit: float
    source: str


@dataclass(frozen=True, slots=True)
class CostedLanes:
    """What does all but products: an operation of a lane in a cycle, and pJ of each sort."""

    lanes: int
    add_pj: float
    multiply_pj: float
    function_pj: float
    random_pj: float
    source: str


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A machine that a step is costed for. ``area`` is mm2 of its parts, where known."""

    name: str
    title: str
    megahertz: float
    clock_source: str
    array: CostedArray
    units: tuple[CostedUnit, ...]
    data: CostedBuffer
    weights: CostedBuffer
    sums: CostedBuffer
    sum_bits: int
    memory: CostedMemory
    lanes: CostedLanes
    area: tuple[tuple[str, float], ...]
    area_source: str
    assumptions: tuple[str, ...]

    @property
    def mm2(self) -> float | None:
        """Area of all its parts; None where nothing is published."""
        return sum(size for _, size in self.area) if self.area else None

    def seconds(self, cycles: float) -> float:
        """How long so many cycles take."""
        return cycles / (self.megahertz * 1e6)

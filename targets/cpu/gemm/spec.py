"""What a GEMM kernel is asked for, the ways to make one, and the spec of the one chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...gemm.product import Product
from ..info import CpuInfo
from .units import Dot, UnitRule

if TYPE_CHECKING:
    from tvm.tirx import PrimFunc


@dataclass(frozen=True, slots=True)
class GemmRequest(Product):
    """A product for one CPU."""

    cpu: CpuInfo


@dataclass(frozen=True, slots=True)
class Way:
    """One way to make GEMMs: ``takes`` says with which dot, None where it cannot make one.

    Of the ways that take a GEMM the one with the highest ``peak`` is chosen, see ``UnitRule``.
    """

    name: str
    peak: int
    takes: Callable[[GemmRequest], Dot | None]
    build: Callable[[GemmSpec], PrimFunc]

    def __repr__(self) -> str:
        return f"Way({self.name})"  # the name of a spec in the cache of kernels is its repr


@dataclass(frozen=True, slots=True)
class GemmSpec(GemmRequest):
    """All that decides a GEMM kernel's code: what is asked, the way and the dot that answer it."""

    way: Way
    dot: Dot

    def build(self) -> PrimFunc:
        """The private function: one typed pointer per slot, inputs first, returning int32 0."""
        return self.way.build(self)


def ways(
    loops: str,
    sums: Callable[[GemmRequest], int | None],
    units: Sequence[UnitRule],
    build: Callable[[GemmSpec], PrimFunc],
) -> tuple[Way, ...]:
    """A way for each unit of a kernel whose loops serve several.

    ``sums`` gives the number of products that one accumulator adds up, at most; None for a GEMM
    that these loops do not make.
    """

    def taker(unit: UnitRule) -> Callable[[GemmRequest], Dot | None]:
        def takes(gemm: GemmRequest) -> Dot | None:
            length = sums(gemm)
            return None if length is None else unit.dot(gemm.pair(length), gemm.cpu)

        return takes

    return tuple(Way(f"{loops}, {u.name}", u.peak, taker(u), build) for u in units)

"""The spec of a GEMM kernel on a GPU, and the ways to make one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...gemm.product import Product
from ...plan.kernel import Unit

if TYPE_CHECKING:
    from ..code import Launch


@dataclass(frozen=True, slots=True)
class DeviceWay:
    """One way to make GEMMs.

    ``peak`` counts the multiply-adds that a multiprocessor of an A100 starts a cycle; of the ways
    that take a GEMM the one with the highest peak is chosen. ``scratch`` are types and sizes of
    what it needs while it runs, ``launches`` how many ``build`` makes.
    """

    name: str
    unit: Unit
    peak: int
    takes: Callable[[Product, str], bool]
    scratch: Callable[[DeviceGemm], tuple[tuple[str, int], ...]]
    launches: Callable[[DeviceGemm], int]
    build: Callable[[DeviceGemm], list[Launch]]

    def __repr__(self) -> str:
        return f"DeviceWay({self.name})"  # the name of a spec in the cache of kernels is its repr


@dataclass(frozen=True, slots=True)
class DeviceGemm(Product):
    """All that decides a GEMM kernel's code."""

    arch: str
    way: DeviceWay

    @property
    def scratch(self) -> tuple[tuple[str, int], ...]:
        """Types and sizes of its scratch."""
        return self.way.scratch(self)

    @property
    def launches(self) -> int:
        """How many it takes."""
        return self.way.launches(self)

    def build(self) -> list[Launch]:
        """The launches, see ``Launch``."""
        return self.way.build(self)

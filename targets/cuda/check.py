"""Whether a batch holds what it must, asked on the device: nobody waits for the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..plan.checks import InputCheck

if TYPE_CHECKING:
    from .code import Launch

WORD = 4  # bytes of an answer: 0 where all is well


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """See ``KernelSpec``: takes the numbers, and two words that become 1 where one is wrong."""

    dtype: str
    elements: int
    low: float
    high: float
    ignore: int | None

    @property
    def name(self) -> str:
        """What it does."""
        return "check"

    def build(self) -> list[Launch]:
        """One launch."""
        from .check_build import build

        return build(self.dtype, self.elements, (self.low, self.high), self.ignore)


def check_of(check: InputCheck, dtype: str, elements: int) -> CheckSpec:
    """The kernel of a check."""
    return CheckSpec(dtype, elements, check.low, check.high, check.ignore)

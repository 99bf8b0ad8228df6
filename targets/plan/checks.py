"""What a batch must hold, for targets that look at it where it lies."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InputCheck:
    """All numbers of an input are ``low`` .. ``high``, or ``ignore``; NaN is neither."""

    input: str
    low: float
    high: float
    ignore: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceArray:
    """Numbers that lie on a device, row by row; whoever makes it keeps them alive."""

    address: int
    shape: tuple[int, ...]
    dtype: str

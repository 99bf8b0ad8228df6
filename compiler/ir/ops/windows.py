"""Windows over images: how many places they have."""

from __future__ import annotations


def window(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """Number of places of a window of ``kernel`` taps along ``size`` elements."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1

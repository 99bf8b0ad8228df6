"""A GEMM's operands as images: four dimensions, and whether a pixel's channels lie together."""

from __future__ import annotations

from ..plan.layout import Layout, Order


def shape4(layout: Layout) -> tuple[int, int, int, int]:
    """N, C, H, W of a 2-d or 4-d tensor."""
    n, c, *plane = layout.type.shape
    h, w = plane or (1, 1)
    return n, c, h, w


def channels_last(layout: Layout) -> bool:
    """Whether a pixel's channels lie together."""
    shape = layout.type.shape
    trivial = layout.parts == 1 and all(d == 1 for d in shape[2:])
    return layout.order is Order.PIXELS or len(shape) == 2 or trivial

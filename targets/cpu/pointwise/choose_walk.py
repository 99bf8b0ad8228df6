"""The four ways to walk a row, and which one a kernel takes.

plain      without packed values: vectors of channels, then single elements
vectors    where packed values have few channels, so that whole vectors share bytes: vector by
           vector, codes taken from the bytes by shuffles
parts      where the bytes of packed values come in whole vectors: by vectors of bytes, the
           expression evaluated once for each part of a byte and the codes joined
unpacked   else: packed values are unpacked and packed a row at a time
"""

from __future__ import annotations

from ...tir.pointwise.point import Frame
from .lanes import VectorWalk, fits
from .parts import PartWalk
from .unpacked import UnpackedWalk
from .walk import PlainWalk, Walk, packed

FEWEST_LANES = 4  # that make vectors of bytes worth their while


def choose_walk(frame: Frame) -> Walk:
    """The way to walk the rows of a kernel."""
    spec, channels = frame.spec, frame.space.channels
    layouts = [spec.layout(i) for i in packed(spec)]
    lanes = width(channels, spec.lanes)
    if not layouts:
        return PlainWalk(frame, lanes)
    parts = max(layout.parts for layout in layouts)
    bytes_ = largest_divisor(channels // parts, spec.lanes)
    if bytes_ < spec.lanes and fits(layouts, spec.lanes):
        return VectorWalk(frame, lanes)
    if channels % parts == 0 and bytes_ >= FEWEST_LANES:
        return PartWalk(frame, bytes_, parts)
    return UnpackedWalk(frame, lanes)


def largest_divisor(size: int, lanes: int) -> int:
    """The largest power of two that divides ``size``, up to ``lanes``."""
    return min(lanes, size & -size) if size else 1


def width(channels: int, lanes: int) -> int:
    """Lanes for a row without packed bytes: most that leave no single elements, if that is many."""
    best = largest_divisor(channels, lanes)
    while lanes > channels:
        lanes //= 2
    return best if best * 2 >= lanes else lanes

"""The launches of a pointwise kernel."""

from __future__ import annotations

from collections.abc import Sequence

from ...tir.expr import Expr
from ...tir.pointwise.buffers import frame_of, parameters
from ...tir.pointwise.space import PointwiseSpec
from ..code import DeviceCode, Made, Maker
from .geometry import THREADS, PointwiseGrid
from .join import Joined
from .sums import Scratch
from .thread import Thread


def build(spec: PointwiseSpec, geometry: PointwiseGrid, make: Maker[Made]) -> list[Made]:
    """All rows, then what they leave joined."""
    slots = list(parameters(spec).values())
    shapes = [*slots, *geometry.scratch]

    def scratch(pointers: Sequence[Expr]) -> Scratch:
        names = {"float32": "single", "float64": "partial"}
        given = zip(geometry.scratch, pointers[len(slots) :], strict=True)
        return Scratch(geometry, **{names[dtype]: buffer for (dtype, _), buffer in given})

    def rows(code: DeviceCode, pointers: list[Expr]) -> None:
        Thread(frame_of(spec, code, pointers[: len(slots)]), code, scratch(pointers)).run()

    def join(code: DeviceCode, pointers: list[Expr]) -> None:
        Joined(frame_of(spec, code, pointers[: len(slots)]), code, scratch(pointers)).run()

    first = make(shapes, geometry.threads, rows)
    return [first, *([make(shapes, THREADS, join)] if geometry.scratch else [])]

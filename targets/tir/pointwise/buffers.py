"""The buffers of a pointwise kernel: data of its operands and results, and their scales."""

from __future__ import annotations

from collections.abc import Sequence

from ..expr import Code, Expr
from .point import Frame
from .space import PointwiseSpec


def parameters(spec: PointwiseSpec) -> dict[tuple[int, bool], tuple[str, int]]:
    """Type and elements of each buffer, by the number of its value and whether it is a scale."""
    made: dict[tuple[int, bool], tuple[str, int]] = {}
    for i in (*spec.inputs, *spec.outputs):
        layout = spec.layout(i)
        made[i, False] = (layout.dtype, layout.rows * layout.cell)
        if spec.types[i].scale.value:
            made[i, True] = ("float32", layout.scales)
    return made


def frame_of(spec: PointwiseSpec, code: Code, given: Sequence[Expr]) -> Frame:
    """What all points share, with the buffers of ``parameters`` in their order."""
    table = dict(zip(parameters(spec), given, strict=True))
    data = {i: b for (i, scale), b in table.items() if not scale}
    scales = {i: b for (i, scale), b in table.items() if scale}
    return Frame(spec, code, data, scales)

"""Kernels at the border of a loop: copies between rows side by side and steps apart in memory.

Steps lie ``pitch`` bytes apart, see ``targets/plan/steps.py``.
"""

from __future__ import annotations

import numpy as np
from tvm import tirx as tir

from ...plan.layout import Layout
from ...plan.memory import aligned
from ..expr import Expr, load
from .grid import Spot
from .loops import Buffers
from .shape import copy_box
from .spec import Single


def pitch(layout: Layout) -> int:
    """Stored elements from one step to the next."""
    return aligned(layout.bytes) // np.dtype(layout.dtype).itemsize


def stored(layout: Layout) -> int:
    """Stored elements of a value."""
    return max(1, layout.rows * layout.cell)


def elements(spec: Single) -> dict[int, int]:
    """Stored elements of the buffers that hold steps apart, by the number of their value."""
    if spec.kind == "steps":
        return {0: spec.op.int_attr("count") * pitch(spec.outputs[0])}
    if spec.kind == "rows_of_step":
        whole, one = spec.layouts
        return {1: stored(whole) // stored(one) * pitch(one)}
    if spec.kind == "all_steps":
        one, whole = spec.layouts
        return {0: stored(whole) // stored(one) * pitch(one)}
    return {}


def _copy(b: Buffers, spec: Single, source: tuple[Expr, int], target: tuple[Expr, int]) -> None:
    """All steps from buffers of so many elements a step."""
    one = min(spec.layouts, key=stored)
    steps = max(map(stored, spec.layouts)) // stored(one)
    (a, ahead), (c, behind) = source, target
    shape = (steps, stored(one))
    layout = spec.layouts[0]
    copy_box(
        b.loops,
        spec.lanes,
        shape,
        (a, layout, {0: ahead, 1: 1}, 0),
        (c, layout, {0: behind, 1: 1}, 0),
    )


def rows_of_step(b: Buffers, spec: Single) -> None:
    """Apart."""
    one = spec.outputs[0]
    _copy(b, spec, (b.inputs[0], stored(one)), (b.outputs[0], pitch(one)))


def all_steps(b: Buffers, spec: Single) -> None:
    """Side by side; the scale is that of one step."""
    (one,) = spec.inputs
    if one.scales:
        with b.code.loop(one.scales) as k:
            b.code.store(b.output_scales[0], k, load(b.input_scales[0], k))
    _copy(b, spec, (b.inputs[0], pitch(one)), (b.outputs[0], stored(one)))


def once(b: Buffers, spec: Single) -> None:
    """One step of what is carried."""
    size = stored(spec.outputs[0])
    _copy(b, spec, (b.inputs[0], size), (b.outputs[0], size))


def steps(b: Buffers, spec: Single) -> None:
    """0, 1, .. in the place of each."""
    apart = pitch(spec.outputs[0])

    def body(s: Spot) -> None:
        number = tir.Cast(spec.outputs[0].dtype, s.at[0])
        b.code.store(b.outputs[0], s.index({0: apart}), number)

    b.loops.over((spec.op.int_attr("count"),), (0,), 1, body)


LOOP = {
    "steps": steps,
    "rows_of_step": rows_of_step,
    "carried": once,
    "feed": once,
    "all_steps": all_steps,
}

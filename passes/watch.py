"""Watch: numbers about the tensors that a step rounds, as outputs beside its loss.

What practice looks at where training in few bits fails: underflow and saturation, the signal to
quantization noise ratio, the histogram of exponents that Sun et al., "Ultra-Low Precision 4-bit
Training of Deep Neural Networks" (NeurIPS 2020), draw for gradients, and the distance from f32.

    conv.dys = grad_scale(conv.dy, s)                    as before
    conv.dys.even = round_log(conv.dys)                  as before
    conv.dy.watch.exponents = exponents(conv.dy)         i64[258]
    conv.dy.watch.largest = amax(conv.dy)                f32[]
    ...

Nothing else reads them, and no other value changes. ``Step.watch`` runs a program of this kind
beside the step in some steps; as a pass, ``quatrain opt`` shows its text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..compiler.ir import Op, Program, Region, Value
from ..compiler.ir.analysis import is_training
from ..compiler.ir.loops import loops
from .parts.order import placed
from .parts.watch_ops import Gauge, Measures
from .parts.watch_points import WatchPoint, chosen_points


@placed(after=("recompute", "canonicalize", "skip_nonfinite", "over_steps"))
def watch(program: Program, *, tensors: str = "*") -> Program:
    """Measure tensors by role or name: ``dy``, ``*.dw``, ``stages.0.*``, separated by commas."""
    if not is_training(program):
        return program.done("watch")
    return watched_points(program, chosen_points(program, tensors))[0].done("watch")


def watched_points(
    program: Program,
    points: Sequence[WatchPoint],
    beside: Mapping[str, Value] | None = None,
) -> tuple[Program, tuple[Gauge, ...]]:
    """The program that also measures ``points``, and what it makes for each.

    ``beside`` has, by name of the point, the same tensor of another computation in the program.
    """
    measures, beside = Measures(loops(program), program.names()), beside or {}
    made = tuple(measures.point(p, beside.get(p.name)) for p in points)
    results = dict.fromkeys(v for m in made for v in m.results.values())
    outputs = (*program.outputs, *(v for v in results if v not in program.outputs))
    return replace(_with(program, [*measures.ops.values()]), outputs=outputs), made


def _with(program: Program, more: Sequence[Op]) -> Program:
    """Each op of ``more``, which are in order, behind the last one that makes what it reads."""
    order = [op for r in program.regions for op in r.ops]
    at = {v: i for i, op in enumerate(order) for v in op.results}
    behind: dict[int, list[Op]] = {}
    for op in more:
        place = max((at.get(v, -1) for v in op.inputs), default=-1)
        at |= dict.fromkeys(op.results, place)
        behind.setdefault(place, []).append(op)
    regions, i = [], 0
    for region in program.regions:
        ops = behind.pop(-1, []) if region.name == "forward" else []
        for op in region.ops:
            ops += [op, *behind.pop(i, [])]
            i += 1
        regions.append(Region(region.name, tuple(ops)))
    return replace(program, regions=tuple(regions))

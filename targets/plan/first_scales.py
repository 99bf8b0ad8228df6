"""Scales that the first step takes from a gradient: found apart from what the later steps do.

``grad_scale_init`` and ``amax_init`` read a gradient where a state is still 0, that is once. But as
the scale is needed to quantize the same gradient, it would have to be in memory in every step, and
read again. So the ops that make it are repeated for the first step's maximum, in a kernel that
reads nothing later; what is left fuses with the quantizer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...compiler.formats import F32
from ...compiler.ir import Op, Program, Region, Value, unused
from ...compiler.ir.ops import Trait, has, having
from ...compiler.types import TensorType
from .fuse import fuse

FIRST_ONLY = having(Trait.STARTS_SCALE)


def first_scales(program: Program) -> Program:
    """``program`` with ``amax_first`` of repeated ops, where the gradient need not be stored."""
    readers = program.readers()
    kept = {*program.outputs, *(v for _, v in program.next)}
    repeated: dict[str, Sequence[Op]] = {}
    for region in program.regions:
        made = {r: op for op in region.ops for r in op.results}
        for op in region.ops:
            wanted = (
                op.kind in FIRST_ONLY and not op.attrs.get("always") and op.inputs[1] not in kept
            )
            if wanted and (chain := _chain(op, made, readers)):
                repeated[op.result.name] = chain
    while repeated:
        after = _rewritten(program, repeated)
        if not (wasted := _wasted(after)):
            return after
        repeated = {name: chain for name, chain in repeated.items() if name not in wasted}
    return program


def _rewritten(program: Program, repeated: Mapping[str, Sequence[Op]]) -> Program:
    taken = program.names()

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        chain = repeated.get(op.result.name) if op.kind in FIRST_ONLY else None
        return _apart(op, chain, taken) if chain else None

    return program.rewrite(rule, by="first_scales")


def _wasted(program: Program) -> set[str]:
    """The scales whose chain runs in every step, in a kernel that makes other results too."""
    readers = program.readers()
    wasted = set()
    for group in fuse(program):
        firsts = [op for op in group.ops if op.kind == "amax_first"]
        if {op.result for op in firsts} != {*group.outputs}:
            wasted |= {reader.result.name for op in firsts for reader in readers[op.result]}
    return wasted


def _chain(init: Op, made: Mapping[Value, Op], readers: Mapping[Value, list[Op]]) -> list[Op]:
    """What makes the gradient of ``init`` in its kernel; nothing where that is stored anyway."""
    g = init.inputs[1]
    maker = made.get(g)
    others = [op for op in readers.get(g, ()) if op is not init]
    joined = all(made.get(op.results[0]) is op and _joins(op, g) for op in others)
    # A scalar's kernel may make the state as well, and would read it ahead of that.
    if maker is None or not g.type.shape or not _fuses(maker, g) or not joined:
        return []
    chain, open_ = [maker], [maker]
    while open_:
        for v in open_.pop().inputs:
            ahead = made.get(v)
            alone = len(readers[v]) == 1 and v.type.shape == g.type.shape
            if ahead is not None and alone and _fuses(ahead, v) and ahead not in chain:
                chain.append(ahead)
                open_.append(ahead)
    return chain[::-1]


def _fuses(op: Op, result: Value) -> bool:
    """Whether a kernel makes an element of ``result`` where it reads those of the operands."""
    return has(op, Trait.POINTWISE) or (
        has(op, Trait.TAIL) and op.inputs[0].type.shape == result.type.shape
    )


def _joins(op: Op, g: Value) -> bool:
    """Whether a reader of ``g`` takes it from the kernel that makes it."""
    if has(op, Trait.TAIL):
        return op.inputs[0].type.shape == g.type.shape
    return has(op, Trait.POINTWISE) and op.result.type.shape == g.type.shape


def _apart(init: Op, chain: Sequence[Op], taken: set[str]) -> tuple[Op, ...]:
    """The chain again, its maximum, and ``init`` of that."""
    state, g = init.inputs
    again: dict[Value, Value] = {}
    ops: list[Op] = []
    for op in chain:
        results = tuple(Value(unused(f"{r.name}.first", taken), r.type) for r in op.results)
        again |= dict(zip(op.results, results, strict=True))
        ops.append(replace(op, inputs=tuple(again.get(v, v) for v in op.inputs), results=results))
    largest = Value(unused(f"{g.name}.first.amax", taken), TensorType((), F32))
    ops.append(Op("amax_first", (again[g], state), (largest,), origin=init.origin))
    return (*ops, replace(init, inputs=(state, largest)))

"""The values between the kernels of a run on a CPU: those that lie in buffers, kernel by kernel.

The kernels, their order and their memory are those of a step; what fused ops hand on in registers
is in no buffer and is not seen.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...compiler.ir import Program, Value
from ...compiler.ir.loops import CARRIED
from ..numbers.packing import from_memory, stored
from ..numbers.tensor import Tensor
from ..plan.kernel import Kernel, Slot
from ..plan.plan import Place, Plan, PlannedCall
from ..plan.state import aligned_bytes, state_layout
from ..registry import BindOptions
from ..seen import Seen
from .info import check_runs_here
from .kernels import LoadedKernels, load_kernels
from .module import Walker, kernel_names
from .target import cpu_of, plan_cpu
from .threads import all_threads, crew


def seen(program: Program, given: Mapping[str, Tensor], options: BindOptions) -> Seen:
    """See ``SeeingModule``."""
    cpu, layout = cpu_of(options), state_layout(program)
    if options.mcpu:
        check_runs_here(cpu)
    plan = plan_cpu(program, layout, cpu)
    kernels = load_kernels(kernel_names(plan), cpu, options.cache_dir)
    blocks = {name: aligned_bytes(layout.bytes) for name in ("old", "new")}
    blocks["arena"] = aligned_bytes(max(plan.arena, 1))
    for v in program.inputs:
        blocks[v.name] = stored(given[v.name])
    for v in program.state:
        start, held = layout.offsets[v.name], stored(given[v.name])
        blocks["old"][start : start + len(held)] = held
    raw = {Slot(v): stored(given[v.name]) for v in (*program.inputs, *program.state)}
    made: dict[Value, str] = {}
    for call in plan.calls():
        _run(call, kernels, blocks, options.threads or all_threads())
        for slot in call.kernel.outputs:
            if (place := _of_step_0(plan, call, slot)) is not None:
                block = blocks[place.where]
                raw[slot] = block[place.offset : place.offset + place.bytes].copy()
                made[slot.value] = _words(call.kernel)
    _add_views(program, plan, raw)
    return Seen({s.value: _tensor(plan, s, raw) for s in raw if not s.scale}, made)


def _run(
    call: PlannedCall, kernels: LoadedKernels, blocks: Mapping[str, np.ndarray], threads: int
) -> None:
    where = (*call.reads, *call.writes)
    names = list(blocks)
    slots = [(names.index(p.where), p.offset) for p in where]
    walker = Walker([(kernels[call.kernel.spec], slots)], len(names))
    crew(threads, walker.loop).look()
    walker([block.ctypes.data for block in blocks.values()])


def _of_step_0(plan: Plan, call: PlannedCall, slot: Slot) -> Place | None:
    """Where a call has just written a value, of a loop's that of step 0; None where not yet."""
    place, track = plan.places[slot], plan.tracks.get(slot)
    if track is None:
        return place
    first = 0 if call.kernel.ops[0].kind != CARRIED else track.loop.order[0]
    if first or call.step not in (None, 0):
        return None
    offset, size = track.at(0)
    return Place(place.where, place.offset + offset, size)


def _words(kernel: Kernel) -> str:
    """What a kernel is called, and the ops that it covers."""
    return f"{kernel.spec.name} ({' + '.join(op.kind for op in kernel.ops)})"


def _add_views(program: Program, plan: Plan, raw: dict[Slot, np.ndarray]) -> None:
    """Views that share the memory of what they show: no kernel makes those."""
    for _, op in program.ops():
        view, source = Slot(op.result), Slot(op.inputs[0]) if op.inputs else None
        if op.kind == "view" and view in plan.places and view not in raw and source in raw:
            raw[view] = raw[source]


def _tensor(plan: Plan, slot: Slot, raw: Mapping[Slot, np.ndarray]) -> Tensor:
    layout, scale = plan.layouts[slot.value], raw.get(Slot(slot.value, scale=True))
    numbers = None if scale is None else scale.view(np.float32)
    return from_memory(raw[slot].view(layout.dtype), layout, numbers)

"""Plans run with the reference's ops on the bytes that the plan chose, for programs in f32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from quatrain.compiler.ir import Op, Program, Value
from quatrain.targets.numbers.tensor import Tensor, dtype_of
from quatrain.targets.plan.choose import KnownPlaces, make_plan
from quatrain.targets.plan.fuse import Group
from quatrain.targets.plan.kernel import Kernel, Slot
from quatrain.targets.plan.layout import Order
from quatrain.targets.plan.memory import aligned
from quatrain.targets.plan.plan import Place, Plan, PlannedCall, PlannedKernel
from quatrain.targets.plan.state import state_layout
from quatrain.targets.reference.evaluate import run_op

Blocks = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class NoCode:
    """A kernel of which nothing is generated."""

    name: str

    def build(self) -> None:
        """Nothing."""


class OneKernelEach:
    """A kernel for each group; see ``Kernels``."""

    def kernel(self, group: Group, orders: Mapping[Value, Order]) -> Kernel:
        inside = {r for op in group.ops for r in op.results}
        read = dict.fromkeys(v for op in group.ops for v in op.inputs if v not in inside)
        slots = tuple(map(Slot, read)), tuple(map(Slot, group.outputs))
        return Kernel(NoCode(group.ops[0].kind), group.ops, *slots)

    def arranged(
        self, planned: Sequence[PlannedKernel], known: KnownPlaces
    ) -> Sequence[PlannedKernel]:
        return planned


def planned(program: Program) -> Plan:
    """The plan of a program."""
    return make_plan(program, state_layout(program), OneKernelEach())


def run_plan(program: Program, given: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Outputs and the next state, by name."""
    plan, state = planned(program), state_layout(program)
    # What nobody has written is NaN.
    blocks = {name: np.full(plan.arena, 255, np.uint8) for name in ("arena",)}
    blocks |= {name: np.zeros(state.bytes, np.uint8) for name in ("old", "new")}
    blocks |= {v.name: given[v.name].data.reshape(-1).view(np.uint8) for v in program.inputs}
    for v in program.state:
        _bytes(blocks, plan.places[Slot(v)])[:] = given[v.name].data.reshape(-1).view(np.uint8)
    for call in plan.calls():
        _run(blocks, call)
    ends = {v.name: v for v in program.outputs} | {s.name: v for s, v in program.next}
    return {name: _tensor(blocks, v, plan.places[Slot(v)]).data for name, v in ends.items()}


def _bytes(blocks: Blocks, place: Place) -> np.ndarray:
    found: np.ndarray = blocks[place.where][place.offset : place.offset + place.bytes]
    return found


def _tensor(blocks: Blocks, v: Value, place: Place) -> Tensor:
    data = _bytes(blocks, place).view(dtype_of(v.type.format)).reshape(v.type.shape)
    return Tensor(v.type, np.array(data))


def _run(blocks: Blocks, call: PlannedCall) -> None:
    kernel = call.kernel
    if kernel.ops[0].kind in ("rows_of_step", "all_steps"):
        _spread(*(_bytes(blocks, place) for place in (*call.reads, *call.writes)))
        return
    pairs = zip(kernel.inputs, call.reads, strict=True)
    values = {slot.value: _tensor(blocks, slot.value, place) for slot, place in pairs}
    for op in kernel.ops:
        values |= _made(op, [values[v] for v in op.inputs])
    for slot, place in zip(kernel.outputs, call.writes, strict=True):
        _bytes(blocks, place)[:] = values[slot.value].data.reshape(-1).view(np.uint8)


def _made(op: Op, inputs: list[Tensor]) -> dict[Value, Tensor]:
    if op.kind in ("carried", "feed"):  # copies, at the border of a loop
        return {op.result: inputs[0]}
    return dict(zip(op.results, run_op(op, inputs), strict=True))


def _spread(source: np.ndarray, target: np.ndarray) -> None:
    """From steps side by side to steps apart, or back."""
    apart, side = (source, target) if source.size > target.size else (target, source)
    steps = next(n for n in range(1, apart.size + 1) if _holds(apart.size, side.size, n))
    wide, rows = apart.reshape(steps, -1), side.reshape(steps, -1)
    if apart is source:
        rows[:] = wide[:, : rows.shape[1]]
    else:
        wide[:, : rows.shape[1]] = rows


def _holds(apart: int, side: int, steps: int) -> bool:
    return side % steps == 0 and apart == steps * aligned(side // steps)

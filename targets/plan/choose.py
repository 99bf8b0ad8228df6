"""From a program to its plan: fuse, choose a kernel for each group, give every buffer a place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from ...compiler.errors import NoKernelError
from ...compiler.ir import Program, Value
from ...compiler.ir.analysis import without_dead
from ...compiler.ir.loop_rules import unready
from ...compiler.ir.loops import COUNTER, is_border, loops
from .borders import data_of, without_counter
from .fuse import Group, fuse
from .kernel import Kernel, Slot
from .layout import Layout, Order, orders, same_bytes
from .plan import Plan, PlannedKernel, place_slots, slot_bytes
from .state import StateLayout

# Kernels find elements by integers of 32 bits.
MOST_ELEMENTS = 1 << 31


@dataclass(frozen=True, slots=True)
class KnownPlaces:
    """What is known of where values lie ahead of a plan: ``views`` share their sources' memory."""

    orders: Mapping[Value, Order]
    views: Mapping[Value, Value]
    fixed: frozenset[Value]

    def source(self, slot: Slot) -> Slot:
        """Whose memory a slot is."""
        value = slot.value
        while value in self.views:
            value = self.views[value]
        return Slot(value, slot.scale)

    def arena_bytes(self, slot: Slot) -> int:
        """Bytes of the arena that it takes: none of inputs, outputs and state."""
        value = self.source(slot).value
        if value in self.fixed:
            return 0
        return slot_bytes(slot, {slot.value: Layout(slot.value.type, self.orders[slot.value])})


class Kernels(Protocol):
    """What a target brings: a kernel for each group."""

    def kernel(self, group: Group, orders: Mapping[Value, Order]) -> Kernel:
        """The kernel of a group; NoKernelError names op and layer where there is none."""

    def arranged(
        self, planned: Sequence[PlannedKernel], known: KnownPlaces
    ) -> Sequence[PlannedKernel]:
        """The kernels of a plan in another order, or several as one; regions stay in theirs."""


def make_plan(program: Program, state: StateLayout, kernels: Kernels) -> Plan:
    """The plan of a program that the target has lowered.

    What nothing needs and a view that costs nothing have no kernel.

    Raises NoKernelError, with op and layer, where no kernel of the asked formats exists or a tensor
    is larger than kernels count.
    """
    program = without_dead(program)
    _check_sizes(program)
    if why := unready(program):
        raise NoKernelError(f"{program.name}: {why}")
    order, found = orders(program), loops(program)
    bound = {*program.outputs, *(v for _, v in program.next)}
    fed = {feed.inputs[1] for feed in found.feeds.values()}  # each has memory of its own
    read = {v for _, op in program.ops() for v in data_of(op)}
    chosen: list[PlannedKernel] = []
    aliases: dict[Value, Value] = {}
    for group in fuse(program, found):
        first = group.ops[0]
        if first.kind == "view" and first.result not in bound | fed and same_bytes(first, order):
            aliases[first.result] = first.inputs[0]
        elif first.kind != COUNTER or first.result in read:
            made = kernels.kernel(without_counter(group), order)
            chosen.append(PlannedKernel(made, group.region, loop=group.loop))
    known = KnownPlaces(order, aliases, frozenset((*program.inputs, *program.state, *bound)))
    arranged = [
        planned
        for fixed, part in groupby(chosen, _stays)
        for planned in ([*part] if fixed else kernels.arranged([*part], known))
    ]
    return place_slots(program, arranged, order, aliases, state, found)


def _stays(planned: PlannedKernel) -> bool:
    """Whether a kernel is in a loop or at the border of one."""
    return planned.loop is not None or is_border(planned.kernel.ops[0])


def _check_sizes(program: Program) -> None:
    """Raise NoKernelError for a value of more elements than 32 bits count."""
    made = ((v, f" of layer {op.origin or '-'}") for _, op in program.ops() for v in op.results)
    for v, layer in (*((v, "") for v in (*program.inputs, *program.state)), *made):
        if v.type.elements >= MOST_ELEMENTS:
            raise NoKernelError(
                f"{v.name}{layer} has shape {list(v.type.shape)}; kernels take tensors of fewer"
                " than 2^31 elements, so take a smaller batch or a smaller layer"
            )

"""The plan of a compiled program: kernels in order, and where every buffer lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from ...compiler.ir import Program, Value
from .kernel import Kernel, Slot
from .layout import Layout, Order
from .memory import Lifetime, place
from .state import StateLayout


@dataclass(frozen=True, slots=True)
class Place:
    """Where a slot lies: ``where`` is arena, old, new or the name of a program input."""

    where: str
    offset: int
    bytes: int


@dataclass(frozen=True, slots=True)
class PlannedKernel:
    """A kernel, its region, and where each scratch of it lies in the arena."""

    kernel: Kernel
    region: str
    scratch: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False, slots=True)
class Plan:
    """Kernels in order and the place of each slot.

    ``arena`` is the size in bytes of the one buffer that holds all values between kernels.
    """

    program: Program
    kernels: tuple[PlannedKernel, ...]
    places: Mapping[Slot, Place]
    arena: int
    layouts: Mapping[Value, Layout]

    def saved(self) -> list[tuple[Slot, Place]]:
        """The arena buffers whose contents cross from the forward kernels to later ones.

        Every storage once: a view that shares its source's memory is not listed again. Program
        inputs and state lie outside of the arena and are not in the list.
        """
        last_forward = max(
            (i for i, k in enumerate(self.kernels) if k.region == "forward"), default=-1
        )
        made: dict[Slot, int] = {}
        used: dict[Slot, int] = {}
        for i, planned in enumerate(self.kernels):
            made.update(dict.fromkeys(planned.kernel.outputs, i))
            used.update(dict.fromkeys(planned.kernel.inputs, i))
        crossing = {
            (p.offset, p.bytes): (s, p)
            for s, p in self.places.items()
            if p.where == "arena" and made.get(s, -1) <= last_forward < used.get(s, -1)
        }
        return list(crossing.values())

    def saved_bytes(self) -> int:
        """Bytes of ``saved()``."""
        return sum(place.bytes for _, place in self.saved())


@dataclass(frozen=True, slots=True)
class _Storage:
    """One buffer: the slots that share it (a value and its zero-copy views)."""

    slots: list[Slot]
    bytes: int


def slot_bytes(slot: Slot, layouts: Mapping[Value, Layout]) -> int:
    """Bytes of a data or scale buffer."""
    layout = layouts[slot.value]
    return layout.scales * 4 if slot.scale else layout.bytes


def place_slots(
    program: Program,
    kernels: Sequence[PlannedKernel],
    orders: Mapping[Value, Order],
    aliases: Mapping[Value, Value],
    state: StateLayout,
) -> Plan:
    """Give every slot a place.

    ``aliases`` maps a view to the value whose memory it shares. Outputs of the program live to the
    end; what ``next`` binds is written straight into the new state.
    """
    layouts = {v: Layout(v.type, order) for v, order in orders.items()}
    fixed = _outside(program, state, layouts)
    sources = {view: _source(view, aliases) for view in aliases}
    storages, lifetimes = _storages(program, kernels, sources, fixed, layouts)
    scratches = [Lifetime(b, i, i) for i, k in enumerate(kernels) for b in k.kernel.scratch]
    offsets, size = place([*lifetimes, *scratches])
    behind = iter(offsets[len(storages) :])
    placed = [replace(k, scratch=tuple(islice(behind, len(k.kernel.scratch)))) for k in kernels]
    places = dict(fixed)
    for storage, offset in zip(storages, offsets[: len(storages)], strict=True):
        for slot in storage.slots:
            places[slot] = Place("arena", offset, storage.bytes)
    for view, source in sources.items():
        if Slot(source) in fixed:
            places[Slot(view)] = fixed[Slot(source)]
    return Plan(program, tuple(placed), places, size, layouts)


def _source(view: Value, aliases: Mapping[Value, Value]) -> Value:
    """The value with memory of its own at the end of a chain of views."""
    while view in aliases:
        view = aliases[view]
    return view


def _outside(
    program: Program, state: StateLayout, layouts: Mapping[Value, Layout]
) -> dict[Slot, Place]:
    """Places that the plan does not choose: inputs, old state, new state."""
    places = {Slot(v): Place(v.name, 0, layouts[v].bytes) for v in program.inputs}
    for v in program.state:
        places[Slot(v)] = Place("old", state.offsets[v.name], layouts[v].bytes)
    for s, v in program.next:
        places.setdefault(Slot(v), Place("new", state.offsets[s.name], layouts[s].bytes))
    return places


def _storages(
    program: Program,
    kernels: Sequence[PlannedKernel],
    sources: Mapping[Value, Value],
    fixed: Mapping[Slot, Place],
    layouts: Mapping[Value, Layout],
) -> tuple[list[_Storage], list[Lifetime]]:
    spans: dict[Slot, list[int]] = {}
    members: dict[Slot, dict[Slot, None]] = {}
    for i, planned in enumerate(kernels):
        for slot in planned.kernel.slots:
            base = Slot(sources.get(slot.value, slot.value), slot.scale)
            if base in fixed or slot in fixed:
                continue
            spans.setdefault(base, [i, i])[1] = i
            members.setdefault(base, {base: None})[slot] = None
    for v in program.outputs:
        if (base := Slot(v)) in spans:
            spans[base][1] = len(kernels)
    storages = [_Storage(list(members[b]), slot_bytes(b, layouts)) for b in spans]
    lifetimes = [
        Lifetime(s.bytes, first, last)
        for s, (first, last) in zip(storages, spans.values(), strict=True)
    ]
    return storages, lifetimes

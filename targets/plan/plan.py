"""The plan of a compiled program: kernels in order, and where every buffer lies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, islice

from ...compiler.ir import Program, Value
from ...compiler.ir.loops import Loop, ProgramLoops, loops
from .kernel import Kernel, Slot
from .layout import Layout, Order
from .memory import Lifetime, place
from .state import StateLayout
from .steps import StepPlaces, Track


@dataclass(frozen=True, slots=True)
class Place:
    """Where a slot lies: ``where`` is arena, old, new or the name of a program input."""

    where: str
    offset: int
    bytes: int


@dataclass(frozen=True, slots=True)
class PlannedKernel:
    """A kernel, its region, the loop that it runs in, and where its scratches lie in the arena."""

    kernel: Kernel
    region: str
    scratch: tuple[int, ...] = ()
    loop: Loop | None = None


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """One run of a kernel: where it reads, writes and has its scratches; the ``step`` of a loop."""

    kernel: Kernel
    region: str
    reads: tuple[Place, ...]
    writes: tuple[Place, ...]
    scratch: tuple[Place, ...]
    step: int | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Plan:
    """Kernels in order and the place of each slot.

    ``arena`` is the size in bytes of the one buffer that holds all values between kernels. Of what
    a loop makes in each step, ``places`` has the first place, and ``tracks`` tell the others.
    ``lives`` says of each buffer of the arena, by the slot that it was made for, from which kernel
    to which it keeps its contents; a plan that was read from a file does not know.
    """

    program: Program
    kernels: tuple[PlannedKernel, ...]
    places: Mapping[Slot, Place]
    arena: int
    layouts: Mapping[Value, Layout]
    tracks: Mapping[Slot, Track] = field(default_factory=dict)
    lives: Mapping[Slot, Lifetime] = field(default_factory=dict)

    def calls(self) -> Iterator[PlannedCall]:
        """All runs of kernels, in order; those of a loop in each of its steps."""
        for loop, part in groupby(self.kernels, lambda planned: planned.loop):
            kernels = [*part]
            for t in loop.order if loop else (None,):
                for planned in kernels:
                    yield self._call(planned, t)

    def _call(self, planned: PlannedKernel, t: int | None) -> PlannedCall:
        kernel = planned.kernel
        scratch = zip(planned.scratch, kernel.scratch, strict=True)

        def places(slots: Sequence[Slot]) -> tuple[Place, ...]:
            return tuple(self._at(kernel, slot, t) for slot in slots)

        return PlannedCall(
            kernel,
            planned.region,
            places(kernel.inputs),
            places(kernel.outputs),
            tuple(Place("arena", offset, size) for offset, size in scratch),
            t,
        )

    def _at(self, kernel: Kernel, slot: Slot, t: int | None) -> Place:
        place, track = self.places[slot], self.tracks.get(slot)
        if track is None:
            return place
        offset, size = track.at(t) if t is not None else track.border(kernel.ops[0], slot)
        return Place(place.where, place.offset + offset, size)

    def bytes_of(self, slot: Slot) -> int:
        """Bytes of a slot, of a loop's those of all steps that are kept."""
        track = self.tracks.get(slot)
        return track.slots * track.pitch if track else self.places[slot].bytes

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
        producers = self.program.producers()

        def source(s: Slot) -> Slot:
            """What made the memory of a view."""
            while s not in made and (op := producers.get(s.value)) and op.kind == "view":
                s = Slot(op.inputs[0], s.scale)
            return s

        crossing = {
            (p.offset, p.bytes): (s, p)
            for s, p in self.places.items()
            if p.where == "arena" and made.get(source(s), -1) <= last_forward < used.get(s, -1)
        }
        return list(crossing.values())

    def saved_bytes(self) -> int:
        """Bytes of ``saved()``."""
        return sum(self.bytes_of(slot) for slot, _ in self.saved())


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
    found: ProgramLoops | None = None,
) -> Plan:
    """Give every slot a place.

    ``aliases`` maps a view to the value whose memory it shares. Outputs of the program live to the
    end; what ``next`` binds is written straight into the new state.
    """
    layouts = {v: Layout(v.type, order) for v, order in orders.items()}
    found = found or loops(program)
    work = _Placing(program, kernels, aliases, found, layouts, _outside(program, state, layouts))
    storages, lifetimes = work.storages()
    scratches = [Lifetime(b, i, i) for i, k in enumerate(kernels) for b in k.kernel.scratch]
    offsets, size = place([*lifetimes, *scratches])
    behind = iter(offsets[len(storages) :])
    placed = [replace(k, scratch=tuple(islice(behind, len(k.kernel.scratch)))) for k in kernels]
    places = dict(work.fixed)
    for storage, offset in zip(storages, offsets[: len(storages)], strict=True):
        for slot in storage.slots:
            places[slot] = Place("arena", offset, slot_bytes(slot, layouts))
    for view in aliases:
        if Slot(source := work.source(view)) in work.fixed:
            places[Slot(view)] = work.fixed[Slot(source)]
    lives = {s.slots[0]: life for s, life in zip(storages, lifetimes, strict=True)}
    return Plan(program, tuple(placed), places, size, layouts, work.tracks, lives)


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


class _Placing:
    """What shares memory, how much of it, and from which kernel to which."""

    def __init__(
        self,
        program: Program,
        kernels: Sequence[PlannedKernel],
        aliases: Mapping[Value, Value],
        found: ProgramLoops,
        layouts: Mapping[Value, Layout],
        fixed: dict[Slot, Place],
    ) -> None:
        self.program, self.kernels, self.aliases = program, kernels, aliases
        self.layouts, self.fixed = layouts, fixed
        self.steps = StepPlaces(found, [(k.loop, k.kernel) for k in kernels], self.source)
        self.tracks: dict[Slot, Track] = {}

    def source(self, view: Value) -> Value:
        """The value with memory of its own at the end of a chain of views."""
        while view in self.aliases:
            view = self.aliases[view]
        return view

    def storages(self) -> tuple[list[_Storage], list[Lifetime]]:
        """All buffers of the arena; fills ``tracks``."""
        spans: dict[Slot, list[int]] = {}
        members: dict[Slot, dict[Slot, None]] = {}
        for i, planned in enumerate(self.kernels):
            for slot in planned.kernel.slots:
                own = Slot(self.source(slot.value), slot.scale)
                if own in self.fixed or slot in self.fixed:
                    continue
                base = Slot(self.steps.home(own.value), slot.scale)
                first, last = self.steps.span(base, i)
                span = spans.setdefault(base, [first, last])
                span[:] = min(span[0], first), max(span[1], last)
                members.setdefault(base, {base: None})[slot] = None
        for v in self.program.outputs:
            if (base := Slot(v)) in spans:
                spans[base][1] = len(self.kernels)
        storages = [_Storage(list(members[b]), self._bytes(b, members[b])) for b in spans]
        lifetimes = [
            Lifetime(s.bytes, first, last)
            for s, (first, last) in zip(storages, spans.values(), strict=True)
        ]
        return storages, lifetimes

    def _bytes(self, base: Slot, members: Iterable[Slot]) -> int:
        """Bytes of a buffer; of what a loop makes those of all steps that are kept at once."""
        size = slot_bytes(base, self.layouts)
        tracks = {s: self.steps.track(self.source(s.value), size) for s in members}
        self.tracks |= {s: track for s, track in tracks.items() if track}
        return max((t.slots * t.pitch for t in tracks.values() if t), default=size)

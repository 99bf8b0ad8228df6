"""A plan as a graph of launches on a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...compiler.errors import TargetError
from ...compiler.ir import Value
from ..plan.checks import DeviceArray, InputCheck
from ..plan.kernel import Slot
from ..plan.layout import DTYPES
from ..plan.memory import aligned
from ..plan.plan import Place, Plan
from .check import WORD
from .graph import ExecutableGraph, Graph, GraphNode, KernelNode
from .image import Images
from .memory import DeviceMemory
from .module import Function
from .order import Dependencies
from .step_memory import StepMemory
from .watch import Watch

Launches = Sequence[tuple[Function, int, int]]
SMALL = 64  # bytes of an input that are worth comparing with what was sent


@dataclass(frozen=True, slots=True)
class Bases:
    """The addresses that a graph was made for; ``watched`` where it checks its inputs."""

    arena: int
    old: int
    new: int
    watched: bool


@dataclass(eq=False, slots=True)
class _Made:
    """A graph with what was launched where, and the addresses of inputs that it has now."""

    graph: ExecutableGraph
    inputs: tuple[int, ...]
    nodes: list[tuple[KernelNode, Sequence[Place]]] = field(default_factory=list)


class CudaExecutable:
    """Runs a plan; graphs are made for each pair of state blocks, and kept."""

    def __init__(self, plan: Plan, images: Images, memory: StepMemory) -> None:
        self.program, self.plan, self._memory = plan.program, plan, memory
        self._offsets: dict[str, int] = {}
        end = 0
        for v in plan.program.inputs:
            self._offsets[v.name] = end
            end += aligned(plan.layouts[v].bytes)
        self._staged = DeviceMemory(memory.device, end)
        # The bytes of small inputs as they are staged.
        self._sent: dict[str, bytes | None] = {}
        # Here, so that machine code for another device is told before a step runs.
        specs = dict.fromkeys(k.kernel.spec for k in plan.kernels)
        self._launches = {spec: memory.loaded.launches(images[spec]) for spec in specs}
        self._watch: Watch | None = None
        self._graphs: dict[Bases, _Made] = {}

    def watch(self, checks: Sequence[InputCheck]) -> None:
        """Ask on the device whether inputs that lie there hold what they must.

        What does not leaves the state as it was; see ``refused``.
        """
        values = {v.name: v for v in self.program.inputs}
        types = [(self.plan.layouts[values[c.input]].dtype, c.input) for c in checks]
        sizes = [(dtype, values[name].type.elements) for dtype, name in types]
        self._watch = Watch(self._memory.device, checks, sizes) if checks else None

    def refused(self, *, wait: bool) -> tuple[int, ...]:
        """The checks of ``watch`` that failed since the last look; without ``wait`` as known."""
        return self._watch.look(self._memory.stream, wait=wait) if self._watch else ()

    def run(
        self,
        inputs: Sequence[object],
        old: DeviceMemory,
        new: DeviceMemory,
        into: Sequence[DeviceArray] = (),
        arena: DeviceMemory | None = None,
    ) -> tuple[np.ndarray, ...]:
        """See ``Executable.run``; with ``into`` outputs are left there, and nobody waits.

        ``arena`` is another than that of the memory.
        """
        stream, watch = self._memory.stream, self._watch
        there = [isinstance(given, DeviceArray) for given in inputs]
        pairs = zip(self.program.inputs, inputs, strict=True)
        waits = not into
        addresses = tuple(self._address_of(value, given, waits) for value, given in pairs)
        arena = self._memory.arena(self.plan.arena) if arena is None else arena
        watched = watch is not None and any(there)
        bases = Bases(arena.address, old.address, new.address, watched)
        made = self._graph_for(bases, addresses)
        if watch and watched:
            watch.begin(stream)
        made.graph.launch(stream)
        # Of this run alone: what an earlier one found is not what the next commit is of.
        self._memory.watched = watch if watched else None
        if watch and watched:
            watch.tell(stream)
        if into:
            for value, target in zip(self.program.outputs, into, strict=False):
                place, size = self._place(value), self.plan.layouts[value].bytes
                stream.copy(target.address, self._address(place, bases, addresses), size)
            return ()
        outputs = tuple(self._output(v, bases, addresses) for v in self.program.outputs)
        stream.synchronize()
        return outputs

    def _address_of(self, value: Value, given: object, waits: bool) -> int:
        """Where an input is read: where it lies, or where it was copied to.

        Where nobody ``waits`` a caller may write over its array before that is copied.
        """
        wanted = DTYPES[value.type.format.name]
        array = given if isinstance(given, DeviceArray) else np.asarray(given, order="C")
        if tuple(array.shape) != value.type.shape or str(array.dtype) != wanted:
            raise TargetError(
                f"cuda: {value.name} is {array.dtype}{list(array.shape)}; the step takes"
                f" {wanted}{list(value.type.shape)}"
            )
        if isinstance(array, DeviceArray):
            return array.address
        address = self._staged.address + self._offsets[value.name]
        # A copy from memory that is not pinned can wait for the stream; few settings change.
        small = array.tobytes() if array.nbytes <= SMALL else None
        if small is None or self._sent.get(value.name) != small:
            self._memory.stream.upload(address, array if waits else array.copy())
        self._sent[value.name] = small
        return address

    def _place(self, value: Value) -> Place:
        return self.plan.places[Slot(value)]

    def _output(self, value: Value, bases: Bases, inputs: tuple[int, ...]) -> np.ndarray:
        layout = self.plan.layouts[value]
        made = np.empty(layout.physical_shape, layout.dtype)
        self._memory.stream.download(made, self._address(self._place(value), bases, inputs))
        return made

    def _graph_for(self, bases: Bases, inputs: tuple[int, ...]) -> _Made:
        """The graph of some blocks, with inputs where they are now."""
        if bases not in self._graphs:
            self._graphs = {b: g for b, g in self._graphs.items() if b.arena == bases.arena}
            self._graphs[bases] = self._instantiated(bases, inputs)
        made = self._graphs[bases]
        if made.inputs != inputs:
            pairs = zip(self._offsets, made.inputs, inputs, strict=True)
            moved = {name for name, before, now in pairs if before != now}
            for node, places in made.nodes:
                if any(place.where in moved for place in places):
                    addresses = [self._address(place, bases, inputs) for place in places]
                    made.graph.set_addresses(node, addresses)
            made.inputs = inputs
        return made

    def _instantiated(self, bases: Bases, inputs: tuple[int, ...]) -> _Made:
        """The launches of the plan, each behind those whose bytes it reads or writes over."""
        graph, order = Graph(self._memory.device), Dependencies[GraphNode]()
        nodes: list[tuple[KernelNode, Sequence[Place]]] = []

        def add(launches: Launches, reads: Sequence[Place], writes: Sequence[Place]) -> None:
            after: Sequence[GraphNode] = order.before(reads, writes)
            places = [*reads, *writes]
            addresses = [self._address(place, bases, inputs) for place in places]
            for function, grid, threads in launches:
                node = graph.kernel(function, (grid,), (threads,), 0, addresses, after)
                nodes.append((node, places))
                after = [node]
            order.add(after[0], reads, writes)

        if self._watch and bases.watched:
            answers = [Place("now", 0, self._watch.bytes)]
            order.add(graph.fill(self._watch.now, 0, self._watch.bytes), [], answers)
            for reads, writes, launches in self._checks(self._watch):
                add(launches, reads, writes)
        for call in self.plan.calls():
            add(self._launches[call.kernel.spec], call.reads, (*call.writes, *call.scratch))
        return _Made(graph.instantiate(), inputs, nodes)

    def _checks(self, watch: Watch) -> list[tuple[list[Place], list[Place], Launches]]:
        """What each check reads and writes, and its launches."""
        images = self._memory.images(watch.specs)
        made: list[tuple[list[Place], list[Place], Launches]] = []
        for i, (check, spec) in enumerate(zip(watch.checks, watch.specs, strict=True)):
            answers = [Place(where, WORD * i, WORD) for where in ("now", "since")]
            numbers = [Place(check.input, 0, 0)]
            made.append((numbers, answers, self._memory.loaded.launches(images[spec])))
        return made

    def _address(self, place: Place, bases: Bases, inputs: tuple[int, ...]) -> int:
        if place.where in self._offsets:
            return inputs[[*self._offsets].index(place.where)] + place.offset
        if self._watch and place.where in ("now", "since"):
            return int(getattr(self._watch, place.where)) + place.offset
        return int(getattr(bases, place.where)) + place.offset

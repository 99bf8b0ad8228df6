"""A plan as a graph of launches on a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...compiler.errors import TargetError
from ...compiler.ir import Value
from ..plan.kernel import Slot
from ..plan.layout import DTYPES
from ..plan.memory import aligned
from ..plan.plan import Place, Plan
from .graph import ExecutableGraph, Graph, GraphNode
from .image import Images
from .memory import DeviceMemory
from .order import Order
from .step_memory import StepMemory


@dataclass(frozen=True, slots=True)
class Bases:
    """The addresses that a graph was made for."""

    arena: int
    old: int
    new: int


class CudaExecutable:
    """Runs a plan; graphs are made for each pair of state blocks, and kept."""

    def __init__(self, plan: Plan, images: Images, memory: StepMemory) -> None:
        self.program, self.plan = plan.program, plan
        self._memory = memory
        self._offsets: dict[str, int] = {}
        end = 0
        for v in plan.program.inputs:
            self._offsets[v.name] = end
            end += aligned(plan.layouts[v].bytes)
        self._inputs = DeviceMemory(memory.device, end)
        # Here, so that machine code for another device is told before a step runs.
        self._launches = [memory.loaded.launches(images[k.kernel.spec]) for k in plan.kernels]
        self._graphs: dict[Bases, ExecutableGraph] = {}

    def run(
        self, inputs: Sequence[object], old: DeviceMemory, new: DeviceMemory
    ) -> tuple[np.ndarray, ...]:
        """See ``Executable.run``."""
        stream = self._memory.stream
        for value, given in zip(self.program.inputs, inputs, strict=True):
            stream.upload(self._inputs.address + self._offsets[value.name], _array(given, value))
        arena = self._memory.arena(self.plan.arena)
        bases = Bases(arena.address, old.address, new.address)
        if bases not in self._graphs:
            self._graphs = {b: g for b, g in self._graphs.items() if b.arena == bases.arena}
            self._graphs[bases] = self._graph(bases)
        self._graphs[bases].launch(stream)
        made = [self._output(v, bases) for v in self.program.outputs]
        stream.synchronize()
        return tuple(made)

    def _output(self, value: Value, bases: Bases) -> np.ndarray:
        layout = self.plan.layouts[value]
        made = np.empty(layout.physical_shape, layout.dtype)
        place = self.plan.places[Slot(value)]
        self._memory.stream.download(made, self._address(place, bases))
        return made

    def _graph(self, bases: Bases) -> ExecutableGraph:
        """The launches of the plan, each behind those whose bytes it reads or writes over."""
        graph, order = Graph(self._memory.device), Order[GraphNode]()
        for planned, launches in zip(self.plan.kernels, self._launches, strict=True):
            kernel = planned.kernel
            places = [self.plan.places[slot] for slot in kernel.slots]
            scratch = [
                Place("arena", offset, size)
                for offset, size in zip(planned.scratch, kernel.scratch, strict=True)
            ]
            addresses = [self._address(place, bases) for place in (*places, *scratch)]
            reads, writes = places[: len(kernel.inputs)], places[len(kernel.inputs) :]
            after: Sequence[GraphNode] = order.before(reads, [*writes, *scratch])
            node: GraphNode | None = None
            for function, grid, threads in launches:
                node = graph.kernel(function, (grid,), (threads,), 0, addresses, after)
                after = [node]
            assert node is not None, "a kernel launches something"
            order.add(node, reads, [*writes, *scratch])
        return graph.instantiate()

    def _address(self, place: Place, bases: Bases) -> int:
        if place.where in self._offsets:
            return self._inputs.address + self._offsets[place.where] + place.offset
        return int(getattr(bases, place.where)) + place.offset


def _array(given: object, value: Value) -> np.ndarray:
    array = np.asarray(given, order="C")
    wanted = DTYPES[value.type.format.name]
    if array.shape != value.type.shape or array.dtype != wanted:
        raise TargetError(
            f"cuda: {value.name} is {array.dtype}{list(array.shape)}; the step takes"
            f" {wanted}{list(value.type.shape)}"
        )
    return array

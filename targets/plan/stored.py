"""Plans and machine code as they are stored: what runs a step, without what makes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ...compiler.formats import UINTS
from ...compiler.ir import Program, Value
from ...compiler.spelled import format_of
from ...compiler.types import TensorType
from .kernel import Kernel, KernelSpec, Slot
from .layout import Layout, Order
from .plan import Place, Plan, PlannedCall, PlannedKernel
from .state import StateLayout

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class BuiltKernel:
    """See ``KernelSpec``: a kernel by its number in a file of machine code.

    ``launches`` are grid and threads of each, for a device.
    """

    name: str
    file: str
    number: int
    launches: tuple[tuple[int, int], ...] = ()

    def build(self) -> object:
        """Nobody asks."""
        raise AssertionError(f"{self.name} is machine code already")


@dataclass(frozen=True, slots=True)
class MachineCode:
    """All kernels of some plans; ``facts`` say what runs them, ``settle`` what ends a step."""

    files: Mapping[str, bytes]
    kernels: Mapping[KernelSpec, BuiltKernel]
    facts: Mapping[str, object]
    settle: BuiltKernel | None = None


@dataclass(frozen=True, slots=True)
class StoredCode:
    """Machine code in the files of ``folder``; ``facts`` and ``settle`` as above."""

    folder: Path
    kernels: tuple[BuiltKernel, ...]
    facts: Json = field(default_factory=dict)
    settle: BuiltKernel | None = None


def kernel_json(kernel: BuiltKernel) -> Json:
    """A kernel as data."""
    launches = [{"grid": grid, "threads": threads} for grid, threads in kernel.launches]
    found = {"name": kernel.name, "file": kernel.file, "number": kernel.number}
    return {**found, "launches": launches} if launches else found


def kernel_of(data: Json) -> BuiltKernel:
    """What ``kernel_json`` gave."""
    launches = tuple((int(x["grid"]), int(x["threads"])) for x in data.get("launches", ()))
    return BuiltKernel(str(data["name"]), str(data["file"]), int(data["number"]), launches)


def tensor_json(name: str, of: TensorType) -> Json:
    """A tensor whose numbers lie in their logical order."""
    dtype = Layout(of, Order.ROWS).dtype
    return {"name": name, "format": of.format.name, "shape": list(of.shape), "dtype": dtype}


def type_of(data: Json) -> TensorType:
    """The type of a tensor."""
    return TensorType(tuple(map(int, data["shape"])), format_of(data["format"]))


def plan_json(plan: Plan, kernels: Mapping[KernelSpec, int]) -> Json:
    """A plan as data; ``kernels`` are numbers of kernels."""
    outputs = plan.program.outputs
    assert all(plan.layouts[v].order is Order.ROWS for v in outputs), "outputs lie as they read"
    return {
        "arena": plan.arena,
        "inputs": [tensor_json(v.name, v.type) for v in plan.program.inputs],
        "outputs": [
            {**tensor_json(v.name, v.type), "at": _at(plan.places[Slot(v)])} for v in outputs
        ],
        "calls": [_call(call, kernels[call.kernel.spec]) for call in plan.calls()],
    }


def _call(call: PlannedCall, number: int) -> Json:
    return {
        "kernel": number,
        "region": call.region,
        "layer": next((op.origin for op in call.kernel.ops if op.origin), ""),
        "reads": [_at(place) for place in call.reads],
        "writes": [_at(place) for place in call.writes],
        "scratch": [_at(place) for place in call.scratch],
    }


def _at(place: Place) -> list[object]:
    return [place.where, place.offset, place.bytes]


def plan_of(name: str, data: Json, kernels: Sequence[BuiltKernel], state_bytes: int) -> Plan:
    """The plan of what ``plan_json`` gave, with what runs it.

    KeyError, TypeError or ValueError where it is something else, or a place lies nowhere.
    """
    inputs = tuple(Value(str(x["name"]), type_of(x)) for x in data["inputs"])
    outputs = tuple(Value(str(x["name"]), type_of(x)) for x in data["outputs"])
    layouts = {v: Layout(v.type, Order.ROWS) for v in (*inputs, *outputs)}
    arena = int(data["arena"])
    sizes = {"arena": arena, "old": state_bytes, "new": state_bytes}
    read = _Places({**sizes, **{v.name: layouts[v].bytes for v in inputs}})
    planned = tuple(read.call(x, kernels) for x in data["calls"])
    for value, x in zip(outputs, data["outputs"], strict=True):
        read.places[Slot(value)] = read.place(x["at"])
    return Plan(Program(name, inputs, (), (), outputs), planned, read.places, arena, layouts)


class _Places:
    """Slots for the places of a stored plan, each of which must lie within a buffer."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = sizes
        self._slots: dict[Place, Slot] = {}
        self.places: dict[Slot, Place] = {}

    def place(self, data: Sequence[object]) -> Place:
        """A place; ValueError where it is none."""
        where, offset, size = str(data[0]), cast(int, data[1]), cast(int, data[2])
        if not 0 <= offset <= offset + size <= self._sizes[where]:
            raise ValueError(f"a place behind the end of {where}")
        return Place(where, offset, size)

    def _slot(self, data: Sequence[object]) -> Slot:
        place = self.place(data)
        if place not in self._slots:
            made = Value(f"{place.where}+{place.offset}", TensorType((place.bytes,), UINTS[8]))
            self._slots[place] = Slot(made)
            self.places[self._slots[place]] = place
        return self._slots[place]

    def call(self, data: Json, kernels: Sequence[BuiltKernel]) -> PlannedKernel:
        """A kernel with its slots."""
        reads, writes = (tuple(map(self._slot, data[key])) for key in ("reads", "writes"))
        scratch = [self.place(x) for x in data["scratch"]]
        kernel = Kernel(
            kernels[int(data["kernel"])],
            (),
            reads,
            writes,
            scratch=tuple(p.bytes for p in scratch),
        )
        return PlannedKernel(kernel, str(data["region"]), tuple(p.offset for p in scratch))


def layout_json(layout: StateLayout) -> Json:
    """The state's layout as data."""
    values = [
        {**tensor_json(name, of), "offset": layout.offsets[name]}
        for name, of in layout.types.items()
    ]
    return {"bytes": layout.bytes, "values": values}


def layout_of(data: Json) -> StateLayout:
    """What ``layout_json`` gave."""
    types = {str(x["name"]): type_of(x) for x in data["values"]}
    offsets = {str(x["name"]): int(x["offset"]) for x in data["values"]}
    size = int(data["bytes"])
    ends = (offsets[name] + Layout(of, Order.ROWS).bytes for name, of in types.items())
    if not all(0 <= end <= size for end in ends):
        raise ValueError("state behind its end")
    return StateLayout(offsets, types, size)

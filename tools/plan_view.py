"""The plan of a compiled program as plain rows: kernels in order, what each covers, its buffers."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ..targets.kernel import Slot
from ..targets.plan import Plan


@dataclass(frozen=True, slots=True)
class BufferRow:
    """One buffer of a kernel: the value (or its scale), how it is stored, where and how large."""

    name: str
    format: str
    order: str
    where: str
    offset: int
    bytes: int


@dataclass(frozen=True, slots=True)
class KernelRow:
    """One kernel: its place in the order, the ops it covers, what multiplies, its buffers."""

    index: int
    kernel: str
    region: str
    layer: str
    ops: tuple[str, ...]
    unit: str
    inputs: tuple[BufferRow, ...]
    outputs: tuple[BufferRow, ...]


@dataclass(frozen=True, slots=True)
class PlanView:
    """All kernels of a step in order, and the bytes of the arena that lies between them."""

    program: str
    target: str
    arena: int
    saved_bytes: int
    kernels: tuple[KernelRow, ...]

    def of_layer(self, layer: str) -> PlanView:
        """The same plan with only the kernels that cover an op of ``layer``."""
        kept = tuple(k for k in self.kernels if layer in k.layer.split(", "))
        return PlanView(self.program, self.target, self.arena, self.saved_bytes, kept)

    def to_dict(self) -> dict[str, object]:
        """Plain numbers, words, lists and dictionaries."""
        return asdict(self)


def view_plan(plan: Plan, target: str) -> PlanView:
    """The rows of a target's plan."""
    rows = []
    for index, planned in enumerate(plan.kernels):
        kernel = planned.kernel
        layers = dict.fromkeys(op.origin for op in kernel.ops if op.origin)
        rows.append(
            KernelRow(
                index,
                kernel.spec.name,
                planned.region,
                ", ".join(layers),
                tuple(op.kind for op in kernel.ops),
                kernel.unit.value,
                tuple(_row(plan, slot) for slot in kernel.inputs),
                tuple(_row(plan, slot) for slot in kernel.outputs),
            )
        )
    return PlanView(plan.program.name, target, plan.arena, plan.saved_bytes(), tuple(rows))


def _row(plan: Plan, slot: Slot) -> BufferRow:
    place, layout = plan.places[slot], plan.layouts[slot.value]
    if slot.scale:
        name, format_ = f"{slot.value.name} (scale)", f"f32[{layout.scales}]"
    else:
        name, format_ = slot.value.name, str(slot.value.type)
    return BufferRow(name, format_, layout.order.value, place.where, place.offset, place.bytes)

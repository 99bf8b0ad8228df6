"""The plan of a compiled program as plain rows: kernels in order, what each covers, its buffers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from ..targets.cuda.predict import KernelTime, Prediction
from ..targets.plan.kernel import Slot
from ..targets.plan.plan import Plan
from .layer_view import matches


@dataclass(frozen=True, slots=True)
class BufferRow:
    """One buffer of a kernel: the value (or its scale), how it is stored, where and how large.

    ``kept`` marks what a forward kernel makes and a later region reads.
    """

    name: str
    format: str
    order: str
    where: str
    offset: int
    bytes: int
    kept: bool


@dataclass(frozen=True, slots=True)
class PredictedTime:
    """What a kernel takes at published peaks: seconds, what bounds them, and what they are of."""

    seconds: float
    bound: str
    bytes: int
    products: int
    launches: int

    @classmethod
    def of(cls, time: KernelTime) -> PredictedTime:
        """As plain numbers."""
        return cls(time.seconds, time.bound.value, time.bytes, time.products, time.launches)


@dataclass(frozen=True, slots=True)
class KernelRow:
    """One kernel: its place in the order, the ops it covers, what multiplies, its buffers.

    ``predicted`` is None where no peaks are published; ``steps`` are those of the loop it runs in.
    """

    index: int
    kernel: str
    region: str
    layer: str
    ops: tuple[str, ...]
    unit: str
    inputs: tuple[BufferRow, ...]
    outputs: tuple[BufferRow, ...]
    predicted: PredictedTime | None = None
    steps: int = 1

    @property
    def layers(self) -> list[str]:
        """The layers whose ops it covers."""
        return self.layer.split(", ")


@dataclass(frozen=True, slots=True)
class PlanView:
    """Kernels of a step in order; ``arena``, ``saved_bytes`` and ``total`` are of the whole step.

    ``arena`` is the size in bytes of the memory between kernels, ``saved_bytes`` what of it holds
    values from forward to backward, ``total`` the number of kernels. ``predicted_seconds`` are of
    the step on ``gpu``, by its published peaks; None where there are none.
    """

    program: str
    target: str
    arena: int
    saved_bytes: int
    total: int
    kernels: tuple[KernelRow, ...]
    gpu: str | None = None
    predicted_seconds: float | None = None

    def of_layer(self, layer: str) -> PlanView:
        """The same plan with only the kernels that cover an op of ``layer`` (see ``matches``)."""
        kept = tuple(k for k in self.kernels if any(matches(name, layer) for name in k.layers))
        return replace(self, kernels=kept)

    def to_dict(self) -> dict[str, object]:
        """Plain numbers, words, lists and dictionaries."""
        return asdict(self)


def view_plan(plan: Plan, target: str, prediction: Prediction | None = None) -> PlanView:
    """The rows of a target's plan."""
    rows = []
    kept = _kept(plan)
    times = prediction.kernels if prediction else [None] * len(plan.kernels)
    for index, (planned, time) in enumerate(zip(plan.kernels, times, strict=True)):
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
                tuple(_row(plan, slot, kept) for slot in kernel.inputs),
                tuple(_row(plan, slot, kept) for slot in kernel.outputs),
                None if time is None else PredictedTime.of(time),
                planned.loop.count if planned.loop else 1,
            )
        )
    name, saved = plan.program.name, plan.saved_bytes()
    view = PlanView(name, target, plan.arena, saved, len(rows), tuple(rows))
    if prediction is None:
        return view
    return replace(view, gpu=prediction.gpu.example, predicted_seconds=prediction.seconds)


def _kept(plan: Plan) -> set[Slot]:
    """Slots that kernels of the forward region make and that later regions read.

    A view shares its source's memory and no kernel makes it, so this asks for the memory's writer.
    """
    writers = {
        plan.places[slot]: slot
        for planned in plan.kernels
        if planned.region == "forward"
        for slot in planned.kernel.outputs
    }
    return {writers[place] for _, place in plan.saved() if place in writers}


def _row(plan: Plan, slot: Slot, kept: set[Slot]) -> BufferRow:
    place, layout = plan.places[slot], plan.layouts[slot.value]
    name, format_ = slot.value.name, str(slot.value.type)
    if slot.scale:
        name, format_ = f"scale({name})", f"f32[{layout.scales}]"
    order = layout.order.value
    return BufferRow(name, format_, order, place.where, place.offset, place.bytes, slot in kept)

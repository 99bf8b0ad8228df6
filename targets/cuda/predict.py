"""What a step takes at least on a GPU: bytes and products of a plan over the published peaks.

A kernel takes the longest of three times: its bytes over the bandwidth of memory, its products over
the peak of the unit that multiplies, and its launches. Each operand is read once, each result
written once, and scratch written and read; what only the first step reads is left out. A product
of an operand that two bytes hold counts twice on tensor cores that take bytes.

Kernels wait only for those whose bytes they need (``order.py``), but what keeps memory or a unit
busy leaves nothing to a neighbour. So the step takes the longest path through its graph, or the sum
of all kernels without their launches, whichever is longer.

Caches, occupancy, tails of waves, the arithmetic of pointwise kernels, and that launches of one
kernel wait for each other, are not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import prod

from ...compiler.formats import Format
from ...compiler.ir.analysis import macs
from ...compiler.ir.ops import PRODUCTS
from ..gemm.product import Product
from ..numbers.integers import integers
from ..plan.first_scales import FIRST_ONLY
from ..plan.kernel import Kernel, Slot, Unit
from ..plan.plan import Place, Plan, PlannedKernel, slot_bytes
from .gemm.spec import DeviceGemm
from .gemm.stats import GemmWithStats
from .gpu import TENSOR_CORES, Gpu
from .order import Dependencies

# Seconds that a launch in a graph takes at least. NVIDIA's "Getting Started with CUDA Graphs"
# measures 3.4 us for each of 20 kernels of 2.9 us behind each other: 0.5 us from one to the next.
# A kernel that adds 1024 numbers takes 1.1 to 1.3 us by itself (pytorch/pytorch issue 161104).
LAUNCH = 1.7e-6
# Planes of an operand that tensor cores take one after the other, both operands' multiplied.
MOST_PLANES = 2

UnitOf = Callable[[Kernel], Unit]


class Bound(StrEnum):
    """What a kernel waits for."""

    MEMORY = "memory"
    PRODUCTS = "products"
    LAUNCHES = "launches"


@dataclass(frozen=True, slots=True)
class KernelTime:
    """What a kernel moves and multiplies on ``unit``, and the seconds of each at the peaks."""

    unit: Unit
    bytes: int
    products: int
    launches: int
    memory_seconds: float
    product_seconds: float

    def times(self, count: int) -> KernelTime:
        """Of so many runs, one after the other."""
        return replace(
            self,
            bytes=count * self.bytes,
            products=count * self.products,
            launches=count * self.launches,
            memory_seconds=count * self.memory_seconds,
            product_seconds=count * self.product_seconds,
        )

    @property
    def launch_seconds(self) -> float:
        """Of all its launches."""
        return self.launches * LAUNCH

    @property
    def busy(self) -> float:
        """Seconds in which memory or a unit has no time for another kernel."""
        return max(self.memory_seconds, self.product_seconds)

    @property
    def seconds(self) -> float:
        """The longest of the three."""
        return max(self.busy, self.launch_seconds)

    @property
    def bound(self) -> Bound:
        """Which of the three it is."""
        if self.launch_seconds >= self.busy:
            return Bound.LAUNCHES
        return Bound.MEMORY if self.memory_seconds >= self.product_seconds else Bound.PRODUCTS


@dataclass(frozen=True, slots=True)
class Prediction:
    """The kernels of a plan in its order; ``path`` are the seconds of the graph's longest path."""

    gpu: Gpu
    kernels: tuple[KernelTime, ...]
    path: float

    @property
    def busy(self) -> float:
        """Seconds of all kernels without launches."""
        return sum(k.busy for k in self.kernels)

    @property
    def seconds(self) -> float:
        """Of the step."""
        return max(self.path, self.busy)

    @property
    def launches(self) -> int:
        """Nodes of the graph."""
        return sum(k.launches for k in self.kernels)

    def bound_seconds(self, bound: Bound) -> float:
        """Of the kernels that wait for ``bound``, one after the other."""
        return sum(k.seconds for k in self.kernels if k.bound is bound)


def planned_unit(kernel: Kernel) -> Unit:
    """The unit of the plan."""
    return kernel.unit


def tensor_core_unit(kernel: Kernel) -> Unit:
    """The unit of the plan, or the tensor cores where they could take the formats."""
    spec = _product(kernel)
    if kernel.unit in TENSOR_CORES or spec is None:
        return kernel.unit
    if spec.accumulation is not None or spec.depthwise:
        return kernel.unit
    if spec.in_integers and prod(map(planes, _formats(spec))) <= MOST_PLANES:
        return Unit.INT8_MMA
    return Unit.BF16_MMA if spec.pair(1).as_bf16 else kernel.unit


def planes(f: Format) -> int:
    """How many bytes hold a number of a format of integers."""
    numbers = integers(f)
    return 2 if numbers is not None and numbers.byte is None else 1


def predict(plan: Plan, gpu: Gpu, unit_of: UnitOf = planned_unit) -> Prediction:
    """The times of a plan's kernels, and of its longest path."""
    kernels = tuple(
        kernel_time(p.kernel, plan, gpu, unit_of(p.kernel)).times(p.loop.count if p.loop else 1)
        for p in plan.kernels
    )
    return Prediction(gpu, kernels, _path(plan, [k.seconds for k in kernels]))


def kernel_time(kernel: Kernel, plan: Plan, gpu: Gpu, unit: Unit) -> KernelTime:
    """Of one kernel, its products on ``unit``."""
    slots = (*_read(kernel), *kernel.outputs)
    moved = sum(slot_bytes(slot, plan.layouts) for slot in dict.fromkeys(slots))
    moved += 2 * sum(kernel.scratch)
    count = sum(macs(op) for op in kernel.ops if op.kind in PRODUCTS)
    product = _product(kernel)
    if unit is Unit.INT8_MMA and product is not None:
        count *= prod(map(planes, _formats(product)))
    multiplying = count / gpu.reach(unit) if count else 0.0
    return KernelTime(unit, moved, count, _launches(kernel), moved / gpu.bandwidth, multiplying)


def _product(kernel: Kernel) -> Product | None:
    """What a GEMM asks for, also with what else its kernel makes."""
    spec = kernel.spec.gemm if isinstance(kernel.spec, GemmWithStats) else kernel.spec
    return spec if isinstance(spec, Product) else None


def _launches(kernel: Kernel) -> int:
    if isinstance(kernel.spec, DeviceGemm | GemmWithStats):
        return kernel.spec.launches
    # What is left in scratch is joined by a launch of its own.
    return 2 if kernel.scratch else 1


def _read(kernel: Kernel) -> tuple[Slot, ...]:
    """What it reads at each step but the first."""
    makers = {r: op for op in kernel.ops for r in op.results}
    made = [makers[slot.value] for slot in kernel.outputs]
    if all(op.kind == "amax_first" for op in made):
        return tuple(Slot(op.inputs[1]) for op in made)
    often = {
        v
        for op in kernel.ops
        for i, v in enumerate(op.inputs)
        if i != 1 or op.kind not in FIRST_ONLY or op.attrs.get("always", False)
    }
    return tuple(slot for slot in kernel.inputs if slot.value in often)


def _formats(spec: Product) -> tuple[Format, Format]:
    return spec.a.type.format, spec.b.type.format


def _path(plan: Plan, seconds: Sequence[float]) -> float:
    """Of the longest path through the graph of a step."""
    order, ends = Dependencies[int](), [0.0] * len(seconds)
    for i, planned in enumerate(plan.kernels):
        reads, writes = _touched(plan, planned)
        ends[i] = max((ends[j] for j in order.before(reads, writes)), default=0.0) + seconds[i]
        order.add(i, reads, writes)
    return max(ends, default=0.0)


def _touched(plan: Plan, planned: PlannedKernel) -> tuple[list[Place], list[Place]]:
    """Where a kernel reads, and where it writes."""
    kernel = planned.kernel
    reads, writes = ([plan.places[s] for s in part] for part in (kernel.inputs, kernel.outputs))
    scratch = zip(planned.scratch, kernel.scratch, strict=True)
    return reads, [*writes, *(Place("arena", offset, size) for offset, size in scratch)]

"""A step on a GPU as its published peaks have it, beside the roofline of PyTorch's bf16."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from ...compiler.errors import UsageError
from ...compiler.ir import Program
from ...passes.recipe import load_recipe
from ...runtime.report.torch_roofline import TorchRoofline, torch_roofline
from ...targets.cuda.gpu import GPUS, Gpu
from ...targets.cuda.predict import (
    Bound,
    KernelTime,
    Prediction,
    planned_unit,
    predict,
    tensor_core_unit,
)
from ...targets.plan.kernel import KernelSpec, Unit
from ...targets.plan.plan import Plan
from ..planning import gpu_of, plan_program

PLANNED, TENSOR_CORES = "as planned", "tensor cores"
UNITS = {PLANNED: planned_unit, TENSOR_CORES: tensor_core_unit}


@dataclass(frozen=True, slots=True)
class PredictedStep:
    """A step: seconds, the longest path, and its kernels' seconds by what bounds them.

    ``bytes`` is what it moves, ``products`` counts multiply-adds.
    """

    name: str
    seconds: float
    path: float | None
    bounds: Mapping[str, float]
    bytes: int
    products: int
    launches: int | None
    saved_bytes: int


@dataclass(frozen=True, slots=True)
class PredictedKernel:
    """One distinct kernel: how often it runs, in which layers, and one run of it."""

    kernel: str
    regions: tuple[str, ...]
    layers: tuple[str, ...]
    count: int
    unit: str
    seconds: float
    bound: str
    bytes: int
    products: int


@dataclass(frozen=True, slots=True)
class PredictedWorkload:
    """The steps of ``label`` on ``gpu``, PyTorch's last; ``kernels`` of each way but PyTorch's."""

    label: str
    gpu: str
    steps: tuple[PredictedStep, ...]
    kernels: Mapping[str, tuple[PredictedKernel, ...]]

    @property
    def torch(self) -> PredictedStep:
        """PyTorch's."""
        return self.steps[-1]

    def to_dict(self) -> dict[str, object]:
        """Plain numbers, words, lists and dictionaries."""
        return {"measured": False, **asdict(self)}


def gpu_named(target: str) -> Gpu:
    """The GPU of a target; UsageError where it names none."""
    gpu = gpu_of(target)
    if gpu is None:
        raise UsageError(
            f"--predict is for a GPU by name, such as --target cuda:sm_90, not for {target};"
            f" peaks are known of {', '.join(GPUS)}"
        )
    return gpu


def predict_step(
    label: str, captured: Program, recipe: str, options: Mapping[str, object], target: str
) -> PredictedWorkload:
    """What a recipe makes of a captured step, beside PyTorch's bf16 of the same."""
    gpu = gpu_named(target)
    made = load_recipe(recipe).with_options(options).apply(captured)[-1][1]
    plan = plan_program(target, made)
    assert plan is not None, f"{target} plans kernels"
    found = {name: predict(plan, gpu, unit_of) for name, unit_of in UNITS.items()}
    if found[PLANNED] == found[TENSOR_CORES]:
        del found[TENSOR_CORES]
    steps = [_step(f"{recipe}, {name}", p, plan) for name, p in found.items()]
    kernels = {name: tuple(_kernels(plan, p)) for name, p in found.items()}
    return PredictedWorkload(
        label, gpu.example, (*steps, _torch(torch_roofline(captured), gpu)), kernels
    )


def _step(name: str, made: Prediction, plan: Plan) -> PredictedStep:
    return PredictedStep(
        name,
        made.seconds,
        made.path,
        {bound.value: made.bound_seconds(bound) for bound in Bound},
        sum(k.bytes for k in made.kernels),
        sum(k.products for k in made.kernels),
        made.launches,
        plan.saved_bytes(),
    )


def _torch(step: TorchRoofline, gpu: Gpu) -> PredictedStep:
    peaks = gpu.bandwidth, gpu.products[Unit.BF16_MMA]
    bounds = dict.fromkeys((Bound.MEMORY.value, Bound.PRODUCTS.value), 0.0)
    for k in step.kernels:
        waits = k.bytes / peaks[0] >= k.products / peaks[1]
        bounds[(Bound.MEMORY if waits else Bound.PRODUCTS).value] += k.seconds(*peaks)
    moved, products = (sum(getattr(k, n) for k in step.kernels) for n in ("bytes", "products"))
    name = "PyTorch bf16, roofline"
    seconds = step.seconds(*peaks)
    return PredictedStep(name, seconds, None, bounds, moved, products, None, step.saved_bytes)


def _kernels(plan: Plan, made: Prediction) -> list[PredictedKernel]:
    """Distinct kernels, those that take most first."""
    uses: dict[KernelSpec, list[int]] = {}
    for i, planned in enumerate(plan.kernels):
        uses.setdefault(planned.kernel.spec, []).append(i)
    rows = [_kernel(plan, made.kernels[places[0]], places) for places in uses.values()]
    return sorted(rows, key=lambda row: -row.count * row.seconds)


def _kernel(plan: Plan, time: KernelTime, places: Sequence[int]) -> PredictedKernel:
    used = [plan.kernels[i] for i in places]
    origins = (op.origin for planned in used for op in planned.kernel.ops if op.origin)
    return PredictedKernel(
        kernel=used[0].kernel.spec.name,
        regions=tuple(dict.fromkeys(planned.region for planned in used)),
        layers=tuple(dict.fromkeys(origins)),
        count=len(used),
        unit=time.unit.value,
        seconds=time.seconds,
        bound=time.bound.value,
        bytes=time.bytes,
        products=time.products,
    )

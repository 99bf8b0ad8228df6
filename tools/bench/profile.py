"""Where the time of a compiled step goes: each distinct kernel alone, times how often it runs.

A kernel runs again and again on buffers of its own, so what fits in cache stays there: the sum is
what the step would take if its kernels did not push each other's data out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from ...compiler.errors import UsageError
from ...compiler.ir.analysis import macs
from ...compiler.ir.ops import GEMMS
from ...targets.plan.kernel import KernelSpec, Unit
from ...targets.plan.plan import Plan, PlannedCall
from .. import env
from ..driver import compile as compile_step
from .buffers import Alone
from .plan import Workload
from .tasks import task

FEWEST, MOST, SECONDS = 5, 1000, 0.1


@dataclass(frozen=True, slots=True)
class ProfiledKernel:
    """One distinct kernel: how often it runs, in which layers, seconds a call, its work.

    ``operations`` are the products and additions of its GEMM (0 without one), ``bytes`` all that it
    reads and writes once.
    """

    kernel: str
    ops: tuple[str, ...]
    regions: tuple[str, ...]
    layers: tuple[str, ...]
    count: int
    unit: str
    seconds: float
    operations: int
    bytes: int


def profile(request: Mapping[str, Any]) -> dict[str, object]:
    """The parts of a step, slowest first, the seconds of the whole step, and the peaks."""
    from ...targets.cpu.info import detect
    from ...targets.cpu.peaks import measure_peaks

    job = task(Workload(**request["workload"]), fused=False)
    step = compile_step(
        job.model, job.loss, job.example, job.optimizer,
        recipe=request["recipe"], options=request["options"],
    )  # fmt: skip
    plan = step.executable.plan
    if plan is None:
        raise UsageError(f"target {env.target()} has no kernels to look at; use --target cpu")
    whole = typical(lambda: step(*job.example))
    parts = [_profiled(spec, uses, plan) for spec, uses in _distinct(plan).items()]
    parts.sort(key=lambda p: -p.seconds * p.count)
    peaks = measure_peaks(detect(), env.threads())
    return {"step_seconds": whole, "peaks": peaks, "parts": [asdict(p) for p in parts]}


def kernel_seconds(plan: Plan) -> tuple[float, ...]:
    """Seconds of each kernel of a plan for the cpu, all its runs of a step together.

    Kernels that share code are measured once.
    """
    took = {spec: _alone(uses[0], plan)[1] for spec, uses in _distinct(plan).items()}
    runs = [planned.loop.count if planned.loop else 1 for planned in plan.kernels]
    return tuple(
        took[planned.kernel.spec] * n for planned, n in zip(plan.kernels, runs, strict=True)
    )


def typical(call: Callable[[], object]) -> float:
    """Median seconds of a call, after one that does not count."""
    call()
    took: list[float] = []
    begin = end = time.perf_counter()
    while len(took) < FEWEST or (len(took) < MOST and end - begin < SECONDS):
        start = time.perf_counter()
        call()
        end = time.perf_counter()
        took.append(end - start)
    return median(took)


def _distinct(plan: Plan) -> dict[KernelSpec, list[PlannedCall]]:
    found: dict[KernelSpec, list[PlannedCall]] = {}
    for call in plan.calls():
        found.setdefault(call.kernel.spec, []).append(call)
    return found


def _alone(call: PlannedCall, plan: Plan) -> tuple[Alone, float]:
    """The kernel of a call on buffers of its own, and its seconds."""
    from ...targets.cpu.info import detect

    orders = {s.value: plan.layouts[s.value].order for s in call.kernel.slots}
    sizes = [place.bytes for place in (*call.reads, *call.writes)]
    alone = Alone(call.kernel, orders, detect(), sizes)
    return alone, typical(alone.run)


def _profiled(spec: KernelSpec, uses: list[PlannedCall], plan: Plan) -> ProfiledKernel:
    kernel = uses[0].kernel
    alone, seconds = _alone(uses[0], plan)
    return ProfiledKernel(
        kernel=spec.name,
        ops=tuple(op.kind for op in kernel.ops),
        regions=tuple(dict.fromkeys(use.region for use in uses)),
        layers=tuple(dict.fromkeys(op.origin for u in uses for op in u.kernel.ops if op.origin)),
        count=len(uses),
        unit="" if kernel.unit is Unit.NONE else kernel.unit.value,
        seconds=seconds,
        operations=sum(2 * macs(op) for op in kernel.ops if op.kind in GEMMS),
        bytes=alone.bytes,
    )

"""Measures whole training steps: starts each contender in its own process and lets them race."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from .. import env
from .plan import Contender, Workload
from .process import ContenderFailed, Worker
from .progress import BenchProgress
from .results import ContenderRow, WorkloadResult
from .rounds import Racer, race


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to look: rounds, the seconds that one build or turn may take, and whether a second
    process measures the compilation again with a filled cache."""

    rounds: int
    limit: float
    warm: bool


@dataclass(frozen=True, slots=True)
class _Start:
    """A contender at the start: its racer, and how long its compilation took."""

    contender: Contender
    racer: Racer
    cold: float | None = None
    warm: float | None = None
    first_loss: float | None = None


def measure(
    workload: Workload, contenders: Sequence[Contender], effort: Effort, progress: BenchProgress
) -> WorkloadResult:
    """All contenders at one workload; one that fails is a row with the reason."""
    with ExitStack() as stack:
        starts = []
        for i, contender in enumerate(contenders):
            progress.stage(
                f"{workload.label}: {contender.name} gets ready ({i + 1}/{len(contenders)})"
            )
            starts.append(_start(contender, workload, effort, stack))
        with progress.bar(workload.label) as tick:
            race([s.racer for s in starts], effort.rounds, effort.limit, tick)
        return WorkloadResult(workload, tuple(_row(s, effort.limit) for s in starts))


def _start(contender: Contender, workload: Workload, effort: Effort, stack: ExitStack) -> _Start:
    """Build it, in a process that stays; before that in another one, for its cold compilation."""
    request = {"job": "step", "contender": contender.words, "workload": _words(workload)}
    cold = None
    try:
        caches = _empty_caches(contender, stack)
        if contender.builds and effort.warm:
            with Worker(caches) as other:
                cold = float(other.ask("build", effort.limit, **request)["seconds"])
        worker = stack.enter_context(Worker(caches))
        reply = worker.ask("build", effort.limit, **request)
    except ContenderFailed as failure:
        return _Start(contender, Racer(contender.name, error=str(failure)), cold)
    seconds = float(reply["seconds"]) if contender.builds else None
    first, second = (cold, seconds) if effort.warm else (seconds, None)
    return _Start(contender, Racer(contender.name, worker), first, second, reply["first_loss"])


def _words(workload: Workload) -> dict[str, object]:
    network = workload.network
    if ".py:" in network:
        path, _, name = network.rpartition(":")
        network = f"{Path(path).absolute()}:{name}"
    return {
        "network": network, "batch": workload.batch, "width": workload.width,
        "depth": workload.depth,
    }  # fmt: skip


def _empty_caches(contender: Contender, stack: ExitStack) -> dict[str, str]:
    """Folders of generated code that hold nothing yet, as long as the race lasts."""
    if not contender.builds:
        return {}
    folder = stack.enter_context(
        tempfile.TemporaryDirectory(prefix="quatrain-bench-", ignore_cleanup_errors=True)
    )
    return {env.CACHE: f"{folder}/quatrain", "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor"}


def _row(start: _Start, limit: float) -> ContenderRow:
    racer = start.racer
    facts = racer.ask("facts", limit) or {}
    return ContenderRow(
        contender=start.contender,
        error=racer.error,
        rounds=() if racer.error else tuple(racer.rounds),
        cold=start.cold,
        warm=start.warm,
        first_loss=start.first_loss,
        **{k: facts.get(k) for k in ("start_bytes", "peak_bytes", "saved_bytes", "operations")},
    )

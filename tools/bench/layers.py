"""Measures single convolutions: 3x3, from 16 to 256 channels, each direction, beside oneDNN."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from rich.table import Table

from ...runtime.report.tables import table
from .machine import GRADIENT_UNITS, INTEGER_UNITS, Machine, share
from .process import ContenderFailed, Worker
from .progress import BenchProgress
from .rounds import Racer, race
from .stats import Spread, ratio, spread
from .steps import Effort
from .tables import NOTHING, times, whole_percent

OURS = "quatrain"
KERNELS = (OURS, "oneDNN fp32", "oneDNN bf16")
DIRECTIONS = ("forward", "dX", "dW")
UNITS = {"forward": INTEGER_UNITS, "dX": GRADIENT_UNITS, "dW": GRADIENT_UNITS}


@dataclass(frozen=True, slots=True)
class Layer:
    """A 3x3 convolution of stride 1 that keeps ``size`` x ``size`` pixels and its channels."""

    batch: int
    size: int
    channels: int
    direction: str = "forward"

    @property
    def operations(self) -> int:
        """Products and additions."""
        return 2 * self.batch * self.size**2 * self.channels**2 * 9

    @property
    def label(self) -> str:
        """In words."""
        return f"{self.channels} channels, {self.size}x{self.size}, batch {self.batch}"


# The stages of ResNet-20 and of ResNet-18 at their batches.
SHAPES = ((128, 32, 16), (128, 16, 32), (128, 8, 64), (64, 32, 64), (64, 16, 128), (64, 8, 256))
LAYERS = tuple(Layer(*shape, direction) for shape in SHAPES for direction in DIRECTIONS)


@dataclass(frozen=True, slots=True)
class LayerResult:
    """Seconds of each kernel in each round, or why it did not run."""

    layer: Layer
    rounds: dict[str, tuple[float, ...]]
    errors: dict[str, str]

    def against(self, name: str) -> Spread | None:
        """How many times faster quatrain is."""
        if OURS not in self.rounds or name not in self.rounds:
            return None
        return ratio(self.rounds[name], self.rounds[OURS])

    def gops(self, name: str) -> float | None:
        """Gop/s, by median."""
        rounds = self.rounds.get(name)
        return self.layer.operations / spread(rounds).median / 1e9 if rounds else None

    def to_dict(self) -> dict[str, object]:
        """Plain data."""
        ratios = {name: self.against(name) for name in KERNELS[1:]}
        return {
            **asdict(self.layer),
            "kernels": {
                name: {
                    "rounds": list(self.rounds.get(name, ())),
                    "gops": self.gops(name),
                    "error": self.errors.get(name),
                }
                for name in KERNELS
            },
            "ratios": {k: asdict(v) if v else None for k, v in ratios.items()},
        }


def measure_layers(
    layers: Sequence[Layer], effort: Effort, progress: BenchProgress
) -> list[LayerResult]:
    """Every layer on every kernel; the processes stay, one for each kernel."""
    found = []
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker()) for name in KERNELS}
        for i, layer in enumerate(layers):
            words = f"{layer.label}, {layer.direction} ({i + 1}/{len(layers)})"
            progress.stage(words)
            racers = [_racer(name, workers[name], layer, effort) for name in KERNELS]
            race(racers, effort.rounds, effort.limit, lambda name, share: None)
            rounds = {r.name: tuple(r.rounds) for r in racers if r.error is None}
            errors = {r.name: r.error for r in racers if r.error is not None}
            found.append(LayerResult(layer, rounds, errors))
    progress.done()
    return found


def _racer(name: str, worker: Worker, layer: Layer, effort: Effort) -> Racer:
    try:
        worker.ask("build", effort.limit, job="layer", kernel=name, layer=asdict(layer))
    except ContenderFailed as failure:
        return Racer(name, error=str(failure))
    return Racer(name, worker)


def layers_table(results: Sequence[LayerResult], machine: Machine) -> Table:
    """Ratios first; quatrain's Gop/s and their share of the peak of the unit that multiplies."""
    right = ("x fp32", "x bf16", "Gop/s", "of peak", "fp32", "bf16")
    made = table(
        "3x3 convolutions, uint4 x int4 and FP4, beside oneDNN", "", "", *right, right=right
    )
    for result in results:
        ours = result.gops(OURS)
        layer = result.layer
        peak = machine.peak(UNITS[layer.direction])
        others = [result.gops(name) for name in KERNELS[1:]]
        made.add_row(
            layer.label if layer.direction == DIRECTIONS[0] else "",
            layer.direction,
            *(times(result.against(name)) for name in KERNELS[1:]),
            _gops(ours),
            whole_percent(share(1e9 * ours, 1.0, peak)) if ours else NOTHING,
            *map(_gops, others),
        )
    errors = dict.fromkeys(f"{n}: {e}" for r in results for n, e in r.errors.items())
    if errors:
        made.caption, made.caption_justify = "\n".join(errors), "left"
    return made


def _gops(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0f}"

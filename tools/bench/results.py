"""What a benchmark found out: rows, ratios, and the same as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from .machine import FLOAT, INTEGER_UNITS, Machine, share
from .plan import BASELINES, Contender, Workload
from .stats import Spread, ratio, spread


@dataclass(frozen=True, slots=True)
class ContenderRow:
    """One contender: seconds a step in each round, or the reason why there are none.

    ``cold`` and ``warm`` are seconds until the first step is done, with an empty and a filled cache
    of generated code; bytes are of the process, before and at its highest, and kept for backward.
    """

    contender: Contender
    error: str | None = None
    rounds: tuple[float, ...] = ()
    cold: float | None = None
    warm: float | None = None
    start_bytes: int | None = None
    peak_bytes: int | None = None
    saved_bytes: int | None = None
    operations: int | None = None
    first_loss: float | None = None

    @property
    def name(self) -> str:
        """The contender's name."""
        return self.contender.name

    @property
    def ran(self) -> bool:
        """Whether there are times."""
        return self.error is None and bool(self.rounds)

    @property
    def seconds(self) -> Spread:
        """Seconds a step."""
        return spread(self.rounds)


@dataclass(frozen=True, slots=True)
class WorkloadResult:
    """All contenders at one workload, in the order in which they were asked for."""

    workload: Workload
    rows: tuple[ContenderRow, ...]

    @property
    def baseline(self) -> ContenderRow | None:
        """Whom ratios are taken to: eager fp32, channels last where that ran, or else any torch."""
        by_name = {r.name: r for r in self.rows if r.ran}
        plain = [r for r in self.rows if r.ran and r.contender.plain_torch]
        return next((by_name[n] for n in BASELINES if n in by_name), plain[0] if plain else None)

    @property
    def fastest_torch(self) -> ContenderRow | None:
        """The fastest of all PyTorch's ways, by median."""
        plain = [r for r in self.rows if r.ran and r.contender.plain_torch]
        return min(plain, key=lambda r: r.seconds.median, default=None)

    def against(self, base: ContenderRow | None, row: ContenderRow) -> Spread | None:
        """How many times faster ``row`` is than ``base``."""
        if base is None or not row.ran:
            return None
        return ratio(base.rounds, row.rounds)

    def to_dict(self, machine: Machine) -> dict[str, object]:
        """Plain data; seconds, bytes, shares of 0..1."""
        base, fastest = self.baseline, self.fastest_torch
        return {
            "workload": asdict(self.workload),
            "baseline": base.name if base else None,
            "fastest_torch": fastest.name if fastest else None,
            "contenders": [self._row(r, machine) for r in self.rows],
        }

    def _row(self, row: ContenderRow, machine: Machine) -> dict[str, object]:
        ratios = {
            "ratio_to_baseline": self.against(self.baseline, row),
            "ratio_to_fastest_torch": self.against(self.fastest_torch, row),
        }
        return {
            **row.contender.words,
            "error": row.error,
            **{k: asdict(v) if v else None for k, v in ratios.items()},
            "seconds": asdict(row.seconds) if row.ran else None,
            "rounds": list(row.rounds),
            **shares(row, machine),
            "compile_cold_seconds": row.cold,
            "compile_warm_seconds": row.warm,
            "start_bytes": row.start_bytes,
            "peak_bytes": row.peak_bytes,
            "saved_bytes": row.saved_bytes,
            "first_loss": row.first_loss,
        }


def shares(row: ContenderRow, machine: Machine) -> dict[str, float | None]:
    """Gop/s of a row, and its shares of the machine's measured integer and f32 peaks."""
    names = ("gops", "share_of_integer_peak", "share_of_f32_peak")
    if not row.ran or row.operations is None:
        return dict.fromkeys(names)
    n, seconds = row.operations, row.seconds.median
    peaks = (machine.peak(INTEGER_UNITS), machine.peak((FLOAT,)))
    return dict(
        zip(names, (n / seconds / 1e9, *(share(n, seconds, p) for p in peaks)), strict=True)
    )

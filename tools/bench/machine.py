"""The machine of a benchmark: CPU, threads, versions, and what it can do at most."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata

from .. import env
from ..doctor import cpu_name
from .process import ContenderFailed, Worker

PACKAGES = ("torch", "apache-tvm", "numpy")
PEAKS_SECONDS = 120.0
BUSY = 0.5
BUSY_WORDS = "other programs were running: these numbers are not the machine's"
FLOAT, MEMORY = "f32", "memory"
# Units for 4-bit operands, fastest first, and for the 16-bit numbers that FP4 gradients become.
# On tiles those are two planes of bytes, so at most half of the peak is within reach.
INTEGER_UNITS = ("int8 tile", "int8 dot")
GRADIENT_UNITS = ("int8 tile", "int16 dot")


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts that a reader needs to judge a number; ``peaks`` in Gop/s, of memory in GB/s.

    ``load`` is the system's average of the last minute when the benchmark began.
    """

    cpu: str
    mcpu: str
    units: tuple[str, ...]
    cpus: int
    threads: int
    omp_wait_policy: str
    load: float
    versions: Mapping[str, str]
    peaks: Mapping[str, float] = field(default_factory=dict)
    without_peaks: str = ""

    def to_dict(self) -> dict[str, object]:
        """Plain data."""
        return asdict(self)

    @property
    def busy(self) -> bool:
        """Whether other programs were running, so that times are not the machine's."""
        return self.load > BUSY * self.cpus

    def peak(self, units: Sequence[str]) -> float | None:
        """The measured peak of the first of ``units`` that this machine has."""
        return next((self.peaks[unit] for unit in units if unit in self.peaks), None)


def look() -> Machine:
    """The facts of this machine; the peaks are measured in a process of their own."""
    load = system_load()
    found: dict[str, object] = {}
    why = ""
    try:
        with Worker() as worker:
            found = worker.ask("peaks", PEAKS_SECONDS)
    except ContenderFailed as failure:
        why = str(failure)
    units, peaks = found.get("units", ()), found.get("peaks", {})
    assert isinstance(units, list | tuple) and isinstance(peaks, dict)
    return Machine(
        cpu=cpu_name(),
        mcpu=str(found.get("mcpu", "")),
        units=tuple(units),
        cpus=env.available_threads(),
        threads=env.threads(),
        omp_wait_policy=os.environ.get("OMP_WAIT_POLICY", "default"),
        load=round(load, 2),
        versions=_versions(),
        peaks=peaks,
        without_peaks=why,
    )


def system_load() -> float:
    """How many threads the system ran on average in the last minute; 0 where nobody counts."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _versions() -> dict[str, str]:
    from ... import __version__

    found = {"quatrain": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def share(operations: float, seconds: float, peak: float | None) -> float | None:
    """The share 0..1 of a peak (Gop/s or GB/s) that ``operations`` (or bytes) in a time are."""
    return operations / seconds / 1e9 / peak if peak else None

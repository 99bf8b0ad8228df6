"""What the CPU can do, as far as kernels care: its name for LLVM and the units it has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .kernel import Unit

VNNI512 = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512_vnni"})


@dataclass(frozen=True, slots=True)
class CpuInfo:
    """A CPU to generate code for: LLVM's ``mcpu``, vector bytes, AVX-512 VNNI or not."""

    mcpu: str
    vector_bytes: int
    vnni: bool

    @property
    def lanes(self) -> int:
        """f32 lanes of one vector register."""
        return self.vector_bytes // 4

    @property
    def units(self) -> tuple[Unit, ...]:
        """Multiplying units of this CPU, fastest first."""
        dots = (Unit.INT8_DOT, Unit.INT16_DOT) if self.vnni else ()
        return (*dots, Unit.INT32, Unit.F32)


@cache
def flags() -> frozenset[str]:
    """Feature flags that the operating system reports; empty where it cannot say."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return frozenset()
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def vector_bytes(features: frozenset[str]) -> int:
    """Width of the widest vector register among ``features``."""
    if "avx512f" in features:
        return 64
    return 32 if "avx2" in features else 16

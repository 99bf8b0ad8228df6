"""What the CPU can do, as far as kernels care: its name for LLVM and the units it has.

Importing this file loads no TVM; asking LLVM about a CPU loads its libraries.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import cast

from ...compiler.errors import TargetError
from ..plan.kernel import Unit

# LLVM's names of features; the operating system writes avx512_vnni and amx_int8. A unit is there
# where all is that it stands on: AMX on VNNI, VNNI on AVX-512.
VNNI512 = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512vnni"})
# Tiles of 16 x 64 bytes that multiply as matrices. Kernels that fill tiles permute bytes (VBMI).
AMX = frozenset({"amx-tile", "amx-int8", "amx-bf16", "avx512vbmi", *VNNI512})
BF16 = frozenset({"avx512bf16", *VNNI512})
# What a CPU must report before code for its whole family may use it: a virtual machine can hide it.
MASKABLE = (*VNNI512, "avx2", "fma", "f16c")
AVX2_BYTES = 32
BASELINES = ("x86-64-v4", "x86-64-v3", "x86-64-v2", "x86-64")
# Linux: ask that this process may use the state of the tiles, and the number of that state.
ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XTILEDATA = 158, 0x1023, 18


@dataclass(frozen=True, slots=True)
class CpuInfo:
    """A CPU to generate code for: LLVM's ``mcpu``, vector bytes, and which units it has: dots of
    AVX-512 VNNI, dots of bf16, tiles of AMX.

    ``bf16`` is False on CPUs with AMX: on the one measured, dots of bf16 took twice f32's time.
    ``extra`` are features that the CPU has beyond what ``mcpu`` promises.
    """

    mcpu: str
    vector_bytes: int
    vnni: bool
    bf16: bool = False
    amx: bool = False
    extra: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Kernels ask for one unit and rely on what it stands on."""
        complete = (not self.amx or self.vnni) and (not self.vnni or self.vector_bytes == 64)
        assert complete, f"{self} has a unit without what it stands on"

    @property
    def lanes(self) -> int:
        """f32 lanes of one vector register."""
        return self.vector_bytes // 4

    @property
    def pairs(self) -> bool:
        """Whether one instruction multiplies int16 and adds pairs of products (vpmaddwd)."""
        return self.vector_bytes >= AVX2_BYTES

    @property
    def units(self) -> tuple[Unit, ...]:
        """Multiplying units of this CPU, fastest first."""
        tiles = (Unit.INT8_TILE, Unit.BF16_TILE) if self.amx else ()
        dots = (Unit.INT8_DOT, Unit.INT16_DOT) if self.pairs else ()
        floats = (Unit.BF16_DOT,) if self.bf16 else ()
        return (*tiles, *dots, *floats, Unit.INT32, Unit.F32)


@cache
def flags() -> frozenset[str]:
    """Feature flags that the operating system reports; empty where it cannot say."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return frozenset()
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            words = value.replace("avx512_", "avx512").replace("amx_", "amx-")
            return frozenset(words.split())
    return frozenset()


@cache
def tiles_allowed() -> bool:
    """Whether this process may use AMX: the operating system is asked, once, and must agree."""
    if not (flags() >= AMX and sys.platform == "linux" and platform.machine() == "x86_64"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.syscall(ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XTILEDATA)) == 0


def vector_bytes(features: frozenset[str]) -> int:
    """Width of the widest vector register among ``features``."""
    if features >= {"avx512f", "avx512bw"}:
        return 64
    return AVX2_BYTES if "avx2" in features else 16


@cache
def detect() -> CpuInfo:
    """The CPU of this machine; a baseline of its family where features of it are hidden."""
    from ..tir.runtime import function

    host = str(function("target.llvm_get_system_cpu")())
    seen = flags()
    for mcpu in (host, *BASELINES):
        claimed = features(mcpu)
        if not seen or all(f in seen for f in MASKABLE if f in claimed):
            return as_seen(mcpu, claimed)
    return as_seen(host, features(host))


def as_seen(mcpu: str, claimed: frozenset[str]) -> CpuInfo:
    """A CPU called ``mcpu`` with the units that this machine reports and allows.

    A name goes by family and model, which a virtual machine may set to those of another CPU.
    """
    here = {f for group in (VNNI512, BF16) if flags() >= group for f in group}
    here |= AMX if tiles_allowed() else frozenset()
    found = _info(mcpu, claimed, tuple(sorted(here - claimed)))
    return replace(found, amx=here >= AMX, bf16=here >= BF16 and not here >= AMX)


@cache
def named(mcpu: str) -> CpuInfo:
    """The CPU that LLVM calls ``mcpu``, such as znver4, x86-64-v3 or skylake-avx512.

    Raises TargetError where LLVM knows no such CPU.
    """
    known = {str(name) for name in _asked("target.llvm_get_cpu_archlist", None)}
    if mcpu not in known:
        near = ", ".join(get_close_matches(mcpu, known, n=5, cutoff=0.3))
        raise TargetError(f"LLVM knows no CPU {mcpu!r}; the closest names are {near}")
    return _info(mcpu, features(mcpu))


def check_runs_here(cpu: CpuInfo) -> None:
    """Raise TargetError if this machine lacks something that kernels for ``cpu`` use."""
    if lacks := _lacking(used_features(cpu)):
        advice = f"compile for {detect().mcpu}, or leave the CPU out"
        raise _foreign(cpu.mcpu, lacks, advice)


def check_features(mcpu: str, used: frozenset[str], advice: str) -> None:
    """Raise TargetError, with ``advice``, if this machine lacks some; LLVM is not asked."""
    if lacks := _lacking(used):
        raise _foreign(mcpu, lacks, advice)


def used_features(cpu: CpuInfo) -> frozenset[str]:
    """What kernels for ``cpu`` use, of what a machine may lack."""
    known = {*MASKABLE, *BF16, *(AMX if cpu.amx else ()), *cpu.extra}
    return frozenset(known & (features(cpu.mcpu) | {*cpu.extra}))


def _lacking(used: frozenset[str]) -> list[str]:
    seen = flags()
    missing = sorted(used - seen) if seen else []
    if not missing and "amx-tile" in used and not tiles_allowed():
        return ["the operating system's leave to use AMX"]
    return missing


def _foreign(mcpu: str, lacks: list[str], advice: str) -> TargetError:
    return TargetError(
        f"code for {mcpu} does not run here: this machine lacks {', '.join(lacks)}; {advice}"
    )


def features(mcpu: str) -> frozenset[str]:
    """LLVM's features of a CPU."""
    return frozenset(map(str, _asked("target.llvm_get_cpu_features", mcpu)))


def _asked(question: str, mcpu: str | None) -> Iterable[object]:
    """What LLVM answers about a CPU."""
    from ..tir.runtime import function
    from .runtime import llvm_target

    return cast(Iterable[object], function(question)(llvm_target(mcpu)))


def _info(mcpu: str, claimed: frozenset[str], extra: tuple[str, ...] = ()) -> CpuInfo:
    have = claimed | set(extra)
    tiles = have >= AMX
    bf16 = have >= BF16 and not tiles
    return CpuInfo(mcpu, vector_bytes(have), have >= VNNI512, bf16, tiles, extra)

"""What the CPU can do, as far as kernels care: its name for LLVM and the units it has.

Importing this file loads no TVM; asking LLVM about a CPU does.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from ..compiler.errors import TargetError
from .kernel import Unit

# LLVM's names of features; the operating system writes avx512_vnni.
VNNI512 = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512vnni"})
# What a CPU must report before code for its whole family may use it: a virtual machine can hide it.
MASKABLE = (*VNNI512, "avx2", "fma", "f16c")
BASELINES = ("x86-64-v4", "x86-64-v3", "x86-64-v2", "x86-64")


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
            return frozenset(value.replace("avx512_", "avx512").split())
    return frozenset()


def vector_bytes(features: frozenset[str]) -> int:
    """Width of the widest vector register among ``features``."""
    if "avx512f" in features:
        return 64
    return 32 if "avx2" in features else 16


@cache
def detect() -> CpuInfo:
    """The CPU of this machine; a baseline of its family where features of it are hidden."""
    from tvm.target import codegen

    host = str(codegen.llvm_get_system_cpu())
    seen = flags()
    for mcpu in (host, *BASELINES):
        claimed = features(mcpu)
        if not seen or all(f in seen for f in MASKABLE if f in claimed):
            return _info(mcpu, claimed)
    return _info(host, features(host))


@cache
def named(mcpu: str) -> CpuInfo:
    """The CPU that LLVM calls ``mcpu``, such as znver4, x86-64-v3 or skylake-avx512.

    Raises TargetError where LLVM knows no such CPU.
    """
    from tvm.target import Target, codegen

    known = {str(name) for name in codegen.llvm_get_cpu_archlist(Target({"kind": "llvm"}))}
    if mcpu not in known:
        near = ", ".join(get_close_matches(mcpu, known, n=5, cutoff=0.3))
        raise TargetError(f"LLVM knows no CPU {mcpu!r}; the closest names are {near}")
    return _info(mcpu, features(mcpu))


def features(mcpu: str) -> frozenset[str]:
    """LLVM's features of a CPU."""
    from tvm.target import Target, codegen

    target = Target({"kind": "llvm", "mcpu": mcpu})
    return frozenset(map(str, codegen.llvm_get_cpu_features(target)))


def _info(mcpu: str, have: frozenset[str]) -> CpuInfo:
    return CpuInfo(mcpu, vector_bytes(have), have >= VNNI512)

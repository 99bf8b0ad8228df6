"""Kernels of CUDA C on a CPU: the source itself, compiled by g++ with what lies in `emulator/`.

    kernels = Emulated(source)
    kernels.launch("name", (blocks,), (threads,), [array.ctypes.data])

Run a kernel in all of ``ORDERS``: a missing barrier, or a copy that is not awaited, shows in some of
them alone. What the emulator cannot show: speed, weak memory order between blocks, what a tensor core
does inside with floats, and the last bits of ``expf`` and its like. Blocks run one after the other:
one that waits for another by itself never ends.
"""

from __future__ import annotations

import ctypes
import hashlib
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np

from .inline_assembly import translated

HERE = Path(__file__).parent / "emulator"
CACHE = Path(tempfile.gettempdir()) / "quatrain-emulator"
# No contraction and no wider sums, as compilers of CUDA are told; local arrays start with a pattern.
FLAGS = (
    *("-std=c++17", "-fPIC", "-shared", "-w", "-fno-strict-aliasing", "-fwrapv"),
    *("-ffp-contract=off", "-fexcess-precision=16", "-ftrivial-auto-var-init=pattern"),
)
# An access that is not aligned to its size is an illegal instruction, not a slow one.
ALIGNED = ("-fsanitize=alignment", "-fsanitize-undefined-trap-on-error")
# (backwards, early)
ORDERS = tuple(product((False, True), repeat=2))

SHARED = re.compile(
    r"(?P<extern>extern )?__shared__\s+(?:(?:alignas|__align__)\((?P<align>\d+)\)\s*)?"
    r"(?P<type>\w[\w ]*?)\s+(?P<name>\w+)\s*(?P<sizes>(?:\[[^\]]*\])*);"
)
BOUNDS = r"(?:__launch_bounds__\((?P<{}>[^,)]*)[^)]*\)\s+)?"
KERNEL = re.compile(
    rf"__global__\s+{BOUNDS.format('ahead')}void\s+{BOUNDS.format('behind')}(?P<name>\w+)"
    r"\s*\([^)]*\)\s*\{"
)


def has_compiler() -> bool:
    """Whether kernels can be emulated here."""
    return shutil.which("g++") is not None


def emulated(source: str) -> str:
    """CUDA C in which PTX is calls and shared arrays are places in the emulator's memory."""
    entries = "".join(
        f"EMU_KERNEL({found['name']}, ({found['ahead'] or found['behind'] or '0'}))\n"
        for found in KERNEL.finditer(source)
    )
    source = SHARED.sub(_place, translated(source))
    return f'#include "emulator.h"\n#line 1 "kernels.cu"\n{source}\n{entries}'


def _place(found: re.Match[str]) -> str:
    """The declaration of a shared array as that of a pointer to it."""
    element, name, align = found["type"], found["name"], found["align"] or "1"
    if found["extern"]:
        return f"auto* {name} = ({element}*)emu::dynamic_shared({align});"
    first, _, rest = found["sizes"].removeprefix("[").partition("]")
    made = f"emu::shared<{element}{rest}>(__COUNTER__, {first or '1'}, {align})"
    return f"auto* {name} = {made};" if first else f"auto& {name} = *{made};"


def emulator() -> Path:
    """The library that all kernels call: fibers, warps, shared memory."""
    parts = "".join(f'#include "{name}.cc"\n' for name in ("emulator", "shared", "warp"))
    return built(parts, "-O3", name="emulator.so")


def library(source: str) -> Path:
    """The kernels of a CUDA source for this CPU."""
    return built(emulated(source), "-O1", *ALIGNED, str(emulator()))


def built(source: str, *arguments: str, name: str = "kernels.so") -> Path:
    """The shared library of a source, from the cache where it is there."""
    command = ("g++", *FLAGS, f"-I{HERE}", f"-I{HERE / 'include'}")
    known = repr((source, _headers(), command, arguments, platform.machine()))
    path = CACHE / hashlib.sha256(known.encode()).hexdigest()[:32] / name
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        text, draft = Path(scratch) / "source.cc", Path(scratch) / name
        text.write_text(source)
        done = subprocess.run(
            [*command, str(text), *arguments, "-o", str(draft)], capture_output=True, text=True
        )
        if done.returncode:
            raise ValueError(f"CUDA C that does not compile:\n{done.stderr}")
        draft.replace(path)
    return path


@cache
def _headers() -> str:
    """All that a source may include, for the cache."""
    return "".join(path.read_text() for path in sorted(HERE.rglob("*.*")))


@cache
def _launcher() -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(emulator()))
    loaded.emu_launch.restype = ctypes.c_char_p
    return loaded


class Emulated:
    """The kernels of one CUDA source, to be called by name."""

    def __init__(self, source: str) -> None:
        self._kernels = ctypes.CDLL(str(library(source)))

    def launch(
        self,
        name: str,
        grid: Sequence[int],
        block: Sequence[int],
        addresses: Sequence[int],
        *,
        shared: int = 0,
        backwards: bool = False,
        early: bool = False,
    ) -> None:
        """Run one kernel on pointers; RuntimeError where a GPU would stop or give what is random.

        ``shared`` is the size of its dynamic array; with ``backwards`` threads and blocks run in
        descending order, with ``early`` asynchronous copies are carried out at once, not at last.
        """
        expected = ctypes.c_uint.in_dll(self._kernels, f"emu_count_{name}").value
        if len(addresses) != expected:
            raise ValueError(f"{name} takes {expected} pointers, not {len(addresses)}")
        values = [ctypes.c_void_p(a) for a in addresses]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(v) for v in values))
        error = _launcher().emu_launch(
            getattr(self._kernels, f"emu_{name}"),
            ctypes.c_uint.in_dll(self._kernels, f"emu_threads_{name}"),
            (ctypes.c_uint * 3)(*grid, *(1,) * (3 - len(grid))),
            (ctypes.c_uint * 3)(*block, *(1,) * (3 - len(block))),
            shared,
            pointers,
            int(backwards),
            int(early),
        )
        if error:
            raise RuntimeError(f"{name}: {error.decode()}")


def guarded(array: np.ndarray, margin: int = 4096) -> tuple[np.ndarray, np.ndarray]:
    """A copy of ``array`` between margins of a pattern, and all of it, to look for overruns."""
    whole = np.full(array.nbytes + 2 * margin + 256, 0xA5, np.uint8)
    start = margin + -(whole.ctypes.data + margin) % 256
    view = whole[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view, whole


def intact(view: np.ndarray, whole: np.ndarray) -> bool:
    """Whether nothing was written around a guarded array."""
    start = view.ctypes.data - whole.ctypes.data
    around = np.concatenate([whole[:start], whole[start + view.nbytes :]])
    return bool((around == 0xA5).all())

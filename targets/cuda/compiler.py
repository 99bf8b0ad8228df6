"""From CUDA C to machine code: NVRTC in this process, or nvcc, whichever is there.

Arithmetic must be that of the reference, bit for bit: nothing is contracted, no subnormal flushed,
quotients and roots are rounded correctly.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from ctypes import byref, c_char_p, c_int, c_size_t, c_void_p, create_string_buffer
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from ...compiler.errors import TargetError

EXACT = ("--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true", "--std=c++17")
# Kernels name values that not all of them need.
QUIET = "-diag-suppress=177"
OLDEST = 12
Version = tuple[int, int]
NVRTC = ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so")


class Compiler(Protocol):
    """Makes cubins."""

    @property
    def version(self) -> Version:
        """Of CUDA."""

    @property
    def name(self) -> str:
        """With its version, for people and for the cache of kernels."""

    def compile(self, source: str, arch: str) -> bytes:
        """The machine code of CUDA C; TargetError with the compiler's words where it fails."""


@cache
def find_compiler(newest: int | None = None) -> Compiler:
    """A compiler of this machine of CUDA 12 or later, and of ``newest`` at most.

    What a later major version makes an older driver does not load. Raises TargetError where there
    is none.
    """
    found: tuple[Compiler, ...] = (*_nvrtc(), *_nvcc())
    fits = [c for c in found if c.version[0] >= OLDEST and c.version[0] <= (newest or 1 << 31)]
    if fits:
        return fits[0]
    known = ", ".join(c.name for c in found)
    wheel = "nvidia-cuda-nvrtc-cu12" if newest == OLDEST else "'quatrain[cuda]'"
    raise TargetError(
        f"there is no compiler for CUDA {OLDEST}{f' .. {newest}' if newest else ''} here"
        f"{f' (but {known})' if known else ''}: pip install {wheel} brings one, or set CUDA_HOME to "
        "a toolkit"
    )


def places() -> Iterator[Path]:
    """Folders of toolkits: CUDA_HOME, wheels, where CUDA is installed."""
    if home := os.environ.get("CUDA_HOME"):
        yield Path(home)
    wheels = Path(sysconfig.get_paths()["purelib"]) / "nvidia"
    yield from (wheels / "cu13", wheels / "cuda_nvrtc", wheels / "cuda_nvcc")
    yield Path("/usr/local/cuda")


@dataclass(frozen=True, slots=True)
class Nvcc:
    """The program; it needs a compiler of the host beside it."""

    path: Path
    version: Version

    @property
    def name(self) -> str:
        """See ``Compiler``."""
        return "nvcc {}.{}".format(*self.version)

    def compile(self, source: str, arch: str) -> bytes:
        """See ``Compiler``."""
        with tempfile.TemporaryDirectory(prefix="quatrain-") as folder:
            text, made = Path(folder) / "kernels.cu", Path(folder) / "kernels.cubin"
            text.write_text(source)
            options = ["-cubin", "-O3", *EXACT, QUIET, f"-arch={arch}"]
            command = [str(self.path), *options, str(text), "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise TargetError(f"{self.name} refuses kernels for {arch}: {_first(done.stderr)}")
            return made.read_bytes()


def _nvcc() -> Iterator[Nvcc]:
    folders = [place / "bin" for place in places()]
    path = shutil.which("nvcc", path=os.pathsep.join(map(str, folders))) or shutil.which("nvcc")
    if path is None:
        return
    told = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
    if found := re.search(r"release (\d+)\.(\d+)", told):
        yield Nvcc(Path(path), (int(found[1]), int(found[2])))


@dataclass(frozen=True, slots=True)
class Nvrtc:
    """The library, which needs nothing else."""

    library: ctypes.CDLL
    version: Version

    @property
    def name(self) -> str:
        """See ``Compiler``."""
        return "NVRTC {}.{}".format(*self.version)

    def compile(self, source: str, arch: str) -> bytes:
        """See ``Compiler``."""
        program = c_void_p()
        text = source.encode()
        self._call("nvrtcCreateProgram", byref(program), text, b"kernels.cu", 0, None, None)
        try:
            options = [f"--gpu-architecture={arch}", *EXACT, QUIET]
            given = (c_char_p * len(options))(*(option.encode() for option in options))
            if self.library.nvrtcCompileProgram(program, len(options), given):
                log = self._text("nvrtcGetProgramLog", program).decode(errors="replace")
                raise TargetError(f"{self.name} refuses kernels for {arch}: {_first(log)}")
            return self._text("nvrtcGetCUBIN", program)
        finally:
            self.library.nvrtcDestroyProgram(byref(program))

    def _text(self, name: str, program: c_void_p) -> bytes:
        size = c_size_t()
        self._call(f"{name}Size", program, byref(size))
        made = create_string_buffer(size.value)
        self._call(name, program, made)
        return made.raw

    def _call(self, name: str, *arguments: object) -> None:
        if status := getattr(self.library, name)(*arguments):
            self.library.nvrtcGetErrorString.restype = c_char_p
            raise TargetError(
                f"{self.name} fails in {name}: {self.library.nvrtcGetErrorString(status).decode()}"
            )


def _nvrtc() -> Iterator[Nvrtc]:
    folders = [place / lib for place in places() for lib in ("lib", "lib64")]
    for path in (*(folder / name for folder in folders for name in NVRTC), *map(Path, NVRTC)):
        if (found := open_nvrtc(path)) is not None:
            yield found


def open_nvrtc(path: Path) -> Nvrtc | None:
    """The library at a path, or one that the system knows by name; None where it is not there."""
    try:
        # It looks for these by name, among what is loaded too.
        for builtins in path.parent.glob("libnvrtc-builtins.so*") if path.is_absolute() else ():
            ctypes.CDLL(str(builtins))
        library = ctypes.CDLL(str(path))
    except OSError:
        return None
    major, minor = c_int(), c_int()
    library.nvrtcVersion(byref(major), byref(minor))
    return Nvrtc(library, (major.value, minor.value))


def _first(log: str) -> str:
    """The first error of a compiler's text."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[0] if lines else "no reason")

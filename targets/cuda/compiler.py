"""From CUDA C to machine code: NVRTC in this process, or nvcc, whichever is there.

Arithmetic must be that of the reference, bit for bit: nothing is contracted, no subnormal flushed,
quotients and roots are rounded correctly.
"""

from __future__ import annotations

import ctypes
import os
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
NVRTC = ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so")


class Compiler(Protocol):
    """Makes cubins."""

    @property
    def name(self) -> str:
        """With its version, for people and for the cache of kernels."""

    def compile(self, source: str, arch: str) -> bytes:
        """The machine code of CUDA C; TargetError with the compiler's words where it fails."""


@cache
def find_compiler() -> Compiler:
    """The compiler of this machine; TargetError where there is none."""
    library = _nvrtc()
    if library is not None:
        return library
    program = _nvcc()
    if program is not None:
        return program
    raise TargetError(
        "there is no compiler for CUDA here: pip install 'quatrain[cuda]' brings one, or set "
        "CUDA_HOME to a toolkit of CUDA 12 or later"
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
    version: str

    @property
    def name(self) -> str:
        """See ``Compiler``."""
        return f"nvcc {self.version}"

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


def _nvcc() -> Nvcc | None:
    folders = [place / "bin" for place in places()]
    found = shutil.which("nvcc", path=os.pathsep.join(map(str, folders))) or shutil.which("nvcc")
    if found is None:
        return None
    told = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
    _, _, version = told.rpartition("release ")
    return Nvcc(Path(found), version.split(",")[0]) if version else None


@dataclass(frozen=True, slots=True)
class Nvrtc:
    """The library, which needs nothing else."""

    library: ctypes.CDLL
    version: str

    @property
    def name(self) -> str:
        """See ``Compiler``."""
        return f"NVRTC {self.version}"

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


def _nvrtc() -> Nvrtc | None:
    folders = [place / lib for place in places() for lib in ("lib", "lib64")]
    for path in (*(str(folder / name) for folder in folders for name in NVRTC), *NVRTC):
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue
        major, minor = c_int(), c_int()
        if not library.nvrtcVersion(byref(major), byref(minor)) and major.value >= 12:
            return Nvrtc(library, f"{major.value}.{minor.value}")
    return None


def _first(log: str) -> str:
    """The first error of a compiler's text."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[0] if lines else "no reason")

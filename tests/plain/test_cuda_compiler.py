"""The compilers of CUDA C: which is found, what it makes, what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quatrain.compiler.errors import TargetError
from quatrain.targets.cuda import compiler
from quatrain.targets.cuda.compiler import Compiler, find_compiler

KERNEL = 'extern "C" __global__ void twice(float* x) { x[threadIdx.x] *= 2; }\n'


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    find_compiler.cache_clear()
    yield
    find_compiler.cache_clear()


class Known:
    """A compiler of some version."""

    def __init__(self, major: int) -> None:
        self.version = (major, 1)
        self.name = f"known {major}.1"

    def compile(self, source: str, arch: str) -> bytes:
        raise AssertionError(source, arch)


def known(monkeypatch: pytest.MonkeyPatch, *majors: int) -> None:
    monkeypatch.setattr(compiler, "_nvrtc", lambda: iter([Known(m) for m in majors]))
    monkeypatch.setattr(compiler, "_nvcc", lambda: iter(()))


@pytest.mark.parametrize(
    ("majors", "newest", "wanted"), [((13, 12), None, 13), ((13, 12), 12, 12), ((11, 12), 13, 12)]
)
def test_the_first_that_the_driver_loads_is_taken(
    majors: tuple[int, ...], newest: int | None, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(monkeypatch, *majors)
    assert find_compiler(newest).version[0] == wanted


@pytest.mark.parametrize(
    ("majors", "said"),
    [
        ((), r"no compiler for CUDA 12 \.\. 12 here: pip install nvidia-cuda-nvrtc-cu12"),
        ((13, 11), r"for CUDA 12 \.\. 12 here \(but known 13\.1, known 11\.1\)"),
    ],
)
def test_none_that_fits(
    majors: tuple[int, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(monkeypatch, *majors)
    with pytest.raises(TargetError, match=said):
        find_compiler(12)


def present() -> list[Compiler]:
    """The compilers of this machine."""
    return [*compiler._nvrtc(), *compiler._nvcc()]


@pytest.mark.skipif(not present(), reason="no compiler for CUDA")
def test_machine_code_and_what_is_refused() -> None:
    for each in present():
        made = each.compile(KERNEL, "sm_90")
        assert made.startswith(b"\x7fELF") and b"twice" in made, each.name
        with pytest.raises(TargetError, match=r"refuses kernels for sm_90: .*error.*nothing"):
            each.compile(KERNEL.replace("x[", "nothing["), "sm_90")
        with pytest.raises(TargetError, match="refuses kernels for sm_1: "):
            each.compile(KERNEL, "sm_1")


def test_a_file_that_is_no_library(tmp_path: Path) -> None:
    (tmp_path / "libnvrtc.so.13").write_bytes(b"none")
    assert compiler.open_nvrtc(tmp_path / "libnvrtc.so.13") is None

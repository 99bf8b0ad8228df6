"""Functions, structures and numbers of CUDA's driver API are those of ``cuda.h``, where it is there."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from quatrain.targets.cuda import api

from ..cuda.emulate import has_compiler

KERNEL = {
    "func": "func",
    "grid": "gridDimX",
    "block": "blockDimX",
    "shared_bytes": "sharedMemBytes",
    "kernel_params": "kernelParams",
    "extra": "extra",
    "kern": "kern",
    "ctx": "ctx",
}
MEMSET = {
    "dst": "dst",
    "pitch": "pitch",
    "value": "value",
    "element_size": "elementSize",
    "width": "width",
    "height": "height",
}
COPY_END = {
    "x_in_bytes": "XInBytes",
    "y": "Y",
    "z": "Z",
    "lod": "LOD",
    "memory_type": "MemoryType",
    "host": "Host",
    "device": "Device",
    "array": "Array",
    "pitch": "Pitch",
    "height": "Height",
}
COPY = {"width_in_bytes": "WidthInBytes", "height": "Height", "depth": "Depth"}
# The parameters of a function by number.
TRAITS = """
#include <cuda.h>
#include <cstddef>
#include <tuple>
#include <type_traits>
template <class F> struct Of;
template <class... P> struct Of<CUresult (*)(P...)> {
  static constexpr std::size_t count = sizeof...(P);
  template <std::size_t i> using At = std::tuple_element_t<i, std::tuple<P...>>;
};
"""


def include() -> Path | None:
    """The folder of the header: of an installed CUDA, or of a package that brings it."""
    tops = [
        Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")),
        *Path("/usr/local").glob("cuda-*"),
    ]
    tops += Path(sysconfig.get_paths()["purelib"]).glob("nvidia/*")
    return next((top / "include" for top in tops if (top / "include" / "cuda.h").exists()), None)


def functions() -> Iterator[str]:
    """What must hold of each parameter of each function."""
    for name, parameters in api.SIGNATURES.items():
        of = f"Of<decltype(&{name})>"
        yield f"{of}::count == {len(parameters)}"
        for i, kind in enumerate(parameters):
            at = f"{of}::At<{i}>"
            yield f"sizeof({at}) == {ctypes.sizeof(kind)}"
            points = issubclass(kind, ctypes._Pointer)
            if points or kind in (ctypes.c_void_p, ctypes.c_char_p):
                yield f"std::is_pointer<{at}>::value"
            if points:
                yield f"sizeof(std::remove_pointer_t<{at}>) == {ctypes.sizeof(kind._type_)}"


def structures() -> Iterator[str]:
    """What must hold of the fields of each structure."""
    for ours, theirs, fields in (
        (api.KernelNodeParams, "CUDA_KERNEL_NODE_PARAMS_v2", KERNEL),
        (api.MemsetNodeParams, "CUDA_MEMSET_NODE_PARAMS", MEMSET),
        (api.CopyParams, "CUDA_MEMCPY3D", COPY),
    ):
        yield f"sizeof({theirs}) == {ctypes.sizeof(ours)}"
        for field, name in fields.items():
            yield f"offsetof({theirs}, {name}) == {getattr(ours, field).offset}"
    for start, end in (("src", api.CopyParams.source), ("dst", api.CopyParams.target)):
        for field, name in COPY_END.items():
            offset = end.offset + getattr(api.CopyEnd, field).offset
            yield f"offsetof(CUDA_MEMCPY3D, {start}{name}) == {offset}"


def numbers() -> Iterator[str]:
    """What must hold of the numbers."""
    yield f"CU_MEMORYTYPE_DEVICE == {api.MEMORYTYPE_DEVICE}"
    yield f"CU_STREAM_NON_BLOCKING == {api.STREAM_NON_BLOCKING}"
    yield f"CU_EVENT_DISABLE_TIMING == {api.EVENT_DISABLE_TIMING}"
    for prefix, kind in (
        ("CU_DEVICE_ATTRIBUTE", api.DeviceAttribute),
        ("CU_FUNC_ATTRIBUTE", api.FunctionAttribute),
        ("CUDA_ERROR", api.Status),
    ):
        for member in kind:
            name = "CUDA_SUCCESS" if member is api.Status.SUCCESS else f"{prefix}_{member.name}"
            yield f"{name} == {member.value}"


@pytest.mark.skipif(not has_compiler(), reason="needs g++")
@pytest.mark.parametrize("claims", [functions, structures, numbers])
def test_what_the_header_says(claims: object, tmp_path: Path) -> None:
    folder = include()
    if folder is None:
        pytest.skip("no cuda.h here: set CUDA_HOME")
    assert callable(claims)
    text = tmp_path / "claims.cc"
    text.write_text(TRAITS + "".join(f'static_assert({claim}, "");\n' for claim in claims()))
    command = ["g++", "-std=c++17", "-fsyntax-only", f"-I{folder}", str(text)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_sizes_of_structures() -> None:
    assert ctypes.sizeof(api.KernelNodeParams) == 72
    assert ctypes.sizeof(api.MemsetNodeParams) == 40
    assert ctypes.sizeof(api.CopyParams) == 200

"""TVM's runtime and LLVM without TVM's Python package, whose import takes a while.

A step whose kernels are all in the cache needs no more. What generates code imports ``tvm``, which
``load_package`` shortens.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path

# TVM reads these once: it would pin the main thread, whose mask torch's threads inherit, and take
# half of the CPUs for hyper-threads.
os.environ.setdefault("TVM_BIND_THREADS", "0")
os.environ.setdefault("TVM_NUM_THREADS", str(len(os.sched_getaffinity(0))))

import tvm_ffi
from tvm_ffi.libinfo import load_lib_ctypes

LIBRARIES = (
    ("tvm_runtime", "RTLD_GLOBAL"),
    ("tvm_compiler", "RTLD_LOCAL"),
    ("tvm_runtime_extra", "RTLD_LOCAL"),
)
RUNTIME = "libtvm_runtime.so"
# A function of that library.
THREADS = "runtime.config_threadpool"
AUTOLOAD = "TVM_DEVICE_BACKEND_AUTOLOAD"


@cache
def load_libraries() -> tuple[object, ...]:
    """Load TVM's libraries as ``tvm.base`` does; by the package where they lie elsewhere."""
    spec = find_spec("tvm")
    if "tvm" in sys.modules or "TVM_LIBRARY_PATH" in os.environ or spec is None:
        return (import_module("tvm"),)
    folders = [Path(place) / "lib" for place in spec.submodule_search_locations or ()]
    try:
        return tuple(load_lib_ctypes("tvm", name, mode, folders) for name, mode in LIBRARIES)
    except (RuntimeError, OSError):
        return (import_module("tvm"),)


def load_package() -> None:
    """Import ``tvm`` without its GPU backends, which ``tvm.backend.load`` brings in by name.

    Their registration looks for an op that is not there, and ``tvm.runtime`` for a class of a
    library that is loaded later. Both errors are caught, but each first one in a process symbolizes
    a backtrace over the debug information of all libraries: 1.6 s of import in place of 0.3.
    """
    if "tvm" in sys.modules:
        return
    load_libraries()
    before = os.environ.get(AUTOLOAD)
    os.environ.setdefault(AUTOLOAD, "0")
    try:
        import_module("tvm")
    finally:
        if before is None:
            del os.environ[AUTOLOAD]


def function(name: str) -> Callable[..., object]:
    """A function of TVM by its registered name, such as target.llvm_get_system_cpu."""
    found: Callable[..., object] | None = tvm_ffi.get_global_func(name, allow_missing=True)
    if found is None:
        load_libraries()
        found = tvm_ffi.get_global_func(name)
    return found


def runtime_library() -> Path | None:
    """The library that calls of kernels need; None where no package brings it."""
    spec = find_spec("tvm")
    places = spec.submodule_search_locations if spec else None
    paths = [Path(place) / "lib" / RUNTIME for place in places or ()]
    return next((path for path in paths if path.is_file()), None)


def load_runtime(carried: Path) -> None:
    """Load no more than kernels that are there need; OSError where that does not work.

    ``carried`` is a copy for where no package brings the library. It is not taken where one does:
    what a second copy registers is there already, and that ends the process.
    """
    if tvm_ffi.get_global_func(THREADS, allow_missing=True) is None:
        ctypes.CDLL(str(runtime_library() or carried), ctypes.RTLD_GLOBAL)


def load_module(path: Path) -> tvm_ffi.Module:
    """A shared library, or LLVM's text form (``.ll``), as a module of functions."""
    load_libraries()
    return tvm_ffi.load_module(str(path))


@cache
def version() -> str:
    """The version of TVM."""
    return metadata.version("apache-tvm")

"""TVM's runtime and LLVM without TVM's Python package, whose import takes most of a second.

A step whose kernels are all in the cache needs no more. What generates code imports ``tvm``.
"""

from __future__ import annotations

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


@cache
def load_libraries() -> tuple[object, ...]:
    """Load TVM's libraries as ``tvm.base`` does; by the package where they lie elsewhere."""
    spec = find_spec("tvm")
    if "tvm" in sys.modules or "TVM_LIBRARY_PATH" in os.environ or spec is None:
        return (import_module("tvm"),)
    folders = [Path(place) / "lib" for place in spec.submodule_search_locations or ()]
    try:
        runtime = load_lib_ctypes("tvm", "tvm_runtime", "RTLD_GLOBAL", folders)
        return runtime, load_lib_ctypes("tvm", "tvm_compiler", "RTLD_LOCAL", folders)
    except (RuntimeError, OSError):
        return (import_module("tvm"),)


def function(name: str) -> Callable[..., object]:
    """A function of TVM by its registered name, such as target.llvm_get_system_cpu."""
    load_libraries()
    found: Callable[..., object] = tvm_ffi.get_global_func(name)
    return found


def load_module(path: Path) -> tvm_ffi.Module:
    """A shared library, or LLVM's text form (``.ll``), as a module of functions."""
    load_libraries()
    return tvm_ffi.load_module(str(path))


@cache
def version() -> str:
    """The version of TVM."""
    return metadata.version("apache-tvm")


def use_threads(count: int) -> None:
    """Run parallel loops on ``count`` threads, at most the CPUs; results do not depend on it."""
    big_cores = 1
    function("runtime.config_threadpool")(big_cores, count)


def llvm_target(mcpu: str | None = None) -> object:
    """TVM's object for LLVM and a CPU, to ask LLVM about it."""
    return function("target.Target")({"kind": "llvm", **({"mcpu": mcpu} if mcpu else {})})

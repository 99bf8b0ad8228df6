"""TVM's pool of threads, and LLVM's words for a CPU."""

from __future__ import annotations

from ..tir.runtime import THREADS, function


def use_threads(count: int) -> None:
    """Run parallel loops on ``count`` threads, at most the CPUs; results do not depend on it."""
    big_cores = 1
    function(THREADS)(big_cores, count)


def llvm_target(mcpu: str | None = None) -> object:
    """TVM's object for LLVM and a CPU, to ask LLVM about it."""
    return function("target.Target")({"kind": "llvm", **({"mcpu": mcpu} if mcpu else {})})

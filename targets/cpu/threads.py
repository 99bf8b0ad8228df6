"""The crew of TVM's pool of threads, which all compiled steps of a process share."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from ..plan.kernel import Kernel
from .build import compile_kernel
from .crew import Crew
from .info import detect
from .module import use_threads

from tvm import tirx as tir  # isort: skip

from ..tir.expr import Code, Expr  # isort: skip
from .dialect import function  # isort: skip


@dataclass(frozen=True, slots=True)
class _Loop:
    """A parallel loop with a turn for each thread, which stores its number."""

    threads: int

    @property
    def name(self) -> str:
        """What it is."""
        return "loop"

    def build(self) -> tir.PrimFunc:
        """The function; see ``KernelSpec``."""

        def body(code: Code, slots: list[Expr]) -> None:
            with code.blocks(self.threads) as thread:
                code.store(slots[0], thread, thread)

        return function([("int32", self.threads)], body)


@cache
def crew() -> Crew:
    """All CPUs that this process may use, or as many as ``TVM_NUM_THREADS`` said at the start."""
    most = int(os.environ["TVM_NUM_THREADS"])
    return Crew(most, use_threads, _loop(most) if most > 1 else lambda: None)


def _loop(threads: int) -> Callable[[], None]:
    compiled = compile_kernel(Kernel(_Loop(threads), (), (), ()), detect())
    (places,) = compiled.tensors(np.zeros(threads, np.int32))

    def run() -> None:
        compiled.run(places)

    return run

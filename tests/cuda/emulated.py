"""Kernels of the ``cuda`` target as functions of NumPy arrays, run by the emulator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from quatrain.compiler.ir import Program, Value
from quatrain.targets.cuda.code import Launch
from quatrain.targets.cuda.source import cuda_source
from quatrain.targets.cuda.target import CudaKernels, plan_cuda
from quatrain.targets.plan.fuse import Group
from quatrain.targets.plan.kernel import Kernel, KernelSpec
from quatrain.targets.plan.layout import Order
from quatrain.targets.plan.plan import Plan
from quatrain.targets.plan.state import aligned_bytes, state_layout

from .emulate import ORDERS, Emulated


@dataclass(frozen=True, slots=True)
class EmulatedGpu:
    """A machine to compare kernels on, see ``cases.machine``."""

    arch: str = "sm_90"

    def plan(self, program: Program) -> Plan:
        """For the GPU of that name."""
        return plan_cuda(program, state_layout(program), self.arch)

    def kernel(self, group: Group, orders: Mapping[Value, Order]) -> Kernel:
        """See ``Machine``."""
        return CudaKernels(self.arch).kernel(group, orders)

    def compile(self, kernels: Sequence[Kernel]) -> list[EmulatedKernel]:
        """What is new of them in one library."""
        new = {k.spec: k for k in kernels if (self, k.spec) not in MADE}
        launches: dict[str, Launch] = {}
        made = []
        for i, kernel in enumerate(new.values()):
            own = {f"k{i}_{j}": launch for j, launch in enumerate(kernel.spec.build())}
            launches |= own
            made.append((kernel, own))
        library = Emulated(cuda_source(launches, self.arch)) if launches else None
        MADE.update(
            ((self, kernel.spec), EmulatedKernel(kernel, own, library)) for kernel, own in made
        )
        return [MADE[self, kernel.spec] for kernel in kernels]


class EmulatedKernel:
    """Calling it takes one array per slot and writes the outputs in place.

    It runs in four orders of threads and of asynchronous copies, which must make the same bytes.
    """

    def __init__(
        self, kernel: Kernel, launches: dict[str, Launch], library: Emulated | None
    ) -> None:
        self._kernel, self._launches, self._library = kernel, launches, library

    def __call__(self, *arrays: np.ndarray) -> None:
        made = []
        for backwards, early in ORDERS:
            held = [_copy(a) for a in arrays]
            self.run(held, backwards=backwards, early=early)
            made.append(held)
        for others in made[1:]:
            for one, other in zip(made[0], others, strict=True):
                assert one.tobytes() == other.tobytes(), f"{self._kernel.spec.name}: by the order"
        outputs = len(self._kernel.outputs)
        for array, result in list(zip(arrays, made[0], strict=True))[-outputs:]:
            array[...] = result.reshape(array.shape)

    def run(self, held: Sequence[np.ndarray], *, backwards: bool, early: bool) -> None:
        """Run on the memory of ``held``."""
        scratches = [aligned_bytes(size) for size in self._kernel.scratch]
        for scratch in scratches:
            scratch[...] = 0xA5
        addresses = [a.ctypes.data for a in (*held, *scratches)]
        for name, launch in self._launches.items():
            assert self._library is not None
            self._library.launch(
                name,
                (launch.grid,),
                (launch.threads,),
                addresses,
                backwards=backwards,
                early=early,
            )


# Equal specs give equal code: layers of a network, and recipes, share most of theirs.
MADE: dict[tuple[EmulatedGpu, KernelSpec], EmulatedKernel] = {}


def _copy(array: np.ndarray) -> np.ndarray:
    made: np.ndarray = aligned_bytes(array.nbytes).view(array.dtype)
    made[...] = array.reshape(-1)
    return made

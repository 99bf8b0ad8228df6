"""Kernels of the ``cuda`` target as functions of NumPy arrays, run on a GPU, or on its stand-in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from quatrain.compiler.ir import Program, Value
from quatrain.targets.cuda.driver import Device
from quatrain.targets.cuda.memory import DeviceMemory, allocate
from quatrain.targets.cuda.module import Function
from quatrain.targets.cuda.step_memory import StepMemory
from quatrain.targets.cuda.stream import Event
from quatrain.targets.cuda.target import CudaKernels, plan_cuda
from quatrain.targets.plan.fuse import Group
from quatrain.targets.plan.kernel import Kernel
from quatrain.targets.plan.layout import Order
from quatrain.targets.plan.plan import Plan
from quatrain.targets.plan.state import state_layout

PATTERN = 0xA5  # what scratch and results hold at first


@dataclass(frozen=True, eq=False)
class GpuMachine:
    """The first GPU, see ``cases.machine``."""

    memory: StepMemory = field(
        default_factory=lambda: StepMemory(Device(), Device().info.arch, None)
    )

    @property
    def arch(self) -> str:
        """Of the GPU."""
        return self.memory.arch

    def plan(self, program: Program) -> Plan:
        """See ``Machine``."""
        return plan_cuda(program, state_layout(program), self.arch)

    def kernel(self, group: Group, orders: Mapping[Value, Order]) -> Kernel:
        """See ``Machine``."""
        return CudaKernels(self.arch).kernel(group, orders)

    def compile(self, kernels: Sequence[Kernel]) -> Sequence[GpuKernel]:
        """See ``Machine``."""
        images = self.memory.images(kernel.spec for kernel in kernels)
        made = [self.memory.loaded.launches(images[kernel.spec]) for kernel in kernels]
        return [
            GpuKernel(self.memory, kernel, launches)
            for kernel, launches in zip(kernels, made, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class GpuKernel:
    """Calling it takes one array per slot and writes the outputs in place."""

    memory: StepMemory
    kernel: Kernel
    launches: Sequence[tuple[Function, int, int]]

    def __call__(self, *arrays: np.ndarray) -> None:
        stream, held = self.memory.stream, self.uploaded(arrays)
        self.run([m.address for m in held])
        first = len(self.kernel.inputs)
        for array, place in zip(arrays[first:], held[first:], strict=False):
            made = np.empty(array.shape, array.dtype)
            stream.download(made, place.address)
            stream.synchronize()
            array[...] = made

    def uploaded(self, arrays: Sequence[np.ndarray]) -> tuple[DeviceMemory, ...]:
        """Operands, results and scratch on the device."""
        device, stream = self.memory.device, self.memory.stream
        sizes = [*(a.nbytes for a in arrays), *self.kernel.scratch]
        held = allocate(device, sizes)
        for place, size in zip(held, sizes, strict=True):
            stream.fill(place.address, PATTERN, size)
        for array, place in zip(arrays, held, strict=False):
            stream.upload(place.address, np.ascontiguousarray(array))
        return held

    def run(self, addresses: Sequence[int]) -> None:
        """All launches."""
        for function, grid, threads in self.launches:
            self.memory.stream.launch(function, (grid,), (threads,), addresses)

    def microseconds(self, arrays: Sequence[np.ndarray], rounds: int = 20) -> float:
        """How long it takes, the quickest of some rounds."""
        device, stream = self.memory.device, self.memory.stream
        held = self.uploaded(arrays)
        addresses, best = [m.address for m in held], float("inf")
        for _ in range(rounds):
            first, last = Event(device), Event(device)
            first.record(stream)
            self.run(addresses)
            last.record(stream)
            last.synchronize()
            best = min(best, 1e3 * first.milliseconds_until(last))
        return best

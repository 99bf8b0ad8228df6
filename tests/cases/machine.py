"""What kernels of tests run on: this CPU, or whatever else ``on`` puts in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from quatrain.compiler.ir import Op, Program, Value
from quatrain.targets.cpu.build import compile_kernels
from quatrain.targets.cpu.info import CpuInfo, detect
from quatrain.targets.cpu.target import CpuKernels, plan_cpu
from quatrain.targets.plan.fuse import Group
from quatrain.targets.plan.kernel import Kernel
from quatrain.targets.plan.layout import Order
from quatrain.targets.plan.plan import Plan
from quatrain.targets.plan.state import state_layout


class Machine(Protocol):
    """A target to compare kernels on."""

    def plan(self, program: Program) -> Plan:
        """The plan of a program whose operands are decoded."""

    def kernel(self, group: Group, orders: Mapping[Value, Order]) -> Kernel:
        """The kernel of ops that belong together."""

    def compile(self, kernels: Sequence[Kernel]) -> Sequence[Callable[..., Any]]:
        """Functions of one array a slot, which write the outputs in place."""


@dataclass(frozen=True)
class Cpu:
    """A CPU."""

    info: CpuInfo

    def plan(self, program: Program) -> Plan:
        """See ``Machine``."""
        return plan_cpu(program, state_layout(program), self.info)

    def kernel(self, group: Group, orders: Mapping[Value, Order]) -> Kernel:
        """See ``Machine``."""
        return CpuKernels(self.info).kernel(group, orders)

    def compile(self, kernels: Sequence[Kernel]) -> Sequence[Callable[..., Any]]:
        """See ``Machine``."""
        return compile_kernels(kernels, self.info)


_MACHINES: list[Machine] = []


def machine() -> Machine:
    """The one that tests run on now."""
    return _MACHINES[-1] if _MACHINES else Cpu(detect())


@contextmanager
def on(other: Machine) -> Iterator[None]:
    """Meanwhile tests run on another machine."""
    _MACHINES.append(other)
    try:
        yield
    finally:
        _MACHINES.pop()


def kernel_of(ops: Sequence[Op], outputs: Sequence[Value], orders: Mapping[Value, Order]) -> Kernel:
    """The kernel of ops that belong together."""
    return machine().kernel(Group(tuple(ops), tuple(outputs), "forward"), orders)

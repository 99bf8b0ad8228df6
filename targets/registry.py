"""Targets by name: how each turns a program into something that runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from ..compiler.errors import TargetError, closest, shown
from ..compiler.ir import Program
from ..compiler.ir.verify import verify
from .plan.plan import Plan
from .plan.pool import Block, TargetMemory
from .plan.state import StateLayout, Unapplied
from .plan.stored import MachineCode, StoredCode


class Executable(Protocol):
    """A program bound to a target; ``plan`` is None where no kernels are chosen."""

    program: Program
    plan: Plan | None

    def run(self, inputs: Sequence[object], old: Block, new: Block) -> tuple[np.ndarray, ...]:
        """Run once: read ``inputs`` and the state block ``old``, write ``new``, return the outputs.

        ``inputs`` are C-contiguous, 64-byte aligned arrays or tensors that speak DLPack, in the
        program's order. State that the program does not change is left alone in ``new``.
        """


class HalvedExecutable(Protocol):
    """A training program without state that waits for gradients between its halves.

    ``first`` and ``second`` say what each takes and makes.
    """

    plan: Plan | None
    first: Program
    second: Program

    def forward(self, inputs: Sequence[object]) -> tuple[tuple[np.ndarray, ...], Block]:
        """The outputs of the first half, and what the second one needs of it."""

    def backward(self, inputs: Sequence[object], held: Block) -> tuple[np.ndarray, ...]:
        """The outputs of the second half, once for what a forward left."""


@dataclass(frozen=True, slots=True)
class BindOptions:
    """What a user may say: cache folder, threads, another CPU by LLVM's name, which GPU of here."""

    cache_dir: Path | None = None
    threads: int | None = None
    mcpu: str | None = None
    device: int = 0


class TargetModule(Protocol):
    """What the module of a target offers; programs are as ``Target.lower`` leaves them."""

    def plan(self, program: Program, state: StateLayout, options: BindOptions) -> Plan | None:
        """Choose kernels without building them; None where the target interprets."""

    def memory(self, options: BindOptions) -> TargetMemory:
        """TargetMemory for a step and its programs."""

    def bind(
        self, program: Program, state: StateLayout, options: BindOptions, memory: TargetMemory
    ) -> Executable:
        """Bind ``program``; NoKernelError names op and layer where a kernel is missing.

        Of executables that share a memory one runs at a time.
        """

    def bind_halves(
        self, program: Program, options: BindOptions, memory: TargetMemory
    ) -> HalvedExecutable:
        """Bind a training program without state as its halves."""

    def build(self, plans: Sequence[Plan], kept: Unapplied, options: BindOptions) -> MachineCode:
        """All kernels of ``plans`` and what settles a step, for another process or machine."""


class BuiltCode(Protocol):
    """Machine code that was built, ready to run in ``memory``."""

    @property
    def memory(self) -> TargetMemory:
        """For the state, and for programs that run one at a time."""

    def executable(self, plan: Plan) -> Executable:
        """A stored plan with its kernels."""


class BuiltModule(Protocol):
    """What the module of a target's built steps offers; it loads no TVM."""

    def load(self, code: StoredCode, kept: Unapplied, options: BindOptions) -> BuiltCode:
        """The machine code in this process; TargetError where this machine does not run it."""


class Lowering(Protocol):
    """What the module of a target's own stages offers; it loads no TVM."""

    def lower(
        self, target: str, program: Program, allow: Sequence[str]
    ) -> list[tuple[str, Program]]:
        """The stages of a target in order, each with the program that it makes."""


@dataclass(frozen=True, slots=True)
class Target:
    """A target: its name, one line about it, and the module that binds programs to it.

    The module is imported at first use, so that tools which run nothing start without TVM. A target
    that ``compiles`` takes the name of a CPU behind a colon: ``cpu:znver4``; one whose devices have
    a ``number`` takes that as well: ``cuda:1``. ``stages`` is the module of its own stages,
    ``built`` that of steps built ahead of time, ``sees`` that by which values between kernels are
    seen, where it has any.
    """

    name: str
    about: str
    module: str
    stages: str | None = None
    built: str | None = None
    sees: str | None = None
    compiles: bool = False
    mcpu: str | None = None
    number: int | None = None

    @property
    def family(self) -> str:
        """The name without what is behind the colon."""
        return self.name.partition(":")[0]

    def lower(self, program: Program, allow: Sequence[str] = ()) -> list[tuple[str, Program]]:
        """The program after each stage of the target's own that changes it, verified.

        ``allow`` are patterns of layers that may run in float. Raises NoKernelError, with op and
        layer, for a GEMM of formats that the target has no kernel for and no pattern waives.
        """
        if self.stages is None:
            return []
        module = cast(Lowering, import_module(self.stages, __package__))
        made: list[tuple[str, Program]] = []
        for name, after in module.lower(self.family, program, allow):
            if after is not program:
                program = verify(after)
                made.append((name, program))
        return made

    def plan(self, program: Program, state: StateLayout, options: BindOptions) -> Plan | None:
        """See ``TargetModule.plan``."""
        return self._module().plan(program, state, self.own(options))

    def memory(self, options: BindOptions) -> TargetMemory:
        """See ``TargetModule.memory``."""
        return self._module().memory(self.own(options))

    def bind(
        self,
        program: Program,
        state: StateLayout,
        options: BindOptions,
        memory: TargetMemory | None = None,
    ) -> Executable:
        """See ``TargetModule.bind``; without ``memory`` the program has one of its own."""
        options = self.own(options)
        module = self._module()
        return module.bind(program, state, options, memory or module.memory(options))

    def bind_halves(
        self, program: Program, options: BindOptions, memory: TargetMemory
    ) -> HalvedExecutable:
        """See ``TargetModule.bind_halves``."""
        return self._module().bind_halves(program, self.own(options), memory)

    def build(self, plans: Sequence[Plan], kept: Unapplied, options: BindOptions) -> MachineCode:
        """See ``TargetModule.build``."""
        return self._module().build(plans, kept, self.own(options))

    def load(self, code: StoredCode, kept: Unapplied, options: BindOptions) -> BuiltCode:
        """See ``BuiltModule.load``."""
        self.check_builds()
        module = cast(BuiltModule, import_module(str(self.built), __package__))
        return module.load(code, kept, self.own(options))

    def check_builds(self) -> None:
        """Raise TargetError for a target that makes no machine code."""
        if self.built is None:
            known = " or ".join(t.name for t in TARGETS.values() if t.built)
            raise TargetError(
                f"{self.name} interprets programs and makes no machine code; build for {known}"
            )

    def own(self, options: BindOptions) -> BindOptions:
        """Options with the CPU or the device that the target's name says."""
        options = replace(options, mcpu=self.mcpu) if self.mcpu else options
        return replace(options, device=self.number) if self.number is not None else options

    def _module(self) -> TargetModule:
        return cast(TargetModule, import_module(self.module, __package__))


TARGETS = {
    t.name: t
    for t in (
        Target(
            "cpu",
            "TVM kernels on packed storage for the CPU of this machine; cpu:NAME for another CPU",
            ".cpu.target",
            stages=".gemm.lowering",
            built=".cpu.built",
            sees=".cpu.seen",
            compiles=True,
        ),
        Target(
            "cuda",
            "TVM kernels on packed storage for the GPU of this machine; cuda:1 for the second one,"
            " cuda:sm_90 for another",
            ".cuda.target",
            stages=".gemm.lowering",
            built=".cuda.built",
            compiles=True,
            number=0,
        ),
        Target(
            "reference",
            "NumPy, the plain meaning of every op",
            ".reference.target",
            sees=".reference.seen",
        ),
    )
}


def find_target(name: str) -> Target:
    """The target called ``name``, such as cpu, cpu:znver4 or cuda:1.

    Raises TargetError with the closest name where there is none.
    """
    if not isinstance(name, str):
        raise TargetError(f"target is {shown(name)}; it is a name, such as 'cpu'")
    base, colon, which = name.partition(":")
    if base not in TARGETS:
        raise TargetError(f"no target is called {name!r}; {closest(base, TARGETS)}")
    found = TARGETS[base]
    if not colon:
        return found
    if not found.compiles or not which:
        raise TargetError(
            f"{name!r}: name a CPU or GPU behind the target, as in cpu:znver4, cuda:1 or cuda:sm_90"
        )
    if found.number is not None and which.isascii() and which.isdigit():
        return replace(found, name=f"{base}:{int(which)}", number=int(which))
    return replace(found, name=name, mcpu=which)

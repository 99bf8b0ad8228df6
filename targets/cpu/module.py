"""A compiled step: every distinct kernel once, in memory, and the calls of a plan, in order.

It takes the arena, the old and the new state block, then the program's inputs; running it is one
call from Python into compiled code, which walks through the calls (see ``entry``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import addressof, c_int64, sizeof
from pathlib import Path
from struct import Struct

from ..plan.kernel import KernelSpec
from ..plan.layout import DTYPES
from ..plan.plan import Plan
from .info import CpuInfo
from .kernels import Loaded, LoadedKernels, load_kernels
from .runtime import use_threads as use_threads  # exported
from .tensors import Expected, address

KernelCall = tuple[Loaded, Sequence[tuple[int, int]]]


class Walker:
    """Calls of kernels, run in order on buffers that are given each time.

    A call names its kernel and for each slot the number of one of ``buffers`` and a distance in
    bytes.
    """

    def __init__(self, calls: Sequence[KernelCall], buffers: int) -> None:
        self._libraries = {id(kernel.library): kernel.library for kernel, _ in calls}
        words = [x for kernel, slots in calls for x in _words(kernel, slots)]
        most = max((len(slots) for _, slots in calls), default=0)
        self._words = (c_int64 * len(words))(*words)
        self._bases, self._room = (c_int64 * buffers)(), (c_int64 * most)()
        self._pack = Struct(f"{buffers}q").pack_into
        library = next(iter(self._libraries.values()), None)
        self._walk = library.walk if library else _nothing
        self.loop = library.loop if library else _nothing
        start = addressof(self._words)
        end = start + sizeof(self._words)
        self._given = (start, end, addressof(self._bases), addressof(self._room))

    def __call__(self, pointers: Sequence[int]) -> None:
        """Run on the buffers at ``pointers``; the caller keeps them alive."""
        # ctypes and struct, as an address of NumPy's takes a microsecond: threads that wait for
        # work fall asleep.
        self._pack(self._bases, 0, *pointers)
        self._walk(*self._given)


def _nothing(*_: object) -> None:
    """What a program without kernels runs."""


def _words(kernel: Loaded, slots: Sequence[tuple[int, int]]) -> list[int]:
    places = (number for slot in slots for number in slot)
    return [kernel.library.caller, kernel.number, len(slots), *places]


class CompiledStep:
    """The step of a plan; ``arena`` counts bytes, ``loop`` is a parallel loop without work."""

    def __init__(self, walker: Walker, expected: Sequence[Expected]) -> None:
        self._walker, self._expected = walker, tuple(expected)
        (self.arena,) = self._expected[0].shape
        self.loop: Callable[[], object] = walker.loop

    def __call__(self, *blocks: object) -> None:
        """Run on the arena, the state blocks and the inputs."""
        pairs = zip(blocks, self._expected, strict=True)
        self._walker([address(block, expected) for block, expected in pairs])


def load_step(plan: Plan, state_bytes: int, cpu: CpuInfo, cache_dir: Path | None) -> CompiledStep:
    """The compiled step of a plan; its kernels come from the cache folder where they are there."""
    return compiled_step(plan, state_bytes, load_kernels(kernel_names(plan), cpu, cache_dir))


def compiled_step(plan: Plan, state_bytes: int, kernels: LoadedKernels) -> CompiledStep:
    """The step of a plan with kernels that are in memory."""
    expected = _expected(plan, state_bytes)
    places = {e.name: i for i, e in enumerate(expected)}
    calls = []
    for call in plan.calls():
        where = (*call.reads, *call.writes)
        calls.append((kernels[call.kernel.spec], [(places[p.where], p.offset) for p in where]))
    return CompiledStep(Walker(calls, len(expected)), expected)


def _expected(plan: Plan, state_bytes: int) -> list[Expected]:
    """What the step is called with, in order."""
    sizes = {"arena": max(plan.arena, 64), "old": state_bytes, "new": state_bytes}
    blocks = [Expected(name, (size,), "uint8") for name, size in sizes.items()]
    inputs = plan.program.inputs
    return [*blocks, *(Expected(v.name, v.type.shape, DTYPES[v.type.format.name]) for v in inputs)]


def kernel_names(plan: Plan) -> dict[KernelSpec, str]:
    """A name for each distinct spec, in order of first use."""
    names: dict[KernelSpec, str] = {}
    for planned in plan.kernels:
        spec = planned.kernel.spec
        names.setdefault(spec, f"k{len(names):03d}_{spec.name}")
    return names


def assembly(plan: Plan, cpu: CpuInfo) -> str:
    """The assembly of a plan's kernels, for tests that look for the instruction of a unit."""
    from .generate import generate

    return str(generate(tuple(kernel_names(plan)), cpu).inspect_source("asm"))

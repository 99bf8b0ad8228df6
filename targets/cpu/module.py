"""One compiled module a program: every distinct kernel once, and ``step``, which calls them.

``step`` takes the arena, the old and the new state block, then the program's inputs, all as
tensors; it is the only call from Python into compiled code.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from ..plan.kernel import KernelSpec, Slot
from ..plan.layout import DTYPES
from ..plan.plan import Plan
from .info import CpuInfo

# TVM reads these once: it would pin the main thread, whose mask torch's threads inherit, and take
# half of the CPUs for hyper-threads.
os.environ.setdefault("TVM_BIND_THREADS", "0")
os.environ.setdefault("TVM_NUM_THREADS", str(len(os.sched_getaffinity(0))))

import tvm
from tvm.script import tirx as T
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as B

Step = Callable[..., object]

# TVM tags memory by the variable it goes through. LLVM inlines kernels into the step, where a value
# has one variable in the kernel that stores it and another in the one that loads it: without this
# it would move the load ahead of the store.
BARRIER = """
define linkonce_odr i32 @quatrain_barrier() alwaysinline {
  call void asm sideeffect "", "~{memory}"()
  ret i32 0
}
"""


def load_step(plan: Plan, state_bytes: int, cpu: CpuInfo, cache_dir: Path | None) -> Step:
    """The compiled ``step`` of a plan, from the cache folder where it is there."""
    names = kernel_names(plan)
    if cache_dir is None:
        return _function(_compile(plan, names, state_bytes, cpu))
    stem = cache_dir / _key(plan, names, state_bytes, cpu)
    for path in (stem.with_suffix(".so"), stem.with_suffix(".ll")):
        if module := _load(path):
            return _function(module)
    module = _compile(plan, names, state_bytes, cpu)
    stored = _store(module, stem)
    # A shared library is machine code already; running ``module`` would generate it a second time.
    return _function((stored and _load(stored)) or module)


def kernel_names(plan: Plan) -> dict[KernelSpec, str]:
    """A function name for each distinct spec, in order of first use."""
    names: dict[KernelSpec, str] = {}
    for planned in plan.kernels:
        spec = planned.kernel.spec
        names.setdefault(spec, f"k{len(names):03d}_{spec.name}")
    return names


def assembly(plan: Plan, state_bytes: int, cpu: CpuInfo) -> str:
    """The assembly of a plan's module, for tests that look for the instruction of a unit."""
    module = _compile(plan, kernel_names(plan), state_bytes, cpu)
    return str(module.mod.inspect_source("asm"))


def tvm_target(cpu: CpuInfo) -> tvm.target.Target:
    """TVM's words for a CPU."""
    # For Intel's CPUs LLVM may take vpdpwssd apart into a product and an addition.
    wanted = [*cpu.extra, *(["fast-dpwssd"] if cpu.vnni else [])]
    extra = {"mattr": [f"+{feature}" for feature in wanted]} if wanted else {}
    return tvm.target.Target({"kind": "llvm", "mcpu": cpu.mcpu, **extra})


def _compile(
    plan: Plan, names: dict[KernelSpec, str], state_bytes: int, cpu: CpuInfo
) -> tvm.runtime.Executable:
    calls = {spec: tvm.ir.GlobalVar(name) for spec, name in names.items()}
    functions = {calls[spec]: spec.build() for spec in names}
    functions[tvm.ir.GlobalVar("step")] = _step(plan, calls, state_bytes)
    return tvm.compile(tvm.IRModule(functions), target=tvm_target(cpu))


def _step(
    plan: Plan, calls: dict[KernelSpec, tvm.ir.GlobalVar], state_bytes: int
) -> tvm.tirx.PrimFunc:
    sizes = [("arena", max(plan.arena, 64)), ("old", state_bytes), ("new", state_bytes)]
    with IRBuilder() as ib, B.prim_func(s_tir=True):
        B.func_name("step")
        B.func_attr({"global_symbol": "step"})
        buffers = {}
        for name, size in sizes:
            buffers[name] = B.match_buffer(B.arg(name, T.handle()), (size,), "uint8")
        for v in plan.program.inputs:
            dtype = DTYPES[v.type.format.name]
            buffers[v.name] = B.match_buffer(
                B.arg(f"input_{len(buffers)}", T.handle()), v.type.shape, dtype
            )
        with B.attr(0, "pragma_import_llvm", BARRIER):
            for planned in plan.kernels:
                kernel = planned.kernel
                arguments = [_address(plan, buffers, slot) for slot in kernel.slots]
                B.evaluate(calls[kernel.spec](*arguments))
                B.evaluate(tvm.tirx.call_extern("int32", "quatrain_barrier"))
    return ib.get()


def _address(plan: Plan, buffers: dict[str, tvm.tirx.Buffer], slot: Slot) -> tvm.tirx.Expr:
    place = plan.places[slot]
    buffer = buffers[place.where]
    first = [place.offset] if place.where in ("arena", "old", "new") else [0] * len(buffer.shape)
    return B.address_of(buffer[tuple(first)])


def use_threads(count: int) -> None:
    """Run parallel loops on ``count`` threads, at most the CPUs; results do not depend on it."""
    big_cores = 1
    tvm.get_global_func("runtime.config_threadpool")(big_cores, count)


def tensor(block: object) -> object:
    """``block`` as compiled code takes it: without a copy, through DLPack."""
    return tvm.runtime.from_dlpack(block)


def _function(module: tvm.runtime.Module) -> Step:
    step: Step = module["step"]
    return step


def _key(plan: Plan, names: dict[KernelSpec, str], state_bytes: int, cpu: CpuInfo) -> str:
    """Digest of all that decides the code: kernels, calls, sizes, CPU, generator and TVM."""
    digest = hashlib.sha256(f"{tvm.__version__} {cpu!r} {_generator()}".encode())
    digest.update(
        f"{plan.arena} {state_bytes} {[str(v.type) for v in plan.program.inputs]}".encode()
    )
    for spec, name in names.items():
        digest.update(f"{name} {spec!r}\n".encode())
    for planned in plan.kernels:
        places = [plan.places[s] for s in planned.kernel.slots]
        digest.update(f"{names[planned.kernel.spec]} {places}\n".encode())
    return digest.hexdigest()


@cache
def _generator() -> str:
    """Digest of the sources that generate kernels, so that a change of them misses the cache."""
    package = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for path in sorted(
        p for room in ("compiler", "targets") for p in (package / room).rglob("*.py")
    ):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _load(path: Path) -> tvm.runtime.Module | None:
    """The module in a file of the cache; None where there is none or it is damaged."""
    try:
        return tvm.runtime.load_module(str(path)) if path.exists() else None
    except (RuntimeError, OSError, ValueError):
        return None


def _store(module: tvm.runtime.Executable, stem: Path) -> Path | None:
    """Write a shared library, or without a linker LLVM's text form; None where neither works.

    The file is written beside its final name and moved there: no reader sees half of it.
    """
    linker = any(map(shutil.which, ("g++", "gcc", "clang")))
    path = stem.with_suffix(".so" if linker else ".ll")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            draft = Path(scratch) / path.name
            if linker:
                module.export_library(str(draft))
            else:
                module.mod.write_to_file(str(draft), "ll")
            draft.replace(path)
    except (OSError, RuntimeError):
        return None  # a cache that cannot be written costs time, not the result
    return path if linker else None

"""Kernels that can be called: from the cache where they are there, generated where they are not."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ..plan.kernel import KernelSpec
from ..tir.digest import sources
from ..tir.runtime import load_module, load_package, version
from ..tir.store import Store
from .info import CpuInfo

if TYPE_CHECKING:
    from tvm_ffi import Module

# Modules a thread: more balance the threads better, each costs a call of the linker and as much
# again as a kernel or two.
SHARES, LEAST_KERNELS = 3, 6
LINKERS = ("g++", "gcc", "clang")


@dataclass(frozen=True, eq=False, slots=True)
class Library:
    """A module of ``count`` kernels in memory, with the functions of ``entry``."""

    module: Module
    count: int
    caller: int

    @property
    def walk(self) -> Callable[..., object]:
        """Runs calls."""
        return cast(Callable[..., object], self.module["walk"])

    @property
    def loop(self) -> Callable[..., object]:
        """A parallel loop without work."""
        return cast(Callable[..., object], self.module["loop"])


@dataclass(frozen=True, slots=True)
class Loaded:
    """A kernel in memory, by its number in a library."""

    library: Library
    number: int


LoadedKernels = Mapping[KernelSpec, Loaded]


def load_kernels(
    specs: Iterable[KernelSpec], cpu: CpuInfo, cache_dir: Path | None
) -> LoadedKernels:
    """All kernels of ``specs``, compiled together where they are new, and then kept."""
    wanted = tuple(dict.fromkeys(specs))
    if cache_dir is None:
        return _generated(wanted, cpu, _in_memory) if wanted else {}
    store = Store(cache_dir)
    digests = {spec: digest(spec, cpu) for spec in wanted}
    found = _found(store, digests)

    def keep(module: Module, some: Sequence[KernelSpec]) -> Library:
        return _kept(store, module, [digests[spec] for spec in some])

    missing = tuple(spec for spec in wanted if spec not in found)
    return {**found, **_generated(missing, cpu, keep)} if missing else found


def digest(spec: KernelSpec, cpu: CpuInfo) -> str:
    """All that decides a kernel's code: spec, CPU, the sources that generate it, TVM."""
    text = f"{version()} {sources()} {cpu!r} {type(spec).__module__} {spec!r}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def has_linker() -> bool:
    """Whether shared libraries can be made."""
    return any(map(shutil.which, LINKERS))


def _found(store: Store, digests: Mapping[KernelSpec, str]) -> dict[KernelSpec, Loaded]:
    """The kernels that the cache has."""
    libraries: dict[str, Library | None] = {}
    found = {}
    for spec, key in digests.items():
        place = store.find(key)
        if place is None:
            continue
        if place.library not in libraries:
            path = store.library(place.library)
            libraries[place.library] = _opened_file(path) if path else None
        library = libraries[place.library]
        if library is not None and place.number < library.count:
            found[spec] = Loaded(library, place.number)
    return found


Keep = Callable[["Module", Sequence[KernelSpec]], Library]


def _generated(specs: Sequence[KernelSpec], cpu: CpuInfo, keep: Keep) -> dict[KernelSpec, Loaded]:
    """Generate ``specs``, several modules at once: TVM and LLVM run without Python's lock."""
    load_package()
    from .generate import generate

    workers = len(os.sched_getaffinity(0))
    count = min(-(-len(specs) // LEAST_KERNELS), SHARES * workers if workers > 1 else 1)
    # Neighbours are of one kind: dealt out in turn, all modules take about as long.
    shares = [specs[i::count] for i in range(count)]

    def make(share: Sequence[KernelSpec]) -> Library:
        return keep(generate(share, cpu), share)

    with ThreadPoolExecutor(min(workers, count)) as pool:
        libraries = list(pool.map(make, shares))
    return {
        spec: Loaded(library, number)
        for share, library in zip(shares, libraries, strict=True)
        for number, spec in enumerate(share)
    }


def _in_memory(module: Module, specs: Sequence[KernelSpec]) -> Library:
    return opened(module)


def _kept(store: Store, module: Module, digests: Sequence[str]) -> Library:
    """The library of a new module, which is stored where that works.

    A cache that cannot be written costs time, not the result.
    """
    linker = has_linker()
    scratch = store.scratch()
    if scratch is None:
        return opened(module)
    with scratch as folder:
        draft = Path(folder) / f"library{'.so' if linker else '.ll'}"
        try:
            if linker:
                module.export_library(str(draft))
            else:
                module.write_to_file(str(draft), "ll")
        except (OSError, RuntimeError):
            return opened(module)
        path = store.add(draft, digests)
    # A shared library is machine code already; running ``module`` would generate it a second time.
    stored = _opened_file(path) if path and linker else None
    return stored or opened(module)


def _opened_file(path: Path) -> Library | None:
    try:
        return opened(load_module(path))
    except (RuntimeError, OSError, ValueError, AttributeError):
        return None


def opened(module: Module) -> Library:
    """The kernels of a module."""
    return Library(module, cast(int, module["count"]()), cast(int, module["caller"]()))

"""One thread of a kernel for a GPU, as a ``Code``: registers, shared memory, barriers, PTX."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from math import isfinite
from struct import pack, unpack
from typing import Protocol, TypeAlias, TypeVar

import tvm
from tvm import tirx as tir
from tvm.ir import PointerType, PrimType
from tvm.tirx import stmt as st
from tvm.tirx.expr import EqualOp, NotEqualOp
from tvm.tirx.op import tvm_storage_sync

from ..tir.dialect import Rounded, Statements
from ..tir.expr import SERIAL, Code, Expr, Index, i32, load

# IEEE functions of CUDA C, for f32 and f64; nvcc is told to round roots and quotients correctly.
FUNCTIONS: dict[Rounded, tuple[str, str]] = {
    "sqrt": ("sqrtf", "sqrt"),
    "rint": ("rintf", "rint"),
    "floor": ("floorf", "floor"),
    "fma": ("fmaf", "fma"),
}


class DeviceWords:
    """See ``Dialect``: one thread's, of the block that ``code`` is in."""

    # Stores past the caches are worth nothing where all of memory is written once.
    streamed_bytes = 1 << 62
    # Of the 48 KiB of a block; reductions take up to 16.
    workspace_bytes = 32 << 10

    def fence(self, value: Expr, vector: str) -> Expr:
        """The value: nvcc is told to contract nothing."""
        return value

    def constant(self, number: float, dtype: str) -> Expr:
        """TVM writes an f64 with 15 digits behind the point: one that needs more, by its bits."""
        if dtype != "float64" or not isfinite(number) or float(f"{number:.15f}") == number:
            return tir.const(number, dtype)
        (bits,) = unpack("<q", pack("<d", number))
        return tir.call_pure_extern(dtype, "__longlong_as_double", tir.IntImm("int64", bits))

    def call(self, function: Rounded, vector: str, *numbers: Expr) -> Expr:
        """Lane by lane: CUDA C's functions know no vectors."""
        dtype, _, lanes = vector.partition("x")
        name = FUNCTIONS[function][dtype == "float64"]
        return _lane_by_lane(dtype, name, int(lanes or 1), *numbers)

    def where(self, condition: Expr, a: Expr, b: Expr) -> Expr:
        """By one condition where all lanes have the same: TVM writes no CUDA C for its copies."""
        if isinstance(condition, EqualOp | NotEqualOp):  # what == and != make
            condition = condition.asobject()
        one = _of_one_lane(condition)
        alike = _lanes(one) == _lanes(a)
        return tir.Select(condition, a, b) if alike else tir.if_then_else(one, a, b)

    def blocks(self, code: Statements, count: int) -> AbstractContextManager[Expr]:
        """Never asked for: what is parallel are a kernel's blocks and threads."""
        raise AssertionError("a kernel for a GPU has no parallel loop")

    def spread(self, code: Statements, count: int) -> AbstractContextManager[Expr]:
        """The turns over the threads of the block, then a barrier."""
        return _device(code).turns(count)

    @contextmanager
    def workspace(self, code: Statements, dtype: str, size: int) -> Iterator[Expr]:
        """Shared memory: each block has its own, and fills it by ``spread``."""
        yield _device(code).shared(dtype, size)

    @contextmanager
    def table(
        self, code: Statements, dtype: str, numbers: Sequence[float]
    ) -> Iterator[Callable[[Expr], Expr]]:
        """An array in the text of the program."""
        kind = {"int32": "int", "float32": "float"}[dtype]
        listed = ", ".join(float(x).hex() if kind == "float" else str(x) for x in numbers) or "0"
        name = f"table_{sha256(f'{dtype} {listed}'.encode()).hexdigest()[:16]}"
        code.link(
            f"__device__ const {kind} {name}[] = {{{listed}}};\n"
            f"__device__ __forceinline__ {kind} at_{name}(int i) {{ return {name}[i]; }}\n"
        )
        yield lambda place: _lane_by_lane(dtype, f"at_{name}", _lanes(place), place)

    def stream(self, code: Statements, buffer: Expr, index: Expr, value: Expr, lanes: int) -> None:
        """Never asked for, see ``streamed_bytes``."""
        raise AssertionError("a kernel for a GPU stores through its caches")

    def link(self, texts: Iterable[str], body: st.Stmt) -> st.Stmt:
        """CUDA C that stands ahead of the kernel, see ``Launch``."""
        return body


WORDS = DeviceWords()


class DeviceCode(Code):
    """Statements of one of ``threads`` threads of a block.

    What all threads compute alike one of them stores: the first of the grid, or of the block, see
    ``alone``. In a block of a bundle there may be more threads, which meet at its barriers, and
    its ``arrays`` are shared.
    """

    def __init__(self, threads: int, arrays: SharedArrays | None = None) -> None:
        super().__init__(WORDS)
        self.threads, self.grid, self.resident = threads, 1, 0
        self._arrays = arrays
        self.thread, self.block = tir.Var("thread", "int32"), tir.Var("block", "int32")
        self._storing: Expr | None = tir.all(self.thread.equal(i32(0)), self.block.equal(i32(0)))

    @property
    def texts(self) -> tuple[str, ...]:
        """CUDA C that the kernel calls."""
        return tuple(sorted(self._linked))

    @contextmanager
    def alone(self, condition: Expr | None) -> Iterator[None]:
        """Results are stored where ``condition`` holds, or by every thread its own."""
        before, self._storing = self._storing, condition
        try:
            yield
        finally:
            self._storing = before

    def store(self, buffer: Expr, index: Expr, value: Expr) -> None:
        """See ``Code``; to global memory as ``alone`` says."""
        if self._storing is None or buffer.scope() != "global":
            super().store(buffer, index, value)
            return
        with self.when(self._storing):
            super().store(buffer, index, value)

    @contextmanager
    def loop(self, extent: Index, kind: int = SERIAL) -> Iterator[Expr]:
        """Serial or unrolled: what is parallel are blocks and threads."""
        assert kind != 1, "a kernel for a GPU has no parallel loop"
        with super().loop(extent, kind) as i:
            yield i

    @contextmanager
    def rolled(self, extent: Index) -> Iterator[Expr]:
        """A loop that nvcc leaves one: copies of a long body take registers, and win nothing."""
        with self.loop(extent) as i:
            yield i
        made = self._open[-1].pop()
        assert isinstance(made, st.For)
        kept = {"disable_unroll": True}
        self.add(st.For(made.loop_var, made.min, made.extent, made.kind, made.body, None, kept))

    @contextmanager
    def turns(self, count: Index) -> Iterator[Expr]:
        """0 .. count - 1 over the threads of the block, then a barrier."""
        with self.strided(count) as at:
            yield at
        self.barrier()

    @contextmanager
    def strided(self, count: Index) -> Iterator[Expr]:
        """0 .. count - 1 over the threads of the block; every thread stores what it makes."""
        with self.alone(None):
            if isinstance(count, int) and count <= self.threads:
                with self.when(self.thread < i32(count)):
                    yield self.thread
                return
            end = i32(count) if isinstance(count, int) else count
            turns = tir.floordiv(end + i32(self.threads - 1), i32(self.threads))
            with self._working(), self.loop(turns) as turn:
                at = self.let(turn * i32(self.threads) + self.thread, "int32", "at")
                with self.when(at < end):
                    yield at

    def _working(self) -> AbstractContextManager[None]:
        """By no more threads than the kernel has."""
        return (
            self.when(self.thread < i32(self.threads))
            if self._arrays is not None
            else nullcontext()
        )

    def tree(self, own: Expr, dtype: str, join: Callable[[Expr, Expr], Expr]) -> Expr:
        """The numbers of all threads of the block joined, a name in each of them.

        The order is that of the threads, whose number is a power of two.
        """
        places = self.shared(dtype, self.threads)
        with self._working():
            self.store(places, self.thread, own)
        self.barrier()
        half = self.threads // 2
        while half:
            with self.when(self.thread < i32(half)):
                other = load(places, self.thread + i32(half))
                self.store(places, self.thread, join(load(places, self.thread), other))
            self.barrier()
            half //= 2
        return self.let(load(places, i32(0)), dtype)

    def local(self, dtype: str, size: int) -> Expr:
        """Registers: a small array that is indexed by constants alone."""
        return self._array(dtype, size, "local")

    def shared(self, dtype: str, size: int) -> Expr:
        """An array of the block; up to 48 KiB in all."""
        if self._arrays is not None:
            return self._arrays.take(dtype, size)
        return self._array(dtype, size, "shared")

    def _array(self, dtype: str, size: int, scope: str) -> Expr:
        buffer = tir.decl_buffer((size,), dtype, self.name(scope), scope=scope, layout=None)
        self.add(st.AllocBuffer(buffer))
        return buffer

    def barrier(self) -> None:
        """Wait for the whole block."""
        self.add(st.Evaluate(tvm_storage_sync("shared")))


class SharedArrays(Protocol):
    """Arrays of a block that several kernels use, each at its own time."""

    def take(self, dtype: str, size: int) -> Expr:
        """One that the kernel did not take yet."""


@dataclass(frozen=True, eq=False, slots=True)
class Launch:
    """A kernel with the grid that it runs on; ``texts`` of CUDA C stand ahead of it.

    ``resident`` blocks of it fit on a multiprocessor at least; with 0 compilers aim at more, and
    spill a few registers for that.
    """

    function: tir.PrimFunc
    grid: int
    threads: int
    texts: tuple[str, ...] = ()
    resident: int = 0


Body: TypeAlias = Callable[[DeviceCode, list[Expr]], None]
Made = TypeVar("Made", covariant=True)


class Maker(Protocol[Made]):
    """What a kernel's launches are made by: ``launch``, or a part of one that others share."""

    def __call__(self, parameters: Sequence[tuple[str, int]], threads: int, body: Body) -> Made:
        """With a pointer for each (dtype, elements); ``body`` writes one thread.

        ``body`` may leave another grid, fewer threads and ``Launch.resident`` in its code.
        """


def launch(parameters: Sequence[tuple[str, int]], threads: int, body: Body) -> Launch:
    """A kernel, see ``Maker``."""
    code, given = DeviceCode(threads), [parameter(i, *x) for i, x in enumerate(parameters)]
    body(code, [x.buffer for x in given])
    made = threads_function(
        given, code.done(), (code.thread, code.threads), (code.block, code.grid)
    )
    return Launch(made, code.grid, code.threads, code.texts, code.resident)


@dataclass(frozen=True, eq=False, slots=True)
class KernelParameter:
    """A pointer that a kernel is given, and what it points to."""

    pointer: tir.Var
    buffer: Expr

    def declared(self) -> st.Stmt:
        """What says so."""
        return st.DeclBuffer(self.buffer, data=self.pointer)


def parameter(number: int, dtype: str, size: int) -> KernelParameter:
    """The one with that number."""
    pointer = tir.Var(f"p{number}", PointerType(PrimType(dtype), "global"))
    buffer = tir.decl_buffer((size,), dtype, f"b{number}", data=pointer, layout=None)
    return KernelParameter(pointer, buffer)


def threads_function(
    given: Sequence[KernelParameter],
    body: st.Stmt,
    thread: tuple[Expr, int],
    block: tuple[Expr, int],
) -> tir.PrimFunc:
    """The function of a kernel; a variable and its extent for the threads and for the blocks."""
    for name, (variable, extent) in (("threadIdx.x", thread), ("blockIdx.x", block)):
        axis = tir.IterVar(tvm.ir.Range(0, extent), variable, 1, name)
        body = st.AttrStmt(axis, "thread_extent", i32(extent), body)
    declared = [x.declared() for x in given]
    made = tir.PrimFunc([x.pointer for x in given], st.SeqStmt([*declared, body]))
    # The plan gives no result the memory of an operand.
    return made.with_attr("s_tir", True).with_attr("tirx.noalias", True)


def _of_one_lane(condition: Expr) -> Expr:
    """A comparison of numbers that all lanes share as that of one lane."""
    if isinstance(condition, tir.And | tir.Or):
        a, b = (_of_one_lane(x) for x in (condition.a, condition.b))
        return type(condition)(a, b) if _lanes(a) == _lanes(b) == 1 else condition
    a, b = (getattr(condition, name, None) for name in "ab")
    if isinstance(a, tir.Broadcast) and isinstance(b, tir.Broadcast):
        return type(condition)(a.value, b.value)
    return condition


def _lane_by_lane(dtype: str, name: str, lanes: int, *numbers: Expr) -> Expr:
    """A function of single numbers, of each lane."""
    if lanes == 1:
        return tir.call_pure_extern(dtype, name, *numbers)
    places = [i32(k) for k in range(lanes)]
    each = [[tir.Shuffle([x], [k]) for x in numbers] for k in places]
    return tir.Shuffle([tir.call_pure_extern(dtype, name, *some) for some in each], places)


def _lanes(x: Expr) -> int:
    return int(tvm.DataType(str(x.ty.dtype)).lanes)


def _device(code: Statements) -> DeviceCode:
    assert isinstance(code, DeviceCode)
    return code

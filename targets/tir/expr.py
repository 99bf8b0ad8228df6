"""Building blocks of generated kernels: statements in order, vectors, scratch memory.

Kernels are built as nodes, not parsed from a script: no name is bound inside a vectorized loop,
because there are none; a vector is a value of type ``float32x16``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import tvm
from tvm import tirx as tir
from tvm.ir import Expr as Expr  # exported
from tvm.ir import PointerType, PrimType
from tvm.tirx import stmt as st

from .dialect import Dialect, Rounded

Index: TypeAlias = Expr | int
SERIAL, PARALLEL, UNROLLED = 0, 1, 3
# Larger local arrays would be taken from the heap by TVM; vectors in registers are far smaller.
LARGEST_LOCAL = 512


def typed(dtype: str, lanes: int) -> str:
    """Name of a vector type; of the plain type for one lane."""
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def i32(value: int) -> Expr:
    """An index constant."""
    return tir.const(value, "int32")


class Code:
    """Statements of one function, appended in order; ``loop`` and ``when`` open nested blocks."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self._open: list[list[st.Stmt]] = [[]]
        self._scratches: list[dict[tuple[str, int], Expr]] = [{}]
        self._names = 0
        self._linked: set[str] = set()

    def link(self, text: str) -> None:
        """Make the functions of a text in the target's own language callable from this one."""
        self._linked.add(text)

    def add(self, statement: st.Stmt) -> None:
        """Append a statement to the innermost open block."""
        self._open[-1].append(statement)

    def name(self, prefix: str) -> str:
        """A name not used before in this function."""
        self._names += 1
        return f"{prefix}{self._names}"

    def let(self, value: Expr, dtype: str, prefix: str = "v") -> Expr:
        """Bind a value that is loaded from memory to a name."""
        var = tir.Var(self.name(prefix), dtype)
        self.add(st.Bind(var, value))
        return var

    def fence(self, value: Expr, dtype: str, lanes: int) -> Expr:
        """Name a float so that TVM does not copy it and nothing fuses it with its reader.

        TVM's passes put the values of names into their readers, over and over; a value that went
        through a local array they leave alone, and compilers see that the array is a register.
        """
        place = self._scratch(dtype, lanes)
        vector = typed(dtype, lanes)
        self.store(place, ramp(0, lanes), self.dialect.fence(value, vector))
        return self.let(load(place, ramp(0, lanes)), vector)

    def _scratch(self, dtype: str, lanes: int) -> Expr:
        """The array of the innermost block that values of a type pass through."""
        table = self._scratches[-1]
        if (dtype, lanes) not in table:
            table[dtype, lanes] = self.local(dtype, lanes)
        return table[dtype, lanes]

    def store(self, buffer: Expr, index: Expr, value: Expr) -> None:
        """Write one element or, with a ramp as index, a vector."""
        self.add(st.BufferStore(buffer, value, [index]))

    @contextmanager
    def loop(self, extent: Index, kind: int = SERIAL) -> Iterator[Expr]:
        """A loop over 0 .. extent - 1 around what is appended inside the ``with``."""
        var = tir.Var(self.name("i"), "int32")
        self._enter()
        try:
            yield var
        finally:
            body = self._leave()
            extent = i32(extent) if isinstance(extent, int) else extent
            self.add(st.For(var, i32(0), extent, kind, body))

    @contextmanager
    def when(self, condition: Expr) -> Iterator[None]:
        """Run what is appended inside the ``with`` only where the scalar ``condition`` holds."""
        self._enter()
        try:
            yield
        finally:
            self.add(st.IfThenElse(condition, self._leave(), None))

    def _enter(self) -> None:
        self._open.append([])
        self._scratches.append({})

    def _leave(self) -> st.Stmt:
        self._scratches.pop()
        return _sequence(self._open.pop())

    def local(self, dtype: str, size: int) -> Expr:
        """A small array that LLVM keeps in registers or on the stack."""
        assert size * tvm.DataType(dtype).bits // 8 <= LARGEST_LOCAL, "take workspace instead"
        buffer = tir.decl_buffer((size,), dtype, self.name("local"), layout=None)
        self.add(st.AllocBuffer(buffer))
        return buffer

    def blocks(self, count: int) -> AbstractContextManager[Expr]:
        """See ``Dialect.blocks``."""
        return self.dialect.blocks(self, count)

    def spread(self, count: int) -> AbstractContextManager[Expr]:
        """See ``Dialect.spread``."""
        return self.dialect.spread(self, count)

    def workspace(self, dtype: str, size: int) -> AbstractContextManager[Expr]:
        """See ``Dialect.workspace``."""
        return self.dialect.workspace(self, dtype, size)

    def table(
        self, dtype: str, numbers: Sequence[float]
    ) -> AbstractContextManager[Callable[[Expr], Expr]]:
        """See ``Dialect.table``."""
        return self.dialect.table(self, dtype, numbers)

    def stream(self, buffer: Expr, index: Index, value: Expr, lanes: int) -> None:
        """See ``Dialect.stream``: for results far larger than the caches."""
        first = i32(index) if isinstance(index, int) else index
        self.dialect.stream(self, buffer, first, value, lanes)

    def done(self) -> st.Stmt:
        """All statements as one."""
        (statements,) = self._open
        return self.dialect.link(sorted(self._linked), _sequence(statements))


def _sequence(statements: Sequence[st.Stmt]) -> st.Stmt:
    if not statements:
        return st.Evaluate(i32(0))
    return statements[0] if len(statements) == 1 else st.SeqStmt(list(statements))


def function(
    dialect: Dialect,
    parameters: Sequence[tuple[str, int]],
    body: Callable[[Code, list[Expr]], None],
) -> tir.PrimFunc:
    """A private function with a pointer for each (dtype, elements), which returns int32 0."""
    code = Code(dialect)
    pointers, buffers = [], []
    for i, (dtype, size) in enumerate(parameters):
        pointer = tir.Var(f"p{i}", PointerType(PrimType(dtype), "global"))
        buffer = tir.decl_buffer((size,), dtype, f"b{i}", data=pointer, layout=None)
        code.add(st.DeclBuffer(buffer, data=pointer))
        pointers.append(pointer)
        buffers.append(buffer)
    body(code, buffers)
    code.add(st.Return(i32(0)))
    made = tir.PrimFunc(pointers, code.done(), ret_type=PrimType("int32"))
    # Not "tirx.noalias": TVM then tags memory by variable, and wherever LLVM inlines kernels into
    # one caller it would move reads of a buffer ahead of the writes of the kernel before.
    return made.with_attr("s_tir", True)


def load(buffer: Expr, index: Index, lanes: int = 1) -> Expr:
    """``lanes`` consecutive elements or, with a ramp as index, a vector."""
    return tir.BufferLoad(buffer, [ramp(index, lanes)])


def shuffle(vectors: Sequence[Expr], places: Sequence[int]) -> Expr:
    """Elements of several vectors, numbered through, as one vector; no more than they have."""
    return tir.Shuffle(list(vectors), [i32(place) for place in places])


def packed_place(column: Index, cell: int, parts: int) -> tuple[Expr, Expr]:
    """Which code of its byte, and which byte of its row, holds a column of a packed row.

    Not by a remainder: LLVM 22 vectorizes ``b[8 * i + j % 8]`` as ``b[8 * i + j]``.
    """
    part = i32(0)
    for i in range(1, parts):
        part = part + tir.Select(i32(0) + column >= i32(i * cell), i32(1), i32(0))
    return part, column - part * i32(cell)


def ramp(first: Index, lanes: int, stride: int = 1) -> Expr:
    """Indices first, first + stride, ...; the plain index for one lane."""
    first = i32(first) if isinstance(first, int) else first
    return first if lanes == 1 else tir.Ramp(first, i32(stride), lanes)


@dataclass(frozen=True, eq=False, slots=True)
class Vectors:
    """Arithmetic on vectors of ``lanes`` elements, appended to ``code``.

    Every float result is a name of its own, rounded as NumPy rounds it, never fused with the next.
    ``dtype`` is float32, or float64 for the sums of reductions.
    """

    code: Code
    lanes: int
    dtype: str = "float32"

    def splat(self, value: Expr | float, dtype: str = "") -> Expr:
        """The same number in all lanes."""
        if not isinstance(value, Expr):
            value = self.code.dialect.constant(value, dtype or self.dtype)
        return value if self.lanes == 1 else tir.Broadcast(value, self.lanes)

    def u(self, value: int) -> Expr:
        """A constant of 32 bits in all lanes."""
        return self.splat(value, "uint32")

    def i(self, value: int) -> Expr:
        """A signed constant in all lanes."""
        return self.splat(value, "int32")

    def f(self, value: Expr) -> Expr:
        """Bind a float expression, fenced."""
        return self.code.fence(value, self.dtype, self.lanes)

    def add(self, a: Expr, b: Expr) -> Expr:
        """a + b"""
        return self.f(self._kept(a) + self._kept(b))

    def sub(self, a: Expr, b: Expr) -> Expr:
        """a - b"""
        return self.f(a - self._kept(b))

    def mul(self, a: Expr, b: Expr) -> Expr:
        """a * b"""
        return self.f(self._kept(a) * self._kept(b))

    def div(self, a: Expr, b: Expr) -> Expr:
        """a / b, correctly rounded."""
        return self.f(tir.div(self._kept(a), b))

    def _kept(self, a: Expr) -> Expr:
        """A zero as a name: TVM takes 0 * x for 0 also where x is NaN, and x + 0 for x of -0."""
        number = a.value if isinstance(a, tir.Broadcast) else a
        return self.f(a) if isinstance(number, tir.FloatImm) and number.value == 0 else a

    def fma(self, a: Expr, b: Expr, c: Expr) -> Expr:
        """a * b + c, rounded once where there is an instruction for it."""
        return self.f(self.call("fma", a, b, c))

    def sqrt(self, a: Expr) -> Expr:
        """The square root, correctly rounded."""
        return self.f(self.call("sqrt", a))

    def rint(self, a: Expr) -> Expr:
        """To the nearest integer, ties to even."""
        return self.f(self.call("rint", a))

    def floor(self, a: Expr) -> Expr:
        """To the next integer below."""
        return self.f(self.call("floor", a))

    def magnitude(self, a: Expr) -> Expr:
        """|a|, as a name."""
        return self.f(self.to_f(self.bits(a) & self.u(0x7FFFFFFF)))

    def call(self, function: Rounded, *numbers: Expr) -> Expr:
        """See ``Dialect.call``."""
        return self.code.dialect.call(function, typed(self.dtype, self.lanes), *numbers)

    def where(self, condition: Expr, a: Expr, b: Expr) -> Expr:
        """a where the condition holds in a lane, else b; both are names or constants."""
        return self.code.dialect.where(condition, a, b)

    def bits(self, a: Expr) -> Expr:
        """The bit pattern of an f32, as u32."""
        return tir.reinterpret(typed("uint32", self.lanes), a)

    def signed(self, u: Expr) -> Expr:
        """A u32 as i32."""
        return tir.reinterpret(typed("int32", self.lanes), u)

    def unsigned(self, i: Expr) -> Expr:
        """An i32 as u32."""
        return tir.reinterpret(typed("uint32", self.lanes), i)

    def to_f(self, u: Expr) -> Expr:
        """The f32 with bit pattern ``u``."""
        return tir.reinterpret(typed("float32", self.lanes), u)

    def cast(self, a: Expr, dtype: str) -> Expr:
        """Convert the number."""
        return tir.Cast(typed(dtype, self.lanes), a)

    def hold(self, u: Expr) -> Expr:
        """Bind a u32 so that TVM does not copy it into its readers."""
        return self.bits(self.f(self.to_f(u)))

"""The CPU's words: LLVM's intrinsics, TVM's pool of threads and its heap."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import tvm
from tvm import tirx as tir
from tvm.ir import PointerType, PrimType
from tvm.tirx import stmt as st
from tvm.tirx.op import TVMBackendFreeWorkspace, call_intrin

from ..tir import expr
from ..tir.dialect import Rounded, Statements
from ..tir.expr import PARALLEL, SERIAL, Code, Expr, i32

INTRINSICS: dict[Rounded, str] = {
    "sqrt": "sqrt",
    "rint": "roundeven",
    "floor": "floor",
    # Without such an instruction a product and an addition: a call of libm's would cost tenfold.
    "fma": "fmuladd",
}
# TVM has no words for such a store.
STREAM = """
define linkonce_odr i32 @quatrain_stream_{lanes}(ptr %p, <{lanes} x float> %x) alwaysinline {{
  store <{lanes} x float> %x, ptr %p, align {bytes}, !nontemporal !0
  ret i32 0
}}
!0 = !{{i32 1}}
"""


class Llvm:
    """See ``Dialect``."""

    # Buffers are aligned to cache lines, and a line that is written whole is not read first.
    streamed_bytes = 16 << 20
    workspace_bytes = 1 << 62

    def fence(self, value: Expr, vector: str) -> Expr:
        """LLVM may contract a product with the addition that reads it, but not across this."""
        return tir.call_llvm_pure_intrin(vector, "llvm.arithmetic.fence", value)

    def constant(self, number: float, dtype: str) -> Expr:
        """As TVM has it."""
        return tir.const(number, dtype)

    def call(self, function: Rounded, vector: str, *numbers: Expr) -> Expr:
        """One instruction."""
        return tir.call_llvm_pure_intrin(vector, f"llvm.{INTRINSICS[function]}", *numbers)

    def where(self, condition: Expr, a: Expr, b: Expr) -> Expr:
        """One instruction."""
        return tir.Select(condition, a, b)

    def blocks(self, code: Statements, count: int) -> AbstractContextManager[Expr]:
        """A loop that the threads share; a single turn needs none."""
        return code.loop(count, PARALLEL if count > 1 else SERIAL)

    def spread(self, code: Statements, count: int) -> AbstractContextManager[Expr]:
        """A loop: memory is a thread's own."""
        return code.loop(count, SERIAL)

    @contextmanager
    def workspace(self, code: Statements, dtype: str, size: int) -> Iterator[Expr]:
        """Heap memory, of the thread that takes it."""
        name = code.name("work")
        bits = tvm.DataType(dtype).bits
        pointer = tir.Var(name, PointerType(PrimType(dtype), "global"))
        bytes_ = tir.const(size * bits // 8, "uint64")
        taken = call_intrin(
            pointer.ty, "tirx.TVMBackendAllocWorkspace", i32(1), i32(0), bytes_, i32(2), i32(bits)
        )
        code.add(st.Bind(pointer, taken))
        buffer = tir.decl_buffer((size,), dtype, name, data=pointer, layout=None)
        code.add(st.DeclBuffer(buffer, data=pointer))
        yield buffer
        code.add(st.Evaluate(TVMBackendFreeWorkspace(1, 0, pointer)))

    @contextmanager
    def table(
        self, code: Statements, dtype: str, numbers: Sequence[float]
    ) -> Iterator[Callable[[Expr], Expr]]:
        """Written to memory of the kernel's own."""
        with self.workspace(code, dtype, max(1, len(numbers))) as buffer:
            for i, number in enumerate(numbers):
                code.add(st.BufferStore(buffer, tir.const(number, dtype), [i32(i)]))
            yield lambda place: tir.BufferLoad(buffer, [place])

    def stream(self, code: Statements, buffer: Expr, index: Expr, value: Expr, lanes: int) -> None:
        """Threads end a loop with a locked instruction, which orders these stores as others."""
        code.link(STREAM.format(lanes=lanes, bytes=4 * lanes))
        place = tir.address_of(buffer[index])
        code.add(st.Evaluate(tir.call_extern("int32", f"quatrain_stream_{lanes}", place, value)))

    def link(self, texts: Iterable[str], body: st.Stmt) -> st.Stmt:
        """The texts are modules in LLVM's language."""
        for text in texts:
            body = st.AttrStmt(i32(0), "pragma_import_llvm", tvm.ir.StringImm(text), body)
        return body


LLVM = Llvm()


def function(
    parameters: Sequence[tuple[str, int]], body: Callable[[Code, list[Expr]], None]
) -> tir.PrimFunc:
    """See ``expr.function``."""
    return expr.function(LLVM, parameters, body)

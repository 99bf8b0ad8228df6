"""Kernels as a compiled module: what has to be done for those that are not in the cache."""

from __future__ import annotations

from collections.abc import Sequence

from ..plan.kernel import KernelSpec
from .codegen import built
from .entry import CALL, OFFERED, TURN, text
from .info import CpuInfo

import tvm  # isort: skip
from tvm import tirx as tir  # isort: skip
from tvm.tirx import stmt as st  # isort: skip

from ..tir.expr import i32  # isort: skip


def generate(specs: Sequence[KernelSpec], cpu: CpuInfo) -> tvm.runtime.Module:
    """One module of the kernels ``k0``, ``k1`` ... and of what ``entry`` describes."""
    functions = [spec.build() for spec in specs]
    linked = text([(f"k{i}", len(f.params)) for i, f in enumerate(functions)])
    named = {f"k{i}": exported(function, f"k{i}") for i, function in enumerate(functions)}
    named |= {name: _offered(name, count) for name, count in OFFERED.items()}
    named |= {CALL: exported(_call(linked), CALL), TURN: exported(_turn(), TURN)}
    return built(tvm.IRModule({tvm.ir.GlobalVar(name): f for name, f in named.items()}), cpu)


def exported(function: tir.PrimFunc, name: str) -> tir.PrimFunc:
    """``function`` as the entries see it: under its name, called as C calls."""
    # A function that says how it is called gets no wrapper that takes TVM's arguments.
    packed = 1
    return function.with_attr("global_symbol", name).with_attr("calling_conv", packed)


def _offered(name: str, count: int) -> tir.PrimFunc:
    """A function that Python can call, around one in LLVM's language."""
    arguments = [tir.Var(f"a{i}", "int64") for i in range(count)]
    result = st.Return(tir.call_extern("int64", f"quatrain_{name}", *arguments))
    made = tir.PrimFunc(arguments, result, ret_type=tvm.ir.PrimType("int64"))
    return made.with_attr("global_symbol", name).with_attr("s_tir", True)


def _call(linked: str) -> tir.PrimFunc:
    """Calls a kernel by number; the text that it names is linked into the whole module."""
    arguments = [tir.Var(name, "int64") for name in ("number", "pointers")]
    called = st.Evaluate(tir.call_extern("int64", "quatrain_choose", *arguments))
    body = st.SeqStmt([called, st.Return(i32(0))])
    return _plain(
        arguments, tir.AttrStmt(i32(0), "pragma_import_llvm", tvm.ir.StringImm(linked), body)
    )


def _turn() -> tir.PrimFunc:
    """A thread's part of ``loop``."""
    arguments = [tir.Var("task", "int32"), tir.Var("environment", "handle")]
    return _plain([*arguments, tir.Var("data", "handle")], st.Return(i32(0)))


def _plain(arguments: list[tir.Var], body: tir.Stmt) -> tir.PrimFunc:
    made = tir.PrimFunc(arguments, body, ret_type=tvm.ir.PrimType("int32"))
    return made.with_attr("s_tir", True)

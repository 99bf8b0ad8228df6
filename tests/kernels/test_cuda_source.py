"""CUDA C as TVM writes it goes through the emulator, with all its preambles."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

import quatrain.targets.cpu.runtime  # noqa: F401 - sets what TVM reads when it is loaded

from ..cuda.emulate import ORDERS, Emulated, guarded, has_compiler, intact

import tvm  # isort: skip
from tvm import tirx as tir  # isort: skip
from tvm.ir import PointerType, PrimType  # isort: skip
from tvm.script import tirx as T  # isort: skip
from tvm.script.ir_builder import IRBuilder  # isort: skip
from tvm.tirx import stmt as st  # isort: skip
from tvm.tirx.op import tvm_storage_sync  # isort: skip
from tvm.tirx.script import builder as B  # isort: skip

tvm.backend.load("cuda")  # where another test has loaded TVM without
pytestmark = [
    pytest.mark.tvm,
    pytest.mark.skipif(not has_compiler(), reason="the emulator needs g++"),
]
THREADS = 64


def kernel(
    parameters: Sequence[tuple[str, int]],
    body: Callable[[tir.Var, list[tir.Buffer]], list[tir.Stmt]],
) -> tir.PrimFunc:
    """A kernel of one block, with a pointer for each (dtype, elements)."""
    thread = tir.IterVar(tvm.ir.Range(0, THREADS), tir.Var("thread", "int32"), 1, "threadIdx.x")
    pointers, buffers = [], []
    for i, (dtype, size) in enumerate(parameters):
        pointers.append(tir.Var(f"p{i}", PointerType(PrimType(dtype), "global")))
        buffers.append(tir.decl_buffer((size,), dtype, f"b{i}", data=pointers[i], layout=None))
    inside = st.AttrStmt(thread, "thread_extent", THREADS, st.SeqStmt(body(thread.var, buffers)))
    declared = [st.DeclBuffer(b, data=p) for b, p in zip(buffers, pointers, strict=True)]
    function = tir.PrimFunc(pointers, st.SeqStmt([*declared, inside]))
    return function.with_attr("s_tir", True).with_attr("tirx.noalias", True)


def source(function: tir.PrimFunc) -> str:
    """Its CUDA C; a kernel that no host function calls is left out of a module."""
    device = tvm.target.Target({"kind": "cuda", "arch": "sm_90"})
    name = tvm.ir.GlobalVar("k000")
    with IRBuilder() as built, B.prim_func(s_tir=True):
        B.func_name("step")
        B.func_attr({"global_symbol": "step"})
        memory = B.match_buffer(B.arg("memory", T.handle()), (256,), "uint8")
        at = [B.address_of(memory[0])] * len(function.params)
        B.evaluate(tvm.ir.Call(name, at, ret_ty=PrimType("void")))
    functions = {
        name: function.with_attr("target", device),
        tvm.ir.GlobalVar("step"): built.get(),
    }
    host = device.with_host(tvm.target.Target("llvm"))
    made = tvm.compile(tvm.IRModule(functions), target=host, tir_pipeline="tirx").mod
    return str(made.imports[0].inspect_source("cuda"))


PARAMETERS = {
    "words": np.uint32,
    "reversed": np.uint32,
    "half": np.float16,
    "brain": np.uint16,
    "byte": np.uint8,
    "double": np.float64,
    "long": np.int64,
    "bytes": np.int8,
}
DTYPES = {"brain": "bfloat16", "byte": "float8_e5m2"}


def body(thread: tir.Var, buffers: list[tir.Buffer]) -> list[tir.Stmt]:
    """Words through shared memory and PTX; one number of each other kind, doubled."""
    words, mirrored, *numbers, quads = buffers
    shared = tir.decl_buffer((THREADS,), "uint32", "shared", scope="shared", layout=None)
    register = tir.decl_buffer((2,), "uint32", "register", scope="local", layout=None)
    address = tir.address_of
    four = tir.Ramp(thread * 4, 1, 4)
    return [
        st.AllocBuffer(shared),
        st.AllocBuffer(register),
        st.Evaluate(B.ptx["cp.async.ca.shared.global"](address(shared[thread]), address(words[thread]), 4)),
        st.Evaluate(B.ptx["cp.async.commit_group"]()),
        st.Evaluate(B.ptx["cp.async.wait_group"](0)),
        st.Evaluate(tvm_storage_sync("shared")),
        st.Evaluate(B.ptx["prmt.b32"](register[0], shared[THREADS - 1 - thread], tir.const(0, "uint32"), tir.const(0x0123, "uint32"))),
        st.Evaluate(B.ptx["lop3.b32"](register[1], register[0], register[0], register[0], 0x0F)),
        st.Evaluate(B.ptx["red.global.add.u32"](address(mirrored[thread]), register[1])),
        *(st.BufferStore(n, tir.Cast(n.dtype, tir.Cast("float32", n[thread]) * tir.const(2, "float32")), [thread]) for n in numbers[:3]),
        st.BufferStore(numbers[3], tir.sqrt(numbers[3][thread]) + tir.const(float("inf"), "float64"), [thread]),
        st.BufferStore(numbers[4], numbers[4][thread] * tir.const(3, "int64"), [thread]),
        st.BufferStore(quads, quads[four] + quads[four], [four]),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def text() -> str:
    size = {name: THREADS * 4 if name == "bytes" else THREADS for name in PARAMETERS}
    given = [
        (DTYPES.get(name, np.dtype(kind).name), size[name]) for name, kind in PARAMETERS.items()
    ]
    return source(kernel(given, body))


def test_all_preambles_are_there(text: str) -> None:
    for word in ("cuda_fp16.h", "cuda_bf16.h", "cuda_fp8.h", "dp4a", "CUDART_INF", "asm volatile"):
        assert word in text


def test_a_kernel_of_tvm(text: str) -> None:
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**32, THREADS).astype(np.uint32)
    half = rng.normal(size=THREADS).astype(np.float16)
    brain = (rng.normal(size=THREADS).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    # Normal numbers, far from the largest.
    byte = rng.integers(0x08, 0x70, THREADS).astype(np.uint8)
    quads = rng.integers(-64, 64, 4 * THREADS).astype(np.int8)
    given: list[np.ndarray] = [
        words,
        np.zeros_like(words),
        half,
        brain,
        byte,
        np.ones(THREADS),
        np.arange(THREADS),
        quads,
    ]
    want = [words, ~words[::-1].byteswap(), half * 2, brain + 0x80, byte + 4]
    want += [np.full(THREADS, np.inf), 3 * np.arange(THREADS), 2 * quads]
    kernels = Emulated(text)
    for backwards, early in ORDERS:
        held = [guarded(array) for array in given]
        places = [view.ctypes.data for view, _ in held]
        kernels.launch("k000", (1,), (THREADS,), places, backwards=backwards, early=early)
        for (view, whole), array in zip(held, want, strict=True):
            np.testing.assert_array_equal(view, array)
            assert intact(view, whole)

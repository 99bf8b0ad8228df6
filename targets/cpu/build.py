"""One kernel alone as a function of NumPy arrays: for tests, experiments and benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..plan.kernel import Kernel
from .info import CpuInfo

# Sets TVM's environment before TVM is loaded, so it comes first.
from .module import tvm_target  # isort: skip

import tvm
from tvm import tirx as tir
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as B

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, eq=False, slots=True)
class Compiled:
    """A compiled kernel; calling it takes one array per slot and writes the outputs in place.

    ``run`` takes ``tensors(arrays)`` and copies nothing, for timing.
    """

    run: Callable[..., object]
    module: tvm.runtime.Module
    outputs: int

    @property
    def assembly(self) -> str:
        """The code in the assembler's words."""
        return str(self.module.inspect_source("asm"))

    def __call__(self, *arrays: Array) -> None:
        held = self.tensors(*arrays)
        self.run(*held)
        for array, tensor in list(zip(arrays, held, strict=True))[-self.outputs :]:
            array[...] = tensor.numpy().reshape(array.shape)

    def tensors(self, *arrays: Array) -> list[tvm.runtime.Tensor]:
        """Aligned copies, flat."""
        return [tvm.runtime.tensor(np.ascontiguousarray(a).reshape(-1)) for a in arrays]


def compile_kernel(kernel: Kernel, cpu: CpuInfo) -> Compiled:
    """Compile ``kernel`` for ``cpu``; its slots' arrays come in order, outputs last."""
    function = kernel.spec.build()
    name = tvm.ir.GlobalVar("kernel")
    module = tvm.IRModule({name: function, tvm.ir.GlobalVar("main"): _main(function, name)})
    built = tvm.compile(module, target=tvm_target(cpu))
    return Compiled(built["main"], built.mod, len(kernel.outputs))


def _main(function: tir.PrimFunc, name: tvm.ir.GlobalVar) -> tir.PrimFunc:
    with IRBuilder() as builder, B.prim_func(s_tir=True):
        B.func_name("main")
        B.func_attr({"global_symbol": "main", "tirx.noalias": True})
        pointers = []
        for i, parameter in enumerate(function.params):
            dtype = str(parameter.ty.element_type)
            size = tir.Var(f"n{i}", "int32")
            handle = B.arg(f"a{i}", B.handle())
            pointers.append(B.match_buffer(handle, (size,), dtype).data)
        B.evaluate(name(*pointers))
    return builder.get()

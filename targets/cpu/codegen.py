"""From kernels in TIR to LLVM: the passes of TVM that our kernels need, then its code generator.

TVM's own list is twice as long: the rest is for blocks, GPUs and formats that our kernels do not
have, and leaves them as they are. One of those passes, CompactBufferAllocation, takes more time
than all others together. A test compares what both lists make.
"""

from __future__ import annotations

# Sets TVM's environment before TVM is loaded, so it comes first.
from ..tir.runtime import function  # isort: skip

import tvm
from tvm import s_tir
from tvm import tirx as tir

from .info import CpuInfo


def tvm_target(cpu: CpuInfo) -> tvm.target.Target:
    """TVM's words for a CPU."""
    # For Intel's CPUs LLVM may take vpdpwssd apart into a product and an addition.
    wanted = [*cpu.extra, *(["fast-dpwssd"] if cpu.vnni else [])]
    extra = {"mattr": [f"+{feature}" for feature in wanted]} if wanted else {}
    return tvm.target.Target({"kind": "llvm", "mcpu": cpu.mcpu, **extra})


def lower(module: tvm.IRModule, cpu: CpuInfo) -> tvm.IRModule:
    """``module`` as LLVM's code generator wants it."""
    target = tvm_target(cpu)
    bound = tir.transform.BindTarget(target.with_host(target))(module)
    return tvm.transform.Sequential(passes())(bound)


def passes() -> list[tvm.transform.Pass]:
    """The passes in order."""
    return [
        s_tir.transform.CanonicalizeLoop(),
        s_tir.transform.LowerMatchBuffer(),
        s_tir.transform.StmtSimplify(),
        s_tir.transform.LowerOpaqueBlock(),
        tir.transform.FlattenBuffer(),
        tir.transform.BF16ComputeLegalize(),
        tir.transform.NarrowDataType(32),
        s_tir.transform.LoopPartition(),
        tir.transform.VectorizeLoop(),
        tir.transform.StorageRewrite(),
        s_tir.transform.HoistIfThenElse(),
        tir.transform.UnrollLoop(),
        s_tir.transform.RenormalizeSplitPattern(),
        tir.transform.StmtSimplify(),
        tir.transform.RemoveNoOp(),
        s_tir.transform.RewriteUnsafeSelect(),
        tir.transform.CommonSubexprElim(),
        tir.transform.FP8ComputeLegalize(),
        tir.transform.VerifyMemory(),
        tir.transform.SplitHostDevice(),
        tir.transform.MakePackedAPI(),
        tir.transform.FP8StorageLegalize(),
        tir.transform.BF16StorageLegalize(),
        tir.transform.LowerTVMBuiltin(),
        tir.transform.LowerIntrin(),
    ]


def built(module: tvm.IRModule, cpu: CpuInfo) -> tvm.runtime.Module:
    """``module`` through all passes and LLVM's optimizer; machine code is made when asked for."""
    return function("target.build.llvm")(lower(module, cpu), tvm_target(cpu))

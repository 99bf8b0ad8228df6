"""GEMM kernels of the CPU target: convolution and linear, forward, dX and dW, with a bias if asked.

    gemm_kernel(ops, orders, cpu) -> Kernel      ops = (gemm,) or (gemm, add_bias)

A kernel's result is f32(sum of products of integers or floats) * f32(factor of one * factor of the
other), rounded to the GEMM's format; then the bias is added in f32 and rounded to its format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

from ...compiler.errors import TargetError
from ...compiler.ir import Op, Value
from ...compiler.ir.accumulation import accumulation
from ..gemm.check import check_gemm
from ..gemm.matrices import in_batch, in_groups
from ..gemm.product import Product, product_of
from ..plan.kernel import Kernel, Slot, slots_of
from ..plan.layout import Order
from .gemm.spec import GemmRequest, GemmSpec, Way
from .info import CpuInfo
from .ways import WAYS


def choose(gemm: GemmRequest, among: Sequence[Way] = WAYS) -> GemmSpec:
    """The spec of the fastest way that takes ``gemm``.

    Raises TargetError where none does, or where two of the same peak do.
    """
    found = [(way, dot) for way in among if (dot := way.takes(gemm))]
    peak = max((way.peak for way, _ in found), default=0)
    best = [(way, dot) for way, dot in found if way.peak == peak]
    if len(best) != 1:
        names = " and ".join(way.name for way, _ in best) or "no kernel"
        raise TargetError(f"cpu: {gemm.name} is taken by {names}; one way must be the fastest")
    ((way, dot),) = best
    return GemmSpec(
        **{f.name: getattr(gemm, f.name) for f in fields(GemmRequest)}, way=way, dot=dot
    )


def gemm_kernel(ops: tuple[Op, ...], orders: Mapping[Value, Order], cpu: CpuInfo) -> Kernel:
    """The kernel of a GEMM, or of a GEMM and the ``add_bias`` that reads it.

    Raises NoKernelError, see ``check_gemm``.
    """
    check_gemm("cpu", ops[0])
    product, operands = product_of(ops, orders)
    spec = choose(_for_cpu(product, cpu))
    return Kernel(spec, ops, slots_of(operands), (Slot(ops[-1].result),), spec.dot.unit)


def matrices_kernel(op: Op, cpu: CpuInfo) -> Kernel:
    """The kernel of a product of matrices, see ``targets.gemm.matrices``.

    Raises NoKernelError, see ``check_gemm``.
    """
    check_gemm("cpu", op)
    product, operands = in_batch(op) if accumulation(op) is None else in_groups(op)
    spec = choose(_for_cpu(product, cpu))
    return Kernel(spec, (op,), slots_of(operands), (Slot(op.result),), spec.dot.unit)


def _for_cpu(product: Product, cpu: CpuInfo) -> GemmRequest:
    return GemmRequest(**{f.name: getattr(product, f.name) for f in fields(Product)}, cpu=cpu)

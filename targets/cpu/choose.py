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
from ...compiler.types import TensorType
from ..plan.kernel import Kernel, Slot, slots_of
from ..plan.layout import Layout, Order
from .gemm.spec import GemmRequest, GemmSpec, Steps, Way
from .info import CpuInfo
from .lowering import check_gemm
from .ways import WAYS

# A transposed convolution walks through its weights as dX of a convolution does.
TRANSPOSED = {
    "conv2d_transpose": "conv2d_input_grad",
    "conv2d_transpose_input_grad": "conv2d",
    "conv2d_transpose_weight_grad": "conv2d_weight_grad",
}
EXCHANGED = frozenset({"conv2d_transpose_weight_grad"})


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
    gemm, out = ops[0], ops[-1].result
    check_gemm(gemm)
    factors = gemm.inputs[::-1] if gemm.kind in EXCHANGED else gemm.inputs
    operands = (*factors, *(v for op in ops[1:] for v in op.inputs[1:]))
    a, b, *bias = (Layout(v.type, orders[v]) for v in operands)
    conv = gemm.kind.startswith("conv2d")
    spec = choose(
        GemmRequest(
            kind=TRANSPOSED.get(gemm.kind, gemm.kind),
            a=a,
            b=b,
            made=gemm.result.type.format,
            bias=bias[0] if bias else None,
            out=Layout(out.type, orders[out]),
            stride=_steps(gemm, "stride") if conv else (1, 1),
            padding=_steps(gemm, "padding") if conv else (0, 0),
            dilation=_steps(gemm, "dilation") if conv else (1, 1),
            groups=gemm.int_attr("groups") if conv else 1,
            cpu=cpu,
            accumulation=accumulation(gemm),
        )
    )
    return Kernel(spec, ops, slots_of(operands), (Slot(out),), spec.dot.unit)


def matmul_kernel(op: Op, cpu: CpuInfo) -> Kernel:
    """The kernel of a ``matmul``: the matrices of a batch are groups of a 1x1 convolution.

    All values lie row-major (``layout.MATRICES``), so that they are its operands as they are:
    BxMxK weights of B*M channels out, an image of B*K channels and N pixels.
    """
    a, b = op.inputs
    (batch, m, k), n = a.type.shape, b.type.shape[2]
    shapes = ((1, batch * k, 1, n), (batch * m, k, 1, 1), (1, batch * m, 1, n))
    x, w, y = (
        Layout(TensorType(shape, v.type.format), Order.ROWS)
        for shape, v in zip(shapes, (b, a, op.result), strict=True)
    )
    one, made = (1, 1), op.result.type.format
    spec = choose(GemmRequest("conv2d", x, w, made, None, y, one, (0, 0), one, batch, cpu, None))
    return Kernel(spec, (op,), slots_of((b, a)), (Slot(op.result),), spec.dot.unit)


def _steps(gemm: Op, name: str) -> Steps:
    first, second = gemm.ints_attr(name)
    return first, second

"""GEMM kernels: convolution, linear and products of matrices, forward, dX and dW, with a bias.

A kernel's result is f32(sum of products of integers or floats) * f32(factor of one * factor of the
other), rounded to the GEMM's format; then the bias is added in f32 and rounded to its format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import numpy as np

from ....compiler.ir import Op, Value
from ...gemm.check import check_gemm
from ...gemm.matrices import in_groups
from ...gemm.product import Product, product_of
from ...plan.kernel import Kernel, Slot, slots_of
from ...plan.layout import Order
from .spec import DeviceGemm
from .ways import WAYS


def gemm_kernel(ops: tuple[Op, ...], orders: Mapping[Value, Order], arch: str) -> Kernel:
    """The kernel of a GEMM, or of a GEMM and the ``add_bias`` that reads it.

    Raises NoKernelError, see ``check_gemm``.
    """
    check_gemm("cuda", ops[0])
    product, operands = product_of(ops, orders)
    return _kernel(product, ops, operands, arch)


def matrices_kernel(op: Op, arch: str) -> Kernel:
    """The kernel of a product of matrices, see ``in_groups``.

    Raises NoKernelError, see ``check_gemm``.
    """
    check_gemm("cuda", op)
    product, operands = in_groups(op)
    return _kernel(product, (op,), operands, arch)


def choose(product: Product, arch: str) -> DeviceGemm:
    """The spec of the fastest way; every product is taken by one."""
    way = max((way for way in WAYS if way.takes(product, arch)), key=lambda way: way.peak)
    given = {f.name: getattr(product, f.name) for f in fields(Product)}
    return DeviceGemm(**given, arch=arch, way=way)


def _kernel(
    product: Product, ops: tuple[Op, ...], operands: tuple[Value, ...], arch: str
) -> Kernel:
    spec = choose(product, arch)
    scratch = tuple(size * np.dtype(dtype).itemsize for dtype, size in spec.scratch)
    result = (Slot(ops[-1].result),)
    return Kernel(spec, ops, slots_of(operands), result, spec.way.unit, scratch)

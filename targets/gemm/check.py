"""Which GEMMs no target has kernels for."""

from __future__ import annotations

from ...compiler.errors import NoKernelError
from ...compiler.ir import Op
from ...compiler.ir.ops import BETWEEN_ACTIVATIONS, WEIGHT_GRADS
from ...compiler.types import Scale


def check_gemm(target: str, gemm: Op) -> None:
    """Raise NoKernelError for a GEMM that has no kernel of its formats."""
    shown = " by ".join(v.type.short for v in gemm.inputs)
    what = f"{target}: layer {gemm.origin or '-'}: {gemm.kind} of {shown}"
    scales = [v.type.scale for v in gemm.inputs]
    no_weight = gemm.kind in WEIGHT_GRADS | BETWEEN_ACTIVATIONS
    if scales[0] is Scale.CHANNEL or (no_weight and scales[1] is Scale.CHANNEL):
        raise NoKernelError(
            f"{what}: a scale per channel is only supported on weights; give this operand one"
            " scale per tensor"
        )
    if not all(scale.is_factor for scale in scales):
        raise NoKernelError(f"{what}: take the program through decode_operands first")

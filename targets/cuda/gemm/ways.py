"""The ways to make a GEMM on a GPU: which formats and shapes each takes, and what builds it.

Builders are loaded when a kernel is built: plans are made without TVM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...gemm.product import Product
from ...plan.kernel import Unit
from .spec import DeviceGemm, DeviceWay

if TYPE_CHECKING:
    from ..code import Launch


def _integer(product: Product, arch: str) -> bool:
    return product.in_integers


def _float(product: Product, arch: str) -> bool:
    return not _integer(product, arch)


def _nothing(spec: DeviceGemm) -> tuple[tuple[str, int], ...]:
    return ()


def _build_plain(spec: DeviceGemm) -> list[Launch]:
    from .plain import build_plain

    return build_plain(spec)


WAYS = (
    DeviceWay("products one by one, int32", Unit.INT32, 64, _integer, _nothing, _build_plain),
    DeviceWay("products one by one, f32", Unit.F32, 64, _float, _nothing, _build_plain),
)

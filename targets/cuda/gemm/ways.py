"""The ways to make a GEMM on a GPU: which formats and shapes each takes, and what builds it.

Builders are loaded when a kernel is built: plans are made without TVM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...gemm.product import Product
from ...gemm.shapes import shape4
from ...plan.kernel import Unit
from .frame import TileFrame
from .planes import codes_are_nibbles, fits_nibble, planes_of
from .spec import DeviceGemm, DeviceWay

if TYPE_CHECKING:
    from ..code import Launch

# Tiles of fewer channels or shorter sums would be mostly empty.
LEAST_CHANNELS, LEAST_PRODUCTS = 8, 16
OLDEST = 80  # sm_80 has asynchronous copies and products of bf16
FOUR_BITS = range(80, 90)  # Hopper's tensor cores and later ones have none: bits are picked apart


def _integer(product: Product, arch: str) -> bool:
    return product.in_integers


def _float(product: Product, arch: str) -> bool:
    return not _integer(product, arch)


def _nothing(spec: DeviceGemm) -> tuple[tuple[str, int], ...]:
    return ()


def _build_plain(spec: DeviceGemm) -> list[Launch]:
    from .plain import build_plain

    return build_plain(spec)


def _filled(product: Product, arch: str) -> bool:
    """Whether there is enough to multiply for tiles, and a GPU with what they are made by."""
    if product.accumulation is not None or product.depthwise or _number(arch) < OLDEST:
        return False
    channels = shape4(product.a if product.weight_grad else product.out)[1] // product.groups
    if not product.weight_grad:
        return channels >= LEAST_CHANNELS and product.length >= LEAST_PRODUCTS
    _, summed, r, s = shape4(product.out)
    return channels >= LEAST_CHANNELS and summed * r * s >= LEAST_CHANNELS


def _number(arch: str) -> int:
    return int("".join(c for c in arch if c.isdigit()))


def _nibbles(product: Product, arch: str) -> bool:
    """Whether both operands are numbers of 4 bits, the first as its codes lie."""
    if product.weight_grad or not product.in_integers or not _filled(product, arch):
        return False
    a, b = product.a.type.format, product.b.type.format
    if _number(arch) not in FOUR_BITS or not (codes_are_nibbles(a) and fits_nibble(b)):
        return False
    made, bytes_ = (TileFrame(product, unit) for unit in (Unit.INT4_MMA, Unit.INT8_MMA))
    return made.exact and made.first.padded < bytes_.first.padded


def _in_bytes(product: Product, arch: str, planes: int) -> bool:
    if not product.in_integers or not _filled(product, arch):
        return False
    formats = product.a.type.format, product.b.type.format
    first, second = (len(planes_of(f, Unit.INT8_MMA)) for f in formats)
    return first * second == planes and TileFrame(product, Unit.INT8_MMA).exact


def _bytes(product: Product, arch: str) -> bool:
    return _in_bytes(product, arch, 1)


def _two_planes(product: Product, arch: str) -> bool:
    return _in_bytes(product, arch, 2)


def _four_planes(product: Product, arch: str) -> bool:
    return _in_bytes(product, arch, 4)


def _bf16(product: Product, arch: str) -> bool:
    return product.pair(1).as_bf16 and _filled(product, arch)


def _f32(product: Product, arch: str) -> bool:
    return _float(product, arch) and _filled(product, arch)


def _scratch(spec: DeviceGemm) -> tuple[tuple[str, int], ...]:
    return TileFrame(spec, spec.way.unit).scratch


def _launches(spec: DeviceGemm) -> int:
    return TileFrame(spec, spec.way.unit).launches


def _one(spec: DeviceGemm) -> int:
    return 1


def _build_tiles(spec: DeviceGemm) -> list[Launch]:
    from .tiles import build_tiles

    return build_tiles(spec)


WAYS = (
    DeviceWay("int4 mma", Unit.INT4_MMA, 2048, _nibbles, _scratch, _launches, _build_tiles),
    DeviceWay("int8 mma", Unit.INT8_MMA, 1024, _bytes, _scratch, _launches, _build_tiles),
    DeviceWay(
        "int8 mma, two planes", Unit.INT8_MMA, 512, _two_planes, _scratch, _launches, _build_tiles
    ),
    DeviceWay(
        "int8 mma, four planes", Unit.INT8_MMA, 256, _four_planes, _scratch, _launches, _build_tiles
    ),
    DeviceWay("bf16 mma", Unit.BF16_MMA, 512, _bf16, _scratch, _launches, _build_tiles),
    DeviceWay("f32 tiles", Unit.F32, 64, _f32, _scratch, _launches, _build_tiles),
    DeviceWay("products one by one, int32", Unit.INT32, 8, _integer, _nothing, _one, _build_plain),
    DeviceWay("products one by one, f32", Unit.F32, 8, _float, _nothing, _one, _build_plain),
)


def frame_of_tiles(spec: DeviceGemm) -> TileFrame | None:
    """The sizes of a GEMM that is made on tiles."""
    return TileFrame(spec, spec.way.unit) if spec.way.build is _build_tiles else None

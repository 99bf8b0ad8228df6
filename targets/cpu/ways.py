"""The ways to make a GEMM: which loops, with which units, take which, and what builds them.

Builders are loaded when a kernel is built: plans are made, and cached kernels run, without TVM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..gemm.shapes import shape4
from .gemm.pixels import pixels
from .gemm.spec import GemmRequest, GemmSpec, Way, ways
from .gemm.units import (
    EVERY_DOT,
    FLOAT,
    IN_F32,
    IN_INT32,
    IN_INT64,
    ON_BF16_DOT,
    ON_BF16_TILE,
    ON_INT8_TILE,
    ON_INT16_DOT,
    ON_INT16_SPLIT,
    Dot,
    most_in_planes,
)

if TYPE_CHECKING:
    from tvm.tirx import PrimFunc

# A row of an integer tile holds so many images; below the fewest it would be mostly empty.
TILE_IMAGES, FEWEST_IMAGES = 64, 8


def _exact(gemm: GemmRequest) -> bool:
    """Whether products are added as its unit adds."""
    return gemm.accumulation is None


def _tiled_taps(gemm: GemmRequest) -> int | None:
    whole = _exact(gemm) and gemm.groups * gemm.batch == 1 and not gemm.weight_grad
    return gemm.length if whole else None


def _tiled_images(gemm: GemmRequest) -> int | None:
    if not _exact(gemm) or gemm.groups * gemm.batch > 1 or not gemm.weight_grad:
        return None
    n, _, h, w = shape4(gemm.a)
    images, columns = (n * h * w, 1) if gemm.pointwise else (n, w)
    both = gemm.pair(1).integers
    # Sums are cut where int32 ends, see ``amx/chunks``, but not within a row of pixels.
    if both and min(images, TILE_IMAGES) * columns > most_in_planes(*both):
        return None
    return 1 if images >= FEWEST_IMAGES else None


def _taps(gemm: GemmRequest) -> int | None:
    taps = _exact(gemm) and not gemm.weight_grad and not gemm.depthwise
    return gemm.length if taps else None


def _depthwise(gemm: GemmRequest) -> int | None:
    taps = _exact(gemm) and not gemm.weight_grad and gemm.depthwise
    return gemm.length if taps else None


def _pixels(gemm: GemmRequest) -> int | None:
    if not _exact(gemm) or not gemm.weight_grad:
        return None
    # Sums of rows of pixels are added in int64.
    return pixels(gemm.a, gemm.pointwise).columns


def _chunked(gemm: GemmRequest) -> Dot | None:
    return None if _exact(gemm) else FLOAT


def _build_tiled_taps(spec: GemmSpec) -> PrimFunc:
    from .amx.taps import build_amx_taps

    return build_amx_taps(spec)


def _build_tiled_images(spec: GemmSpec) -> PrimFunc:
    from .amx.weight_grad import build_amx_weight_grad

    return build_amx_weight_grad(spec)


def _build_taps(spec: GemmSpec) -> PrimFunc:
    from .gemm.taps import build_taps

    return build_taps(spec)


def _build_depthwise_pairs(spec: GemmSpec) -> PrimFunc:
    from .gemm.depthwise import build_depthwise_pairs

    return build_depthwise_pairs(spec)


def _build_pixels(spec: GemmSpec) -> PrimFunc:
    from .gemm.weight_grad import build_weight_grad

    return build_weight_grad(spec)


def _build_chunked(spec: GemmSpec) -> PrimFunc:
    from .chunked.gemm import build_chunked

    return build_chunked(spec)


PAIRS = (ON_INT16_DOT, ON_INT16_SPLIT)
TILES = (ON_INT8_TILE, ON_BF16_TILE)
WAYS = (
    *ways("tiles over taps", _tiled_taps, TILES, _build_tiled_taps),
    *ways("tiles over images", _tiled_images, TILES, _build_tiled_images),
    *ways("taps", _taps, EVERY_DOT, _build_taps),
    # Sums of depthwise GEMMs have a product a tap: no dot of four products is filled by them.
    *ways("pairs of depthwise taps", _depthwise, PAIRS, _build_depthwise_pairs),
    *ways("depthwise taps", _depthwise, (IN_INT32, IN_INT64, IN_F32), _build_taps),
    *ways("pixels", _pixels, (*PAIRS, ON_BF16_DOT, IN_INT32, IN_INT64, IN_F32), _build_pixels),
    Way("chunks of products, f32", IN_F32.peak, _chunked, _build_chunked),
)

"""Resizing: every coordinate transformation of ONNX, as rows at places that are known.

Where torch's ``interpolate`` means the same it is what runs; else nearest and linear are made of
rows by index, an axis at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..definitions import Known, NodeResults, onnx_op, tensor_of
from ..graph import OnnxNode

# Where a pixel of the result lies in the operand: of its number, the scale, and both lengths, of
# which that of the result is the scaled one and need not be whole.
Transform = Callable[[np.ndarray, float, int, float], np.ndarray]
TRANSFORMS: dict[str, Transform] = {
    "half_pixel": lambda i, s, n, m: (i + 0.5) / s - 0.5,
    "half_pixel_symmetric": lambda i, s, n, m: n / 2 * (1 - len(i) / m) + (i + 0.5) / s - 0.5,
    "pytorch_half_pixel": lambda i, s, n, m: (i + 0.5) / s - 0.5 if len(i) > 1 else 0.0 * i,
    "align_corners": lambda i, s, n, m: i * (n - 1) / (m - 1) if len(i) > 1 else 0.0 * i,
    "asymmetric": lambda i, s, n, m: i / s,
}
ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}
LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


@onnx_op("Resize")
def resize(
    node: OnnxNode,
    x: Tensor,
    roi: Known | None = None,
    scales: Known | None = None,
    sizes: Known | None = None,
) -> NodeResults:
    """To sizes or by scales."""
    if node.version < 11:  # the second operand was the scales
        roi, scales = None, roi
        return _resized(node, x, _by_scale(node, x, scales), "asymmetric", "floor")
    axes = tuple(a % x.dim() for a in node.ints("axes") or range(x.dim()))
    if sizes is not None and sizes.size:
        wanted = _by_size(node, x, axes, [int(v) for v in sizes])
    else:
        wanted = _by_scale(node, x, scales, axes)
    if node.whole("antialias", 0) and any(scale < 1 for _, scale in wanted):
        node.refuse("makes images smaller with antialias; export it without")
    transform = node.word("coordinate_transformation_mode", "half_pixel")
    return _resized(node, x, wanted, transform, node.word("nearest_mode", "round_prefer_floor"))


@onnx_op("Upsample")
def upsample(node: OnnxNode, x: Tensor, scales: Known | None = None) -> NodeResults:
    """Resize as it was called up to opset 9."""
    given = node.attributes.get("scales", ()) if scales is None else scales
    wanted = _by_scale(node, x, np.asarray(given, np.float32))
    return _resized(node, x, wanted, "asymmetric", "floor")


Wanted = Sequence[tuple[int, float]]


def _by_scale(
    node: OnnxNode, x: Tensor, scales: np.ndarray | None, axes: Sequence[int] | None = None
) -> Wanted:
    """Size and scale of each dimension of the result, of those that ``axes`` name."""
    dims = tuple(range(x.dim())) if axes is None else axes
    if scales is None or len(scales) != len(dims):
        node.refuse(f"has no scale for each of its {len(dims)} dimensions")
    by = dict(zip(dims, map(float, scales), strict=True))
    return [(int(np.floor(n * by.get(d, 1.0))), by.get(d, 1.0)) for d, n in enumerate(x.shape)]


def _by_size(node: OnnxNode, x: Tensor, axes: Sequence[int], sizes: Sequence[int]) -> Wanted:
    """The same from sizes, which may be bounds that keep the image's proportions."""
    by = {a: s / x.shape[a] for a, s in zip(axes, sizes, strict=True)}
    policy = node.word("keep_aspect_ratio_policy", "stretch")
    to = dict(zip(axes, sizes, strict=True))
    if policy != "stretch":
        scale = min(by.values()) if policy == "not_larger" else max(by.values())
        by = dict.fromkeys(by, scale)
        to = {a: int(np.floor(x.shape[a] * scale + 0.5)) for a in by}
    return [(to.get(d, n), by.get(d, 1.0)) for d, n in enumerate(x.shape)]


def _resized(node: OnnxNode, x: Tensor, wanted: Wanted, transform: str, rounding: str) -> Tensor:
    mode = node.word("mode", "nearest")
    if transform not in TRANSFORMS:
        node.refuse(f"resizes by {transform!r}; known: {', '.join(TRANSFORMS)}")
    if mode == "nearest" and rounding not in ROUNDINGS:
        node.refuse(f"rounds places by {rounding!r}; known: {', '.join(ROUNDINGS)}")
    changed = [d for d, (size, scale) in enumerate(wanted) if size != x.shape[d] or scale != 1.0]
    if not changed:
        return x
    if (made := _as_torch(node, x, wanted, transform, rounding)) is not None:
        return made
    for dim in changed:
        (size, scale), length = wanted[dim], x.shape[dim]
        at = TRANSFORMS[transform](np.arange(size, dtype=np.float64), scale, length, scale * length)
        if mode == "nearest":
            x = _rows(x, dim, ROUNDINGS[rounding](at))
        else:
            x = _between(x, dim, *_taps(node, mode, at, length))
    return x


def _as_torch(
    node: OnnxNode, x: Tensor, wanted: Wanted, transform: str, rounding: str
) -> Tensor | None:
    """By torch's own function where that is exactly what the node asks for."""
    mode = node.word("mode", "nearest")
    whole = all(size == scale * n for (size, scale), n in zip(wanted, x.shape, strict=True))
    images = x.dim() in LINEAR and all(wanted[d] == (x.shape[d], 1.0) for d in (0, 1))
    to = [size for size, _ in wanted[2:]]
    if not images or not whole:
        return None
    if mode == "nearest" and (transform, rounding) == ("asymmetric", "floor"):
        return F.interpolate(x, to, mode="nearest")
    if mode == "nearest" or transform not in ("half_pixel", "align_corners", "pytorch_half_pixel"):
        return None
    if transform == "pytorch_half_pixel" and 1 in to:
        return None
    corners = transform == "align_corners"
    if mode == "linear":
        return F.interpolate(x, to, mode=LINEAR[x.dim()], align_corners=corners)
    plain = node.number("cubic_coeff_a", -0.75) == -0.75 and not node.whole("exclude_outside", 0)
    if x.dim() != 4 or not plain:
        return None
    return F.interpolate(x, to, mode="bicubic", align_corners=corners)


def _rows(x: Tensor, dim: int, places: np.ndarray) -> Tensor:
    """Rows at places; the first or last one beyond them."""
    rows = np.clip(places, 0, x.shape[dim] - 1).astype(np.int64)
    return x.index_select(dim, tensor_of(rows, x.device))


def _taps(node: OnnxNode, mode: str, at: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel the places that it is mixed from, two or four, and their shares."""
    first, t = np.floor(at), at - np.floor(at)
    if mode == "linear":
        return np.stack([first, first + 1]), np.stack([1 - t, t])
    if mode != "cubic":
        node.refuse(f"resizes in mode {mode!r}; known: nearest, linear, cubic")
    a = node.number("cubic_coeff_a", -0.75)

    def near(d: np.ndarray) -> np.ndarray:
        return np.asarray(((a + 2) * d - (a + 3)) * d * d + 1)

    def far(d: np.ndarray) -> np.ndarray:
        return np.asarray(((a * d - 5 * a) * d + 8 * a) * d - 4 * a)

    places = np.stack([first - 1, first, first + 1, first + 2])
    shares = np.stack([far(1 + t), near(t), near(1 - t), far(2 - t)])
    if node.whole("exclude_outside", 0):
        shares = np.where((places >= 0) & (places < length), shares, 0.0)
        shares = shares / shares.sum(0)
    return places, shares


def _between(x: Tensor, dim: int, places: np.ndarray, shares: np.ndarray) -> Tensor:
    """Rows mixed from others, by the share that each has."""
    behind = [-1] + [1] * (x.dim() - 1 - dim)
    made = torch.zeros((), device=x.device)
    for place, share in zip(places, shares.astype(np.float32), strict=True):
        made = made + _rows(x, dim, place) * tensor_of(share, x.device).reshape(behind)
    return made

"""Reference of GEMMs with an accumulator: product after product, for all results at once.

``compiler/ir/accumulation.py`` says what is added in which order, and how sums are rounded. Here
they are float64, in which the sum of two numbers of an accumulator differs from the exact one, if
at all, far beyond what decides a rounding.
"""

from __future__ import annotations

import numpy as np

from ...compiler.formats import HalfFloat
from ...compiler.ir import Op
from ...compiler.ir.accumulation import Accumulation
from ...compiler.ir.ops import BETWEEN_ACTIVATIONS
from ...compiler.types import Shape
from ..numbers.tensor import Array
from .window import Window, grouped, ungrouped

TwoArrays = tuple[Array, Array]


def rounded(x: Array, to: HalfFloat) -> Array:
    """Float64 to the nearest numbers of a 16-bit float, ties to even; infinite beyond the top."""
    f = to.format
    lowest = 1 - f.bias if f.subnormals else -f.bias
    _, exponent = np.frexp(x)
    step = np.ldexp(1.0, np.maximum(exponent - 1, lowest) - f.man)
    y = np.rint(x / step) * step
    if not f.subnormals:
        tiny = np.where(np.abs(x) > to.least / 2, np.copysign(to.least, x), 0.0)
        y = np.where(np.abs(x) < to.least, tiny, y)
    return np.asarray(np.where(np.abs(y) > to.top, np.copysign(np.inf, y), y))


class ChunkedSum:
    """Sums that grow by one product each at a time; ``part`` are those of the chunk at hand."""

    def __init__(self, shape: Shape, how: Accumulation) -> None:
        self.how, self.count = how, 0
        self.total, self.part = np.zeros(shape), np.zeros(shape)

    def add(self, products: Array, seen: Array | None = None) -> None:
        """Add to the sums of ``seen``, a view of ``part``, or to all; the others get a zero."""
        part = self.part if seen is None else seen
        part[...] = rounded(part + products, self.how.numbers)
        self.count += 1
        if self.how.chunk and self.count % self.how.chunk == 0:
            self._close()

    def done(self) -> Array:
        """The sums with the last chunk."""
        self._close()
        return self.total

    def _close(self) -> None:
        self.total = rounded(self.total + self.part, self.how.numbers)
        self.part[...] = 0


def chunked(op: Op, walk: str, operands: TwoArrays, how: Accumulation) -> Array:
    """The sums of a GEMM that goes through its weights as ``walk``: forward, dX or dW."""
    if op.kind in BETWEEN_ACTIVATIONS:
        return _between(op, walk, operands, how)
    a, b = (_image(x.astype(np.float64)) for x in operands)
    if op.kind == "conv2d_transpose_weight_grad":
        a, b = b, a
    shape = op.result.type.shape
    result = (*shape, 1, 1)[:4]
    groups = op.int_attr("groups") if "groups" in op.attrs else 1
    match walk:
        case "forward":
            y = _forward(_window(op, a.shape, result, b.shape), groups, (a, b), how)
        case "dX":
            y = _input_grad(_window(op, result, a.shape, b.shape), groups, (a, b), how)
        case _:
            y = _weight_grad(_window(op, b.shape, a.shape, result), groups, (a, b), how)
    return y.reshape(shape)


def _between(op: Op, walk: str, operands: TwoArrays, how: Accumulation) -> Array:
    """Of products of matrices, as the 1x1 convolution in groups that targets make of them."""
    first, second = (x.astype(np.float64) for x in operands)
    shape = op.result.type.shape
    plane = (1, shape[2] if walk == "forward" else first.shape[2])
    window = Window(plane, plane, (1, 1), (1, 1), (0, 0))

    def image(x: Array) -> Array:
        return x.reshape(1, -1, 1, x.shape[2])

    def weights(x: Array) -> Array:
        return x.reshape(-1, x.shape[2], 1, 1)

    match walk:
        case "forward":
            y = _forward(window, shape[0], (image(second), weights(first)), how)
        case "dX":
            y = _weight_grad(window, shape[0], (image(first), image(second)), how)
        case _:
            y = _input_grad(window, shape[0], (image(first), weights(second)), how)
    return y.reshape(shape)


def _image(x: Array) -> Array:
    """A matrix as images of one pixel."""
    return x[:, :, None, None] if x.ndim == 2 else x


def _window(op: Op, plane: Shape, places: Shape, kernel: Shape) -> Window:
    if "stride" in op.attrs:
        return Window.of(op, plane, places, kernel)
    one = (1, 1)
    return Window(one, one, one, one, (0, 0))


def _taps(w: Array, groups: int) -> Array:
    """The weight (G K) x C x R x S as tap x G x K x C."""
    k, c, r, s = w.shape
    return np.moveaxis(w.reshape(groups, k // groups, c, r * s), 3, 0)


def _forward(window: Window, groups: int, operands: TwoArrays, how: Accumulation) -> Array:
    x, w = operands
    whole = window.border(grouped(x, groups))
    sums = ChunkedSum((groups, w.shape[0] // groups, x.shape[0], *window.places), how)
    for matrix, seen in zip(_taps(w, groups), window.taps(whole), strict=True):
        for c in range(w.shape[1]):
            sums.add(_spread(matrix[:, :, c]) * seen[:, None, c])
    return ungrouped(sums.done())


def _input_grad(window: Window, groups: int, operands: TwoArrays, how: Accumulation) -> Array:
    g, w = operands
    gradient = grouped(g, groups)
    sums = ChunkedSum((groups, w.shape[1], g.shape[0], *window.extent), how)
    for matrix, seen in zip(_taps(w, groups), window.taps(sums.part), strict=True):
        for k in range(gradient.shape[1]):
            sums.add(_spread(matrix[:, k]) * gradient[:, None, k], seen)
    return ungrouped(window.inside(sums.done()))


def _weight_grad(window: Window, groups: int, operands: TwoArrays, how: Accumulation) -> Array:
    g, x = operands
    whole = window.border(grouped(x, groups))
    seen = np.stack(list(window.taps(whole)), axis=2)
    numbers = seen.reshape(*seen.shape[:3], -1)
    gradient = grouped(g, groups).reshape(groups, g.shape[1] // groups, -1)
    sums = ChunkedSum((*gradient.shape[:2], *numbers.shape[1:3]), how)
    for place in range(gradient.shape[2]):
        sums.add(gradient[:, :, None, None, place] * numbers[:, None, :, :, place])
    return sums.done()


def _spread(weights: Array) -> Array:
    """One weight for all images and places."""
    return weights[:, :, None, None, None]

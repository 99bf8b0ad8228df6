"""Products as loops: what a GEMM of any kind multiplies, adds up and makes, and as which matrices.

Three tensors take part, and one of them is made. In all convolutions they are, as in the ops'
signatures, X [N C H W], W [K D R S] and Y [N K P Q]; a linear layer and a product of activations
have one place an image. Groups, and pairs of matrices, are nests of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .ops import BETWEEN_ACTIVATIONS
from .program import Op

Pair = tuple[int, int]


class NestSide(StrEnum):
    """The tensors of a nest."""

    X = "x"
    W = "w"
    Y = "y"


# Of each kind the tensors that it reads, in their order, and the one that it makes.
SIDES = {
    "conv2d": (NestSide.X, NestSide.W, NestSide.Y),
    "conv2d_input_grad": (NestSide.Y, NestSide.W, NestSide.X),
    "conv2d_weight_grad": (NestSide.Y, NestSide.X, NestSide.W),
    "conv2d_transpose": (NestSide.Y, NestSide.W, NestSide.X),
    "conv2d_transpose_input_grad": (NestSide.X, NestSide.W, NestSide.Y),
    "conv2d_transpose_weight_grad": (NestSide.X, NestSide.Y, NestSide.W),
    "linear": (NestSide.X, NestSide.W, NestSide.Y),
    "linear_input_grad": (NestSide.Y, NestSide.W, NestSide.X),
    "linear_weight_grad": (NestSide.Y, NestSide.X, NestSide.W),
    "product": (NestSide.X, NestSide.W, NestSide.Y),
    "product_input_grad": (NestSide.Y, NestSide.W, NestSide.X),
    "product_weight_grad": (NestSide.Y, NestSide.X, NestSide.W),
    "matmul": (NestSide.X, NestSide.W, NestSide.Y),
}


@dataclass(frozen=True, slots=True)
class Nest:
    """One of ``groups`` alike: ``images`` of ``inputs`` channels become ``outputs`` channels.

    ``reads`` are the two tensors that are multiplied, as the op orders them, ``makes`` the third.
    """

    groups: int
    images: int
    inputs: int
    outputs: int
    plane: Pair
    places: Pair
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    reads: tuple[NestSide, NestSide]
    makes: NestSide

    @property
    def taps(self) -> int:
        """Places of the kernel."""
        return self.kernel[0] * self.kernel[1]

    @property
    def pixels(self) -> int:
        """Places of Y, of all images."""
        return self.images * self.places[0] * self.places[1]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all groups; products with the zero border count."""
        return self.groups * self.pixels * self.inputs * self.outputs * self.taps

    @property
    def matrices(self) -> tuple[int, int, int]:
        """M, N and K of one group: M x K times K x N, whose product is its MACs.

        The data gradient of a convolution is the matrix product ahead of the sum over taps.
        """
        columns = self.inputs * self.taps
        if self.makes is NestSide.Y:
            return self.pixels, self.outputs, columns
        if self.makes is NestSide.X:
            return self.pixels, columns, self.outputs
        return self.outputs, columns, self.pixels

    def elements(self, side: NestSide) -> int:
        """Numbers of a tensor of one group."""
        if side is NestSide.W:
            return self.inputs * self.outputs * self.taps
        if side is NestSide.Y:
            return self.pixels * self.outputs
        return self.images * self.inputs * self.plane[0] * self.plane[1]


ONE: Pair = (1, 1)
NO: Pair = (0, 0)


def nest(op: Op) -> Nest:
    """The loops of a GEMM."""
    *reads, makes = SIDES[op.kind]
    shapes = dict(zip(SIDES[op.kind], (v.type.shape for v in (*op.inputs, op.result)), strict=True))
    x, w, y = (shapes[side] for side in NestSide)
    sides = (reads[0], reads[1])
    if op.kind.startswith("conv2d"):
        groups = op.int_attr("groups")
        stride, padding, dilation = (
            (a, b) for a, b in (op.ints_attr(n) for n in ("stride", "padding", "dilation"))
        )
        (n, c, h, width), (k, _, r, s), (_, _, p, q) = x, w, y
        sizes = (groups, n, c // groups, k // groups, (h, width), (p, q), (r, s))
        return Nest(*sizes, stride, padding, dilation, sides, makes)
    if op.kind == "matmul" or op.kind in BETWEEN_ACTIVATIONS:
        (batch, m, inputs), outputs = x, y[2]
        return Nest(batch, m, inputs, outputs, ONE, ONE, ONE, ONE, NO, ONE, sides, makes)
    return Nest(1, x[0], x[1], y[1], ONE, ONE, ONE, ONE, NO, ONE, sides, makes)

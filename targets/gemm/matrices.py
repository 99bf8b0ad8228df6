"""Products of batches of matrices as products that kernels know, of the same bytes.

All values lie row-major. ``in_batch`` takes each matrix of the batch as an image with weights of
its own, so that rows are pixels and columns are channels, which lie together. ``in_groups`` takes
all as the groups of one convolution, rows as channels, for kernels that know no batch.
"""

from __future__ import annotations

from dataclasses import replace

from ...compiler.ir import Op, Value
from ...compiler.ir.accumulation import accumulation
from ...compiler.types import TensorType
from ..plan.layout import Layout, Order
from .product import Product

AskedProduct = tuple[Product, tuple[Value, ...]]
# Of the ops whose weights are the first operand of ``in_groups``.
GROUPED = {
    "matmul": "conv2d",
    "product": "conv2d",
    "product_input_grad": "conv2d_weight_grad",
    "product_weight_grad": "conv2d_input_grad",
}
# Which GEMM of a linear layer each is: a b has the weights' summed rows first, as dX has.
BATCHED = {
    "matmul": "linear_input_grad",
    "product": "linear_input_grad",
    "product_input_grad": "linear",
    "product_weight_grad": "linear_weight_grad",
}
MATRICES = frozenset(BATCHED)
# Rows of a matrix in a row of an image: bands are cut between rows.
ROW, LEAST_ROW = 256, 24
ONE = (1, 1)


def in_batch(op: Op) -> AskedProduct:
    """What a product asks for as images with weights of their own; its operands in order."""
    kind = BATCHED[op.kind]
    operands = op.inputs[::-1] if kind == "linear_weight_grad" else op.inputs
    first, second, made = (v.type for v in (*operands, op.result))
    a, b, out = _pixels(first), _weights(second), _pixels(made)
    if kind == "linear_weight_grad":
        b, out = _pixels(second), _weights(made)
    batch = made.shape[0]
    assert accumulation(op) is None, f"{op.kind} adds in an order of its own"
    product = Product(kind, a, b, made.format, None, out, ONE, (0, 0), ONE, 1, batch, None)
    return product, operands


def in_groups(op: Op) -> AskedProduct:
    """What a product asks for as groups of a 1x1 convolution; its operands in order.

    BxMxK weights of B*M channels out, an image of B*K channels and N pixels, one of B*M channels
    that it makes. Its dX is the gradient of b, and its dW that of a.
    """
    kind = GROUPED[op.kind]
    operands = op.inputs[::-1] if kind == "conv2d" else op.inputs
    first, second, made = (v.type for v in (*operands, op.result))
    a, (b, out) = _planes(first), (_weights(second), _planes(made))
    if kind == "conv2d_weight_grad":
        b, out = _planes(second), _weights(made)
    batch, order = made.shape[0], accumulation(op)
    return Product(kind, a, b, made.format, None, out, ONE, (0, 0), ONE, batch, 1, order), operands


def _pixels(t: TensorType) -> Layout:
    """A batch of matrices as images whose pixels are the matrices' rows."""
    batch, rows, columns = t.shape
    across = _row(rows)
    return Layout(replace(t, shape=(batch, columns, rows // across, across)), Order.PIXELS)


def _row(rows: int) -> int:
    """Pixels of a row of an image: a divisor, unless all are few."""
    largest = max(d for d in range(1, min(rows, ROW) + 1) if rows % d == 0)
    return largest if largest >= min(rows, LEAST_ROW) else rows


def _planes(t: TensorType) -> Layout:
    """A batch of matrices as the rows of an image's channels."""
    batch, rows, columns = t.shape
    return Layout(replace(t, shape=(1, batch * rows, 1, columns)), Order.ROWS)


def _weights(t: TensorType) -> Layout:
    """A batch of matrices as weights, a row for each channel out."""
    batch, rows, columns = t.shape
    return Layout(replace(t, shape=(batch * rows, columns, 1, 1)), Order.PIXELS)

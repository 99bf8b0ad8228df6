"""How a value lies in memory on the compiled targets.

ROWS    the logical row-major order; program inputs, state, gradients of weights, updates
PIXELS  channels last: dimension 1 moved to the end (NxCxHxW lies as N,H,W,C; KxCxRxS as K,R,S,C)

Formats below 8 bits are packed along the last physical dimension, rows padded to whole bytes: with
``n = 8 / storage_bits`` codes a byte and ``cell = ceil(C / n)`` bytes a row, byte ``j`` holds the
codes of channels ``j, j + cell, j + 2 cell, ...``, the first in the lowest bits, unused codes 0.
Codes of more than 8 bits take two bytes each.
The scale of a tensor is a buffer of its own: one f32, or one per place of dimension 0; an affine
one has all scales first, then all offsets; a squeezed one alpha and beta.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from math import prod

from ...compiler.ir import Op, Program, Value
from ...compiler.ir.ops import WEIGHT_GRADS, Trait, has
from ...compiler.types import Scale, TensorType


class Order(Enum):
    """Order of the dimensions in memory."""

    ROWS = "rows"
    PIXELS = "pixels"


# Storage of each format in NumPy's and TVM's words; bf16 is handled by its bits.
DTYPES = {"f32": "float32", "bf16": "uint16", "f16": "float16", "i64": "int64", "i32": "int32"}


@dataclass(frozen=True, slots=True)
class Layout:
    """Memory of one value: a matrix of ``rows`` x ``channels`` logical elements."""

    type: TensorType
    order: Order

    @property
    def physical_shape(self) -> tuple[int, ...]:
        """The dimensions in memory order, unpacked."""
        shape = self.type.shape
        if self.order is Order.ROWS or len(shape) < 3:
            return shape
        return (shape[0], *shape[2:], shape[1])

    @property
    def channels(self) -> int:
        """Length of the last physical dimension (1 for a scalar)."""
        return self.physical_shape[-1] if self.type.shape else 1

    @property
    def rows(self) -> int:
        """Number of rows of ``channels`` elements."""
        return prod(self.physical_shape[:-1])

    @property
    def parts(self) -> int:
        """Codes a byte: 1, 2, 4 or 8."""
        return max(1, 8 // self.type.format.storage_bits)

    @property
    def cell(self) -> int:
        """Stored elements (bytes, where packed) a row."""
        return -(-self.channels // self.parts)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The dimensions of what is stored: of packed codes the last one counts bytes."""
        shape = self.physical_shape
        return (*shape[:-1], self.cell) if self.parts > 1 and shape else shape

    @property
    def dtype(self) -> str:
        """Type of one stored element: a number, a byte of codes, or a code of two bytes."""
        f = self.type.format
        return DTYPES.get(f.name, "uint8" if f.bits <= 8 else "uint16")

    @property
    def bytes(self) -> int:
        """Bytes of the data buffer."""
        width = max(1, self.type.format.storage_bits // 8)
        return self.rows * self.cell * width

    @property
    def scales(self) -> int:
        """Numbers in the scale buffer; 0 where the type carries none."""
        scale = self.type.scale
        if scale is Scale.NONE:
            return 0
        places = self.type.shape[0] if scale.per_channel else 1
        return places if scale.is_factor else 2 * places


def orders(program: Program) -> dict[Value, Order]:
    """The order of every value: ROWS for what the outside sees, between them PIXELS for images.

    Values of one shape that an op joins lie alike; they are images if one of them meets an op on
    images.
    """
    table = dict.fromkeys((*program.inputs, *program.state, *program.outputs), Order.ROWS)
    image = _images(program)
    for region, op in program.ops():
        rows = region.name == "update" or op.kind in WEIGHT_GRADS
        for v in op.results:
            table.setdefault(v, Order.PIXELS if v in image and not rows else Order.ROWS)
    table.update((v, Order.ROWS) for _, v in program.next)
    return table


def _images(program: Program) -> set[Value]:
    """Values that lie as pixels; of up to two dimensions both orders are one."""
    # Here, as a step that is built runs without it.
    import networkx as nx

    alike: nx.Graph[Value] = nx.Graph()
    images: set[Value] = set()
    matrices: set[Value] = set()
    for _, op in program.ops():
        values = [v for v in (*op.inputs, *op.results) if len(v.type.shape) > 2]
        alike.add_nodes_from(values)
        if has(op, Trait.ROW_MAJOR):
            matrices.update(values)
        elif has(op, Trait.IMAGE):
            images.update(values)
        elif not has(op, Trait.REORDERS):
            alike.add_edges_from(pairwise(values))
    found: set[Value] = {v for _, op in program.ops() for v in op.results if len(v.type.shape) < 3}
    for group in nx.connected_components(alike):
        if group & images and not group & matrices:
            found |= group
    return found


def same_bytes(view: Op, order: Mapping[Value, Order]) -> bool:
    """Whether both shapes of a view lie in memory alike, so that it costs nothing."""
    layouts = [Layout(v.type, order[v]) for v in (view.inputs[0], view.result)]
    return all(x.parts == 1 and _row_major(x) for x in layouts)


def _row_major(layout: Layout) -> bool:
    """Whether the memory order is the logical one."""
    shape = layout.type.shape
    trivial = len(shape) < 3 or shape[1] == 1 or all(d == 1 for d in shape[2:])
    return layout.order is Order.ROWS or trivial

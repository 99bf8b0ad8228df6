"""What a pointwise kernel is made of: its spec, roles of operands, the space it runs over."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

from ....compiler.ir import Attr
from ....compiler.ir.ops import OPS, Trait
from ....compiler.ir.ops.definition import OpDef
from ....compiler.types import TensorType
from ...plan.kernel import Identity
from ...plan.layout import Layout, Order

STRIPE = 32  # rows that are summed in f32, see ``stripes``


@dataclass(frozen=True, slots=True)
class Node:
    """An op whose operands and results are numbers of values."""

    kind: str
    attrs: tuple[tuple[str, Attr], ...]
    inputs: tuple[int, ...]
    results: tuple[int, ...]

    @property
    def definition(self) -> OpDef:
        """What kind of op it is."""
        return OPS[self.kind]

    @property
    def tail(self) -> bool:
        """Whether it reduces."""
        return Trait.TAIL in self.definition.traits

    @property
    def clipped(self) -> bool:
        """Whether it makes codes below a clip."""
        d = self.definition
        return Trait.QUANTIZER in d.traits and d.place("clip") is not None

    def attr(self, name: str) -> Attr:
        """An attribute."""
        return dict(self.attrs)[name]

    def number(self, name: str) -> float:
        """An attribute that is a number."""
        value = self.attr(name)
        assert isinstance(value, int | float), f"{self.kind}.{name} is no number"
        return float(value)


@dataclass(frozen=True)
class Space:
    """A matrix in memory, ``rows`` x ``channels``, and the logical dimensions it stands for.

    ``dims`` are the logical dimensions in memory order, the last one along the channels. A flat
    space has no dimensions to tell apart: its rows are vectors of ``channels`` elements, and
    ``rest`` elements stand behind the last row.
    """

    shape: tuple[int, ...]
    dims: tuple[int, ...]
    rows: int
    channels: int
    flat: bool = False
    rest: int = 0

    @cached_property
    def whole(self) -> tuple[int, ...]:
        """Sizes of the dimensions in memory order."""
        return tuple(self.shape[d] for d in self.dims)

    def same_memory(self, layout: Layout) -> bool:
        """Whether a value of this shape lies in memory in this order."""
        big = [d for d in self.dims if self.shape[d] > 1]
        mine = [d for d in memory_dims(layout) if self.shape[d] > 1]
        same_rows = layout.parts == 1 or layout.channels == self.channels
        return self.flat or (big == mine and same_rows)


def memory_dims(layout: Layout) -> tuple[int, ...]:
    """The logical dimensions in the order in which they lie in memory."""
    rank = len(layout.type.shape)
    if layout.order is Order.ROWS or rank < 3:
        return tuple(range(rank))
    return (0, *range(2, rank), 1)


def memory_strides(layout: Layout) -> dict[int, int]:
    """Elements between neighbours along each logical dimension."""
    strides, step = {}, 1
    for d in reversed(memory_dims(layout)):
        strides[d] = step
        step *= layout.type.shape[d]
    return strides


@dataclass(frozen=True, eq=False)
class PointwiseSpec(Identity):
    """A group of ops without names: ``types`` and ``orders`` of its values, which are numbers."""

    types: tuple[TensorType, ...]
    orders: tuple[Order, ...]
    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    lanes: int

    @property
    def name(self) -> str:
        """The kinds of its ops."""
        return "_".join(dict.fromkeys(n.kind for n in self.nodes))[:80]

    def layout(self, value: int) -> Layout:
        """Where the elements of a value lie."""
        return Layout(self.types[value], self.orders[value])

    @cached_property
    def makers(self) -> dict[int, Node]:
        """The node that makes each value inside."""
        return {r: n for n in self.nodes for r in n.results}

    @cached_property
    def whole(self) -> tuple[int, ...]:
        """Inputs and outputs with an element for each point."""
        seen = {i for n in self.nodes for i in n.inputs[: n.definition.whole]}
        # The first result of a tail may be whole as well.
        made = {n.results[0] for n in self.nodes if not n.tail or n.definition.makes_whole}
        return tuple(i for i in (*self.inputs, *self.outputs) if i in seen | made)

    @cached_property
    def space(self) -> Space:
        """The matrix to run over: as the values with channels last lie, else row-major."""
        node = self.nodes[0]
        of = node.inputs[0] if node.tail else node.results[0]
        shape = self.types[of].shape
        if not any(n.definition.by_channel for n in self.nodes) and self._plain(shape):
            vector = max(1, min(self.lanes, prod(shape)))
            rows = prod(shape) // vector
            dims = tuple(range(len(shape)))
            return Space(shape, dims, rows, vector, True, prod(shape) % vector)
        by_channel = any(n.definition.by_channel for n in self.nodes) and len(shape) > 2
        pixels = by_channel or any(self.orders[i] is Order.PIXELS for i in self.whole)
        order = Order.PIXELS if pixels else Order.ROWS
        layout = Layout(TensorType(shape, self.types[of].format), order)
        return Space(shape, memory_dims(layout), layout.rows, layout.channels)

    def _plain(self, shape: tuple[int, ...]) -> bool:
        """Whether only the elements' places in memory matter, and all values agree on them."""
        layouts = [self.layout(i) for i in self.whole]
        orders = {tuple(d for d in memory_dims(x) if shape[d] > 1) for x in layouts if x.type.shape}
        indexed = any(n.definition.random for n in self.nodes)
        ordered = all(list(o) == sorted(o) for o in orders)
        clips = [n.inputs[1] for n in self.nodes if n.definition.limited]
        return (
            len(orders) <= 1
            and all(x.parts == 1 for x in layouts)
            and not any(n.kind == "broadcast" for n in self.nodes)
            and not any(self.types[i].shape for i in clips)
            and not any(x.type.scale.per_channel for x in layouts)
            and (ordered or not indexed)
        )

"""One point of a pointwise kernel: a vector of elements, computed where somebody asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from math import prod

from tvm import tirx as tir

from ....compiler.formats import F32, Format
from ....compiler.types import TensorType
from ...plan.layout import Layout
from ..expr import Code, Expr, Vectors, i32, load, ramp
from ..formats import decode, from_memory, round_carrier, to_memory
from .lists import Table, level_of
from .space import Node, PointwiseSpec, Space, memory_strides

Constant = tuple[Node, str]
ChannelNumbers = Callable[[Vectors, Expr], Mapping[str, Expr]]
"""The numbers that an op needs of some channels, from the first on."""


@dataclass(eq=False, slots=True)
class Frame:
    """What all points of a kernel share.

    ``data`` and ``scales``: buffers of the values outside. ``scalars`` and ``channels``: numbers
    computed once a call, for the whole tensor and for each channel. ``rowed``: unpacked rows of
    packed values, where the kernel keeps such: buffer and first element. ``tables``: numbers of all
    codes of a value, likewise. ``levels`` and ``begins``: what is looked up of formats that list
    their levels. ``late``: what makes numbers of channels that are not kept.
    """

    spec: PointwiseSpec
    code: Code
    data: Mapping[int, Expr]
    scales: Mapping[int, Expr]
    scalars: dict[Constant, Expr] = field(default_factory=dict)
    channels: dict[Constant, tuple[Expr, int]] = field(default_factory=dict)
    rowed: dict[int, tuple[Expr, Expr]] = field(default_factory=dict)
    tables: dict[int, tuple[Expr, int]] = field(default_factory=dict)
    levels: dict[Format, Table] = field(default_factory=dict)
    begins: dict[Format, Table] = field(default_factory=dict)
    late: dict[Node, ChannelNumbers] = field(default_factory=dict)

    @property
    def space(self) -> Space:
        """The matrix that the kernel runs over."""
        return self.spec.space

    def scalar(self, value: int) -> Expr:
        """A tensor of one element, as f32."""
        f = self.spec.types[value].format
        v = Vectors(self.code, 1)
        return from_memory(v, load(self.data[value], i32(0)), f)

    def scale(self, value: int, index: Expr) -> Expr:
        """The scale of a value, or its scale for channel ``index`` of dimension 0."""
        v = Vectors(self.code, 1)
        if not self.spec.types[value].scale.value:
            return v.splat(1.0)
        if value in self.spec.inputs:
            several = self.spec.layout(value).scales > 1
            return load(self.scales[value], index if several else i32(0))
        node = self.spec.makers[value]
        if node.clipped:
            clip = node.inputs[1]
            which = index if self.spec.types[clip].shape else i32(0)
            return v.div(load(self.data[clip], which), self.top(node))
        if node.kind == "normalize":
            return self.scalar(node.inputs[1])
        if node.kind == "rescale":
            factor = load(self.data[node.inputs[1]], index)
            return v.mul(self.scale(node.inputs[0], index), v.f(factor))
        if node.kind == "grad_scale":
            return v.div(v.splat(1.0), self.scalar(node.inputs[1]))
        return self.scale(node.inputs[0], index)

    def top(self, node: Node) -> Expr:
        """The n of a quantizer with a clip: that of its format, or of the bits that it reads."""
        v, type_ = Vectors(self.code, 1), self.spec.types[node.results[0]]
        if node.kind == "quantize":
            return v.splat(top_number(type_))
        signs = int(type_.format.signed and not type_.format.midrise)
        return highest(v, v.f(self.scalar(node.inputs[2])), type_.format.bits, signs)


Evaluate = Callable[["Point", Node], None]


@dataclass(eq=False, slots=True)
class Point:
    """``v.lanes`` elements from channel ``first`` of ``row`` on; values are made when asked for."""

    frame: Frame
    v: Vectors
    row: Expr
    first: Expr
    rules: Mapping[str, Evaluate]
    part: Callable[[int], Expr] | None = None  # the code of a packed input, where parts are taken
    numbers: dict[int, Expr] = field(default_factory=dict)
    codes: dict[int, Expr] = field(default_factory=dict)
    limits: dict[tuple[int, str], Expr] = field(default_factory=dict)
    late: dict[Node, Mapping[str, Expr]] = field(default_factory=dict)

    def type(self, value: int) -> TensorType:
        """The type of a value."""
        return self.frame.spec.types[value]

    def number(self, value: int) -> Expr:
        """The stored numbers of a value, as an f32 name."""
        if value not in self.numbers:
            self._make(value)
        if value not in self.numbers:
            code, f = self.codes[value], self.type(value).format
            levels = self.frame.levels.get(f)
            if levels is not None:
                self.numbers[value] = level_of(self.v, code, levels)
            else:
                self.numbers[value] = self.v.f(decode(self.v, code, f))
        return self.numbers[value]

    def code(self, value: int) -> Expr:
        """The u32 codes of a coded value."""
        if value not in self.codes:
            self._make(value)
        return self.codes[value]

    def put(self, value: int, x: Expr) -> None:
        """Set a carrier from an f32 name, rounding it to its format."""
        self.numbers[value] = round_carrier(self.v, x, self.type(value).format)

    def choose(self, value: int, source: int, x: Expr) -> None:
        """Set a carrier from an f32 name that is 0 or a number of ``source``: often exact."""
        if self.type(value).format == self.type(source).format:
            self.numbers[value] = x
        else:
            self.put(value, x)

    def put_code(self, value: int, code: Expr) -> None:
        """Set a coded value."""
        self.codes[value] = self.v.hold(code)

    def constant(self, node: Node, name: str) -> Expr:
        """A number of the prologue, one for all or one a channel, in all lanes."""
        if (node, name) in self.frame.scalars:
            return self.v.splat(self.frame.scalars[node, name])
        if node in self.frame.late:
            if node not in self.late:
                self.late[node] = self.frame.late[node](self.v, self.first)
            return self.late[node][name]
        buffer, start = self.frame.channels[node, name]
        return self.v.code.let(
            load(buffer, ramp(self.first + i32(start), self.v.lanes)),
            f"float32x{self.v.lanes}" if self.v.lanes > 1 else "float32",
        )

    def along(self, buffer: Expr, dim: int, start: int = 0) -> Expr:
        """Numbers of a buffer that has one for each place along a dimension."""
        space = self.frame.space
        if space.dims[-1] == dim:
            return load(buffer, ramp(self.first + i32(start), self.v.lanes))
        return self.v.splat(load(buffer, self.coordinate(dim) + i32(start)))

    def coordinate(self, dim: int) -> Expr:
        """The place of the row along a logical dimension other than that of the channels."""
        space = self.frame.space
        at = space.dims.index(dim)
        inner = prod(space.whole[at + 1 : -1])
        outer = tir.floordiv(self.row, i32(inner))
        return outer if at == 0 else tir.floormod(outer, i32(space.whole[at]))

    def address(self, strides: Mapping[int, int]) -> tuple[Expr, int]:
        """Offset of the first element, and between lanes, for a stride along each dimension."""
        dims = self.frame.space.dims
        offset = self.first * i32(strides.get(dims[-1], 0)) if dims else i32(0)
        for d in dims[:-1]:
            if strides.get(d, 0) and self.frame.space.shape[d] > 1:
                offset = offset + self.coordinate(d) * i32(strides[d])
        return offset, strides.get(dims[-1], 0) if dims else 0

    def place(self, layout: Layout) -> Expr:
        """The index, or ramp, of these elements in an unpacked value."""
        space = self.frame.space
        if space.same_memory(layout):
            return ramp(self.row * i32(space.channels) + self.first, self.v.lanes)
        offset, step = self.address(memory_strides(layout))
        return ramp(offset, self.v.lanes, step)

    def read(self, buffer: Expr, layout: Layout, index: Expr) -> Expr:
        """Load elements as they are stored."""
        lanes = self.v.lanes
        dtype = layout.dtype if lanes == 1 else f"{layout.dtype}x{lanes}"
        return self.v.code.let(load(buffer, index), dtype)

    def write(self, value: int) -> None:
        """Store an unpacked output."""
        layout = self.frame.spec.layout(value)
        f = layout.type.format
        if f.is_coded:
            stored = self.v.cast(self.code(value), layout.dtype)
        else:
            stored = to_memory(self.v, self.number(value), f)
        self.v.code.store(self.frame.data[value], self.place(layout), stored)

    def _make(self, value: int) -> None:
        if value in self.frame.spec.inputs:
            self._load(value)
        else:
            node = self.frame.spec.makers[value]
            self.rules[node.kind](self._reader(node), node)

    def _reader(self, node: Node) -> Point:
        """Itself; ``Apart`` where two operands of an op are one number."""
        sources = [self._source(i) for i in node.inputs]
        return self if len(set(sources)) == len(sources) else Apart.of(self)

    def _source(self, value: int) -> int:
        """The value that has the name of this one: rounding to f32 makes no new one."""
        node = self.frame.spec.makers.get(value)
        same = node is not None and node.kind == "cast" and self.type(value).format == F32
        return self._source(node.inputs[0]) if node is not None and same else value

    def _load(self, value: int) -> None:
        layout = self.frame.spec.layout(value)
        f = layout.type.format
        if layout.parts > 1:
            if self.part is not None:
                self.codes[value] = self.v.hold(self.part(value))
                return
            buffer, start = self.frame.rowed[value]
            raw = self.read(buffer, layout, ramp(start + self.first, self.v.lanes))
        else:
            raw = self.read(self.frame.data[value], layout, self.place(layout))
        if f.is_coded:
            self.codes[value] = self.v.hold(self.v.cast(raw, "uint32"))
        else:
            self.numbers[value] = self.v.f(from_memory(self.v, raw, f))


@dataclass(eq=False, slots=True)
class Apart(Point):
    """A point for a rule that reads one number twice: each time it has another name.

    TVM takes a name for equal to itself and its distance from itself for 0, which is not so of NaN
    and infinity.
    """

    whole: Point | None = None

    @classmethod
    def of(cls, p: Point) -> Apart:
        """A view of a point."""
        shared = {f.name: getattr(p, f.name) for f in fields(Point)}
        return cls(**shared, whole=p)

    def number(self, value: int) -> Expr:
        """See ``Point``."""
        assert self.whole is not None
        return self.v.f(self.whole.number(value))


def highest(v: Vectors, bits: Expr, most: int, signs: int = 0) -> Expr:
    """2^(bits - signs) - 1, as f32, of at least one bit beside the sign and at most ``most``."""
    one, least, limit = v.i(1), v.splat(float(1 + signs)), v.splat(float(most))
    bits = v.f(v.where(bits > least, bits, least))
    bits = v.f(v.where(bits < limit, bits, limit))
    return v.f(v.cast(tir.shift_left(one, v.cast(bits, "int32") - v.i(signs)) - one, "float32"))


def top_number(type_: TensorType) -> float:
    """The n of a quantizer: the top integer of its grid, 2^bits - 1 where it has no zero."""
    f = type_.format
    return float((1 << f.bits) - 1) if f.midrise else f.max

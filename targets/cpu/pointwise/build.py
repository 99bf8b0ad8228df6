"""The loops of a pointwise kernel: blocks of rows in parallel, rows, vectors of channels.

Four ways to walk a row. Without packed values: vectors, then single elements. Where the bytes of
packed values come in whole vectors: byte by byte, evaluating the expression once for each part of
the byte and joining the codes. Where whole vectors of channels share bytes: vector by vector. Else:
packed values are unpacked and packed a row at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from tvm import tirx as tir

from ....compiler.types import Scale
from ...tir.expr import Code, Expr, Vectors, i32, load, ramp, typed
from ...tir.formats import from_memory
from ...tir.pointwise.affine import store_grid
from ...tir.pointwise.ops import CHANNELS, RULES, SCALARS
from ...tir.pointwise.point import Frame, Point
from ...tir.pointwise.space import Node, PointwiseSpec
from ...tir.pointwise.squeeze import store_parts, tables
from ...tir.pointwise.tails import channel_tails, lane_tails
from ..dialect import function
from .lanes import RowCodes, fits, store_row
from .reduce import STRIPE, Reductions, each_channel

BLOCK = 16384  # elements that make a block worth a thread's while
MOST_BLOCKS = 64


def build(spec: PointwiseSpec) -> tir.PrimFunc:
    """The function of a spec."""
    slots = [(i, scale) for i in (*spec.inputs, *spec.outputs) for scale in _buffers(spec, i)]
    layouts = [spec.layout(i) for i, _ in slots]
    parameters = [
        ("float32", layout.scales) if scale else (layout.dtype, layout.rows * layout.cell)
        for (_, scale), layout in zip(slots, layouts, strict=True)
    ]

    def body(code: Code, buffers: list[Expr]) -> None:
        table = dict(zip(slots, buffers, strict=True))
        data = {i: b for (i, scale), b in table.items() if not scale}
        scales = {i: b for (i, scale), b in table.items() if scale}
        _Builder(Frame(spec, code, data, scales)).run()

    return function(parameters, body)


def _buffers(spec: PointwiseSpec, value: int) -> list[bool]:
    return [False, True] if spec.types[value].scale.value else [False]


@dataclass(eq=False)
class _Builder:
    frame: Frame
    stored: list[int] = field(init=False)
    packed: list[int] = field(init=False)

    def __post_init__(self) -> None:
        spec = self.frame.spec
        self.stored = [i for i in spec.outputs if i in spec.whole]
        self.packed = [i for i in spec.whole if spec.layout(i).parts > 1]
        self.code = self.frame.code
        self.space = spec.space
        self.parts = max((spec.layout(i).parts for i in self.packed), default=1)
        self.cell = self.space.channels // self.parts
        widest = largest_divisor(self.cell, spec.lanes)
        layouts = [spec.layout(i) for i in self.packed]
        self.by_lanes = self.parts > 1 and widest < spec.lanes and fits(layouts, spec.lanes)
        whole = self.parts > 1 and not self.space.channels % self.parts and widest >= 4
        self.by_parts = whole and not self.by_lanes
        self.lanes = widest if self.by_parts else width(self.space.channels, spec.lanes)
        self.block_rows, self.blocks = blocks(self.space.rows, self.space.channels)

    def run(self) -> None:
        """Append everything."""
        frame = self.frame
        spare = 1 if self.space.rest else 0
        tails = Reductions(
            frame, self.blocks + spare, self.lanes, channel_tails(frame), lane_tails(frame)
        )
        for node in frame.spec.nodes:
            if node.kind in SCALARS:
                made = SCALARS[node.kind](frame, node)
                frame.scalars.update({(node, name): x for name, x in made.items()})
        self.store_scales()
        with ExitStack() as stack:
            stack.enter_context(self.channel_constants())
            stack.enter_context(tables(frame, self.lanes))
            stack.enter_context(tails.memory())
            rows = stack.enter_context(self.row_buffers())
            with self.code.blocks(self.blocks) as block:
                self.place_rows(rows, block)
                self.block(tails, block)
            if spare:
                self.rest(tails)
            tails.finish(self.block_rows)

    def store_scales(self) -> None:
        """Write the scale of every output that has one."""
        for i in self.frame.spec.outputs:
            count = self.frame.spec.layout(i).scales
            if self.frame.spec.types[i].scale.is_affine:
                store_grid(self.frame, i)
            elif self.frame.spec.types[i].scale is Scale.SQUEEZED:
                store_parts(self.frame, i)
            elif count == 1:
                self.code.store(self.frame.scales[i], i32(0), self.frame.scale(i, i32(0)))
            elif count:
                with self.code.loop(count) as k:
                    self.code.store(self.frame.scales[i], k, self.frame.scale(i, k))

    @contextmanager
    def channel_constants(self) -> Iterator[None]:
        """Compute what ops need once for each channel."""
        nodes = [n for n in self.frame.spec.nodes if n.kind in CHANNELS]
        total, channels = sum(len(CHANNELS[n.kind][0]) for n in nodes), self.space.channels
        if not nodes:
            yield
            return
        with self.code.workspace("float32", total * channels) as buffer:
            start = 0
            for node in nodes:
                names, _ = CHANNELS[node.kind]
                for name in names:
                    self.frame.channels[node, name] = (buffer, start)
                    start += channels
                each_channel(self.code, channels, self.lanes, self._constants_of(node))
            yield

    def _constants_of(self, node: Node) -> Callable[[Vectors, Expr], None]:
        frame, (_, make) = self.frame, CHANNELS[node.kind]

        def body(v: Vectors, first: Expr) -> None:
            def parameter(i: int) -> Expr:
                value = node.inputs[i]
                raw = load(frame.data[value], ramp(first, v.lanes))
                return v.f(from_memory(v, raw, frame.spec.types[value].format))

            for name, x in make(v, node, parameter, self.space.rows).items():
                buffer, start = frame.channels[node, name]
                self.code.store(buffer, ramp(first + i32(start), v.lanes), x)

        return body

    @contextmanager
    def row_buffers(self) -> Iterator[Expr | None]:
        """Memory for one unpacked row of each packed value and block, where rows are unpacked."""
        if not self.packed or self.by_parts or self.by_lanes:
            yield None
            return
        with self.code.workspace("uint8", self.row_bytes * self.blocks) as buffer:
            yield buffer

    @property
    def row_bytes(self) -> int:
        """Bytes of unpacked rows a block: each padded to whole bytes of its packed form."""
        return sum(self.padded(i) for i in self.packed)

    def padded(self, value: int) -> int:
        """Codes of a row with those that fill its last bytes."""
        layout = self.frame.spec.layout(value)
        return layout.cell * layout.parts

    def place_rows(self, buffer: Expr | None, block: Expr) -> None:
        """Give each packed value its place in the memory of ``row_buffers``."""
        if buffer is None:
            return
        start = block * i32(self.row_bytes)
        for i in self.packed:
            self.frame.rowed[i] = (buffer, start)
            start = start + i32(self.padded(i))

    def block(self, tails: Reductions, block: Expr) -> None:
        """All rows of a block, in stripes where something is reduced."""
        first = block * i32(self.block_rows)
        rows = tir.min(i32(self.block_rows), i32(self.space.rows) - first)
        if not tails.any:
            with self.code.loop(rows) as r:
                self.row(first + r, [])
            return
        tails.start(block)
        with self.code.loop(tir.floordiv(rows + i32(STRIPE - 1), i32(STRIPE))) as stripe:
            before = stripe * i32(STRIPE)
            count = tir.min(i32(STRIPE), rows - before)
            with self.code.loop(count) as r:
                self.row(first + before + r, [(tails, block, r.equal(i32(0)))])
            tails.flush(block, before, count)
        tails.end(block)

    def rest(self, tails: Reductions) -> None:
        """The elements behind the last vector of a flat space."""
        block = i32(self.blocks)
        tails.start(block)
        with self.code.loop(self.space.rest) as c:
            point = self.point(1, i32(self.space.rows), c)
            self.finish_point(point, [(tails, block, c.equal(i32(0)))])
        tails.flush(block, i32(0), i32(1))
        tails.end(block)

    def point(self, lanes: int, row: Expr, first: Expr) -> Point:
        """A fresh point."""
        return Point(self.frame, Vectors(self.code, lanes), row, first, RULES)

    def finish_point(self, p: Point, tails: Sequence[tuple[Reductions, Expr, Expr]]) -> None:
        """Store what is not packed, keep codes of packed rows, take part in the reductions."""
        for i in self.stored:
            if i not in self.packed:
                p.write(i)
            elif i in self.frame.rowed:
                buffer, start = self.frame.rowed[i]
                codes = p.v.cast(p.code(i), "uint8")
                self.code.store(buffer, ramp(start + p.first, p.v.lanes), codes)
        for reductions, block, first_row in tails:
            reductions.add(p, block, first_row)

    def row(self, row: Expr, tails: Sequence[tuple[Reductions, Expr, Expr]]) -> None:
        """One row."""
        if self.by_parts:
            with self.code.loop(self.cell // self.lanes) as j:
                self.parts_of(row, j * i32(self.lanes), tails)
            return
        if self.by_lanes:
            self.vectors_of(row, tails)
            return
        for i in self.packed:
            if i in self.frame.spec.inputs:
                self.unpack(i, row)
        vectors, singles = divmod(self.space.channels, self.lanes)
        if vectors:
            with self.code.loop(vectors) as j:
                self.finish_point(self.point(self.lanes, row, j * i32(self.lanes)), tails)
        if singles:
            with self.code.loop(singles) as j:
                first = j + i32(self.space.channels - singles)
                self.finish_point(self.point(1, row, first), tails)
        for i in self.packed:
            if i in self.frame.spec.outputs:
                self.pack(i, row)

    def parts_of(self, row: Expr, j: Expr, tails: Sequence[tuple[Reductions, Expr, Expr]]) -> None:
        """The elements of ``lanes`` bytes of the value with most codes a byte."""
        cells: dict[tuple[int, int], Expr] = {}
        points: list[Point] = []
        for q in range(self.parts):
            p = self.point(self.lanes, row, j + i32(q * self.cell))
            p.part = _Parts(self, cells, row, j, q)
            self.finish_point(p, tails)
            points.append(p)
        for i in self.stored:
            if i in self.packed:
                self.join(i, points, row, j)

    def vectors_of(self, row: Expr, tails: Sequence[tuple[Reductions, Expr, Expr]]) -> None:
        """All vectors of a row whose packed values have few channels."""
        points: list[Point] = []
        for first in range(0, self.space.channels, self.lanes):
            p = self.point(self.lanes, row, i32(first))
            p.part = RowCodes(self.frame, row, first, self.lanes)
            self.finish_point(p, tails)
            points.append(p)
        for i in self.stored:
            if i in self.packed:
                store_row(i, points, row)

    def join(self, value: int, points: Sequence[Point], row: Expr, j: Expr) -> None:
        """Store the bytes of a packed output, from the codes of all parts."""
        layout = self.frame.spec.layout(value)
        step = self.parts // layout.parts
        v = points[0].v
        for m in range(step):
            byte = points[m].code(value)
            for i in range(1, layout.parts):
                shift = v.u(i * layout.type.format.storage_bits)
                byte = byte | (points[i * step + m].code(value) << shift)
            at = row * i32(layout.cell) + j + i32(m * self.cell)
            self.code.store(self.frame.data[value], ramp(at, v.lanes), v.cast(byte, "uint8"))

    def unpack(self, value: int, row: Expr) -> None:
        """Codes of a row, one a byte."""
        layout, (buffer, start) = self.frame.spec.layout(value), self.frame.rowed[value]
        bits = layout.type.format.storage_bits
        for i in range(layout.parts):
            with self.code.loop(layout.cell) as j:
                byte = load(self.frame.data[value], row * i32(layout.cell) + j)
                code = (byte >> tir.const(bits * i, "uint8")) & tir.const((1 << bits) - 1, "uint8")
                self.code.store(buffer, start + j + i32(i * layout.cell), code)

    def pack(self, value: int, row: Expr) -> None:
        """Bytes of a row; the codes that only fill its last bytes are zero."""
        layout, (buffer, start) = self.frame.spec.layout(value), self.frame.rowed[value]
        fill = self.padded(value) - layout.channels
        for k in range(fill):
            self.code.store(buffer, start + i32(layout.channels + k), tir.const(0, "uint8"))
        bits = layout.type.format.storage_bits
        with self.code.loop(layout.cell) as j:
            byte = load(buffer, start + j)
            for i in range(1, layout.parts):
                code = load(buffer, start + j + i32(i * layout.cell))
                byte = byte | (code << tir.const(bits * i, "uint8"))
            self.code.store(self.frame.data[value], row * i32(layout.cell) + j, byte)


@dataclass(frozen=True, eq=False)
class _Parts:
    """Codes of packed inputs at part ``q``: bytes are loaded once for all parts that share them."""

    builder: _Builder
    cells: dict[tuple[int, int], Expr]
    row: Expr
    j: Expr
    q: int

    def __call__(self, value: int) -> Expr:
        builder, layout = self.builder, self.builder.frame.spec.layout(value)
        step = builder.parts // layout.parts
        part, m = divmod(self.q, step)
        v = Vectors(builder.code, builder.lanes)
        if (value, m) not in self.cells:
            at = self.row * i32(layout.cell) + self.j + i32(m * builder.cell)
            raw = load(builder.frame.data[value], ramp(at, v.lanes))
            self.cells[value, m] = builder.code.let(raw, typed("uint8", v.lanes))
        bits = layout.type.format.storage_bits
        byte = v.cast(self.cells[value, m], "uint32")
        return (byte >> v.u(part * bits)) & v.u((1 << bits) - 1)


def blocks(rows: int, channels: int) -> tuple[int, int]:
    """Rows a block, and blocks: a function of the shape alone, so that sums are too."""
    least = max(-(-BLOCK // channels), -(-rows // MOST_BLOCKS), 1)
    block_rows = -(-least // STRIPE) * STRIPE
    return block_rows, max(1, -(-rows // block_rows))


def largest_divisor(size: int, lanes: int) -> int:
    """The largest power of two that divides ``size``, up to ``lanes``."""
    return min(lanes, size & -size) if size else 1


def width(channels: int, lanes: int) -> int:
    """Lanes for a row without packed bytes: most that leave no single elements, if that is many."""
    best = largest_divisor(channels, lanes)
    while lanes > channels:
        lanes //= 2
    return best if best * 2 >= lanes else lanes

"""A GEMM as tiles of blocks: what is multiplied, in which pieces, from which scratch; without TVM.

out[m][n] is the sum over k of a[m][k] * b[n][k]. Forward and dX: m is an output pixel (of a
phase, see ``Geometry``), n a channel out, k runs over taps and, fastest, channels in. dW: m is a
channel of dY, n a tap and, fastest, a channel of the image, k a pixel of dY.

A first launch decodes operands to ``Plane``s: bytes, bf16 or f32 with a pixel's channels side by
side, padded to whole pieces. Numbers of two bytes are two planes, each with sums of its own. What
4-bit tensor cores take are bytes of two channels, as ``layout`` packs them: no unpacking.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

from ....compiler.formats import BF16, F32
from ...gemm.geometry import Geometry, Index, Phase, geometry
from ...gemm.product import Product
from ...gemm.shapes import channels_last, shape4
from ...numbers.integers import integers, most_products
from ...plan.kernel import Unit
from ...plan.layout import Layout
from .elements import INTEGERS, WIDTHS, PaddedChannels, numbers_of
from .planes import Plane, planes_of

WARPS = 4
THREADS = 32 * WARPS
STEP = 64  # bytes of k at a time: two products of tensor cores
SHARED = 48 << 10
# Blocks that fill a GPU. One number for all: tiles and parts decide the order of float sums,
# which shapes alone decide.
MULTIPROCESSORS = 132
SMALLEST = 16  # rows and columns of a warp
STAGES = 4
LANES = 4
# Times that it is worth to decode an operand anew instead of once, which writes and reads bytes: by
# tables in registers, into two planes with twice the products (dW has more to do for each of
# them), and by masks where codes are numbers. A product of mma.sync leaves time for 6 to 8
# instructions.
MOST_DECODED, MOST_IN_PLANES, MOST_MASKED = 4, 9, 18
LARGEST_AFTER = 4  # steps that pay for the largest tile
LEAST_STEPS = 4  # of a block where k is split over several


@dataclass(frozen=True, slots=True)
class BlockTile:
    """What a block makes: ``m`` x ``n`` results by warps of which ``across`` lie along n."""

    m: int
    n: int
    across: int

    @property
    def warp(self) -> tuple[int, int]:
        """Rows and columns of a warp."""
        return self.m // (WARPS // self.across), self.n // self.across


def tile_of(m: int, n: int, planes: int, groups: int, most: int) -> BlockTile:
    """The smallest tile that holds m x n, or a large one; smaller where blocks would be few.

    The most columns of one of 128 rows are given.
    """
    rows = _fitting(m, SMALLEST, 128 // planes)
    widest = most if rows == 128 else 128 if rows * planes <= 64 else 64
    least = max(SMALLEST, WARPS * SMALLEST**2 // rows)
    columns = _fitting(n, least, max(least, widest))
    for smaller in ((128, 64), (64, 64)):
        few = groups * -(-m // rows) * -(-n // columns) < MULTIPROCESSORS
        if rows == 128 and few:
            rows, columns = smaller[0], min(columns, smaller[1])
    shapes = [BlockTile(rows, columns, across) for across in (1, 2, 4)]
    return min((t for t in shapes if min(t.warp) >= SMALLEST), key=lambda t: sum(t.warp))


def _fitting(size: int, least: int, most: int) -> int:
    made = least
    while made < min(size, most):
        made *= 2
    return made


@dataclass(frozen=True, slots=True)
class PhaseSums:
    """The products of a phase: sizes of the matrices, blocks along each, steps of k."""

    phase: Phase | None
    m: int
    n: int
    steps: int
    blocks: tuple[int, int]


@dataclass(frozen=True, eq=False)
class TileFrame:
    """All sizes of a product on one unit."""

    spec: Product
    unit: Unit

    @property
    def width(self) -> int:
        """Bytes of an element."""
        return WIDTHS[self.unit]

    @property
    def depth(self) -> int:
        """Elements of k at a time."""
        return STEP // self.width

    @property
    def numbers(self) -> int:
        """Numbers of an element."""
        return numbers_of(self.unit)

    @cached_property
    def planes(self) -> tuple[tuple[Plane, ...], tuple[Plane, ...]]:
        """Of both operands."""
        spec = self.spec
        return planes_of(spec.a.type.format, self.unit), planes_of(spec.b.type.format, self.unit)

    @property
    def pairs(self) -> int:
        """PhaseSums of each result."""
        return len(self.planes[0]) * len(self.planes[1])

    @property
    def weights_of_pairs(self) -> list[int]:
        """What the sum of a pair of planes counts in that of a result."""
        return [a.weight * b.weight for a in self.planes[0] for b in self.planes[1]]

    @property
    def groups(self) -> int:
        """Blocks of channels that are multiplied apart."""
        return self.spec.groups

    @cached_property
    def geometry(self) -> Geometry:
        """Of forward or dX."""
        return geometry(self.spec)

    @cached_property
    def taps(self) -> tuple[int, int]:
        """Rows and columns of the kernel."""
        _, _, r, s = shape4(self.spec.out if self.spec.weight_grad else self.spec.b)
        return r, s

    @cached_property
    def first(self) -> PaddedChannels:
        """Of a pixel of ``a``."""
        return PaddedChannels.of(shape4(self.spec.a)[1] // self.groups, self.unit)

    @cached_property
    def second(self) -> PaddedChannels:
        """Of a pixel of the image, for dW; of a result, for forward and dX."""
        of = self.spec.b if self.spec.weight_grad else self.spec.out
        return PaddedChannels.of(shape4(of)[1] // self.groups, self.unit)

    @cached_property
    def sums(self) -> tuple[PhaseSums, ...]:
        """Of every phase."""
        if self.spec.weight_grad:
            n, _, h, w = shape4(self.spec.a)
            columns = prod(self.taps) * self.second.padded
            return (self._sums(None, self.first.count, columns, n * h * w),)
        g = self.geometry
        made = []
        for phase in g.phases:
            pixels = g.images * phase.rows.places * phase.columns.places
            length = phase.taps * self.first.padded
            made.append(self._sums(phase, pixels, self.second.count, length))
        return tuple(made)

    def _sums(self, phase: Phase | None, m: int, n: int, length: int) -> PhaseSums:
        blocks = -(-m // self.tile.m), -(-n // self.tile.n)
        return PhaseSums(phase, m, n, -(-length // self.depth), blocks)

    @cached_property
    def tile(self) -> BlockTile:
        """One for all phases."""
        spec = self.spec
        if spec.weight_grad:
            columns = prod(self.taps) * self.second.padded
            return tile_of(self.first.count, columns, self.pairs, self.groups, 64)
        n, _, h, w = shape4(spec.out)
        # Short sums wait for memory, not for products; in f32 a thread has no registers for more.
        short = prod(self.taps) * self.first.padded < LARGEST_AFTER * self.depth
        most = 64 if short or self.unit is Unit.F32 else 128
        return tile_of(n * h * w, self.second.count, self.pairs, self.groups, most)

    @property
    def lanes(self) -> int:
        """Neighbouring channels of a result that a thread finishes at once."""
        spec = self.spec
        together = channels_last(spec.out) and not spec.weight_grad
        return LANES if together and self.second.count % LANES == 0 else 1

    @property
    def most_steps(self) -> int:
        """Of a sum in int32."""
        if self.unit not in INTEGERS:
            return 1 << 30
        a, b = (max(plane.largest for plane in planes) for planes in self.planes)
        return most_products(a, b) // (self.depth * self.numbers)

    @cached_property
    def split(self) -> tuple[int, int]:
        """Blocks that share a sum, and the most steps of one: enough blocks to fill a GPU."""
        steps = max(sums.steps for sums in self.sums)
        tiles = max(1, self.groups * sum(prod(sums.blocks) for sums in self.sums))
        wanted = min(2 * MULTIPROCESSORS // tiles, steps // LEAST_STEPS)
        if len(self.sums) > 1:
            return 1, steps
        each = min(-(-steps // max(1, wanted)), self.most_steps)
        return -(-steps // each), each

    @property
    def exact(self) -> bool:
        """Whether int32 holds every sum."""
        return self.split[1] <= self.most_steps

    @property
    def grid(self) -> tuple[int, ...]:
        """Blocks of every phase."""
        return tuple(prod(s.blocks) * self.split[0] * self.groups for s in self.sums)

    @cached_property
    def unpacked(self) -> tuple[int, int]:
        """Elements that both operands are decoded to; 0 where they are read as they are."""
        spec, (first, second) = self.spec, self.direct
        as_it_is = first or self.as_it_is(spec.a)
        a = 0 if as_it_is else len(self.planes[0]) * self.pixels(self.first)
        if not spec.weight_grad:
            return a, len(self.planes[1]) * self.weights
        as_it_is = second or self.as_it_is(spec.b)
        return a, 0 if as_it_is else len(self.planes[1]) * self.pixels(self.second)

    @cached_property
    def direct(self) -> tuple[int, int]:
        """How many words of codes of both a thread decodes on their way to shared memory.

        0 where that is done before, because it would be done many times or a code of 0 is not 0.
        """
        taps, (down, across) = prod(self.taps), self.sums[0].blocks
        if not self.spec.weight_grad:
            return self._direct(self.spec.a, taps * across, STEP), 0
        rows = [size * self.width for size in self.padded_tile]
        return (
            self._direct(self.spec.a, across, rows[0]),
            self._direct(self.spec.b, taps * down, rows[1]),
        )

    def _direct(self, layout: Layout, times: int, row: int) -> int:
        f = layout.type.format
        if not self.in_words(layout) or self.as_it_is(layout):
            return 0
        plain = self.unit is Unit.INT8_MMA and f.is_integer and not (f.signed or f.midrise)
        several = len(planes_of(f, self.unit)) > 1 and not self.spec.weight_grad
        most = MOST_MASKED if plain else MOST_IN_PLANES if several else MOST_DECODED
        if times > most or f.decode(0):
            return 0
        longest = min(row, STEP) // (4 * self.decoded(layout))
        cell = layout.cell // self.groups
        return next((n for n in (4, 2, 1) if cell % (4 * n) == 0 and n <= longest), 0)

    def decoded(self, layout: Layout) -> int:
        """Bytes that a byte of codes is decoded to."""
        return layout.parts // self.numbers * self.width

    def channel(self, which: int, place: Index) -> Index:
        """The channel at a place among those of a pixel in shared memory.

        What a thread decodes at once are the first codes of some bytes, then the second ones.
        """
        layout, run = (self.spec.a, self.spec.b)[which], 4 * self.direct[which]
        if not run or layout.parts == self.numbers:
            return place
        unit, rest = place // (run * layout.parts), place % (run * layout.parts)
        return (rest // run) * layout.cell + unit * run + rest % run

    def pixels(self, channels: PaddedChannels) -> int:
        """Elements of a plane of the operand with these channels."""
        n, _, h, w = shape4(self.spec.a if channels is self.first else self.spec.b)
        return n * h * w * self.groups * channels.padded

    @cached_property
    def weights(self) -> int:
        """Elements of a plane of the weights of all phases, see ``weights_of``."""
        return sum(self.weights_of(sums) for sums in self.sums)

    def weights_of(self, sums: PhaseSums) -> int:
        """Elements of the weights of a phase: whole tiles of n by whole steps of k."""
        return self.groups * sums.blocks[1] * self.tile.n * sums.steps * self.depth

    def as_it_is(self, layout: Layout) -> bool:
        """Whether an operand of pixels already lies as its plane."""
        f = layout.type.format
        natural = f.is_integer and not (f.signed or f.midrise)
        plain = {
            Unit.INT4_MMA: f.storage_bits == 4 and natural and self.groups == 1,
            Unit.INT8_MMA: f.bits == 8 and natural,
            Unit.BF16_MMA: f is BF16,
            Unit.F32: f is F32,
        }[self.unit]
        channels = PaddedChannels.of(shape4(layout)[1] // self.groups, self.unit)
        return plain and channels_last(layout) and channels.elements == channels.padded

    def in_words(self, layout: Layout) -> bool:
        """Whether an operand of pixels is whole words of codes, none of them padding."""
        f, channels = layout.type.format, shape4(layout)[1]
        if self.unit is Unit.F32 or not f.is_coded or f.bits > 8 or not channels_last(layout):
            return False
        own = PaddedChannels.of(channels // self.groups, self.unit)
        return (
            channels % (4 * layout.parts) == 0
            and own.elements == own.padded
            and (self.groups == 1 or layout.parts == 1)
        )

    @property
    def partial(self) -> int:
        """PhaseSums in scratch: of every part of k, group and pair of planes whole tiles."""
        parts, _ = self.split
        if parts == 1:
            return 0
        (sums,) = self.sums
        rows, columns = (b * t for b, t in zip(sums.blocks, self.padded_tile, strict=True))
        return parts * self.groups * self.left * rows * columns

    @cached_property
    def left(self) -> int:
        """Sums of a result that a part of k leaves: one where int32 holds that of all planes."""
        if self.unit not in INTEGERS or self.pairs == 1:
            return 1
        both = [integers(x.type.format) for x in (self.spec.a, self.spec.b)]
        a, b = (numbers.magnitude for numbers in both if numbers is not None)
        return 1 if self.split[1] * self.depth <= most_products(a, b) else self.pairs

    @property
    def padded_tile(self) -> tuple[int, int]:
        """Rows and columns of a block."""
        return self.tile.m, self.tile.n

    @property
    def scratch(self) -> tuple[tuple[str, int], ...]:
        """Decoded operands, then sums."""
        sums = "int32" if self.unit in INTEGERS else "float32"
        sizes = [("uint8", self.width * size) for size in self.unpacked]
        return tuple((t, n) for t, n in (*sizes, (sums, self.partial)) if n)

    @property
    def launches(self) -> int:
        """Decoding, products, and adding parts."""
        return 1 + any(self.unpacked) + bool(self.partial)

    @cached_property
    def pitches(self) -> tuple[int, int]:
        """Bytes between rows of both tiles, see ``word_of``."""
        if not self.spec.weight_grad:
            return STEP, STEP
        return _pitch(self.tile.m * self.width), _pitch(self.tile.n * self.width)

    @property
    def rows(self) -> tuple[int, int]:
        """Rows of both tiles in shared memory: of m and n, or of k for dW."""
        return (self.depth, self.depth) if self.spec.weight_grad else self.padded_tile

    @cached_property
    def areas(self) -> tuple[int, int]:
        """Bytes of a plane of both tiles."""
        return self.rows[0] * self.pitches[0], self.rows[1] * self.pitches[1]

    @property
    def stage(self) -> int:
        """Bytes of one step."""
        return sum(n * len(planes) for n, planes in zip(self.areas, self.planes, strict=True))

    @property
    def stages(self) -> int:
        """Steps in shared memory at a time."""
        return min(STAGES, SHARED // self.stage)


def _pitch(size: int) -> int:
    return size if size // 16 % 2 else size + 16

"""Products of a warp: from rows in shared memory to sums in registers, see ``frame``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from tvm import tirx as tir

from ...plan.kernel import Unit
from ...tir.expr import Expr, i32, load
from ..code import DeviceCode
from ..ptx import WARP, address, load_matrices, multiply, permuted
from .elements import INTEGERS
from .frame import STEP, TileFrame
from .rows import word_of

ROW = 32  # bytes of k, or 16 pairs of rows, that a product of tensor cores takes
EVEN, ODD = 0x6420, 0x7531


@dataclass(eq=False)
class Core(ABC):
    """A block's tiles, one plane of ``a`` after the other, then those of ``b``, in words of f32."""

    code: DeviceCode
    frame: TileFrame
    shared: Expr

    def __post_init__(self) -> None:
        self.lane = self.code.let(tir.floormod(self.code.thread, i32(WARP)), "int32", "lane")
        warp = self.code.let(tir.floordiv(self.code.thread, i32(WARP)), "int32", "warp")
        across = i32(self.frame.tile.across)
        rows, columns = self.frame.tile.warp
        self.row = self.code.let(tir.floordiv(warp, across) * i32(rows), "int32", "row")
        self.column = self.code.let(tir.floormod(warp, across) * i32(columns), "int32", "column")

    @abstractmethod
    def zero(self) -> None:
        """Begin."""

    @abstractmethod
    def step(self, stage: Expr) -> None:
        """Add the products of a stage, whose first word is given."""

    @abstractmethod
    def results(self) -> Iterator[tuple[Expr, Expr, list[Expr]]]:
        """Row, column and the sums of all pairs of planes of everything that this lane holds."""

    def start(self, which: int, plane: int) -> int:
        """The first word of a plane of a stage."""
        a, b = self.frame.areas
        before = len(self.frame.planes[0]) * a if which else 0
        return (before + plane * (b if which else a)) // 4


class TensorCore(Core):
    """By mma.sync, 16 x 8 sums a warp."""

    @cached_property
    def transposed(self) -> bool:
        """Whether rows in shared memory are places of k."""
        return self.frame.spec.weight_grad

    @property
    def counts(self) -> tuple[int, int]:
        """Products side by side."""
        rows, columns = self.frame.tile.warp
        return rows // 16, columns // 8

    def zero(self) -> None:
        """See ``Core``."""
        down, across = self.counts
        dtype = "uint32" if self.frame.unit in INTEGERS else "float32"
        self.sums = [
            [self.code.local(dtype, 4) for _ in range(down * across)]
            for _ in range(self.frame.pairs)
        ]
        for sums in (s for pair in self.sums for s in pair):
            for i in range(4):
                self.code.store(sums, i32(i), tir.const(0, dtype))

    def step(self, stage: Expr) -> None:
        """See ``Core``."""
        for part in range(STEP // ROW):
            b = [self._second(stage, plane, part) for plane in range(len(self.frame.planes[1]))]
            for i in range(self.counts[0]):
                for p, plane in enumerate(self.frame.planes[0]):
                    a = self._first(stage, p, part, i)
                    for q, other in enumerate(self.frame.planes[1]):
                        pair = self.sums[p * len(self.frame.planes[1]) + q]
                        for j, two in enumerate(b[q]):
                            sums = pair[i * self.counts[1] + j]
                            multiply(self.code, (plane.kind, other.kind), sums, a, two)

    def _first(self, stage: Expr, plane: int, part: int, i: int) -> list[Expr]:
        """Registers of 16 rows."""
        lane, start = self.lane, stage + i32(self.start(0, plane))
        if not self.transposed:
            row = self.row + i32(16 * i) + tir.floormod(lane, i32(16))
            byte = tir.floordiv(lane, i32(16)) * i32(16) + i32(part * ROW)
            return self._load(start, 0, row, byte)
        byte = (self.row + i32(16 * i)) * i32(self.frame.width)
        if self.frame.unit is Unit.BF16_MMA:
            k = tir.floormod(lane, i32(8)) + tir.floordiv(lane, i32(16)) * i32(8)
            byte = byte + tir.floormod(tir.floordiv(lane, i32(8)), i32(2)) * i32(16)
            return self._load(start, 0, k + i32(16 * part), byte)
        words = self._load(start, 0, lane + i32(32 * part), byte)
        return [self._gathered(words, half, pick) for half in (0, 1) for pick in (EVEN, ODD)]

    def _second(self, stage: Expr, plane: int, part: int) -> list[list[Expr]]:
        """Registers of all groups of 8 columns."""
        made: list[list[Expr]] = []
        for pair in range(self.counts[1] // 2):
            made += self._two(stage + i32(self.start(1, plane)), part, pair)
        return made

    def _two(self, start: Expr, part: int, pair: int) -> list[list[Expr]]:
        lane = self.lane
        high = tir.floordiv(lane, i32(16))
        odd = tir.floormod(tir.floordiv(lane, i32(8)), i32(2))
        column = self.column + i32(16 * pair)
        if not self.transposed:
            row = column + tir.floormod(lane, i32(8)) + high * i32(8)
            words = self._load(start, 1, row, odd * i32(16) + i32(part * ROW))
            return [words[:2], words[2:]]
        byte = column * i32(self.frame.width)
        if self.frame.unit is Unit.BF16_MMA:
            k = tir.floormod(lane, i32(8)) + odd * i32(8)
            words = self._load(start, 1, k + i32(16 * part), byte + high * i32(16))
            return [words[:2], words[2:]]
        words = self._load(start, 1, lane + i32(32 * part), byte)
        return [[self._gathered(words, half, pick) for half in (0, 1)] for pick in (EVEN, ODD)]

    def _gathered(self, words: list[Expr], half: int, pick: int) -> Expr:
        """One of two channels, of four pixels."""
        return permuted(self.code, words[2 * half], words[2 * half + 1], pick)

    def _load(self, start: Expr, which: int, row: Expr, byte: Expr) -> list[Expr]:
        place = address(self.shared, start + word_of(self.frame, which, row, byte))
        return load_matrices(self.code, place, transposed=self.transposed)

    def results(self) -> Iterator[tuple[Expr, Expr, list[Expr]]]:
        """See ``Core``; gathered channels are every other one of 16."""
        group = tir.floordiv(self.lane, i32(4))
        member = tir.floormod(self.lane, i32(4)) * i32(2)
        split = self.transposed and self.frame.unit is Unit.INT8_MMA
        for i in range(self.counts[0]):
            for j in range(self.counts[1]):
                for q in range(4):
                    row, column = group, member + i32(q % 2)
                    if split:
                        row = row * i32(2) + i32(q // 2)
                        column = column * i32(2) + i32(j % 2 + j // 2 * 16)
                    else:
                        row, column = row + i32(q // 2 * 8), column + i32(8 * j)
                    index = i * self.counts[1] + j
                    sums = [load(pair[index], i32(q)) for pair in self.sums]
                    yield self.row + i32(16 * i) + row, self.column + column, sums


class FloatCore(Core):
    """In f32 by fused multiply-adds: a warp is 8 x 4 lanes."""

    DOWN, ACROSS = 8, 4

    @property
    def counts(self) -> tuple[int, int]:
        """Rows and columns of a lane."""
        rows, columns = self.frame.tile.warp
        return rows // self.DOWN, columns // self.ACROSS

    def zero(self) -> None:
        """See ``Core``."""
        down, across = self.counts
        self.sums = self.code.local("float32", down * across)
        for i in range(down * across):
            self.code.store(self.sums, i32(i), tir.const(0.0, "float32"))

    def _places(self) -> tuple[Expr, Expr]:
        down = self.row + tir.floordiv(self.lane, i32(self.ACROSS))
        return down, self.column + tir.floormod(self.lane, i32(self.ACROSS))

    def step(self, stage: Expr) -> None:
        """See ``Core``."""
        code, (down, across) = self.code, self.counts
        row, column = self._places()
        a, b = code.local("float32", down), code.local("float32", across)
        with code.loop(self.frame.depth) as k:
            for which, into, first, each, count in (
                (0, a, row, self.DOWN, down),
                (1, b, column, self.ACROSS, across),
            ):
                for i in range(count):
                    word = self._word(stage, which, first + i32(each * i), k)
                    code.store(into, i32(i), load(self.shared, word))
            for i in range(down):
                for j in range(across):
                    at = i32(i * across + j)
                    numbers = load(a, i32(i)), load(b, i32(j)), load(self.sums, at)
                    made = tir.call_pure_extern("float32", "__fmaf_rn", *numbers)
                    code.store(self.sums, at, made)

    def _word(self, stage: Expr, which: int, place: Expr, k: Expr) -> Expr:
        start = stage + i32(self.start(which, 0))
        row, column = (k, place) if self.frame.spec.weight_grad else (place, k)
        return start + word_of(self.frame, which, row, column * i32(4))

    def results(self) -> Iterator[tuple[Expr, Expr, list[Expr]]]:
        """See ``Core``."""
        row, column = self._places()
        for i in range(self.counts[0]):
            for j in range(self.counts[1]):
                sums = [load(self.sums, i32(i * self.counts[1] + j))]
                yield row + i32(self.DOWN * i), column + i32(self.ACROSS * j), sums

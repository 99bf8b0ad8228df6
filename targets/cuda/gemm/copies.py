"""Pieces of an operand to shared memory, see ``frame``.

Decoded ones are copied asynchronously; of the others a thread loads words of codes ahead of the
products of a step, and stores what they stand for behind them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from tvm import tirx as tir

from ...plan.layout import Layout
from ...tir.expr import Expr, i32, load
from ..code import DeviceCode
from ..ptx import address, copy_async, ptx, u32
from .frame import STEP, THREADS, PhaseSums, TileFrame
from .rows import word_of
from .words import planes_of_word


@dataclass(frozen=True, eq=False)
class TileBlock:
    """Which tile a block makes: its group, its first row and column."""

    code: DeviceCode
    frame: TileFrame
    sums: PhaseSums
    g: Expr
    m: Expr
    n: Expr


@dataclass(frozen=True, eq=False)
class PieceSource:
    """Memory of an operand from element ``offset`` on, ``plane`` elements a plane."""

    buffer: Expr
    plane: int
    piece: int
    offset: int = 0


@dataclass(frozen=True, eq=False)
class Piece:
    """Number ``i`` of those of a thread: its row, and element and byte of that."""

    i: int
    row: Expr
    element: Expr
    byte: Expr


@dataclass(frozen=True, eq=False)
class PieceTarget:
    """A stage in shared memory: its first word, and the byte of it where the operand begins."""

    shared: Expr
    stage: Expr
    base: int


class Copies(ABC):
    """Copies of one operand, ``which`` of the two, in every step the same pieces of a thread.

    With ``by_row`` those are all of one row where there are enough, and else of one column.
    """

    by_row = False

    @property
    def again(self) -> bool:
        """Whether several taps read the same."""
        return False

    def __init__(self, block: TileBlock, which: int, source: PieceSource) -> None:
        self.block, self.which, self.source = block, which, source
        self.code, self.frame = block.code, block.frame
        self.words = self.code.local("uint32", self.count * self.direct) if self.direct else None
        self.prepare()

    def prepare(self) -> None:  # noqa: B027 - most have nothing
        """What is the same in all steps."""

    @abstractmethod
    def fetch(self, step: Expr, target: PieceTarget) -> None:
        """Start the copies of a step."""

    @property
    def layout(self) -> Layout:
        """The operand in memory."""
        spec = self.frame.spec
        return spec.b if self.which else spec.a

    @property
    def direct(self) -> int:
        """Words of a piece that is decoded on its way, see ``TileFrame.direct``."""
        return self.frame.direct[self.which]

    @cached_property
    def size(self) -> int:
        """Decoded bytes of a piece."""
        word = 4 * self.frame.decoded(self.layout)
        return self.direct * word if self.direct else self.source.piece

    @cached_property
    def shape(self) -> tuple[int, int, bool]:
        """Pieces of a row, threads that share one, whether each has all of its pieces there."""
        frame = self.frame
        row = frame.padded_tile[self.which] * frame.width if frame.spec.weight_grad else STEP
        across = row // self.size
        each = THREADS // frame.rows[self.which]
        if self.by_row and 0 < each <= across:
            return across, each, True
        return across, across, False

    @property
    def count(self) -> int:
        """Pieces of a thread."""
        across, each, by_row = self.shape
        return across // each if by_row else -(-self.frame.rows[self.which] * across // THREADS)

    @cached_property
    def first(self) -> Piece:
        """The first piece of this thread."""
        code, (_, each, _) = self.code, self.shape
        place = tir.floormod(code.thread, i32(each))
        byte = code.let(place * i32(self.size), "int32", "byte")
        row = code.let(tir.floordiv(code.thread, i32(each)), "int32", "row")
        return Piece(0, row, self._elements(byte), byte)

    def _elements(self, byte: Expr) -> Expr:
        return self.code.let(tir.floordiv(byte, i32(self.frame.width)), "int32", "element")

    @property
    def pieces(self) -> Iterator[Piece]:
        """All pieces of this thread."""
        first, (_, each, by_row) = self.first, self.shape
        rows = self.frame.rows[self.which]
        for i in range(self.count):
            if by_row:
                byte = first.byte + i32(i * each * self.size)
                yield Piece(i, first.row, self._elements(byte), byte)
                continue
            apart = THREADS // each
            piece = Piece(i, first.row + i32(i * apart), first.element, first.byte)
            if (i + 1) * apart <= rows:
                yield piece
                continue
            with self.code.when(piece.row < i32(rows)):
                yield piece

    def copy(self, piece: Piece, target: PieceTarget, at: Expr, inside: Expr | None) -> None:
        """A piece of every plane, from element ``at`` of it on; zeros where not ``inside``."""
        code, source = self.code, self.source
        if self.words is not None:
            assert inside is not None, "weights are decoded before"
            self._load(self.words, piece.i, at, inside)
            return
        for p in range(len(self.frame.planes[self.which])):
            to = address(target.shared, self._word(piece, target, p))
            start = address(source.buffer, at + i32(p * source.plane + source.offset))
            copy_async(code, self.size, to, start, inside, again=self.again)

    def _word(self, piece: Piece, target: PieceTarget, plane: int) -> Expr:
        first = target.stage + i32((target.base + plane * self.frame.areas[self.which]) // 4)
        return first + word_of(self.frame, self.which, piece.row, piece.byte)

    def _load(self, words: Expr, i: int, at: Expr, inside: Expr) -> None:
        code, size = self.code, self.direct
        for j in range(size):
            code.store(words, i32(i * size + j), u32(0))
        registers = [load(words, i32(i * size + j)) for j in range(size)]
        each = self.layout.parts // self.frame.numbers
        start = address(self.source.buffer, tir.floordiv(at, i32(each)))
        with code.when(inside):
            ptx(code, f"ld.global.{_vector(size)}b32", *registers, start)

    def land(self, target: PieceTarget) -> None:
        """Store what the codes of the last step stand for; copies come by themselves."""
        if self.words is None:
            return
        size, planes = self.direct, self.frame.planes[self.which]
        f, unit = self.layout.type.format, self.frame.unit
        for piece in self.pieces:
            codes = [load(self.words, i32(piece.i * size + j)) for j in range(size)]
            made = [planes_of_word(self.code, word, f, unit, planes) for word in codes]
            for p in range(len(planes)):
                # The first codes of all bytes lie side by side, then the second ones.
                parts = zip(*(one[p] for one in made), strict=True)
                words = [word for part in parts for some in part for word in some]
                self._store(target, p, piece, words)

    def _store(self, target: PieceTarget, plane: int, piece: Piece, words: list[Expr]) -> None:
        """Words side by side, up to four at once."""
        size = min(4, len(words))
        for i in range(0, len(words), size):
            own = replace(piece, byte=piece.byte + i32(4 * i))
            to = address(target.shared, self._word(own, target, plane))
            ptx(self.code, f"st.shared.{_vector(size)}b32", to, *words[i : i + size])


def _vector(size: int) -> str:
    return f"v{size}." if size > 1 else ""

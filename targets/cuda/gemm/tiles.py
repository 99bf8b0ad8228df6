"""A GEMM on tiles: decode, multiply, and where k is split add the parts, see ``frame``.

A block copies steps of k to shared memory several ahead of the one that it multiplies. The sums
then pass through the same memory, so that neighbouring threads finish neighbouring channels.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import reduce
from operator import add

from tvm import tirx as tir

from ...gemm.shapes import channels_last
from ...plan.kernel import Unit
from ...tir.expr import Expr, Vectors, i32, load, ramp
from ..code import DeviceCode, Launch, Made, Maker, launch
from ..pointwise.kernel import DevicePointwise
from ..pointwise.sums import Scratch
from ..ptx import await_groups, commit
from .copies import Copies, PieceSource, PieceTarget, TileBlock
from .core import Core, FloatCore, TensorCore
from .elements import DTYPES, INTEGERS
from .epilogue import finish
from .frame import THREADS, PhaseSums, TileFrame
from .gathers import GradRows, ImageRows, PixelRows, WeightRows
from .maps import ResultPlaces
from .moments import FinishedColumns, leave_moments
from .operand import GemmSlots
from .spec import DeviceGemm
from .unpack import unpack_launch

Body = Callable[[DeviceCode, list[Expr]], None]
AT_ONCE = 64  # columns of a large tile that are finished
APART = 8  # words between the sums of a row and the next
JOINED = 256  # threads that add parts
RESIDENT = 4  # blocks whose sums in f32 all have registers: 128 a thread


def build_tiles(spec: DeviceGemm) -> list[Launch]:
    """Up to three launches."""
    return tile_launches(TileFrame(spec, spec.way.unit), launch)


def tile_launches(
    frame: TileFrame, make: Maker[Made], stats: DevicePointwise | None = None
) -> list[Made]:
    """Those of ``make``, which adds the scratch of ``stats`` behind that of the frame."""
    made = [
        unpack_launch(frame, make),
        make(_parameters(frame), THREADS, _body(frame, stats)),
    ]
    if frame.partial:
        made.append(make(_parameters(frame), JOINED, _join(frame)))
    return [one for one in made if one is not None]


def _parameters(frame: TileFrame) -> list[tuple[str, int]]:
    dtype = DTYPES[frame.unit]
    scratch = [(dtype, n) for n in frame.unpacked if n]
    sums = [(_sum(frame), frame.partial)] if frame.partial else []
    return [*frame.spec.parameters, *scratch, *sums]


def _sum(frame: TileFrame) -> str:
    return "uint32" if frame.unit in INTEGERS else "float32"


def _body(frame: TileFrame, stats: DevicePointwise | None) -> Body:
    def body(code: DeviceCode, slots: list[Expr]) -> None:
        if frame.unit is Unit.F32 and frame.spec.weight_grad:
            code.resident = RESIDENT
        with code.alone(None):
            _Tiles(code, frame, GemmSlots.of(frame.spec, slots), stats).run()

    return body


class _Tiles:
    """The statements of the launch that multiplies."""

    def __init__(
        self,
        code: DeviceCode,
        frame: TileFrame,
        slots: GemmSlots,
        stats: DevicePointwise | None,
    ) -> None:
        self.code, self.frame, self.slots = code, frame, slots
        tile = frame.tile
        words = max(frame.stages * frame.stage // 4, tile.m * (min(tile.n, AT_ONCE) + APART))
        self.shared = code.shared("float32", words)
        rest = list(slots.scratch)
        self.a = rest.pop(0) if frame.unpacked[0] else slots.a
        self.b = rest.pop(0) if frame.unpacked[1] else slots.b
        self.partial = rest.pop(0) if frame.partial else None
        self.stripes = Scratch(stats.geometry, single=rest.pop(0)) if stats else None

    def run(self) -> None:
        """Every phase by blocks of its own."""
        first, offset = 0, 0
        for sums, count in zip(self.frame.sums, self.frame.grid, strict=True):
            if len(self.frame.sums) == 1:
                self._tile(sums, self.code.block, offset)
            else:
                own = tir.all(self.code.block >= i32(first), self.code.block < i32(first + count))
                with self.code.when(own):
                    self._tile(sums, self.code.block - i32(first), offset)
            first += count
            offset += 0 if self.frame.spec.weight_grad else self.frame.weights_of(sums)
        self.code.grid = first

    def _tile(self, sums: PhaseSums, at: Expr, offset: int) -> None:
        code, frame = self.code, self.frame
        parts, each = frame.split
        places = []
        for extent in (sums.blocks[1], sums.blocks[0], parts):
            places.append(code.let(tir.floormod(at, i32(extent)), "int32", "at"))
            at = code.let(tir.floordiv(at, i32(extent)), "int32", "at")
        n, m, part = places
        block = TileBlock(code, frame, sums, at, m * i32(frame.tile.m), n * i32(frame.tile.n))
        core = (FloatCore if frame.unit is Unit.F32 else TensorCore)(code, frame, self.shared)
        core.zero()
        if sums.steps:
            first = code.let(part * i32(each), "int32", "first")
            count = tir.min(i32(sums.steps) - first, i32(each)) if parts > 1 else i32(sums.steps)
            self._steps(self._copies(block, offset), core, first, count)
        if self.partial is not None:
            self._leave(self.partial, block, core, part)
        else:
            self._finish(block, core)

    def _copies(self, block: TileBlock, offset: int) -> list[Copies]:
        frame = self.frame
        a, b = frame.first, frame.second
        made: list[Copies]
        if frame.spec.weight_grad:
            made = [
                GradRows(block, 0, PieceSource(self.a, frame.pixels(a), a.piece)),
                ImageRows(block, 1, PieceSource(self.b, frame.pixels(b), b.piece)),
            ]
        else:
            made = [
                PixelRows(block, 0, PieceSource(self.a, frame.pixels(a), a.piece)),
                WeightRows(block, 1, PieceSource(self.b, frame.weights, 16, offset)),
            ]
        return made

    def _steps(self, copies: list[Copies], core: Core, first: Expr, count: Expr) -> None:
        """All steps of this block's part of k."""
        code, stages = self.code, self.frame.stages
        size = i32(self.frame.stage // 4)

        def stage_of(step: Expr) -> Expr:
            return code.let(tir.floormod(step, i32(stages)) * size, "int32", "stage")

        def targets(step: Expr) -> list[PieceTarget]:
            stage = stage_of(step)
            return [PieceTarget(self.shared, stage, 4 * core.start(i, 0)) for i in (0, 1)]

        def fetch(step: Expr) -> None:
            with code.when(step < count):
                for copy, target in zip(copies, targets(step), strict=True):
                    copy.fetch(first + step, target)
            # Also where nothing is copied: all groups but the newest are awaited.
            commit(code)

        def land(step: Expr) -> None:
            if any(self.frame.direct):
                with code.when(step < count):
                    for copy, target in zip(copies, targets(step), strict=True):
                        copy.land(target)

        for ahead in range(stages - 1):
            fetch(i32(ahead))
            land(i32(ahead))
        with code.rolled(count) as step:
            await_groups(code, stages - 2)
            code.barrier()
            fetch(step + i32(stages - 1))
            core.step(stage_of(step))
            land(step + i32(stages - 1))
        code.barrier()

    def _leave(self, partial: Expr, block: TileBlock, core: Core, part: Expr) -> None:
        """The sums of a part of k for the launch that adds them."""
        frame = self.frame
        rows, columns = (b * t for b, t in zip(block.sums.blocks, frame.padded_tile, strict=True))
        first = (part * i32(frame.groups) + block.g) * i32(frame.left)
        for m, n, sums in core.results():
            if frame.left < frame.pairs:
                # What int32 holds may pass its end on the way: it comes back without a sign.
                weights = [tir.const(w, "uint32") for w in frame.weights_of_pairs]
                sums = [reduce(add, (x * w for x, w in zip(sums, weights, strict=True)))]
            for pair, total in enumerate(sums):
                row = (first + i32(pair)) * i32(rows) + block.m + m
                self.code.store(partial, row * i32(columns) + block.n + n, total)

    def _finish(self, block: TileBlock, core: Core) -> None:
        """Results of a tile, channels of a pixel by neighbouring threads."""
        tile = self.frame.tile
        width = AT_ONCE if tile.m * tile.n > 128 * AT_ONCE else tile.n
        for first in range(0, tile.n, width):
            if first:
                self.code.barrier()
            self._share(core, first, width)
            self.code.barrier()
            self._columns(block, first, width)
            if self.stripes is not None:
                self.code.barrier()
                finished = FinishedColumns(self.shared, first, width, self._pitch(width))
                leave_moments(self.code, block, finished, self.stripes)

    def _pitch(self, width: int) -> int:
        """Words between rows: those of neighbouring pixels lie in different banks if they are
        taken by neighbouring threads."""
        return width + (APART if channels_last(self.frame.spec.out) else 1)

    def _share(self, core: Core, first: int, width: int) -> None:
        """Some columns of the sums, in f32, for the whole block."""
        code, pitch = self.code, i32(self._pitch(width))
        own = tir.all(core.column >= i32(first), core.column < i32(first + width))
        several = width < self.frame.tile.n
        with code.when(own) if several else nullcontext():
            for m, n, sums in core.results():
                total = sums[0]
                if self.frame.unit in INTEGERS:
                    total = tir.Cast("float32", joined(self.frame, sums))
                code.store(self.shared, m * pitch + n - i32(first), total)

    def _columns(self, block: TileBlock, first: int, width: int) -> None:
        """The results of some columns."""
        code, frame, tile = self.code, self.frame, self.frame.tile
        lanes, by_channel = frame.lanes, channels_last(frame.spec.out)
        v, results = Vectors(code, lanes), ResultPlaces(code, frame, block.sums)
        with code.loop(tile.m * width // (THREADS * lanes)) as turn:
            at = code.let(turn * i32(THREADS) + code.thread, "int32", "at")
            wide = width // lanes if by_channel else tile.m
            y, x = (f(at, i32(wide)) for f in (tir.floordiv, tir.floormod))
            m, n = (y, x * i32(lanes)) if by_channel else (x, y)
            inside, place = results.place(block.g, block.m + m, block.n + n + i32(first))
            with code.when(inside):
                # Minus zero becomes zero as in the reference.
                where = m * i32(self._pitch(width)) + n
                total = v.add(v.f(load(self.shared, where, lanes)), v.splat(0.0))
                stored = finish(code, frame.spec, self.slots, total, place, lanes)
                if self.stripes is not None:
                    code.store(self.shared, ramp(where, lanes), stored)


def joined(frame: TileFrame, sums: list[Expr]) -> Expr:
    """The sum of a result from those of its pairs of planes."""
    numbers = [tir.reinterpret("int32", total) for total in sums]
    if len(sums) == 1:
        return numbers[0]
    total = tir.const(0, "int64")
    for number, weight in zip(numbers, frame.weights_of_pairs, strict=True):
        total = total + tir.Cast("int64", number) * tir.const(weight, "int64")
    return total


def _join(frame: TileFrame) -> Body:
    """A thread adds the parts of a result in their order, exactly or in f64."""
    (sums,) = frame.sums
    rows, columns = (b * t for b, t in zip(sums.blocks, frame.padded_tile, strict=True))
    exact = frame.unit in INTEGERS

    def body(code: DeviceCode, pointers: list[Expr]) -> None:
        slots = GemmSlots.of(frame.spec, pointers)
        count = frame.groups * sums.m * sums.n
        code.grid = -(-count // JOINED)
        at = code.let(code.block * i32(JOINED) + code.thread, "int32", "at")
        with code.alone(None), code.when(at < i32(count)):
            n, rest = tir.floormod(at, i32(sums.n)), tir.floordiv(at, i32(sums.n))
            m, g = tir.floormod(rest, i32(sums.m)), tir.floordiv(rest, i32(sums.m))
            inside, place = ResultPlaces(code, frame, sums).place(g, m, n)
            with code.when(inside):
                dtype = "int64" if exact else "float64"
                total = code.local(dtype, 1)
                code.store(total, i32(0), tir.const(0, dtype))
                with code.loop(frame.split[0]) as part:
                    first = (part * i32(frame.groups) + g) * i32(frame.left)
                    where = [
                        ((first + i32(p)) * i32(rows) + m) * i32(columns) + n
                        for p in range(frame.left)
                    ]
                    parts = [load(slots.scratch[-1], w) for w in where]
                    one = joined(frame, parts) if exact else parts[0]
                    code.store(total, i32(0), load(total, i32(0)) + tir.Cast(dtype, one))
                v = Vectors(code, 1)
                made = v.f(tir.Cast("float32", load(total, i32(0))))
                finish(code, frame.spec, slots, v.add(made, v.splat(0.0)), place)

    return body

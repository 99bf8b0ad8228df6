"""What this machine can do at most: small kernels that do nothing but multiply, or move memory.

    int8 tile   AMX tdpbusd, 16384 products an instruction   Gop/s (a product and its addition: two)
    bf16 tile   AMX tdpbf16ps, 8192 products an instruction  Gop/s
    int8 dot    vpdpbusd, 64 products an instruction     Gop/s
    bf16 dot    vdpbf16ps, 32 products an instruction    Gop/s
    int16 dot   vpdpwssd, 32 products an instruction     Gop/s
    f32         fused multiply-add                       Gop/s
    memory      c[i] = a[i] + s * b[i] beyond all caches, three arrays counted      GB/s

Operands of all but the last stay in registers and their chains hide the latency, so no kernel can
be faster. A unit that the CPU lacks is left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..plan.kernel import Kernel, Unit
from .info import CpuInfo

# Sets TVM's environment before TVM is loaded, so it comes first.
from .runtime import use_threads  # isort: skip

from tvm import tirx as tir

from ..tir.expr import Code, Expr, load, typed
from .amx.tiles import (
    COLUMNS,
    ROW_BYTES,
    ROWS,
    TILES,
    TileShape,
    dot,
    load_tile,
    store_tile,
    tiles,
    zero_tile,
)
from .build import compile_kernel
from .dialect import function
from .gemm.dots import multiply_add, multiply_add_short, prepare
from .gemm.units import BF16_DOT, BF16_TILE, FLOAT, INT16, Dot
from .gemm.vectors import Registers, splat, store

MEMORY = "memory"
INT8 = Dot(Unit.INT8_DOT, "uint8", "int8", "int32", block=4)
INT8_TILE = Dot(Unit.INT8_TILE, "uint8", "int8", "int32", block=4)
DOTS = {
    Unit.INT8_TILE: INT8_TILE,
    Unit.BF16_TILE: BF16_TILE,
    Unit.INT8_DOT: INT8,
    Unit.BF16_DOT: BF16_DOT,
    Unit.INT16_DOT: INT16,
    Unit.F32: FLOAT,
}
# Independent sums: more than latency times instructions a cycle, and less than there are registers.
CHAINS = 12
TURNS, FLOATS, BLOCK = 1 << 20, 1 << 24, 1 << 14
TILE_TURNS = 8  # turns of the vector units that take as long as one of the tiles
GIGA = 1e9


def dot_on(cpu: CpuInfo, unit: Unit) -> Dot:
    """The multiply-accumulate of a unit that is no tile."""
    return replace(INT8, run=1) if unit is Unit.INT8_DOT and not cpu.vnni else DOTS[unit]


@dataclass(frozen=True, slots=True)
class DotLoop:
    """Each thread adds products of two constant vectors to ``CHAINS`` sums, ``turns`` times."""

    dot: Dot
    lanes: int
    threads: int
    turns: int

    @property
    def name(self) -> str:
        """The unit."""
        return f"peak_{self.dot.unit.name.lower()}"

    @property
    def operations(self) -> int:
        """Products and additions of one call."""
        return 2 * self.threads * self.turns * CHAINS * self.lanes * self.dot.block

    @property
    def sums(self) -> tuple[str, int]:
        """Type of a sum and the sums of a chain: two of int16 for one that they would join."""
        return ("int16", 2 * self.lanes) if self.dot.run else (self.dot.acc, self.lanes)

    @property
    def apart(self) -> bool:
        """Whether instructions multiply that do not add to a sum.

        LLVM would take a product that never changes out of the loop, and make one for all chains:
        each has a second operand of its own, which is read in every turn.
        """
        return self.dot.run > 0 or self.dot.unit is Unit.INT16_DOT

    @property
    def sizes(self) -> list[tuple[str, int]]:
        """Element type and count of both operands and of the result."""
        n, (acc, some) = self.lanes * self.dot.block, self.sums
        second = CHAINS * n if self.apart else n
        return [(self.dot.a, n), (self.dot.b, second), (acc, self.threads * CHAINS * some)]

    def build(self) -> tir.PrimFunc:
        """The function: operands, then the sums, so that nothing can be left out."""

        def body(code: Code, slots: list[Expr]) -> None:
            prepare(code, self.dot)
            n, (acc, some) = self.lanes * self.dot.block, self.sums
            with code.blocks(self.threads) as thread:
                sums = Registers(code, (CHAINS,), acc, some)
                for i in range(CHAINS):
                    # Different from the start, or LLVM would find that all are one sum.
                    sums.set(splat(i, acc, some), i)
                with code.loop(self.turns) as turn:
                    a = load(slots[0], 0, n)
                    for i in range(CHAINS):
                        b = load(slots[1], self._place(slots[0], turn, i) if self.apart else 0, n)
                        sums.set(self._add(sums.get(i), a, b), i)
                for i in range(CHAINS):
                    place = (thread * CHAINS + i) * some
                    store(code, slots[2], place, sums.get(i), some)

        return function(self.sizes, body)

    def _place(self, ones: Expr, turn: Expr, chain: int) -> Expr:
        """Where the second operand of a chain lies, in every turn: LLVM cannot know that."""
        nothing = tir.Cast("int32", load(ones, 0)) - 1
        return turn * nothing + chain * self.lanes * self.dot.block

    def _add(self, total: Expr, a: Expr, b: Expr) -> Expr:
        if self.dot.run:
            return multiply_add_short(total, a, b, self.lanes)
        if self.dot.unit is not Unit.F32:
            return multiply_add(self.dot, total, a, b, self.lanes)
        # As written, LLVM would take the product, which never changes, out of the loop.
        return tir.call_llvm_pure_intrin(typed("float32", self.lanes), "llvm.fma", a, b, total)


@dataclass(frozen=True, slots=True)
class TileLoop:
    """Each thread multiplies two A tiles by two B tiles into four C tiles, ``turns`` times."""

    dot: Dot
    threads: int
    turns: int

    @property
    def name(self) -> str:
        """The unit."""
        return f"peak_{self.dot.unit.name.lower()}"

    @property
    def operations(self) -> int:
        """Products and additions of one call."""
        return 2 * self.threads * self.turns * 4 * ROWS * COLUMNS * ROWS * self.dot.block

    @property
    def sizes(self) -> list[tuple[str, int]]:
        """Element type and count of both operands and of the result."""
        n = ROWS * COLUMNS * self.dot.block
        return [(self.dot.a, n), (self.dot.b, n), (self.dot.acc, self.threads * ROWS * COLUMNS)]

    def build(self) -> tir.PrimFunc:
        """The function: operands, then the sums of one tile."""

        def body(code: Code, slots: list[Expr]) -> None:
            with code.blocks(self.threads) as thread, tiles(code, [TileShape()] * TILES):
                for tile in range(4):
                    zero_tile(code, tile)
                    load_tile(code, 4 + tile, slots[tile // 2], 0, ROW_BYTES)
                with code.loop(self.turns):
                    for tile in range(4):
                        a, b = 4 + tile // 2, 6 + tile % 2
                        dot(code, self.dot.a, self.dot.b, tile, a, b)
                place = thread * (ROWS * COLUMNS)
                store_tile(code, 0, slots[2], place, COLUMNS * 4)

        return function(self.sizes, body)


@dataclass(frozen=True, slots=True)
class Triad:
    """``c = a + s * b`` over ``floats`` f32 numbers, a multiple of ``BLOCK``."""

    lanes: int
    floats: int

    @property
    def name(self) -> str:
        """What is measured."""
        return f"peak_{MEMORY}"

    @property
    def sizes(self) -> list[tuple[str, int]]:
        """Element type and count of a, b and c."""
        return [("float32", self.floats)] * 3

    def build(self) -> tir.PrimFunc:
        """The function: a, b, then c."""

        def body(code: Code, slots: list[Expr]) -> None:
            a, b, c = slots
            with (
                code.blocks(self.floats // BLOCK) as block,
                code.loop(BLOCK // self.lanes) as i,
            ):
                at = block * BLOCK + i * self.lanes
                scaled = load(b, at, self.lanes) * splat(0.5, "float32", self.lanes)
                store(code, c, at, load(a, at, self.lanes) + scaled, self.lanes)

        return function(self.sizes, body)


def measure_peaks(
    cpu: CpuInfo, threads: int, *, repeats: int = 25, turns: int = TURNS, floats: int = FLOATS
) -> dict[str, float]:
    """The best of ``repeats`` runs on ``threads`` threads, by unit and for memory (see above).

    ``turns`` and ``floats`` are the work of a run: by default some 10 ms and 3 x 64 MiB.
    """
    use_threads(threads)
    found = {}
    for unit in (u for u in cpu.units if u in DOTS):
        loop: DotLoop | TileLoop = DotLoop(dot_on(cpu, unit), cpu.lanes, threads, turns)
        if unit in (Unit.INT8_TILE, Unit.BF16_TILE):
            loop = TileLoop(DOTS[unit], threads, max(1, turns // TILE_TURNS))
        found[unit.value] = loop.operations / GIGA / _best(loop, cpu, repeats)
    triad = Triad(cpu.lanes, floats)
    moved = sum(np.dtype(dtype).itemsize * n for dtype, n in triad.sizes)
    found[MEMORY] = moved / GIGA / _best(triad, cpu, repeats)
    return found


def _best(spec: DotLoop | TileLoop | Triad, cpu: CpuInfo, repeats: int) -> float:
    """Seconds of the fastest run; the first, which starts the threads, does not count."""
    compiled = compile_kernel(Kernel(spec, (), (), ()), cpu)
    arrays = compiled.copies(*(np.ones(n, dtype) for dtype, n in spec.sizes))
    compiled.run(*arrays)
    return min(_seconds(lambda: compiled.run(*arrays)) for _ in range(repeats))


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start

"""Vectors in memory: loads and stores of several lanes, loops over them, registers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tvm import tirx as tir

from ...tir.expr import Code, Expr, Index, i32, load, ramp, typed


def store(code: Code, buffer: Expr, index: Index, value: Expr, lanes: int = 1) -> None:
    """Write ``lanes`` consecutive elements."""
    code.store(buffer, ramp(index, lanes), value)


def splat(value: Expr | float, dtype: str, lanes: int = 1) -> Expr:
    """The same number in all lanes."""
    number = value if isinstance(value, Expr) else tir.const(value, dtype)
    return number if lanes == 1 else tir.Broadcast(number, lanes)


def cast(value: Expr, dtype: str, lanes: int = 1) -> Expr:
    """Convert the number in every lane."""
    return tir.Cast(typed(dtype, lanes), value)


def bits(value: Expr, dtype: str, lanes: int = 1) -> Expr:
    """The same bits as another type."""
    return tir.reinterpret(typed(dtype, lanes), value)


def least(a: Index, b: Index) -> Index:
    """The smaller of two indices."""
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else tir.min(a, b)


def powers(n: int, widest: int) -> Iterator[tuple[int, int]]:
    """Cut ``n`` elements into (offset, lanes), lanes being powers of two up to ``widest``."""
    done, lanes = 0, widest
    while done < n:
        while lanes > n - done:
            lanes //= 2
        yield done, lanes
        done += lanes


def vectors(code: Code, n: int, widest: int, body: Callable[[Index, int], None]) -> None:
    """Run ``body(offset, lanes)`` over ``n`` elements: a loop of wide vectors, then the rest."""
    whole = n // widest
    if whole > 1:
        with code.loop(whole) as i:
            body(i * widest, widest)
    elif whole:
        body(0, widest)
    for offset, lanes in powers(n - whole * widest, widest):
        body(whole * widest + offset, lanes)


def fill(code: Code, buffer: Expr, start: Index, n: int, value: float, widest: int) -> None:
    """Set ``n`` elements from ``start`` on."""
    dtype = str(buffer.dtype)

    def write(i: Index, lanes: int) -> None:
        store(code, buffer, start + i, splat(value, dtype, lanes), lanes)

    vectors(code, n, widest, write)


class Registers:
    """Accumulators: vectors that are indexed by constants alone, so that LLVM keeps each in one."""

    def __init__(self, code: Code, shape: Sequence[int], dtype: str, lanes: int) -> None:
        self.dtype, self.lanes = dtype, lanes
        count = 1
        for extent in shape:
            count *= extent
        self._code, self._shape = code, tuple(shape)
        self._vectors = [code.local(dtype, lanes) for _ in range(count)]

    def _at(self, place: Sequence[int]) -> Expr:
        flat = 0
        for i, extent in zip(place, self._shape, strict=True):
            flat = flat * extent + i
        return self._vectors[flat]

    def get(self, *place: int) -> Expr:
        """The vector at ``place``."""
        return load(self._at(place), 0, self.lanes)

    def set(self, value: Expr, *place: int) -> None:
        """Replace the vector at ``place``."""
        store(self._code, self._at(place), 0, value, self.lanes)


def split(index: Expr, *extents: int) -> list[Expr]:
    """Coordinates of a flat loop index; the last extent runs fastest."""
    out = []
    for extent in reversed(extents):
        out.append(i32(0) if extent == 1 else tir.floormod(index, extent))
        index = index if extent == 1 else tir.floordiv(index, extent)
    return out[::-1]

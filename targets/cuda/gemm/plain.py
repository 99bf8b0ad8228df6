"""Any GEMM, product by product: a thread, or for dW a block of threads, for each result.

What no faster way takes: depthwise convolutions, sums in an accumulator, formats of two bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

from tvm import tirx as tir

from ....compiler.ir.accumulation import Accumulation
from ...gemm.shapes import shape4
from ...tir.expr import Expr, Vectors, i32, load
from ...tir.half import rounded
from ..code import DeviceCode, Launch, launch
from .epilogue import finish
from .maps import Coordinates
from .operand import GemmSlots, StoredOperand
from .spec import DeviceGemm

THREADS = 256
Take = Callable[[Expr, Coordinates, Coordinates], None]
"""What becomes of a product: where it counts, and the places of its factors."""


def build_plain(spec: DeviceGemm) -> list[Launch]:
    """One launch."""

    def body(code: DeviceCode, slots: list[Expr]) -> None:
        with code.alone(None):
            _Plain(code, spec, GemmSlots.of(spec, slots)).run()

    return [launch(spec.parameters, THREADS, body)]


@dataclass(frozen=True, eq=False)
class _Plain:
    """The kernel of a spec."""

    code: DeviceCode
    spec: DeviceGemm
    slots: GemmSlots

    def run(self) -> None:
        """Append everything."""
        shape = shape4(self.spec.out)
        by_block = self.spec.weight_grad and self.spec.accumulation is None
        self.code.grid = prod(shape) if by_block else -(-prod(shape) // THREADS)
        if by_block:
            self._pixels(self._place(self.code.block, shape))
            return
        at = self.code.let(self.code.block * i32(THREADS) + self.code.thread, "int32", "at")
        with self.code.when(at < i32(prod(shape))):
            place = self._place(at, shape)
            how = self.spec.accumulation
            total = self._sum(place) if how is None else self._chunked(place, how)
            finish(self.code, self.spec, self.slots, total, place)

    def _place(self, at: Expr, shape: Sequence[int]) -> Coordinates:
        """N, C, H, W of a result, counted as they lie in memory with channels last."""
        rest, places = at, []
        for d in (1, 3, 2):
            name = self.code.let(tir.floormod(rest, i32(shape[d])), "int32", "place")
            rest = tir.floordiv(rest, i32(shape[d]))
            places.append(name)
        c, w, h = places
        return self.code.let(rest, "int32", "place"), c, h, w

    def _sum(self, place: Coordinates) -> Expr:
        """All products of one result."""
        sums = self._zero()
        self._taps(place, lambda inside, a, b: self._add(sums, inside, a, b))
        return self._narrow(load(sums, i32(0)))

    def _pixels(self, place: Coordinates) -> None:
        """A result of dW: threads take pixels in turn, and their sums are joined in a tree."""
        code, sums = self.code, self._zero()
        _, _, h, w = shape4(self.spec.a)
        count = shape4(self.spec.a)[0] * h * w
        with code.strided(count) as pixel:
            self._pixel(place, pixel, lambda inside, a, b: self._add(sums, inside, a, b))
        dtype = "int64" if self.spec.in_integers else "float64"
        own = tir.Cast(dtype, load(sums, i32(0)))
        total = code.tree(own, dtype, lambda x, y: x + y)
        with code.when(code.thread.equal(i32(0))):
            finish(code, self.spec, self.slots, self._narrow(total), place)

    def _zero(self) -> Expr:
        dtype = "int64" if self.spec.in_integers else "float32"
        sums = self.code.local(dtype, 1)
        self.code.store(sums, i32(0), tir.const(0, dtype))
        return sums

    def _narrow(self, total: Expr) -> Expr:
        """A sum in f32; minus zero becomes zero as in the reference."""
        v = Vectors(self.code, 1)
        return v.add(v.f(v.cast(total, "float32")), v.splat(0.0))

    def _add(self, sums: Expr, inside: Expr, a: Coordinates, b: Coordinates) -> None:
        """One product more."""
        code, v = self.code, Vectors(self.code, 1)
        with code.when(inside):
            if self.spec.in_integers:
                x, w = (s.integer(p) for s, p in zip(self._operands(), (a, b), strict=True))
                product = v.cast(x * w, "int64")
                code.store(sums, i32(0), load(sums, i32(0)) + product)
            else:
                product = v.mul(*self._numbers(a, b))
                code.store(sums, i32(0), load(sums, i32(0)) + product)

    def _operands(self) -> tuple[StoredOperand, StoredOperand]:
        spec, slots = self.spec, self.slots
        return StoredOperand(self.code, slots.a, spec.a), StoredOperand(self.code, slots.b, spec.b)

    def _numbers(self, a: Coordinates, b: Coordinates) -> tuple[Expr, Expr]:
        """Both factors in f32; weights with the scale of a channel that is summed over."""
        v = Vectors(self.code, 1)
        x, w = (s.number(p) for s, p in zip(self._operands(), (a, b), strict=True))
        if self.spec.scaled_rows:
            w = v.mul(w, v.f(load(self.slots.b_scale, b[0])))
        return x, w

    def _chunked(self, place: Coordinates, how: Accumulation) -> Expr:
        """Product after product as an accumulator adds them; zeros of the border count."""
        code, v = self.code, Vectors(self.code, 1)
        part, total, count = (code.local(t, 1) for t in ("float32", "float32", "int32"))
        for buffer, dtype in ((part, "float32"), (total, "float32"), (count, "int32")):
            code.store(buffer, i32(0), tir.const(0, dtype))

        def close() -> None:
            new = v.add(v.f(load(total, i32(0))), v.f(load(part, i32(0))))
            code.store(total, i32(0), rounded(v, new, how.numbers))
            code.store(part, i32(0), v.splat(0.0))
            code.store(count, i32(0), i32(0))

        def take(inside: Expr, a: Coordinates, b: Coordinates) -> None:
            product = code.local("float32", 1)
            code.store(product, i32(0), v.splat(0.0))
            with code.when(inside):
                code.store(product, i32(0), v.mul(*self._numbers(a, b)))
            new = v.add(v.f(load(part, i32(0))), v.f(load(product, i32(0))))
            code.store(part, i32(0), rounded(v, new, how.numbers))
            if how.chunk:
                code.store(count, i32(0), load(count, i32(0)) + i32(1))
                with code.when(load(count, i32(0)).equal(i32(how.chunk))):
                    close()

        if self.spec.weight_grad:
            _, _, h, w = shape4(self.spec.a)
            with code.loop(shape4(self.spec.a)[0] * h * w) as pixel:
                self._pixel(place, pixel, take)
        else:
            self._taps(place, take)
        close()
        return self._narrow(v.f(load(total, i32(0))))

    def _pixel(self, place: Coordinates, pixel: Expr, take: Take) -> None:
        """The product of one pixel of dY, for a result of dW."""
        spec, code = self.spec, self.code
        k, c, r, s = place
        (_, channels, rows, columns), (_, summed, height, width) = (
            shape4(spec.a),
            shape4(spec.b),
        )
        n, p, q = _unravel(pixel, rows, columns)
        g = tir.floordiv(k, i32(channels // spec.groups))
        h = code.let(self._seen(0, p, r), "int32", "h")
        w = code.let(self._seen(1, q, s), "int32", "w")
        inside = _within((h, height), (w, width))
        own = g * i32(summed // spec.groups) + c
        take(inside, (n, k, p, q), (n, own, h, w))

    @contextmanager
    def _kernel(self) -> Iterator[tuple[Expr, Expr]]:
        """All taps, row by row."""
        _, _, rows, columns = shape4(self.spec.b)
        with self.code.loop(rows) as r, self.code.loop(columns) as s:
            yield r, s

    def _taps(self, place: Coordinates, take: Take) -> None:
        """The products of one result of forward or dX."""
        spec, code = self.spec, self.code
        n, channel, y, x = place
        forward = spec.direction == "forward"
        _, summed, height, width = shape4(spec.a)
        kept = shape4(spec.out)[1] // spec.groups
        g, own = tir.floordiv(channel, i32(kept)), tir.floormod(channel, i32(kept))
        each = summed // spec.groups
        with self._kernel() as (r, s):
            find = self._seen if forward else self._seeing
            h, w = code.let(find(0, y, r), "int32", "h"), code.let(find(1, x, s), "int32", "w")
            inside = _within((h, height), (w, width))
            with code.loop(each) as i:
                first = g * i32(each) + i
                weight = (channel, i, r, s) if forward else (first, own, r, s)
                take(inside, (n, first, h, w), weight)

    def _seen(self, d: int, place: Expr, tap: Expr) -> Expr:
        """The pixel that a tap of an output pixel sees."""
        spec = self.spec
        return place * i32(spec.stride[d]) + tap * i32(spec.dilation[d]) - i32(spec.padding[d])

    def _seeing(self, d: int, pixel: Expr, tap: Expr) -> Expr:
        """The output pixel whose tap sees a pixel; -1 where there is none."""
        spec = self.spec
        reach = pixel + i32(spec.padding[d]) - tap * i32(spec.dilation[d])
        stride = i32(spec.stride[d])
        fits = tir.all(reach >= i32(0), tir.floormod(reach, stride).equal(i32(0)))
        return tir.Select(fits, tir.floordiv(reach, stride), i32(-1))


def _unravel(pixel: Expr, rows: int, columns: int) -> tuple[Expr, Expr, Expr]:
    line = tir.floordiv(pixel, i32(columns))
    return (
        tir.floordiv(line, i32(rows)),
        tir.floormod(line, i32(rows)),
        tir.floormod(pixel, i32(columns)),
    )


def _within(*places: tuple[Expr, int]) -> Expr:
    return tir.all(*(x >= i32(0) for x, _ in places), *(x < i32(size) for x, size in places))

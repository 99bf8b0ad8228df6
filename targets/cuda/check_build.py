"""The kernel of ``check``."""

from __future__ import annotations

from tvm import tirx as tir

from ..tir.expr import Expr, Vectors, i32, load
from ..tir.formats import is_nan
from .code import DeviceCode, Launch, launch

THREADS, TURNS = 256, 8


def build(dtype: str, elements: int, ends: tuple[float, float], ignore: int | None) -> list[Launch]:
    """Every number, by some thread; all that find a wrong one write the same."""

    def wrong(code: DeviceCode, x: Expr) -> Expr:
        low, high = (int(end) if dtype.startswith("int") else end for end in ends)
        outside = tir.Or(x < tir.const(low, dtype), x > tir.const(high, dtype))
        if dtype == "float32":
            # TVM takes "not a >= b" for "a < b", which of NaN it is not.
            outside = tir.Or(outside, is_nan(Vectors(code, 1), x))
        if ignore is None:
            return outside
        return tir.all(outside, tir.NE(x, tir.const(ignore, dtype)))

    def body(code: DeviceCode, pointers: list[Expr]) -> None:
        numbers, now, since = pointers
        code.grid = max(1, -(-elements // (THREADS * TURNS)))
        step = code.grid * THREADS
        with code.alone(None), code.loop(-(-elements // step)) as turn:
            at = code.let(turn * i32(step) + code.block * i32(THREADS) + code.thread, "int32")
            with code.when(at < i32(elements)):
                x = code.let(load(numbers, at), dtype)
                with code.when(wrong(code, x)):
                    for answer in (now, since):
                        code.store(answer, i32(0), tir.const(1, "uint32"))

    return [launch([(dtype, elements), ("uint32", 1), ("uint32", 1)], THREADS, body)]

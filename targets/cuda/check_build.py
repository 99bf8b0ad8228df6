"""The kernel of ``check``."""

from __future__ import annotations

from tvm import tirx as tir

from ..tir.expr import Expr, i32, load
from .check import CheckSpec
from .code import DeviceCode, Launch, launch

THREADS, TURNS = 256, 8


def build(spec: CheckSpec) -> list[Launch]:
    """Every number, by some thread; all that find one write the same."""

    def wrong(x: Expr) -> Expr:
        integer = spec.dtype.startswith("int")
        low, high = (int(end) if integer else end for end in (spec.low, spec.high))
        inside = tir.all(x >= tir.const(low, spec.dtype), x <= tir.const(high, spec.dtype))
        if spec.ignore is not None:
            inside = tir.Or(inside, x.equal(tir.const(spec.ignore, spec.dtype)))
        return tir.Not(inside)

    def body(code: DeviceCode, pointers: list[Expr]) -> None:
        numbers, now, since = pointers
        code.grid = max(1, -(-spec.elements // (THREADS * TURNS)))
        step = code.grid * THREADS
        with code.alone(None), code.loop(-(-spec.elements // step)) as turn:
            at = code.let(turn * i32(step) + code.block * i32(THREADS) + code.thread, "int32")
            with code.when(at < i32(spec.elements)):
                x = code.let(load(numbers, at), spec.dtype)
                with code.when(wrong(x)):
                    for answer in (now, since):
                        code.store(answer, i32(0), tir.const(1, "uint32"))

    return [launch([(spec.dtype, spec.elements), ("uint32", 1), ("uint32", 1)], THREADS, body)]

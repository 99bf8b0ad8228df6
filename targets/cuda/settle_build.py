"""The kernel of ``settle``."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx as tir

from ..tir.expr import Expr, i32, load
from .code import DeviceCode, Launch, launch

THREADS, MOST_BLOCKS = 256, 1024


def build(
    words: int, counter: tuple[int, int], reacting: Sequence[tuple[int, int]], answers: int
) -> list[Launch]:
    """Words of the old block over those of the new one, if its counter is another.

    ``counter`` and ``reacting`` are places and numbers of words.
    """
    count, width = counter

    def kept(i: Expr, old: Expr) -> Expr:
        """Whether a word of the new block stays: of the count, or of a scale that was set."""
        within = tir.all(i >= i32(count), i < i32(count + width))
        for first, numbers in reacting:
            mine = tir.all(i >= i32(first), i < i32(first + numbers))
            # Of -0 the sign is all that is there.
            was_set = tir.NE(old & tir.const(0x7FFFFFFF, "uint32"), tir.const(0, "uint32"))
            within = tir.Or(within, tir.all(mine, was_set))
        return within

    def body(code: DeviceCode, blocks: list[Expr]) -> None:
        old, new, *told = blocks
        code.grid = min(MOST_BLOCKS, -(-words // THREADS))
        step = code.grid * THREADS
        pairs = [(load(old, i32(count + k)), load(new, i32(count + k))) for k in range(width)]
        zero = tir.const(0, "uint32")
        answered = [load(answer, i32(k)) for answer in told for k in range(answers)]
        refused = tir.any(tir.const(False), *(tir.NE(x, zero) for x in answered))
        skipped = tir.any(refused, *(tir.NE(a, b) for a, b in pairs))
        with code.alone(None), code.when(skipped), code.loop(-(-words // step)) as turn:
            i = code.let(turn * i32(step) + code.block * i32(THREADS) + code.thread, "int32")
            with code.when(i < i32(words)):
                before = code.let(load(old, i), "uint32")
                with code.when(tir.Or(refused, tir.Not(kept(i, before)))):
                    code.store(new, i, before)

    behind = [("uint32", answers)] if answers else []
    return [launch([("uint32", words)] * 2 + behind, THREADS, body)]

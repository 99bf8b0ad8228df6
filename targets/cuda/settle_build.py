"""The kernel of ``settle``."""

from __future__ import annotations

from tvm import tirx as tir

from ..tir.expr import Expr, i32, load
from .code import DeviceCode, Launch, launch
from .settle import WORD, Settle

THREADS, MOST_BLOCKS = 256, 1024


def build(spec: Settle) -> list[Launch]:
    """Words of the old block over those of the new one, if its count is another."""
    words = spec.bytes // WORD
    count, width = spec.count // WORD, spec.width // WORD

    def kept(i: Expr, old: Expr) -> Expr:
        """Whether a word of the new block stays: of the count, or of a scale that was set."""
        within = tir.all(i >= i32(count), i < i32(count + width))
        for place, numbers in spec.reacting:
            first = place // WORD
            mine = tir.all(i >= i32(first), i < i32(first + numbers))
            # Of -0 the sign is all that is there.
            was_set = tir.NE(old & tir.const(0x7FFFFFFF, "uint32"), tir.const(0, "uint32"))
            within = tir.Or(within, tir.all(mine, was_set))
        return within

    def body(code: DeviceCode, blocks: list[Expr]) -> None:
        old, new = blocks
        code.grid = min(MOST_BLOCKS, -(-words // THREADS))
        step = code.grid * THREADS
        pairs = [(load(old, i32(count + k)), load(new, i32(count + k))) for k in range(width)]
        skipped = tir.any(*(tir.NE(a, b) for a, b in pairs))
        with code.alone(None), code.when(skipped), code.loop(-(-words // step)) as turn:
            i = code.let(turn * i32(step) + code.block * i32(THREADS) + code.thread, "int32")
            with code.when(i < i32(words)):
                before = code.let(load(old, i), "uint32")
                with code.when(tir.Not(kept(i, before))):
                    code.store(new, i, before)

    return [launch([("uint32", words)] * 2, THREADS, body)]

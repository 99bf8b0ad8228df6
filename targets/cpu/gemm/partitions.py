"""Partitions: chunks of a weight gradient are summed apart in parallel, or one after the other.

Small results are summed in partitions, each a fixed run of chunks with sums of its own, in
parallel, and the partitions are added in order. Large results are summed chunk after chunk, each
by all threads. Both orders follow from the shapes alone, so float results do not depend on the
threads.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

from ...tir.expr import Code, Expr, Index, i32

PARTITIONS = 16

Memory = TypeVar("Memory")


def apart(chunks: int, result_bytes: int, most: int) -> bool:
    """Whether up to ``chunks`` chunks are summed in partitions, of ``result_bytes`` each: in all
    they take ``most`` bytes."""
    return min(PARTITIONS, chunks) * result_bytes <= most


@dataclass(frozen=True, slots=True)
class Partitions:
    """``count`` runs of ``each`` of the ``chunks``; the one run of ``shared`` ones has them all."""

    chunks: int
    count: int
    each: int
    shared: bool

    @classmethod
    def of(cls, chunks: int, *, shared: bool) -> Partitions:
        """The partitions of so many chunks."""
        if shared:
            return cls(chunks, 1, chunks, True)
        each = -(-chunks // min(PARTITIONS, chunks))
        return cls(chunks, -(-chunks // each), each, False)

    def loop(self, code: Code, count: int) -> AbstractContextManager[Expr]:
        """A loop within a chunk: the threads share it where they work on one chunk together."""
        return code.blocks(count) if self.shared else code.loop(count)

    def emit(
        self,
        code: Code,
        scratch: Callable[[], AbstractContextManager[Memory]],
        clear: Callable[[Index], None],
        add: Callable[[Memory, Index, Expr], None],
    ) -> None:
        """``clear`` the sums of each partition, then ``add`` its chunks (partition, chunk)."""
        if self.shared:
            clear(0)
            with scratch() as memory, code.loop(self.chunks) as chunk:
                add(memory, i32(0), chunk)
            return
        with code.blocks(self.count) as partition, scratch() as memory:
            clear(partition)
            with code.loop(self.each) as i:
                chunk = partition * self.each + i
                with code.when(chunk < self.chunks):
                    add(memory, partition, chunk)

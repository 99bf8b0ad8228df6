"""What a loop over time steps needs of memory: which values are kept of how many steps, and where.

    value of each step              kept                        written
    read in its own loop alone      of one step                 in each step again
    carried, with what feeds it     of two steps by turns       ahead of the loop, then a step ago
    of rows, counters, and what is  of all steps; of what is    each to a place of its own
    read in another loop or behind  carried one more

Steps lie a multiple of a cache line apart, so that kernels find them as they find other buffers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...compiler.ir import Op, Value
from ...compiler.ir.loops import CARRIED, FEED, Loop, ProgramLoops
from .kernel import Kernel, Slot
from .memory import aligned


@dataclass(frozen=True, slots=True)
class Track:
    """The places of one value in the steps of a loop: ``slots`` of them, ``pitch`` bytes apart.

    ``shift`` is 1 where step t lies at place t + 1; ``bytes`` are those of one step.
    """

    loop: Loop
    bytes: int
    pitch: int
    slots: int
    shift: int

    def at(self, t: int) -> tuple[int, int]:
        """Where step ``t`` begins, in bytes, and how long it is."""
        return (t + self.shift) % self.slots * self.pitch, self.bytes

    def border(self, op: Op, slot: Slot) -> tuple[int, int]:
        """The same of what an op at the border of the loop reads or writes there."""
        if op.kind == CARRIED or slot.scale:
            return self.at(self.loop.order[0])
        if op.kind == FEED:
            return self.at(self.loop.order[-1])
        return self.shift * self.pitch, self.loop.count * self.pitch


class StepPlaces:
    """The values of each step in the kernels of a plan, each with the loop that it runs in."""

    def __init__(
        self,
        found: ProgramLoops,
        kernels: Sequence[tuple[Loop | None, Kernel]],
        source: Callable[[Value], Value],
    ) -> None:
        self._loops = found
        self._fed = {source(feed.inputs[1]): x for x, feed in found.feeds.items()}
        self._ends: dict[Loop, tuple[int, int]] = {}
        self._whole: set[Value] = set()  # kept of all steps
        self._kernels = kernels
        for i, (loop, kernel) in enumerate(kernels):
            if loop:
                first, _ = self._ends.setdefault(loop, (i, i))
                self._ends[loop] = first, i
            for slot in kernel.slots if found.of else ():
                self._see(source(slot.value), loop, kernel)

    def _see(self, v: Value, loop: Loop | None, kernel: Kernel) -> None:
        own = self._loops.of.get(v)
        if own is None or loop is own:
            return
        if loop or kernel.ops[0].kind not in (CARRIED, FEED):
            self._whole.add(self.home(v))

    def home(self, v: Value) -> Value:
        """The value whose memory it shares: what feeds a loop lies where it is carried to."""
        return self._fed.get(v, v)

    def span(self, base: Slot, i: int) -> tuple[int, int]:
        """From which kernel to which a buffer must live that kernel ``i`` uses."""
        loop, own = self._kernels[i][0], self._loops.of.get(base.value)
        if own is None:
            return self._ends[loop] if loop else (i, i)
        kept = base.value in self._whole or base.value in self._loops.feeds
        if not kept:
            return i, i
        first, last = self._ends.get(own, (i, i))
        later = self._ends[loop][1] if loop else i
        return min(first, i), max(last, later)

    def track(self, v: Value, size: int) -> Track | None:
        """The places of a value of each step; None of other values."""
        loop = self._loops.of.get(v)
        if loop is None:
            return None
        home = self.home(v)
        carried = home in self._loops.feeds
        slots = (loop.count if home in self._whole else 1) + carried
        # Going up, what is carried to step t lies at t and what is made there at t + 1.
        shift = int(carried and (home is v) == loop.reverse)
        return Track(loop, size, aligned(size), slots, shift)

"""The end of a step on the device: whether it is applied is decided there.

The state of before goes over the new one where the step counted itself as not to be applied; then
the new block is the state in either case, and nobody has to look.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..plan.layout import Layout, Order
from ..plan.state import Unapplied

if TYPE_CHECKING:
    from .code import Launch

WORD = 4


@dataclass(frozen=True, slots=True)
class Settle:
    """See ``KernelSpec``: takes the old block, the new one, of ``bytes``, and ``answers``.

    Those are the words of ``check``: where one is not 0, nothing of the step is kept. ``count`` is
    the place of the counter, of ``width`` bytes; ``reacting`` are places and numbers of f32.
    """

    bytes: int
    count: int
    width: int
    reacting: tuple[tuple[int, int], ...]
    answers: int

    @property
    def name(self) -> str:
        """What it does."""
        return "settle"

    def build(self) -> list[Launch]:
        """One launch."""
        from .settle_build import build

        at = self.count // WORD, self.width // WORD
        reacting = [(place // WORD, numbers) for place, numbers in self.reacting]
        return build(self.bytes // WORD, at, reacting, self.answers)


def settle_of(kept: Unapplied, answers: int) -> Settle | None:
    """What settles steps of a state; None where all are applied."""
    layout = kept.layout
    if not kept.count:
        return Settle(layout.bytes, 0, 0, (), answers) if answers else None
    count = Layout(layout.types[kept.count], Order.ROWS)
    reacting = tuple(
        (layout.offsets[name], Layout(layout.types[name], Order.ROWS).bytes // WORD)
        for name in kept.reacting
    )
    return Settle(layout.bytes, layout.offsets[kept.count], count.bytes, reacting, answers)

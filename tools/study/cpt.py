"""What cyclic precision saves, by arithmetic: the settings of the paper or one's own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from ...compiler.errors import UsageError
from ...runtime.report.cyclic_cost import Cyclic
from ...runtime.report.tables import table

# The settings that Fu et al. (CPT, ICLR 2021) train, and the iterations of their CIFAR cycles.
PUBLISHED = ("3-8/8", "3-6/6", "4-8/8", "4-6/6", "5-8/8", "5-6/8", "3-4/6", "4-6/8")
LENGTH = 2000
# Bits of affine quantizers: of weights and activations, and of gradients.
FORWARD, BACKWARD = range(2, 9), range(2, 17)


@dataclass(frozen=True, slots=True)
class CyclicSetting:
    """Forward bits that cycle, beside constant gradient bits: ``3-8/8``."""

    schedule: Cyclic
    backward: int

    @property
    def label(self) -> str:
        """As it is written."""
        return f"{self.schedule.least}-{self.schedule.most}/{self.backward}"

    @property
    def static(self) -> str:
        """What it is compared with: the most bits all the time."""
        return f"{self.schedule.most}/{self.backward}"

    def to_dict(self) -> dict[str, object]:
        """Plain data; ``saving`` is a share (0..1)."""
        return {
            "setting": self.label,
            "static": self.static,
            "iterations": self.schedule.length,
            "saving": self.schedule.saving(self.backward),
            "spent": {str(b): n for b, n in self.schedule.spent().items()},
        }


def read_setting(word: str, length: int) -> CyclicSetting:
    """The setting ``MIN-MAX/BACKWARD``; UsageError for another form, or bits no quantizer has."""
    found = re.fullmatch(r"(\d{1,2})-(\d{1,2})/(\d{1,2})", word)
    if found is None:
        raise UsageError(f"{word!r} is no setting; one reads MIN-MAX/GRADIENTS in bits, like 3-8/8")
    least, most, backward = map(int, found.groups())
    for bits, known, what in (
        (least, FORWARD, "weights"), (most, FORWARD, "weights"), (backward, BACKWARD, "gradients")
    ):  # fmt: skip
        if bits not in known:
            raise UsageError(f"{word}: {what} have {known[0]} to {known[-1]} bits, not {bits}")
    return CyclicSetting(Cyclic(least, most, length), backward)


def cpt_table(settings: Sequence[CyclicSetting]) -> Table:
    """A line a setting."""
    right = ("bit operations", "iterations at each number of bits")
    made = table("One cycle of precision", "bits", "against", *right, right=right[:1])
    for s in settings:
        spent = ", ".join(f"{b}: {n}" for b, n in s.schedule.spent().items())
        made.add_row(s.label, s.static, f"{0.0 - 100 * s.schedule.saving(s.backward):.2f} %", spent)
    return made

"""What a model is judged by: one recipe, whether it compiles, agrees, and what it costs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

RECIPES = ("fp32", "bf16", "ultra_low_4bit", "sbm8")
# Of float64, for fp32; or so many times as far as PyTorch in float32 is.
NEAR, OWN = 1e-4, 3.0


@dataclass(frozen=True)
class Verdict:
    """One model under one recipe.

    ``level`` says how far it was taken: ``built`` for this CPU and run, ``reference``: planned for
    cpu and cuda, numbers from the reference target, ``planned``: no numbers. ``why`` is the sentence
    of a refusal. ``distance`` and ``own`` are how far gradients (the worst parameter) and loss are
    from float64, of the step and of PyTorch in float32. Times are those of built steps.
    """

    group: str
    model: str
    recipe: str
    level: str = ""
    why: str = ""
    ops: int = 0
    draws: bool = False
    distance: float | None = None
    own: float | None = None
    four_bits: float | None = None
    kept: int | None = None
    seconds: float | None = None
    step: float | None = None
    eager: float | None = None

    @property
    def compiles(self) -> bool:
        """Whether there is a step, with a kernel for all of its ops."""
        return not self.why

    @property
    def agrees(self) -> bool | None:
        """Whether ``fp32`` is where it should be; None where there are no numbers to compare."""
        if self.distance is None or self.own is None:
            return None
        return self.distance <= max(NEAR, OWN * self.own)


def read(path: Path) -> dict[tuple[str, str, str], Verdict]:
    """All verdicts of a file, the last one of each model and recipe."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        v = Verdict(**json.loads(line))
        found[v.group, v.model, v.recipe] = v
    return found


def lines(verdicts: Iterable[Verdict]) -> Iterator[str]:
    """A line of JSON for each."""
    yield from (json.dumps(asdict(v)) for v in verdicts)

"""What a study found out: a row a recipe, and the same as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from ..bench.stats import Spread, ratio, spread
from ..progress import finite, perplexity
from .entry import Entry
from .folder import Result
from .plan import Script


@dataclass(frozen=True, slots=True)
class RecipeRow:
    """One recipe: a result a seed, and its time beside the baseline's where that was measured.

    A result is what a file of the study's folder holds; one with an ``error`` holds nothing else.
    """

    entry: Entry
    trained: tuple[Result, ...]
    time: Result | None = None

    @property
    def failures(self) -> list[tuple[str, str]]:
        """Parts (``seed0``, ``time``) that failed, and why."""
        parts = [*self.trained, *([self.time] if self.time else [])]
        return [(p["part"], p["error"]) for p in parts if p.get("error")]

    @property
    def accuracies(self) -> list[float]:
        """Test accuracy (0..1) of each seed that ended well."""
        return [t["accuracy"] for t in self.trained if not t.get("error")]

    @property
    def accuracy(self) -> float | None:
        """The mean over the seeds."""
        return mean(self.accuracies) if self.accuracies else None

    @property
    def perplexities(self) -> list[float]:
        """Of the test part, for each seed that ended well; empty where the data are no text."""
        well = [t for t in self.trained if not t.get("error") and "test_loss" in t]
        return [perplexity(t["test_loss"]) for t in well]

    def shown(self, script: Script) -> list[float]:
        """What rows are compared by, for each seed: of text perplexities, else accuracies in %."""
        return self.perplexities if script.tokens else [100 * a for a in self.accuracies]

    def by_seed(self, script: Script) -> dict[str, float]:
        """The same by the part that says the seed."""
        well = [t["part"] for t in self.trained if not t.get("error")]
        return dict(zip(well, self.shown(script), strict=True))

    @property
    def loss(self) -> float | None:
        """Of training in the last epoch, the mean over the seeds."""
        well = [t["loss"] for t in self.trained if not t.get("error")]
        return mean(well) if well else None

    @property
    def curves(self) -> list[list[float]]:
        """The loss of training in parts of equal length, for each seed that ended well."""
        return [t.get("curve", []) for t in self.trained if not t.get("error")]

    @property
    def bill(self) -> dict[str, Any] | None:
        """The shortened bill of a step."""
        return next((t["bill"] for t in self.trained if not t.get("error")), None)

    def giga(self, script: Script) -> float | None:
        """GBitOPs of a whole training, the mean over the seeds."""
        well = [t for t in self.trained if not t.get("error")]
        if not well:
            return None
        stored = well[0]["bill"]["bit_operations"]["giga_per_step"]
        return mean(float(t.get("giga_per_step", stored)) for t in well) * script.steps

    def share(self, script: Script) -> float | None:
        """Bit operations (0..1) of those of the same training in f32."""
        spent, bill = self.giga(script), self.bill
        if spent is None or bill is None:
            return None
        stored = bill["bit_operations"]
        per_step = float(stored["giga_per_step"])
        whole = per_step * script.steps
        return float(stored["share_of_f32"]) * spent / whole if whole else 0.0

    @property
    def seconds(self) -> Spread | None:
        """Seconds a step."""
        return spread(self.time["rounds"]) if self.time and not self.time.get("error") else None

    @property
    def speed(self) -> Spread | None:
        """How many times faster a step is than the baseline's, in the same rounds."""
        if self.time is None or self.time.get("error"):
            return None
        return ratio(self.time["baseline_rounds"], self.time["rounds"])

    def to_dict(self, script: Script) -> dict[str, object]:
        """Plain data; accuracies and shares 0..1, seconds, bytes."""
        found, seconds, speed = self.accuracies, self.seconds, self.speed
        bill = self.bill or {}
        return {
            "recipe": self.entry.recipe,
            "options": dict(self.entry.options),
            "own": dict(self.entry.own),
            "hash": self.entry.digest,
            "failures": [{"part": part, "why": why} for part, why in self.failures],
            "accuracies": found,
            "accuracy": self.accuracy,
            "accuracy_low": min(found, default=None),
            "accuracy_high": max(found, default=None),
            "loss": self.loss,
            "perplexities": [finite(p) for p in self.perplexities],
            "curves": self.curves,
            "skipped_steps": [t.get("skipped", 0) for t in self.trained if not t.get("error")],
            "gbitops": self.giga(script),
            "share_of_f32": self.share(script),
            "precision": [t.get("precision", {}) for t in self.trained if not t.get("error")],
            "bit_operations": bill.get("bit_operations"),
            "widths": bill.get("widths"),
            "classes": bill.get("classes"),
            "exempt_share": bill.get("exempt_share"),
            "saved_bytes": bill.get("saved_bytes"),
            "planned_bytes": bill.get("planned_bytes"),
            "seconds_per_step": seconds.median if seconds else None,
            "times_faster": speed.median if speed else None,
            "times_faster_quartiles": [speed.low, speed.high] if speed else None,
        }


def in_order(rows: Sequence[RecipeRow], script: Script) -> list[RecipeRow]:
    """Rows by bit operations, the dearest first; those without come last."""
    return sorted(rows, key=lambda r: -(r.giga(script) or 0.0))

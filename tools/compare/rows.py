"""What a comparison says: a row for each value of two programs, in program order, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum

from .distance import Gap

END = "end"  # the region of outputs and next states


class Where(Enum):
    """Which sides a value can be compared on."""

    BOTH = "both"
    ONLY_A = "only in A"
    ONLY_B = "only in B"
    # There, but handed on in registers by fused ops, or a target lets only ends be seen.
    HIDDEN = "hidden"
    SHAPES = "other shape"


@dataclass(frozen=True, slots=True)
class ValueRow:
    """One value by its name: where it stands, its types, and how far B's is from A's.

    ``region`` is input, state or that of its op; a type is empty where the side has no such value.
    ``distance`` is there where both sides show it in one shape. ``again`` marks an end, an output
    or a next state, that has a row under its value's own name as well.
    """

    name: str
    region: str
    layer: str
    op: str
    type_a: str
    type_b: str
    where: Where
    distance: Gap | None
    again: bool = False

    def parts(self, tolerance: float) -> bool:
        """Whether the two are seen to differ, by more than ``tolerance`` (0: at all)."""
        if self.distance is None:
            return self.where is Where.SHAPES
        return not self.distance.within(tolerance)

    def to_dict(self) -> dict[str, object]:
        """Plain numbers and words."""
        return {**asdict(self), "where": self.where.value}


@dataclass(frozen=True, slots=True)
class Line:
    """The op of one side that made a value: its text, its kernel, what it reads."""

    text: str
    kernel: str
    reads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Parting:
    """Where two programs part first: the value, and the op of each side that made it."""

    row: ValueRow
    a: Line
    b: Line


@dataclass(frozen=True, slots=True)
class ComparisonRows:
    """Two programs on one batch from one state; ``rows`` are in program order.

    ``first`` is where they part by more than ``tolerance`` (0: at all), None where nowhere.
    """

    a: str
    b: str
    tolerance: float
    rows: tuple[ValueRow, ...]
    first: Parting | None

    @property
    def parted(self) -> tuple[ValueRow, ...]:
        """The rows that differ by more than the tolerance."""
        return tuple(r for r in self.rows if r.parts(self.tolerance) and not r.again)

    def to_dict(self) -> dict[str, object]:
        """Plain numbers, words, lists and dictionaries."""
        first = None
        if self.first is not None:
            lines = {"op_a": asdict(self.first.a), "op_b": asdict(self.first.b)}
            first = {"name": self.first.row.name, **lines}
        rows = [row.to_dict() for row in self.rows]
        return {
            "a": self.a, "b": self.b, "tolerance": self.tolerance, "first": first, "rows": rows,
        }  # fmt: skip

"""What one training step costs, as data: GEMMs, saved values, conversions, and how it was made."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ...compiler.saved import Kept
from ...compiler.types import Shape
from .bit_operations import BitOperations, bit_operations
from .op_counts import OpCount

NO_UNIT = "-"
FOUR_BITS, EIGHT_BITS = 4, 8


@dataclass(frozen=True, slots=True)
class GemmLine:
    """One GEMM: its layer and direction, storage of both operands, what multiplies, its MACs.

    ``elements`` are how many numbers each operand has; the first of dX and dW is the gradient.
    """

    layer: str
    direction: str
    operands: tuple[str, str]
    bits: tuple[int, int]
    elements: tuple[int, int]
    unit: str
    macs: int
    share: float
    exempt: bool

    @property
    def formats(self) -> str:
        """The format class: ``uint4 x int4``."""
        return " x ".join(o.partition("*")[0] for o in self.operands)

    @property
    def bit_operations(self) -> int:
        """Bits of one operand times bits of the other, for each MAC."""
        return self.bits[0] * self.bits[1] * self.macs

    @property
    def four_bit(self) -> bool:
        """Whether both operands are stored in at most four bits."""
        return max(self.bits) <= FOUR_BITS

    @property
    def eight_bit(self) -> bool:
        """Whether both operands are stored in at most eight bits, and not both in four."""
        return FOUR_BITS < max(self.bits) <= EIGHT_BITS


@dataclass(frozen=True, slots=True)
class ClassLine:
    """All GEMMs of one format class on one unit: their number, MACs and share of the step."""

    formats: str
    unit: str
    gemms: int
    macs: int
    share: float


@dataclass(frozen=True, slots=True)
class SavedLine:
    """A value that backward reads: format with scale, shape, bytes; ``kind`` says where it is from.

    ``kind`` is ``batch`` (a program input), ``weights`` (computed from state alone) or
    ``activation``.
    """

    name: str
    layer: str
    format: str
    shape: Shape
    bytes: int
    kind: str


@dataclass(frozen=True, slots=True)
class ConversionLine:
    """Elements that one kind of op converts per step between two formats."""

    op: str
    source: str
    result: str
    tensors: int
    elements: int


@dataclass(frozen=True, slots=True)
class Making:
    """How the program came about: recipe with options and hash, target, passes, waivers."""

    recipe: str = NO_UNIT
    options: tuple[tuple[str, str], ...] = ()
    digest: str = NO_UNIT
    target: str = NO_UNIT
    passes: tuple[str, ...] = ()
    waivers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Costs:
    """What one training step costs and how it computes.

    ``torch_saved`` is None where PyTorch was not asked; ``planned_bytes`` is
    what the target's memory plan keeps between forward and backward, None without a plan;
    ``samples`` is the size of the batch; ``spent_giga`` are, of a program whose bits change while
    it runs, the mean GBitOPs of its steps so far. ``kept_states`` are the bytes of what the
    optimizer keeps, as they are stored and as f32; ``ops`` are all ops in numbers.
    """

    program: str
    making: Making
    gemms: tuple[GemmLine, ...]
    saved: tuple[SavedLine, ...]
    torch_saved: tuple[Kept, ...] | None
    conversions: tuple[ConversionLine, ...]
    planned_bytes: int | None = None
    samples: int = 1
    spent_giga: float | None = None
    kept_states: tuple[int, int] = (0, 0)
    ops: tuple[OpCount, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole step."""
        return sum(g.macs for g in self.gemms)

    @property
    def bit_operations(self) -> BitOperations:
        """What the multiplications cost by the bits of their operands."""
        return bit_operations(((g.bits, g.macs) for g in self.gemms), self.samples)

    @property
    def four_bit_share(self) -> float:
        """Share (0..1) of all MACs, exempt ones included, whose operands both have <= 4 bits."""
        return sum(g.macs for g in self.gemms if g.four_bit) / max(self.macs, 1)

    @property
    def eight_bit_share(self) -> float:
        """Share (0..1) of all MACs whose wider operand has 5..8 bits, such as those in FP8."""
        return sum(g.macs for g in self.gemms if g.eight_bit) / max(self.macs, 1)

    @property
    def exempt_share(self) -> float:
        """Share (0..1) of all MACs in layers that the recipe leaves in the carrier."""
        return sum(g.macs for g in self.gemms if g.exempt) / max(self.macs, 1)

    @property
    def classes(self) -> tuple[ClassLine, ...]:
        """MACs by format class and unit, the largest first."""
        groups: dict[tuple[str, str], list[GemmLine]] = {}
        for g in self.gemms:
            groups.setdefault((g.formats, g.unit), []).append(g)
        lines = (
            ClassLine(f, u, len(g), sum(x.macs for x in g), sum(x.share for x in g))
            for (f, u), g in groups.items()
        )
        return tuple(sorted(lines, key=lambda c: (-c.macs, c.formats)))

    @property
    def saved_bytes(self) -> int:
        """Bytes kept for backward; the batch, which the caller holds anyway, does not count."""
        return sum(s.bytes for s in self.saved if s.kind != "batch")

    @property
    def torch_bytes(self) -> int | None:
        """Bytes that PyTorch would keep in f32, parameters and batch not counted."""
        if self.torch_saved is None:
            return None
        return sum(k.bytes for k in self.torch_saved)

    def to_dict(self) -> dict[str, object]:
        """Everything as plain numbers, words, lists and dictionaries, ready for JSON."""
        return {
            "program": self.program,
            "recipe": {
                "name": self.making.recipe,
                "options": dict(self.making.options),
                "hash": self.making.digest,
            },
            "target": self.making.target,
            "passes": list(self.making.passes),
            "waivers": list(self.making.waivers),
            "macs": self.macs,
            "bit_operations": self.bit_operations.to_dict(),
            "spent_giga_per_step": self.spent_giga,
            "four_bit_share": self.four_bit_share,
            "eight_bit_share": self.eight_bit_share,
            "exempt_share": self.exempt_share,
            "classes": [asdict(c) for c in self.classes],
            "gemms": [
                {**asdict(g), "formats": g.formats, "bit_operations": g.bit_operations}
                for g in self.gemms
            ],
            "saved": [asdict(s) for s in self.saved],
            "saved_bytes": self.saved_bytes,
            "planned_bytes": self.planned_bytes,
            "torch_saved": None
            if self.torch_saved is None
            else [asdict(k) for k in self.torch_saved],
            "torch_bytes": self.torch_bytes,
            "optimizer_bytes": self.kept_states[0],
            "optimizer_bytes_in_f32": self.kept_states[1],
            "conversions": [asdict(c) for c in self.conversions],
            "ops": [asdict(op) for op in self.ops],
        }

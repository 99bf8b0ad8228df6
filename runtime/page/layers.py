"""A row for each layer: its GEMMs by direction, what it keeps for backward, the time it takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..report.costs import GemmLine, SavedLine
from .kernels import PageKernel
from .makers import makers, numbered
from .reasons import reason
from .shades import SHADES, shade, stored_shade
from .source import PageSource

COLUMNS = ("forward", "dX", "dW")
PRODUCT = "product"  # of activations, which belongs to no direction: shown with the first
BATCH = "batch"


@dataclass(frozen=True, slots=True)
class PageGemm:
    """A GEMM, the stages that gave its operands their formats, and why it is not on four bits."""

    line: GemmLine
    made_by: tuple[str, str]
    why: str

    @property
    def shade(self) -> int:
        """That of the wider operand."""
        return shade(max(self.line.bits))

    @property
    def bits(self) -> str:
        """Both operands' bits: ``4 x 8``."""
        return " × ".join(map(str, self.line.bits))


@dataclass(frozen=True, slots=True)
class PageLayer:
    """A layer of the network, or what belongs to none (an empty name).

    ``torch_bytes`` are what PyTorch keeps for it, ``seconds`` None where nothing was timed.
    """

    name: str
    gemms: tuple[PageGemm, ...]
    kept: tuple[SavedLine, ...]
    torch_bytes: int
    seconds: float | None

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all its GEMMs."""
        return sum(g.line.macs for g in self.gemms)

    @property
    def kept_bytes(self) -> int:
        """Bytes kept for backward; the batch does not count."""
        return sum(s.bytes for s in self.kept if s.kind != BATCH)

    @property
    def exempt(self) -> bool:
        """Whether the recipe leaves it in plain floats."""
        return any(g.line.exempt for g in self.gemms)

    def cell(self, column: str) -> tuple[PageGemm, ...]:
        """The GEMMs of a column."""
        names = (column, PRODUCT) if column == COLUMNS[0] else (column,)
        return tuple(g for g in self.gemms if g.line.direction in names)

    @property
    def mac_parts(self) -> tuple[tuple[int, int], ...]:
        """Shade and MACs, of each shade that there is."""
        return by_shade((g.shade, g.line.macs) for g in self.gemms)

    @property
    def byte_parts(self) -> tuple[tuple[int, int], ...]:
        """Shade and bytes kept, of each shade that there is."""
        return by_shade((stored_shade(s.format), s.bytes) for s in self.kept if s.kind != BATCH)


def by_shade(pairs: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The sum of each shade, the fewest bits first."""
    sums = dict.fromkeys(SHADES, 0)
    for key, amount in pairs:
        sums[key] += amount
    return tuple((key, amount) for key, amount in sums.items() if amount)


def layers(source: PageSource, kernels: Sequence[PageKernel]) -> tuple[PageLayer, ...]:
    """All layers that multiply, keep something or take time, in the order of the program."""
    found = _gemms(source)
    kept: dict[str, list[SavedLine]] = {}
    for line in source.bill.saved:
        kept.setdefault(line.layer, []).append(line)
    theirs: dict[str, int] = {}
    for one in source.bill.torch_saved or ():
        theirs[one.layer] = theirs.get(one.layer, 0) + one.bytes
    seconds = _seconds(kernels)
    names = dict.fromkeys(op.origin for _, op in source.program.ops())
    timed = source.times is not None
    return tuple(
        PageLayer(
            name,
            tuple(found.get(name, ())),
            tuple(kept.get(name, ())),
            theirs.get(name, 0),
            seconds.get(name, 0.0) if timed else None,
        )
        for name in dict.fromkeys((*names, *kept, *theirs))
        if name in found or name in kept or name in theirs or seconds.get(name)
    )


def _gemms(source: PageSource) -> dict[str, list[PageGemm]]:
    made = makers(source.stages)
    found: dict[str, list[PageGemm]] = {}
    lines = source.bill.gemms
    # Both are in the order of the program.
    keys = numbered((line.layer, line.direction) for line in lines)
    for key, line in zip(keys, lines, strict=True):
        by = made.get(key)
        pair = (by.first, by.second) if by else ("", "")
        gemm = PageGemm(line, pair, reason(source, line, by))
        found.setdefault(line.layer, []).append(gemm)
    return found


def _seconds(kernels: Iterable[PageKernel]) -> Mapping[str, float]:
    sums: dict[str, float] = {}
    for k in kernels:
        if k.seconds is not None:
            sums[k.layer] = sums.get(k.layer, 0.0) + k.seconds
    return sums

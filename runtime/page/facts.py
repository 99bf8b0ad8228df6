"""The figures at the top of a page, and what was kept for backward by format and by function."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ...compiler.errors import QuatrainError
from ...passes.recipe.roles import ABSENT, Roles, roles
from ..report.costs import NO_UNIT, Costs
from ..report.tables import count, percent, size
from .kernels import PageKernel
from .layers import BATCH
from .shades import stored_shade
from .source import PageSource

MOVES = ("view", "permute")  # what they hand on was made by others


@dataclass(frozen=True, slots=True)
class Figure:
    """One number to read first: its name, the number, and a line that explains it."""

    name: str
    value: str
    what: str


@dataclass(frozen=True, slots=True)
class KeptGroup:
    """Tensors kept for backward that one op made in one format, or one function of PyTorch."""

    name: str
    maker: str
    shade: int
    tensors: int
    bytes: int


@dataclass(frozen=True, slots=True)
class RoleRow:
    """A role and, for each class of layers, the format with its shade; 0 where there is none."""

    role: str
    cells: tuple[tuple[str, int], ...]


def figures(source: PageSource, kernels: Iterable[PageKernel]) -> tuple[Figure, ...]:
    """What a reader asks first."""
    bill = source.bill
    units = sorted({g.unit for g in bill.gemms if g.four_bit} - {NO_UNIT})
    where = f", multiplied in {', '.join(units)}" if units else ""
    bits = bill.bit_operations
    return (
        Figure(
            "on 4 bits", percent(bill.four_bit_share), f"of {count(bill.macs)} MACs a step{where}"
        ),
        Figure(
            "bit operations",
            percent(bits.share_of_f32),
            "of what the same MACs cost in f32: bits of one operand times bits of the other",
        ),
        Figure("kept for backward", size(bill.saved_bytes), _beside_torch(bill)),
        _time(source, kernels),
    )


def _beside_torch(bill: Costs) -> str:
    if not bill.torch_bytes:
        return "the file does not say what PyTorch keeps"
    times = bill.torch_bytes / max(bill.saved_bytes, 1)
    return f"PyTorch in f32 keeps {size(bill.torch_bytes)}, {times:.1f} times as much"


def _time(source: PageSource, kernels: Iterable[PageKernel]) -> Figure:
    if source.times is None:
        return Figure("time", "not measured", "see Time for how to measure it")
    total = sum(k.seconds or 0.0 for k in kernels)
    return Figure("time", f"{1e3 * total:.3g} ms", source.times.origin)


def kept_by_format(source: PageSource) -> tuple[KeptGroup, ...]:
    """What quatrain keeps, by the format that it is stored in and the op that makes it."""
    makers: dict[str, str] = {}
    for _, op in source.program.ops():
        moved = op.kind in MOVES and makers.get(op.inputs[0].name)
        makers |= dict.fromkeys((r.name for r in op.results), moved or op.kind)
    groups: dict[tuple[str, str], list[int]] = {}
    for s in source.bill.saved:
        if s.kind != BATCH:
            groups.setdefault((s.format, makers.get(s.name, s.kind)), []).append(s.bytes)
    return _sorted(
        KeptGroup(name, maker, stored_shade(name), len(sizes), sum(sizes))
        for (name, maker), sizes in groups.items()
    )


def kept_by_function(bill: Costs) -> tuple[KeptGroup, ...]:
    """What PyTorch keeps in f32, by the function that made it, the largest first."""
    groups: dict[str, list[int]] = {}
    for k in bill.torch_saved or ():
        groups.setdefault(k.function, []).append(k.bytes)
    return _sorted(
        KeptGroup("f32", function, stored_shade("f32"), len(sizes), sum(sizes))
        for function, sizes in groups.items()
    )


def _sorted(groups: Iterable[KeptGroup]) -> tuple[KeptGroup, ...]:
    return tuple(sorted(groups, key=lambda g: (-g.bytes, g.name, g.maker)))


def role_table(source: PageSource) -> tuple[tuple[str, ...], tuple[RoleRow, ...]]:
    """Columns and rows of the recipe by role.

    Empty where a pass of a person's own takes no network but theirs.
    """
    try:
        found: Roles = roles(source.recipe)
    except QuatrainError:
        return (), ()
    rows = (RoleRow(role, tuple(map(_role_cell, cells))) for role, *cells in found.rows)
    return found.columns[1:], tuple(rows)


def _role_cell(short: str) -> tuple[str, int]:
    return short, 0 if short == ABSENT else stored_shade(short)

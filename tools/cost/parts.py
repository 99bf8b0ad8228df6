"""Steps by part, side by side: what goes into products, conversions, scales and the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ...runtime.cost.cost_tables import PJ, scaled
from ...runtime.cost.lines import PRODUCT_ROLES, PartSum, Role
from ...runtime.cost.step_cost import StepCost
from ...runtime.report.tables import table
from .sweep import SweepRow

# Heads short enough for 80 columns beside the longest names of recipes.
COLUMNS: Mapping[str, tuple[Role, ...]] = {
    "products": PRODUCT_ROLES,
    "convert": (Role.CONVERSION,),
    "scales": (Role.SCALE,),
    "between": (Role.ARITHMETIC,),
    "update": (Role.OPTIMIZER,),
}
ALL = "all"
NOTE = (
    "convert: numbers of one format out of another's; scales: maxima, clips, GradScale, and scales "
    "behind products; between: all else between products"
)


def parts_tables(rows: Sequence[SweepRow]) -> Group:
    """Of each network on each machine the time and the energy of a sample, a row a recipe."""
    made: list[RenderableType] = []
    ordered = sorted(rows, key=_where(rows))
    for (network, machine), some in groupby(ordered, lambda row: (row.network, row.machine)):
        found, where = list(some), f"{network} on {machine}"
        made += [_table(f"{where}: time of a sample", found, _seconds, "s")]
        made += [_table(f"{where}: energy of a sample", found, _joules, "J")]
    reasons = dict.fromkeys(row.failure for row in rows if row.failure)
    return Group(*made, Text(NOTE), *(Text(f"- {reason}") for reason in reasons))


def _where(rows: Sequence[SweepRow]) -> Callable[[SweepRow], int]:
    """The place of a row's network and machine in the order in which they first come."""
    places = {
        where: i for i, where in enumerate(dict.fromkeys((r.network, r.machine) for r in rows))
    }
    return lambda row: places[row.network, row.machine]


def _table(
    title: str, rows: Iterable[SweepRow], of: Callable[[StepCost, PartSum], float], unit: str
) -> Table:
    heads = (*COLUMNS, ALL)
    made = table(title, "recipe", *heads, right=heads)
    for row in rows:
        cost = row.cost
        if cost is None:
            made.add_row(Text(row.recipe), *("-" for _ in heads))
            continue
        parts = [sum(of(cost, p) for p in cost.parts if p.name in r) for r in COLUMNS.values()]
        cells = (scaled(part / cost.samples, unit) for part in (*parts, of(cost, cost.total)))
        made.add_row(Text(row.recipe), *cells)
    return made


def _seconds(cost: StepCost, part: PartSum) -> float:
    return cost.machine.seconds(part.cycles)


def _joules(_: StepCost, part: PartSum) -> float:
    return part.energy.total * PJ

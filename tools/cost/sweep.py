"""Steps costed for several accelerators: networks by recipes by machines, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest

from rich.console import Group
from rich.text import Text

from ...compiler.errors import UsageError
from ...passes.recipe import Recipe
from ...runtime.cost.accelerator import Accelerator
from ...runtime.cost.cost_tables import scaled
from ...runtime.cost.model import OperandBits, step_cost
from ...runtime.cost.step_cost import StepCost
from ...runtime.report.tables import table
from .uncompiled import Uncompiled

AT = " at "  # between a recipe and the bits that it is counted at


@dataclass(frozen=True, slots=True)
class NamedRecipe:
    """A recipe with the words that asked for it."""

    label: str
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One network by one recipe on one machine, or why there is none."""

    network: str
    recipe: str
    machine: str
    cost: StepCost | None
    failure: str = ""

    def to_dict(self) -> dict[str, object]:
        """The sums, without the ops."""
        found = {} if self.cost is None else self.cost.to_dict()
        found.pop("ops", None)
        head = {"network": self.network, "recipe": self.recipe, "machine": self.machine}
        return {**head, "failure": self.failure or None, **found}


def sweep(
    networks: Sequence[Uncompiled],
    recipes: Sequence[NamedRecipe],
    machines: Sequence[Accelerator],
    counted: Sequence[OperandBits | None],
) -> Iterator[SweepRow]:
    """Every network by every recipe on every machine; each is captured and transformed once.

    Without ``recipes`` each network has its own.
    """
    for network in networks:
        own = [NamedRecipe(network.recipe.name, network.recipe)] if network.recipe else []
        for named in recipes or own:
            program = network.by(named.recipe)
            for bits in counted:
                label = named.label if bits is None else f"{named.label}{AT}{bits}"
                for machine in machines:
                    where = (network.name, label, machine.name)
                    try:
                        yield SweepRow(*where, step_cost(program, machine, bits))
                    except UsageError as error:
                        yield SweepRow(*where, None, str(error))


def sweep_tables(rows: Sequence[SweepRow]) -> Group:
    """A row a combination; times and energies of a sample."""
    numbers = ("time", "energy", "waits", "used")
    made = table("Time and energy of a sample", "network", "recipe", "on", *numbers, right=numbers)
    last = ""
    for (network, recipe), some in groupby(rows, lambda row: (row.network, row.recipe)):
        if network != last and last:
            made.add_section()
        group = list(some)
        for words, row in zip_longest(_lines(recipe, len(group)), group):
            shown = network if network != last else ""
            made.add_row(Text(shown), Text(words or ""), Text(row.machine), *_cells(row))
            last = network
    reasons = dict.fromkeys(row.failure for row in rows if row.failure)
    return Group(made, *(Text(f"- {reason}") for reason in reasons))


def _lines(recipe: str, rows: int) -> list[str]:
    """A recipe in its cells; the bits it is counted at stand in the second, where there is one."""
    name, at, bits = recipe.partition(AT)
    return [name, f"{AT.strip()} {bits}"] if at and rows > 1 else [recipe]


def _cells(row: SweepRow) -> tuple[str, ...]:
    cost = row.cost
    if cost is None:
        return ("-",) * 4
    return (
        scaled(cost.seconds / cost.samples, "s"),
        scaled(cost.joules / cost.samples, "J"),
        _whole(cost.stalled / cost.cycles if cost.cycles else 0.0),
        _whole(cost.utilization),
    )


def _whole(share: float) -> str:
    """Percent without decimals, which leaves 80 columns to the names."""
    return f"{100 * share:.0f} %"

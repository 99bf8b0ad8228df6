"""Bills of several recipes for one network, side by side: nothing is trained, planned or built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ...runtime.report.bill import Bill, bill_of, exempt_layers, making_of
from ...runtime.report.bill_tables import PRODUCT
from ...runtime.report.costs import EIGHT_BITS, FOUR_BITS
from ...runtime.report.tables import count, percent, size, table
from ...targets.registry import find_target
from ..study.entry import Entry, entry_recipe
from .uncompiled import Uncompiled

GRADIENTS = ("dX", "dW")
WAYS = ["forward", *GRADIENTS]
HEADS = {PRODUCT: "others"}
DIRECTION_NOTE = (
    "forward, dX, dW: of their MACs, those of at most 4 bits by 4; dY: of the numbers of gradients "
    "that dX and dW read"
)


@dataclass(frozen=True, slots=True)
class LabelledBill:
    """The bill of a recipe with the words that asked for it."""

    label: str
    bill: Bill

    def to_dict(self) -> dict[str, object]:
        """The bill's own numbers, and the label."""
        return {
            "label": self.label,
            "gradients_in_4_bits": gradients_in(self.bill, 0, FOUR_BITS),
            "gradients_in_8_bits": gradients_in(self.bill, FOUR_BITS, EIGHT_BITS),
            **self.bill.to_dict(),
        }


def bills(found: Uncompiled, rows: Sequence[Entry], target: str) -> list[LabelledBill]:
    """A bill for each recipe; the capture is shared, and no target is asked for kernels."""
    return [LabelledBill(row.label, _bill(found, row, target)) for row in rows]


def _bill(found: Uncompiled, row: Entry, target: str) -> Bill:
    recipe = entry_recipe(row)
    program = found.by(recipe)
    lowered = [program, *(made for _, made in find_target(target).lower(program))][-1]
    return bill_of(
        lowered,
        found.torch_saved,
        making=making_of(recipe, target, lowered, (), None),
        exempt=exempt_layers(recipe, found.train),
    )


def bills_table(name: str, found: Sequence[LabelledBill]) -> Group:
    """A row a recipe."""
    names = ("4 bits", "8 bits", "exempt", "bit ops", "kept", "converted")
    made: Table = table(f"{name}: a step by each recipe", "recipe", *names, right=names)
    for row in found:
        bill = row.bill
        made.add_row(
            Text(row.label),
            percent(bill.four_bit_share),
            percent(bill.eight_bit_share),
            percent(bill.exempt_share),
            percent(bill.bit_operations.share_of_f32),
            size(bill.saved_bytes),
            count(sum(c.elements for c in bill.conversions)),
        )
    return Group(made, *_notes(found), "", _directions(name, found), Text(DIRECTION_NOTE))


def _directions(name: str, found: Sequence[LabelledBill]) -> Table:
    """Of each direction the share that is multiplied in 4 bits, and in what gradients are read."""
    rows = [row.bill for row in found]
    ways = [*WAYS, PRODUCT] if any(g.direction == PRODUCT for b in rows for g in b.gemms) else WAYS
    heads = (*(HEADS.get(way, way) for way in ways), "dY 4 bits", "dY 8 bits")
    made: Table = table(f"{name}: 4 bits by direction", "recipe", *heads, right=heads)
    for row in found:
        shares = [_four_bits(row.bill, way) for way in ways]
        read = [gradients_in(row.bill, 0, FOUR_BITS), gradients_in(row.bill, FOUR_BITS, EIGHT_BITS)]
        made.add_row(Text(row.label), *(percent(share) for share in (*shares, *read)))
    return made


def _four_bits(bill: Bill, way: str) -> float:
    """The share of the MACs of a direction whose operands both have at most 4 bits."""
    lines = [g for g in bill.gemms if g.direction == way]
    return sum(g.macs for g in lines if g.four_bit) / max(sum(g.macs for g in lines), 1)


def gradients_in(bill: Bill, above: int, most: int) -> float:
    """The share of numbers of gradients, as dX and dW read them, in formats of such bits."""
    read = [(g.bits[0], g.elements[0]) for g in bill.gemms if g.direction in GRADIENTS]
    some = sum(elements for bits, elements in read if above < bits <= most)
    return some / max(sum(elements for _, elements in read), 1)


def _notes(found: Sequence[LabelledBill]) -> list[RenderableType]:
    first = found[0].bill
    notes = [
        "4 bits, 8 bits, exempt: shares of "
        f"{count(first.macs)} MACs; bit ops: of those in f32; converted: elements"
    ]
    if first.torch_bytes:
        notes.append(f"kept for backward; PyTorch in f32 keeps {size(first.torch_bytes)}")
    return [Text(note) for note in notes]

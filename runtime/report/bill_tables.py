"""The bill as tables: what a person reads."""

from __future__ import annotations

import shutil
from dataclasses import replace

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from .bit_operations import BitOperations
from .costs import NO_UNIT, Costs, GemmLine
from .fitted import fit
from .tables import FILE_WIDTH, count, giga, percent, size, table

DIRECTIONS = ("forward", "dX", "dW")
PRODUCT = "product"  # of activations, which belongs to no direction; shown with the first
# Below this many columns each GEMM takes a line of its own.
WIDE = 92
# A smaller rest of all MACs is the rounding of a sum, or shows as 0.0 %.
LEAST_SHARE = 5e-5


def text(bill: Costs) -> str:
    """The tables as plain text; as wide as the terminal, if there is one."""
    width = shutil.get_terminal_size((FILE_WIDTH, 24)).columns
    console = Console(width=width, color_system=None, highlight=False, markup=False)
    made = bill_tables(bill, width)
    fit(made, console, width)
    with console.capture() as capture:
        console.print(made)
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def bill_tables(bill: Costs, width: int) -> Group:
    """All tables of the bill for a terminal of ``width`` columns."""
    parts: list[RenderableType] = [_summary(bill), "", _classes(bill)]
    parts.append(_by_layer(bill) if width >= WIDE else _by_gemm(bill))
    parts += [_saved(bill)] if bill.saved else []
    parts += [_torch(bill)] if bill.torch_saved else []
    parts += [_conversions(bill)] if bill.conversions else []
    return Group(*parts)


def telling(bill: Costs) -> tuple[tuple[str, str], ...]:
    """The three lines of the bill to read first: MACs on 4 bits, bit operations, memory."""
    units = sorted({g.unit for g in bill.gemms if g.four_bit} - {NO_UNIT})
    where = f", multiplied in {', '.join(units)}" if units else ""
    macs = f"{percent(bill.four_bit_share)} of {count(bill.macs)} MACs{where}"
    bits = f"{percent(bill.bit_operations.share_of_f32)} of those in f32"
    kept = _kept(replace(bill, planned_bytes=None))
    return ("on 4 bits", macs), ("bit operations", bits), ("kept for backward", kept)


def _summary(bill: Costs) -> Table:
    made = Table.grid(padding=(0, 2))
    making = bill.making
    options = ", ".join(f"{k}={v}" for k, v in making.options)
    made.add_row("program", bill.program)
    made.add_row("recipe", f"{making.recipe}  ({making.digest[:12]})")
    made.add_row("options", options or "as the recipe has them")
    made.add_row("target", making.target)
    made.add_row("passes", ", ".join(making.passes) or "none")
    made.add_row("waivers", ", ".join(making.waivers) or "none")
    made.add_row("MACs a step", count(bill.macs))
    for name, value, what in _shares(bill):
        made.add_row(name, f"{percent(value)} of them  ({what})")
    made.add_row("bit operations", _bit_operations(bill.bit_operations))
    if bill.spent_giga is not None:
        made.add_row("spent so far", f"{giga(bill.spent_giga)} a step on average; the bits change")
    made.add_row("kept for backward", _kept(bill))
    if bill.kept_states[1]:
        made.add_row("optimizer keeps", _states(*bill.kept_states))
    made.add_row("converted", f"{count(sum(c.elements for c in bill.conversions))} elements a step")
    return made


def _bit_operations(found: BitOperations) -> str:
    """Of a step and of a sample, and as MACs in f32."""
    return (
        f"{giga(found.giga)} a step, {giga(found.giga_per_sample)} a sample; as "
        f"{count(found.effective_macs)} MACs in f32, {percent(found.share_of_f32)}"
    )


def _shares(bill: Costs) -> list[tuple[str, float, str]]:
    """Parts of all MACs: they add up to one."""
    wide = [g for g in bill.gemms if g.eight_bit]
    names = {o.partition("*")[0] for g in wide for o in g.operands}
    units = ", ".join(sorted({g.unit for g in wide} - {NO_UNIT}))
    four, exempt = bill.four_bit_share, bill.exempt_share
    rows = [("on 4 bits", four, "both operands stored in at most 4 bits")]
    if wide:
        floats_first = sorted(names, key=lambda name: (not name.startswith("fp8"), name))
        what = ", ".join(floats_first) + (f"; multiplied in {units}" if units else "")
        rows.append(("on 8 bits", bill.eight_bit_share, what))
    rows.append(("exempt", exempt, "layers that the recipe leaves in plain floats"))
    other = 1 - four - bill.eight_bit_share - exempt
    if other > LEAST_SHARE:
        rows.append(("other", other, "plain floats or wider codes"))
    return rows


def _states(stored: int, plain: int) -> str:
    """Beside the parameters, and what that would be in f32."""
    if stored == plain:
        return size(stored)
    return f"{size(stored)}; in f32 {size(plain)}, {plain / max(stored, 1):.1f} times as much"


def _kept(bill: Costs) -> str:
    kept = size(bill.saved_bytes)
    if bill.planned_bytes is not None:
        kept += f"; {size(bill.planned_bytes)} in the target's memory plan"
    if not bill.torch_bytes:
        return kept
    ratio = bill.torch_bytes / max(bill.saved_bytes, 1)
    return f"{kept}; PyTorch in f32 keeps {size(bill.torch_bytes)}, {ratio:.1f} times as much"


def _classes(bill: Costs) -> Table:
    made = table(
        "Multiplications",
        *("operands", "multiplied in", "GEMMs", "MACs", "share"),
        right=("GEMMs", "MACs", "share"),
    )
    for c in bill.classes:
        made.add_row(c.formats, c.unit, str(c.gemms), count(c.macs), percent(c.share))
    return made


def _by_layer(bill: Costs) -> Table:
    made = table("By layer", "layer", *DIRECTIONS, "MACs", "share", right=("MACs", "share"))
    layers: dict[str, list[GemmLine]] = {}
    for g in bill.gemms:
        layers.setdefault(g.layer, []).append(g)
    for layer, lines in layers.items():
        cells = ["\n".join(_cell(g) for g in lines if g.direction == d) for d in DIRECTIONS]
        products = dict.fromkeys(_cell(g) for g in lines if g.direction == PRODUCT)
        cells[0] = "\n".join(filter(None, (cells[0], *products)))
        macs, share = sum(g.macs for g in lines), sum(g.share for g in lines)
        made.add_row(_layer(lines[0], layer), *cells, count(macs), percent(share))
    return made


def _cell(g: GemmLine) -> str:
    unit = "" if g.unit == NO_UNIT else f"\n  {g.unit}"
    return g.formats + unit


def _layer(g: GemmLine, layer: str) -> Text:
    name = Text(layer or "-")
    return name.append("\n  exempt", "dim") if g.exempt else name


def _by_gemm(bill: Costs) -> Table:
    made = table("By GEMM", "layer", "GEMM", "operands", "unit", "share", right=("share",))
    last = None
    for g in bill.gemms:
        layer = _layer(g, g.layer) if g.layer != last else Text("")
        made.add_row(layer, g.direction, g.formats, g.unit, percent(g.share))
        last = g.layer
    return made


def _saved(bill: Costs) -> Table:
    made = table("Kept for backward", "value", "from", "type", "bytes", right=("bytes",))
    for s in bill.saved:
        shape = "x".join(map(str, s.shape))
        made.add_row(s.name, s.kind, f"{s.format}[{shape}]", size(s.bytes))
    made.add_section()
    made.add_row("without the batch", "", "", size(bill.saved_bytes))
    return made


def _torch(bill: Costs) -> Table:
    made = table(
        "What PyTorch would keep in f32", "layer", "from", "shape", "bytes", right=("bytes",)
    )
    for k in bill.torch_saved or ():
        made.add_row(k.layer, k.function, "x".join(map(str, k.shape)), size(k.bytes))
    made.add_section()
    made.add_row("together", "", "", size(bill.torch_bytes or 0))
    return made


def _conversions(bill: Costs) -> Table:
    made = table(
        "Conversions a step",
        *("op", "from", "to", "tensors", "elements"),
        right=("tensors", "elements"),
    )
    for c in bill.conversions:
        made.add_row(c.op, c.source, c.result, str(c.tensors), count(c.elements))
    return made

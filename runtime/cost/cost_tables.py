"""The cost of a step as tables of a terminal, 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..report.tables import count, percent, size, table
from .accelerator import Accelerator
from .lines import OpCost, PartSum
from .step_cost import StepCost

UNITS = ((1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n"), (1e-12, "p"))
PJ = 1e-12
LONGEST_LAYER = 24


def scaled(value: float, unit: str) -> str:
    """A quantity in three digits: ``6.13 ms``."""
    for step, letter in UNITS:
        if value >= step:
            shown = value / step
            return f"{shown:.3g} {letter}{unit}" if shown < 999.5 else f"{shown:.0f} {letter}{unit}"
    return f"0 {unit}"


def cost_tables(cost: StepCost, *, every_op: bool) -> Group:
    """What a step takes: a summary, its parts, products by bits, and layers or all ops."""
    parts: list[RenderableType] = [_summary(cost), "", _parts(cost), _energy(cost), _products(cost)]
    parts.append(_ops(cost.lines) if every_op else _layers(cost))
    return Group(*parts, *_assumptions(cost.machine))


def _summary(cost: StepCost) -> Table:
    made = Table.grid(padding=(0, 2))
    machine = cost.machine
    each = f"{scaled(cost.seconds / cost.samples, 's')} and "
    each += f"{scaled(cost.joules / cost.samples, 'J')} a sample"
    watts = cost.joules / cost.seconds if cost.seconds else 0.0
    made.add_row("program", cost.program)
    made.add_row("accelerator", f"{machine.name}: {machine.title}")
    if cost.bits:
        made.add_row("counted as", f"{cost.bits} bits of activations, weights, gradients")
    made.add_row("time a step", f"{scaled(cost.seconds, 's')}, {each}")
    made.add_row("energy a step", f"{scaled(cost.joules, 'J')}, {scaled(watts, 'W')}")
    stalled = percent(cost.stalled / cost.cycles if cost.cycles else 0.0)
    made.add_row("cycles", f"{count(cost.cycles)}, {stalled} of them wait for memory")
    made.add_row("utilization", f"{percent(cost.utilization)} of the units while they multiply")
    if machine.mm2 is not None:
        areas = ", ".join(f"{name} {mm2:g}" for name, mm2 in machine.area)
        made.add_row("area", f"{machine.mm2:.4g} mm2 ({areas})")
    else:
        made.add_row("area", "not known")
    if cost.assumed_macs:
        share = percent(cost.assumed_macs / cost.macs)
        made.add_row("assumed", f"{share} of the products, whose numbers it has no unit for")
    return made


def _parts(cost: StepCost) -> Table:
    names = ("cycles", "share", "waits", "products", "DRAM", "SRAM")
    made = table("Time and traffic", "part", *names, right=names)
    for p in cost.parts:
        _part_row(made, p, cost.cycles)
    made.add_section()
    _part_row(made, cost.total, cost.cycles)
    return made


def _part_row(made: Table, p: PartSum, cycles: float) -> None:
    made.add_row(
        p.name,
        count(round(p.cycles)),
        percent(p.cycles / cycles if cycles else 0.0),
        percent(p.stalled / p.cycles if p.cycles else 0.0),
        count(p.macs) if p.macs else "",
        size(p.bits.dram // 8),
        size(p.bits.sram // 8),
    )


def _energy(cost: StepCost) -> Table:
    names = ("compute", "SRAM", "DRAM", "kept", "all", "share")
    made = table("Energy; kept: DRAM for what is kept for backward", "part", *names, right=names)
    whole = cost.energy.total
    for p in (*cost.parts, cost.total):
        if p.name == "step":
            made.add_section()
        e = p.energy
        cells = (scaled(x * PJ, "J") for x in (e.compute, e.sram, e.dram, e.kept, e.total))
        made.add_row(p.name, *cells, percent(e.total / whole if whole else 0.0))
    return made


def _products(cost: StepCost) -> Table:
    names = ("products", "share")
    made = table("Products by bits of their operands", "bits", "unit", *names, right=names)
    found: dict[tuple[int, int, str], int] = {}
    for x in cost.lines:
        if x.products:
            a, b = sorted(x.products.bits, reverse=True)
            key = (a, b, x.products.unit + (", assumed" if x.products.assumed else ""))
            found[key] = found.get(key, 0) + x.products.macs
    for (a, b, unit), macs in sorted(found.items(), key=lambda item: -item[1]):
        made.add_row(f"{a} x {b}", unit, count(macs), percent(macs / cost.macs))
    return made


def _layers(cost: StepCost) -> Table:
    names = ("cycles", "share", "waits", "used", "DRAM", "energy")
    made = table("By layer with products", "layer", *names, right=names)
    layers: dict[str, list[OpCost]] = {}
    for x in cost.lines:
        if x.products:
            layers.setdefault(x.layer, []).append(x)
    for layer, lines in layers.items():
        cycles = sum(x.cycles for x in lines)
        used = sum(x.products.utilization * x.cycles for x in lines if x.products)
        made.add_row(
            Text(layer or "-"),
            count(cycles),
            percent(cycles / cost.cycles),
            percent(sum(x.stalled for x in lines) / cycles),
            percent(used / cycles),
            size(sum(x.bits.dram for x in lines) // 8),
            scaled(sum(x.energy.total for x in lines) * PJ, "J"),
        )
    return made


def _ops(lines: Iterable[OpCost]) -> Table:
    names = ("bits", "cycles", "waits", "used", "DRAM", "energy")
    made = table("By op", "layer", "op", *names, right=names)
    last = None
    for x in lines:
        if not x.cycles:
            continue
        found = x.products
        made.add_row(
            Text(x.layer if x.layer != last else ""),
            x.op,
            "x".join(map(str, found.bits)) if found else "",
            count(round(x.cycles)),
            percent(x.stalled / x.cycles),
            percent(found.utilization) if found else "",
            size(x.bits.dram // 8),
            scaled(x.energy.total * PJ, "J"),
        )
        last = x.layer
    return made


def _assumptions(machine: Accelerator) -> list[RenderableType]:
    if not machine.assumptions:
        return []
    made = Table.grid(padding=(0, 1))
    for text in machine.assumptions:
        made.add_row("-", Text(text))
    return ["", Text("Assumed", "bold"), made]


def constants_tables(machine: Accelerator) -> Group:
    """All numbers of an accelerator, each with where it is from."""
    made = table(machine.title, "what", "value", "source")
    made.columns[0].no_wrap = True
    for what, value, source in constants(machine):
        made.add_row(what, value, Text(source))
    return Group(made, *_assumptions(machine))


def constants(machine: Accelerator) -> Sequence[tuple[str, str, str]]:
    """Name, value and source of each constant."""
    array, lanes, memory = machine.array, machine.lanes, machine.memory
    cells = f"{array.arrays} of {array.inputs} inputs x {array.outputs} outputs"
    if array.pixels > 1:
        cells += f" x {array.pixels} pixels"
    rows = [
        ("clock", f"{machine.megahertz:g} MHz", machine.clock_source),
        ("arrays", f"{cells}; gathers taps: {array.gathers}", array.source),
    ]
    for name, b in (("data", machine.data), ("weights", machine.weights), ("sums", machine.sums)):
        halves = ", two halves" if b.usable < 1 else ""
        more = f", sums of {machine.sum_bits} bits" if name == "sums" else ""
        value = f"{b.kib:g} KiB{halves}{more}; {b.read_pj:g} / {b.write_pj:g} pJ a bit"
        rows.append((f"{name} buffer", value, b.source))
    rows.append(
        ("DRAM", f"{memory.bits_per_cycle:g} bits a cycle; {memory.pj_per_bit:g} pJ a bit",
         memory.source)
    )  # fmt: skip
    ops = (lanes.add_pj, lanes.multiply_pj, lanes.function_pj, lanes.random_pj)
    values = "add {:g}, multiply {:g}, function {:g}, random {:g} pJ".format(*ops)
    rows.append(("lanes", f"{lanes.lanes}; {values}", lanes.source))
    for u in machine.units:
        mark = ", assumed" if u.assumed else ""
        rows.append((u.name, f"{u.rate} a cell a cycle, {u.pj:g} pJ{mark}", u.source))
    rows += [(f"area, {part}", f"{mm2:g} mm2", machine.area_source) for part, mm2 in machine.area]
    return rows

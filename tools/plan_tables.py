"""The plan for a person to read: one line a kernel, or a block with all buffers of each."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..runtime.report.tables import size, table
from .plan_view import BufferRow, KernelRow, PlanView

NO_UNIT = "-"
# Ops and results of a line that are told one by one; of more than MANY results the first FEW.
MANY, FEW = 8, 4
LEGEND = (
    "unit     what multiplies; - where nothing does (no GEMM)",
    "layer    whose ops the kernel covers; +2: and two layers more",
    "place    arena+N: byte N of the memory between kernels, used again and again; old+N, new+N: "
    "byte N of the state before and after the step; NAME+0: an input of the step",
    "NAME!    kept for backward",
    "83 x     so many kernels alike; the number is the first one's",
)
TIME = "us       predicted, of all on the line; bound by m: memory, p: products, l: launches"
ORDER = (
    "order    how elements follow each other: rows as in PyTorch (N, C, H, W), pixels with the "
    "channels of a pixel side by side (N, H, W, C)"
)
WORD = 9  # letters of the first column of these


def overview(view: PlanView, width: int) -> str:
    """One line a kernel, folded between words at ``width`` columns.

    Kernels of the update that do alike share a line.
    """
    rows = list(_folded(view.kernels))
    layers = max((len(_layer(k, n)) for k, n in rows), default=0)
    units = max((len(k.unit) for k, _ in rows), default=0)
    lines = _fold(_head(view), width, 0)
    legend = (*LEGEND, TIME) if view.gpu else LEGEND
    lines += [*(line for part in legend for line in _fold(part, width, WORD)), ""]
    for region, group in groupby(rows, key=lambda row: row[0].region):
        lines.append(f"{region}:")
        for k, alike in group:
            start = f"{k.index:5}  {k.unit:{units}}  {_time(k)}{_layer(k, alike):{layers}}  "
            # On a narrow terminal the layer's column is worth less than the words behind it.
            indent = len(start) if len(start) < width // 2 else 7
            lines += _fold(f"{start}{_words(k, alike)}", width, indent)
    rest = "--plan --layer NAME shows all buffers of a layer's kernels, --plan --buffers of all"
    return "\n".join([*lines, "", *_fold(rest, width, 0)])


def plan_tables(view: PlanView) -> Group:
    """A block for each kernel: its ops, its unit, and every buffer with its place."""
    parts: list[RenderableType] = [Text(_head(view))]
    words = Table.grid()
    for part in (*LEGEND[2:4], ORDER):
        words.add_row(part[:WORD], part[WORD:])
    parts.append(words)
    return Group(*parts, *(block for k in view.kernels for block in _kernel(k)))


def _head(view: PlanView) -> str:
    shown = f"{view.total} kernels"
    if len(view.kernels) < view.total:
        shown = f"{len(view.kernels)} of {shown}; in the whole step"
    memory = f"arena {size(view.arena)}, {size(view.saved_bytes)} of it kept for backward"
    head = f"{view.program} on {view.target}: {shown}, {memory}"
    if view.predicted_seconds is None:
        return head
    step = f"a step takes {1e3 * view.predicted_seconds:.3g} ms"
    return f"{head}; {step}, predicted from published peaks of {view.gpu}, not measured"


def _folded(kernels: Sequence[KernelRow]) -> Iterator[tuple[KernelRow, int]]:
    """Kernels with how many they stand for: those of the update by what they do, others alone."""
    alike: dict[object, list[KernelRow]] = {}
    for k in kernels:
        alike.setdefault((k.region, k.ops) if k.region == "update" else k.index, []).append(k)
    return ((_together(group), len(group)) for group in alike.values())


def _together(group: Sequence[KernelRow]) -> KernelRow:
    """The first, with the time of all, bound as the longest of them is."""
    times = [k.predicted for k in group if k.predicted is not None]
    if not times:
        return group[0]
    longest = max(times, key=lambda time: time.seconds)
    whole = replace(longest, seconds=sum(time.seconds for time in times))
    return replace(group[0], predicted=whole)


def _time(k: KernelRow) -> str:
    """Microseconds, and the letter of what bounds them."""
    if k.predicted is None:
        return ""
    return f"{1e6 * k.predicted.seconds:7.1f} us {k.predicted.bound[0]}  "


def _layer(k: KernelRow, alike: int) -> str:
    if alike > 1:
        return ""
    first, *more = k.layers
    return f"{first or '-'} +{len(more)}" if more else first or "-"


def _words(k: KernelRow, alike: int) -> str:
    ops = _ops(k)
    if alike > 1:
        return f"{alike} x {ops}"
    results = _data(k.outputs)
    made = [f"{_name(b)} {b.format} {_place(b)}" for b in results]
    if len(made) > MANY:
        made = [*made[:FEW], f"and {len(made) - FEW} more"]
    return f"{_often(k)}{ops} -> {', '.join(made)}"


def _often(k: KernelRow) -> str:
    """How often a kernel of a loop runs."""
    return f"in {k.steps} steps: " if k.steps > 1 else ""


def _ops(k: KernelRow) -> str:
    """In their order; of a bundle, which has no order, how many there are of each kind."""
    if len(k.ops) <= MANY or len({*k.ops}) == len(k.ops):
        return " + ".join(k.ops)
    return " + ".join(f"{n} {kind}" if n > 1 else kind for kind, n in Counter(k.ops).items())


def _data(rows: Sequence[BufferRow]) -> list[BufferRow]:
    return [b for b in rows if not b.name.startswith("scale(")]


def _name(b: BufferRow) -> str:
    return f"{b.name}{'!' if b.kept else ''}"


def _place(b: BufferRow) -> str:
    return f"{b.where}+{b.offset}"


def _fold(text: str, width: int, indent: int) -> list[str]:
    space = " " * min(indent, width // 2)
    return textwrap.wrap(text, width, subsequent_indent=space, break_on_hyphens=False) or [""]


def _kernel(row: KernelRow) -> tuple[Text, Padding]:
    title = Text("\n").append(f"{row.index:3}  ", "dim").append(row.kernel, "bold")
    title.append(f"  {row.layer or '-'}  ({row.region})", "cyan")
    unit = "" if row.unit == NO_UNIT else f"; multiplied in {row.unit}"
    title.append(f"\n     {_often(row)}{' + '.join(row.ops)}{unit}{_predicted(row)}")
    return title, Padding(_buffers(row.inputs, row.outputs), (0, 0, 0, 5))


def _predicted(row: KernelRow) -> str:
    found = row.predicted
    if found is None:
        return ""
    return f"; predicted {1e6 * found.seconds:.3g} us, bound by {found.bound}"


def _buffers(inputs: Sequence[BufferRow], outputs: Sequence[BufferRow]) -> Table:
    made = table("", "", "value", "type", "order", "place", "size", right=("size",))
    made.title = None
    for word, rows in (("reads", inputs), ("makes", outputs)):
        for b in rows:
            made.add_row(word, _name(b), b.format, b.order, _place(b), size(b.bytes))
            word = ""
    return made

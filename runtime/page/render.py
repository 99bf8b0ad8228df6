"""A step as one HTML file: templates filled in, style, script and data inside of it."""

from __future__ import annotations

from ...passes.parts.options import as_typed
from .deltas import deltas
from .facts import figures, kept_by_format, kept_by_function, role_table
from .frame import filled
from .kernels import PageKernel, kernels
from .layers import COLUMNS, PageLayer, by_shade, layers
from .lives import memory_map
from .payload import payload
from .reasons import reasons
from .shades import shade
from .source import PageSource
from .troubles import in_trouble
from .watched import WatchedRun, run_data, watched_run
from .watched_tables import layer_table, norm_table

# In the order in which they are read; the last one starts the page.
SCRIPTS = ("layers", "programs", "memory", "kernels", "page")
# Only where something was watched.
MORE_SCRIPTS, MORE_STYLES = ("charts", "watched"), ("watched.css",)


def page(source: PageSource) -> str:
    """The whole file as text."""
    rows = () if source.plan is None else kernels(source.plan, source.times)
    found = layers(source, rows)
    memory = memory_map(source.program, source.plan)
    stages = deltas(source.stages)
    names = [layer.name for layer in found]
    run = watched_run(source.watched.rows, names) if source.watched else None
    facts = {
        "source": source,
        "bill": source.bill,
        "making": source.bill.making,
        "figures": figures(source, rows),
        "columns": COLUMNS,
        "mac_parts": by_shade((shade(max(g.bits)), g.macs) for g in source.bill.gemms),
        "reasons": reasons((g.line, g.why) for layer in found for g in layer.gemms),
        "layers": found,
        "largest": _largest(found),
        "memory": memory,
        "kept": kept_by_format(source),
        "theirs": kept_by_function(source.bill),
        "stages": stages,
        "kernels": rows,
        "roles": role_table(source),
        "passes": _passes(source),
    }
    data = payload(stages, found, rows, memory, _layer_of_step(source, rows))
    more = _watched(source, run)
    data["watched"] = run and run_data(run)
    styles, scripts = (MORE_STYLES, MORE_SCRIPTS) if run else ((), ())
    return filled("page.html", facts | more, data, styles=styles, scripts=(*scripts, *SCRIPTS))


def _watched(source: PageSource, run: WatchedRun | None) -> dict[str, object]:
    if run is None or source.watched is None:
        return {"watched": None}
    return {
        "watched": source.watched,
        "run": run,
        "troubles": in_trouble(source.watched.rows),
        "by_layer": layer_table(run),
        "by_norm": norm_table(run),
    }


def _largest(found: tuple[PageLayer, ...]) -> dict[str, float]:
    """What full bars stand for."""
    return {
        "macs": max((layer.macs for layer in found), default=0) or 1,
        "bytes": max((max(x.kept_bytes, x.torch_bytes) for x in found), default=0) or 1,
        "seconds": max((layer.seconds or 0.0 for layer in found), default=0.0) or 1.0,
    }


def _layer_of_step(source: PageSource, rows: tuple[PageKernel, ...]) -> list[str]:
    """Of each kernel, or op where there is no plan, the layer."""
    if source.plan is not None:
        return [k.layer for k in rows]
    return [op.origin for _, op in source.program.ops()]


def _passes(source: PageSource) -> list[tuple[str, list[tuple[str, str]]]]:
    """Each pass of the recipe with its options."""
    pairs = zip(source.recipe.labels, source.recipe.passes, strict=True)
    return [(label, [(k, as_typed(v)) for k, v in p.settings.items()]) for label, p in pairs]

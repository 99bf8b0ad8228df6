"""A step as one HTML file: templates filled in, style, script and data inside of it."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ...passes.parts.options import as_typed
from ..report.tables import count, percent, size
from .deltas import deltas
from .facts import figures, kept_by_format, kept_by_function, role_table
from .kernels import PageKernel, kernels
from .layers import COLUMNS, PageLayer, by_shade, layers
from .lives import memory_map
from .payload import packed, payload
from .reasons import reasons
from .shades import SHADES, WORDS, shade
from .source import PageSource

TEMPLATES = Path(__file__).with_name("templates")
# In the order in which they are read; each is one part of the page.
SCRIPTS = ("tools", "layers", "programs", "memory", "kernels", "start")
MILLI = 1e3


def page(source: PageSource) -> str:
    """The whole file as text."""
    rows = () if source.plan is None else kernels(source.plan, source.times)
    found = layers(source, rows)
    memory = memory_map(source.program, source.plan)
    stages = deltas(source.stages)
    data = payload(stages, found, rows, memory, _layer_of_step(source, rows))
    return (
        _environment()
        .get_template("page.html")
        .render(
            source=source,
            bill=source.bill,
            making=source.bill.making,
            figures=figures(source, rows),
            columns=COLUMNS,
            mac_parts=by_shade((shade(max(g.bits)), g.macs) for g in source.bill.gemms),
            reasons=reasons((g.line, g.why) for layer in found for g in layer.gemms),
            layers=found,
            largest=_largest(found),
            memory=memory,
            kept=kept_by_format(source),
            theirs=kept_by_function(source.bill),
            stages=stages,
            kernels=rows,
            roles=role_table(source),
            passes=_passes(source),
            style=_raw("page.css"),
            script=Markup("\n").join(_raw(f"{name}.js") for name in SCRIPTS),
            data=Markup(packed(data)),
        )
    )


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"count": count, "percent": percent, "size": size, "shade": shade}
    made.filters["milliseconds"] = lambda seconds: f"{MILLI * seconds:.3g} ms"
    made.globals |= {"SHADES": SHADES, "WORDS": WORDS}
    return made


def _raw(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


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

"""The frame of pages: a template, style, scripts and data made one file that loads nothing."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..report.tables import count, percent, size
from .shades import SHADES, WORDS, shade

TEMPLATES = Path(__file__).with_name("templates")
# What every page begins with; the last of its own scripts calls ``start``.
FIRST = ("tools", "start")
STYLE = "page.css"
BEST = 9  # of deflating
MILLI = 1e3


def filled(
    template: str,
    facts: dict[str, object],
    data: object,
    *,
    styles: Sequence[str] = (),
    scripts: Sequence[str],
    folder: Path | None = None,
) -> str:
    """A whole file as text: ``template`` filled in with ``facts``.

    ``data`` is what its scripts read on demand. Templates, styles and scripts lie in ``folder``, or
    among those of this folder, which may be used by all.
    """
    folders = (TEMPLATES,) if folder is None else (folder, TEMPLATES)
    made = environment(folders)
    return made.get_template(template).render(
        **facts,
        style=_raw(folders, [STYLE, *styles]),
        script=_raw(folders, [f"{name}.js" for name in (*FIRST, *scripts)]),
        data=Markup(packed(data)),
    )


def packed(data: object) -> str:
    """``data`` as a script unpacks it: JSON, deflated, in letters that HTML leaves alone."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode(), BEST)).decode()


def environment(folders: Sequence[Path]) -> Environment:
    """Templates of some folders, the first ahead; what is filled in is escaped."""
    made = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"count": count, "percent": percent, "size": size, "shade": shade}
    made.filters["milliseconds"] = lambda seconds: f"{MILLI * seconds:.3g} ms"
    made.globals |= {"SHADES": SHADES, "WORDS": WORDS}
    return made


def _raw(folders: Sequence[Path], names: Iterable[str]) -> Markup:
    """Files as they are, one behind the other."""
    places = (next(p for f in folders if (p := f / name).exists()) for name in names)
    return Markup("\n").join(Markup(p.read_text(encoding="utf-8")) for p in places)

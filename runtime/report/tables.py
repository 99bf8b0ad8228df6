"""How tables and numbers look: on a wide terminal, a narrow one or in a file."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table

# Width of a table that goes to a file or a pipe: what fits into an issue or a mail.
FILE_WIDTH = 100
COUNTS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
BYTES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def count(n: float) -> str:
    """A number of things in three digits: ``1.23 M``."""
    for unit, letter in COUNTS:
        if n >= unit:
            return f"{n / unit:.3g} {letter}" if n < 999.5 * unit else f"{n / unit:.0f} {letter}"
    return f"{n:g}"


def size(n: int) -> str:
    """A number of bytes: ``1.5 MiB``."""
    for unit, name in BYTES:
        if n >= unit:
            return f"{n / unit:.1f} {name}"
    return f"{n} B"


def percent(share: float) -> str:
    """A share of 0..1: ``12.3 %``."""
    return f"{100 * share:.1f} %"


def giga(n: float) -> str:
    """GBitOPs in three digits: ``1.31e+08 GBitOPs``, ``0.0123 GBitOPs``."""
    return f"{n:.3g} GBitOPs"


def table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    """A table without frame whose cells fold on narrow terminals; ``right`` columns are numbers."""
    made = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    made.title_style = "bold"
    for name in columns:
        number = name in right
        made.add_column(
            name, justify="right" if number else "left", overflow="fold", no_wrap=number
        )
    return made

"""Which GEMMs multiply more than four bits, and why: in words, with the pass that decided it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ...compiler.formats import Format
from ..report.costs import GemmLine
from .makers import OperandMakers
from .shades import stored_as
from .source import PageSource

FOUR_BITS = 4
PRODUCT = re.compile(r"#product\d*$")  # how layers that multiply activations are called


@dataclass(frozen=True, slots=True)
class Reason:
    """Why some GEMMs are not on four bits: the words, how many there are, their share, layers."""

    why: str
    formats: str
    gemms: int
    share: float
    layers: tuple[str, ...]


def reasons(gemms: Iterable[tuple[GemmLine, str]]) -> tuple[Reason, ...]:
    """The GEMMs that are not on four bits, by reason and formats, the largest share first."""
    groups: dict[tuple[str, str], list[GemmLine]] = {}
    for line, why in gemms:
        if why:
            groups.setdefault((why, line.formats), []).append(line)
    made = (
        Reason(
            *(why, formats, len(group), sum(g.share for g in group)),
            tuple(dict.fromkeys(g.layer for g in group)),
        )
        for (why, formats), group in groups.items()
    )
    return tuple(sorted(made, key=lambda r: (-r.share, r.why, r.formats)))


def reason(source: PageSource, line: GemmLine, made_by: OperandMakers | None) -> str:
    """Why a GEMM has an operand of more than four bits; empty for one on four bits."""
    if line.four_bit:
        return ""
    if any(fnmatchcase(line.layer, pattern) for pattern in source.bill.making.waivers):
        return "allowed to run in float (allow=): a waiver"
    if line.exempt and (terms := source.exempt_terms):
        return f"left in plain floats by the recipe's option exempt={terms}"
    passes = (made_by.first, made_by.second) if made_by else ("", "")
    if all(stored_as(short).is_carrier for short in line.operands):
        what = "this product of activations" if PRODUCT.search(line.layer) else "it"
        return f"no pass quantizes {what}: both operands are plain floats"
    wide = [
        _operand(stored_as(short), by, source)
        for short, bits, by in zip(line.operands, line.bits, passes, strict=True)
        if bits > FOUR_BITS
    ]
    return "; ".join(dict.fromkeys(wide))


def _operand(f: Format, by: str, source: PageSource) -> str:
    if not by:
        return f"no pass quantizes the operand in {f}"
    return f"{f} by {by}{_settings(by, source)}"


def _settings(label: str, source: PageSource) -> str:
    """The options of a pass that name layers, sizes or formats: what a reader would change."""
    entries = dict(zip(source.recipe.labels, source.recipe.passes, strict=True))
    if label not in entries:
        return ""
    words = [
        f"{key}={value}" for key, value in entries[label].settings.items() if isinstance(value, str)
    ]
    return f" ({', '.join(words)})" if words else ""

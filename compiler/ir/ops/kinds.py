"""Ops that move numbers and integers alike: of one op all are the one or all the other."""

from __future__ import annotations

from collections.abc import Sequence

from ..program import Value


def mixed(values: Sequence[Value]) -> str:
    """What is wrong with operands and results where some are integers, or integers of two sizes."""
    formats = {v.type.format for v in values}
    if len(formats) > 1 and any(f.is_index for f in formats):
        return f"{', '.join(sorted(map(str, formats)))} are not moved together"
    return ""

"""Shades of numbers of bits: a GEMM has that of its wider operand, a tensor that of its storage."""

from __future__ import annotations

from ...compiler.formats import Format
from ...compiler.spelled import format_of

# The least shade that holds so many bits; the style sheet has a colour for each.
SHADES = (2, 4, 8, 16, 32)
WORDS = {2: "1-2", 4: "3-4", 8: "5-8", 16: "9-16", 32: "more"}


def shade(bits: int) -> int:
    """The shade of ``bits``."""
    return next((s for s in SHADES if bits <= s), SHADES[-1])


def stored_as(short: str) -> Format:
    """The format in a type's short name: ``int4`` of ``int4*t``."""
    return format_of(short.partition("*")[0])


def stored_shade(short: str) -> int:
    """The shade of what a type's codes take in memory."""
    return shade(stored_as(short).storage_bits)

"""The table of definitions, filled: importing the operators is what fills it."""

from __future__ import annotations

from collections.abc import Mapping

from . import ops
from .definitions import DEFINITIONS, Definition

assert ops.__all__, "the operators fill the table"


def known_ops() -> Mapping[tuple[str, str], Definition]:
    """All definitions by domain and operator."""
    return DEFINITIONS

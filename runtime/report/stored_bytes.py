"""Bytes that a value takes in memory on the compiled targets."""

from __future__ import annotations

from ...compiler.ir import Value
from ...targets.plan.layout import Layout, Order


def stored_bytes(value: Value, order: Order) -> int:
    """Bytes that ``value`` takes in memory: packed codes and its scale."""
    layout = Layout(value.type, order)
    return layout.bytes + 4 * layout.scales

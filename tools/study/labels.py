"""Names beside points of a picture, so that none lies on another or on a point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

# Where a name is tried, in steps of the letters' height; behind these further away, with a line.
NEAR = ((1, 0.6), (1, -0.6), (-1, 0.6), (-1, -0.6), (1, 1.6), (1, -1.6), (-1, 1.6), (-1, -1.6))
RINGS = 6
SIZE = 8.0
POINT = 3.0


def name_points(axis: Any, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Write the names of ``points``, each ``(x, y, name, colour)`` in the axis's own numbers.

    The limits of the axis and its scales are to be set before.
    """
    figure = axis.figure
    figure.canvas.draw()  # what is laid out has its place from here on
    renderer = figure.canvas.get_renderer()
    at = [axis.transData.transform((x, y)) for x, y, _, _ in points]
    taken = [_box(x, y, POINT) for x, y in at]
    inside = axis.get_window_extent(renderer)
    for (x, y, name, colour), spot in zip(points, at, strict=True):
        text = axis.annotate(
            name, (x, y), xytext=(0, 0), textcoords="offset points", fontsize=SIZE, color=colour,
            arrowprops={"arrowstyle": "-", "color": colour, "alpha": 0.5, "linewidth": 0.6},
        )  # fmt: skip
        box = text.get_window_extent(renderer)
        scale = figure.dpi / 72
        width, height = box.width, box.height
        free = ((p, b) for p, b in _places(spot, width, height) if not _hits(b, taken, inside))
        place, found = next(free, next(_places(spot, width, height)))
        taken.append(found)
        text.set_position((place[0] / scale, place[1] / scale))


def _places(
    spot: Sequence[float], width: float, height: float
) -> Iterator[tuple[tuple[float, float], tuple[float, float, float, float]]]:
    """Offsets of a name from its point, and the box that it takes there, the nearest first."""
    for ring in range(RINGS):
        for side, up in NEAR:
            x = 1.2 * POINT + ring * height
            dx = x if side > 0 else -x - width
            dy = (up + 2 * ring * (1 if up > 0 else -1)) * height - height / 2
            left, bottom = spot[0] + dx, spot[1] + dy
            yield (dx, dy), (left, bottom, left + width, bottom + height)


def _box(x: float, y: float, half: float) -> tuple[float, float, float, float]:
    return x - half, y - half, x + half, y + half


def _hits(
    box: tuple[float, float, float, float],
    taken: Sequence[tuple[float, float, float, float]],
    inside: Any,
) -> bool:
    left, bottom, right, top = box
    if left < inside.x0 or right > inside.x1 or bottom < inside.y0 or top > inside.y1:
        return True
    return any(left < r and le < right and bottom < t and b < top for le, b, r, t in taken)

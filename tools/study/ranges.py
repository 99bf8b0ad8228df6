"""One rate or option over a range: how the words read, and the rows that they come to.

lr=0.01..0.4          from the one to the other by equal factors (--points of them)
clip_init=0..8        from 0, or between integers, by equal steps: each integer where not too many
low=2,3,4             these values
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...compiler.errors import UsageError
from .entry import Entry, distinct, entry, split

POINTS = 5
FORM = "lr=0.01..0.4 or low=2,3,4"


@dataclass(frozen=True, slots=True)
class ValueRange:
    """A key, which is a rate or an option of recipes, and the values that it takes in turn."""

    key: str
    values: tuple[str, ...]


def read_range(word: str, points: int | None) -> ValueRange:
    """The range of ``KEY=LOW..HIGH`` or ``KEY=VALUE,...``; UsageError for another form."""
    key, equals, said = (part.strip() for part in word.partition("="))
    if not key or not equals or not said:
        raise UsageError(f"{word!r} is no range; one reads like {FORM}")
    low, dots, high = said.partition("..")
    if dots:
        return ValueRange(key, _between(word, low, high, points))
    values = tuple(dict.fromkeys(v.strip() for v in said.split(",") if v.strip()))
    if points is not None:
        raise UsageError(f"--points is for KEY=LOW..HIGH; {word} lists its values")
    if len(values) < 2:
        raise UsageError(f"{word} has one value; a range has two or more, like {FORM}")
    return ValueRange(key, values)


def ranged(words: Sequence[str], over: ValueRange) -> tuple[Entry, ...]:
    """A row for each recipe of ``--recipes`` at each value; errors are those of ``entry``."""
    rows, chosen = [], split(words)
    for name, settings in chosen:
        if over.key in settings:
            raise UsageError(
                f"--recipes {name} sets {over.key}, and so does the range; say it once"
            )
        for value in over.values:
            called = "" if chosen[1:] else f"{over.key}={value}"
            rows.append(entry(name, {**settings, over.key: value}, called))
    return distinct(rows)


def _between(word: str, low: str, high: str, points: int | None) -> tuple[str, ...]:
    try:
        first, last = float(low), float(high)
    except ValueError:
        first = last = math.nan
    if not -math.inf < first < last < math.inf:
        raise UsageError(f"{word}: a range goes up between two numbers, like lr=0.01..0.4")
    if _whole(low) and _whole(high):
        return _integers(int(low), int(high), points)
    count = points or POINTS
    shares = [i / (count - 1) for i in range(count)]
    if first > 0:
        found = [first * (last / first) ** s for s in shares]
    else:
        found = [first + (last - first) * s for s in shares]
    return tuple(dict.fromkeys(f"{v:.3g}" for v in (*found[:-1], last)))


def _integers(low: int, high: int, points: int | None) -> tuple[str, ...]:
    whole = high - low + 1
    count = min(whole, points or (whole if whole <= 2 * POINTS else POINTS))
    return tuple(str(low + round(i * (high - low) / (count - 1))) for i in range(count))


def _whole(word: str) -> bool:
    return word.strip().lstrip("+-").isdigit()

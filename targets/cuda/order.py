"""Which work must wait for which: by the bytes that each reads and writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

from ..plan.plan import Place

Work = TypeVar("Work")


@dataclass(eq=False, slots=True)
class _Span(Generic[Work]):
    """Bytes ``start`` .. ``end`` - 1, with who wrote them last and who has read them since."""

    start: int
    end: int
    writer: Work | None
    readers: list[Work]


class Dependencies(Generic[Work]):
    """Work in the order in which it was planned."""

    def __init__(self) -> None:
        self._spans: dict[str, list[_Span[Work]]] = {}

    def before(self, reads: Iterable[Place], writes: Iterable[Place]) -> list[Work]:
        """What must be done ahead of work that reads and writes there."""
        found: dict[Work, None] = {}
        for place in reads:
            for span in self._touched(place):
                if span.writer is not None:
                    found[span.writer] = None
        for place in writes:
            for span in self._touched(place):
                if span.writer is not None and not span.readers:
                    found[span.writer] = None
                found |= dict.fromkeys(span.readers)
        return list(found)

    def add(self, node: Work, reads: Sequence[Place], writes: Sequence[Place]) -> None:
        """That work is planned."""
        for place in reads:
            for span in self._cut(place):
                span.readers.append(node)
        for place in writes:
            for span in self._cut(place):
                span.writer, span.readers = node, []

    def _touched(self, place: Place) -> list[_Span[Work]]:
        end = place.offset + place.bytes
        spans = self._spans.get(place.where, [])
        return [s for s in spans if s.start < end and place.offset < s.end]

    def _cut(self, place: Place) -> list[_Span[Work]]:
        """The spans of exactly these bytes."""
        start, end = place.offset, place.offset + place.bytes
        kept: list[_Span[Work]] = []
        inside: list[_Span[Work]] = []
        at = start
        for span in self._spans.get(place.where, []):
            if span.end <= start or span.start >= end:
                kept.append(span)
                continue
            pieces = _pieces(span, start, end)
            kept += [p for p in pieces if p.end <= start or p.start >= end]
            inside += [p for p in pieces if p.end > start and p.start < end]
        gaps = []
        for span in sorted(inside, key=lambda s: s.start):
            if at < span.start:
                gaps.append(_Span[Work](at, span.start, None, []))
            at = span.end
        if at < end:
            gaps.append(_Span[Work](at, end, None, []))
        self._spans[place.where] = [*kept, *inside, *gaps]
        return [*inside, *gaps]


def _pieces(span: _Span[Work], start: int, end: int) -> list[_Span[Work]]:
    """A span cut at both ends of a range."""
    ends = sorted({span.start, span.end, *(x for x in (start, end) if span.start < x < span.end)})
    return [_Span(a, b, span.writer, list(span.readers)) for a, b in pairwise(ends)]

"""The equation of ``einsum``: a label for each dimension of operands and result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

REST = "..."


@dataclass(frozen=True, slots=True)
class EinsumLabels:
    """Labels of each operand and of the result; those of "..." are numbers, the last is -1."""

    operands: tuple[tuple[Hashable, ...], ...]
    out: tuple[Hashable, ...]


def einsum_labels(equation: str, ranks: Sequence[int]) -> EinsumLabels | None:
    """What ``equation`` says of operands of ``ranks``; None where torch will refuse it."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        return None
    rests = [
        rank - len(term.replace(REST, "")) if REST in term else 0
        for term, rank in zip(terms, ranks, strict=True)
    ]
    operands = tuple(_labels(t, rest) for t, rest in zip(terms, rests, strict=True))
    if min(rests) < 0 or any(len(o) != r for o, r in zip(operands, ranks, strict=True)):
        return None
    most = max(rests)
    if arrow:
        return EinsumLabels(operands, _labels(right, most))
    letters = Counter(left.replace(REST, "").replace(",", ""))
    once = tuple(sorted(letter for letter, n in letters.items() if n == 1))
    return EinsumLabels(operands, (*range(-most, 0), *once))


def _labels(term: str, rest: int) -> tuple[Hashable, ...]:
    before, dots, behind = term.partition(REST)
    return (*before, *(range(-rest, 0) if dots else ()), *behind)

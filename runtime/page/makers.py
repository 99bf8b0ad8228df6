"""Which stage gave each operand of each GEMM its format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ...compiler.ir import Program
from ...compiler.ir.analysis import Gemm, gemms

GemmKey = tuple[str, str, int]  # layer, direction, which of those


@dataclass(frozen=True, slots=True)
class OperandMakers:
    """The stages that gave both operands of a GEMM their formats; empty: they are as captured."""

    first: str
    second: str


def makers(stages: Sequence[tuple[str, Program]]) -> dict[GemmKey, OperandMakers]:
    """Of each GEMM of the last stage, the last stage that changed the format of each operand."""
    tables = [(name, dict(keyed(gemms(program)))) for name, program in stages]
    final = tables[-1][1]
    return {key: OperandMakers(*(_maker(tables, key, i) for i in (0, 1))) for key in final}


def keyed(found: Sequence[Gemm]) -> Iterable[tuple[GemmKey, Gemm]]:
    """Each GEMM with its layer, direction and number among those that share them."""
    return zip(numbered((g.op.origin, g.direction) for g in found), found, strict=True)


def numbered(places: Iterable[tuple[str, str]]) -> Iterator[GemmKey]:
    """Layer and direction of GEMMs in the order of the program, as their keys."""
    counts = Counter[tuple[str, str]]()
    for place in places:
        counts[place] += 1
        yield (*place, counts[place])


def _maker(tables: Sequence[tuple[str, Mapping[GemmKey, Gemm]]], key: GemmKey, operand: int) -> str:
    """Walks back from the last stage while the format is the same."""
    last = tables[-1][1][key].formats[operand]
    name = ""
    for (_, before), (stage, _) in reversed([*pairwise(tables)]):
        if key not in before or before[key].formats[operand] != last:
            name = stage
            break
    return name

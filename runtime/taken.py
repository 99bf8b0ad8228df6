"""The numbers that inputs may hold: labels of the classes that there are, what a layer takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..compiler.errors import InputError
from ..compiler.ir import Op, Program, Value
from ..compiler.ir.ops import OPS, Trait, has
from ..compiler.ir.ops.shapes import bind
from ..targets.plan.checks import InputCheck


@dataclass(frozen=True, slots=True)
class Labels:
    """An input that holds numbers 0 .. classes - 1 (or ``ignore``): labels, rows of a table."""

    value: Value
    classes: int
    ignore: int | None
    word: str
    low: int = 0  # below 0 where numbers count from the end too

    def asked(self) -> InputCheck:
        """As a device is asked."""
        return InputCheck(self.value.name, self.low, self.classes - 1, self.ignore)

    def words(self) -> str:
        """What is wrong with a batch that fails."""
        return f"{self.value.name} held a {self.word} outside of {self.low} .. {self.classes - 1}"

    def check(self, given: np.ndarray) -> None:
        """Raise InputError where a number lies outside of 0 .. classes - 1."""
        wrong = (given < self.low) | (given >= self.classes)
        if self.ignore is not None:
            wrong &= given != self.ignore
        if bool(wrong.any()):
            first, name, top = int(given[wrong][0]), self.value.name, self.classes - 1
            raise InputError(
                f"{name} holds the {self.word} {first}; {self.word}s are {self.low} .. {top}"
            )


@dataclass(frozen=True, slots=True)
class Bounds:
    """An input of whose numbers a layer takes those from ``low`` to ``high`` alone."""

    value: Value
    low: float
    high: float
    layer: str

    def asked(self) -> InputCheck:
        """As a device is asked."""
        return InputCheck(self.value.name, self.low, self.high)

    def words(self) -> str:
        """What is wrong with a batch that fails."""
        return f"{self.value.name} held numbers outside of {self.low:g} .. {self.high:g}"

    def check(self, given: np.ndarray) -> None:
        """Raise InputError where a number lies outside."""
        wrong = (given < self.low) | (given > self.high)
        if bool(wrong.any()):
            first, name = float(given[wrong][0]), self.value.name
            taken = f"{self.low:g} .. {self.high:g}"
            raise InputError(f"{name} holds {first:g}; {self.layer!r} takes numbers of {taken}")


Taken = Labels | Bounds


def find_checks(program: Program) -> tuple[Taken, ...]:
    """What inputs may hold that a loss or a table reads, also through views and casts.

    One for each reader that takes other numbers: two losses may ignore different labels.
    """
    source = {v: v for v in program.inputs}
    found: dict[Taken, None] = {}
    for _, op in program.ops():
        if (has(op, Trait.WINDOW) or op.kind == "cast") and op.inputs[0] in source:
            source[op.result] = source[op.inputs[0]]
        if op.kind == "within" and op.inputs[0] in source:
            bounds = op.float_attr("low"), op.float_attr("high")
            found[Bounds(source[op.inputs[0]], *bounds, op.origin)] = None
        found |= dict.fromkeys(_labels(op, source))
    return tuple(found)


def _labels(op: Op, source: Mapping[Value, Value]) -> Iterator[Labels]:
    definition = OPS[op.kind]
    wraps = "wraps" in op.attrs and op.bool_attr("wraps")
    if op.kind == "place":
        for v, size in zip(op.inputs, op.ints_attr("sizes"), strict=True):
            if v in source:
                yield Labels(source[v], size, None, "row", -size if wraps else 0)
    for operand, v in zip(definition.operands, op.inputs, strict=False):
        if operand.names and v in source:
            (count,) = bind(definition, op)[operand.names]
            ignore = op.int_attr("ignore_index") if "ignore_index" in op.attrs else None
            word = "row" if operand.name == "index" else "label"
            yield Labels(source[v], count, ignore, word, -count if wraps else 0)


def check_numbers(
    batch: Sequence[object], wanted: Sequence[Value], checks: Sequence[Taken]
) -> None:
    """Raise InputError where an input of the host holds a number that its reader does not take."""
    places = list(wanted)
    for check in checks:
        given = batch[places.index(check.value)]
        if getattr(getattr(given, "device", None), "type", "cpu") == "cpu":
            check.check(np.asarray(given))

"""Channels that are chosen once, after some steps, by the sums of their norms in these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...compiler.formats import I64
from ...compiler.ir import Program, Value
from .appended import Appended
from .schedules import step_counter


@dataclass(frozen=True, slots=True)
class Choice:
    """``mask`` is 1 for the chosen channels, ``places`` are those; both are 0 ahead of it.

    ``statistics`` are mean and variance of each channel in a step.
    """

    mask: Value
    places: Value
    statistics: tuple[Value, Value]


def with_choices(
    program: Program, choices: Sequence[Choice], start: int, steps: int, by: str
) -> Program:
    """Let the states of choices be found by the norms in ``steps`` steps from ``start`` on."""
    new = Appended(program.names(), "optimizer")
    step = step_counter(program, by)
    first, last = (
        new("whole_table", f"outliers.{name}", (), f=I64, numbers=(at,))
        for name, at in (("first", start), ("last", start + steps - 1))
    )
    late, early, due = (
        new("whole_compare", f"outliers.{name}", (), step, at, relation=relation)
        for name, at, relation in (
            ("early", first, "lt"),
            ("late", last, "gt"),
            ("due", last, "eq"),
        )
    )
    outside = new("maximum", "outliers.outside", (), late, early)
    pairs, sums = list[tuple[Value, Value]](), dict[Value, float]()
    for choice in choices:
        norms = new.new(f"{choice.mask.name}.norms", choice.mask.type.shape)
        sums[norms] = 0.0
        pairs += _chosen(new, choice, norms, outside, due)
    out = program.with_state(sums).append("update", tuple(new.ops))
    return replace(out, next=(*out.next, *pairs))


def _chosen(
    new: Appended, choice: Choice, norms: Value, outside: Value, due: Value
) -> list[tuple[Value, Value]]:
    """States and what follows: norms are roots of mean squares, whose order is the same."""
    name, many = choice.mask.name, choice.places.type.shape
    (channels,) = shape = choice.mask.type.shape
    mean, var = choice.statistics
    square = new(
        "add", f"{name}.square", shape, new("mul", f"{name}.mean2", shape, mean, mean), var
    )
    more = new("add", f"{name}.more", shape, norms, new("sqrt", f"{name}.norm", shape, square))
    column, few = (1, channels, 1), (1, *many, 1)
    order = new(
        "order", f"{name}.order", column, new("view", f"{name}.column", column, more),
        f=I64, descending=True,
    )  # fmt: skip
    best = new("slice", f"{name}.best", few, order, f=I64, dim=1, start=0, step=1)
    places = new("view", f"{name}.found", many, best, f=I64)
    ones = new("constant", f"{name}.ones", few, value=1.0)
    spread = new("take_grad", f"{name}.spread", column, ones, places, wraps=False)
    mask = new("view", f"{name}.chosen", shape, spread)
    single = new("view", f"{name}.due", (1,), due)
    wide, few_due = (new.repeated(f"{name}.due", single, s) for s in (shape, many))
    left = new.repeated(f"{name}.outside", new("view", f"{name}.out", (1,), outside), shape)
    return [
        (norms, new("masked", f"{name}.sums", shape, left, more, value=0.0)),
        (choice.mask, new("where", f"{name}.next", shape, wide, mask, choice.mask)),
        (
            choice.places,
            new(
                "whole_where",
                f"{choice.places.name}.next",
                many,
                few_due,
                places,
                choice.places,
                f=I64,
            ),
        ),
    ]

"""Programs: one training step as pure, straight-line code in named regions.

    Program   name, inputs, state, regions, outputs, next, history
    Region    name (forward | backward | update), ops
    Op        results = kind(inputs) {attrs}        made for the layer `origin`
    Value     name : TensorType

No op works in place: what a state value becomes after the step is bound by ``next``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from ..types import TensorType

Attr = bool | int | float | str | tuple[int, ...] | tuple[float, ...]
NO_ATTRS: Mapping[str, Attr] = MappingProxyType({})
REGIONS = ("forward", "backward", "update")
# State that counts steps, and that stochastic choices start from.
STEP, SEED = "step", "generator.seed"
# State: the steps of an optimizer that had taken some before; ``step`` counts those of the program.
OPTIMIZER_STEP = "optimizer.step"


def show_attr(value: Attr) -> str:
    """An attribute as it stands in the text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{','.join(map(repr, value))}]"
    return value if isinstance(value, str) else repr(value)


@dataclass(frozen=True, eq=False, slots=True)
class Value:
    """A tensor defined once; values are compared by identity, never by name."""

    name: str
    type: TensorType


@dataclass(frozen=True, eq=False, slots=True)
class Op:
    """One step ``results = kind(inputs) {attrs}``; ``origin`` is the layer's module path."""

    kind: str
    inputs: tuple[Value, ...]
    results: tuple[Value, ...]
    attrs: Mapping[str, Attr] = field(default_factory=lambda: NO_ATTRS)
    origin: str = ""

    def __str__(self) -> str:
        """The op's line in the text of its program."""
        pairs = ", ".join(f"{k}={show_attr(v)}" for k, v in self.attrs.items())
        attrs = f" {{{pairs}}}" if pairs else ""
        types = ", ".join(str(r.type) for r in self.results)
        return f"{_names(self.results)} = {self.kind}({_names(self.inputs)}){attrs} : {types}"

    @property
    def result(self) -> Value:
        """The first result."""
        return self.results[0]

    def int_attr(self, name: str) -> int:
        """An integer attribute."""
        value = self.attrs[name]
        assert isinstance(value, int), f"{self.kind}.{name} is no integer"
        return value

    def float_attr(self, name: str) -> float:
        """A float attribute."""
        value = self.attrs[name]
        assert isinstance(value, float), f"{self.kind}.{name} is no float"
        return value

    def bool_attr(self, name: str) -> bool:
        """A flag."""
        value = self.attrs[name]
        assert isinstance(value, bool), f"{self.kind}.{name} is no flag"
        return value

    def word_attr(self, name: str) -> str:
        """An attribute that is one word."""
        value = self.attrs[name]
        assert isinstance(value, str), f"{self.kind}.{name} is no word"
        return value

    def ints_attr(self, name: str) -> tuple[int, ...]:
        """An attribute that is a list of integers."""
        value = self.attrs[name]
        assert isinstance(value, tuple), f"{self.kind}.{name} is no list"
        return tuple(v for v in value if isinstance(v, int))

    def floats_attr(self, name: str) -> tuple[float, ...]:
        """An attribute that is a list of numbers."""
        value = self.attrs[name]
        assert isinstance(value, tuple), f"{self.kind}.{name} is no list"
        return tuple(map(float, value))


def _names(values: Iterable[Value]) -> str:
    return ", ".join(v.name for v in values)


@dataclass(frozen=True, slots=True)
class Region:
    """A phase of the step; it may read the values of the phases before it."""

    name: str
    ops: tuple[Op, ...]


Rule = Callable[[Region, Op], "tuple[Op, ...] | None"]


@dataclass(frozen=True, slots=True)
class Program:
    """A training step: a pure function from inputs and state to outputs and the next state.

    ``next`` pairs a state value with its value after the step (state without a pair stays);
    ``initial`` holds the starting number of scalar state that passes added (``alpha = 8.0``);
    ``history`` lists the passes applied so far.
    """

    name: str
    inputs: tuple[Value, ...]
    state: tuple[Value, ...]
    regions: tuple[Region, ...]
    outputs: tuple[Value, ...]
    next: tuple[tuple[Value, Value], ...] = ()
    initial: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    history: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The program's text; ``text.parse`` reads it back."""
        lines = [f"program {self.name}"]
        lines += [f"after {', '.join(self.history)}"] if self.history else []
        lines += [f"input {v.name} : {v.type}" for v in self.inputs]
        for v in self.state:
            start = f" = {self.initial[v.name]!r}" if v.name in self.initial else ""
            lines.append(f"state {v.name} : {v.type}{start}")
        for region in self.regions:
            lines += ["", f"{region.name}:"]
            origin = ""
            for op in region.ops:
                if op.origin != origin:
                    lines.append(f"  # {op.origin}")
                    origin = op.origin
                lines.append(f"  {op}")
        lines += ["", f"return {_names(self.outputs)}"]
        lines += [f"next {s.name} = {v.name}" for s, v in self.next]
        return "\n".join(lines) + "\n"

    def ops(self) -> Iterator[tuple[Region, Op]]:
        """All ops in order, each with its region."""
        for region in self.regions:
            for op in region.ops:
                yield region, op

    def region(self, name: str) -> Region:
        """The region called ``name``; an empty one if the program has none."""
        return next((r for r in self.regions if r.name == name), Region(name, ()))

    def names(self) -> set[str]:
        """All names in use."""
        made = {r.name for _, op in self.ops() for r in op.results}
        return made | {v.name for v in (*self.inputs, *self.state)}

    def producers(self) -> dict[Value, Op]:
        """The op that makes each value (inputs and state have none)."""
        return {r: op for _, op in self.ops() for r in op.results}

    def readers(self) -> dict[Value, list[Op]]:
        """The ops that read each value, in program order."""
        table: dict[Value, list[Op]] = {}
        for _, op in self.ops():
            for v in dict.fromkeys(op.inputs):
                table.setdefault(v, []).append(op)
        return table

    def rewrite(self, rule: Rule, *, by: str = "") -> Program:
        """Put what ``rule`` returns in place of each op; ``None`` keeps the op.

        ``rule`` sees each op with its inputs already renewed. A new op that defines a name of the
        old one takes over all its readers. ``by`` is appended to the history.
        """
        swap: dict[Value, Value] = {}
        regions = tuple(Region(r.name, _rewrite_region(r, rule, swap)) for r in self.regions)
        return replace(
            self,
            regions=regions,
            outputs=tuple(swap.get(v, v) for v in self.outputs),
            next=tuple((s, swap.get(v, v)) for s, v in self.next),
            history=(*self.history, by) if by else self.history,
        )

    def done(self, by: str) -> Program:
        """The same program with ``by`` at the end of its history."""
        return replace(self, history=(*self.history, by))

    def with_state(self, values: Mapping[Value, float]) -> Program:
        """Add state values, each with the number that it starts from."""
        initial = {**self.initial, **{v.name: float(x) for v, x in values.items()}}
        return replace(self, state=(*self.state, *values), initial=MappingProxyType(initial))

    def append(self, region: str, ops: tuple[Op, ...]) -> Program:
        """Add ops at the end of a region, which must exist."""
        return replace(
            self,
            regions=tuple(
                Region(r.name, (*r.ops, *ops)) if r.name == region else r for r in self.regions
            ),
        )


def _rewrite_region(region: Region, rule: Rule, swap: dict[Value, Value]) -> tuple[Op, ...]:
    out: list[Op] = []
    for old in region.ops:
        op = replace(old, inputs=tuple(swap.get(v, v) for v in old.inputs))
        new = rule(region, op)
        out += [op] if new is None else new
        made = {r.name: r for n in new or () for r in n.results}
        swap.update({r: made[r.name] for r in op.results if r.name in made})
    return tuple(out)


def attrs(**values: Attr) -> Mapping[str, Attr]:
    """Attributes of an op, read-only."""
    return MappingProxyType(values)


def spelled(name: str) -> str:
    """``name`` as the text of a program can spell it: modules may have any characters in theirs."""
    plain = re.sub(r"[^\w.#']", "_", name)
    return plain if re.match(r"\w", plain) else f"_{plain}"


def unused(name: str, taken: set[str]) -> str:
    """``name``, or the first of ``name#2``, ``name#3`` .. not in ``taken``; adds it there."""
    candidate, n = name, 1
    while candidate in taken:
        n += 1
        candidate = f"{name}#{n}"
    taken.add(candidate)
    return candidate

"""One op of the IR: what it takes, what it makes, and what is true of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from ...spelled import is_of_codes
from ...types import Shape
from ..program import Attr, Op
from .traits import Trait


class Direction(Enum):
    """Which of a layer's products a GEMM is, in the words of the papers."""

    FORWARD = "forward"
    INPUT_GRAD = "dX"
    WEIGHT_GRAD = "dW"


Pattern = tuple[str, ...]
"""A shape in symbols: ``N``, a number, ``*S`` for any number of dimensions, ``?`` for any shape."""
Extents = Mapping[str, Shape]
"""What the symbols of a signature stand for in one op: ``N`` for one size, ``*S`` for several."""
Check = Callable[[Op, Extents], str]
"""What more must hold of an op whose operands and results fit its patterns; "" where it does."""


@dataclass(frozen=True, slots=True)
class Operand:
    """An operand or result: its class of formats, and the patterns of shapes that it may have.

    ``names`` is the symbol of the dimension whose places the numbers of an index name.
    """

    name: str
    format_class: str
    patterns: tuple[Pattern, ...]
    repeats: bool = False
    names: str = ""

    def __str__(self) -> str:
        shapes = "|".join(f"[{' '.join(p)}]" for p in self.patterns)
        index = f"<{self.names}>" if self.names else ""
        return f"{self.name}: {self.format_class}{index}{shapes}{'...' if self.repeats else ''}"


@dataclass(frozen=True, slots=True)
class Attribute:
    """A typed attribute: ``type`` is flag, word, format, int, float, ints, floats, dim or dims.

    ``low`` and ``high`` bound its numbers, ``low`` is excluded where ``above``; ``count`` is the
    length of a list that must have one; ``of`` is the operand or result whose dimensions are meant.
    """

    name: str
    type: str
    words: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    count: int | None = None
    of: str = ""
    optional: bool = False

    def __str__(self) -> str:
        mark = "?" if self.optional else ""
        return f"{self.name}{mark}: {self.range}"

    @property
    def range(self) -> str:
        """Its type and values, as the signature says them."""
        if self.type == "word":
            return "|".join(self.words)
        text = f"{self.count} {self.type}" if self.count else self.type
        if self.of:
            return f"{text} of {self.of}"
        if self.high < math.inf:
            return f"{text} {self.low:g}..{self.high:g}"
        if self.low > -math.inf:
            return f"{text} {'>' if self.above else '>='} {self.low:g}"
        return text

    def admits(self, value: Attr, rank: int) -> bool:
        """Whether it may be ``value``; ``rank`` is the number of dimensions of ``of``."""
        if self.type in ("flag", "word"):
            return isinstance(value, bool) if self.type == "flag" else value in self.words
        if self.type == "format":
            return isinstance(value, str) and is_of_codes(value)
        if self.type in ("ints", "floats", "dims"):
            return isinstance(value, tuple) and self._admits_all(value, rank)
        return self._admits_one(value, rank)

    def _admits_all(self, values: tuple[int, ...] | tuple[float, ...], rank: int) -> bool:
        fits = self.count is None or len(values) == self.count
        once = self.type != "dims" or len(set(values)) == len(values)
        return fits and once and all(self._admits_one(v, rank) for v in values)

    def _admits_one(self, value: object, rank: int) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if isinstance(value, float) != self.type.startswith("float"):
            return False
        if self.type.startswith("dim"):
            return 0 <= value < rank
        if self.low == -math.inf and self.high == math.inf:
            return True
        below = value <= self.low if self.above else value < self.low
        return not below and value <= self.high and math.isfinite(value)


@dataclass(frozen=True)
class OpDef:
    """The definition of one op kind; ``family`` is the group of ops it stands in."""

    kind: str
    operands: tuple[Operand, ...]
    attrs: Mapping[str, Attribute]
    results: tuple[Operand, ...]
    meaning: str
    traits: frozenset[Trait]
    check: Check | None
    direction: Direction | None
    family: str = ""

    def __str__(self) -> str:
        """The signature."""
        operands, results = (", ".join(map(str, x)) for x in (self.operands, self.results))
        attrs = ", ".join(map(str, self.attrs.values()))
        return f"{self.kind}({operands}){f' {{{attrs}}}' if attrs else ''} -> {results}"

    @cached_property
    def required(self) -> frozenset[str]:
        """Attributes that must be there."""
        return frozenset(name for name, a in self.attrs.items() if not a.optional)

    @cached_property
    def repeats(self) -> bool:
        """Whether the last operand takes one or more values."""
        return bool(self.operands) and self.operands[-1].repeats

    def operand(self, i: int) -> Operand:
        """The definition of operand ``i``."""
        return self.operands[min(i, len(self.operands) - 1)]

    def place(self, name: str) -> int | None:
        """The number of the operand called ``name``; None where there is none."""
        return next((i for i, o in enumerate(self.operands) if o.name == name), None)

    @cached_property
    def random(self) -> bool:
        """Whether it draws from the generator, by seed, step, its salt and the element's index."""
        return "salt" in self.attrs

    @cached_property
    def whole(self) -> int:
        """How many leading operands have the shape that a pointwise op, or a tail, runs over."""
        space = (self.operands if Trait.TAIL in self.traits else self.results)[0].patterns
        count = 0
        while count < len(self.operands) and self.operands[count].patterns == space:
            count += 1
        return count

    @cached_property
    def makes_whole(self) -> bool:
        """Whether its first result has the shape of its first operand."""
        return bool(self.operands) and self.results[0].patterns == self.operands[0].patterns

    @cached_property
    def limited(self) -> bool:
        """Whether operand 1 is a limit: one number, or one for each place of dimension 0."""
        return len(self.operands) > 1 and self.operands[1].patterns == ((), ("C",))

    @cached_property
    def affine(self) -> bool:
        """Whether it makes codes on a grid between two limits."""
        return Trait.QUANTIZER in self.traits and self.place("low") is not None

    @cached_property
    def summed(self) -> frozenset[int]:
        """The operands over whose dimension 0 it sums: no result has it."""
        kept = {symbol for r in self.results for p in r.patterns for symbol in p}
        rows = ((i, p[0]) for i, o in enumerate(self.operands) for p in o.patterns if p)
        return frozenset(i for i, row in rows if row not in kept)

    @cached_property
    def by_channel(self) -> bool:
        """Whether an operand or result has one number for each place of dimension 1."""
        first = self.operands[0].patterns[0] if self.operands else ()
        channel = first[1:2] if first[:1] == ("N",) else None
        return any(channel in o.patterns for o in (*self.operands, *self.results))

"""The language of update rules: what an optimizer does to one element, for every target.

A rule is a list of steps in the order of its formula, and each of them rounds. What depends on no
element is worked out once for a parameter; such numbers may be ``wide``, which is f64, all others
are f32. The reference runs a rule on arrays, kernels are built from it, and tests compare it with
torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeVar

from .program import Attr

T = TypeVar("T")


class Act(Enum):
    """What a step of a rule does with the numbers a, b ... of earlier steps."""

    READ = auto()  # an operand of the op
    FIRST = auto()  # 1 in the first step, where the count is 0, else 0
    TURN = auto()  # the count of steps with this one, wide
    CONSTANT = auto()
    ADD = auto()
    SUB = auto()
    MUL = auto()
    DIV = auto()
    NEGATE = auto()
    SIZE = auto()  # |a|
    SQRT = auto()
    EXP = auto()  # of a wide number, of -700 .. 700 the nearest to it
    LOG1P = auto()  # log(1 + a), of a wide number
    ABOVE = auto()  # c where a > b, else d
    EQUAL = auto()  # c where a = b, else d
    WIDEN = auto()
    NARROW = auto()


@dataclass(frozen=True, slots=True)
class RuleStep:
    """One step: what it does, and the places of the steps whose numbers it takes.

    ``operand`` is the one of the op that READ, FIRST and TURN look at, ``value`` the number of a
    constant. A step is of ``each`` element where it depends on one.
    """

    act: Act
    of: tuple[int, ...] = ()
    operand: int = 0
    value: float = 0.0
    each: bool = False
    wide: bool = False


@dataclass(frozen=True, slots=True)
class UpdateRule:
    """The steps, and which of them make the results of the op, in their order."""

    steps: tuple[RuleStep, ...]
    made: tuple[int, ...]

    def run(self, take: Callable[[RuleStep, Sequence[T]], T]) -> list[T]:
        """The results; ``take`` makes the number of a step from those that it reads."""
        numbers: list[T] = []
        for step in self.steps:
            numbers.append(take(step, [numbers[i] for i in step.of]))
        return [numbers[i] for i in self.made]


@dataclass(frozen=True, slots=True, eq=False)
class RuleTerm:
    """A number of a rule that is being written; arithmetic with it appends steps."""

    steps: list[RuleStep]
    place: int

    def __add__(self, other: RuleTerm | float) -> RuleTerm:
        return self._take(Act.ADD, self, other)

    def __radd__(self, other: float) -> RuleTerm:
        return self._take(Act.ADD, other, self)

    def __sub__(self, other: RuleTerm | float) -> RuleTerm:
        return self._take(Act.SUB, self, other)

    def __rsub__(self, other: float) -> RuleTerm:
        return self._take(Act.SUB, other, self)

    def __mul__(self, other: RuleTerm | float) -> RuleTerm:
        return self._take(Act.MUL, self, other)

    def __rmul__(self, other: float) -> RuleTerm:
        return self._take(Act.MUL, other, self)

    def __truediv__(self, other: RuleTerm | float) -> RuleTerm:
        return self._take(Act.DIV, self, other)

    def __rtruediv__(self, other: float) -> RuleTerm:
        return self._take(Act.DIV, other, self)

    def __neg__(self) -> RuleTerm:
        return self._take(Act.NEGATE, self)

    def size(self) -> RuleTerm:
        """The magnitude."""
        return self._take(Act.SIZE, self)

    def sqrt(self) -> RuleTerm:
        """The square root."""
        return self._take(Act.SQRT, self)

    def exp(self) -> RuleTerm:
        """e to this power."""
        return self._take(Act.EXP, self)

    def log1p(self) -> RuleTerm:
        """The logarithm of 1 more."""
        return self._take(Act.LOG1P, self)

    def wide(self) -> RuleTerm:
        """The number in f64; one that no element differs in."""
        assert not self._step.each, "mixed widths"
        return _put(self.steps, RuleStep(Act.WIDEN, (self.place,), wide=True))

    def narrow(self) -> RuleTerm:
        """The number rounded to f32."""
        return _put(self.steps, RuleStep(Act.NARROW, (self.place,)))

    def above(
        self, limit: RuleTerm | float, yes: RuleTerm | float, no: RuleTerm | float
    ) -> RuleTerm:
        """``yes`` where this number is larger than ``limit``, else ``no``."""
        return self._take(Act.ABOVE, self, limit, yes, no)

    def equal(
        self, other: RuleTerm | float, yes: RuleTerm | float, no: RuleTerm | float
    ) -> RuleTerm:
        """``yes`` where this number is ``other``, else ``no``."""
        return self._take(Act.EQUAL, self, other, yes, no)

    @property
    def _step(self) -> RuleStep:
        return self.steps[self.place]

    def _take(self, act: Act, *of: RuleTerm | float) -> RuleTerm:
        wide = self._step.wide
        terms = [x if isinstance(x, RuleTerm) else self._constant(x, wide) for x in of]
        each = any(x._step.each for x in terms)
        assert {x._step.wide for x in terms} == {wide} and not (each and wide), "mixed widths"
        return _put(self.steps, RuleStep(act, tuple(x.place for x in terms), each=each, wide=wide))

    def _constant(self, value: float, wide: bool) -> RuleTerm:
        return _put(self.steps, RuleStep(Act.CONSTANT, value=value, wide=wide))


def _put(steps: list[RuleStep], step: RuleStep) -> RuleTerm:
    steps.append(step)
    return RuleTerm(steps, len(steps) - 1)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a formula speaks of: an update op's operands by name, its settings, and its count.

    ``operands`` says of each, in the order of the op, whether every element has its own;
    ``counter`` is the name of the count among them.
    """

    operands: Mapping[str, bool]
    counter: str
    settings: Mapping[str, Attr]
    steps: list[RuleStep] = field(default_factory=list)
    _known: dict[str, RuleTerm] = field(default_factory=dict)

    def __getitem__(self, name: str) -> RuleTerm:
        """The operand called ``name``."""
        return self._known[name]

    def declare(self) -> None:
        """Read all operands but the count, in their order; ``maximize`` turns the gradient."""
        for i, (name, each) in enumerate(self.operands.items()):
            if name != self.counter:
                self._known[name] = _put(self.steps, RuleStep(Act.READ, operand=i, each=each))
        if self.flag("maximize"):
            self._known["dw"] = -self["dw"]

    def flag(self, name: str) -> bool:
        """A setting that is true or false."""
        return bool(self.settings.get(name))

    @property
    def first(self) -> RuleTerm:
        """1 in the first step, else 0."""
        return self._count(Act.FIRST, wide=False)

    @property
    def turn(self) -> RuleTerm:
        """1 in the first step, 2 in the next; wide."""
        return self._count(Act.TURN, wide=True)

    def _count(self, act: Act, *, wide: bool) -> RuleTerm:
        if act.name not in self._known:
            place = list(self.operands).index(self.counter)
            self._known[act.name] = _put(self.steps, RuleStep(act, operand=place, wide=wide))
        return self._known[act.name]


Formula = Callable[[Subject], tuple[RuleTerm, ...]]
"""From a parameter ``w``, its gradient ``dw`` and what else the op reads: what each becomes."""


def write(
    formula: Formula, operands: Mapping[str, bool], counter: str, settings: Mapping[str, Attr]
) -> UpdateRule:
    """The rule that a formula spells for one op."""
    subject = Subject(operands, counter, settings)
    subject.declare()
    made = formula(subject)
    return UpdateRule(tuple(subject.steps), tuple(term.place for term in made))

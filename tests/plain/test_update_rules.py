"""Update rules: what is worked out once for a parameter, what for each element, and how wide."""

from __future__ import annotations

import pytest

from quatrain.compiler.ir.ops import OPS, Trait, having
from quatrain.compiler.ir.rule import Act, Formula, RuleTerm, Subject, write
from quatrain.compiler.ir.updates import COUNT, KINDS, rule_of

from ..cases.op_examples import example

BY_RULE = sorted(kind for kind, of in KINDS.items() if of.formula)


def test_every_update_is_a_kind() -> None:
    assert having(Trait.UPDATE) == set(KINDS)
    assert having(Trait.COMPOSED) & set(KINDS) == set(KINDS) - set(BY_RULE)


@pytest.mark.parametrize("kind", BY_RULE)
def test_what_is_kept_is_as_large_as_its_rule_makes_it(kind: str) -> None:
    """A number beside a parameter depends on no element, a tensor beside it does."""
    rule, results = rule_of(example(kind)), OPS[kind].results
    assert [rule.steps[i].each for i in rule.made] == [r.patterns[0] != () for r in results]
    assert not any(step.wide for step in (rule.steps[i] for i in rule.made))


@pytest.mark.parametrize("kind", BY_RULE)
def test_all_that_an_update_reads_is_used(kind: str) -> None:
    """But for the count of one that has none: its operands say so."""
    rule = rule_of(example(kind))
    names = list(KINDS[kind].operands)
    looked = {names[s.operand] for s in rule.steps if s.act in (Act.READ, Act.FIRST, Act.TURN)}
    taken = {i for step in rule.steps for i in step.of} | set(rule.made)
    assert looked == set(names) and taken == set(range(len(rule.steps)))


@pytest.mark.parametrize(
    "formula", [lambda x: (x["w"] + x["lr"].wide(),), lambda x: (x["w"].wide().narrow(),)]
)
def test_widths_do_not_mix(formula: Formula) -> None:
    with pytest.raises(AssertionError, match="mixed widths"):
        write(formula, {"w": True, "dw": True, "lr": False}, COUNT, {})


def test_a_constant_is_as_wide_as_its_neighbour() -> None:
    def formula(x: Subject) -> tuple[RuleTerm, ...]:
        return ((1.0 - x["lr"].wide()).narrow() * x["w"],)

    rule = write(formula, {"w": True, "dw": True, "lr": False}, COUNT, {})
    (constant,) = (step for step in rule.steps if step.act is Act.CONSTANT)
    assert constant.wide and rule.steps[rule.made[0]].each

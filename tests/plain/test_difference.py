"""What tells two programs apart is said by layer, parameter and function, and never by their text."""

from __future__ import annotations

import pytest

from quatrain.compiler.ir.difference import difference
from quatrain.compiler.ir.text import parse

TEXT = """program Net
input x : f32[4x3]
input y : f32[4x3]
input rate : f32[]
state fc.w : f32[3x3]
state b : f32[3x3]

forward:
  # fc
  h = linear(x, fc.w) : f32[4x3]
  # act
  a = clamp_max(h) {high=1.0} : f32[4x3]
  # loss
  l = mse_loss(a, y) {reduction=mean} : f32[]

backward:
  # loss
  g = mse_loss_grad(l, a, y) {reduction=mean} : f32[4x3]
  # act
  d = mul(g, h) : f32[4x3]
  # fc
  w = linear_weight_grad(d, x) : f32[3x3]
  w1 = add(fc.w, w) : f32[3x3]

return l
next fc.w = w1
next b = b
"""
CHANGES = {
    "function": (
        ("clamp_max(h) {high=1.0}", "relu(h)"),
        "layer 'act' computes relu, not clamp_max",
    ),
    "number": (("high=1.0", "high=2.0"), "high of clamp_max in layer 'act' is 2.0, not 1.0"),
    "word": (("(a, y) {reduction=mean} : f32[]", "(a, y) {reduction=sum} : f32[]"), "reduction of"),
    "layer": (("# act\n  a", "# other\n  a"), "layer 'act' does not compute clamp_max"),
    "state": (("state b", "state c"), "it has no b"),
    "shape": (("state b : f32[3x3]", "state b : f32[3x4]"), "b is f32[3x4], not f32[3x3]"),
    "input": (("input rate", "input momentum"), "it has no rate"),
    "gradient": (("d = mul(g, h)", "d = add(g, h)"), "layer 'act' computes add, not mul"),
    "operand": (("d = mul(g, h)", "d = mul(g, a)"), "mul in layer 'act' reads or follows"),
    "next": (("next b = b", "next b = fc.w"), "it returns or keeps something else"),
    "start": (("state b : f32[3x3]", "state b : f32[3x3] = 1.0"), "it returns or keeps"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_difference_is_told_in_words(what: str) -> None:
    (part, by), said = CHANGES[what]
    other = TEXT.replace(part, by).replace(
        "next b = b", "next c = c" if "state c" in by else "next b = b"
    )
    told = difference(parse(TEXT), parse(other))
    assert told.startswith(said), told
    assert difference(parse(other), parse(TEXT))
    assert " = " not in told and "(" not in told


def test_the_same_differs_in_nothing() -> None:
    assert difference(parse(TEXT), parse(TEXT)) == ""

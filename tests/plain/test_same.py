"""What tells a checkpoint of another run apart, in the words by which a person compiled it."""

from dataclasses import replace

import pytest

from quatrain.compiler.ir.text import parse
from quatrain.passes.recipe import Recipe, load_recipe
from quatrain.runtime.bundle import Bundle
from quatrain.tools.same import difference
from quatrain.tools.update import Update

TEXT = """program Net
input x : f32[4x3]
input y : f32[4x3]
input group0.lr : f32[]

forward:
  # act
  a = relu(x) : f32[4x3]
  l = mse_loss(a, y) : f32[]

return l
"""


def bundle(text: str = TEXT, recipe: Recipe | None = None) -> Bundle:
    """A file of the program."""
    program = parse(text)
    return Bundle(program, program, recipe or Update().after(load_recipe("int4")), {})


FP32 = Update().after(load_recipe("fp32"))
INT4 = load_recipe("int4")
OTHERS = {
    "network": (bundle(TEXT.replace("Net", "Other")), "its network is Other, not Net"),
    "batch": (bundle(TEXT.replace("4x3", "2x3")), "its batch is 2x3, 2x3, not 4x3, 4x3"),
    "recipe": (bundle(recipe=FP32), "its recipe is fp32, not int4"),
    "program": (
        bundle(TEXT.replace("relu", "tanh")),
        "layer 'act' computes tanh, not relu",
    ),
    "accumulate": (bundle(recipe=Update(accumulate=3).after(INT4)), "it has 'accumulate=3'"),
    "average": (bundle(recipe=Update(average=0.5).after(INT4)), "it has 'average=0.5'"),
    "states": (bundle(recipe=Update(adam_states="int8").after(INT4)), "it has 'adam_states=int8'"),
    "clip_norm": (bundle(recipe=Update(clip_norm=2.0).after(INT4)), "it has 'clip_norm=2.0'"),
    "option": (
        bundle(recipe=Update().after(INT4.with_options({"bits": 8}))),
        "bits=8' where the network has",
    ),
    "title": (
        bundle(recipe=replace(Update().after(INT4), title="mine")),
        "its passes are of another file or version",
    ),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_differs_is_told(what: str) -> None:
    other, said = OTHERS[what]
    assert said in difference(bundle(), other)


def test_the_same_differs_in_nothing() -> None:
    assert difference(bundle(), bundle()) == ""

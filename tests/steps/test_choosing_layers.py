"""Functions that choose layers: asked once for each, and then names like any other."""

import functools
import logging
import operator
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import quatrain
from quatrain.compiler.errors import RecipeError
from quatrain.passes.parts.select import escaped, layers, selected
from quatrain.passes.recipe import load_recipe
from quatrain.runtime.step import Step

pytestmark = pytest.mark.torch
X, Y = torch.ones(2, 4, 5, 3), torch.tensor([0, 3])
KEYS = ("*", "[a]", "a,b", "!c", "first", "3x3", "ab")


class Block(nn.Module):
    """A convolution in groups, and a product that is written with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.matrix = nn.Parameter(torch.eye(3) + 0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.wide(x)) @ self.matrix


class Net(nn.Module):
    """Nested layers, one of two names, a product outside of any."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.blocks = nn.Conv2d(4, 4, 1), nn.ModuleList([Block(), Block()])
        self.shared = self.again = nn.Conv2d(4, 4, 1)
        self.w = nn.Parameter(torch.eye(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for part in (*self.blocks, self.shared, self.again):
            x = torch.relu(part(x))
        return x.mean((2, 3)) @ self.w


def made(options: dict[str, object], model: nn.Module | None = None, **more: object) -> Step:
    model = Net() if model is None else model
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    given = {"recipe": "ultra_low_4bit", "target": "reference", **more}
    return quatrain.compile(model, cross_entropy, (X, Y), sgd, options=options, **given)  # type: ignore[arg-type]


def in_groups(module: nn.Module, name: str) -> bool:
    return isinstance(module, nn.Conv2d) and module.groups > 1


def of_kind(kind: type[nn.Module], module: nn.Module, name: str) -> bool:
    return type(module) is kind


class Named:
    """An object that is asked, and keeps what it was asked."""

    def __init__(self, *names: str) -> None:
        self.names, self.asked = names, list[tuple[nn.Module, str]]()

    def __call__(self, module: nn.Module, name: str) -> bool:
        self.asked.append((module, name))
        return name in self.names


WIDE = "blocks.0.wide,blocks.1.wide"
# An option, a function of another form for each, and the layers that it chooses.
FORMS: dict[str, tuple[Callable[[nn.Module, str], bool], str]] = {
    "exempt": (lambda module, name: isinstance(module, nn.Conv2d) and module.groups > 1, WIDE),
    "fp8_on": (in_groups, WIDE),
    "sawb_weights.exempt": (functools.partial(of_kind, Block), "blocks.0,blocks.1"),
    "grad_scale.exempt": (Named("shared#2", "model"), "shared#2,model"),
}


def test_what_a_function_chooses_is_the_option(tmp_path: Path) -> None:
    names = {key: chosen for key, (_, chosen) in FORMS.items()}
    step = made({key: function for key, (function, _) in FORMS.items()}, allow=in_groups)
    named = load_recipe("ultra_low_4bit").with_options(names)
    assert step.source.recipe == named.ending_with("skip_nonfinite")
    assert dict(step.source.recipe.options) == names and step.source.allow == tuple(WIDE.split(","))
    step.save(tmp_path / "net.qtn")
    again = quatrain.load(tmp_path / "net.qtn").source
    assert (again.recipe, again.allow) == (step.source.recipe, step.source.allow)
    assert set(names.items()) <= set(step.report().making.options)


def test_each_layer_is_asked_once_with_its_module() -> None:
    asked, model = Named(), Net()
    step = made({"exempt": asked}, model)
    assert [name for _, name in asked.asked] == list(layers(step.source.train))
    modules = dict(model.named_modules())
    for module, name in asked.asked:
        assert module is (model if name == "model" else modules[name.partition("#")[0]])
    assert {"shared", "shared#2"} <= {name for _, name in asked.asked}
    step(X[:1], Y[:1])
    assert len(asked.asked) == len(layers(step.source.train))


class Aligned(nn.Module):
    """A loss with a product of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.eye(4))

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return cross_entropy(output @ self.w, target)


def test_layers_of_the_loss() -> None:
    """Those of a module are its own; a function is none, and is not asked for."""

    def plain(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return cross_entropy(output @ linear.weight, target)

    linear, aligned = nn.Linear(4, 4), Aligned()
    model = nn.Sequential(linear)
    x, found = torch.ones(2, 4), list[list[tuple[nn.Module, str]]]()
    for loss in (aligned, plain):
        sgd, asked = torch.optim.SGD(model.parameters(), lr=0.1), Named()
        quatrain.compile(model, loss, (x, Y), sgd, recipe="fp32", target="reference", allow=asked)
        found.append(asked.asked)
    assert found == [[(linear, "0"), (aligned, "loss")], [(linear, "0")]]


class Flat(nn.Module):
    """Layers of odd names, not nested."""

    def __init__(self) -> None:
        super().__init__()
        for key in (*KEYS, "none"):
            self.add_module(key, nn.Conv2d(4, 4, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for part in self.children():
            x = torch.relu(part(x))
        return x.mean((2, 3))


def test_names_stand_for_themselves() -> None:
    step = made({"exempt": Named(*KEYS)}, Flat())
    program, said = step.source.train, dict(step.source.recipe.options)["exempt"]
    assert selected(program, said) == {*KEYS} == layers(program).keys() - {"none"}
    for name in layers(program):
        assert selected(program, escaped(name)) == {name}


def test_none_of_the_layers_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="quatrain"):
        step = made({"exempt": lambda module, name: False}, allow=lambda module, name: False)
    assert dict(step.source.recipe.options)["exempt"] == "none" and step.source.allow == ()
    option, allow = (r.getMessage() for r in caplog.records)
    assert option.startswith("option exempt: the function chooses none of the ")
    assert allow.startswith("allow: the function chooses none of the ")


def test_what_is_no_such_function() -> None:
    def said(function: object, **more: object) -> str:
        with pytest.raises(RecipeError) as caught:
            made({"exempt": function, **more})
        return str(caught.value)

    assert said(nn.Conv2d) == (
        "option exempt is the class Conv2d; give a function, such as "
        "lambda module, name: isinstance(module, Conv2d)"
    )
    assert said(lambda module: True) == (
        "option exempt is a function that takes (module), and is asked as function(module, name) "
        "for each layer; a third argument is set by functools.partial"
    )
    wrong = "option exempt: its function gave 'yes' for layer 'stem', a Conv2d; it says True or "
    assert said(lambda module, name: "yes") == f"{wrong}False, for example by bool(...)"
    assert "failed for layer 'stem', a Conv2d, with TypeError: " in said(operator.add)
    assert said(in_groups, carrier=in_groups).startswith("option carrier of carrier must be ")
    with pytest.raises(RecipeError, match="has no option 'exempt'"):
        made({"exempt": in_groups}, recipe="fp32")
    with pytest.raises(RecipeError, match=r"^option exempt of .* give patterns of layers here$"):
        load_recipe("luq4").with_options({"exempt": in_groups})
    with pytest.raises(RecipeError, match=r"^allow is a function that takes \(name\)"):
        made({}, allow=lambda name: True)


def test_what_a_function_raises_is_the_cause() -> None:
    def failing(module: nn.Module, name: str) -> bool:
        raise KeyError(name)

    with pytest.raises(RecipeError) as caught:
        made({"fp8_on": failing})
    said = "option fp8_on: its function failed for layer 'stem', a Conv2d, with KeyError: 'stem'"
    cause = caught.value.__cause__
    assert str(caught.value) == said and isinstance(cause, KeyError)
    assert cause.__traceback__ is not None and cause.__traceback__.tb_next is not None
    assert cause.__traceback__.tb_next.tb_frame.f_code.co_name == "failing"

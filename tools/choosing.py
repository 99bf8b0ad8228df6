"""Functions that choose layers: asked once for each layer, they become the names of those chosen.

A step knows patterns alone, so that its files, its report and other batch sizes need no function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn

from ..compiler.capture.graph import Loss
from ..compiler.capture.owners import Owners
from ..compiler.errors import RecipeError, UsageError, shown
from ..compiler.ir import Program
from ..passes.parts.select import LAYER_OPTIONS, escaped, layers
from ..passes.recipe import Recipe
from ..runtime.telling import LOG

Chooser = Callable[[nn.Module, str], bool]


@dataclass(frozen=True, slots=True)
class Wishes:
    """A recipe, changes of its options, and the layers that may run in float, as they are given."""

    recipe: Recipe
    options: Mapping[str, object]
    allow: object

    def __post_init__(self) -> None:
        """RecipeError or UsageError for what is wrong before there is a program."""
        functions = self._functions()
        for key, function in functions.items():
            check_chooser(f"option {key}", function)
        self._with(dict.fromkeys(functions, ()))
        if callable(self.allow):
            check_chooser("allow", self.allow)
        else:
            patterns(self.allow)

    def granted(
        self, model: nn.Module, loss: Loss | None, program: Program
    ) -> tuple[Recipe, list[str]]:
        """The recipe, and the patterns of layers that may run in float: functions are asked."""
        choose = partial(_choose, Owners(model, loss), tuple(layers(program)))
        made = {key: choose(f"option {key}", f) for key, f in self._functions().items()}
        allowed = choose("allow", self.allow) if callable(self.allow) else patterns(self.allow)
        return self._with(made), allowed

    def _with(self, chosen: Mapping[str, Sequence[str]]) -> Recipe:
        if not chosen:
            return self.recipe.with_options(self.options)
        words = {key: ",".join(names) or "none" for key, names in chosen.items()}
        return self.recipe.with_options({**self.options, **words})

    def _functions(self) -> dict[str, Callable[..., object]]:
        """The options of layers that are given as functions."""
        given: object = self.options
        if not isinstance(given, Mapping):
            return {}  # the recipe refuses it
        named = {key: value for key, value in given.items() if isinstance(key, str)}
        layered = {k: v for k, v in named.items() if k.rpartition(".")[2] in LAYER_OPTIONS}
        return {key: value for key, value in layered.items() if callable(value)}


def patterns(allow: object) -> list[str]:
    """The patterns of layers of ``allow=``; UsageError for what is no list of them.

    One text would be a list of its letters, of which ``*`` allows all layers.
    """
    if isinstance(allow, list | tuple) and all(isinstance(p, str) for p in allow):
        return list(allow)
    raise UsageError(
        f"allow is {shown(allow)}; it is a list of patterns of layers, such as ['fc*'], or a "
        "function (module, name) -> bool"
    )


def check_chooser(what: str, function: Callable[..., object]) -> None:
    """RecipeError unless ``function`` can be called with a module and a name."""
    if isinstance(function, type):
        raise RecipeError(
            f"{what} is the class {function.__name__}; give a function, such as "
            f"lambda module, name: isinstance(module, {function.__name__})"
        )
    try:
        taken = inspect.signature(function)
    except (TypeError, ValueError):
        return  # of a builtin, which does not say
    try:
        taken.bind(None, "")
    except TypeError:
        raise RecipeError(
            f"{what} is a function that takes ({', '.join(taken.parameters)}), and is asked as "
            "function(module, name) for each layer; a third argument is set by functools.partial"
        ) from None


def _choose(
    owners: Owners, known: Sequence[str], what: str, function: Callable[..., object]
) -> list[str]:
    found, asked = [], [(layer, module) for layer in known if (module := owners.of(layer))]
    for layer, module in asked:
        if _answer(what, function, module, layer):
            found.append(escaped(layer))
    if not found:
        LOG.warning("%s: the function chooses none of the %d layers", what, len(asked))
    return found


def _answer(what: str, function: Callable[..., object], module: nn.Module, layer: str) -> bool:
    where = f"for layer {layer!r}, a {type(module).__name__}"
    try:
        said = function(module, layer)
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        text = f"{type(error).__name__}: {first}" if first else type(error).__name__
        raise RecipeError(f"{what}: its function failed {where}, with {text}") from error
    if not isinstance(said, bool):
        raise RecipeError(
            f"{what}: its function gave {shown(said)} {where}; it says True or False, "
            "for example by bool(...)"
        )
    return said

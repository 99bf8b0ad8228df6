"""The backend that ``torch.compile(model, backend="quatrain", options={...})`` calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch.fx import GraphModule

from ..compiler.capture.dynamo import HandedGraph, handed
from ..compiler.capture.handed import capture_handed
from ..compiler.capture.optimizer import optimizer_kind
from ..compiler.errors import CaptureError, QuatrainError, UsageError, shown
from ..compiler.ir.optimizers import (
    OptimizerSpec,
    ParameterGroup,
    hyper_input,
    kind_of,
    read_numbers,
)
from ..compiler.ir.updates import KINDS
from ..passes.recipe import load_recipe
from ..runtime.compiled.bound import BoundGraph, Chosen
from ..runtime.compiled.graph import CompiledGraph
from ..runtime.compiled.record import note
from ..runtime.state import check_seed
from ..runtime.telling import LOG, told
from ..targets.plan.pool import TargetMemory
from ..targets.registry import BindOptions, find_target
from . import env
from .binding import bind_options
from .choosing import Wishes
from .collector import put_off
from .reproducer import repeatable

OWN = ("allow", "optimizer", "recipe", "seed", "strict", "target")
# By which clips are learned where no optimizer is named: the scale of a loss is no matter to it.
ADAM = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
Optimizer = torch.optim.Optimizer


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """What ``options=`` says; QuatrainError for what is wrong with it."""

    wishes: Wishes
    target: str
    seed: int
    strict: bool
    optimizer: object = None

    @classmethod
    def read(cls, options: object) -> BackendOptions:
        """The options of a call of ``torch.compile``."""
        given = {} if options is None else options
        if not isinstance(given, Mapping):
            raise UsageError(f"options is {shown(given)}; it is a dictionary")
        own = {key: given[key] for key in OWN if key in given}
        rest = {key: value for key, value in given.items() if key not in OWN}
        strict = own.get("strict", False)
        if not isinstance(strict, bool):
            raise UsageError(f"the option strict is {shown(strict)}; it is True or False")
        named = own.get("target")
        return cls(
            Wishes(load_recipe(own.get("recipe", "ultra_low_4bit")), rest, own.get("allow", ())),
            find_target(env.target() if named is None else named).name,
            check_seed(own.get("seed", 0)),
            strict,
            own.get("optimizer"),
        )

    def group(self) -> tuple[str, Mapping[str, object]]:
        """Kind and settings of the optimizer that clips follow: as its first group is now."""
        found = self.optimizer
        if callable(found) and not isinstance(found, type):
            found = found()
        if found is None:
            return "adam", ADAM
        while not isinstance(found, Optimizer) and hasattr(found, "optimizer"):
            found = found.optimizer  # as frameworks wrap one
        if not isinstance(found, Optimizer):
            raise UsageError(
                f"the option optimizer is {shown(found)}; learned clips follow an optimizer of "
                "torch.optim, or a function that gives it; without one they have Adam"
            )
        group = found.param_groups[0]
        return kind_of(optimizer_kind(found), group), group

    def spec(self, trained: Sequence[str]) -> OptimizerSpec:
        """The update of trained parameters, as far as a program has one: for what passes add."""
        kind, group = self.group()
        numbers = read_numbers(KINDS[kind], 0, group)
        flags = KINDS[kind].fixed(group)
        return OptimizerSpec((ParameterGroup(tuple(trained), numbers, flags, kind),))

    def numbers(self) -> dict[str, float]:
        """The hyper-parameters as they are now, by the names of a program's inputs."""
        kind, group = self.group()
        read = read_numbers(KINDS[kind], 0, group)
        return {hyper_input(0, key): number for key, number in read.items()}


@dataclass(frozen=True, slots=True)
class Binder:
    """Makes the programs of a graph for arguments of some shapes."""

    options: BackendOptions
    how: BindOptions
    memory: TargetMemory

    @put_off()
    def bind(self, graph: HandedGraph, arguments: Sequence[object], backward: bool) -> BoundGraph:
        """Capture, passes, kernels; with ``backward`` as two halves."""
        o = self.options
        shapes = (list(a.shape) for a in _inputs(graph, arguments))
        words = ", ".join("x".join(map(str, s)) or "scalar" for s in shapes)
        what = f"torch.compile {graph.title()}, {o.wishes.recipe.name}, {words}"
        with told(what), repeatable():
            captured = capture_handed(graph, arguments, o.spec, backward=backward)
            recipe, allow = o.wishes.granted(graph.modules()[0][1], None, captured.program)
            if captured.tangents:
                recipe = recipe.ending_with("skip_nonfinite")
            chosen = Chosen(recipe, o.target, o.seed, tuple(allow))
            return BoundGraph(captured, chosen, self.how, self.memory, o.numbers)


def _inputs(graph: HandedGraph, arguments: Sequence[object]) -> list[torch.Tensor]:
    pairs = zip(graph.arguments, arguments, strict=True)
    return [a for held, a in pairs if held is None and isinstance(a, torch.Tensor)]


def quatrain(graph: GraphModule, example: Sequence[object], **settings: object) -> object:
    """A backend for ``torch.compile``: what runs in place of ``graph``.

    What is wrong is told when that is called: torch wraps what a backend raises.
    """
    made = handed(graph)  # first, so that torch counts what it compiles for each module apart
    try:
        return _compiled(made, settings)
    except QuatrainError as error:
        return _Refused(error)


def _compiled(made: HandedGraph, settings: Mapping[str, object]) -> CompiledGraph:
    if settings.get("mode"):
        raise UsageError("backend quatrain has no mode; say what you want by options={...}")
    options = BackendOptions.read(settings.get("options"))
    if not made.roots:
        raise CaptureError(
            "a graph of torch.compile has no parameter of a module; compile a model, or a function "
            "that calls one"
        )
    if made.broken and options.strict:
        raise CaptureError(
            f"the forward of {made.title()} is no single graph: {made.broken}; with strict it must "
            "be one"
        )
    if made.broken:
        LOG.warning(
            "the forward of %s is no single graph: %s; each is quantized by itself, first and last "
            "layer are those of each",
            *(made.title(), made.broken),
        )
    how = bind_options()
    binder = Binder(options, how, find_target(options.target).memory(how))
    compiled = CompiledGraph(made, binder.bind)
    note(compiled)
    return compiled


class _Refused:
    """Stands for a graph that is refused."""

    def __init__(self, error: QuatrainError) -> None:
        self.error = error

    def __call__(self, *_: object) -> NoReturn:
        """Raise why."""
        raise self.error

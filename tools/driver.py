"""The front door: from a model, a loss and an optimizer to a compiled training step."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..compiler.capture.again import Again
from ..compiler.capture.graph import Loss
from ..compiler.capture.optimizer import Optimizers, several
from ..compiler.capture.program import Capture, capture
from ..compiler.errors import closest, shown
from ..compiler.ir import Program
from ..compiler.ir.ops import GEMMS
from ..passes.parts.select import layers, quantized
from ..passes.recipe import Recipe, load_recipe, recipe_names
from ..runtime.source import Source
from ..runtime.state import check_seed
from ..runtime.step import Step, load_step
from ..runtime.telling import LOG, told
from ..targets.registry import TARGETS, find_target
from . import dump, env
from .binding import bind_options as bind_options  # exported
from .choosing import Chooser, Wishes
from .collector import put_off
from .reproducer import repeatable
from .stages import stage
from .update import Update


@dataclass(frozen=True, slots=True)
class Task:
    """What a factory returns: a model, its loss, its optimizer and an example batch (x, y)."""

    model: nn.Module
    loss: Loss
    optimizer: Optimizers
    example: tuple[torch.Tensor, ...]

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The parameter groups of its optimizer, or of all of them in order."""
        return [group for one in several(self.optimizer) for group in one.param_groups]


@put_off()
def compile(
    model: nn.Module,
    loss: Loss,
    example: Sequence[torch.Tensor],
    optimizer: Optimizers,
    *,
    recipe: str | os.PathLike[str] | Recipe = "ultra_low_4bit",
    options: Mapping[str, object] | None = None,
    target: str | None = None,
    seed: int = 0,
    allow: Sequence[str] | Chooser = (),
    clip_norm: float = 0.0,
    clip_value: float = 0.0,
    accumulate: int = 1,
    average: float = 0.0,
    adam_states: str = "f32",
) -> Step:
    """Compile one training step of ``model`` in the formats that ``recipe`` asks for.

    ``loss(output, target)`` returns a scalar tensor; ``example`` is a batch ``(x, y)`` whose
    shapes the step is made for; ``optimizer`` is a ``torch.optim`` instance, or a list of some
    that share the parameters out, whose hyper-parameters are read at every call. ``recipe`` is
    a name (see ``recipes()``) or a TOML file, ``options`` change its passes (``{"carrier":
    "f32"}``), ``target`` is a name of ``targets()`` (default: QUATRAIN_TARGET or cpu), ``seed``
    starts the generator of stochastic choices, ``allow`` lists patterns of layers that may run
    in float where no kernel of the asked formats exists. Whatever takes layers also takes a
    function ``(module, name) -> bool``, asked once for each of them.

    ``clip_norm`` and ``clip_value`` bound the gradients as torch.nn.utils does (0: no bound); the
    optimizer runs once in ``accumulate`` steps, on the mean of their gradients; ``average`` keeps
    an exponential moving average of the weights with that weight on itself (0: none), which
    ``step.state_dict(average=True)`` gives. ``adam_states`` ("int8", "int4", "fp8") keeps what the
    optimizer averages, such as Adam's moments, in codes between steps.

    Parameters, buffers and optimizer state are copied; model and optimizer stay as they are until
    ``model.load_state_dict(step.state_dict())``. Raises QuatrainError with one sentence that says
    what cannot be done, where, and what would be right.
    """
    update = Update(clip_norm, clip_value, accumulate, average, adam_states)
    wishes = Wishes(load_recipe(recipe), {} if options is None else options, allow)
    name = find_target(env.target() if target is None else target).name
    seed, how, folder = check_seed(seed), bind_options(), dump.named_folder()

    with told(f"compile {type(model).__name__}, {wishes.recipe.name}, for {name}"), repeatable():
        with stage("capture"):
            captured = capture(model, loss, example, optimizer)
            again = Again(captured, model, loss, example, optimizer)
        granted, allowed = wishes.granted(model, loss, captured.train)
        chosen = update.after(granted, captured.train)
        source = partial(_source, recipe=chosen, target=name, seed=seed, allow=tuple(allowed))
        made = source(captured)
        _dump(made, folder)
        with stage("passes and kernels"):
            step = Step(
                *(made, captured.state, how),
                optimizers=several(optimizer),
                recapture=put_off()(lambda b, o: source(again.capture(b, outputs=o))),
                reevaluate=again.evaluation,
            )
    _remark(model, allowed, chosen, captured.train)
    return update.begin(step)


def _source(
    captured: Capture, recipe: Recipe, target: str, seed: int, allow: tuple[str, ...]
) -> Source:
    parts = (captured.train, captured.evaluation, recipe, captured.optimizer)
    return Source(*parts, captured.model_state, target, seed, allow, captured.torch_saved)


@put_off()
def load(path: str | Path, *, target: str | None = None) -> Step:
    """The step that ``step.save(path)`` or ``quatrain compile -o path`` wrote, with its state."""
    how = bind_options()
    what = f"load {shown(path) if not isinstance(path, Path) else path}"
    with told(what), repeatable():
        return load_step(path, how, target)


def _dump(source: Source, folder: Path | None) -> None:
    """Write the text after every pass, if a folder for it was named."""
    if folder is not None:
        source.stages(source.train, dump.observer(folder, source.train))


def _remark(model: nn.Module, patterns: Sequence[str], recipe: Recipe, program: Program) -> None:
    """Warn of a model in eval mode, and of what names no layer or leaves none."""
    if not model.training:
        LOG.warning("the model is in eval mode; the step trains it, each layer in training mode")
    layers = dict.fromkeys(op.origin for _, op in program.ops() if op.kind in GEMMS)
    for pattern in patterns:
        if not any(fnmatchcase(layer, pattern) for layer in layers):
            hint = closest(pattern, layers)
            LOG.warning("allow: no layer with products is called %r; %s", pattern, hint)
    _remark_exempt(recipe, program)


def _remark_exempt(recipe: Recipe, program: Program) -> None:
    """Warn where a recipe leaves out all layers that there are."""
    terms = [str(v) for k, v in recipe.settings.items() if k.rpartition(".")[2] == "exempt"]
    count = len(layers(program))
    if terms and count and not any(quantized(program, t) for t in terms):
        LOG.warning(
            "recipe %s quantizes no layer of this network: exempt=%s leaves out all %d; "
            "options={'exempt': 'none'} quantizes them",
            *(recipe.name, terms[0], count),
        )


def recipes() -> tuple[str, ...]:
    """Names of the recipes that quatrain carries."""
    return recipe_names()


def targets() -> tuple[str, ...]:
    """Names of the targets that a step can be compiled for."""
    return tuple(TARGETS)

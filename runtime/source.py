"""All that a step is made from, as data; a ``.qtn`` file holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..compiler.ir import Attr, Program
from ..compiler.ir.optimizers import OptimizerSpec, ParameterGroup
from ..compiler.saved import Kept
from ..passes.recipe import Recipe
from ..passes.recipe.recipe import Observer
from ..targets.registry import find_target
from .bundle import Bundle


@dataclass(frozen=True, slots=True)
class Source:
    """All that a step is made from: captured f32 programs, recipe, optimizer, choices.

    ``model_state`` maps each key of the model's ``state_dict`` to the state value that holds it;
    ``torch_saved`` is what PyTorch would keep for backward, None where it was not asked.
    """

    train: Program
    evaluation: Program
    recipe: Recipe
    optimizer: OptimizerSpec
    model_state: Mapping[str, str]
    target: str = "cpu"
    seed: int = 0
    allow: tuple[str, ...] = ()
    torch_saved: tuple[Kept, ...] | None = None

    def stages(self, captured: Program, see: Observer | None = None) -> list[tuple[str, Program]]:
        """The program after each pass of the recipe, then after each stage of the target's own.

        ``see`` is called with each as soon as it is made.
        """
        passes = self.recipe.apply(captured, see)
        own = find_target(self.target).lower(passes[-1][1], self.allow)
        if see:
            for label, made in own:
                see(label, made)
        return [*passes, *own]


def source_of(bundle: Bundle) -> Source:
    """What a bundle was made from; KeyError, TypeError or ValueError where it lacks something."""
    facts = bundle.manifest
    optimizer = mapping(facts["optimizer"])
    groups = tuple(
        ParameterGroup(
            tuple(map(str, g["parameters"])),
            {k: float(v) for k, v in mapping(g["numbers"]).items()},
            {k: _attribute(v) for k, v in mapping(g["flags"]).items()},
            str(g["kind"] if "kind" in g else optimizer["kind"]),
        )
        for g in map(mapping, optimizer["groups"])
    )
    return Source(
        bundle.train,
        bundle.evaluation,
        bundle.recipe,
        OptimizerSpec(groups),
        {str(k): str(v) for k, v in mapping(facts["model_state"]).items()},
        str(facts["target"]),
        int(facts["seed"]),  # type: ignore[call-overload]
        tuple(map(str, facts["allow"])),  # type: ignore[call-overload]
        torch_saved_of(bundle),
    )


def torch_saved_of(bundle: Bundle) -> tuple[Kept, ...] | None:
    """What PyTorch would keep; a file from before that was counted does not say."""
    kept = bundle.manifest.get("torch_saved")
    if kept is None:
        return None
    if not isinstance(kept, list):
        raise TypeError(f"a list where {type(kept).__name__} stands")
    return tuple(
        Kept(str(k["layer"]), str(k["function"]), tuple(map(int, k["shape"])), int(k["bytes"]))
        for k in map(mapping, kept)
    )


def _attribute(data: object) -> Attr:
    """A setting of an optimizer, as an attribute of its op."""
    if isinstance(data, list):
        return tuple(map(float, data))
    if not isinstance(data, bool | int | float | str):
        raise TypeError(f"a setting where {type(data).__name__} stands")
    return data


def mapping(data: object) -> dict[str, Any]:
    """``data``, which must be a dictionary."""
    if not isinstance(data, dict):
        raise TypeError(f"an object where {type(data).__name__} stands")
    return data

"""``manifest.json``: all that a loader must know of a built step, in one text.

    format, quatrain        of this layout, and of what built it
    network, recipe         names, for people
    target, machine         what runs the kernels: an architecture, or a CPU and its features
    kernels                 each with its file, its number there, grids and threads
    state                   bytes of a block, and where each value lies in it
    settle                  what a step that is not applied still writes, and the kernel for that
    seed, hyper             what it was compiled with; the state's file has the numbers of now
    model_state             for each key of the model's ``state_dict`` the name of its state
    average_state           the same of averaged weights, where there are some
    step, predict           programs: arena, inputs, outputs, checks, and calls in their order

A place is where, offset and bytes; where is ``arena``, ``old`` or ``new`` state, or an input.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...compiler.ir import Value
from ...targets.plan.kernel import KernelSpec
from ...targets.plan.plan import Plan
from ...targets.plan.state import StateLayout, Unapplied
from ...targets.plan.stored import (
    BuiltKernel,
    Json,
    kernel_json,
    kernel_of,
    layout_json,
    layout_of,
    plan_json,
    plan_of,
)
from ..taken import Bounds, Labels, Taken

FORMAT = 1
DEPTH = 3  # of the text's lines: a call has one


@dataclass(frozen=True, slots=True)
class BuiltProgram:
    """A program with what its inputs may hold.

    ``rows``: each output has a row for each sample, of that alone; ``draws``: random numbers.
    """

    plan: Plan
    checks: tuple[Taken, ...]
    rows: bool = False
    draws: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    """See above."""

    quatrain: str
    network: str
    recipe: str
    target: str
    machine: Json
    kernels: tuple[BuiltKernel, ...]
    kept: Unapplied
    settle: BuiltKernel | None
    seed: int
    hyper: Mapping[str, float]
    model_state: Mapping[str, str]
    average_state: Mapping[str, str]
    step: BuiltProgram
    predict: BuiltProgram

    def write(self, numbers: Mapping[KernelSpec, int]) -> bytes:
        """As it is stored; ``numbers`` are those of the plans' kernels."""
        data = {
            "format": FORMAT,
            "quatrain": self.quatrain,
            "network": self.network,
            "recipe": self.recipe,
            "target": self.target,
            "machine": self.machine,
            "kernels": [kernel_json(k) for k in self.kernels],
            "state": layout_json(self.kept.layout),
            "settle": {
                "count": self.kept.count,
                "reacting": list(self.kept.reacting),
                "kernel": self.kernels.index(self.settle) if self.settle else None,
            },
            "seed": self.seed,
            "hyper": dict(self.hyper),
            "model_state": dict(self.model_state),
            "average_state": dict(self.average_state),
            "step": _program(self.step, numbers),
            "predict": _program(self.predict, numbers),
        }
        return (_text(data, DEPTH) + "\n").encode()

    @classmethod
    def read(cls, data: Json) -> Manifest:
        """What ``write`` gave; KeyError, TypeError or ValueError where it did not."""
        kernels = tuple(map(kernel_of, data["kernels"]))
        layout, settle = layout_of(data["state"]), data["settle"]
        kept = Unapplied(layout, str(settle["count"]), tuple(map(str, settle["reacting"])))
        if not {*kept.reacting, *([kept.count] if kept.count else [])} <= layout.types.keys():
            raise ValueError("what settles a step")
        step, predict = (
            _read(key, data[key], kernels, layout.bytes) for key in ("step", "predict")
        )
        return cls(
            quatrain=str(data["quatrain"]),
            network=str(data["network"]),
            recipe=str(data["recipe"]),
            target=str(data["target"]),
            machine=dict(data["machine"]),
            kernels=kernels,
            kept=kept,
            settle=None if settle["kernel"] is None else kernels[settle["kernel"]],
            seed=int(data["seed"]),
            hyper={str(k): float(v) for k, v in data["hyper"].items()},
            model_state=_names(data["model_state"], layout),
            average_state=_names(data["average_state"], layout),
            step=step,
            predict=predict,
        )


def _names(data: Json, layout: StateLayout) -> dict[str, str]:
    found = {str(k): str(v) for k, v in data.items()}
    if not set(found.values()) <= layout.types.keys():
        raise ValueError("state of the model")
    return found


def _text(data: object, depth: int, indent: str = "") -> str:
    """JSON with a line for each entry down to ``depth``, so that people read it too."""
    if depth == 0 or not data or not isinstance(data, dict | list):
        return json.dumps(data)
    deeper = indent + " "
    if isinstance(data, dict):
        parts = [f"{json.dumps(k)}: {_text(v, depth - 1, deeper)}" for k, v in data.items()]
    else:
        parts = [_text(v, depth - 1, deeper) for v in data]
    first, last = "{}" if isinstance(data, dict) else "[]"
    return f"{first}\n{deeper}" + f",\n{deeper}".join(parts) + f"\n{indent}{last}"


def _program(program: BuiltProgram, numbers: Mapping[KernelSpec, int]) -> Json:
    checks = [_check(check) for check in program.checks]
    facts = {"rows": program.rows, "draws": program.draws, "checks": checks}
    return {**facts, **plan_json(program.plan, numbers)}


def _check(check: Taken) -> Json:
    if isinstance(check, Labels):
        found = {"input": check.value.name, "classes": check.classes, "word": check.word}
        low = {"low": check.low} if check.low else {}
        ignore = {} if check.ignore is None else {"ignore": check.ignore}
        return {**found, **low, **ignore}
    name, layer = check.value.name, check.layer
    return {"input": name, "low": check.low, "high": check.high, "layer": layer}


def _read(name: str, data: Json, kernels: Sequence[BuiltKernel], state: int) -> BuiltProgram:
    plan = plan_of(name, data, kernels, state)
    inputs = {v.name: v for v in plan.program.inputs}
    checks = tuple(_check_of(x, inputs) for x in data["checks"])
    return BuiltProgram(plan, checks, bool(data["rows"]), bool(data["draws"]))


def _check_of(data: Json, inputs: Mapping[str, Value]) -> Taken:
    value = inputs[data["input"]]
    if "classes" in data:
        ignore = data.get("ignore")
        ignored = None if ignore is None else int(ignore)
        low = int(data.get("low", 0))
        return Labels(value, int(data["classes"]), ignored, str(data["word"]), low)
    return Bounds(value, float(data["low"]), float(data["high"]), str(data["layer"]))

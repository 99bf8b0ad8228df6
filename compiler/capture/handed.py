"""Tracing a graph of torch.compile's: forward, and backward from outside, as a ``Joint``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.fx import Interpreter, Node

from ..errors import CaptureError
from ..ir import Program
from ..ir.optimizers import OptimizerSpec
from ..lower.builder import FORMAT_WITHIN, INTEGERS
from ..lower.joint import Joint
from ..lower.programs import lower_forward, lower_training
from .dynamo import HandedGraph, HeldTensor, line_of, untraced
from .graph import Titled, trace_titled
from .program import check_tensor
from .scope import Scope


@dataclass(frozen=True, slots=True)
class HandedJoint:
    """A graph for arguments of some shapes: its joint, and what it returns.

    ``returned`` holds the number of an output of the joint, or in a tuple what is no tensor;
    ``dtypes`` are those of the outputs; ``inputs`` the places of the joint's among the arguments.
    """

    joint: Joint
    returned: tuple[int | tuple[object], ...]
    dtypes: tuple[torch.dtype, ...]
    inputs: tuple[int, ...]


@dataclass(eq=False, slots=True)
class Returned:
    """What a run of a graph gave back: see ``HandedJoint``."""

    parts: tuple[int | tuple[object], ...] = ()
    dtypes: tuple[torch.dtype, ...] = ()

    def read(self, made: object) -> list[torch.Tensor]:
        """Take note of what a graph made; the tensors of it."""
        parts = list(made) if isinstance(made, (tuple, list)) else [made]
        tensors = [part for part in parts if isinstance(part, torch.Tensor)]
        numbers = iter(range(len(tensors)))
        self.parts = tuple(
            next(numbers) if isinstance(part, torch.Tensor) else (part,) for part in parts
        )
        self.dtypes = tuple(t.dtype for t in tensors)
        return tensors


class GivenGraph(nn.Module):
    """A handed graph as a module, whose parameters and buffers are those of the graph's modules."""

    def __init__(self, graph: HandedGraph, arguments: Sequence[object]) -> None:
        super().__init__()
        self.titled = Titled(graph.title(), {}, Scope({}))
        self.run, self.returned = _Marking(graph, self.titled.scope), Returned()
        self.given = list(arguments)
        # By place among the arguments: the name of what is held, None for one of the batch.
        self.keys: dict[int, str | None] = {}
        names: dict[str, str] = {}
        for i, (held, argument) in enumerate(zip(graph.arguments, arguments, strict=True)):
            if not isinstance(argument, torch.Tensor):
                continue
            self.keys[i] = None
            if held is not None:
                key = self.keys[i] = f"held{i}"
                names[key] = graph.name_of(held)
                self._hold(key, held, argument)
        self.titled = replace(self.titled, names=names)

    def _hold(self, key: str, held: HeldTensor, tensor: torch.Tensor) -> None:
        if held.trained:
            apart = tensor.detach()
            self.register_parameter(key, nn.Parameter(apart, requires_grad=tensor.requires_grad))
        else:
            self.register_buffer(key, tensor.detach(), persistent=held.kept)

    def forward(self, *batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The graph's outputs that are tensors."""
        given, waiting = list(self.given), iter(batch)
        for i, key in self.keys.items():
            given[i] = next(waiting) if key is None else getattr(self, key)
        tensors = self.returned.read(self.run.run(*given))
        if not tensors:
            raise CaptureError("a graph of the model returns no tensor; return what it computes")
        # Each a tensor of its own, whatever it views.
        return tuple(t.clone() for t in tensors)


class _Marking(Interpreter):
    """Runs a graph with each call's layer and line known to the scope."""

    def __init__(self, graph: HandedGraph, scope: Scope) -> None:
        super().__init__(graph.graph)
        self.handed, self.scope = graph, scope
        self.extra_traceback = False  # which would stand in the sentence of an error

    def run_node(self, n: Node) -> Any:
        """One node."""
        if n.op not in ("call_function", "call_method"):
            return super().run_node(n)
        if n.target == "item" and isinstance(given := self.env[n.all_input_nodes[0]], (int, float)):
            return given
        with self.scope.inside(self.handed.layer(n), line_of(n)):
            return super().run_node(n)


def trace_handed(graph: HandedGraph, arguments: Sequence[object], *, backward: bool) -> HandedJoint:
    """The graph for arguments of such shapes; with ``backward`` the gradients that they ask for."""
    with torch.inference_mode(False), untraced(None):
        model = GivenGraph(graph, arguments)
        places = tuple(i for i, key in model.keys.items() if key is None)
        batch = tuple(_shaped(arguments[i]) for i in places)
        names = model.titled.names
        trained = {names[k] for k, p in model.named_parameters() if p.requires_grad and backward}
        joint = trace_titled(model, model.titled, batch, trained, backward=backward)
    return HandedJoint(joint, model.returned.parts, model.returned.dtypes, places)


def _shaped(argument: object) -> torch.Tensor:
    """A tensor of the same shape and type, which asks for a gradient where the given one does."""
    assert isinstance(argument, torch.Tensor)
    made = torch.empty(argument.shape, dtype=argument.dtype)
    return made.requires_grad_(argument.requires_grad)


@dataclass(frozen=True, slots=True)
class HandedCapture:
    """A handed graph for arguments of some shapes as an f32 program, with all that runs it.

    ``batch``, ``tangents`` and ``hyper`` are the program's inputs by name: for each of the batch
    the place of its argument, for each tangent the output that it belongs to. ``held`` says which
    argument each state is, ``trained`` which states have a gradient, ``stored`` holds constants.
    ``returned`` has for each result of the
    graph the number of its output with a dtype, or in a tuple what is no tensor;
    ``input_gradients`` are the arguments whose gradients are outputs behind those.
    """

    program: Program
    batch: Mapping[str, int]
    tangents: Mapping[str, int]
    hyper: tuple[str, ...]
    held: Mapping[str, int]
    trained: frozenset[str]
    stored: Mapping[str, np.ndarray]
    returned: tuple[int | tuple[object], ...]
    dtypes: tuple[torch.dtype, ...]
    written: frozenset[str]
    input_gradients: tuple[int, ...]
    optimizer: OptimizerSpec


def capture_handed(
    graph: HandedGraph,
    arguments: Sequence[object],
    optimizer: Callable[[Sequence[str]], OptimizerSpec],
    *,
    backward: bool,
) -> HandedCapture:
    """The program of a graph; with ``backward`` a training program that has no loss.

    ``optimizer`` says by which kind of update the trained parameters, and so what a recipe adds to
    them, would be changed. Raises CaptureError and UnsupportedOpError as ``capture`` does.
    """
    _check_arguments(graph, arguments)
    made = trace_handed(graph, arguments, backward=backward)
    joint = made.joint
    if joint.written_inputs:
        raise CaptureError(
            f"the forward of {joint.name} writes into its input {joint.written_inputs[0]}, which "
            "a compiled graph reads where it lies; write into a copy, x = x.clone()"
        )
    spec = optimizer([name for name, _ in joint.gradients])
    trains = bool(joint.tangents and (joint.gradients or joint.input_gradients))
    lowered = lower_training(joint, spec, closed=False) if trains else lower_forward(joint)
    names = [v.name for v in lowered.program.inputs]
    batch, behind = names[: len(made.inputs)], names[len(made.inputs) :]
    tangents = behind[: len(joint.tangents)] if trains else []
    places = {graph.name_of(h): i for i, h in enumerate(graph.arguments) if h is not None}
    return HandedCapture(
        lowered.program,
        dict(zip(batch, made.inputs, strict=True)),
        dict(zip(tangents, joint.tangent_of, strict=False)),
        tuple(behind[len(tangents) :]),
        {lowered.names[n]: i for n, i in places.items() if n in lowered.names},
        frozenset(lowered.names[name] for name, _ in joint.gradients),
        lowered.stored,
        made.returned,
        made.dtypes,
        frozenset(lowered.names[name] for name in joint.mutations),
        tuple(made.inputs[i] for i, _ in joint.input_gradients),
        spec,
    )


def _check_arguments(graph: HandedGraph, arguments: Sequence[object]) -> None:
    """Raise CaptureError or InputError for a tensor that no program takes."""
    for i, (held, given) in enumerate(zip(graph.arguments, arguments, strict=True)):
        if isinstance(given, torch.Tensor):
            what = graph.name_of(held) if held else f"input {i} of the graph"
            check_tensor(what, given, dict.fromkeys((*FORMAT_WITHIN, *INTEGERS)))

"""A network that was read from ONNX: a module of torch that runs its nodes in their order.

Sizes are known in every call: what a graph computes from shapes is computed by ONNX's own
reference on plain arrays, so a network that leaves its batch open takes any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
from torch import Tensor, nn

from ...compiler.errors import CaptureError, InputError, QuatrainError, UnsupportedOpError
from .definitions import CPU, NodeResults, NodeValue, tensor_of
from .fold import OF_SHAPE, evaluate
from .graph import Declared, OnnxNode
from .table import known_ops


class NodeCall(nn.Module):
    """One node as its definition computes it."""

    def __init__(self, node: OnnxNode) -> None:
        super().__init__()
        self.node = node

    def forward(self, *values: NodeValue | None) -> NodeResults:
        """The node's results."""
        return known_ops()[self.node.kind].call(self.node, values)

    def extra_repr(self) -> str:
        """The operator and its attributes, as ``print(model)`` shows them."""
        said = (f"{k}={v}" for k, v in self.node.attributes.items() if np.size(v) < 9)
        return ", ".join((self.node.op, *said))


@dataclass(frozen=True, slots=True)
class NodeStep:
    """A node of a network: the module that runs it, what it takes and gives.

    A node whose results are known from sizes has no module: ``path`` is empty.
    """

    node: OnnxNode
    path: str
    takes: tuple[str, ...]
    gives: tuple[str, ...]


class Network(nn.Module):
    """The nodes of an ONNX graph, run in order; several outputs are a tuple."""

    def __init__(
        self, file: str, inputs: Sequence[Declared], outputs: Sequence[str], batch: int | None
    ) -> None:
        super().__init__()
        self.file, self.inputs, self.outputs = file, tuple(inputs), tuple(outputs)
        self.batch = batch  # examples that the file is made for, if it says so
        self.left_out = ""  # the operator at the end that the loss takes over
        self.steps: tuple[NodeStep, ...] = ()
        self.constants: Mapping[str, np.ndarray] = {}
        self.weights: Mapping[str, str] = {}  # by the name that steps take, their path

    def complete(
        self,
        steps: Sequence[NodeStep],
        constants: Mapping[str, np.ndarray],
        weights: Mapping[str, str],
    ) -> None:
        """Set what runs, once all modules and parameters are in their places."""
        self.steps, self.weights = tuple(steps), dict(weights)
        self.constants = {name: np.require(a, requirements="W") for name, a in constants.items()}

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The outputs of the graph."""
        values: dict[str, NodeValue | None] = {"": None, **self.constants}
        # Under a trace a parameter is a tensor in its place, so that get_parameter would refuse it.
        values.update({name: attrgetter(path)(self) for name, path in self.weights.items()})
        values.update(self._checked(inputs))
        for step in self.steps:
            made = self._run(step, [values[name] for name in step.takes])
            results = made if isinstance(made, tuple) else (made,)
            values.update((k, v) for k, v in zip(step.gives, results, strict=False) if k)
            if any(step.gives[len(results) :]):
                step.node.refuse(f"gives {len(results)} of the results that the network uses")
        found = tuple(self._output(name, values[name], inputs) for name in self.outputs)
        return found[0] if len(found) == 1 else found

    def _run(self, step: NodeStep, values: list[NodeValue | None]) -> NodeResults:
        node = step.node
        try:
            if step.path:
                return self._call(step, values)
            if node.op in OF_SHAPE:
                return known_ops()[node.kind].call(node, values)
            return evaluate(node, [v for v in values if not isinstance(v, Tensor | list)])
        except QuatrainError:
            raise
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise CaptureError(self._failure(node, values, error)) from error

    def _failure(self, node: OnnxNode, values: list[NodeValue | None], error: Exception) -> str:
        """A sentence about a node that torch refuses to run."""
        given = [v for v in values if isinstance(v, Tensor | np.ndarray)]
        shapes = ", ".join(str(tuple(v.shape)) for v in given)
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        hint = (
            ""
            if self.batch is None
            else (
                f"; the file is made for batches of {self.batch}: if another size fails, export it "
                "with a dynamic batch"
            )
        )
        return f"{node.place} fails on operands of shapes {shapes}: {first}{hint}"

    def _call(self, step: NodeStep, values: list[NodeValue | None]) -> NodeResults:
        """A definition, or a layer of torch, which takes the network's numbers alone."""
        module = self.get_submodule(step.path)
        if not isinstance(module, NodeCall):
            like = next((v for v in values if isinstance(v, Tensor)), None)
            device = CPU if like is None else like.device
            values = [tensor_of(v, device) if isinstance(v, np.ndarray) else v for v in values]
        made: NodeResults = module(*values)
        return made

    def _checked(self, inputs: Sequence[Tensor]) -> Mapping[str, Tensor]:
        """The inputs by name; InputError where they are not what the file declares."""
        if len(inputs) != len(self.inputs):
            names = ", ".join(d.name for d in self.inputs)
            raise InputError(f"{self.file} takes {names}, and was given {len(inputs)} tensors")
        for declared, given in zip(self.inputs, inputs, strict=True):
            self._check_input(declared, given)
        return {d.name: t for d, t in zip(self.inputs, inputs, strict=True)}

    def _check_input(self, declared: Declared, given: Tensor) -> None:
        wanted, shape = declared.shape, tuple(given.shape)
        if given.is_floating_point() != declared.floats:
            kind = "floats" if declared.floats else "integers"
            raise InputError(f"{self.file}: the input {declared.name!r} holds {kind}")
        if wanted is None:
            return
        fixed = zip(wanted[1:], shape[1:], strict=False)
        if len(wanted) != len(shape) or any(isinstance(w, int) and w != s for w, s in fixed):
            sizes = "x".join("?" if w is None else str(w) for w in wanted)
            raise InputError(
                f"{self.file}: the input {declared.name!r} is {sizes}, and was given "
                f"{'x'.join(map(str, shape))}"
            )

    def _output(self, name: str, value: NodeValue | None, inputs: Sequence[Tensor]) -> Tensor:
        if not isinstance(value, Tensor | np.ndarray):
            raise UnsupportedOpError(
                f"{self.file}: the output {name!r} is no tensor; a step gives tensors alone"
            )
        device = inputs[0].device if inputs else CPU
        return value if isinstance(value, Tensor) else tensor_of(value, device)

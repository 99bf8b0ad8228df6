"""Tracing: a model, in train mode with its loss or in eval mode, becomes a ``Joint`` graph.

The model is left as it was: flags, parameters, buffers, gradients, hooks and random state.
"""

from __future__ import annotations

import operator
import traceback
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from . import capture_adapter as adapter
from .capture_intercept import HERE, ROOT, TORCH, Scope, intercept, shown
from .errors import CaptureError, QuatrainError, UnsupportedOpError
from .ir import unused
from .lower_joint import Arg, Call, Joint, Tensor
from .lower_norm import CUMULATIVE

Loss = Callable[[Any, Any], torch.Tensor]
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Traced(nn.Module):
    """What is traced: the model alone, or the model and its loss."""

    def __init__(self, model: nn.Module, loss: Loss | None, scope: Scope) -> None:
        super().__init__()
        self.model, self.scope = model, scope
        self.loss_name = unused("loss", {name for name, _ in model.named_children()})
        setattr(self, self.loss_name, loss)
        first: dict[int, str] = {}
        for name, tensor in self.every():
            first.setdefault(id(tensor), name.removeprefix("model."))
        # Name here -> name in the user's model; of a tied tensor always the first one.
        self.plain = {name: first[id(tensor)] for name, tensor in self.every()}

    def forward(self, *batch: torch.Tensor) -> Any:
        """The loss (``batch`` ends with the target), or the model's outputs as a tuple."""
        self.scope.reset()
        loss = getattr(self, self.loss_name)
        with self.scope:
            if loss is None:
                return _outputs(self.model(*batch))
            made = self.model(*batch[:-1])
            with self.scope.inside("loss"):
                return _scalar(loss(made, batch[-1]))

    def every(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Parameters and buffers under all of their names."""
        yield from self.named_parameters(remove_duplicate=False)
        yield from self.named_buffers(remove_duplicate=False)


def _outputs(made: object) -> tuple[torch.Tensor, ...]:
    parts = made if isinstance(made, (tuple, list)) else (made,)
    for part in parts:
        if not isinstance(part, torch.Tensor):
            raise CaptureError(
                f"the model returns a {type(part).__name__}; return a tensor or a tuple of tensors"
            )
    return tuple(parts)


def _scalar(value: object) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise CaptureError(f"the loss returns a {type(value).__name__}; return a scalar tensor")
    if value.numel() != 1:
        raise CaptureError(
            f"the loss returns a tensor of shape {tuple(value.shape)}; reduce it to a scalar, "
            "for example with reduction='mean'"
        )
    return value.reshape(())


def state_tensors(model: nn.Module, loss: Loss) -> dict[str, torch.Tensor]:
    """Parameters and buffers of the model, and of a loss that is a module, by qualified name."""
    root = Traced(model, loss, Scope({}))
    return {root.plain[name]: tensor for name, tensor in root.every()}


def trace_training(
    model: nn.Module, loss: Loss, batch: tuple[torch.Tensor, ...], trained: Set[str]
) -> Joint:
    """Joint graph of one training step with the gradients of the parameters in ``trained``.

    ``batch`` is the model's inputs, then the target. A model whose own flag says eval is switched
    to training for the trace; otherwise each module's flag counts as it is.
    """
    with _mode(model, training=True):
        joint = _trace(model, loss, batch, trained)
    if not joint.gradients:
        raise CaptureError("the loss depends on no parameter that the optimizer trains")
    return joint


def trace_evaluation(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Joint:
    """Graph of the model's forward in eval mode, without loss and gradients."""
    with _mode(model, training=False), torch.no_grad():
        return _trace(model, None, inputs, frozenset())


@contextmanager
def _mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    modules = list(model.modules())
    flags = [m.training for m in modules]
    # A momentum of None makes batch norm read its counter as a number, which no trace can follow.
    cumulative = [m for m in modules if isinstance(m, NORMS) and m.momentum is None]
    try:
        if not (training and model.training):
            model.train(training)
        for m in cumulative:
            m.momentum = CUMULATIVE
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for m in cumulative:
            m.momentum = None
        for module, flag in zip(modules, flags, strict=True):
            module.training = flag


def _trace(
    model: nn.Module, loss: Loss | None, batch: tuple[torch.Tensor, ...], trained: Set[str]
) -> Joint:
    scope = Scope({id(m): name for name, m in model.named_modules() if name})
    root = Traced(model, loss, scope)
    try:
        with intercept(scope), adapter.quiet():
            graph = adapter.joint_graph(root, tuple(t.detach() for t in batch))
    except QuatrainError:
        raise
    except adapter.DEPENDS_ON_DATA as error:
        raise CaptureError(
            f"the forward needs the value of a tensor{_place(error)}, for a branch, a loop or a "
            "shape; compute with tensors there instead"
        ) from error
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise CaptureError(
            f"tracing {type(model).__name__}{_place(error)} failed with "
            f"{type(error).__name__}: {first}"
        ) from error
    return _Reader(root, trained).read(list(graph.graph.nodes))


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        if not frame.filename.startswith((TORCH, HERE, "<")) and frame.name != "_trace":
            return f" at {shown(frame.filename, frame.lineno or 0)}"
    return ""


class _Reader:
    """From fx nodes to plain calls; what no output needs is left out."""

    def __init__(self, root: Traced, trained: Set[str]) -> None:
        self.root, self.trained = root, trained
        self.made: dict[Node, Tensor | tuple[Tensor | None, ...]] = {}
        self.inputs: dict[int, Tensor] = {}
        self.state: dict[str, Tensor] = {}
        self.tangents: list[Tensor] = []

    def read(self, nodes: list[Node]) -> Joint:
        output = nodes[-1]
        ports = adapter.ports(output)
        wanted = [
            (port, node)
            for port, node in zip(ports, output.args[0], strict=True)  # type: ignore[arg-type]
            if isinstance(node, Node) and self.wants(port)
        ]
        live = _live(nodes, [node for _, node in wanted])
        marks = _marks([n for n in nodes if n in live], wanted, self.root)
        calls: list[Call] = []
        for node in nodes[:-1]:
            if node.op == "placeholder":
                self.placeholder(node)
            elif node in live:
                calls += self.call(node, marks[node])
        results = [(port, self.tensor(node)) for port, node in wanted]
        plain = self.root.plain
        return Joint(
            type(self.root.model).__name__,
            tuple(t for _, t in sorted(self.inputs.items())),
            self.state,
            tuple(calls),
            tuple(t for port, t in results if port.role == "result"),
            tuple(self.tangents),
            tuple((plain[port.name], t) for port, t in results if port.role == "gradient"),
            {plain[port.name]: t for port, t in results if port.role == "mutation"},
        )

    def wants(self, port: adapter.Port) -> bool:
        if port.role == "gradient":
            return self.root.plain[port.name] in self.trained
        return port.role == "result" or (port.role == "mutation" and port.name != "")

    def placeholder(self, node: Node) -> None:
        (port,) = adapter.ports(node)
        tensor = _tensor(node.meta["val"])
        self.made[node] = tensor
        if port.role == "batch":
            self.inputs[port.index] = tensor
        elif port.role == "tangent":
            self.tangents.append(tensor)
        else:
            self.made[node] = self.state.setdefault(self.root.plain[port.name], tensor)

    def call(self, node: Node, mark: tuple[str, str]) -> list[Call]:
        if node.target is operator.getitem:
            whole, index = node.args
            assert isinstance(whole, Node) and isinstance(index, int)
            parts = self.made[whole]
            assert isinstance(parts, tuple)
            part = parts[index]
            assert part is not None
            self.made[node] = part
            return []
        layer, source = mark
        if not adapter.is_op(node):
            what = "a tensor made in the forward" if node.op == "get_attr" else str(node.target)
            raise UnsupportedOpError(
                f"{what}{_where(layer, source)} is not supported; register tensors that are "
                "constants as buffers of the model"
            )
        value = node.meta["val"]
        if isinstance(value, torch.Tensor):
            single = _tensor(value)
            results: tuple[Tensor | None, ...] = (single,)
            self.made[node] = single
        else:
            results = tuple(_tensor(p) if isinstance(p, torch.Tensor) else None for p in value)
            self.made[node] = results
        args = tuple(self.argument(a) for a in adapter.full_arguments(node))
        return [Call(str(node.target), args, results, layer, source, adapter.is_backward(node))]

    def tensor(self, node: Node) -> Tensor:
        made = self.made[node]
        assert isinstance(made, Tensor)
        return made

    def argument(self, a: Any) -> Arg:
        if isinstance(a, Node):
            return self.tensor(a)
        if isinstance(a, (list, tuple)):
            return tuple(map(self.argument, a))
        return a if a is None or isinstance(a, (bool, int, float, str)) else str(a)


def _where(layer: str, source: str) -> str:
    return f" in layer {layer!r}" + (f" at {source}" if source else "")


def _tensor(value: torch.Tensor) -> Tensor:
    return Tensor(tuple(int(d) for d in value.shape), str(value.dtype).removeprefix("torch."))


def _live(nodes: list[Node], roots: list[Node]) -> set[Node]:
    live = set(roots)
    for node in reversed(nodes[:-1]):
        if node in live:
            live.update(node.all_input_nodes)
    return live


def _marks(
    live: list[Node], wanted: list[tuple[adapter.Port, Node]], root: Traced
) -> dict[Node, tuple[str, str]]:
    """(layer, source) of each node; a sum of gradients belongs to the layer that reads it."""
    owner = {n: root.plain[p.name].rpartition(".")[0] for p, n in wanted if p.role == "gradient"}
    marks: dict[Node, tuple[str, str]] = {}
    for node in reversed(live):
        reader = next((marks[u] for u in node.users if u in marks), (owner.get(node, ROOT), ""))
        marks[node] = adapter.mark_of(node) or reader
    return marks

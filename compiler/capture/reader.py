"""From the fx graph to the plain ``Joint``: dead nodes left out, layers named."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Set
from typing import Any

import torch
from torch.fx import Node

from ..errors import UnsupportedOpError
from ..lower.joint import ROOT, Arg, Call, FixedTensor, Joint, JointTensor, module_of, place
from . import adapter
from .constants import Constants


def read_graph(
    nodes: list[Node],
    name: str,
    plain: Mapping[str, str],
    trained: Set[str],
    unkept: Mapping[str, torch.Tensor],
) -> Joint:
    """The graph of ``nodes`` with the gradients of the parameters in ``trained``.

    ``plain`` maps the qualified names of the traced module to those of the user's model, and the
    names of tied tensors to one. ``unkept`` are buffers that are constants unless they are written.
    """
    written = {port.name for port in adapter.ports(nodes[-1]) if port.role == "mutation"}
    held = {key: t for key, t in unkept.items() if key not in written}
    return _GraphReader(name, plain, trained, Constants(held)).read(nodes)


class _GraphReader:
    """From fx nodes to plain calls; what no output needs is left out."""

    def __init__(
        self, name: str, plain: Mapping[str, str], trained: Set[str], constants: Constants
    ) -> None:
        self.name, self.plain, self.trained = name, plain, trained
        self.known = constants
        self.constants: dict[JointTensor, FixedTensor] = {}
        self.made: dict[Node, JointTensor | tuple[JointTensor | None, ...]] = {}
        self.inputs: dict[int, JointTensor] = {}
        self.state: dict[str, JointTensor] = {}
        self.tangents: list[JointTensor] = []
        self.tangent_of: list[int] = []

    def read(self, nodes: list[Node]) -> Joint:
        output = nodes[-1]
        ports = adapter.ports(output)
        wanted = [
            (port, node)
            for port, node in zip(ports, output.args[0], strict=True)  # type: ignore[arg-type]
            if isinstance(node, Node) and self.wants(port)
        ]
        live = _live(nodes, [node for _, node in wanted])
        marks = _marks([n for n in nodes if n in live], wanted, self.plain)
        calls: list[Call] = []
        for node in nodes[:-1]:
            if node.op == "placeholder":
                self.placeholder(node)
            elif node in live:
                calls += self.call(node, marks[node])
        results = [(port, self.tensor(node)) for port, node in wanted]
        plain = self.plain
        return Joint(
            self.name,
            tuple(t for _, t in sorted(self.inputs.items())),
            self.state,
            tuple(calls),
            tuple(t for port, t in results if port.role == "result"),
            tuple(self.tangents),
            tuple((plain[p.name], t) for p, t in results if p.role == "gradient" and p.name),
            {plain[port.name]: t for port, t in results if port.role == "mutation"},
            self.constants,
            tuple(self.tangent_of),
            tuple((p.index, t) for p, t in results if p.role == "gradient" and not p.name),
            tuple(p.index for p in ports if p.role == "mutation" and not p.name),
        )

    def wants(self, port: adapter.Port) -> bool:
        if port.role == "gradient":  # without a name that of an input, which has one where asked
            return not port.name or self.plain[port.name] in self.trained
        return port.role == "result" or (port.role == "mutation" and port.name != "")

    def placeholder(self, node: Node) -> None:
        (port,) = adapter.ports(node)
        if port.role == "nothing":  # what torch orders checks of its own by
            return
        tensor = _tensor(node.meta["val"])
        self.made[node] = tensor
        if port.role == "batch":
            self.inputs[port.index] = tensor
        elif port.role == "tangent":
            self.tangents.append(tensor)
            self.tangent_of.append(port.index)
        else:
            self.made[node] = self.state.setdefault(self.plain[port.name], tensor)
            if port.role == "buffer":
                self.known.buffer(node, port.name)

    def call(self, node: Node, mark: adapter.CallMark) -> list[Call]:
        if node.target is operator.getitem:
            self.known.fold(node, mark)
            whole, index = node.args
            assert isinstance(whole, Node) and isinstance(index, int)
            parts = self.made[whole]
            assert isinstance(parts, tuple)
            part = parts[index]
            assert part is not None
            self.made[node] = part
            return []
        layer, source, asked = mark
        if self.known.fold(node, mark):
            self.made[node] = self.constant(node, mark)
            return []
        if not adapter.is_op(node):
            raise UnsupportedOpError(
                f"{node.target} in {place(layer, source)} is not supported; write into a part of a "
                "tensor, h[...] = v, as torch.where with a mask"
            )
        value = node.meta["val"]
        if isinstance(value, torch.Tensor):
            single = _tensor(value)
            results: tuple[JointTensor | None, ...] = (single,)
            self.made[node] = single
        else:
            results = tuple(_tensor(p) if isinstance(p, torch.Tensor) else None for p in value)
            self.made[node] = results
        args = tuple(self.argument(a) for a in adapter.full_arguments(node))
        backward = adapter.is_backward(node)
        return [Call(str(node.target), args, results, layer, source, backward, asked)]

    def constant(self, node: Node, mark: adapter.CallMark) -> JointTensor | tuple[JointTensor, ...]:
        layer, source, _ = mark
        value = node.meta["val"]
        if isinstance(value, torch.Tensor):
            single = _tensor(value)
            self.constants[single] = FixedTensor(self.known.array(node), layer, source)
            return single
        parts = tuple(map(_tensor, value))
        for i, part in enumerate(parts):
            self.constants[part] = FixedTensor(self.known.array(node, i), layer, source)
        return parts

    def tensor(self, node: Node) -> JointTensor:
        made = self.made[node]
        assert isinstance(made, JointTensor)
        return made

    def argument(self, a: Any) -> Arg:
        if isinstance(a, Node):
            return self.tensor(a)
        if isinstance(a, (list, tuple)):
            return tuple(map(self.argument, a))
        return a if a is None or isinstance(a, (bool, int, float, str)) else str(a)


def _tensor(value: torch.Tensor) -> JointTensor:
    return JointTensor(tuple(int(d) for d in value.shape), str(value.dtype).removeprefix("torch."))


def _live(nodes: list[Node], roots: list[Node]) -> set[Node]:
    live = set(roots)
    for node in reversed(nodes[:-1]):
        if node in live:
            live.update(node.all_input_nodes)
    return live


def _marks(
    live: list[Node], wanted: list[tuple[adapter.Port, Node]], plain: Mapping[str, str]
) -> dict[Node, adapter.CallMark]:
    """The marks of the nodes; a sum of gradients belongs to the layer that reads it."""
    owner = {n: module_of(plain[p.name]) for p, n in wanted if p.role == "gradient" and p.name}
    marks: dict[Node, adapter.CallMark] = {}
    for node in reversed(live):
        nobody = owner.get(node, ROOT), "", ""
        reader = next((marks[u] for u in node.users if u in marks), nobody)
        marks[node] = adapter.mark_of(node) or reader
    return marks

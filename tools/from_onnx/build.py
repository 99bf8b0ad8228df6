"""A graph whose constants are decided becomes a network: layers, parameters, steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from ...compiler.errors import UsageError, closest
from .definitions import plain
from .fold import Folded, Weight, fold
from .graph import STANDARD, OnnxGraph, OnnxNode
from .layers import make_layer
from .names import is_parameter, layer_path, node_path, place_module, place_parameter
from .network import Network, NodeCall, NodeStep
from .read import OnnxSource, read_graph
from .table import known_ops

# What stands at the end of a network whose loss takes what is ahead of it.
ENDS = ("Softmax", "LogSoftmax", "Sigmoid")
BIASED = ("MatMul", "Conv", "ConvTranspose")


def build(source: OnnxSource, outputs: Sequence[str], *, logits: bool) -> Network:
    """The network of a file or a model in memory; see ``from_onnx``."""
    graph = read_graph(source)
    if outputs:
        graph = _with_outputs(graph, outputs)
    ends = [_end(graph, o) if logits else None for o in graph.outputs]
    ahead = [
        o if end is None else end.inputs[0] for o, end in zip(graph.outputs, ends, strict=True)
    ]
    network = NetworkBuilder(fold(replace(graph, outputs=tuple(ahead)))).network()
    network.left_out = " and ".join(dict.fromkeys(end.op for end in ends if end is not None))
    return network


def _with_outputs(graph: OnnxGraph, names: Sequence[str]) -> OnnxGraph:
    there = [o for node in graph.nodes for o in node.outputs if o]
    for name in names:
        if name not in there:
            raise UsageError(f"{graph.file} has no output {name!r}; {closest(name, there)}")
    return replace(graph, outputs=tuple(names))


def _end(graph: OnnxGraph, output: str) -> OnnxNode | None:
    """The softmax or sigmoid that makes ``output``, if one does."""
    made = {o: node for node in graph.nodes for o in node.outputs}
    name = output
    while name in made and (made[name].domain, made[name].op) == (STANDARD, "Identity"):
        name = made[name].inputs[0]
    end = made.get(name)
    return end if end and end.domain == STANDARD and end.op in ENDS else None


@dataclass(frozen=True, slots=True)
class Bias:
    """What is added to a product, which is the bias of its layer, and the node that adds it."""

    weight: Weight
    array: np.ndarray
    node: OnnxNode


class NetworkBuilder:
    """Makes the network of a graph, node by node."""

    def __init__(self, folded: Folded) -> None:
        self._folded, graph = folded, folded.graph
        first = graph.inputs[0].shape if graph.inputs else None
        batch = first[0] if first else None
        self._network = Network(
            graph.file, graph.inputs, graph.outputs, batch if isinstance(batch, int) else None
        )
        self._constants = dict(folded.constants)
        self._weights: dict[str, str] = {}
        self._taken = Counter(name for node in folded.nodes for name in node.inputs)
        self._taken.update(graph.outputs)
        self._adds = self._biases()

    def network(self) -> Network:
        """The network, in training mode and with all weights trained."""
        for name, array in self._folded.shared.items():
            self._weights[name] = place_parameter(self._network, name, _parameter(array))
        added = {bias.node for bias in self._adds.values()}
        nodes = [node for node in self._folded.nodes if node not in added]
        # Layers first: the path of a layer is its own, whatever else its module does.
        known = {n: self._known(n) for n in nodes if self._folded.known.issuperset(n.outputs)}
        layers = {n: self._layer(n) for n in nodes if n not in known}
        steps = [known.get(n) or layers.get(n) or self._call(n) for n in nodes]
        used = {name for step in steps for name in step.takes} | set(self._network.outputs)
        constants = {name: a for name, a in self._constants.items() if name in used}
        self._network.complete(steps, constants, self._weights)
        return self._network

    def _biases(self) -> dict[OnnxNode, Bias]:
        """Products that an Add of a weight follows, and nothing else."""
        made = {n.outputs[0]: n for n in self._folded.nodes if n.op in BIASED and n.outputs}
        found = {}
        for node in self._folded.nodes:
            for at in (0, 1) if node.kind == (STANDARD, "Add") else ():
                product, use = made.get(node.inputs[1 - at]), (node, at)
                if product is None or use not in self._folded.owned or product in found:
                    continue
                if self._keeps_layout(product):
                    continue
                weight = self._folded.owned[use]
                array = self._as_bias(product, weight.array)
                if array is not None and self._taken[product.outputs[0]] == 1:
                    found[product] = Bias(weight, array, node)
        return found

    def _as_bias(self, product: OnnxNode, added: np.ndarray) -> np.ndarray | None:
        """``added`` as the bias of a product without one; None where it is none."""
        weight = self._folded.owned.get((product, 1))
        if (
            product.domain != STANDARD
            or weight is None
            or len(list(filter(None, product.inputs))) > 2
        ):
            return None
        w = weight.array
        if product.op == "MatMul":
            fits = w.ndim == 2 and added.shape == (w.shape[1],)
        else:
            channels = (
                w.shape[0] if product.op == "Conv" else w.shape[1] * product.whole("group", 1)
            )
            pixels = (1,) * (w.ndim - 2)
            fits = added.shape in ((channels, *pixels), (1, channels, *pixels))
        return added.reshape(-1) if fits else None

    def _keeps_layout(self, node: OnnxNode) -> bool:
        """Whether a product takes a parameter of torch as it is, which nn.Linear would transpose.

        ``load_state_dict`` of the network that the file was made from takes it by its name.
        """
        weight = self._folded.owned.get((node, 1))
        if weight is None or node.op not in ("MatMul", "Gemm") or node.whole("transB", 0):
            return False
        file = self._folded.graph.initial.get(next(iter(weight.names), ""))
        return file is not None and is_parameter(weight.names[0])

    def _known(self, node: OnnxNode) -> NodeStep:
        """A step whose results sizes alone decide."""
        return NodeStep(node, "", node.inputs, self._gives(node))

    def _layer(self, node: OnnxNode) -> NodeStep | None:
        """A step by a module of torch; None where there is none, or a weight is not the node's."""
        if self._keeps_layout(node):
            return None
        definition = known_ops()[node.kind]
        arrays: dict[str, np.ndarray] = {}
        names: list[str] = []
        rest = []
        for i, name in enumerate(node.inputs):
            owned = self._folded.owned.get((node, i))
            operand = definition.name(i)
            if owned is not None:
                arrays[operand] = owned.array
                names += owned.names
            elif name in self._constants and node.kind[1] in ("BatchNormalization", "Dropout"):
                arrays[operand] = self._constants[name]
                names.append(name)
            elif i and name and operand in definition.weights:
                return None
            elif not i or operand not in definition.weights:
                rest.append(name)
        bias = self._adds.get(node)
        if bias is not None:
            arrays["c" if node.op == "MatMul" else "b"] = bias.array
            names += bias.weight.names
        module = make_layer(node, arrays, len(self._folded.graph.shapes.get(node.inputs[0], ())))
        if module is None:
            assert bias is None, f"{node.place} has a bias and is no layer"
            return None
        path = place_module(self._network, layer_path(node, names), module)
        return NodeStep(node, path, tuple(rest), self._gives(bias.node if bias else node))

    def _call(self, node: OnnxNode) -> NodeStep:
        """A step by the node's definition, whose weights are parameters of the network."""
        takes = list(node.inputs)
        for i in range(len(takes)):
            if (weight := self._folded.owned.get((node, i))) is not None:
                name = (*weight.names, f"{node.name}.{known_ops()[node.kind].name(i)}")[0]
                path = place_parameter(self._network, name, _parameter(weight.array))
                takes[i] = f"{node.name}[{i}]"
                self._weights[takes[i]] = path
        if node.kind == (STANDARD, "Reshape"):
            takes[1] = self._free_batch(node, takes[1])
        path = place_module(self._network, node_path(node), NodeCall(node))
        return NodeStep(node, path, tuple(takes), self._gives(node))

    def _gives(self, node: OnnxNode) -> tuple[str, ...]:
        """The node's results by name, those that nothing takes without one."""
        return tuple(name if self._taken[name] else "" for name in node.outputs)

    def _free_batch(self, node: OnnxNode, name: str) -> str:
        """The sizes of a Reshape that leaves dimension 0 as it is, whatever that will be."""
        shapes, sizes = self._folded.graph.shapes, self._constants.get(name)
        before, behind = (shapes.get(v, ()) for v in (node.inputs[0], node.outputs[0]))
        whole = before and behind and all(isinstance(s, int) for s in (*before, *behind))
        if sizes is None or not whole or before[0] != behind[0] or node.whole("allowzero", 0):
            return name
        made = f"{node.name}[sizes]"
        self._constants[made] = np.array([0, *behind[1:]], np.int64)
        return made


def _parameter(array: np.ndarray) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(plain(array).copy()))

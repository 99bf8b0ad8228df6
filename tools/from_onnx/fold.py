"""Which constants of a graph are weights: what is trained, what several nodes share, what is fixed.

A *root* is an array that the file carries, or that nodes compute from constants alone. Nodes that
only move the numbers of a root are done at once where the result is the weight of one node, so
that a layer gets it as it wants it; elsewhere they run, on the root as it is.

A root that several nodes use is one parameter for all of them. Not so where an exporter has stored
equal arrays once: all numbers of the root are equal, as the ones of a new norm, or an Identity of
it gives it another name, as torch's exporter does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from onnx import NodeProto
from onnx.reference import ReferenceEvaluator

from ...compiler.errors import UnsupportedOpError
from .definitions import plain
from .graph import STANDARD, OnnxGraph, OnnxNode
from .ops.quantized import INTEGERS
from .table import known_ops

MOVES = (
    *("Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast"),
    *("Slice", "Concat", "Split", "QuantizeLinear", "DequantizeLinear"),
)
CODED = ("QuantizeLinear", "DequantizeLinear")
# What quantized numbers may pass on their way to DequantizeLinear: it takes them as they are.
CARRIES = (*MOVES, "MaxPool", "Gather", "Expand", "Tile", "DepthToSpace", "SpaceToDepth")
OF_SHAPE = ("Shape", "Size")
RANDOM = (
    *("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli"),
    *("Multinomial", "Dropout", "SplitToSequence"),
)
# Statistics of a norm, which training writes and no optimizer.
STATISTICS = {"BatchNormalization": (3, 4)}
AXES = "axes of the node"
MASKED = 1e4  # a table with numbers from here on is a mask, not a weight
Use = tuple[OnnxNode, int]


@dataclass(frozen=True, slots=True)
class HeldConstant:
    """Numbers that depend on no input, and the roots that they were moved from.

    ``carried`` says whether one of these is an array of the file.
    """

    array: np.ndarray
    roots: frozenset[str]
    carried: bool


@dataclass(frozen=True, slots=True)
class Weight:
    """A trained operand of one node: its numbers, and what they are called.

    ``names`` are its own and its root's; none where several nodes start from the same array.
    """

    array: np.ndarray
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Folded:
    """A graph whose constants are decided.

    ``owned`` are weights by node and number of the operand, ``shared`` parameters by name,
    ``constants`` the arrays that are not trained, ``known`` names of values that are known when
    the network is traced.
    """

    graph: OnnxGraph
    nodes: tuple[OnnxNode, ...]
    constants: Mapping[str, np.ndarray]
    owned: Mapping[Use, Weight]
    shared: Mapping[str, np.ndarray]
    known: frozenset[str]


def fold(graph: OnnxGraph) -> Folded:
    """Decide all constants of ``graph``."""
    held, live = _constants(graph)
    live = _needed(live, graph.outputs)
    _check_known(graph, live, held)
    uses = _uses(live, held)
    trained = {use: name for use, name in uses.items() if _is_trained(graph, use, held[name])}
    users: dict[str, set[Use]] = defaultdict(set)
    for use, name in uses.items():
        for root in held[name].roots:
            users[root].add(use)
    owned: dict[Use, Weight] = {}
    again: set[str] = set()  # values that nodes compute from shared parameters
    for use, name in trained.items():
        constant = held[name]
        alone = all(len(users[root]) == 1 for root in constant.roots)
        equal = bool((constant.array == constant.array.flat[0]).all())
        if equal or (alone and _moves_ahead(use, constant, held)):
            names = (name, min(constant.roots)) if alone else (name,)
            own = alone or name not in constant.roots
            owned[use] = Weight(constant.array, names if own else ())
        else:
            again.add(name)
    shared = {root for name in again for root in held[name].roots}
    moved = _needed([n for n in graph.nodes if n not in set(live)], tuple(again), stop=shared)
    nodes = tuple(n for n in graph.nodes if n in set(live) | set(moved))
    _check_codes(graph, nodes)
    kept = {name for name in held if name not in {o for n in moved for o in n.outputs} | shared}
    return Folded(
        graph=graph,
        nodes=nodes,
        constants={name: held[name].array for name in kept},
        owned=owned,
        shared={name: held[name].array for name in shared},
        known=_known(nodes, kept, {node for node, _ in owned}),
    )


def _constants(graph: OnnxGraph) -> tuple[dict[str, HeldConstant], list[OnnxNode]]:
    """All values that are constants, and the nodes that are left to run."""
    held = {name: HeldConstant(a, frozenset([name]), True) for name, a in graph.initial.items()}
    live = []
    for node in graph.nodes:
        operands = [held.get(name) for name in node.inputs if name]
        constants = [c for c in operands if c is not None]
        if len(constants) < len(operands) or not _can_fold(graph, node, constants):
            live.append(node)
            continue
        arrays = [held[name].array if name else None for name in node.inputs]
        made = _moved_codes(node, arrays) or evaluate(node, arrays)
        data = (constants if node.op == "Concat" else constants[:1]) if _moves(node) else []
        roots = frozenset[str]().union(*(c.roots for c in data))
        carried = any(c.carried for c in data)
        renamed = node.kind == (STANDARD, "Identity") and node.inputs[0] in graph.initial
        for name, array in zip(node.outputs, made, strict=False):
            own = renamed or not roots
            held[name] = HeldConstant(array, frozenset([name]) if own else roots, carried)
    return held, live


def _moves(node: OnnxNode) -> bool:
    return node.domain == STANDARD and node.op in MOVES


def _can_fold(graph: OnnxGraph, node: OnnxNode, constants: Iterable[HeldConstant]) -> bool:
    """Whether a node of constants is one: it draws nothing, and computes with no weight."""
    if node.domain != STANDARD or node.op in RANDOM:
        return False
    if _moves(node) or node.op in OF_SHAPE:
        return True
    return not any(_may_train(graph, c) for c in constants)


def _may_train(graph: OnnxGraph, constant: HeldConstant) -> bool:
    """Whether an array that the file carries reads like a parameter.

    What torch's exporter says counts; else floats, more than one, of moderate size.
    """
    said = {graph.said.get(root, "") for root in constant.roots}
    array = plain(constant.array)
    if array.dtype != np.float32 or "BUFFER" in said or not constant.carried:
        return False
    if "PARAMETER" in said:
        return True
    return array.size > 1 and bool((np.abs(array) < MASKED).all())


def _is_trained(graph: OnnxGraph, use: Use, constant: HeldConstant) -> bool:
    """Whether a constant operand is a weight."""
    node, index = use
    definition = known_ops().get(node.kind)
    if definition is None or definition.takes_known(index) or constant.array.size == 0:
        return False
    if index in STATISTICS.get(node.op, ()) and node.domain == STANDARD:
        return False
    if definition.name(index) not in definition.weights:
        return _may_train(graph, constant)
    buffers = {graph.said.get(root, "") for root in constant.roots} == {"BUFFER"}
    return plain(constant.array).dtype == np.float32 and not buffers


def _moves_ahead(use: Use, constant: HeldConstant, held: Mapping[str, HeldConstant]) -> bool:
    """Whether an operand takes its root as nodes have moved it, and not as the file carries it."""
    node, index = use
    definition = known_ops()[node.kind]
    roots = [held[root].array for root in constant.roots]
    coded = any(plain(a).dtype != np.float32 for a in roots)
    unmoved = len(roots) == 1 and roots[0].shape == constant.array.shape
    return coded or unmoved or definition.name(index) in definition.weights


def _moved_codes(node: OnnxNode, arrays: list[np.ndarray | None]) -> tuple[np.ndarray, ...] | None:
    """Floats that a pair would round stay as they are: a recipe rounds them."""
    first = arrays[0] if arrays else None
    if node.op in CODED and first is not None and first.dtype.kind == "f":
        return (first,)
    return None


def _needed(
    nodes: list[OnnxNode], outputs: tuple[str, ...], stop: Iterable[str] = ()
) -> list[OnnxNode]:
    """Those of ``nodes`` that ``outputs`` come of."""
    wanted, kept, known = set(outputs) - set(stop), [], set(stop)
    for node in reversed(nodes):
        if wanted & set(node.outputs):
            kept.append(node)
            wanted |= set(node.inputs) - known
    return kept[::-1]


def _uses(nodes: Iterable[OnnxNode], held: Mapping[str, HeldConstant]) -> dict[Use, str]:
    """All constant operands."""
    return {(n, i): name for n in nodes for i, name in enumerate(n.inputs) if name in held}


def _known(
    nodes: Iterable[OnnxNode], constants: Iterable[str], trained: Collection[OnnxNode] = ()
) -> frozenset[str]:
    """Values that are known when the network is traced: constants, and what is made of sizes.

    ``trained`` are nodes with a weight, whose results are not.
    """
    known = {*constants, ""}
    for node in nodes:
        sizes = node.domain == STANDARD and node.op in OF_SHAPE
        fixed = node.domain == STANDARD and node.op not in RANDOM and node not in trained
        if sizes or (fixed and known.issuperset(node.inputs)):
            known.update(node.outputs)
    return frozenset(known)


def _check_known(
    graph: OnnxGraph, nodes: Iterable[OnnxNode], held: Mapping[str, HeldConstant]
) -> None:
    """Raise UnsupportedOpError for all operators that nothing here defines, in one sentence."""
    nodes = list(nodes)
    known, definitions = _known(nodes, held), known_ops()
    lacking: dict[str, OnnxNode] = {}
    for node in nodes:
        if node.kind not in definitions and not known.issuperset(node.outputs):
            lacking.setdefault(".".join(filter(None, node.kind)), node)
    if lacking:
        named = ", ".join(f"{op} (node {node.name!r})" for op, node in sorted(lacking.items()))
        raise UnsupportedOpError(
            f"{graph.file}: no step has the operators {named}; docs/onnx-import.md lists those "
            "that there are"
        )


def _check_codes(graph: OnnxGraph, nodes: Iterable[OnnxNode]) -> None:
    """Raise UnsupportedOpError where codes are more than on their way to DequantizeLinear."""
    codes: set[str] = set()
    for node in nodes:
        if node.kind == (STANDARD, "QuantizeLinear"):
            codes.update(node.outputs)
        elif codes & set(node.inputs) and node.kind != (STANDARD, "DequantizeLinear"):
            if node.domain != STANDARD or node.op not in CARRIES:
                node.refuse(INTEGERS)
            codes.update(node.outputs)
    for output in codes & set(graph.outputs):
        raise UnsupportedOpError(
            f"{graph.file}: the output {output!r} holds codes of QuantizeLinear; a step gives the "
            "numbers that they stand for, so let a DequantizeLinear follow"
        )


def evaluate(node: OnnxNode, arrays: Iterable[np.ndarray | None]) -> tuple[np.ndarray, ...]:
    """The results of a node whose operands are known, by ONNX's own reference."""
    named = {name: a for name, a in zip(node.inputs, arrays, strict=True) if a is not None}
    if node.op in ("Squeeze", "Unsqueeze") and node.has("axes"):
        named[AXES] = np.array(node.ints("axes"), np.int64)
    try:
        made = _evaluator(node).run(None, named)
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        node.refuse(f"cannot be computed from its constants: {first}")
    return tuple(np.asarray(array) for array in made)


@lru_cache(maxsize=4096)
def _evaluator(node: OnnxNode) -> ReferenceEvaluator:
    proto, version = NodeProto(), node.version
    proto.CopyFrom(node.proto)
    if node.op in ("Squeeze", "Unsqueeze") and node.has("axes"):  # as an operand, as of opset 13
        del proto.attribute[:]
        proto.input.append(AXES)
        version = 13
    return ReferenceEvaluator(proto, opsets={node.domain: version})

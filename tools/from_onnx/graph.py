"""An ONNX graph as frozen data: nodes with their attributes, and the arrays that it starts from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
import torch
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, numpy_helper

from ...compiler.errors import UnsupportedOpError

STANDARD, MICROSOFT = "", "com.microsoft"
NodeAttribute = (
    int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | np.ndarray
)
# Sizes of a value; words and None are those that a file leaves open.
DeclaredShape = tuple[int | str | None, ...]
# What torch's exporter says of a node: the modules that it was written in, from the outermost on.
SCOPES = "pkg.torch.onnx.name_scopes"


@dataclass(frozen=True, slots=True, eq=False)
class OnnxNode:
    """One node of a graph; ``version`` is the opset of its domain."""

    name: str
    op: str
    domain: str
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, NodeAttribute]
    scopes: tuple[str, ...]
    file: str
    proto: NodeProto = field(repr=False)

    @property
    def kind(self) -> tuple[str, str]:
        """Domain and op: what a definition is found by."""
        return self.domain, self.op

    @property
    def place(self) -> str:
        """The node as an error names it."""
        domain = f"{self.domain}." if self.domain else "opset "
        return f"{self.file}: node {self.name!r} ({self.op}, {domain}{self.version})"

    def refuse(self, why: str) -> NoReturn:
        """Raise UnsupportedOpError with the node's place and ``why``, which ends the sentence."""
        raise UnsupportedOpError(f"{self.place} {why}")

    def has(self, name: str) -> bool:
        """Whether the file gives the attribute."""
        return name in self.attributes

    def whole(self, name: str, default: int | None = None) -> int:
        """An attribute that is an integer."""
        return int(self._number(name, default))

    def number(self, name: str, default: float | None = None) -> float:
        """An attribute that is a number."""
        return float(self._number(name, default))

    def word(self, name: str, default: str) -> str:
        """An attribute that is a word."""
        value = self.attributes.get(name, default)
        return value if isinstance(value, str) else self.refuse(f"has a {name} that is no word")

    def words(self, name: str) -> tuple[str, ...]:
        """An attribute that is a list of words; empty where it is not given."""
        value = self.attributes.get(name, ())
        return tuple(map(str, value)) if isinstance(value, tuple) else (str(value),)

    def ints(self, name: str) -> tuple[int, ...] | None:
        """An attribute that is a list of integers; None where it is not given."""
        value = self.attributes.get(name)
        if value is None:
            return None
        if not isinstance(value, tuple):
            self.refuse(f"has a {name} that is no list of integers")
        return tuple(int(v) for v in value)

    def _number(self, name: str, default: int | float | None) -> int | float:
        value = self.attributes.get(name, default)
        if not isinstance(value, int | float):
            self.refuse(f"has no number {name}; the operator demands one")
        return value


@dataclass(frozen=True, slots=True)
class Declared:
    """An input as the file declares it."""

    name: str
    dtype: np.dtype
    shape: DeclaredShape | None

    @property
    def floats(self) -> bool:
        """Whether it holds floats, of any width."""
        return self.dtype.kind not in "biu"

    @property
    def carried(self) -> torch.dtype:
        """The dtype that a step takes it in."""
        return (
            torch.float32 if self.floats else torch.bool if self.dtype.kind == "b" else torch.int64
        )


@dataclass(frozen=True, slots=True)
class OnnxGraph:
    """A network as its file has it.

    ``initial`` are the arrays that it carries, ``said`` what torch's exporter says each of them
    is (PARAMETER or BUFFER), ``shapes`` sizes of values as far as ONNX infers them.
    """

    file: str
    inputs: tuple[Declared, ...]
    outputs: tuple[str, ...]
    nodes: tuple[OnnxNode, ...]
    initial: Mapping[str, np.ndarray]
    said: Mapping[str, str]
    shapes: Mapping[str, DeclaredShape]


def read_node(proto: NodeProto, index: int, versions: Mapping[str, int], file: str) -> OnnxNode:
    """A node of a file; one without a name is called by what it makes."""
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    said = {p.key: p.value for p in proto.metadata_props}
    node = OnnxNode(
        name=proto.name or next(filter(None, proto.output), f"{proto.op_type}_{index}"),
        op=proto.op_type,
        domain=domain,
        version=versions.get(domain, 1),
        inputs=tuple(proto.input),
        outputs=tuple(proto.output),
        attributes={a.name: _attribute(a) for a in proto.attribute if not _is_graph(a)},
        scopes=_scopes(said.get(SCOPES, "[]")),
        file=file,
        proto=proto,
    )
    if any(map(_is_graph, proto.attribute)):
        node.refuse(
            "holds graphs of its own; a step is straight-line code, so export the network with "
            "the branch taken, the loop written out, or as torch.onnx.export(..., dynamo=True) does"
        )
    return node


def _scopes(text: str) -> tuple[str, ...]:
    """The list that torch's exporter writes, with single quotes."""
    try:
        return tuple(map(str, json.loads(text.replace("'", '"'))))
    except json.JSONDecodeError:
        return ()


def _is_graph(proto: AttributeProto) -> bool:
    return isinstance(proto.g, GraphProto) and proto.type in (
        AttributeProto.GRAPH,
        AttributeProto.GRAPHS,
    )


def _attribute(proto: AttributeProto) -> NodeAttribute:
    """The value of an attribute as Python has it."""
    if proto.type == AttributeProto.FLOAT:
        return float(proto.f)
    if proto.type == AttributeProto.INT:
        return int(proto.i)
    if proto.type == AttributeProto.STRING:
        return proto.s.decode("utf-8", "replace")
    if proto.type == AttributeProto.FLOATS:
        return tuple(map(float, proto.floats))
    if proto.type == AttributeProto.INTS:
        return tuple(map(int, proto.ints))
    if proto.type == AttributeProto.STRINGS:
        return tuple(s.decode("utf-8", "replace") for s in proto.strings)
    if proto.type == AttributeProto.TENSOR:
        return array_of(proto.t)
    other: str = proto.SerializeToString().hex()  # sparse tensors, types: nothing reads them
    return other


def array_of(proto: TensorProto) -> np.ndarray:
    """The numbers of a tensor of a file."""
    made: np.ndarray = numpy_helper.to_array(proto)
    return made

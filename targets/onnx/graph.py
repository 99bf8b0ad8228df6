"""A graph in ONNX's terms as plain data; ``write`` makes a file of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .elements import ElementType

Array = NDArray[Any]
Dims = tuple[int | str, ...]
"""Sizes; a word is one that a caller chooses, such as ``batch``."""
OnnxAttribute = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]
ONNX, QONNX, PICTURE = "", "qonnx.custom_op.general", "quatrain"
VERSIONS = {ONNX: 21, QONNX: 1, PICTURE: 1}


@dataclass(frozen=True, slots=True)
class WrittenNode:
    """One operation; an input called "" is left out. ``body``: what it runs several times."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, OnnxAttribute] = field(default_factory=lambda: MappingProxyType({}))
    domain: str = ONNX
    body: WrittenGraph | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Initializer:
    """An initializer: numbers of the element's NumPy type, codes one to an element."""

    name: str
    element: ElementType
    array: Array

    @property
    def bytes(self) -> int:
        """Bytes in the file."""
        return (self.array.size * self.element.bits + 7) // 8


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An input, an output or a value in between; ``about`` is what ONNX's type does not say."""

    name: str
    element: ElementType
    dims: Dims
    about: str = ""


@dataclass(frozen=True, slots=True)
class WrittenGraph:
    """A whole graph; ``facts`` stand beside it in the file."""

    name: str
    inputs: tuple[Endpoint, ...]
    outputs: tuple[Endpoint, ...]
    nodes: tuple[WrittenNode, ...]
    constants: tuple[Initializer, ...] = ()
    values: tuple[Endpoint, ...] = ()
    facts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def bytes(self) -> int:
        """Bytes of all constants."""
        return sum(c.bytes for c in self.constants)

    @property
    def domains(self) -> tuple[str, ...]:
        """Sets of operations that the nodes are of."""
        return tuple(dict.fromkeys((ONNX, *(n.domain for n in self.nodes))))


def names_read(nodes: Iterable[WrittenNode]) -> frozenset[str]:
    """The tensors that nodes read, also in their bodies."""
    bodies = (names_read(n.body.nodes) for n in nodes if n.body)
    return frozenset({i for n in nodes for i in n.inputs}.union(*bodies))


NUMPY: Mapping[ElementType, np.dtype[Any]] = {
    ElementType.FLOAT: np.dtype(np.float32),
    ElementType.DOUBLE: np.dtype(np.float64),
    ElementType.INT64: np.dtype(np.int64),
    ElementType.INT32: np.dtype(np.int32),
    ElementType.BOOL: np.dtype(np.bool_),
    **dict.fromkeys((ElementType.UINT8, ElementType.UINT4), np.dtype(np.uint8)),
    **dict.fromkeys((ElementType.INT8, ElementType.INT4), np.dtype(np.int8)),
    **dict.fromkeys((ElementType.FLOAT8E4M3FN, ElementType.FLOAT8E5M2), np.dtype(np.uint8)),
    ElementType.UINT16: np.dtype(np.uint16),
    ElementType.INT16: np.dtype(np.int16),
}

"""Builds a graph node by node: names are unique, and what constants alone make is a constant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from ...compiler.ir import unused
from .elements import ElementType
from .graph import (
    NUMPY,
    ONNX,
    Array,
    Initializer,
    OnnxAttribute,
    WrittenGraph,
    WrittenNode,
    names_read,
)

# Arithmetic of f32 constants, rounded as a node would round it.
FOLDS: Mapping[str, Callable[..., Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Max": np.maximum,
}


class OnnxBuilder:
    """Nodes and constants so far, of one layer after another; tensors are known by their names."""

    def __init__(self, taken: set[str]) -> None:
        """``taken`` are names that no tensor in between may have."""
        self.layer = ""
        self.nodes: list[WrittenNode] = []
        self._constants: dict[str, Initializer] = {}
        self._shared: dict[tuple[ElementType, tuple[int, ...], bytes], str] = {}
        self._taken, self._node_names = taken, set[str]()

    def op(self, kind: str, *inputs: str, **attributes: OnnxAttribute) -> str:
        """The one output of a new node of ONNX, or a constant where it can be known now."""
        arrays = [self.array(i) for i in inputs]
        known = [a for a in arrays if a is not None and a.dtype == np.float32]
        if kind in FOLDS and len(known) == len(inputs):
            with np.errstate(all="ignore"):
                return self.constant(np.asarray(FOLDS[kind](*known), np.float32))
        return self.node(kind, inputs, attributes)[0]

    def node(
        self,
        kind: str,
        inputs: Sequence[str],
        attributes: Mapping[str, OnnxAttribute],
        *,
        outputs: int = 1,
        domain: str = ONNX,
        body: WrittenGraph | None = None,
    ) -> tuple[str, ...]:
        """The outputs of a new node."""
        title = "/".join(filter(None, (self.layer, kind)))
        made = tuple(self.fresh(title) for _ in range(outputs))
        label = unused(title, self._node_names)
        self.nodes.append(
            WrittenNode(label, kind, tuple(inputs), made, _frozen(attributes), domain, body)
        )
        return made

    @contextmanager
    def body(self) -> Iterator[list[WrittenNode]]:
        """Take nodes apart for a while: they are those of a graph within the graph."""
        before, self.nodes = self.nodes, []
        try:
            yield self.nodes
        finally:
            self.nodes = before

    def fresh(self, wish: str) -> str:
        """A name that no tensor has."""
        return unused(wish, self._taken)

    def constant(self, array: Array, name: str = "", element: ElementType | None = None) -> str:
        """A constant; a small one without a name is made once."""
        element = element or next(e for e, dtype in NUMPY.items() if dtype == array.dtype)
        array = np.asarray(array, NUMPY[element])
        key = (element, array.shape, array.tobytes() if array.size <= SMALL else b"")
        if not name and array.size <= SMALL:
            if key not in self._shared:
                self._shared[key] = self._add(_title(array), element, array)
            return self._shared[key]
        return self._add(name or f"{self.layer}/constant", element, array)

    def _add(self, wish: str, element: ElementType, array: Array) -> str:
        name = self.fresh(wish)
        self._constants[name] = Initializer(name, element, array)
        return name

    def f32(self, number: float) -> str:
        """One number."""
        return self.constant(np.asarray(number, np.float32))

    def ints(self, *numbers: int) -> str:
        """A vector of integers: dimensions, places."""
        return self.constant(np.asarray(numbers, np.int64))

    def int64(self, number: int) -> str:
        """One integer."""
        return self.constant(np.asarray(number, np.int64))

    def array(self, name: str) -> Array | None:
        """The numbers of a constant; None where they are known only later."""
        found = self._constants.get(name)
        return found.array if found else None

    def rename(self, old: str, new: str) -> bool:
        """Give what the last node makes another name; whether that was possible."""
        if not self.nodes or old not in self.nodes[-1].outputs:
            return False
        outputs = tuple(new if o == old else o for o in self.nodes[-1].outputs)
        self.nodes[-1] = replace(self.nodes[-1], outputs=outputs)
        return True

    def used(self) -> tuple[Initializer, ...]:
        """The constants that a node reads."""
        read = names_read(self.nodes)
        return tuple(c for c in self._constants.values() if c.name in read)


SMALL = 64  # elements of a constant that is not made twice


def _title(array: Array) -> str:
    values = "_".join(f"{v:g}" for v in array.ravel()[:4].tolist())
    return f"constant/{values}" if array.size <= 4 else f"constant/{values}_of_{array.size}"


def _frozen(attributes: Mapping[str, OnnxAttribute]) -> Mapping[str, OnnxAttribute]:
    return MappingProxyType(dict(attributes))

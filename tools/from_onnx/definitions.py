"""The table of ONNX operators: each is one small function of its node and its operands.

The function's signature says what an operand may be. ``Tensor`` is the network's numbers; a
constant is made one. ``Known`` must be known when the network is traced: a constant, or made of
sizes. ``TensorOrNumber`` is a tensor, or a plain number where a constant is one. ``NodeValue`` is
any of these.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import get_type_hints

import numpy as np
import torch
from torch import Tensor

from .graph import STANDARD, OnnxNode

CPU = torch.device("cpu")
Known = np.ndarray
TensorOrNumber = Tensor | float
# A list is a sequence of ONNX: parts of a tensor that SplitToSequence makes.
NodeValue = Tensor | np.ndarray | list[Tensor]
NodeResults = NodeValue | tuple[NodeValue, ...]
OnnxFunction = Callable[..., NodeResults]


@dataclass(frozen=True, slots=True)
class Definition:
    """What an operator computes, and which of its operands are weights wherever they come from."""

    function: OnnxFunction
    names: tuple[str, ...]
    kinds: tuple[object, ...]
    required: int
    variadic: bool
    weights: frozenset[str]

    def name(self, index: int) -> str:
        """The name of an operand; all that follow a variadic one are called alike."""
        return self.names[min(index, len(self.names) - 1)] if self.names else ""

    def takes_known(self, index: int) -> bool:
        """Whether an operand is a known one, which is nothing to train."""
        return bool(self.kinds) and _is_known(self.kinds[min(index, len(self.kinds) - 1)])

    def call(self, node: OnnxNode, values: Sequence[NodeValue | None]) -> NodeResults:
        """The results of ``node``; UnsupportedOpError where an operand is not what it must be."""
        given = sum(v is not None for v in values)
        if given < self.required or (len(values) > len(self.names) and not self.variadic):
            node.refuse(f"has {given} operands; the operator takes {', '.join(self.names)}")
        like = next((v for v in values if isinstance(v, Tensor)), None)
        device = CPU if like is None else like.device
        return self.function(
            node, *(self._operand(node, i, v, device) for i, v in enumerate(values))
        )

    def _operand(
        self, node: OnnxNode, index: int, value: NodeValue | None, device: torch.device
    ) -> object:
        kind = self.kinds[min(index, len(self.kinds) - 1)]
        if value is None:
            return None
        if _is_known(kind):
            if not isinstance(value, np.ndarray):
                node.refuse(
                    f"takes its {self.name(index)} from the numbers of the batch; a step is made "
                    "for fixed shapes, so export the network with a constant there"
                )
            return value
        if isinstance(value, Tensor | list) or kind == NodeValue:
            return value
        if (
            kind in (TensorOrNumber, TensorOrNumber | None)
            and value.ndim == 0
            and value.dtype != np.bool_
        ):
            return value.item()
        return tensor_of(value, device)


def _is_known(kind: object) -> bool:
    return kind in (Known, Known | None)


def tensor_of(array: np.ndarray, device: torch.device = CPU) -> Tensor:
    """A constant as the network's numbers: floats of any width become float32."""
    return (
        torch.from_numpy(np.require(plain(array), requirements=["C", "W"]))
        .reshape(array.shape)
        .to(device)
    )


def is_number(kind: np.dtype) -> bool:
    """Whether numbers of a dtype are carried as float32, int64 or bool: words and codes are not."""
    half = kind.name == "bfloat16" or (kind.kind == "f" and kind.itemsize > 1)
    return half or kind.kind in "biu"


def plain(array: np.ndarray) -> np.ndarray:
    """``array`` in a dtype that a step takes: float32, int64 or bool."""
    if array.dtype.kind == "b" or array.dtype in (np.float32, np.int64):
        return array
    return array.astype(np.int64 if array.dtype.kind in "iu" else np.float32)


DEFINITIONS: dict[tuple[str, str], Definition] = {}


def onnx_op(
    *ops: str, domain: str = STANDARD, weights: Iterable[str] = ()
) -> Callable[..., OnnxFunction]:
    """Register the function that follows as the definition of ``ops``."""

    def register(function: OnnxFunction) -> OnnxFunction:
        define(ops, function, domain, weights)
        return function

    return register


def define(
    ops: Iterable[str], function: OnnxFunction, domain: str = STANDARD, weights: Iterable[str] = ()
) -> None:
    """Put a definition into the table, under each of the names of ``ops``."""
    hints = get_type_hints(function)
    parameters = list(inspect.signature(function).parameters.values())[1:]
    names = tuple(p.name for p in parameters)
    required = sum(p.default is p.empty and p.kind is not p.VAR_POSITIONAL for p in parameters)
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    made = Definition(
        function, names, tuple(hints[n] for n in names), required, variadic, frozenset(weights)
    )
    assert made.weights <= set(names), f"{ops} has no operands {made.weights - set(names)}"
    DEFINITIONS.update({(domain, op): made for op in ops})


def ints(known: np.ndarray) -> tuple[int, ...]:
    """A known operand as integers."""
    return tuple(int(v) for v in known.reshape(-1))

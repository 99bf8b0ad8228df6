"""The joint graph as plain data: what capture hands to lowering, nothing of torch left in it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..types import Shape

ROOT = "model"  # the layer of what a model calls outside of its modules


def place(layer: str, source: str) -> str:
    """Where something stands, in a sentence: the layer, and the line where that is known."""
    return f"layer {layer!r}" + (f" at {source}" if source else "")


def module_of(name: str) -> str:
    """The module that a parameter or buffer belongs to."""
    return name.rpartition(".")[0] or ROOT


@dataclass(frozen=True, eq=False, slots=True)
class JointTensor:
    """A tensor of the joint graph, compared by identity; ``dtype`` is torch's: ``float32``, ..."""

    shape: Shape
    dtype: str


Arg = JointTensor | bool | int | float | str | None | tuple["Arg", ...]


@dataclass(frozen=True, eq=False, slots=True)
class Call:
    """One call ``results = op(args)`` with all default arguments filled in.

    ``op`` is a name with overload (``aten.relu.default``), ``layer`` the path of the module that
    made the call (``#2`` for its second call), ``source`` the user's ``file:line``, ``asked`` the
    name of the torch function that was called there.
    """

    op: str
    args: tuple[Arg, ...]
    results: tuple[JointTensor | None, ...]
    layer: str
    source: str
    backward: bool
    asked: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class FixedTensor:
    """Numbers that are the same in every step, and the layer and line that make them."""

    numbers: np.ndarray
    layer: str
    source: str


@dataclass(frozen=True, slots=True)
class Joint:
    """Forward and, for training, backward of a model as one list of calls.

    ``state`` are the parameters and buffers by qualified name; ``tangents`` the gradients that come
    in from outside (of the loss: 1), ``tangent_of`` the outputs that they belong to; ``gradients``
    pairs parameters with their gradient, ``input_gradients`` places of inputs with theirs;
    ``mutations`` says what buffers become, ``written_inputs`` which inputs are written into;
    ``constants`` are tensors that no call makes.
    """

    name: str
    inputs: tuple[JointTensor, ...]
    state: dict[str, JointTensor]
    calls: tuple[Call, ...]
    outputs: tuple[JointTensor, ...]
    tangents: tuple[JointTensor, ...] = ()
    gradients: tuple[tuple[str, JointTensor], ...] = ()
    mutations: dict[str, JointTensor] = field(default_factory=dict)
    constants: dict[JointTensor, FixedTensor] = field(default_factory=dict)
    tangent_of: tuple[int, ...] = ()
    input_gradients: tuple[tuple[int, JointTensor], ...] = ()
    written_inputs: tuple[int, ...] = ()

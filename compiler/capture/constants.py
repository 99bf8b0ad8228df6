"""What of a graph depends on no input, parameter or kept buffer: torch computes it, once.

Positions, masks, tables of sines, tensors that a forward closes over: their numbers are constants
of the program. A buffer that ``state_dict`` leaves out and no forward writes is one as well.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.fx.node import map_arg

from ..errors import CaptureError
from ..lower.joint import place
from . import adapter

# Of these only the shape of their tensor counts.
ALIKE: Mapping[str, float] = {
    **dict.fromkeys(("new_zeros", "zeros_like", "new_empty", "empty_like"), 0.0),
    **dict.fromkeys(("new_empty_strided", "empty", "empty_strided"), 0.0),
    **dict.fromkeys(("new_ones", "ones_like"), 1.0),
}
FILLED: Mapping[str, int] = {"full_like": 1, "new_full": 2}
RANDOM = torch.Tag.nondeterministic_seeded


def unkept_buffers(module: nn.Module) -> dict[str, Tensor]:
    """Buffers that no ``state_dict`` keeps under any name, by qualified name."""
    held = [
        (f"{path}.{name}".lstrip("."), name in inner._non_persistent_buffers_set, tensor)
        for path, inner in module.named_modules()
        for name, tensor in inner._buffers.items()
        if tensor is not None
    ]
    kept = {id(tensor) for _, unkept, tensor in held if not unkept}
    return {path: tensor for path, _, tensor in held if id(tensor) not in kept}


class Constants:
    """The numbers of nodes that are constants, as far as a graph was read."""

    def __init__(self, held: Mapping[str, Tensor]) -> None:
        """``held`` are buffers that are constants, by name of their placeholder."""
        self._held = held
        self._numbers: dict[Node, Any] = {}

    def buffer(self, node: Node, name: str) -> None:
        """A placeholder of a buffer."""
        if name in self._held:
            self._numbers[node] = self._held[name].detach()

    def knows(self, node: Node) -> bool:
        """Whether a node's numbers are known."""
        return node in self._numbers

    def fold(self, node: Node, mark: adapter.CallMark) -> bool:
        """Compute a node where that takes no number of a batch, a parameter or a generator.

        Raises CaptureError where torch cannot.
        """
        if node.op == "get_attr":
            self._numbers[node] = _attribute(node, mark)
            return True
        if (made := _filled(node)) is not None:
            self._numbers[node] = made
            return True
        if not all(n in self._numbers for n in node.all_input_nodes) or not _is_pure(node):
            return False
        args, options = map_arg((node.args, node.kwargs), self._numbers.__getitem__)
        try:
            with torch.no_grad():
                self._numbers[node] = node.target(*args, **options)  # type: ignore[operator]
        except Exception as error:
            said = str(error).partition("\n")[0]
            raise CaptureError(f"{mark[2]} in {place(*mark[:2])} fails: {said}") from error
        return True

    def array(self, node: Node, index: int | None = None) -> np.ndarray:
        """The numbers of a node, or of one of its results; not to be written."""
        t = self._numbers[node] if index is None else self._numbers[node][index]
        if t.dtype in (torch.bfloat16, torch.float16):
            t = t.float()  # for its shape and text alone: a step takes no such numbers
        made: np.ndarray = t.detach().resolve_conj().resolve_neg().numpy()
        return made


def _attribute(node: Node, mark: adapter.CallMark) -> Tensor:
    """A tensor that the forward or the loss has from elsewhere."""
    assert isinstance(node.target, str)
    t = getattr(node.graph.owning_module, node.target)
    if not isinstance(t, Tensor):
        raise CaptureError(f"a part of {place(*mark[:2])} is no tensor and no op: {node.target}")
    if isinstance(t, nn.Parameter) or t.requires_grad:
        raise CaptureError(
            f"{place(*mark[:2])} uses a tensor that requires a gradient and is no parameter of the "
            "model; register it as one, or layers that stand in a list as nn.ModuleList"
        )
    return t


def _filled(node: Node) -> Tensor | None:
    """One number everywhere; what is not initialized is zeros."""
    if not adapter.is_op(node):
        return None
    name = node.target._opname  # type: ignore[union-attr]
    value = adapter.full_arguments(node)[FILLED[name]] if name in FILLED else ALIKE.get(name)
    like = node.meta.get("val")
    if not isinstance(value, (bool, int, float)) or not isinstance(like, Tensor):
        return None
    return torch.full((), value, dtype=like.dtype).expand(tuple(map(int, like.shape)))


def _is_pure(node: Node) -> bool:
    if node.target is operator.getitem:
        return True
    if not adapter.is_op(node):
        return False
    own = node.target.namespace == "qtr"  # type: ignore[union-attr]
    return not own and RANDOM not in node.target.tags  # type: ignore[union-attr]

"""ONNX networks become modules of torch: read, constants decided, nodes as layers or functions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...compiler.errors import UsageError

if TYPE_CHECKING:
    from onnx import ModelProto

    from .network import Network


def from_onnx(
    source: str | os.PathLike[str] | ModelProto,
    *,
    outputs: Sequence[str] = (),
    logits: bool = False,
) -> Network:
    """The network of an ONNX file, or of a model in memory, as a module that can be trained.

    ``outputs`` names the values to give, those that the file declares by default; with ``logits``
    a Softmax, LogSoftmax or Sigmoid at the end is left out, as the losses of torch that take
    logits ask for. Raises QuatrainError with one sentence that names the node.
    """
    try:
        from .build import build
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise UsageError("onnx is not installed; pip install 'quatrain[onnx]'") from error
    return build(source, outputs, logits=logits)

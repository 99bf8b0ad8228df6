"""Names of modules and parameters: those that the network had where its file keeps them.

A layer is called as its weights are: ``layer1.0.conv.weight`` is the weight of ``layer1.0.conv``.
Else as torch's exporter says, or by the name of its node.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import nn

from .graph import OnnxNode

# A parameter's name: that of its layer, and what it is there.
PARAMETER = re.compile(r"(.+?)[._](weight|bias|running_mean|running_var|gamma|beta|scale)(_\w+)?")


def layer_path(node: OnnxNode, weights: Iterable[str]) -> str:
    """Where the layer that ``node`` becomes belongs; ``weights`` are names of its operands."""
    bases = [m[1] for name in weights if (m := PARAMETER.fullmatch(name))]
    if bases and (len(set(bases)) == 1 or not node.scopes):
        return bases[0]
    if len(node.scopes) > 1 and node.scopes[-2]:
        return node.scopes[-2]
    return node_path(node, layer=True)


def is_parameter(name: str) -> bool:
    """Whether an array is called as torch calls a parameter of a module."""
    return PARAMETER.fullmatch(name) is not None


def node_path(node: OnnxNode, *, layer: bool = False) -> str:
    """The path that the name of a node says, of a layer without the operator at its end.

    Torch repeats the names of containers: ``/layer1/layer1.0/conv/Conv`` is ``layer1.0.conv``.
    """
    parts: list[str] = []
    for part in node.name.strip("/").split("/"):
        if parts and part.startswith(f"{parts[-1]}."):
            parts.pop()
        parts.append(part)
    if layer and len(parts) > 1 and re.fullmatch(rf"{re.escape(node.op)}(_\d+)?", parts[-1]):
        parts.pop()
    return ".".join(parts)


def place_module(root: nn.Module, path: str, module: nn.Module) -> str:
    """Put a module below ``root`` at ``path``, or beside it where that is taken; the path."""
    parent, name, at = _room(root, path)
    parent.add_module(name, module)
    return at


def place_parameter(root: nn.Module, path: str, parameter: nn.Parameter) -> str:
    """Put a parameter below ``root`` at ``path``, or beside it where that is taken; the path."""
    parent, name, at = _room(root, path)
    parent.register_parameter(name, parameter)
    return at


def _room(root: nn.Module, path: str) -> tuple[nn.Module, str, str]:
    """The module that holds the last word of a path, that word, and the whole."""
    *above, last = _words(path)
    module, at = root, []
    for word in above:
        name = word
        while hasattr(module, name) and not isinstance(getattr(module, name), nn.Module):
            name += "_"
        if not hasattr(module, name):
            module.add_module(name, nn.Module())
        module = getattr(module, name)
        at.append(name)
    name, number = last, 1
    while hasattr(module, name):
        number += 1
        name = f"{last}_{number}"
    return module, name, ".".join((*at, name))


def _words(path: str) -> list[str]:
    """The words of a path as attributes can be called."""
    words = [re.sub(r"[^\w-]+", "_", word).strip("_") for word in re.split(r"[./]", path)]
    return [word for word in words if word] or ["node"]

"""What torch.compile knows of a graph that it hands to a backend: whose tensors, whose lines.

With ``adapter`` the place of torch's private names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import nn
from torch._dynamo.guards import GuardBuilder
from torch._dynamo.symbolic_convert import InstructionTranslator
from torch._guards import TracingContext, tracing
from torch.fx import GraphModule, Node

from ..lower.joint import ROOT
from .scope import own_line

untraced = tracing  # with None: behind it torch forgets that a trace of its own goes on
FRAMES = re.compile(r'File "([^"]+)", line (\d+)')


@dataclass(frozen=True, slots=True)
class HeldTensor:
    """A parameter or buffer of the module ``root``; ``kept`` where its state_dict has it."""

    root: int
    name: str
    trained: bool
    kept: bool


@dataclass(frozen=True, eq=False, slots=True)
class HandedGraph:
    """A graph of torch's functions, and what each of its arguments is: None one of the caller's.

    ``roots`` are the modules that were called, by the name that layers below them begin with;
    ``numbers`` are the places of Python's numbers, which torch gives as tensors and the graph takes
    ``item()`` of. ``broken`` is empty, or says why and where the graph ends ahead of its function.
    """

    graph: GraphModule
    arguments: tuple[HeldTensor | None, ...]
    roots: tuple[tuple[str, ReferenceType[nn.Module]], ...]
    stacks: tuple[str, ...]
    numbers: frozenset[int]
    broken: str = ""

    def modules(self) -> list[tuple[str, nn.Module]]:
        """The roots that are still there."""
        found = ((name, root()) for name, root in self.roots)
        return [(name, root) for name, root in found if root is not None]

    def title(self) -> str:
        """What programs of the graph are called: as the class of the module, if it is one."""
        found = self.modules()
        return type(found[0][1]).__name__ if len(found) == 1 else "graph"

    def name_of(self, held: HeldTensor) -> str:
        """The qualified name of a parameter or buffer, as of one model that has all roots."""
        return ".".join(filter(None, (self.roots[held.root][0], held.name)))

    def layer(self, node: Node) -> str:
        """The module that a node was called in, by its name in the root."""
        stack = node.meta.get("nn_module_stack") or {}
        path = next(reversed(stack.values()))[0] if stack else ""
        for (name, _), source in zip(self.roots, self.stacks, strict=True):
            if path == source or path.startswith((f"{source}.", f"{source}[")):
                inner = path.removeprefix(source).replace("[", ".").replace("]", "").strip(".'\"")
                return ".".join(filter(None, (name, inner))) or ROOT
        return ROOT


def line_of(node: Node) -> str:
    """The user's line that called a node."""
    frames = FRAMES.findall(node.meta.get("stack_trace") or "")
    return own_line((file, int(line)) for file, line in reversed(frames))


def handed(graph: GraphModule) -> HandedGraph:
    """The graph that torch.compile has just made; it is asked again for another module.

    Modules of one class share what torch compiles, unless told; scales are a module's own.
    """
    output = InstructionTranslator.current_tx().output
    scope = {"L": output.local_scope, "G": output.global_scope}
    nodes = [n for n in graph.graph.nodes if n.op == "placeholder"]
    roots: dict[int, _Root] = {}
    held = [_held(node, scope, roots) for node in nodes]
    sources, modules = [r.source for r in roots.values()], [r.module for r in roots.values()]
    names = _names([source.name for source in sources])
    for source in sources:
        guards = TracingContext.get().guards_context.dynamo_guards
        guards.add(_variable(source).make_guard(GuardBuilder.ID_MATCH))
    return HandedGraph(
        graph,
        tuple(held),
        tuple((name, ref(module)) for name, module in zip(names, modules, strict=True)),
        tuple(source.name for source in sources),
        frozenset(i for i, node in enumerate(nodes) if _is_number(node)),
        _break(output.compile_subgraph_reason),
    )


class _Root:
    """A module that was called: where torch has it from, and the names of its tensors."""

    def __init__(self, place: int, source: Any, module: nn.Module) -> None:
        self.place, self.source, self.module = place, source, module
        every = (*module.named_parameters(), *module.named_buffers())
        self.names = {id(tensor): name for name, tensor in reversed(every)}

    def held(self, tensor: torch.Tensor) -> HeldTensor | None:
        """What a tensor is in the module; None for one that it does not hold."""
        name = self.names.get(id(tensor))
        if name is None:
            return None
        path, _, last = name.rpartition(".")
        kept = last not in self.module.get_submodule(path)._non_persistent_buffers_set
        return HeldTensor(self.place, name, isinstance(tensor, nn.Parameter), kept)


def _held(node: Node, scope: dict[str, Any], roots: dict[int, _Root]) -> HeldTensor | None:
    """What a placeholder's tensor is in the outermost module that it comes from."""
    argument: Any = node.meta.get("grapharg")
    source, found = getattr(argument, "source", None), None
    tensor = None if source is None else argument.example
    if not isinstance(tensor, torch.Tensor):
        return None
    while source is not None:
        value = source.get_value(scope, {}, {})
        found = (source, value) if isinstance(value, nn.Module) else found
        source = getattr(source, "base", None)
    if found is None:
        return None
    root = roots.get(id(found[1])) or _Root(len(roots), *found)
    held = root.held(tensor)
    if held is not None:
        roots[id(root.module)] = root
    return held


def _is_number(node: Node) -> bool:
    return bool(getattr(node.meta.get("grapharg"), "pass_arg_as_tensor", False))


def _variable(source: Any) -> Any:
    """A source without wrappings of the same name: of variables torch counts compiles apart."""
    while getattr(source, "base", None) is not None and source.base.name == source.name:
        source = source.base
    return source


def _names(sources: Sequence[str]) -> list[str]:
    """What layers of each root begin with: nothing for a single one, else its variable."""
    words = [re.findall(r"\w+", source)[-1] for source in sources]
    if len(words) < 2:
        return [""] * len(words)
    return [w if words.count(w) == 1 else f"{w}{i}" for i, w in enumerate(words)]


def _break(reason: Any) -> str:
    if reason is None or not reason.graph_break:
        return ""
    place = own_line((f.filename, f.lineno or 0) for f in reversed(reason.user_stack))
    first = str(reason.reason).strip().partition("\n")[0]
    return f"{first} at {place}" if place else first

"""What a person can ask of a model that runs under torch.compile: its graphs, breaks, programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from ...compiler.errors import InputError
from ...compiler.ir import Program
from ..report.bill import Bill, make_bill
from .bound import BoundGraph
from .graph import CompiledGraph
from .held import PREFIX

KEPT_AS = "_quatrain_graphs"


@dataclass(eq=False, slots=True)
class Record:
    """The graphs of a module; none of a copy, whose graphs are compiled anew."""

    graphs: list[CompiledGraph] = field(default_factory=list)

    def __reduce__(self) -> tuple[Callable[[], Record], tuple[()]]:
        """A copy, or what is pickled, is empty."""
        return Record, ()


def note(graph: CompiledGraph) -> None:
    """Let the modules that a graph was made of know it."""
    for _, root in graph.handed.modules():
        if not hasattr(root, KEPT_AS):
            setattr(root, KEPT_AS, Record())
        getattr(root, KEPT_AS).graphs.append(graph)


@dataclass(frozen=True, slots=True)
class CompiledModel:
    """What torch.compile and quatrain made of a model; ``quatrain.compiled(model)`` gives it."""

    model: nn.Module
    graphs: tuple[CompiledGraph, ...]

    def __str__(self) -> str:
        """Graphs, programs and breaks in a line or more."""
        made, breaks = self.bound, self.breaks
        first = f"{len(self.graphs)} graphs, {len(made)} programs, {len(breaks)} graph breaks"
        return "\n".join((first, *breaks))

    @property
    def breaks(self) -> tuple[str, ...]:
        """Why and where a forward fell apart into several graphs, once for each place."""
        return tuple(dict.fromkeys(g.handed.broken for g in self.graphs if g.handed.broken))

    @property
    def graph_breaks(self) -> int:
        """How many such places there are."""
        return len(self.breaks)

    @property
    def bound(self) -> tuple[BoundGraph, ...]:
        """The programs: for each graph one for each batch size, and for training and evaluation."""
        return tuple(bound for graph in self.graphs for bound in graph.bound.values())

    @property
    def programs(self) -> tuple[Program, ...]:
        """The final programs; ``str`` gives the text of one."""
        return tuple(bound.program for bound in self.bound)

    @property
    def skipped(self) -> int:
        """Backwards that gave no gradients, as one was infinite or NaN."""
        name = f"{PREFIX}skipped"
        held = (m._buffers.get(name) for m in self.model.modules())
        return sum(int(t) for t in held if isinstance(t, torch.Tensor))

    def reports(self) -> list[Bill]:
        """The bill of each program."""
        return [_bill(bound) for bound in self.bound]


def _bill(bound: BoundGraph) -> Bill:
    made = bound.halves or bound.whole
    plan = made.plan if made is not None else None
    chosen = bound.chosen
    return make_bill(
        plan.program if plan is not None else bound.program,
        plan,
        captured=bound.captured.program,
        recipe=chosen.recipe,
        target=chosen.target,
        allow=chosen.allow,
        torch_saved=None,
    )


def compiled(model: nn.Module) -> CompiledModel:
    """What runs in place of a model's forward; of one that was not called yet there is nothing."""
    model = getattr(model, "_orig_mod", model)  # of what torch.compile returns
    if not isinstance(model, nn.Module):
        raise InputError(f"compiled takes a model, an nn.Module, not a {type(model).__name__}")
    records = (getattr(m, KEPT_AS, None) for m in model.modules())
    graphs = [g for r in records if isinstance(r, Record) for g in r.graphs]
    return CompiledModel(model, tuple(dict.fromkeys(graphs)))

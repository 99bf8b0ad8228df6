"""Which layers a pass works on: questions to a program, answered from its graph.

Nothing in the IR marks a layer, so the answer is the same before and after other passes, and in the
training and the evaluation program. A selection is a list of terms separated by commas:

    term      layers
    first     every GEMM with no GEMM ahead of its data: it reads the program's inputs
    last      every GEMM with no GEMM behind it: the one nearest to the loss or the output
    depthwise the convolutions, no transposed ones, with one input channel to each of many groups
    shortcut  the convolutions on a branch that meets an ``add`` with fewer GEMMs than the other one
    1x1       the convolutions with kernels of that size; a training program must have some, but
              for 1x1, which recipes name for all networks
    layer2.*  the layers with such a name (* ? [..] as in file names)
    !NAME     not the layers with such a name, whatever the other terms say
    none      no layer

A comma of a name is written ``[,]``, and a name with signs of patterns as ``escaped`` does it.
"""

from __future__ import annotations

import re
from collections.abc import Container
from fnmatch import fnmatchcase
from typing import Literal

import networkx as nx

from ...compiler.errors import RecipeError, closest
from ...compiler.ir import Op, Program
from ...compiler.ir.analysis import graph
from ...compiler.ir.loops import loops
from ...compiler.ir.ops import BETWEEN_ACTIVATIONS, GEMMS
from .data import data_of

EXEMPT = "first,last,shortcut"
SIZE = re.compile(r"(\d+)x(\d+)")
POINTWISE = (1, 1)
# What a recipe does with products of activations, such as both of attention.
Attention = Literal["keep", "quantize"]
# Options that choose layers.
LAYER_OPTIONS = frozenset({"exempt", "fp8_on", "layer"})
SEPARATOR = re.compile(r"(?<!\[),|,(?!\])")


def layers(program: Program) -> dict[str, Op]:
    """The forward GEMM of each layer, by the layer's name, in program order."""
    return {op.origin: op for op in program.region("forward").ops if op.kind in GEMMS}


def quantized(program: Program, exempt: str, attention: Attention = "quantize") -> frozenset[str]:
    """The layers that ``exempt`` leaves to be quantized.

    ``attention=keep`` exempts all products of activations besides.
    """
    known, kept = layers(program), selected(program, exempt)
    if attention == "keep":
        kept |= {name for name, op in known.items() if op.kind in BETWEEN_ACTIVATIONS}
    return frozenset(known) - kept


def float_layers(program: Program, chosen: Container[str]) -> dict[str, Op]:
    """The forward GEMM of each chosen layer whose data is still plain floats."""
    known = layers(program).items()
    return {
        n: op
        for n, op in known
        if n in chosen and all(v.type.format.is_carrier for v in data_of(op))
    }


def selected(program: Program, terms: str) -> frozenset[str]:
    """The layers that ``terms`` (see above) choose.

    RecipeError for a name or a size that fits no layer of a training program.
    """
    words = terms_of(terms)
    if "none" in words and len(words) > 1:
        raise RecipeError(f"'none' in {terms!r} contradicts the other terms; give it alone")
    known = layers(program)
    chosen: set[str] = set()
    for word in words:
        if is_name(word) and not word.startswith("!"):
            chosen |= _named(program, known, word)
        elif word in ANSWERS:
            chosen |= ANSWERS[word](program)
        elif size := SIZE.fullmatch(word):
            chosen |= _of_size(program, (int(size[1]), int(size[2])))
    for word in words:  # a name outranks a class, so exclusions come last
        if word.startswith("!"):
            chosen -= _named(program, known, word[1:])
    return frozenset(chosen)


def terms_of(terms: str) -> list[str]:
    """The terms of a selection."""
    return [word for t in SEPARATOR.split(terms) if (word := t.strip())]


def escaped(name: str) -> str:
    """The term that chooses the layer of this name alone."""
    term = re.sub(r"[*?\[,]", r"[\g<0>]", name)
    if name.startswith("!"):
        return f"[ -!]{term[1:]}"  # "[!" would be a negation, and no name starts with a space
    return term if is_name(term) else f"[{term[0]}]{term[1:]}"


def is_name(term: str) -> bool:
    """Whether a term speaks of layers by name, not by class or size."""
    return term not in ANSWERS and term != "none" and not SIZE.fullmatch(term)


def first(program: Program) -> set[str]:
    """Layers whose data comes from the program's inputs without another GEMM between."""
    flow, made = _forward(program), program.producers()
    found = set()
    for name, op in layers(program).items():
        data = [made[v] for v in data_of(op) if v in made]
        ahead = set(data).union(*(nx.ancestors(flow, maker) for maker in data))
        if not any(o.kind in GEMMS for o in ahead):
            found.add(name)
    return found


def last(program: Program) -> set[str]:
    """Layers that no other GEMM follows."""
    flow = _forward(program)
    return {
        name
        for name, op in layers(program).items()
        if not any(o.kind in GEMMS for o in nx.descendants(flow, op))
    }


def shortcut(program: Program) -> set[str]:
    """Convolutions on the branch with fewer GEMMs of two branches that meet in an ``add``."""
    flow, made = _forward(program), program.producers()
    found: set[str] = set()
    for op in flow:
        # Scalars that are added are terms of a loss, not branches of the network.
        if op.kind != "add" or not op.result.type.shape:
            continue
        a, b = (nx.ancestors(flow, made[v]) | {made[v]} if v in made else set() for v in op.inputs)
        only = sorted((_gemms(a - b), _gemms(b - a)), key=len)
        if len(only[0]) < len(only[1]):
            found |= {o.origin for o in only[0] if o.kind == "conv2d"}
    return found


def depthwise(program: Program) -> set[str]:
    """Convolutions whose groups have one input channel each."""
    return {
        name
        for name, op in layers(program).items()
        if op.kind == "conv2d" and op.int_attr("groups") == op.inputs[0].type.shape[1] > 1
    }


ANSWERS = {"first": first, "last": last, "depthwise": depthwise, "shortcut": shortcut}


def _forward(program: Program) -> nx.DiGraph[Op]:
    """The ops of forward; in a loop what a step leaves stands ahead of the next one."""
    ops, made = program.region("forward").ops, program.producers()
    flow = graph(program).subgraph(ops)
    again = {made[x]: made[feed.inputs[1]] for x, feed in loops(program).feeds.items()}
    if again:
        flow = nx.DiGraph(flow)
        flow.add_edges_from((maker, x) for x, maker in again.items() if x in flow)
    return flow


def _gemms(ops: set[Op]) -> list[Op]:
    return [op for op in ops if op.kind in GEMMS]


def kernel_sizes(program: Program) -> dict[str, tuple[int, ...]]:
    """The kernel size of each convolution, by layer."""
    known = layers(program).items()
    return {name: op.inputs[1].type.shape[2:] for name, op in known if op.kind == "conv2d"}


def _of_size(program: Program, size: tuple[int, int]) -> set[str]:
    sizes = kernel_sizes(program)
    found = {name for name, s in sizes.items() if s == size}
    if not found and size != POINTWISE and program.region("backward").ops:
        there = ", ".join(sorted({"x".join(map(str, s)) for s in sizes.values()})) or "none"
        text = "x".join(map(str, size))
        raise RecipeError(f"no convolution has a {text} kernel; sizes of this program: {there}")
    return found


def _named(program: Program, known: dict[str, Op], pattern: str) -> set[str]:
    found = {name for name in known if fnmatchcase(name, pattern)}
    # An evaluation program may lack layers of the training program, such as an auxiliary head.
    if not found and program.region("backward").ops:
        hint = closest(pattern, [*known, *ANSWERS])
        raise RecipeError(f"no layer with a GEMM is called {pattern!r}; {hint}")
    return found

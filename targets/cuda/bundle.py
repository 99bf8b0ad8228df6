"""Bundles: small kernels that need not wait for each other, run by the blocks of one launch.

A launch costs more than what most updates, running statistics and quantizers of weights do. Two
kinds of kernels need not run where they stand: those that no GEMM is ahead of in their region,
which can all come first, and those that no GEMM waits for, which can all come last. Of both kinds
those of the same rank are a bundle: as many steps from the first, or to the last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count, groupby
from typing import TYPE_CHECKING

import networkx as nx

from ..plan.choose import KnownPlaces
from ..plan.kernel import Identity, Kernel, KernelSpec
from ..plan.plan import PlannedKernel
from .pointwise.kernel import DevicePointwise
from .single import DeviceSingle

if TYPE_CHECKING:
    from .code import Launch

# Bytes of the arena that a kernel may keep for longer than it would where it stands, and all of
# a region.
MOST_KEPT, MOST_KEPT_IN_ALL = 1 << 20, 16 << 20
# Columns of a row whose constants and codes share 48 KiB of memory with those of others.
MOST_COLUMNS = 1024
# Of a launch's parameters drivers take 4 KiB.
MOST_POINTERS = 512
# A function of so many kernels takes a compiler a second or two.
MOST_KERNELS = 64


@dataclass(frozen=True, eq=False)
class KernelBundle(Identity):
    """Launch j runs launch j of all ``members``; ``wiring`` are the numbers of their parameters."""

    members: tuple[DeviceSingle | DevicePointwise, ...]
    wiring: tuple[tuple[int, ...], ...]

    @property
    def name(self) -> str:
        """How many there are of each kind."""
        names = sorted(member.name for member in self.members)
        return f"bundle of {', '.join(f'{len([*same])} {name}' for name, same in groupby(names))}"

    def build(self) -> list[Launch]:
        """See ``Launch``."""
        # Imported here: a plan can be made and printed without TVM.
        from .bundle_build import build

        return build([*zip(self.members, self.wiring, strict=True)])


def bundled(planned: Sequence[PlannedKernel], known: KnownPlaces) -> list[PlannedKernel]:
    """The kernels of a plan, with bundles."""
    made: list[PlannedKernel] = []
    for region, kernels in groupby(planned, lambda p: p.region):
        inside = [p.kernel for p in kernels]
        for late in (False, True):
            inside = _bundled(inside, known, late=late)
        made += [PlannedKernel(kernel, region) for kernel in inside]
    return made


def _bundled(kernels: Sequence[Kernel], known: KnownPlaces, *, late: bool) -> list[Kernel]:
    """One region with the bundles of one kind."""
    graph = _graph(kernels, known)
    ranks: dict[int, list[int]] = {}
    left = MOST_KEPT_IN_ALL
    for i, rank in _ranks(kernels, graph.reverse(copy=False) if late else graph).items():
        kernel = kernels[i]
        longer = sum(map(known.arena_bytes, kernel.inputs if late else kernel.outputs))
        if _fits(kernel.spec) and longer <= min(MOST_KEPT, left):
            left -= longer
            ranks.setdefault(rank, []).append(i)
    home = {i: i for i in range(len(kernels))}
    for same in ranks.values():
        for some in _shares(kernels, same):
            home |= dict.fromkeys(some, some[0])
    groups: dict[int, list[int]] = {}
    for i, first in home.items():
        groups.setdefault(first, []).append(i)
    order: nx.DiGraph[int] = nx.DiGraph()
    order.add_nodes_from(groups)
    order.add_edges_from((home[a], home[b]) for a, b in graph.edges if home[a] != home[b])
    return [
        _joined([kernels[i] for i in sorted(groups[first])])
        for first in nx.lexicographical_topological_sort(order)
    ]


def _fits(spec: KernelSpec) -> bool:
    """Whether a kernel has room in shared memory beside any other."""
    if isinstance(spec, DevicePointwise):
        return spec.space.channels <= MOST_COLUMNS or not spec.geometry.rowed
    return isinstance(spec, DeviceSingle)


def _graph(kernels: Sequence[Kernel], known: KnownPlaces) -> nx.DiGraph[int]:
    """Who reads what whom has made, by number; a view is read where its source lies."""
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(len(kernels)))
    made = {slot: i for i, kernel in enumerate(kernels) for slot in kernel.outputs}
    for i, kernel in enumerate(kernels):
        sources = map(known.source, kernel.inputs)
        graph.add_edges_from((made[slot], i) for slot in sources if slot in made)
    return graph


def _ranks(kernels: Sequence[Kernel], graph: nx.DiGraph[int]) -> dict[int, int]:
    """How many kernels lead to each; none of those that something else than these leads to."""
    ranks: dict[int, int] = {}
    for i in nx.topological_sort(graph):
        ahead = [*graph.predecessors(i)]
        own = isinstance(kernels[i].spec, DeviceSingle | DevicePointwise | KernelBundle)
        if own and all(j in ranks for j in ahead):
            ranks[i] = 1 + max((ranks[j] for j in ahead), default=0)
    return ranks


def _shares(kernels: Sequence[Kernel], same: Iterable[int]) -> list[list[int]]:
    """As many in a bundle as a launch takes."""
    shares: list[list[int]] = [[]]
    pointers: set[object] = set()
    for i in same:
        kernel = kernels[i]
        own = {*kernel.slots, *((i, j) for j in range(len(kernel.scratch)))}
        full = len(shares[-1]) == MOST_KERNELS or len(pointers | own) > MOST_POINTERS
        if shares[-1] and full:
            shares.append([])
            pointers = set()
        shares[-1].append(i)
        pointers |= own
    return shares


def _joined(kernels: Sequence[Kernel]) -> Kernel:
    """Several as one, with each slot once."""
    if len(kernels) == 1:
        return kernels[0]
    inputs = tuple(dict.fromkeys(slot for k in kernels for slot in k.inputs))
    outputs = tuple(slot for k in kernels for slot in k.outputs)
    number = {slot: i for i, slot in enumerate((*inputs, *outputs))}
    behind = count(len(number))
    wiring = (
        (*(number[slot] for slot in k.slots), *(next(behind) for _ in k.scratch)) for k in kernels
    )
    members = [k.spec for k in kernels if isinstance(k.spec, DeviceSingle | DevicePointwise)]
    return Kernel(
        KernelBundle(tuple(members), tuple(wiring)),
        tuple(op for k in kernels for op in k.ops),
        inputs,
        outputs,
        scratch=tuple(size for k in kernels for size in k.scratch),
    )

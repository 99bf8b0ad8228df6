"""Graphs: work with its dependencies, launched as a whole and again and again."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import byref, c_void_p
from dataclasses import dataclass

from .api import (
    MEMORYTYPE_DEVICE,
    CopyEnd,
    CopyParams,
    KernelNodeParams,
    MemsetNodeParams,
)
from .driver import Device
from .module import Function, LaunchParams
from .stream import Stream


@dataclass(frozen=True, eq=False, slots=True)
class GraphNode:
    """Work of a graph, for others to wait for."""

    handle: int


@dataclass(frozen=True, eq=False, slots=True)
class KernelNode(GraphNode):
    """A launch of a graph; what it was is kept, as new addresses are set together with it."""

    function: Function
    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared: int

    def params(self, addresses: Sequence[int]) -> tuple[KernelNodeParams, LaunchParams]:
        """What the driver reads, and what that points to."""
        return _kernel_params(self.function, self.grid, self.block, self.shared, addresses)


class Graph:
    """A graph that grows by nodes, each with those that it waits for."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.handle = device.create("cuGraphCreate", 0)
        self._functions: set[Function] = set()
        device.owned(self, "cuGraphDestroy", self.handle)

    def kernel(
        self,
        function: Function,
        grid: Sequence[int],
        block: Sequence[int],
        shared: int,
        addresses: Sequence[int],
        after: Sequence[GraphNode] = (),
    ) -> KernelNode:
        """A launch, with ``shared`` bytes of dynamic shared memory."""
        params, _held = _kernel_params(function, grid, block, shared, addresses)
        handle = self._node("cuGraphAddKernelNode_v2", after, byref(params))
        self._functions.add(function)
        return KernelNode(handle, function, tuple(grid), tuple(block), shared)

    def fill(
        self, target: int, value: int, size: int, after: Sequence[GraphNode] = ()
    ) -> GraphNode:
        """Set bytes of the device."""
        params = MemsetNodeParams(dst=target, value=value, element_size=1, width=size, height=1)
        context = self.device.context
        return GraphNode(self._node("cuGraphAddMemsetNode", after, byref(params), context))

    def copy(
        self, target: int, source: int, size: int, after: Sequence[GraphNode] = ()
    ) -> GraphNode:
        """Copy bytes of the device."""
        params = CopyParams(
            source=CopyEnd(memory_type=MEMORYTYPE_DEVICE, device=source),
            target=CopyEnd(memory_type=MEMORYTYPE_DEVICE, device=target),
            width_in_bytes=size,
            height=1,
            depth=1,
        )
        context = self.device.context
        return GraphNode(self._node("cuGraphAddMemcpyNode", after, byref(params), context))

    def _node(self, name: str, after: Sequence[GraphNode], *arguments: object) -> int:
        ahead = (c_void_p * len(after))(*(node.handle for node in after))
        return self.device.create(name, self.handle, ahead, len(after), *arguments)

    def instantiate(self) -> ExecutableGraph:
        """The graph as it is now, ready to be launched."""
        return ExecutableGraph(self)


class ExecutableGraph:
    """A graph ready to be launched; one launch of it runs at a time.

    It holds the graph, as nodes are named by that.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph, self.device = graph, graph.device
        self.handle = self.device.create("cuGraphInstantiateWithFlags", graph.handle, 0)
        self.device.owned(self, "cuGraphExecDestroy", self.handle)

    def launch(self, stream: Stream) -> None:
        """Run all nodes, behind what the stream has."""
        self.device.call("cuGraphLaunch", self.handle, stream.handle)

    def set_addresses(self, node: KernelNode, addresses: Sequence[int]) -> None:
        """Give a kernel other addresses in the launches to come; those that run keep theirs."""
        params, _held = node.params(addresses)
        self.device.call(
            "cuGraphExecKernelNodeSetParams_v2", self.handle, node.handle, byref(params)
        )


def _kernel_params(
    function: Function,
    grid: Sequence[int],
    block: Sequence[int],
    shared: int,
    addresses: Sequence[int],
) -> tuple[KernelNodeParams, LaunchParams]:
    launch = LaunchParams.of(grid, block, addresses)
    params = KernelNodeParams(
        func=function.handle,
        grid=launch.grid,
        block=launch.block,
        shared_bytes=shared,
        kernel_params=launch.pointers,
    )
    return params, launch

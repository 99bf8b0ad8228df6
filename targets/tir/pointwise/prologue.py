"""What a pointwise kernel computes once a call: scalars, scales of results, numbers of channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from tvm import tirx as tir

from ....compiler.types import Scale
from ...numbers.rounding import reaches
from ..expr import Code, Expr, Vectors, i32, load, ramp
from ..formats import from_memory
from .affine import store_grid
from .ops import CHANNELS, SCALARS
from .point import ChannelNumbers, Frame
from .space import Node
from .squeeze import store_parts


def each_channel(
    code: Code, channels: int, lanes: int, body: Callable[[Vectors, Expr], None]
) -> None:
    """Run ``body`` over all channels, as vectors and then one by one; see ``Dialect.spread``."""
    if channels // lanes:
        with code.spread(channels // lanes) as j:
            body(Vectors(code, lanes), j * i32(lanes))
    if lanes > 1 and channels % lanes:
        with code.spread(channels % lanes) as j:
            body(Vectors(code, 1), j + i32(channels - channels % lanes))


def compute_scalars(frame: Frame) -> None:
    """Compute what ops need once for the whole tensor."""
    for node in frame.spec.nodes:
        if node.kind in SCALARS:
            made = SCALARS[node.kind](frame, node)
            frame.scalars.update({(node, name): x for name, x in made.items()})


@contextmanager
def lists(frame: Frame) -> Iterator[None]:
    """Tables of formats that list their levels: those read, and where those made begin."""
    types, nodes = frame.spec.types, frame.spec.nodes
    read = {types[i].format for n in nodes for i in n.inputs if types[i].format.listed}
    made = {types[i].format for n in nodes for i in n.results if types[i].format.listed}
    with ExitStack() as stack:
        for f in sorted(read, key=str):
            frame.levels[f] = stack.enter_context(frame.code.table("float32", f.listed))
        for f in sorted(made, key=str):
            begins = (f.listed[0], *reaches(f))  # nobody asks for the first
            frame.begins[f] = stack.enter_context(frame.code.table("float32", begins))
        yield


def only_first(frame: Frame) -> Expr | None:
    """Whether a call computes anything, of kernels whose results are all of the first step."""
    makers = [frame.spec.makers[i] for i in frame.spec.outputs]
    if any(node.kind != "amax_first" for node in makers):
        return None
    zero = tir.const(0.0, "float32")
    return tir.any(*(frame.scalars[node, "state"].equal(zero) for node in makers))


def store_scales(frame: Frame) -> None:
    """Write the scale of every output that has one."""
    for i in frame.spec.outputs:
        count = frame.spec.layout(i).scales
        if frame.spec.types[i].scale.is_affine:
            store_grid(frame, i)
        elif frame.spec.types[i].scale is Scale.SQUEEZED:
            store_parts(frame, i)
        elif count == 1:
            frame.code.store(frame.scales[i], i32(0), frame.scale(i, i32(0)))
        elif count:
            with frame.code.loop(count) as k:
                frame.code.store(frame.scales[i], k, frame.scale(i, k))


@contextmanager
def channel_constants(frame: Frame, lanes: int) -> Iterator[None]:
    """Compute what ops need once for each channel."""
    nodes = [n for n in frame.spec.nodes if n.kind in CHANNELS]
    total, channels = sum(len(CHANNELS[n.kind][0]) for n in nodes), frame.space.channels
    if 4 * total * channels > frame.code.dialect.workspace_bytes:
        frame.late |= {node: _constants_of(frame, node) for node in nodes}
        nodes = []
    if not nodes:
        yield
        return
    with frame.code.workspace("float32", total * channels) as buffer:
        start = 0
        for node in nodes:
            names, _ = CHANNELS[node.kind]
            for name in names:
                frame.channels[node, name] = (buffer, start)
                start += channels
            each_channel(frame.code, channels, lanes, _stored(frame, node))
        yield


def _stored(frame: Frame, node: Node) -> Callable[[Vectors, Expr], None]:
    make = _constants_of(frame, node)

    def body(v: Vectors, first: Expr) -> None:
        for name, x in make(v, first).items():
            buffer, start = frame.channels[node, name]
            frame.code.store(buffer, ramp(first + i32(start), v.lanes), x)

    return body


def _constants_of(frame: Frame, node: Node) -> ChannelNumbers:
    _, make = CHANNELS[node.kind]

    def constants(v: Vectors, first: Expr) -> Mapping[str, Expr]:
        def parameter(i: int) -> Expr:
            value = node.inputs[i]
            raw = load(frame.data[value], ramp(first, v.lanes))
            return v.f(from_memory(v, raw, frame.spec.types[value].format))

        return make(v, node, parameter, frame.space.rows)

    return constants

"""The IR itself as a graph for viewers: its own ops with their attributes, types and layers."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType

from ...compiler.ir import Attr, Op, Program, Region, Value, unused
from ...compiler.types import TensorType
from .elements import INTEGERS, ElementType, element_of
from .graph import PICTURE, Endpoint, OnnxAttribute, WrittenGraph, WrittenNode


def picture(program: Program) -> WrittenGraph:
    """Each op a node of the domain ``quatrain``; state is an input, and its next value an output.

    What ONNX's types do not say (formats without one, scales) stands in the descriptions of values
    and in the attribute ``types`` of nodes.
    """
    taken: set[str] = set()
    given = {v.name: _port(v, program) for v in (*program.inputs, *program.state)}
    ends = {v.name: _port(v, program) for v in (*program.outputs, *(v for _, v in program.next))}
    nodes = tuple(_node(region, op, taken) for region, op in program.ops())
    between = (v for _, op in program.ops() for v in op.results if v.name not in ends)
    facts = {"after": ", ".join(program.history)}
    facts |= {f"next {s.name}": v.name for s, v in program.next}
    return WrittenGraph(
        program.name,
        tuple(given.values()),
        tuple(ends.values()),
        nodes,
        values=tuple(_port(v, program) for v in between),
        facts=MappingProxyType(facts),
    )


def _node(region: Region, op: Op, taken: set[str]) -> WrittenNode:
    name = unused("/".join(filter(None, (region.name, op.origin, op.kind))), taken)
    return WrittenNode(
        name,
        op.kind,
        tuple(v.name for v in op.inputs),
        tuple(v.name for v in op.results),
        MappingProxyType(dict(_attributes(region, op))),
        PICTURE,
    )


def _attributes(region: Region, op: Op) -> Iterator[tuple[str, OnnxAttribute]]:
    yield from ((key, _setting(value)) for key, value in op.attrs.items())
    yield "region", region.name
    yield "types", tuple(str(v.type) for v in op.results)
    if op.origin:
        yield "layer", op.origin


def _setting(value: Attr) -> OnnxAttribute:
    return int(value) if isinstance(value, bool) else value


def _port(v: Value, program: Program) -> Endpoint:
    start = program.initial.get(v.name)
    about = str(v.type) if start is None else f"{v.type} = {start!r}"
    return Endpoint(v.name, _element(v.type), v.type.shape, about)


def _element(type_: TensorType) -> ElementType:
    """ONNX's own type of the numbers, or the unsigned integer that has room for the codes."""
    bits = max(4, type_.format.storage_bits)
    return element_of(type_.format) or INTEGERS[False, bits]

"""A graph as the bytes of an ONNX file; the only file here that needs the package ``onnx``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...compiler.errors import ExportError
from .elements import ElementType
from .graph import ONNX, VERSIONS, Array, Endpoint, Initializer, WrittenGraph, WrittenNode

IR_VERSION = 10  # the first one with types of 4 bits; opset 21 came with it


def encoded(graph: WrittenGraph) -> bytes:
    """The file, checked by onnx."""
    onnx = _onnx()
    h = onnx.helper
    model = h.make_model(
        _graph(h, graph),
        producer_name="quatrain",
        ir_version=IR_VERSION,
        opset_imports=[h.make_opsetid(d, VERSIONS[d]) for d in graph.domains],
    )
    h.set_model_props(model, dict(graph.facts))
    try:
        onnx.checker.check_model(model, full_check=graph.domains == (ONNX,))
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())
        raise ExportError(f"onnx's checker refuses the graph of {graph.name}: {reason}") from error
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _onnx() -> Any:
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.shape_inference
    except ImportError as error:
        raise ExportError(
            "the package onnx is not installed; pip install 'quatrain[onnx]'"
        ) from error
    return onnx


def _graph(h: Any, graph: WrittenGraph) -> Any:
    return h.make_graph(
        [_node(h, n) for n in graph.nodes],
        graph.name,
        [_port(h, p) for p in graph.inputs],
        [_port(h, p) for p in graph.outputs],
        [_constant(h, c) for c in graph.constants],
        value_info=[_port(h, p) for p in graph.values],
    )


def _node(h: Any, n: WrittenNode) -> Any:
    made = h.make_node(n.op, n.inputs, n.outputs, name=n.name, domain=n.domain)
    # Without helper.make_node's rule that drops what is empty: a list without elements has a type.
    for key, value in sorted(n.attributes.items()):
        made.attribute.append(_attribute(h, key, value))
    if n.body:
        made.attribute.append(h.make_attribute("body", _graph(h, n.body)))
    return made


def _attribute(h: Any, key: str, value: Any) -> Any:
    if value == ():
        return h.make_attribute(key, [], attr_type=h.AttributeProto.INTS)
    return h.make_attribute(key, list(value) if isinstance(value, tuple) else value)


def _port(h: Any, p: Endpoint) -> Any:
    return h.make_tensor_value_info(p.name, p.element.value, p.dims, doc_string=p.about)


def _constant(h: Any, c: Initializer) -> Any:
    raw = _bytes(c.element, c.array)
    return h.make_tensor(c.name, c.element.value, c.array.shape, raw, raw=True)


def _bytes(element: ElementType, array: Array) -> bytes:
    """Little endian; two codes of 4 bits to a byte, the first one in the lower half."""
    if element.bits != 4:
        return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    codes = np.ascontiguousarray(array).ravel().view(np.uint8) & np.uint8(15)
    if codes.size % 2:
        codes = np.append(codes, np.uint8(0))
    return np.asarray(codes[0::2] | codes[1::2] << np.uint8(4)).tobytes()

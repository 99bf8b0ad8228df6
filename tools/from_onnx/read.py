"""An ONNX file becomes a graph: checked, functions written out, shapes inferred."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Set
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import (
    ModelProto,
    TensorProto,
    ValueInfoProto,
    helper,
    inliner,
    shape_inference,
    version_converter,
)

from ...compiler.errors import FileError, UnsupportedOpError
from ..files import check_exists
from .definitions import is_number
from .graph import Declared, DeclaredShape, OnnxGraph, array_of, read_node
from .table import known_ops

OLDEST = 7  # operators of older opsets broadcast by attributes
# Arrays up to this many numbers stay in the graph, as shapes are inferred from them.
SMALL = 1024
# Defined by a loop, and known wherever a step can run it.
LEFT = (("", "Range"),)
# What torch's exporter says of the arrays of a file.
KIND = "pkg.torch.export.graph_signature.InputSpec.kind"
OnnxSource = str | os.PathLike[str] | ModelProto


def read_graph(source: OnnxSource) -> OnnxGraph:
    """The graph of a file or of a model in memory; FileError where it is no network to read."""
    model, file = (source, "the model") if isinstance(source, ModelProto) else _load(source)
    model = _of_known_opset(model, file)
    said = {v.name: _kind(v) for v in (*model.graph.value_info, *model.graph.input)}
    initial = {t.name: array_of(t) for t in model.graph.initializer}
    inputs = [v for v in model.graph.input if v.name not in initial]
    light = _written_out(_without_arrays(model), file)
    light = _inferred(light)
    versions = {("" if o.domain == "ai.onnx" else o.domain): o.version for o in light.opset_import}
    nodes = tuple(read_node(n, i, versions, file) for i, n in enumerate(light.graph.node))
    return OnnxGraph(
        file=file,
        inputs=tuple(_declared(v, file) for v in inputs),
        outputs=tuple(v.name for v in light.graph.output),
        nodes=nodes,
        initial=initial,
        said=said,
        shapes=_shapes((*light.graph.value_info, *light.graph.input, *light.graph.output)),
    )


def _load(source: str | os.PathLike[str]) -> tuple[ModelProto, str]:
    path = Path(source)
    check_exists(path)
    try:
        return onnx.load(path), str(path)
    except DecodeError as error:
        raise FileError(f"{path} is no ONNX file, or a damaged one") from error
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise FileError(f"{path}: its arrays cannot be read: {_first_line(error)}") from error


def _of_known_opset(model: ModelProto, file: str) -> ModelProto:
    """The model, converted where its opset is older; FileError where it is none, or too new."""
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise FileError(f"{file} is no valid ONNX model: {_first_line(error)}") from error
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), OLDEST)
    newest = onnx.defs.onnx_opset_version()
    if opset > newest:
        raise FileError(f"{file} has opset {opset}, and this onnx knows {newest}; install a newer")
    if model.graph.sparse_initializer:
        raise FileError(f"{file} holds sparse arrays; store them as dense ones")
    if model.training_info:
        raise FileError(f"{file} holds a training graph of its own; export the network alone")
    if opset >= OLDEST:
        return model
    try:
        return version_converter.convert_version(model, OLDEST)
    except (RuntimeError, ValueError) as error:
        raise FileError(
            f"{file} has opset {opset}, and cannot be converted to {OLDEST}: {_first_line(error)}; "
            "export it with a newer one"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _kind(value: ValueInfoProto) -> str:
    return next((p.value for p in value.metadata_props if p.key == KIND), "")


def _without_arrays(model: ModelProto) -> ModelProto:
    """The model with its large arrays as inputs, so that what follows copies no numbers."""
    made = ModelProto()
    made.CopyFrom(model) if model.ByteSize() < 2**26 else _copy_small(model, made)
    there = {v.name for v in made.graph.input}
    for tensor in list(made.graph.initializer):
        if tensor.name not in there:  # what writes functions out asks for the type of each value
            info = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            made.graph.input.append(info)
        if _size(tensor) > SMALL:
            made.graph.initializer.remove(tensor)
    return made


def _copy_small(model: ModelProto, made: ModelProto) -> None:
    """Copy a model of many numbers by its other parts, and headers of its arrays."""
    for name in ("ir_version", "producer_name"):
        setattr(made, name, getattr(model, name))
    made.opset_import.extend(model.opset_import)
    made.functions.extend(model.functions)
    for name in ("node", "input", "output", "value_info"):
        getattr(made.graph, name).extend(getattr(model.graph, name))
    made.graph.name = model.graph.name
    for tensor in model.graph.initializer:
        small = _size(tensor) <= SMALL
        header = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        made.graph.initializer.append(tensor if small else header)


def _size(tensor: TensorProto) -> int:
    return int(np.prod(tensor.dims, dtype=np.int64))


def _written_out(model: ModelProto, file: str) -> ModelProto:
    """Functions of the file, and operators of ONNX that are defined by others, as these."""
    own = [*known_ops(), *LEFT]
    _with_defaults(model, set(own))
    try:
        return inliner.inline_selected_functions(
            model, own, exclude=True, inline_schema_functions=True
        )
    except (RuntimeError, ValueError) as error:
        raise UnsupportedOpError(
            f"{file}: its functions cannot be written out: {_first_line(error)}; "
            "onnx.inliner.inline_local_functions may do it"
        ) from error


def _with_defaults(model: ModelProto, own: Set[tuple[str, str]]) -> None:
    """Give operators that are written out all attributes, which their functions read."""
    opset = {o.domain: o.version for o in model.opset_import}
    for node in model.graph.node:
        standard = node.domain in ("", "ai.onnx") and onnx.defs.has(node.op_type)
        if not standard or ("", node.op_type) in own:
            continue
        schema = onnx.defs.get_schema(node.op_type, opset.get(node.domain, OLDEST), "")
        given = {a.name for a in node.attribute}
        for name, attribute in schema.attributes.items():
            if name not in given and attribute.default_value.name:
                node.attribute.append(attribute.default_value)


def _inferred(model: ModelProto) -> ModelProto:
    """With the shapes that ONNX infers; without where it finds none."""
    try:
        return shape_inference.infer_shapes(model, data_prop=True)
    except (shape_inference.InferenceError, RuntimeError, ValueError):
        return model


def _shape(value: ValueInfoProto) -> DeclaredShape | None:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.HasField("shape"):
        return None
    return tuple(
        d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim
    )


def _shapes(values: Iterable[ValueInfoProto]) -> Mapping[str, DeclaredShape]:
    found = {v.name: _shape(v) for v in values}
    return {name: shape for name, shape in found.items() if shape is not None}


def _declared(value: ValueInfoProto, file: str) -> Declared:
    if not value.type.HasField("tensor_type"):
        raise UnsupportedOpError(
            f"{file}: the input {value.name!r} is no tensor; a step takes tensors alone"
        )
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    if not is_number(dtype):
        what = (
            "words; give the numbers of a tokenizer"
            if dtype.kind in "OUS"
            else (f"codes of {dtype}; a step takes floats of 16 bits and more, and integers of 8")
        )
        raise UnsupportedOpError(f"{file}: the input {value.name!r} holds {what}")
    return Declared(value.name, dtype, _shape(value))

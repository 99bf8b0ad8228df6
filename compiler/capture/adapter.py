"""Everything of torch that is private or unstable, behind names of our own.

Nothing else imports these names. Tried with the versions that ``version`` lists; importing
this file under another one is an error that says which to install.
"""

# ruff: noqa: E402 - the version is checked before the private names are imported
from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from .version import require_tried

require_tried(torch.__version__)

from torch._C import DispatchKey
from torch._decomp import get_decompositions
from torch._dynamo import config as dynamo
from torch._dynamo.eval_frame import OptimizedModule
from torch._functorch._aot_autograd import descriptors as described
from torch._functorch.aot_autograd import aot_export_joint_with_descriptors
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.fx import GraphModule, Node
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.fx.traceback import annotate, preserve_node_meta
from torch.nn.modules import transformer

aten = torch.ops.aten
CompiledModule = OptimizedModule  # what torch.compile makes of a module
KEY = "quatrain"
CallMark = tuple[str, str, str]  # layer, source line, the torch function that was called there
DEPENDS_ON_DATA = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    GuardOnDataDependentSymNode,
)
FOREIGN_TENSOR = ("Please convert all Tensors to FakeTensors first", "Unexpected fake buffer")
# Composites that end in ops of the IR; every other op stays whole, so that an error can name it.
# Views with several results must stay whole too: inside a decomposition they become as_strided.
COMPOSITES = """
    pixel_shuffle pixel_unshuffle
    rsub expand_as ones_like zeros_like addcmul addcdiv lerp addmm baddbmm mv dot addmv repeat
    gelu gelu_backward silu silu_backward hardswish hardswish_backward hardsigmoid
    hardsigmoid_backward leaky_relu leaky_relu_backward elu elu_backward sigmoid_backward
    tanh_backward softplus softplus_backward mish mish_backward _prelu_kernel
    _prelu_kernel_backward log_sigmoid_forward log_sigmoid_backward glu glu_backward
    _softmax _softmax_backward_data _safe_softmax logsumexp linalg_vector_norm std var_mean xlogy
    native_layer_norm native_layer_norm_backward native_group_norm native_group_norm_backward
    _fused_rms_norm _fused_rms_norm_backward smooth_l1_loss smooth_l1_loss_backward huber_loss
    huber_loss_backward binary_cross_entropy binary_cross_entropy_backward
    binary_cross_entropy_with_logits
    norm celu diag_embed index_fill index_copy linalg_cross logaddexp dist addr threshold
    im2col col2im std_mean heaviside
"""
DECOMPOSED = tuple(getattr(aten, name) for name in COMPOSITES.split())


@dataclass(frozen=True, slots=True)
class Port:
    """What a placeholder or an output is.

    ``role``: parameter, buffer, batch, tangent; of outputs result, gradient, mutation, nothing.
    ``name`` is a qualified name where there is one, ``index`` a position among batch or results;
    of a tangent that of its result, of the gradient of an input that of the input.
    """

    role: str
    name: str = ""
    index: int = -1


def joint_graph(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> GraphModule:
    """Forward of ``module`` as a graph of ATen ops; its backward too where gradients are on."""
    fake, _ = fake_tensors()
    given = tuple(map(fake, args))
    with _without_onednn(), preserve_node_meta(), ExitStack() as stack:
        table: dict[Any, Callable[..., Any]] = dict(get_decompositions(DECOMPOSED))
        return aot_export_joint_with_descriptors(
            stack, module, given, decompositions=table
        ).graph_module


@contextmanager
def _without_onednn() -> Iterator[None]:
    """With oneDNN some layers become one opaque call; its public switch warns about TF32."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


def ports(node: Node) -> tuple[Port, ...]:
    """Descriptions of a placeholder (one) or of the output node (one for each output)."""
    found = node.meta["desc"]
    return tuple(map(_port, found if node.op == "output" else (found,)))


def _port(d: Any) -> Port:
    match d:
        case described.ParamAOTInput(target=name):
            return Port("parameter", name)
        case described.BufferAOTInput(target=name):
            return Port("buffer", name)
        case described.PlainAOTInput(idx=index):
            return Port("batch", index=index)
        case described.TangentAOTInput(output=made):
            return Port("tangent", index=_port(made).index)
        case described.PlainAOTOutput(idx=index):
            return Port("result", index=index)
        case described.GradAOTOutput(grad_of=source):
            inner = _port(source)
            return Port("gradient", inner.name, inner.index)
        case described.InputMutationAOTOutput(mutated_input=source):
            inner = _port(source)
            return Port("mutation", inner.name, inner.index)
        case _:
            return Port("nothing")


def is_backward(node: Node) -> bool:
    """Whether the node came from autograd's backward."""
    return node.meta.get("partitioner_tag") == "is_backward"


def marked(mark: CallMark) -> Any:
    """Context: nodes made inside, and the backward nodes that follow from them, carry ``mark``."""
    return annotate({KEY: mark})


def mark_of(node: Node) -> CallMark | None:
    """What ``marked`` left on a node; none on a sum of gradients."""
    found: CallMark | None = (node.meta.get("custom") or {}).get(KEY)
    return found


def is_op(node: Node) -> bool:
    """Whether the node calls an op of torch's dispatcher, and no other function or constant."""
    return isinstance(node.target, OpOverload)


def full_arguments(node: Node) -> tuple[Any, ...]:
    """Arguments of a call in the order of the op's schema, with defaults filled in."""
    arguments = node.target._schema.arguments  # type: ignore[union-attr]
    rest = arguments[len(node.args) :]
    return (
        *node.args,
        *(
            node.kwargs.get(a.name, a.default_value if a.has_default_value() else None)
            for a in rest
        ),
    )


@contextmanager
def override(table: Mapping[OpOverload, Callable[..., Any]]) -> Iterator[None]:
    """Replace the kernels of ATen ops, in the whole process, until the context ends.

    Of ops with a derivative of their own that is the kernel above autograd.
    """
    saved = {op: dict(op.py_kernels) for op in table}
    try:
        for op, function in table.items():
            if not _is_composite(op):
                op.py_kernels.pop(DispatchKey.AutogradCPU, None)
                op.py_impl(DispatchKey.AutogradCPU)(function)
            else:
                for key in (DispatchKey.CompositeImplicitAutograd, DispatchKey.Autograd):
                    op.py_kernels.pop(key, None)
                op.py_impl(DispatchKey.CompositeImplicitAutograd)(function)
            op._dispatch_cache.clear()
        yield
    finally:
        for op, kernels in saved.items():
            op.py_kernels.clear()
            op.py_kernels.update(kernels)
            op._dispatch_cache.clear()


def _is_composite(op: OpOverload) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(op.name(), "CompositeImplicitAutograd")


def original(op: OpOverload, *args: Any, **options: Any) -> Any:
    """Call an op that ``override`` replaces as torch has it."""
    if _is_composite(op):
        return op._op_dk(DispatchKey.CompositeImplicitAutograd, *args, **options)
    with torch._C._DisablePythonDispatcher():
        return op(*args, **options)


def in_backward() -> bool:
    """Whether autograd runs a backward now."""
    return torch._C._current_graph_task_id() != -1


def fake_tensors() -> tuple[Callable[[torch.Tensor], torch.Tensor], AbstractContextManager[Any]]:
    """What makes tensors of shapes without numbers, and the context in which they compute."""
    # Tensors that a forward closes over are not among those that are made ahead of it.
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    return fake.from_tensor, fake


def storage_of(t: torch.Tensor) -> int:
    """Identity of the storage that a tensor views."""
    identity: int = t.untyped_storage()._cdata
    return identity


@contextmanager
def written_functions() -> Iterator[None]:
    """A function that torch.compile has wrapped runs as it was written."""
    with torch.compiler.set_stance("force_eager"), dynamo.patch(error_on_nested_fx_trace=False):
        yield


@contextmanager
def exporting() -> Iterator[None]:
    """Libraries that ask torch are told of a trace, so that they leave out what reads numbers."""
    flags = ("_is_compiling_flag", "_is_exporting_flag")
    before = [getattr(torch.compiler, name) for name in flags]
    try:
        for name in flags:
            setattr(torch.compiler, name, True)
        yield
    finally:
        for name, flag in zip(flags, before, strict=True):
            setattr(torch.compiler, name, flag)


def followed(made: Any) -> Any:
    """What a call makes of constants alone, such that writes into it are followed as into others.

    torch wraps for that what depends on an input or a weight; a view of a constant stays as it is.
    """
    plain = type(made) is FakeTensor and not made._is_view()
    tracing = torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FUNCTIONAL) is not None
    return aten.lift_fresh(made) if plain and tracing else made


@contextmanager
def masks_as_given() -> Iterator[None]:
    """nn.Transformer looks into a mask whether it hides what is later; it is used as it is."""

    def told(mask: torch.Tensor | None, is_causal: bool | None = None, size: Any = None) -> bool:
        return bool(is_causal)

    before = transformer._detect_is_causal_mask
    transformer._detect_is_causal_mask = told
    try:
        yield
    finally:
        transformer._detect_is_causal_mask = before


@contextmanager
def quiet() -> Iterator[None]:
    """Keep torch from logging a traceback ahead of an error that it raises anyway."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before

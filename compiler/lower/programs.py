"""Lowering: the joint graph becomes f32 programs of the IR, one small function per torch op."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from ..errors import CaptureError, UnsupportedOpError
from ..formats import F32
from ..ir import SEED, Program, Value
from ..ir.optimizers import OptimizerSpec
from ..ir.verify import verify
from ..types import TensorType
from .builder import FORMAT_WITHIN, Builder, CallLowering, called, known_as, refuse, short
from .gemm import GEMM
from .index import INDEX
from .instead import PAGE, instead
from .joint import Arg, Call, Joint, JointTensor
from .loss import LOSS
from .math import MATH
from .norm import NORM
from .pointwise import POINTWISE
from .pool import POOL
from .shape import SHAPE, alias, view
from .update import declare_hyper, update

LOWERINGS: dict[str, CallLowering] = {
    **GEMM,
    **NORM,
    **POINTWISE,
    **MATH,
    **POOL,
    **SHAPE,
    **INDEX,
    **LOSS,
}
ON_INTEGERS = {"aten.add.Tensor", *(op for op, made in SHAPE.items() if made in (alias, view))}
# Ops with integers of their own: labels, indices, winners.
ON_LABELS = (
    *("nll_loss", "max_pool2d", "adaptive_max", "embedding", "max.dim", "arange", "one_hot"),
    "scalar_tensor",  # one number, which is a number of the IR whatever torch calls it
)
HELPERS = {"alias", "clone", "detach", "full", "zeros", "t"}
RAW_GEMMS = ("convolution",)


@dataclass(frozen=True, slots=True)
class Lowered:
    """A program and the names of its state: torch's qualified name -> name of the state value."""

    program: Program
    names: Mapping[str, str]


def lower_training(joint: Joint, optimizer: OptimizerSpec, *, stepped: bool = False) -> Lowered:
    """The training step: loss, gradients, running statistics and one update per parameter.

    ``stepped``: whether the optimizer has taken steps before.
    """
    b = Builder()
    batch = _batch(b, joint, with_target=True)
    hyper = declare_hyper(b, optimizer)
    _declare_state(b, joint)
    for tensor in joint.tangents:  # the loss's own gradient
        b.origin, b.region = "loss", "backward"
        b.values[tensor] = b.one("constant", (), "loss.dy", tensor.shape, value=1.0)
    _lower_calls(b, joint)
    both = joint.mutations.keys() & dict(joint.gradients).keys()
    if both:
        raise CaptureError(
            f"{min(both)} is trained and written by the forward too; write buffers only"
        )
    pairs = [(b.state[name], b.of(t)) for name, t in joint.mutations.items()]
    gradients = [(name, b.of(t)) for name, t in joint.gradients]
    pairs += update(b, optimizer, gradients, hyper, stepped=stepped)
    pairs = [(old, new) for old, new in pairs if old is not new]
    regions = ("forward", "backward", "update")
    inputs = (*batch, *hyper.values())
    outputs = [b.of(t) for t in joint.outputs]
    program = b.program(joint.name, inputs, outputs, pairs, regions)
    if SEED in b.state:
        program = replace(program, initial=MappingProxyType({b.state[SEED].name: 0.0}))
    return Lowered(verify(program), _names(b))


def lower_evaluation(joint: Joint) -> Lowered:
    """The forward in eval mode, from the model's inputs to its outputs."""
    b = Builder()
    batch = _batch(b, joint, with_target=False)
    _declare_state(b, joint)
    _lower_calls(b, joint)
    outputs = [b.of(t) for t in joint.outputs]
    program = b.program(f"{joint.name}_eval", batch, outputs, (), ("forward",))
    return Lowered(verify(program), _names(b))


def _names(b: Builder) -> dict[str, str]:
    return {name: value.name for name, value in b.state.items()}


def _batch(b: Builder, joint: Joint, *, with_target: bool) -> list[Value]:
    inputs = joint.inputs[:-1] if with_target else joint.inputs
    names = ["x"] if len(inputs) == 1 else [f"x{i}" for i in range(len(inputs))]
    names += ["y"] if with_target else []
    values = [b.declare(n, _type(t)) for n, t in zip(names, joint.inputs, strict=True)]
    b.values.update(zip(joint.inputs, values, strict=True))
    b.taken.update(("x", "y"))  # so that state has the same name in both programs
    return values


def _declare_state(b: Builder, joint: Joint) -> None:
    for name, tensor in joint.state.items():
        b.state[name] = b.values[tensor] = b.declare(name, _type(tensor))
        b.buffer_of[tensor] = name
        b.counters[name] = b.state[name]


def _type(tensor: JointTensor) -> TensorType:
    return TensorType(tensor.shape, FORMAT_WITHIN[tensor.dtype])


def _lower_calls(b: Builder, joint: Joint) -> None:
    for call in joint.calls:
        _check(b, call)
        named = call.args[-1] if call.op.startswith("qtr.") else None
        layer = named if isinstance(named, str) else call.layer
        b.origin, b.region = layer, "backward" if call.backward else "forward"
        try:
            LOWERINGS[call.op](b, call)
        except (AssertionError, LookupError, TypeError, ValueError) as error:
            shown = ", ".join(str(a) for a in call.args if not isinstance(a, JointTensor))
            raise refuse(call, f"is called in a way that is not supported ({shown})") from error
    for tensor in joint.outputs:
        if tensor.dtype != "float32":
            raise CaptureError(
                f"the model returns {tensor.dtype}; only float32 outputs are supported"
            )


def supported() -> list[str]:
    """Short names of the torch ops that have a lowering."""
    ops = {op for op in LOWERINGS if op.startswith("aten.") and "backward" not in op}
    return sorted({known_as(op) for op in ops if short(op) not in HELPERS} | {"conv2d", "linear"})


def _check(b: Builder, call: Call) -> None:
    if call.op not in LOWERINGS:
        raise _unknown(call)
    tensors = [t for t in (*_flat(call.args), *call.results) if isinstance(t, JointTensor)]
    if not call.op.partition(".")[2].startswith(ON_LABELS):
        # A count of truth values is int64 in torch and a number here.
        counted = any(t.dtype == "bool" or _is_number(b, t) for t in tensors)
        for t in tensors:
            held = b.values[t].type.format if t in b.values else F32
            if not (counted and t.dtype == "int64" and held is F32):
                _check_dtype(call, t)


def _unknown(call: Call) -> UnsupportedOpError:
    if short(call.op).removesuffix("_backward") in RAW_GEMMS:
        return refuse(
            call,
            "is a convolution that is no layer; layers are nn.Conv1d, nn.Conv2d, their transposed "
            "and their functional forms",
        )
    names = [name.removesuffix("_backward") for name in called(call)]
    advice = instead(names, supported())
    return refuse(call, f"is not supported: {advice}; {PAGE} lists what is")


def _is_number(b: Builder, t: JointTensor) -> bool:
    return t.dtype == "int64" and t in b.values and b.values[t].type.format is F32


def _check_dtype(call: Call, t: JointTensor) -> None:
    integer = t.dtype == "int64"
    if t.dtype not in FORMAT_WITHIN:
        raise refuse(
            call, f"computes in {t.dtype}; leave the model in float32, recipes choose formats"
        )
    if integer and call.op not in ON_INTEGERS:
        raise refuse(
            call,
            "works on integers; only labels, indices of a table and counters may be integers: "
            "give the model a float32 input for what it computes with",
        )


def _flat(args: tuple[Arg, ...]) -> list[Arg]:
    flat: list[Arg] = []
    for a in args:
        flat += _flat(a) if isinstance(a, tuple) else [a]
    return flat

"""Lowering: the joint graph becomes f32 programs of the IR, one small function per torch op."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from ..errors import CaptureError, UnsupportedOpError
from ..ir import SEED, Program, Value
from ..ir.optimizers import OptimizerSpec
from ..ir.verify import verify
from ..types import TensorType
from .builder import (
    FORMAT_WITHIN,
    INTEGERS,
    Builder,
    CallLowering,
    called,
    known_as,
    refuse,
    short,
)
from .gather import GATHER
from .gemm import GEMM
from .index import INDEX
from .instead import PAGE, instead
from .joint import Arg, Call, Joint, JointTensor
from .loss import LOSS
from .math import MATH
from .norm import NORM
from .places import PLACES
from .pointwise import POINTWISE
from .pool import POOL
from .power import POWER
from .random import RANDOM
from .recurrent import RECURRENT
from .shape import SHAPE
from .update import declare_hyper, update
from .whole import WHOLE, is_whole, on_numbers
from .write import WRITE

LOWERINGS: dict[str, CallLowering] = {
    **GEMM,
    **NORM,
    **POINTWISE,
    **MATH,
    **POWER,
    **POOL,
    **SHAPE,
    **INDEX,
    **GATHER,
    **PLACES,
    **WRITE,
    **RANDOM,
    **RECURRENT,
    **LOSS,
}
# What moves tensors of any kind, and what reads labels and indices.
ON_LABELS = ("nll_loss", "max_pool2d", "adaptive_max", "_to_copy", "convert_element_type")
AS_THEY_ARE = {*SHAPE, *INDEX, *GATHER, *PLACES, *WRITE} - {"aten.constant_pad_nd.default"}
HELPERS = {"alias", "clone", "detach", "full", "zeros", "t"}
RAW_GEMMS = ("convolution",)
LOSS_LAYER = "loss"  # of the gradients that backward begins with


@dataclass(frozen=True, slots=True)
class Lowered:
    """A program and the names of its state: torch's qualified name -> name of the state value.

    ``stored`` are constants that are state, by such names.
    """

    program: Program
    names: Mapping[str, str]
    stored: Mapping[str, np.ndarray]


def lower_training(
    joint: Joint, optimizer: OptimizerSpec, *, stepped: bool = False, closed: bool = True
) -> Lowered:
    """The training step: loss, gradients, running statistics and one update per parameter.

    ``stepped``: whether the optimizer has taken steps before. One that is not ``closed`` has no
    loss: the gradients of its outputs are inputs behind the batch, those of inputs are outputs.
    """
    b = Builder(joint.constants)
    batch = _batch(b, joint, with_target=closed)
    batch += [] if closed else _tangents(b, joint)
    hyper = declare_hyper(b, optimizer)
    _declare_state(b, joint)
    for tensor in joint.tangents:
        b.origin, b.region = LOSS_LAYER, "backward"
        b.values[tensor] = _first_gradient(b, tensor)
    _lower_calls(b, joint, outputs=("float32",) if closed else tuple(FORMAT_WITHIN))
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
    outputs = [b.of(t) for t in (*joint.outputs, *(t for _, t in joint.input_gradients))]
    program = b.program(joint.name, inputs, outputs, pairs, regions)
    if SEED in b.state:
        program = replace(program, initial=MappingProxyType({b.state[SEED].name: 0.0}))
    return Lowered(verify(program), _names(b), b.stored)


def lower_evaluation(joint: Joint) -> Lowered:
    """The forward in eval mode, from the model's inputs to its outputs."""
    b = Builder(joint.constants)
    batch = _batch(b, joint, with_target=False)
    _declare_state(b, joint)
    _lower_calls(b, joint)
    outputs = [b.of(t) for t in joint.outputs]
    program = b.program(f"{joint.name}_eval", batch, outputs, (), ("forward",))
    return Lowered(verify(program), _names(b), b.stored)


def lower_forward(joint: Joint) -> Lowered:
    """The forward alone, in whichever mode it was traced, and what buffers become by it."""
    b = Builder(joint.constants)
    batch = _batch(b, joint, with_target=False)
    _declare_state(b, joint)
    _lower_calls(b, joint, outputs=tuple(FORMAT_WITHIN))
    outputs = [b.of(t) for t in joint.outputs]
    pairs = [(b.state[name], b.of(t)) for name, t in joint.mutations.items()]
    regions = ("forward", "update") if pairs else ("forward",)
    program = b.program(f"{joint.name}_eval", batch, outputs, pairs, regions)
    return Lowered(verify(program), _names(b), b.stored)


def _tangents(b: Builder, joint: Joint) -> list[Value]:
    """Inputs for the gradients that come from outside."""
    made = []
    for tensor in joint.tangents:
        b.values[tensor] = b.declare("dy", _type(tensor))
        made.append(b.values[tensor])
    return made


def _first_gradient(b: Builder, tensor: JointTensor) -> Value:
    """What backward begins with: of the loss 1, else the gradient that comes in."""
    given = b.values.get(tensor)
    if given is None:
        return b.one("constant", (), "loss.dy", tensor.shape, value=1.0)
    return b.one("scale", (given,), "dy", tensor.shape, factor=1.0)


def _names(b: Builder) -> dict[str, str]:
    return {name: value.name for name, value in b.state.items()}


def _batch(b: Builder, joint: Joint, *, with_target: bool) -> list[Value]:
    inputs = joint.inputs[:-1] if with_target else joint.inputs
    names = ["x"] if len(inputs) == 1 else [f"x{i}" for i in range(len(inputs))]
    names += ["y"] if with_target else []
    values = [b.declare(n, _type(t)) for n, t in zip(names, joint.inputs, strict=True)]
    b.values.update(zip(joint.inputs, values, strict=True))
    b.given.update(values)
    b.taken.update(("x", "y"))  # so that state has the same name in both programs
    return values


def _declare_state(b: Builder, joint: Joint) -> None:
    for name, tensor in joint.state.items():
        b.state[name] = b.values[tensor] = b.declare(name, _type(tensor))
        b.buffer_of[tensor] = name
        b.counters[name] = b.state[name]


def _type(tensor: JointTensor) -> TensorType:
    return TensorType(tensor.shape, FORMAT_WITHIN[tensor.dtype])


def _lower_calls(b: Builder, joint: Joint, outputs: tuple[str, ...] = ("float32",)) -> None:
    for call in joint.calls:
        _check(b, call)
        named = call.args[-1] if call.op.startswith("qtr.") else None
        layer = named if isinstance(named, str) else call.layer
        b.origin, b.region = layer, "backward" if call.backward else "forward"
        try:
            _lower(b, call)
        except (AssertionError, LookupError, TypeError, ValueError) as error:
            shown = ", ".join(str(a) for a in call.args if not isinstance(a, JointTensor))
            raise refuse(call, f"is called in a way that is not supported ({shown})") from error
    for tensor in joint.outputs:
        if tensor.dtype not in outputs:
            raise CaptureError(
                f"the model returns {tensor.dtype}; only {' and '.join(outputs)} outputs are "
                "supported"
            )


def supported() -> list[str]:
    """Short names of the torch ops that have a lowering."""
    ops = {op for op in (*LOWERINGS, *WHOLE) if op.startswith("aten.") and "backward" not in op}
    return sorted({known_as(op) for op in ops if short(op) not in HELPERS} | {"conv2d", "linear"})


def _lower(b: Builder, call: Call) -> None:
    """By the rule of the op: for integers, or on numbers, where it makes such of integers."""
    lower = LOWERINGS.get(call.op)
    short_name = call.op.partition(".")[2]
    if call.op in AS_THEY_ARE or short_name.startswith(ON_LABELS) or _counts(b, call):
        assert lower is not None
        lower(b, call)
    elif not any(is_whole(b, a) for a in _flat(call.args)):
        if lower is None:
            raise _unknown(call)
        lower(b, call)
    elif call.op in WHOLE and _exact(call):
        WHOLE[call.op](b, call)
    elif lower is None or any(t is not None and t.dtype in INTEGERS for t in call.results):
        raise refuse(
            call,
            "works on integers; there are their arithmetic, comparisons, choices and sums, and "
            "float() makes numbers of them",
        )
    else:
        lower(b, on_numbers(b, call))


def _counts(b: Builder, call: Call) -> bool:
    """Whether a buffer of integers is counted up."""
    one = call.op == "aten.add.Tensor" and call.args[1] == 1
    return one and isinstance(call.args[0], JointTensor) and call.args[0] in b.buffer_of


def _exact(call: Call) -> bool:
    """Whether a call is about integers alone: what it makes is no other number."""
    made = call.results[0]
    if made is None or made.dtype in INTEGERS:
        return made is not None
    return made.dtype == "bool" and all(
        a.dtype != "float32" if isinstance(a, JointTensor) else not isinstance(a, float)
        for a in _flat(call.args)
    )


def _check(b: Builder, call: Call) -> None:
    if call.op not in LOWERINGS and call.op not in WHOLE:
        raise _unknown(call)
    for t in (*_flat(call.args), *call.results):
        if isinstance(t, JointTensor) and t.dtype not in (*FORMAT_WITHIN, *INTEGERS):
            raise refuse(
                call, f"computes in {t.dtype}; leave the model in float32, recipes choose formats"
            )


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


def _flat(args: tuple[Arg, ...]) -> list[Arg]:
    flat: list[Arg] = []
    for a in args:
        flat += _flat(a) if isinstance(a, tuple) else [a]
    return flat

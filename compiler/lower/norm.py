"""Lowering of batch norm: statistics, what uses them, and the running statistics of the update."""

from __future__ import annotations

from math import prod

from ..ir import Attr, Value
from .builder import Builder, CallLowering, f32, number, refuse, result_shape, shape_of
from .joint import Arg, Call, JointTensor

# Stands for a momentum of None, the cumulative average, in a traced graph.
CUMULATIVE = -1.0
COUNTER = "num_batches_tracked"


def _or_constant(b: Builder, tensor: Arg, part: str, value: float, channels: int) -> Value:
    """gamma and beta of a batch norm, also of one without parameters."""
    if tensor is not None:
        return b.of(tensor)
    return b.one("constant", (), part, (channels,), value=value)


def _normalize(b: Builder, call: Call, mean: Value, var: Value, eps: Arg) -> Value:
    x = b.of(call.args[0])
    gamma = _or_constant(b, call.args[1], "gamma", 1.0, shape_of(x)[1])
    beta = _or_constant(b, call.args[2], "beta", 0.0, shape_of(x)[1])
    shape = result_shape(call)
    return b.one("batch_norm", (x, mean, var, gamma, beta), "y", shape, eps=number(eps))


def _statistics(b: Builder, x: Value) -> tuple[Value, Value]:
    type_ = f32(shape_of(x)[1:2])
    mean, var = b.emit("batch_stats", (x,), [("mean", type_), ("var", type_)])
    return mean, var


def with_running_statistics(b: Builder, call: Call) -> None:
    """Training with running statistics, which become ops of the update.

    torch's second and third result are mean and 1/sqrt(var + eps); only its backward reads them,
    and our backward wants the variance, so the third is bound to that.
    """
    x_arg, _, _, old_mean, old_var, training, momentum, eps = call.args
    if not training:
        mean, var = b.of(old_mean), b.of(old_var)
        b.bind(call, _normalize(b, call, mean, var, eps), None, None, mean, var)
        return
    x = b.of(x_arg)
    mean, var = _statistics(b, x)
    y = _normalize(b, call, mean, var, eps)
    count = prod(shape_of(x)) // shape_of(x)[1]
    unbiased = count / (count - 1) if count > 1 else 1.0
    with b.in_update():
        next_mean = _running(b, old_mean, mean, "running_mean'", number(momentum), 1.0)
        next_var = _running(b, old_var, var, "running_var'", number(momentum), unbiased)
    b.bind(call, y, mean, var, next_mean, next_var)
    for old, new in ((old_mean, call.results[3]), (old_var, call.results[4])):
        if isinstance(old, JointTensor) and new is not None and old in b.buffer_of:
            b.buffer_of[new] = b.buffer_of[old]


def _running(
    b: Builder, old: Arg, new: Value, part: str, momentum: float, correction: float
) -> Value:
    shape = shape_of(new)
    if momentum != CUMULATIVE:
        attributes: dict[str, Attr] = {"momentum": momentum, "correction": correction}
        return b.one("running_stats", (b.of(old), new), part, shape, **attributes)
    assert isinstance(old, JointTensor)
    count = b.counters[f"{b.buffer_of[old].rpartition('.')[0]}.{COUNTER}"]
    return b.one("running_average", (b.of(old), new, count), part, shape, correction=correction)


def without_running_statistics(b: Builder, call: Call) -> None:
    """Statistics of the batch, in training and in evaluation."""
    mean, var = _statistics(b, b.of(call.args[0]))
    b.bind(call, _normalize(b, call, mean, var, call.args[5]), mean, var)


def with_fixed_statistics(b: Builder, call: Call) -> None:
    """Evaluation, or a batch norm in eval mode inside of a model that trains."""
    mean, var = b.of(call.args[3]), b.of(call.args[4])
    b.bind(call, _normalize(b, call, mean, var, call.args[6]))


def backward(b: Builder, call: Call) -> None:
    """dX, dgamma and dbeta; in eval mode the statistics are constants."""
    g, x, gamma, old_mean, old_var, mean, var, training, eps, mask = call.args
    assert isinstance(mask, tuple)
    if not training:
        mean, var = old_mean, old_var
    inputs = (b.of(g), b.of(x), b.of(mean), b.of(var))
    epsilon = number(eps)
    type_ = inputs[2].type
    results = [("dgamma", type_), ("dbeta", type_)]
    dgamma, dbeta = b.emit("batch_norm_grad_stats", inputs, results, eps=epsilon)
    dx = None
    if mask[0]:
        w = _or_constant(b, gamma, "gamma", 1.0, type_.shape[0])
        shape = shape_of(inputs[1])
        if training:
            whole = (*inputs, w, dgamma, dbeta)
            dx = b.one("batch_norm_input_grad", whole, "dx", shape, eps=epsilon)
        else:
            dx = b.one("batch_norm_eval_grad", (inputs[0], inputs[3], w), "dx", shape, eps=epsilon)
    b.bind(call, dx, dgamma, dbeta)


def count_up(b: Builder, call: Call) -> None:
    """A counter plus 1; no other arithmetic on integers has a counterpart."""
    old, amount, *_ = call.args
    name = b.buffer_of.get(old, "") if isinstance(old, JointTensor) else ""
    if not name or amount != 1:
        raise refuse(call, "computes with integers; only a buffer that counts by 1 is supported")
    value = b.of(old)
    with b.in_update():
        made = b.emit("increment", (value,), [(f"{name.rpartition('.')[2]}'", value.type)])[0]
    b.counters[name] = made
    b.bind(call, made)
    assert call.results[0] is not None
    b.buffer_of[call.results[0]] = name


NORM: dict[str, CallLowering] = {
    "aten._native_batch_norm_legit_functional.default": with_running_statistics,
    "aten._native_batch_norm_legit.no_stats": without_running_statistics,
    "aten._native_batch_norm_legit_no_training.default": with_fixed_statistics,
    "aten.native_batch_norm_backward.default": backward,
}

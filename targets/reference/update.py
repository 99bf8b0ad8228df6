"""Reference of the updates, in f32 and in the order of torch.optim."""

from __future__ import annotations

import numpy as np

from ...compiler.ir import Op
from ..numbers.tensor import Array
from .frame import Meaning, on_numbers


def sgd(
    op: Op,
    w: Array,
    dw: Array,
    m: Array,
    step: Array,
    lr: Array,
    momentum: Array,
    dampening: Array,
    weight_decay: Array,
) -> tuple[Array, ...]:
    """In the first step (0) the buffer becomes the gradient itself, undamped.

    d = dw (or -dw) + weight_decay * w; m1 = momentum * m + (1 - dampening) * d;
    w1 = w - lr * (m1, or with nesterov d + momentum * m1). Without momentum m stays as it is, and
    w1 = w - lr * d.
    """
    d = -dw if op.bool_attr("maximize") else dw
    d = d + weight_decay * w
    if momentum == 0:
        return w - lr * d, m
    m1 = d if step == 0 else momentum * m + (np.float32(1) - dampening) * d
    used = d + momentum * m1 if op.bool_attr("nesterov") else m1
    return w - lr * used, m1


def adam(
    op: Op,
    w: Array,
    dw: Array,
    m: Array,
    v: Array,
    step: Array,
    lr: Array,
    rest1: Array,
    rest2: Array,
    eps: Array,
    weight_decay: Array,
) -> tuple[Array, ...]:
    """Kingma and Ba, "Adam" (ICLR 2015), algorithm 1; decoupled: Loshchilov and Hutter, "AdamW".

    g = dw (or -dw), without decoupling + weight_decay * w; m1 = m + (g - m) * rest1;
    v1 = v * (1 - rest2) + g * g * rest2; w1 = w (decoupled: * (1 - lr * weight_decay)) -
    lr / (1 - beta1^t) * (m1 / (sqrt(v1) / sqrt(1 - beta2^t) + eps)), t = step + 1.
    """
    one, t = np.float32(1), float(step) + 1.0
    g = -dw if op.bool_attr("maximize") else dw
    decoupled = op.bool_attr("decoupled_weight_decay")
    g = g if decoupled else g + weight_decay * w
    m1 = m + (g - m) * rest1
    v1 = v * (one - rest2) + g * g * rest2
    first, second = (np.float32(_correction(rest, t)) for rest in (rest1, rest2))
    size = lr / first
    spread = np.sqrt(v1) / np.sqrt(second) + eps
    base = w * (one - lr * weight_decay) if decoupled else w
    return base - size * (m1 / spread), m1, v1


def _correction(rest: Array, t: float) -> float:
    """1 - (1 - rest)^t, in float64."""
    return float(-np.expm1(t * np.log1p(-np.float64(rest))))


def rmsprop(
    op: Op,
    w: Array,
    dw: Array,
    s: Array,
    m: Array,
    lr: Array,
    alpha: Array,
    eps: Array,
    momentum: Array,
    weight_decay: Array,
) -> tuple[Array, ...]:
    """In the order of torch.optim.RMSprop.

    g = dw (or -dw) + weight_decay * w; s1 = s * alpha + g * g * (1 - alpha);
    m1 = momentum * m + g / (sqrt(s1) + eps); w1 = w - lr * m1. Without momentum m stays as it is,
    and w1 = w - lr * (g / (sqrt(s1) + eps)).
    """
    g = -dw if op.bool_attr("maximize") else dw
    g = g + weight_decay * w
    s1 = s * alpha + g * g * (np.float32(1) - alpha)
    moved = g / (np.sqrt(s1) + eps)
    if momentum == 0:
        return w - lr * moved, s1, m
    m1 = momentum * m + moved
    return w - lr * m1, s1, m1


UPDATE: dict[str, Meaning] = {
    "sgd": on_numbers(sgd),
    "adam": on_numbers(adam),
    "rmsprop": on_numbers(rmsprop),
}

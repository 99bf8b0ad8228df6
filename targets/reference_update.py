"""Reference of the update, in f32 and in the order of torch.optim.SGD."""

from __future__ import annotations

import numpy as np

from ..compiler.ir import Op
from .reference_frame import Run, on_numbers
from .tensor import Array


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
    """Without momentum, as in the first step, the buffer is the gradient itself, undamped.

    d = dw (or -dw) + weight_decay * w; m1 = momentum * m + (1 - dampening) * d;
    w1 = w - lr * (m1, or with nesterov d + momentum * m1).
    """
    d = -dw if op.bool_attr("maximize") else dw
    d = d + weight_decay * w
    first = step == 0 or momentum == 0
    m1 = d if first else momentum * m + (np.float32(1) - dampening) * d
    used = d + momentum * m1 if op.bool_attr("nesterov") else m1
    return w - lr * used, m1


UPDATE: dict[str, Run] = {"sgd": on_numbers(sgd)}

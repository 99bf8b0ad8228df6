"""Optimizers.

``sgd`` counts the steps that a momentum buffer has seen: the first one takes the gradient undamped,
and while the momentum is 0 nothing becomes of the buffer, as in torch.
"""

from __future__ import annotations

from .definition import OpDef
from .signature import define
from .traits import Trait

STEPPED = "w: f32[*S], dw: float[*S]"

UPDATE: tuple[OpDef, ...] = (
    define(
        f"sgd({STEPPED}, m: f32[*S], step: int[], lr: f32[], momentum: f32[], dampening: f32[],"
        " weight_decay: f32[]) {nesterov: flag, maximize: flag} -> w1: f32[*S], m1: f32[*S]",
        "torch.optim.SGD; m is the momentum buffer, none where step is 0",
        Trait.UPDATE,
    ),
    define(
        f"adam({STEPPED}, m: f32[*S], v: f32[*S], step: int[], lr: f32[], one_minus_beta1: f32[],"
        " one_minus_beta2: f32[], eps: f32[], weight_decay: f32[])"
        " {decoupled_weight_decay: flag, maximize: flag}"
        " -> w1: f32[*S], m1: f32[*S], v1: f32[*S]",
        "torch.optim.Adam and AdamW; m and v are the moments",
        Trait.UPDATE,
    ),
    define(
        f"rmsprop({STEPPED}, s: f32[*S], m: f32[*S], lr: f32[], alpha: f32[], eps: f32[],"
        " momentum: f32[], weight_decay: f32[]) {maximize: flag}"
        " -> w1: f32[*S], s1: f32[*S], m1: f32[*S]",
        "torch.optim.RMSprop; s is the mean square, m the momentum buffer",
        Trait.UPDATE,
    ),
)

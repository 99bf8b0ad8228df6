"""Optimizers: an op for each kind of update, as ``ir/updates.py`` defines it.

``sgd`` counts the steps that a momentum buffer has seen: the first one takes the gradient undamped,
and while the momentum is 0 nothing becomes of the buffer, as in torch.
"""

from __future__ import annotations

from ..updates import KINDS
from .definition import OpDef
from .signature import define
from .traits import Trait

UPDATE: tuple[OpDef, ...] = tuple(
    define(kind.signature, kind.meaning, Trait.UPDATE, *(() if kind.formula else (Trait.COMPOSED,)))
    for kind in KINDS.values()
)

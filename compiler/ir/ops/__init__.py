"""The ops of the IR: one definition each, in families.

Ops compute in f32 and round once, to nearest even, to the format of the result. Images are NxCxHxW;
channels are dimension 1. How a signature reads: ``signature.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..program import Op
from .bits import BITS
from .definition import Direction, OpDef
from .gather import GATHER
from .gemm import BETWEEN, GEMM, PRODUCT
from .index import INDEX
from .loop import LOOP
from .loss import LOSS
from .measure import MEASURE
from .norm import NORM
from .pointwise import ELEMENTS, FUNCTIONS
from .pool import POOL
from .quantize import FOUR_OVER_SIX, QUANTIZE, SCALES_OF
from .reduce import REDUCE
from .shape import SHAPE
from .traits import Trait
from .update import UPDATE
from .whole import WHOLE

FAMILIES: Mapping[str, tuple[OpDef, ...]] = {
    "GEMMs": (*GEMM, *BETWEEN, *PRODUCT),
    "quantizers": QUANTIZE,
    "normalization": NORM,
    "bits": BITS,
    "pointwise": ELEMENTS,
    "functions of a number": FUNCTIONS,
    "reductions": REDUCE,
    "by index": (*INDEX, *GATHER),
    "integers": WHOLE,
    "pooling": POOL,
    "shape": SHAPE,
    "loops": LOOP,
    "losses": LOSS,
    "update": UPDATE,
    "measures": MEASURE,
}
__all__ = [
    "BETWEEN_ACTIVATIONS",
    "DATA_GRADS",
    "FAMILIES",
    "FORWARD_GEMMS",
    "FOUR_OVER_SIX",
    "GEMMS",
    "GRADIENT_PRODUCTS",
    "INPUT_GRADS",
    "OPS",
    "PRODUCTS",
    "READS_WEIGHT",
    "SCALES_OF",
    "TRANSPOSED",
    "WEIGHT_GRADS",
    "Direction",
    "OpDef",
    "Trait",
    "has",
    "having",
]

OPS = {d.kind: replace(d, family=family) for family, ops in FAMILIES.items() for d in ops}


def having(trait: Trait) -> frozenset[str]:
    """The kinds of op for which ``trait`` holds."""
    return frozenset(kind for kind, d in OPS.items() if trait in d.traits)


def has(op: Op, trait: Trait) -> bool:
    """Whether ``trait`` holds for ``op``."""
    return trait in OPS[op.kind].traits


def _toward(*directions: Direction) -> frozenset[str]:
    return frozenset(kind for kind, d in OPS.items() if d.direction in directions)


# Products of layers.
FORWARD_GEMMS = _toward(Direction.FORWARD)
INPUT_GRADS = _toward(Direction.INPUT_GRAD)
WEIGHT_GRADS = _toward(Direction.WEIGHT_GRAD)
GEMMS = _toward(*Direction)
# Those of transposed convolutions: their weights' output channels are dimension 1.
TRANSPOSED = frozenset(kind for kind in GEMMS if kind.startswith("conv2d_transpose"))
# Layers without a weight: both operands are activations.
BETWEEN_ACTIVATIONS = frozenset(d.kind for d in BETWEEN)
# What reads a layer's weights, and what reads the gradient of its output.
READS_WEIGHT = (FORWARD_GEMMS | INPUT_GRADS) - BETWEEN_ACTIVATIONS
GRADIENT_PRODUCTS = INPUT_GRADS | WEIGHT_GRADS
# What makes the gradient of data: backward goes on with it, and no weight is updated by it.
DATA_GRADS = INPUT_GRADS | (WEIGHT_GRADS & BETWEEN_ACTIVATIONS)
# Products of layers, and those that belong to none.
PRODUCTS = GEMMS | {d.kind for d in PRODUCT}

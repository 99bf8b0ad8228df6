"""The operators, by kind: importing them fills the table of ``definitions``."""

from . import (
    index,
    microsoft,
    norm,
    pointwise,
    pool,
    products,
    quantized,
    recurrent,
    reduce,
    resize,
    shape,
)

__all__ = [
    "index",
    "microsoft",
    "norm",
    "pointwise",
    "pool",
    "products",
    "quantized",
    "recurrent",
    "reduce",
    "resize",
    "shape",
]

"""The IR: programs, the ops they are made of, their text, and what must hold of them."""

from .program import (
    NO_ATTRS,
    OPTIMIZER_STEP,
    REGIONS,
    SEED,
    STEP,
    Attr,
    Op,
    Program,
    Region,
    Rule,
    Value,
    attrs,
    spelled,
    unused,
)

__all__ = [
    "NO_ATTRS",
    "OPTIMIZER_STEP",
    "REGIONS",
    "SEED",
    "STEP",
    "Attr",
    "Op",
    "Program",
    "Region",
    "Rule",
    "Value",
    "attrs",
    "spelled",
    "unused",
]

"""The program representation and how to get one: formats, types, ops, text, capture, lowering."""

from .ir import Op, Program, Region, Value
from .text import parse, show
from .types import Scale, TensorType
from .verify import verify

__all__ = ["Op", "Program", "Region", "Scale", "TensorType", "Value", "parse", "show", "verify"]

"""The program and how to get one: formats, types, the IR, its text, capture, lowering."""

from .ir import Op, Program, Region, Value
from .ir.text import parse, show
from .ir.verify import verify
from .types import Scale, TensorType

__all__ = ["Op", "Program", "Region", "Scale", "TensorType", "Value", "parse", "show", "verify"]

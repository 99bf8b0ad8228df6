"""The element types of ONNX at opset 21, and which of them holds the codes of a format.

Numbers are those of ``TensorProto.DataType``, so that nothing here needs the package ``onnx``.
"""

from __future__ import annotations

from enum import Enum

from ...compiler.formats import BF16, F16, F32, FP8_143, FP8_152, I32, I64, Format


class ElementType(Enum):
    """An element type, as ONNX numbers it."""

    FLOAT = 1
    UINT8 = 2
    INT8 = 3
    UINT16 = 4
    INT16 = 5
    INT32 = 6
    INT64 = 7
    BOOL = 9
    FLOAT16 = 10
    DOUBLE = 11
    BFLOAT16 = 16
    FLOAT8E4M3FN = 17
    FLOAT8E5M2 = 19
    UINT4 = 21
    INT4 = 22

    @property
    def bits(self) -> int:
        """Bits of an element in memory."""
        return _BITS[self]


_BITS = {
    **dict.fromkeys((ElementType.UINT4, ElementType.INT4), 4),
    **dict.fromkeys((ElementType.UINT8, ElementType.INT8, ElementType.BOOL), 8),
    **dict.fromkeys((ElementType.FLOAT8E4M3FN, ElementType.FLOAT8E5M2), 8),
    **dict.fromkeys(
        (ElementType.UINT16, ElementType.INT16, ElementType.FLOAT16, ElementType.BFLOAT16), 16
    ),
    **dict.fromkeys((ElementType.FLOAT, ElementType.INT32), 32),
    **dict.fromkeys((ElementType.DOUBLE, ElementType.INT64), 64),
}
PLAIN = {
    F32: ElementType.FLOAT,
    BF16: ElementType.BFLOAT16,
    F16: ElementType.FLOAT16,
    I64: ElementType.INT64,
    I32: ElementType.INT32,
}
# The same bits in both: ml_dtypes' and ONNX's names for what the formats say level by level.
FLOATS = {FP8_143: ElementType.FLOAT8E4M3FN, FP8_152: ElementType.FLOAT8E5M2}
INTEGERS = {
    (signed, bits): ElementType[f"{'' if signed else 'U'}INT{bits}"]
    for signed in (False, True)
    for bits in (4, 8, 16)
}


def element_of(f: Format) -> ElementType | None:
    """What holds the numbers or codes of a format; None where ONNX has nothing for them.

    Integers take the narrowest type with all of their levels. Codes of a midrise format count its
    levels, so that they are unsigned.
    """
    if f in PLAIN or f in FLOATS:
        return PLAIN.get(f) or FLOATS[f]
    if not f.is_integer:
        return None
    low, high = code_range(f)
    fits = (
        element
        for (signed, bits), element in INTEGERS.items()
        if signed == (low < 0) and -low <= 1 << (bits - 1) and high < 1 << (bits - signed)
    )
    return next(fits, None)


def code_range(f: Format) -> tuple[int, int]:
    """The least and the largest integer that a code of an integer format is written as."""
    if f.midrise:
        return 0, (1 << f.bits) - 1
    return int(f.levels()[0]), int(f.max)


def element_range(element: ElementType) -> tuple[int, int]:
    """The least and the largest integer of an integer element type."""
    signed = element.name.startswith("INT")
    top = 1 << (element.bits - signed)
    return -top if signed else 0, top - 1

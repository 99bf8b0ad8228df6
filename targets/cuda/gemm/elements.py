"""Elements of tiles: what the operands of a unit are made of, and how channels fill them."""

from __future__ import annotations

from dataclasses import dataclass

from ...plan.kernel import Unit

# Bytes of an element.
WIDTHS = {Unit.INT4_MMA: 1, Unit.INT8_MMA: 1, Unit.BF16_MMA: 2, Unit.F32: 4}
DTYPES = {
    Unit.INT4_MMA: "uint8",
    Unit.INT8_MMA: "uint8",
    Unit.BF16_MMA: "uint16",
    Unit.F32: "float32",
}
INTEGERS = (Unit.INT4_MMA, Unit.INT8_MMA)  # sums in int32


def numbers_of(unit: Unit) -> int:
    """Numbers of an element: a byte as 4-bit codes are packed is one of 4-bit tensor cores."""
    return 2 if unit is Unit.INT4_MMA else 1


@dataclass(frozen=True, slots=True)
class PaddedChannels:
    """``count`` channels of a group in memory: ``padded`` elements, copied in pieces of some bytes.

    The first ``elements`` hold channels: of two in a byte the second is as many further, see
    ``layout``.
    """

    count: int
    elements: int
    padded: int
    piece: int

    @classmethod
    def of(cls, count: int, unit: Unit) -> PaddedChannels:
        """The largest pieces that need no padding, or hardly more than the smallest."""
        width, elements = WIDTHS[unit], -(-count // numbers_of(unit))
        size = elements * width
        least = _up(size, 4)

        def fits(piece: int) -> bool:
            return size % piece == 0 or (size % 8 > 0 and 4 * _up(size, piece) <= 5 * least)

        piece = next(p for p in (16, 8, 4) if p == 4 or fits(p))
        return cls(count, elements, _up(size, piece) // width, piece)


def _up(size: int, to: int) -> int:
    return -(-size // to) * to

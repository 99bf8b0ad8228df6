"""Which numbers a unit of an accelerator takes, in three words: ``int8``, ``log4``, ``e5m3``.

intN   integers of at most N bits, and logarithmic formats whose levels are such integers
logN   logarithmic formats of at most N bits, as codes: a product is a shift
eXmY   floats of at most X bits of exponent and Y of mantissa, and all numbers that these hold
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from ...compiler.errors import UsageError
from ...compiler.formats import Format
from .accelerator import Accelerator, CostedUnit

WORD = re.compile(r"(int|log)(\d{1,2})|e(\d{1,2})m(\d{1,2})")


def takes(word: str, f: Format) -> bool:
    """Whether a unit's operand of that kind may be a number of ``f``."""
    found = WORD.fullmatch(word)
    assert found is not None, word
    family, bits, exponent, mantissa = found.groups()
    if family == "int":
        return 0 < integer_bits(f) <= int(bits)
    if family == "log":
        return f.is_log and f.bits <= int(bits)
    return _significand(f) <= int(mantissa) + 1 and _range_bits(f) <= int(exponent)


def integer_bits(f: Format) -> int:
    """Bits of the integers that hold all levels, in units of the least, with a sign; else 0."""
    if f.is_log:
        return int(math.log2(f.max / f.smallest)) + 2
    return f.bits if f.is_integer and not f.is_index else 0


def _significand(f: Format) -> int:
    """Digits of the largest number of digits."""
    return f.bits - f.signed if f.is_integer else f.man + 1


def _range_bits(f: Format) -> int:
    """Bits of a radix-2 exponent that reaches as far."""
    if f.is_integer:
        return f.bits.bit_length()
    return (integer_bits(f)).bit_length() if f.is_log else f.exp


def unit_for(machine: Accelerator, formats: Sequence[Format], where: str) -> CostedUnit:
    """The fastest unit that takes both operands, of equal ones what costs least.

    Published ones go ahead of assumed ones. UsageError with ``where`` if there is none.
    """
    a, b = formats
    fitting = [u for u in machine.units if _both(u, a, b) or _both(u, b, a)]
    if not fitting:
        raise UsageError(
            f"accelerator {machine.name} multiplies no {a} by {b}, which {where} does; "
            f"give it [[units]] that take them"
        )
    return min(fitting, key=lambda u: (u.assumed, -u.rate, u.pj))


def _both(unit: CostedUnit, a: Format, b: Format) -> bool:
    first, second = unit.takes
    return takes(first, a) and takes(second, b)

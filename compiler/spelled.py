"""Formats by name: those of the list, and small floats that are spelled by their bits.

    fp5.e3m1          5 bits: a sign, 3 of exponent, 1 of mantissa; bias 2^(3-1) - 1 = 3; subnormals
    fp5.e3m1.b5       with another bias
    fp6.e3m2.flat     without subnormals: exponent code 0 is an ordinary one, but for 0 itself
    fp8.e4m3.nan      the code of ones in exponent and mantissa is NaN

A name holds all that there is to know of a format, so that a recipe, a program's text and a saved
step need no definitions beside it. One that means a format of the list is that format.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

from .formats import FORMATS, Format

SPELLED = re.compile(r"fp(\d)\.e(\d)m(\d)(?:\.b(\d{1,2}))?(\.flat)?(\.nan)?")
# With at most 6 bits of exponent and this bias, numbers stay among bf16's of full width.
MOST_EXPONENT, MOST_BIAS = 6, 63


@cache
def named(name: str) -> Format | None:
    """The format of a name; None where it means none."""
    if name in FORMATS:
        return FORMATS[name]
    m = SPELLED.fullmatch(name)
    if not m:
        return None
    bits, exp, man = int(m[1]), int(m[2]), int(m[3])
    bias = int(m[4]) if m[4] else (1 << (exp - 1)) - 1 if exp else 0
    if bits != 1 + exp + man or not 2 <= bits <= 8 or not 1 <= exp <= MOST_EXPONENT:
        return None
    if bias > MOST_BIAS:
        return None
    ones = ((1 << (bits - 1)) - 1,) if m[6] else ()
    made = Format(name, bits, exp=exp, man=man, bias=bias, subnormals=not m[5], specials=ones)
    same = (f for f in FORMATS.values() if replace(f, name=name) == made)
    return next(same, made)


def format_of(name: object) -> Format:
    """The format of a name that is known to mean one."""
    found = named(str(name))
    assert found is not None, name
    return found


def is_of_codes(name: str) -> bool:
    """Whether a name means a format of numbers in few bits."""
    found = named(name)
    return found is not None and found.is_coded and not found.is_exponent


def is_operand(name: str) -> bool:
    """Whether a name means a format that data may be rounded to: integers or floats with a sign."""
    found = named(name)
    if found is None or not found.is_element or found.bits > 8 or found.radix != 2:
        return False
    return found.signed and not found.midrise and not found.is_log


OPERANDS = tuple(name for name in FORMATS if is_operand(name))

"""NaN, infinities, zeros of both signs and subnormals on the ``cuda`` target, in the emulator."""

from __future__ import annotations

import pytest

pytest.importorskip("tvm")

from .test_special_numbers import (
    test_an_op_beside_its_own_operand,
    test_codes_of_special_numbers,
    test_numbers_of_special_codes,
    test_special_numbers,
    test_special_numbers_in_16_bits,
    test_the_same_operand_twice,
)

pytestmark = [
    pytest.mark.tvm,
    pytest.mark.usefixtures("emulated", "together"),
    pytest.mark.share(32),
]
__all__ = [
    "test_an_op_beside_its_own_operand",
    "test_codes_of_special_numbers",
    "test_numbers_of_special_codes",
    "test_special_numbers",
    "test_special_numbers_in_16_bits",
    "test_the_same_operand_twice",
]

"""What an optimizer keeps in codes, from f32 numbers and back: see ``passes/low_bit_states.py``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..compiler.errors import InputError
from ..compiler.types import TensorType
from ..passes.low_bit_states import CODES, LEAST_LARGEST, SCALES
from ..targets.numbers.blocks import fit_scale
from ..targets.numbers.packing import from_memory, to_memory
from ..targets.numbers.rounding import encode
from ..targets.numbers.tensor import Tensor
from ..targets.plan.layout import Layout, Order

Arrays = Mapping[str, np.ndarray]
Types = Mapping[str, TensorType]


def in_codes(types: Types, values: Arrays) -> dict[str, np.ndarray]:
    """``values`` for a state of these types, with codes in place of the numbers that it stores so.

    As a step rounds them; but of nothing but zeros, as before the first step, all scales are 0, so
    that they stay zeros where a list has none.
    InputError where there are more or fewer numbers than codes.
    """
    made = dict[str, np.ndarray]()
    for name, value in values.items():
        codes = types.get(f"{name}{CODES}")  # a name that is no text is refused later
        if name in types or codes is None or not codes.format.is_coded:
            made[name] = value
            continue
        if np.size(value) != codes.elements:
            raise InputError(
                f"{name} has {np.size(value)} numbers, and the step carries {codes.elements} codes"
            )
        made[name + CODES], made[name + SCALES] = _coded(codes, np.asarray(value, np.float32))
    return made


def in_numbers(types: Types, values: Arrays) -> dict[str, np.ndarray]:
    """``values`` with f32 numbers, in the shape of the parameter, in place of codes and scales."""
    made = dict(values)
    for name, codes in types.items():
        base = name.removesuffix(CODES)
        if base == name or not codes.format.is_coded or base + SCALES not in types:
            continue
        levels = from_memory(made.pop(name), Layout(codes, Order.ROWS)).numbers
        numbers = levels * made.pop(base + SCALES)[:, None]
        parameter = types.get(base.rpartition(".")[0])
        made[base] = numbers.reshape(parameter.shape if parameter else -1)
    return made


def _coded(codes: TensorType, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    blocks, layout = numbers.reshape(codes.shape), Layout(codes, Order.ROWS)
    most = np.abs(blocks).max(axis=1)
    scales = fit_scale(np.fmax(most, np.float32(LEAST_LARGEST)), codes.format)
    made = encode(blocks / scales[:, None], codes.format)
    stored = to_memory(Tensor(codes, made, None), layout).reshape(layout.stored_shape)
    return stored, scales if most.any() else np.zeros_like(scales)

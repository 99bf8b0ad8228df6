"""Packing: every tensor comes back from memory, and bytes lie where the layout says."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quatrain.compiler.formats import BF16, F32, FORMATS, FP4_EVEN, UINT4, UINTS, Format
from quatrain.compiler.types import Scale, TensorType
from quatrain.targets.numbers.packing import from_memory, pack, to_memory, unpack
from quatrain.targets.numbers.tensor import Tensor, dtype_of
from quatrain.targets.plan.layout import Layout, Order

SCALES = [Scale.NONE, Scale.TENSOR, Scale.CHANNEL, Scale.POW2]


def random_tensor(type_: TensorType, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    f = type_.format
    if f.is_coded:
        data = rng.integers(0, 1 << f.bits, type_.shape).astype(dtype_of(f))
    else:
        data = rng.integers(-1000, 1000, type_.shape).astype(dtype_of(f))
    plain = Tensor.zeros(TensorType(type_.shape, F32, type_.scale)).scale
    scale = None if plain is None else np.asarray(rng.random(plain.shape), np.float32)
    return Tensor(type_, np.asarray(data), scale)


@settings(deadline=None)
@given(
    st.sampled_from(list(FORMATS.values())),
    st.lists(st.integers(1, 9), max_size=4),
    st.sampled_from(SCALES),
    st.sampled_from(list(Order)),
    st.integers(0, 1000),
)
def test_round_trip(f: Format, shape: list[int], scale: Scale, order: Order, seed: int) -> None:
    if scale is Scale.CHANNEL and not shape:
        scale = Scale.TENSOR
    tensor = random_tensor(TensorType(tuple(shape), f, scale), seed)
    layout = Layout(tensor.type, order)
    memory = to_memory(tensor, layout)
    assert memory.shape == (layout.rows, layout.cell) and memory.dtype == layout.dtype
    assert memory.nbytes == layout.bytes and memory.flags.c_contiguous
    buffer = None if tensor.scale is None else tensor.scale.reshape(layout.scales)
    back = from_memory(memory.ravel(), layout, buffer)
    np.testing.assert_array_equal(back.data, tensor.data)
    np.testing.assert_array_equal(back.real(), tensor.real())


@settings(deadline=None)
@given(
    st.sampled_from([1, 2, 4, 8]),
    st.integers(1, 9),
    st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 13, 27, 28, 33]),
    st.integers(0, 1000),
)
def test_byte_j_holds_channels_j_apart_by_a_cell(
    bits: int, rows: int, channels: int, seed: int
) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << bits, (rows, channels)).astype(np.uint8)
    packed = pack(codes, bits)
    parts = 8 // bits
    cell = -(-channels // parts)
    assert packed.shape == (rows, cell)
    for j in range(cell):
        byte = np.zeros(rows, int)
        for part in range(parts):
            channel = j + part * cell
            if channel < channels:
                byte += codes[:, channel].astype(int) << (bits * part)
        np.testing.assert_array_equal(packed[:, j], byte)
    np.testing.assert_array_equal(unpack(packed, bits, channels), codes)


def test_pixels_put_channels_last() -> None:
    codes = np.arange(12, dtype=np.uint8).reshape(1, 3, 2, 2)
    tensor = Tensor(TensorType((1, 3, 2, 2), UINT4), codes)
    memory = to_memory(tensor, Layout(tensor.type, Order.PIXELS))
    # Three channels in two bytes: channels 0 and 2 share the first, 1 has the second alone.
    np.testing.assert_array_equal(memory, [[0x80, 4], [0x91, 5], [0xA2, 6], [0xB3, 7]])
    rows = to_memory(tensor, Layout(tensor.type, Order.ROWS))
    np.testing.assert_array_equal(rows, [[0x10], [0x32], [0x54], [0x76], [0x98], [0xBA]])


def test_bf16_lies_as_its_bits() -> None:
    tensor = Tensor(TensorType((3,), BF16), np.array([1, -2, 0.5], ml_dtypes.bfloat16))
    memory = to_memory(tensor, Layout(tensor.type, Order.ROWS))
    np.testing.assert_array_equal(memory, [[0x3F80, 0xC000, 0x3F00]])


@pytest.mark.parametrize("f", [UINTS[1], UINTS[2], UINTS[3], FP4_EVEN], ids=str)
def test_padding_is_zero(f: Format) -> None:
    full: Any = np.full((1, 5), (1 << f.bits) - 1, np.uint8)
    packed = pack(full, f.storage_bits)
    ones = sum(int(b).bit_count() for b in packed.ravel())
    assert ones == 5 * f.bits

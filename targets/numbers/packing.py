"""Packing: between a tensor of the reference and the memory that a layout describes.

codes -> bytes       pack, unpack            along the last physical dimension, see layout.py
Tensor -> memory     to_memory, from_memory  order of dimensions, packing, bit patterns
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...compiler.types import TensorType
from ..plan.layout import Layout, Order
from ..plan.state import aligned_bytes
from .tensor import Tensor, dtype_of, scale_shape

Array = NDArray[Any]


def pack(codes: Array, storage_bits: int) -> Array:
    """Bytes [rows, cell] of ``codes`` [rows, channels], each in ``storage_bits`` = 1, 2, 4, 8."""
    parts = 8 // storage_bits
    rows, channels = codes.shape
    cell = -(-channels // parts)
    whole = np.zeros((rows, parts * cell), np.uint8)
    whole[:, :channels] = codes
    shifts = np.arange(parts, dtype=np.uint8) * np.uint8(storage_bits)
    shifted = whole.reshape(rows, parts, cell) << shifts[:, None]
    return np.asarray(np.bitwise_or.reduce(shifted, axis=1))


def unpack(packed: Array, storage_bits: int, channels: int) -> Array:
    """Codes [rows, channels] of the bytes [rows, cell] that ``pack`` makes."""
    parts = 8 // storage_bits
    shifts = np.arange(parts, dtype=np.uint8) * np.uint8(storage_bits)
    mask = np.uint8((1 << storage_bits) - 1)
    codes = (packed[:, None, :] >> shifts[:, None]) & mask
    return np.asarray(codes.reshape(len(packed), -1)[:, :channels])


def to_memory(tensor: Tensor, layout: Layout) -> Array:
    """The data buffer of ``tensor``: [rows, cell] of ``layout.dtype``; the scale is its own."""
    matrix = _to_order(tensor.data, layout.order).reshape(layout.rows, layout.channels)
    if layout.parts > 1:
        return pack(matrix, tensor.type.format.storage_bits)
    return np.ascontiguousarray(matrix).view(layout.dtype)


def from_memory(memory: Array, layout: Layout, scale: Array | None = None) -> Tensor:
    """The tensor whose buffer is ``memory``, of any shape with ``rows * cell`` elements.

    ``scale`` is the scale buffer, ``layout.scales`` numbers.
    """
    f = layout.type.format
    matrix = np.ascontiguousarray(memory).reshape(layout.rows, layout.cell)
    if layout.parts > 1:
        matrix = unpack(matrix, f.storage_bits, layout.channels)
    data = matrix.view(dtype_of(f)).reshape(layout.physical_shape)
    if layout.order is Order.PIXELS and data.ndim > 2:
        data = np.moveaxis(data, -1, 1)
    if scale is not None:
        scale = scale.reshape(scale_shape(layout.type))
    return Tensor(layout.type, np.ascontiguousarray(data).reshape(layout.type.shape), scale)


def stored(tensor: Tensor) -> Array:
    """The bytes of an input or a state: row by row, aligned."""
    memory = to_memory(tensor, Layout(tensor.type, Order.ROWS))
    made = aligned_bytes(memory.nbytes)
    made[...] = memory.reshape(-1).view(np.uint8)
    return made


def aligned_array(tensor: Tensor) -> Array:
    """An input as executables take it."""
    layout = Layout(tensor.type, Order.ROWS)
    made: Array = stored(tensor).view(layout.dtype).reshape(tensor.type.shape)
    return made


def from_stored(type_: TensorType, array: Array) -> Tensor:
    """A tensor without a scale, of the array that holds it row by row; its bits may be stored."""
    data = np.ascontiguousarray(array).reshape(-1).view(dtype_of(type_.format))
    return Tensor(type_, data.reshape(type_.shape))


def _to_order(data: Array, order: Order) -> Array:
    if order is Order.PIXELS and data.ndim > 2:
        data = np.moveaxis(data, 1, -1)
    return np.ascontiguousarray(data)

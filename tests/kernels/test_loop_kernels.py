"""The single kernels at the border of a loop, between rows side by side and steps apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import pytest

pytest.importorskip("tvm")

from quatrain.compiler.formats import BF16, F32, I64, INTS
from quatrain.compiler.ir import Attr, Op, Value, attrs
from quatrain.compiler.types import Scale, Shape, TensorType
from quatrain.targets.plan.borders import without_counter
from quatrain.targets.plan.fuse import Group
from quatrain.targets.plan.layout import Layout, Order
from quatrain.targets.plan.memory import aligned

from ..cases.machine import Machine, machine, on
from ..cuda.emulate import has_compiler
from ..cuda.emulated import EmulatedGpu

pytestmark = pytest.mark.tvm
STEPS = 3
COUNTER = Value("t", TensorType((), I64))
NO_SCALE, TENSOR = Scale.NONE, Scale.TENSOR
# A step of a cache line, of less, of more; rows that end within a byte.
ONES = [
    TensorType((2, 8), F32),
    TensorType((3, 7), BF16),
    TensorType((1, 13), I64),
    TensorType((3, 3, 5), F32),
    TensorType((3, 7), INTS[4], TENSOR),
]


@pytest.fixture(params=["cpu", "cuda"])
def target(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """This CPU, and a GPU in the emulator."""
    if request.param == "cuda" and not has_compiler():
        pytest.skip("the emulator needs g++")
    with on(EmulatedGpu()) if request.param == "cuda" else nullcontext():
        yield machine()


def run(target: Machine, op: Op, *arrays: np.ndarray) -> None:
    """Run the kernel of an op; its outputs are written in place."""
    group = without_counter(Group((op,), op.results, "forward"))
    orders = dict.fromkeys((*op.inputs, *op.results), Order.ROWS)
    (compiled,) = target.compile([target.kernel(group, orders)])
    compiled(*arrays)


def op_of(kind: str, x: TensorType, y: TensorType, **attributes: Attr) -> Op:
    inputs = () if kind == "steps" else (Value("x", x), COUNTER)
    return Op(kind, inputs, (Value("y", y),), attrs(**attributes))


def whole(one: TensorType) -> TensorType:
    """All steps side by side."""
    shape: Shape = (STEPS * one.shape[0], *one.shape[1:])
    return TensorType(shape, one.format, one.scale)


def stored(of: TensorType) -> tuple[int, np.dtype[np.generic]]:
    """Stored elements, and the type of one."""
    layout = Layout(of, Order.ROWS)
    return layout.rows * layout.cell, np.dtype(layout.dtype)


def some(count: int, dtype: np.dtype[np.generic]) -> np.ndarray:
    """Other bytes in each element, and no NaN."""
    return np.arange(1, count + 1).astype(dtype)


@pytest.mark.parametrize("one", ONES, ids=str)
def test_steps_apart_and_side_by_side(target: Machine, one: TensorType) -> None:
    count, dtype = stored(one)
    pitch = aligned(count * dtype.itemsize) // dtype.itemsize
    side = some(STEPS * count, dtype)
    apart = np.zeros((STEPS, pitch), dtype)
    apart[:, :count] = side.reshape(STEPS, count)
    if one.scale is NO_SCALE:  # codes are made in the loop
        made = np.zeros_like(apart)
        run(target, op_of("rows_of_step", whole(one), one), side, made)
        np.testing.assert_array_equal(made[:, :count], apart[:, :count])
    joined, scales = np.zeros_like(side), [np.full(1, s, np.float32) for s in (0.5, 0.0)]
    buffers = (apart, joined) if one.scale is NO_SCALE else (apart, scales[0], joined, scales[1])
    run(target, op_of("all_steps", one, whole(one)), *buffers)
    np.testing.assert_array_equal(joined, side)
    assert one.scale is NO_SCALE or scales[1] == 0.5


@pytest.mark.parametrize("kind", ["carried", "feed"])
def test_what_is_carried_is_copied(target: Machine, kind: str) -> None:
    one = TensorType((3, 7), F32)
    x, y = some(21, np.dtype(np.float32)), np.zeros(21, np.float32)
    op = op_of("carried", one, one)
    if kind == "feed":
        op = Op("feed", (Value("h", one), Value("x", one)), (Value("y", one),), attrs())
    run(target, op, x, y)
    np.testing.assert_array_equal(y, x)


def test_counters_count(target: Machine) -> None:
    made = np.full((STEPS, 8), -1, np.int64)
    counter = TensorType((), I64)
    run(target, op_of("steps", counter, counter, count=STEPS, reverse=True), made)
    assert made[:, 0].tolist() == [0, 1, 2] and (made[:, 1:] == -1).all()

"""Kernels that quantize, round and cast, against the reference: bit for bit."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from quatrain.compiler.formats import (
    BF16,
    F16,
    F32,
    FORMATS,
    I64,
    INT4,
    INT8,
    INTS,
    MIDRISE,
    UINT4,
    UINTS,
    Format,
)
from quatrain.compiler.types import Scale, Shape, TensorType
from quatrain.targets.plan.layout import Order

from ..cases.one_kernel import Group, pointwise, random_inputs, same
from ..cases.op_examples import MADE

pytestmark = [pytest.mark.tvm, pytest.mark.usefixtures("together")]


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("kind", ["int", "uint", "midrise"])
def test_quantize_formats(bits: int, kind: str) -> None:
    table = {"int": INTS, "uint": UINTS}.get(kind)
    f = table[bits] if table else Format(f"int{bits}.midrise", bits, midrise=True)
    shape, group = (2, 28, 3, 3), Group()
    x = group.input("x", TensorType(shape, F32))
    clip = group.input("clip", TensorType((), F32))
    (q,) = group.op("quantize", (x, clip), [TensorType(shape, f, Scale.TENSOR)])
    got, want = pointwise(group, (q,), random_inputs(group.inputs))
    same(got[q.name], want[q.name])


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("f", [INT4, UINT4, INT8, MIDRISE[4]], ids=str)
@pytest.mark.parametrize("per_channel", [False, True])
def test_quantize_to_bits_that_are_read(bits: int, f: Format, per_channel: bool) -> None:
    """Codes of a weight, and what decodes them in the same kernel."""
    shape, group = (5, 28, 3, 3), Group()
    x = group.input("x", TensorType(shape, F32))
    clip = group.input("clip", TensorType(shape[:1] if per_channel else (), F32))
    number = group.input("bits", TensorType((), F32))
    scale = Scale.CHANNEL if per_channel else Scale.TENSOR
    (q,) = group.op("quantize_bits", (x, clip, number), [TensorType(shape, f, scale)])
    (y,) = group.op("dequantize", (q,), [TensorType(shape, F32)])
    given = {"bits": float(bits)}
    for outputs in ((q,), (q, y), (y,)):
        got, want = pointwise(group, outputs, random_inputs(group.inputs, given=given))
        for v in outputs:
            same(got[v.name], want[v.name])


@pytest.mark.parametrize("shape", [(8, 3, 3, 3), (5, 16, 1, 1), (4, 33, 3, 3), (7, 13)])
@pytest.mark.parametrize("per_channel", [False, True])
def test_weights_from_rows_to_pixels(shape: Shape, per_channel: bool) -> None:
    group = Group()
    w = group.input("w", TensorType(shape, F32))
    clip = group.input("clip", TensorType(shape[:1] if per_channel else (), F32))
    scale = Scale.CHANNEL if per_channel else Scale.TENSOR
    (q,) = group.op("quantize", (w, clip), [TensorType(shape, INT4, scale)])
    order = lambda v: Order.ROWS if v is w else Order.PIXELS  # noqa: E731
    got, want = pointwise(group, (q,), random_inputs(group.inputs), order)
    same(got[q.name], want[q.name])


@pytest.mark.parametrize("unit", [0.0, 0.3, -1.7])
def test_normalize(unit: float) -> None:
    for shape in ((1,), (3, 7, 13, 1), (2, 33, 5, 3)):
        group = Group()
        g = group.input("g", TensorType(shape, F32))
        u = group.input("unit", TensorType((), F32))
        (gs,) = group.op("normalize", (g, u), [TensorType(shape, F32, Scale.TENSOR)])
        (q,) = group.op("cast", (gs,), [TensorType(shape, INT4, Scale.TENSOR)])
        got, want = pointwise(group, (gs, q), random_inputs(group.inputs, given={"unit": unit}))
        same(got[gs.name], want[gs.name])
        same(got[q.name], want[q.name])


@pytest.mark.parametrize("name", sorted(n for n, f in FORMATS.items() if f.is_coded))
def test_cast_and_back(name: str) -> None:
    f = FORMATS[name]
    levels = np.array(f.levels(), np.float32)
    middles = (levels[:-1] + levels[1:]) / 2
    near = [np.nextafter(middles, np.float32(side)) for side in (-np.inf, np.inf)]
    edges = [np.inf, -np.inf, np.nan, -np.nan, 0.0, -0.0, 1e30, -1e30, 1e-30, -1e-30]
    x = np.concatenate([levels, middles, *near, np.array(edges, np.float32)]).astype(np.float32)
    group = Group()
    v = group.input("x", TensorType((1, len(x)), F32))
    (q,) = group.op("cast", (v,), [TensorType(v.type.shape, f, Scale.TENSOR)])
    (y,) = group.op("dequantize", (q,), [v.type])
    got, want = pointwise(group, (q, y), random_inputs(group.inputs, given={"x": x[None]}))
    same(got[q.name], want[q.name])
    same(got[y.name], want[y.name])


@pytest.mark.parametrize(("a", "b"), list(permutations([F32, BF16, F16], 2)))
def test_cast_of_carriers(a: Format, b: Format) -> None:
    shape, group = (3, 7, 5), Group()
    x = group.input("x", TensorType(shape, a))
    (y,) = group.op("cast", (x,), [TensorType(shape, b)])
    wide = np.random.default_rng(0).normal(size=shape) * np.exp2(
        np.random.default_rng(1).integers(-30, 20, shape)
    )
    order = lambda v: Order.ROWS if v is x else Order.PIXELS  # noqa: E731
    got, want = pointwise(group, (y,), random_inputs(group.inputs, given={"x": wide}), order)
    same(got[y.name], want[y.name])


@pytest.mark.parametrize("f", [f for f in FORMATS.values() if f.is_log], ids=str)
@pytest.mark.parametrize(
    ("midpoint", "tie", "underflow"),
    [
        ("arithmetic", "up", "uniform"),
        ("arithmetic", "down", "nearest"),
        ("harmonic", "down", "uniform"),
        ("harmonic", "up", "nearest"),
    ],
)
def test_round_log(f: Format, midpoint: str, tie: str, underflow: str) -> None:
    arithmetic, harmonic = 2 * f.radix / (1 + f.radix), (1 + f.radix) / 2
    up = arithmetic if midpoint == "arithmetic" else harmonic
    levels = np.array([v for v in f.levels() if v > 0])
    edges = np.concatenate([levels, levels / up, levels / 2]).astype(np.float32)
    near = [np.nextafter(edges, np.float32(side)) for side in (0, np.inf)]
    x = np.concatenate([edges, *near, np.array([0, 1e-40, 1e30, np.inf, np.nan], np.float32)])
    random = np.random.default_rng(0).integers(0, 0x7F800000, 2000).astype(np.int32)
    x = np.concatenate([x, -x, random.view(np.float32)]).astype(np.float32)
    group = Group()
    g = group.input("g", TensorType((1, len(x)), F32, Scale.POW2))
    (q,) = group.op(
        "round_log",
        (g,),
        [TensorType(g.type.shape, f, Scale.POW2)],
        up=up,
        tie=tie,
        underflow=underflow,
    )
    got, want = pointwise(group, (q,), random_inputs(group.inputs, given={"g": x[None]}))
    same(got[q.name], want[q.name])


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *((f.name, (2, 16, 3, 3)) for f in MADE["round_stochastic"]),
        ("fp4.even", (3, 13, 2, 1)),
        ("fp8.152", (5, 7)),
        ("int4", (3, 13, 2, 1)),
    ],
)
def test_round_stochastic(name: str, shape: Shape) -> None:
    f, group = FORMATS[name], Group()
    g = group.input("g", TensorType(shape, F32, Scale.POW2))
    seed, step = (group.input(n, TensorType((), I64)) for n in ("seed", "step"))
    (q,) = group.op(
        "round_stochastic", (g, seed, step), [TensorType(shape, f, Scale.POW2)], salt=77
    )
    rng = np.random.default_rng(0)
    x = (rng.normal(size=shape) * f.max * rng.choice([0.01, 0.1, 1], shape)).astype(np.float32)
    given = {"g": x, "seed": 2**40 + 5, "step": 9}
    got, want = pointwise(group, (q,), random_inputs(group.inputs, given=given))
    same(got[q.name], want[q.name])


@pytest.mark.parametrize("to", ["fp16.169", "f16"])
@pytest.mark.parametrize("shape", [(1,), (3, 13, 2, 1), (2, 16, 3, 3)])
def test_round_float(to: str, shape: Shape) -> None:
    group = Group()
    x = group.input("x", TensorType(shape, F32))
    seed, step = (group.input(n, TensorType((), I64)) for n in ("seed", "step"))
    (y,) = group.op("round_float", (x, seed, step), [x.type], to=to, salt=5)
    rng = np.random.default_rng(0)
    size = 2.0 ** rng.uniform(-42, 36, shape)
    numbers = (rng.choice([-1.0, 1.0], shape) * size).astype(np.float32)
    edges = [np.nan, -np.inf, 0.0, -0.0, 2.0**-31, 2.0**-14, 65504.0, 1e-45]
    numbers.ravel()[1 : 1 + len(edges)] = edges[: numbers.size - 1]
    given: dict[str, np.ndarray | float] = {"x": numbers, "seed": 2**40 + 5, "step": 9}
    got, want = pointwise(group, (y,), random_inputs(group.inputs, given=given))
    same(got[y.name], want[y.name])

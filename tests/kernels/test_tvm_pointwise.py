"""Fused pointwise kernels against the reference: codes and carriers bit for bit."""

from __future__ import annotations

import re
from typing import cast

import numpy as np
import pytest

from quatrain.compiler.formats import (
    BF16,
    F32,
    FP4_EVEN,
    FP4_ODD,
    FP8_152,
    UINT2,
    UINT4,
)
from quatrain.compiler.ir import Attr, Value
from quatrain.compiler.types import Scale, Shape, TensorType
from quatrain.targets.cpu.build import Compiled, compile_kernels
from quatrain.targets.cpu.info import detect
from quatrain.targets.cpu.pointwise.kernel import pointwise_kernel
from quatrain.targets.plan.layout import Order

from ..cases.compiled import compiled
from ..cases.machine import Cpu
from ..cases.one_kernel import Group, close, pointwise, random_inputs, same

pytestmark = [pytest.mark.tvm, pytest.mark.usefixtures("together")]

CHANNELS = [1, 3, 13, 16, 28, 32, 33, 48, 64]
# Sums of up to 32 f32 numbers before they go to f64: at most 32 half ulps of the sum of sizes.
SUMS = 32 * 2.0**-24


def images(channels: int, batch: int = 3, size: int = 5) -> Shape:
    return (batch, channels, size, size)


def parameters(group: Group, channels: int, names: str) -> list[Value]:
    return [group.input(n, TensorType((channels,), F32)) for n in names.split()]


@pytest.mark.parametrize("channels", CHANNELS)
def test_norm_relu_quantize(channels: int) -> None:
    shape, group = images(channels), Group()
    x = group.input("x", TensorType(shape, BF16))
    ps = parameters(group, channels, "mean var gamma beta")
    clip = group.input("clip", TensorType((), F32))
    (y,) = group.op("batch_norm", (x, *ps), [x.type], eps=1e-5)
    (r,) = group.op("relu", (y,), [x.type])
    (q,) = group.op("quantize", (r, clip), [TensorType(shape, UINT4, Scale.TENSOR)])
    got, want = pointwise(group, (y, q), random_inputs(group.inputs))
    same(got[q.name], want[q.name])
    same(got[y.name], want[y.name])


@pytest.mark.parametrize("channels", CHANNELS)
def test_residual_with_mask(channels: int) -> None:
    shape, group = images(channels, 2, 3), Group()
    x, z = (group.input(n, TensorType(shape, BF16)) for n in "xz")
    ps = parameters(group, channels, "mean var gamma beta")
    clip = group.input("clip", TensorType((), F32))
    (y,) = group.op("batch_norm", (x, *ps), [x.type], eps=1e-5)
    (s,) = group.op("add", (y, z), [x.type])
    (r,) = group.op("relu", (s,), [x.type])
    (m,) = group.op("clip_region", (r, clip), [TensorType(shape, UINT2)], signed=False)
    (q,) = group.op("quantize", (r, clip), [TensorType(shape, UINT4, Scale.TENSOR)])
    got, want = pointwise(group, (r, m, q), random_inputs(group.inputs))
    for v in (r, m, q):
        same(got[v.name], want[v.name])


@pytest.mark.parametrize(("channels", "signed"), [*((c, c % 2 > 0) for c in CHANNELS), (16, True)])
def test_backward_with_statistics(channels: int, signed: bool) -> None:
    shape, group = images(channels, 5, 4), Group()
    g, x = (group.input(n, TensorType(shape, BF16)) for n in "gx")
    ps = parameters(group, channels, "mean var gamma beta")
    clip = group.input("clip", TensorType((), F32))
    (y,) = group.op("batch_norm", (x, *ps), [x.type], eps=1e-5)
    (r,) = group.op("relu", (y,), [x.type])
    (m,) = group.op("clip_region", (r, clip), [TensorType(shape, UINT2)], signed=signed)
    dx, dclip = group.op("pact_grad", (g, m), [g.type, TensorType((), F32)], signed=signed)
    (dr,) = group.op("relu_grad", (dx, y), [g.type])
    vector = TensorType((channels,), F32)
    stats = group.op("batch_norm_grad_stats", (dr, x, ps[0], ps[1]), [vector, vector], eps=1e-5)
    got, want = pointwise(group, (dr, dclip, *stats), random_inputs(group.inputs))
    same(got[dr.name], want[dr.name])
    for v in (dclip, *stats):
        size = np.abs(want[dr.name].numbers).sum() / (1 if v is dclip else channels)
        close(got[v.name], want[v.name], 1e-6, 8 * SUMS * float(size))


@pytest.mark.parametrize("channels", CHANNELS)
def test_two_phase_rounding(channels: int) -> None:
    shape, group = images(channels), Group()
    g, x = (group.input(n, TensorType(shape, BF16)) for n in "gx")
    ps = parameters(group, channels, "mean var gamma dgamma dbeta")
    s = group.input("s", TensorType((), F32))
    (dx,) = group.op("batch_norm_input_grad", (g, x, *ps), [g.type], eps=1e-5)
    (gs,) = group.op("grad_scale", (dx, s), [TensorType(shape, BF16, Scale.POW2)])
    (m,) = group.op("amax", (gs,), [TensorType((), F32)])
    words: dict[str, Attr] = {"tie": "up", "underflow": "uniform", "up": 1.6}
    (even,) = group.op("round_log", (gs,), [TensorType(shape, FP4_EVEN, Scale.POW2)], **words)
    (odd,) = group.op("round_log", (gs,), [TensorType(shape, FP4_ODD, Scale.POW2)], **words)
    got, want = pointwise(group, (m, even, odd), random_inputs(group.inputs, given={"s": 4.0}))
    for v in (m, even, odd):
        same(got[v.name], want[v.name])


@pytest.mark.parametrize("channels", CHANNELS)
def test_fp8_gradient(channels: int) -> None:
    shape, group = images(channels), Group()
    g, x = (group.input(n, TensorType(shape, F32)) for n in "gx")
    ps = parameters(group, channels, "mean var gamma dgamma dbeta")
    s = group.input("s", TensorType((), F32))
    (dx,) = group.op("batch_norm_input_grad", (g, x, *ps), [g.type], eps=1e-5)
    (gs,) = group.op("grad_scale", (dx, s), [TensorType(shape, F32, Scale.POW2)])
    (q,) = group.op("cast", (gs,), [TensorType(shape, FP8_152, Scale.POW2)])
    (m,) = group.op("amax", (gs,), [TensorType((), F32)])
    got, want = pointwise(group, (q, m), random_inputs(group.inputs, given={"s": 1024.0}))
    for v in (q, m):
        same(got[v.name], want[v.name])


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("s", [0.0, 0.5])
@pytest.mark.parametrize("largest", [1.0, float("inf"), float("nan")])
def test_the_first_maximum(channels: int, s: float, largest: float) -> None:
    shape, group = images(channels), Group()
    g = group.input("g", TensorType(shape, BF16))
    state = group.input("s", TensorType((), F32))
    (doubled,) = group.op("scale", (g,), [g.type], factor=2.0)
    (m,) = group.op("amax_first", (doubled, state), [TensorType((), F32)])
    given: dict[str, np.ndarray | float] = {"s": s}
    if largest != 1.0:
        given["g"] = np.full(shape, -largest)
    got, want = pointwise(group, (m,), random_inputs(group.inputs, given=given))
    same(got[m.name], want[m.name])
    assert s == 0.0 or got[m.name].numbers == 0.0
    # Beside a result of every step.
    got, want = pointwise(group, (doubled, m), random_inputs(group.inputs, given=given))
    for v in (doubled, m):
        same(got[v.name], want[v.name])


@pytest.mark.parametrize("channels", [1, 3, 16, 33])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_batch_stats(channels: int, offset: float) -> None:
    shape, group = images(channels, 7, 9), Group()
    x = group.input("x", TensorType(shape, F32))
    vector = TensorType((channels,), F32)
    mean, var = group.op("batch_stats", (x,), [vector, vector])
    given = {"x": np.random.default_rng(1).normal(offset, 1, shape).astype(np.float32)}
    got, want = pointwise(group, (mean, var), random_inputs(group.inputs, given=given))
    close(got[mean.name], want[mean.name], 1e-6, 1e-7)
    close(got[var.name], want[var.name], 1e-6)


def test_statistics_do_not_depend_on_the_number_of_rows_of_other_blocks() -> None:
    # 4000 rows are several blocks and stripes, the last of each not full.
    shape, group = (10, 16, 20, 20), Group()
    x = group.input("x", TensorType(shape, BF16))
    vector = TensorType((16,), F32)
    mean, var = group.op("batch_stats", (x,), [vector, vector])
    (total,) = group.op("sum_channels", (x,), [vector])
    got, want = pointwise(group, (mean, var, total), random_inputs(group.inputs))
    close(got[var.name], want[var.name], 1e-6)
    close(got[mean.name], want[mean.name], 1e-6, 1e-7)
    close(got[total.name], want[total.name], 1e-6, 1e-3)


@pytest.mark.parametrize(
    ("shape", "order"),
    [
        ((), Order.ROWS),
        ((5,), Order.ROWS),
        ((70, 17), Order.ROWS),
        ((2, 3, 4, 5), Order.ROWS),
        ((2, 3, 4, 5), Order.PIXELS),
    ],
)
def test_flat_ops(shape: Shape, order: Order) -> None:
    group = Group()
    a, b = (group.input(n, TensorType(shape, F32)) for n in "ab")
    s = group.input("s", TensorType((), F32))
    (p,) = group.op("mul", (a, b), [a.type])
    (d,) = group.op("add", (p, b), [a.type])
    (e,) = group.op("sub", (d, a), [a.type])
    (f,) = group.op("scale", (e,), [a.type], factor=0.3)
    (h,) = group.op("clamp_min", (f,), [TensorType(shape, BF16)], low=-0.1)
    (gs,) = group.op("grad_scale", (f, s), [TensorType(shape, F32, Scale.POW2)])
    (m,) = group.op("amax", (gs,), [TensorType((), F32)])
    inputs = random_inputs(group.inputs, given={"s": 0.5})
    got, want = pointwise(group, (d, h, gs, m), inputs, lambda v: order)
    for v in (d, h, gs, m):
        same(got[v.name], want[v.name])


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_amax_of_odd_numbers(value: float) -> None:
    x = np.zeros((3, 40), np.float32)
    x[1, 30] = value
    group = Group()
    g = group.input("g", TensorType(x.shape, F32))
    (m,) = group.op("amax", (g,), [TensorType((), F32)])
    got, want = pointwise(group, (m,), random_inputs(group.inputs, given={"g": x}))
    same(got[m.name], want[m.name])


@pytest.mark.parametrize(
    ("small", "dims"),
    [((3, 13), (2, 3)), ((3, 13, 1, 1), (2, 3)), ((), (0, 1, 2, 3)), ((13, 5), (0, 2))],
)
def test_broadcast_inside(small: Shape, dims: Shape) -> None:
    shape, group = (3, 13, 4, 5), Group()
    p = group.input("p", TensorType(small, F32))
    y = group.input("y", TensorType(shape, BF16))
    (b,) = group.op("broadcast", (p,), [TensorType(shape, F32)], dims=dims)
    (s,) = group.op("scale", (b,), [TensorType(shape, BF16)], factor=1 / 20)
    (d,) = group.op("relu_grad", (s, y), [y.type])
    got, want = pointwise(group, (d,), random_inputs(group.inputs))
    same(got[d.name], want[d.name])


@pytest.mark.parametrize(("channels", "signed"), [(1, True), (13, False), (32, True)])
def test_pact_plus(channels: int, signed: bool) -> None:
    shape, group = images(channels), Group()
    g, x = (group.input(n, TensorType(shape, BF16)) for n in "gx")
    clip = group.input("clip", TensorType((), F32))
    dx, dclip = group.op(
        "pact_plus_grad",
        (g, x, clip),
        [g.type, TensorType((), F32)],
        top=7 if signed else 15,
        signed=signed,
    )
    got, want = pointwise(group, (dx, dclip), random_inputs(group.inputs))
    same(got[dx.name], want[dx.name])
    size = float(np.abs(want["g"].numbers).sum())
    close(got[dclip.name], want[dclip.name], 1e-6, 8 * SUMS * size)


def test_eval_gradient_and_bias() -> None:
    shape, group = images(27), Group()
    g = group.input("g", TensorType(shape, BF16))
    var, gamma, bias = parameters(group, 27, "var gamma bias")
    (dx,) = group.op("batch_norm_eval_grad", (g, var, gamma), [g.type], eps=1e-3)
    (y,) = group.op("add_bias", (dx, bias), [TensorType(shape, F32)])
    (s,) = group.op("sum_channels", (y,), [TensorType((27,), F32)])
    got, want = pointwise(group, (dx, y, s), random_inputs(group.inputs))
    same(got[dx.name], want[dx.name])
    same(got[y.name], want[y.name])
    close(got[s.name], want[s.name], 1e-6, 1e-4)


def test_nothing_is_fused_or_approximated() -> None:
    group = Group()
    g, x = (group.input(n, TensorType(images(32), BF16)) for n in "gx")
    ps = parameters(group, 32, "mean var gamma dgamma dbeta")
    (dx,) = group.op("batch_norm_input_grad", (g, x, *ps), [g.type], eps=1e-5)
    orders = dict.fromkeys((g, x, *ps, dx), Order.PIXELS)
    kernel = pointwise_kernel(tuple(group.ops), (dx,), orders, detect())
    assembly = cast(Compiled, compiled(kernel, Cpu(detect()))).assembly
    if "vmulps" not in assembly:
        pytest.skip("no x86 with AVX")
    # A fused product differs in the last bit from the reference, and so does an estimate.
    assert not re.search(r"vfn?m(add|sub)\w*ps|rsqrt|vrcp", assembly)
    assert re.search(r"vsqrtps", assembly) and re.search(r"vdivps", assembly)


def test_equal_groups_have_equal_specs() -> None:
    def spec(shape: Shape) -> object:
        group = Group()
        x = group.input("x", TensorType(shape, BF16))
        (y,) = group.op("relu", (x,), [x.type])
        orders = dict.fromkeys((x, y), Order.PIXELS)
        return pointwise_kernel(tuple(group.ops), (y,), orders, detect()).spec

    assert spec((2, 3)) == spec((2, 3)) and repr(spec((2, 3))) == repr(spec((2, 3)))
    assert spec((2, 3)) != spec((3, 2))


def test_a_zero_of_another_sign_is_another_kernel() -> None:
    group = Group()
    x = group.input("x", TensorType((2,), F32))
    made = [*group.op("shift", (x,), [x.type], by=0.0)]
    made += group.op("shift", (x,), [x.type], by=-0.0)
    orders = dict.fromkeys((x, *made), Order.ROWS)
    kernels = [pointwise_kernel((op,), op.results, orders, detect()) for op in group.ops]
    for kernel, one in zip(kernels, compile_kernels(kernels, detect()), strict=True):
        out = np.ones(2, np.float32)
        one(np.full(2, -0.0, np.float32), out)
        assert np.signbit(out).all() == np.signbit(kernel.ops[0].float_attr("by"))

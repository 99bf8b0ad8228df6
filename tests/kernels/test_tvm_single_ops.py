"""Kernels of single ops against the reference: exact where it is, else by a stated tolerance."""

from __future__ import annotations

import numpy as np
import pytest

from quatrain.compiler.formats import (
    BF16,
    F16,
    F32,
    I32,
    I64,
    INT4,
    UINT2,
    UINT8,
    Format,
)
from quatrain.compiler.ir import Attr
from quatrain.compiler.ir.ops import OPS, Trait, having
from quatrain.compiler.types import Scale, Shape, TensorType
from quatrain.targets.cpu.dialect import LLVM
from quatrain.targets.cpu.single_build import BUILDERS
from quatrain.targets.plan.layout import Order
from quatrain.targets.tir.pointwise.ops import CHANNELS, RULES, SCALARS
from quatrain.targets.tir.pointwise.tails import CHANNEL_TAILS, LANE_TAILS

from ..cases.one_kernel import Group, close, random_inputs, same, single
from ..cases.op_examples import BORDERS, OF_ONE_KERNEL

pytestmark = [pytest.mark.tvm, pytest.mark.usefixtures("together")]

# One rounding to f32 of sums, exponentials and logarithms in f64.
ROUNDING = 2.0**-23
ORDERS = list(Order)
PLANES = [(2, 3, 7, 7), (1, 16, 6, 5), (2, 33, 1, 1), (1, 1, 9, 4)]


def test_every_op_has_a_kernel() -> None:
    pointwise, tails, alone = having(Trait.POINTWISE), having(Trait.TAIL), set(BUILDERS)
    assert pointwise | tails | alone == OF_ONE_KERNEL | BORDERS
    assert not (pointwise & tails or (pointwise | tails) & alone)
    assert tails == {*CHANNEL_TAILS, *LANE_TAILS}
    made_whole = {kind for kind in tails if OPS[kind].makes_whole}
    assert set(RULES) == pointwise | made_whole
    assert {*SCALARS, *CHANNELS} <= set(RULES) | tails


def f32(*shape: int) -> TensorType:
    return TensorType(shape, F32)


@pytest.mark.parametrize("shape", PLANES)
@pytest.mark.parametrize(("order", "f"), [(Order.ROWS, F32), (Order.PIXELS, BF16)])
def test_max_pool(shape: Shape, order: Order, f: Format) -> None:
    settings: dict[str, Shape] = {
        "kernel": (3, 2),
        "stride": (2, 1),
        "padding": (1, 0),
        "dilation": (1, 1),
    }
    if shape[2] == 1:
        settings = {**settings, "kernel": (1, 1)}
    places = [(n + 2 * p - k) // s + 1 for n, p, k, s in _sides(shape, settings)]
    out = TensorType((*shape[:2], *places), f)
    group = Group()
    x = group.input("x", TensorType(shape, f))
    group.op("max_pool2d", (x,), [out, TensorType(out.shape, UINT8)], **settings)
    given = {"x": np.random.default_rng(3).integers(-2, 3, shape)}  # many ties
    got, want = single(group, random_inputs(group.inputs, given=given), lambda v: order)
    for name in got:
        same(got[name], want[name])

    back = Group()
    g = back.input("g", out)
    where = back.input("where", TensorType(out.shape, UINT8))
    back.op("max_pool2d_grad", (g, where), [TensorType(shape, f)], **settings)
    inputs = random_inputs(back.inputs)
    inputs["where"] = want[group.ops[0].results[1].name]
    got, want = single(back, inputs, lambda v: order)
    for name in got:
        same(got[name], want[name])


def _sides(shape: Shape, settings: dict[str, Shape]) -> list[tuple[int, int, int, int]]:
    lists = (shape[2:], settings["padding"], settings["kernel"], settings["stride"])
    return list(zip(*lists, strict=True))


def test_max_pool_of_nan_and_dilation() -> None:
    group = Group()
    x = group.input("x", f32(1, 5, 8, 8))
    settings = {"kernel": (2, 2), "stride": (1, 1), "padding": (1, 1), "dilation": (2, 2)}
    group.op("max_pool2d", (x,), [f32(1, 5, 8, 8), TensorType((1, 5, 8, 8), I32)], **settings)
    data = np.random.default_rng(0).normal(size=x.type.shape)
    data[0, 1:3, 2:5, 3] = np.nan
    data[0, 4] = -np.inf
    got, want = single(group, random_inputs(group.inputs, given={"x": data}))
    for name in got:
        same(got[name], want[name])


@pytest.mark.parametrize("shape", PLANES)
@pytest.mark.parametrize(("include", "divisor"), [(False, 0), (True, 0), (False, 3)])
def test_avg_pool(shape: Shape, include: bool, divisor: int) -> None:
    pools: dict[str, Shape] = {"kernel": (3, 2), "stride": (2, 2), "padding": (1, 0)}
    if shape[2] == 1:
        pools = {**pools, "kernel": (1, 1), "padding": (0, 0)}
    # Ceil mode: places may reach beyond the padding.
    places = [-(-(n + 2 * p - k) // s) + 1 for n, p, k, s in _sides(shape, pools)]
    settings: dict[str, Attr] = {**pools, "count_include_pad": include, "divisor": divisor}
    out = TensorType((*shape[:2], *places), BF16)
    group, back = Group(), Group()
    x = group.input("x", TensorType(shape, BF16))
    group.op("avg_pool2d", (x,), [out], **settings)
    g = back.input("g", out)
    back.op("avg_pool2d_grad", (g,), [TensorType(shape, BF16)], **settings)
    for each in (group, back):
        got, want = single(each, random_inputs(each.inputs))
        for name in got:
            same(got[name], want[name])


@pytest.mark.parametrize("shape", PLANES)
@pytest.mark.parametrize("places", [(1, 1), (5, 2)])
@pytest.mark.parametrize("kind", ["avg", "max"])
def test_adaptive_pools(shape: Shape, places: Shape, kind: str) -> None:
    out = TensorType((*shape[:2], *places), F32)
    where = TensorType(out.shape, I32)
    group, back = Group(), Group()
    x = group.input("x", TensorType(shape, F32))
    g = back.input("g", out)
    if kind == "avg":
        group.op("adaptive_avg_pool2d", (x,), [out])
        back.op("adaptive_avg_pool2d_grad", (g,), [x.type])
    else:
        group.op("adaptive_max_pool2d", (x,), [out, where])
        back.op("adaptive_max_pool2d_grad", (g, back.input("where", where)), [x.type])
    got, want = single(group, random_inputs(group.inputs))
    for name in got:
        close(got[name], want[name], ROUNDING, 1e-9) if kind == "avg" else same(
            got[name], want[name]
        )
    inputs = random_inputs(back.inputs)
    if kind == "max":
        inputs["where"] = want[group.ops[0].results[1].name]
    got, want = single(back, inputs)
    for name in got:
        same(got[name], want[name])


MOVES: dict[str, tuple[tuple[Shape, ...], Shape, dict[str, Attr]]] = {
    "permute": (((2, 3, 4, 5),), (5, 3, 2, 4), {"dims": (3, 1, 0, 2)}),
    "permute2": (((7, 13),), (13, 7), {"dims": (1, 0)}),
    "cat": (((2, 3, 4, 5), (2, 16, 4, 5), (2, 1, 4, 5)), (2, 20, 4, 5), {"dim": 1}),
    "cat0": (((2, 3), (1, 3)), (3, 3), {"dim": 0}),
    "slice": (((2, 33, 3, 3),), (2, 16, 3, 3), {"dim": 1, "start": 1, "step": 2}),
    "slice3": (((2, 7, 3, 9),), (2, 7, 3, 3), {"dim": 3, "start": 2, "step": 3}),
    "slice_grad": (((2, 16, 3, 3),), (2, 33, 3, 3), {"dim": 1, "start": 1, "step": 2}),
    "pad": (((2, 16, 3, 3),), (2, 32, 5, 4), {"before": (0, 8, 1, 0), "value": -1.5}),
    "view": (((2, 3, 4, 5),), (2, 60), {}),
    "view_up": (((2, 60),), (2, 3, 4, 5), {}),
    "view_across": (((2, 12, 4, 5),), (2, 4, 12, 5), {}),
    "view_scalar": (((1, 1),), (), {}),
}


@pytest.mark.parametrize("case", sorted(MOVES))
@pytest.mark.parametrize("order", ORDERS)
def test_moves(case: str, order: Order) -> None:
    shapes, result, attributes = MOVES[case]
    group = Group()
    inputs = [group.input(f"x{i}", TensorType(s, BF16)) for i, s in enumerate(shapes)]
    f = F32 if case in ("permute", "cat", "pad") else BF16
    group.op(
        case.rstrip("0123456789").split("_")[0] if case != "slice_grad" else case,
        inputs,
        [TensorType(result, f)],
        **attributes,
    )
    last = group.ops[0].result
    mixed = lambda v: order if v is last else Order.PIXELS  # noqa: E731
    got, want = single(group, random_inputs(group.inputs), mixed)
    same(got[last.name], want[last.name])


@pytest.mark.parametrize(
    ("a", "b"),
    [((2, 13, 1, 1), (2, 13)), ((2, 3, 2, 3), (2, 18)), ((4, 7), (2, 2, 7)), ((2, 5, 3, 1), (30,))],
)
@pytest.mark.parametrize("f", [INT4, UINT2, UINT8])
def test_view_of_codes(a: Shape, b: Shape, f: Format) -> None:
    group = Group()
    x = group.input("x", TensorType(a, f, Scale.TENSOR))
    (y,) = group.op("view", (x,), [TensorType(b, f, Scale.TENSOR)])
    got, want = single(group, random_inputs(group.inputs))
    same(got[y.name], want[y.name])


@pytest.mark.parametrize("kind", ["sum", "mean"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("shape", "dims"),
    [
        ((3, 16, 4, 5), (2, 3)),
        ((3, 7, 4, 5), (0, 1, 2, 3)),
        ((3, 33, 4), (1,)),
        ((2, 41, 3, 35), (1,)),
        ((4, 3, 41), (2,)),
        ((70, 600), (0, 1)),
        ((5, 13), (0,)),
        ((5,), (0,)),
    ],
)
def test_sums(kind: str, order: Order, shape: Shape, dims: Shape) -> None:
    keepdim = (kind == "mean") == (order is Order.ROWS)
    left = [1 if d in dims else n for d, n in enumerate(shape) if keepdim or d not in dims]
    group = Group()
    x = group.input("x", TensorType(shape, F32))
    (y,) = group.op(kind, (x,), [f32(*left)], dims=dims, keepdim=keepdim)
    got, want = single(group, random_inputs(group.inputs), lambda v: order)
    close(got[y.name], want[y.name], ROUNDING, 1e-12)


def test_constant() -> None:
    group = Group()
    (y,) = group.op("constant", (), [f32(3, 5)], value=1.25)
    got, want = single(group, {})
    same(got[y.name], want[y.name])


@pytest.mark.parametrize("shape", [(1, 1), (7, 10), (3, 33), (2, 5, 3, 3), (40, 1000)])
def test_log_softmax(shape: Shape) -> None:
    group, back = Group(), Group()
    x = group.input("x", TensorType(shape, BF16))
    (y,) = group.op("log_softmax", (x,), [f32(*shape)])
    given = {"x": np.random.default_rng(0).normal(size=shape) * 20}
    got, want = single(group, random_inputs(group.inputs, given=given))
    close(got[y.name], want[y.name], 2 * ROUNDING, 1e-12)
    g, y0 = (back.input(n, f32(*shape)) for n in ("g", "y"))
    (dx,) = back.op("log_softmax_grad", (g, y0), [f32(*shape)])
    inputs = {**random_inputs(back.inputs), "y": want[y.name]}
    got, want = single(back, inputs)
    close(got[dx.name], want[dx.name], 2 * ROUNDING, 1e-9)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_log_softmax_of_odd_numbers(value: float) -> None:
    group = Group()
    x = group.input("x", f32(2, 9))
    (y,) = group.op("log_softmax", (x,), [f32(2, 9)])
    data = np.zeros((2, 9))
    data[1, 4] = value
    got, want = single(group, random_inputs(group.inputs, given={"x": data}))
    close(got[y.name], want[y.name], ROUNDING)


@pytest.mark.parametrize("shape", [(1, 1), (7, 10), (2, 5, 3, 3)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_nll_loss(shape: Shape, reduction: str) -> None:
    ignored = -100 if reduction == "sum" or shape == (1, 1) else 0
    words: dict[str, Attr] = {"reduction": reduction, "ignore_index": ignored}
    labels = TensorType((shape[0], *shape[2:]), I64)
    target = np.random.default_rng(0).integers(0, shape[1], labels.shape)
    group, back = Group(), Group()
    y, t = group.input("y", f32(*shape)), group.input("t", labels)
    group.op("nll_loss", (y, t), [f32(), f32()], **words)
    inputs = random_inputs(group.inputs, given={"t": target})
    got, want = single(group, inputs)
    for name in got:
        close(got[name], want[name], ROUNDING)
    g, t, count = back.input("g", f32()), back.input("t", labels), back.input("count", f32())
    (dy,) = back.op("nll_loss_grad", (g, t, count), [f32(*shape)], **words)
    got, want = single(back, random_inputs(back.inputs, given={"t": target}))
    same(got[dy.name], want[dy.name])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_mse_loss(order: Order, reduction: str) -> None:
    shape, group, back = (3, 5, 4, 7), Group(), Group()
    x, y = (group.input(n, TensorType(shape, BF16)) for n in "xy")
    (loss,) = group.op("mse_loss", (x, y), [f32()], reduction=reduction)
    mixed = lambda v: order if v.name == "y" else Order.PIXELS  # noqa: E731
    got, want = single(group, random_inputs(group.inputs), mixed)
    close(got[loss.name], want[loss.name], ROUNDING)
    g = back.input("g", f32())
    x, y = (back.input(n, TensorType(shape, BF16)) for n in "xy")
    (dx,) = back.op("mse_loss_grad", (g, x, y), [x.type], reduction=reduction)
    got, want = single(back, random_inputs(back.inputs), mixed)
    same(got[dx.name], want[dx.name])


@pytest.mark.parametrize("shape", [(), (3,), (64, 3, 3, 3), (200, 129), (40003,)])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("step", [0, 3])
def test_sgd(shape: Shape, nesterov: bool, step: int) -> None:
    group = Group()
    w, dw, m = (group.input(n, TensorType(shape, F32)) for n in ("w", "dw", "m"))
    count = group.input("step", TensorType((), I64))
    rest = [group.input(n, f32()) for n in ("lr", "momentum", "dampening", "decay")]
    group.op(
        "sgd", (w, dw, m, count, *rest), [w.type, w.type], nesterov=nesterov, maximize=step > 0
    )
    given = {"step": step, "lr": 0.1, "momentum": 0.9, "dampening": 0.2, "decay": 5e-4}
    inputs = random_inputs(group.inputs, given=given)
    mixed = lambda v: Order.PIXELS if v.name == "dw" else Order.ROWS  # noqa: E731
    for order in (lambda v: Order.ROWS, mixed):
        got, want = single(group, inputs, order)
        for name in got:
            same(got[name], want[name])


@pytest.mark.parametrize("size", [40, LLVM.streamed_bytes // 4 + 7])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("step", [0, 5])
def test_sgd_without_momentum(size: int, nesterov: bool, step: int) -> None:
    group = Group()
    w, dw, m = (group.input(n, f32(size)) for n in ("w", "dw", "m"))
    count = group.input("step", TensorType((), I64))
    rest = [group.input(n, f32()) for n in ("lr", "momentum", "dampening", "decay")]
    group.op("sgd", (w, dw, m, count, *rest), [w.type, w.type], nesterov=nesterov, maximize=False)
    given = {"step": step, "lr": 0.1, "momentum": 0.0, "dampening": 0.5, "decay": 0.0}
    got, want = single(group, random_inputs(group.inputs, given=given))
    for name in got:
        same(got[name], want[name])


def test_running_statistics() -> None:
    group, other = Group(), Group()
    old, new = (group.input(n, f32(33)) for n in ("old", "new"))
    group.op("running_stats", (old, new), [f32(33)], momentum=0.1, correction=1.0078125)
    old, new = (other.input(n, f32(33)) for n in ("old", "new"))
    count = other.input("n", TensorType((), I64))
    other.op("running_average", (old, new, count), [f32(33)], correction=1.01)
    for each in (group, other):
        got, want = single(each, random_inputs(each.inputs, given={"n": 7}))
        for name in got:
            same(got[name], want[name])


@pytest.mark.parametrize("shape", [(16, 3, 3, 3), (5, 33), (300, 70)])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("factors", [(12.035, 12.03), (1.0, 5.0)])
def test_sawb_clip(shape: Shape, per_channel: bool, factors: tuple[float, float]) -> None:
    group = Group()
    w = group.input("w", TensorType(shape, F32))
    clip = TensorType(shape[:1] if per_channel else (), F32)
    (y,) = group.op("sawb_clip", (w,), [clip], c1=factors[0], c2=factors[1])
    got, want = single(group, random_inputs(group.inputs), lambda v: Order.ROWS)
    close(got[y.name], want[y.name], ROUNDING)


@pytest.mark.parametrize("s", [0.0, 8.0])
@pytest.mark.parametrize("always", [False, True])
@pytest.mark.parametrize("largest", [0.0, 1e-30, 3.0, 64.0, 1e35, np.inf, np.nan])
def test_grad_scale_init(s: float, always: bool, largest: float) -> None:
    group = Group()
    scale, g = group.input("s", f32()), group.input("g", TensorType((3, 40), F16))
    if np.isfinite(largest) and largest > 100:
        g = group.inputs[1] = type(g)("g", f32(3, 40))
    (y,) = group.op("grad_scale_init", (scale, g), [f32()], top=64.0, always=always)
    data = np.zeros(g.type.shape)
    data[2, 39] = -largest
    got, want = single(group, random_inputs(group.inputs, given={"s": s, "g": data}))
    same(got[y.name], want[y.name])


@pytest.mark.parametrize("s", [1.0, 2.0**-100, 2.0**100])
@pytest.mark.parametrize("m", [0.0, 1.0, 32.0, 33.0, 64.0, 65.0, np.inf, np.nan])
def test_grad_scale_step(m: float, s: float) -> None:
    group = Group()
    scale, largest = group.input("s", f32()), group.input("m", f32())
    (y,) = group.op("grad_scale_step", (scale, largest), [f32()], top=64.0)
    got, want = single(group, random_inputs(group.inputs, given={"s": s, "m": m}))
    same(got[y.name], want[y.name])


@pytest.mark.parametrize("s", [65536.0, 3.0, 2.0**-126, 2.0**127])
@pytest.mark.parametrize("good", [0, 1, 2])
@pytest.mark.parametrize("m", [0.0, 1.0, 3e38, np.inf, np.nan])
@pytest.mark.parametrize("loss", [-1.0, np.inf, np.nan])
def test_loss_scale_step(loss: float, m: float, good: int, s: float) -> None:
    group = Group()
    scale, rest = group.input("s", f32()), group.input("x", TensorType((3, 9), F16))
    count = group.input("n", TensorType((), I64))
    lost, largest = group.input("loss", f32()), group.input("m", f32())
    options = {"growth": 2.0, "backoff": 0.3, "interval": 3}
    results = [f32(), count.type]
    made = group.op("loss_scale_step", (scale, count, lost, rest, largest), results, **options)
    given = {"s": s, "m": m, "n": good, "loss": loss}
    got, want = single(group, random_inputs(group.inputs, given=given))
    for y in made:
        same(got[y.name], want[y.name])
    assert np.isfinite(1 / got[made[0].name].numbers)

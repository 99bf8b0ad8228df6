"""Kernels of functions, choices, tables and other optimizers against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from quatrain.compiler.formats import BF16, F16, F32, I64, Format
from quatrain.compiler.ir import Value
from quatrain.compiler.types import Shape, TensorType
from quatrain.targets.plan.layout import Order

from ..cases.machine import kernel_of
from ..cases.one_kernel import (
    Group,
    close,
    pointwise,
    random_inputs,
    reference,
    run_kernel,
    same,
    single,
)

pytestmark = [pytest.mark.tvm, pytest.mark.usefixtures("together")]

ORDERS = list(Order)
FUNCTIONS = (
    "abs",
    "sign",
    "floor",
    "round",
    "sin",
    "cos",
    "sqrt",
    "exp",
    "expm1",
    "log",
    "log1p",
    "tanh",
    "sigmoid",
    "erf",
)
POWERS = (-2.0, -1.0, -0.5, 0.5, 1.7, 3.0, 64.0, 65.0, -3.3)
RELATIONS = ("lt", "le", "eq", "ne", "ge", "gt")
# NumPy's functions and ours err by some 1e-15, so that about one result in 10^7 lies so near the
# middle of two numbers of f32 that the two round apart, to neighbours.
NEIGHBOUR = 2.0**-22


def f32(*shape: int) -> TensorType:
    """An f32 tensor."""
    return TensorType(shape, F32)


def every_bf16() -> np.ndarray:
    """All numbers of bf16 with infinities, zeros of both signs, NaN, and some between them."""
    whole = (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32)
    rng = np.random.default_rng(0)
    return np.concatenate([whole, (rng.normal(size=5003) * 4).astype(np.float32)])


def check_function(kind: str, **attributes: float) -> None:
    """All numbers, in f32."""
    numbers, group = every_bf16(), Group()
    x = group.input("x", f32(numbers.size))
    (y,) = group.op(kind, (x,), [x.type], **attributes)
    got, want = pointwise(group, [y], random_inputs(group.inputs, given={"x": numbers}))
    a, b = got[y.name].numbers, want[y.name].numbers
    with np.errstate(invalid="ignore"):
        near = np.abs(a - b) <= NEIGHBOUR * np.abs(b)
    equal = (a == b) | (np.isnan(a) & np.isnan(b))
    assert (equal | near).all()
    assert (~equal).sum() <= 2


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_functions_of_all_numbers(kind: str) -> None:
    check_function(kind)


@pytest.mark.parametrize("exponent", POWERS)
def test_powers_of_all_numbers(exponent: float) -> None:
    check_function("power", exponent=exponent)


@pytest.mark.parametrize("f", [F32, BF16])
@pytest.mark.parametrize("shape", [(3, 33, 5, 7), (13,), (1, 1, 1, 1)])
def test_choices(f: Format, shape: Shape) -> None:
    group, type_ = Group(), TensorType(shape, f)
    a, b = (group.input(n, type_) for n in "ab")
    made: list[Value] = []
    for relation in RELATIONS:
        (c,) = group.op("compare", (a, b), [type_], relation=relation)
        (d,) = group.op("compare_to", (a,), [type_], relation=relation, value=0.0)
        made += group.op("where", (c, a, b), [type_])
        made += group.op("masked", (d, b), [type_], value=-float("inf"))
    for kind in ("maximum", "minimum", "div"):
        made += group.op(kind, (a, b), [type_])
    made += group.op("clamp_max", (a,), [type_], high=0.25)
    made += group.op("within", (a,), [type_], low=-0.5, high=0.25)
    made += group.op("shift", (b,), [type_], by=0.3)
    inputs = random_inputs(group.inputs)
    inputs["a"].numbers.reshape(-1)[0] = np.nan
    got, want = pointwise(group, made, inputs)
    for v in made:
        same(got[v.name], want[v.name])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", [(3, 5, 7, 2), (40, 33), (7,)])
def test_random_masks_do_not_depend_on_the_order_in_memory(order: Order, shape: Shape) -> None:
    group = Group()
    seed, step = (group.input(n, TensorType((), I64)) for n in ("seed", "step"))
    (m,) = group.op("random_mask", (seed, step), [f32(*shape)], keep=0.7, salt=99)
    inputs = random_inputs(group.inputs, given={"seed": 5, "step": 3})
    got, want = pointwise(group, [m], inputs, lambda v: order)
    same(got[m.name], want[m.name])


def test_random_masks_keep_their_share() -> None:
    group = Group()
    seed, step = (group.input(n, TensorType((), I64)) for n in ("seed", "step"))
    masks = [
        group.op("random_mask", (seed, step), [f32(100, 100)], keep=0.7, salt=salt)[0]
        for salt in (1, 2)
    ]
    made = reference(group.ops, random_inputs(group.inputs, given={"seed": 1, "step": 0}))
    one, two = (made[m.name].numbers for m in masks)
    # The standard deviation of a mean of 10^4 is below 0.005.
    assert abs(one.mean() - 0.7) < 0.02
    assert abs((one * two).mean() - 0.49) < 0.02


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dims", [(1,), (2, 3), (0, 3), (0, 1, 2, 3)])
def test_max(order: Order, keepdim: bool, dims: Shape) -> None:
    shape, group = (3, 41, 5, 7), Group()
    x = group.input("x", f32(*shape))
    made = tuple(1 if i in dims else n for i, n in enumerate(shape) if keepdim or i not in dims)
    (y,) = group.op("max", (x,), [f32(*made)], dims=dims, keepdim=keepdim)
    numbers = -np.abs(np.random.default_rng(0).normal(size=shape)) - 1
    numbers[1, 2, 3, 4] = np.nan
    inputs = random_inputs(group.inputs, given={"x": numbers})
    got, want = single(group, inputs, lambda v: order)
    same(got[y.name], want[y.name])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_resample(order: Order, dim: int) -> None:
    shape, group = [3, 17, 6, 7], Group()
    size, x = shape[dim], group.input("x", f32(*shape))
    shape[dim] = 4
    (y,) = group.op(
        "resample",
        (x,),
        [f32(*shape)],
        dim=dim,
        starts=(0, 1, 1, 3, 6),
        index=(0, size - 1, 0, 1, 1, 2),
        weights=(0.3, 0.1, 0.7, -1.0, 2.0, 0.5),
    )
    got, want = single(group, random_inputs(group.inputs), lambda v: order)
    same(got[y.name], want[y.name])


@pytest.mark.parametrize("f", [F32, BF16])
@pytest.mark.parametrize(("rows", "columns"), [(7, 1), (5, 33), (9, 200)])
@pytest.mark.parametrize("index", [(1,), (3, 13), (2, 3, 4)])
def test_embedding_and_its_gradient(f: Format, rows: int, columns: int, index: Shape) -> None:
    forward, back = Group(), Group()
    w, i = forward.input("w", f32(rows, columns)), forward.input("i", TensorType(index, I64))
    (y,) = forward.op("embedding", (w, i), [TensorType((*index, columns), f)])
    got, want = single(forward, random_inputs(forward.inputs))
    same(got[y.name], want[y.name])
    g, i = back.input("g", y.type), back.input("i", TensorType(index, I64))
    (dw,) = back.op("embedding_grad", (g, i), [w.type], padding_index=2)
    got, want = single(back, random_inputs(back.inputs))
    same(got[dw.name], want[dw.name])


@pytest.mark.parametrize("shape", [(3, 4), (2, 5, 7, 13), (1, 1)])
@pytest.mark.parametrize("diagonal", [-2, 0, 3])
def test_tables(shape: Shape, diagonal: int) -> None:
    group = Group()
    (m,) = group.op("triangle", (), [f32(*shape)], diagonal=diagonal)
    got, want = single(group, {})
    same(got[m.name], want[m.name])
    group = Group()
    (n,) = group.op("iota", (), [TensorType(shape[:1], I64)], start=diagonal, step=3)
    got, want = single(group, {})
    same(got[n.name], want[n.name])
    group = Group()
    labels = group.input("labels", TensorType((shape[0], *shape[2:]), I64))
    (h,) = group.op("one_hot", (labels,), [f32(*shape)], ignore_index=1)
    got, want = single(group, random_inputs(group.inputs))
    same(got[h.name], want[h.name])


@pytest.mark.parametrize("n", [0, 1, 5, 6, 1 << 40])
def test_counters(n: int) -> None:
    for kind, made, settings in (
        ("ratio", TensorType((), I64), {"by": 3}),
        ("turn", f32(), {"of": 3, "at": 2}),
        ("turn", f32(), {"of": 0, "at": 5}),
    ):
        group = Group()
        count = group.input("count", TensorType((), I64))
        (y,) = group.op(kind, (count,), [made], **settings)
        got, want = single(group, random_inputs(group.inputs, given={"count": n}))
        same(got[y.name], want[y.name])


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, 3e38, 0.0])
@pytest.mark.parametrize(
    ("f", "shapes", "place"),
    [
        (F32, ((),), 0),
        (F32, ((3,), (33,), (13, 7), ()), 1),
        (F32, ((1,), (2, 3, 5, 7)), 1),
        (BF16, ((), (27,), (28, 13), (40003,)), 3),
        (F16, ((16,), (1,)), 0),
    ],
)
def test_tally(bad: float, f: Format, shapes: tuple[Shape, ...], place: int) -> None:
    """The last number of one of several tensors is odd; all of them are looked at."""
    group = Group()
    n = group.input("n", TensorType((), I64))
    xs = [group.input(f"x{i}", TensorType(s, f)) for i, s in enumerate(shapes)]
    (m,) = group.op("tally", (n, *xs), [n.type])
    odd = np.zeros(shapes[place], np.float32)
    odd[(-1,) * odd.ndim] = bad
    sound = random_inputs(group.inputs, given={"n": 1 << 40})
    odds = random_inputs(group.inputs, given={"n": 5, f"x{place}": odd})
    finite = np.isfinite(odds[f"x{place}"].numbers).all()
    for inputs, after in ((sound, 1 << 40), (odds, 5 if finite else 6)):
        for order in (lambda v: Order.ROWS, lambda v: Order.PIXELS):
            got, want = single(group, inputs, order)
            same(got[m.name], want[m.name])
            assert int(want[m.name].data) == after


@pytest.mark.parametrize("f", [F32, BF16])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (3, 7, 13, 5), (2, 33, 28, 27), (7, 3, 1, 40)])
def test_matmul(f: Format, sizes: Shape) -> None:
    batch, m, k, n = sizes
    group = Group()
    a = group.input("a", TensorType((batch, m, k), f))
    b = group.input("b", TensorType((batch, k, n), f))
    (y,) = group.op("matmul", (a, b), [f32(batch, m, n)])
    orders = dict.fromkeys((a, b, y), Order.ROWS)
    inputs = random_inputs(group.inputs)
    got = run_kernel(kernel_of(group.ops, (y,), orders), inputs, orders)
    want = reference(group.ops, inputs)
    # Sums of up to 28 products of numbers of about 1, in f32.
    close(got[y.name], want[y.name], 2.0**-18, 28 * 2.0**-20)


@pytest.mark.parametrize("shape", [(), (3,), (16, 3, 3, 3), (40003,)])
@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("step", [0, 1000])
def test_adam(shape: Shape, decoupled: bool, step: int) -> None:
    group = Group()
    w, dw, m, v = (group.input(n, f32(*shape)) for n in ("w", "dw", "m", "var"))
    count = group.input("step", TensorType((), I64))
    names = ("lr", "one_minus_beta1", "one_minus_beta2", "eps", "decay")
    rest = [group.input(n, f32()) for n in names]
    made = group.op(
        "adam",
        (w, dw, m, v, count, *rest),
        [w.type] * 3,
        decoupled_weight_decay=decoupled,
        maximize=decoupled,
    )
    numbers = dict(zip(names, (1e-3, 0.1, 1e-3, 1e-8, 0.01), strict=True))
    inputs = random_inputs(group.inputs, given={"step": step, **numbers})
    mixed = lambda v: Order.PIXELS if v.name == "dw" else Order.ROWS  # noqa: E731
    for order in (lambda v: Order.ROWS, mixed):
        got, want = single(group, inputs, order)
        for value in made:
            same(got[value.name], want[value.name])


@pytest.mark.parametrize("shape", [(3,), (16, 3, 3, 3)])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_rmsprop(shape: Shape, momentum: float) -> None:
    group = Group()
    w, dw, s, m = (group.input(n, f32(*shape)) for n in ("w", "dw", "var", "m"))
    names = ("lr", "alpha", "eps", "momentum", "decay")
    rest = [group.input(n, f32()) for n in names]
    made = group.op("rmsprop", (w, dw, s, m, *rest), [w.type] * 3, maximize=False)
    numbers = dict(zip(names, (1e-3, 0.9, 1e-8, momentum, 0.01), strict=True))
    got, want = single(group, random_inputs(group.inputs, given=numbers), lambda v: Order.ROWS)
    for value in made:
        same(got[value.name], want[value.name])


def test_increment() -> None:
    group = Group()
    n = group.input("n", TensorType((), I64))
    (y,) = group.op("increment", (n,), [n.type])
    got, want = single(group, random_inputs(group.inputs, given={"n": 2**33}))
    same(got[y.name], want[y.name])


@pytest.mark.parametrize("x", [0.0, -0.0, 1.0, -1e-40, np.inf, np.nan])
def test_count_where(x: float) -> None:
    group = Group()
    n, where = group.input("n", TensorType((), I64)), group.input("x", f32())
    (y,) = group.op("count_where", (n, where), [n.type])
    got, want = single(group, random_inputs(group.inputs, given={"n": 2**33, "x": x}))
    same(got[y.name], want[y.name])

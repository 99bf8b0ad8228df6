"""Kernels that move by index, find places and compute with integers, against the reference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from quatrain.compiler.formats import BF16, F32, I32, I64, Format
from quatrain.compiler.ir import Attr
from quatrain.compiler.types import Shape, TensorType
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.plan.layout import Order

from ..cases.one_kernel import Array, Group, close, random_inputs, same, single

pytestmark = [pytest.mark.tvm, pytest.mark.usefixtures("together")]

# Sums in f32, of some dozen numbers, against sums in f64.
SUMS = 1e-5
SIZES = [(1, 1, 1), (1, 7, 3), (3, 13, 1), (2, 3, 27), (33, 28, 2)]


def typed(shape: Shape, format_: Format = F32) -> TensorType:
    return TensorType(shape, format_)


def made(
    kind: str,
    operands: dict[str, TensorType],
    result: TensorType,
    given: Mapping[str, Array] | None = None,
    order: Order = Order.ROWS,
    **attributes: Attr,
) -> tuple[Tensor, Tensor]:
    """What the kernel makes of random operands, or of those that are given, and the reference."""
    group = Group()
    values = [group.input(name, t) for name, t in operands.items()]
    (y,) = group.op(kind, values, [result], **attributes)
    got, want = single(group, random_inputs(values, given=given), lambda v: order)
    return got[y.name], want[y.name]


def rows(shape: Shape, count: int, *, low: int = 0, wrong: bool = False) -> Array:
    """Indices with repetitions; some name no row where asked."""
    made = np.random.default_rng(3).integers(low, count, shape)
    if wrong:
        made.reshape(-1)[:: max(1, made.size // 3)] = count
        made.reshape(-1)[-1:] = low - 1
    return made


@pytest.mark.parametrize(("wraps", "order"), [(False, Order.PIXELS), (True, Order.ROWS)])
@pytest.mark.parametrize("size", SIZES)
def test_take_and_its_gradient(size: Shape, wraps: bool, order: Order) -> None:
    left, count, right = size
    for many, wrong in (((5,), False), ((2, 3), True)):
        index = rows(many, count, low=-count if wraps else 0, wrong=wrong)
        whole, at = (left, *many, right), {"index": index}
        types = {"x": typed(size), "index": typed(many, I64)}
        same(*made("take", types, typed(whole), at, order, wraps=wraps))
        types = {"g": typed(whole), "index": typed(many, I32)}
        close(*made("take_grad", types, typed(size), at, order, wraps=wraps), SUMS)


@pytest.mark.parametrize("format_", [BF16, I64, I32])
def test_take_of_other_numbers(format_: Format) -> None:
    index = rows((7,), 3, wrong=True)
    types = {"x": typed((2, 3, 13), format_), "index": typed((7,), I64)}
    numbers = {"index": index, "x": np.arange(78).reshape(2, 3, 13) - 30}
    result = typed((2, 7, 13), format_)
    same(*made("take", types, result, numbers, wraps=False))


@pytest.mark.parametrize("wrong", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_gather_its_gradient_and_scatter(size: Shape, wrong: bool) -> None:
    left, count, right = size
    many = (left, 4, right)
    index = {"index": rows(many, count, wrong=wrong)}
    types = {"x": typed(size), "index": typed(many, I64)}
    same(*made("gather", types, typed(many), index))
    types = {"g": typed(many), "index": typed(many, I64)}
    close(*made("gather_grad", types, typed(size), index), SUMS)
    types = {"x": typed(size), "index": typed(many, I64), "y": typed(many)}
    same(*made("scatter", types, typed(size), index))


def test_scatter_of_integers_keeps_the_last() -> None:
    types = {"x": typed((1, 3, 2), I64), "index": typed((1, 4, 2), I64), "y": typed((1, 4, 2), I64)}
    numbers = {
        "x": np.zeros((1, 3, 2)),
        "index": np.array([[[0, 2], [0, 2], [1, 3], [0, -1]]]),
        "y": np.arange(8).reshape(1, 4, 2),
    }
    got, want = made("scatter", types, typed((1, 3, 2), I64), numbers)
    same(got, want)
    assert got.data.tolist() == [[[6, 0], [4, 0], [0, 3]]]


@pytest.mark.parametrize("wraps", [False, True])
def test_places(wraps: bool) -> None:
    indices = {"a": np.array([0, 2, -1, 3, 1]), "b": np.array([6, -7, 0, 1, 7])}
    types = {"a": typed((5,), I64), "b": typed((5,), I64)}
    got, want = made("place", types, typed((5,), I64), indices, sizes=(3, 7), wraps=wraps)
    same(got, want)
    assert got.data.tolist() == ([6, 14, 14, -1, -1] if wraps else [6, -1, -1, -1, -1])


@pytest.mark.parametrize(("size", "order"), [*zip(SIZES, [*Order] * 3, strict=False)])
def test_order_and_the_largest(size: Shape, order: Order) -> None:
    numbers = np.random.default_rng(1).integers(-3, 3, size).astype(np.float32)
    numbers.reshape(-1)[:: max(2, numbers.size // 5)] = np.nan
    numbers.reshape(-1)[1:2] = -0.0
    x, given = {"x": typed(size)}, {"x": numbers}
    for down in (False, True):
        result = typed(size, I64)
        same(*made("order", x, result, given, order, descending=down))
    same(*made("argmax", x, typed((size[0], size[2]), I64), given, order))


@pytest.mark.parametrize("size", SIZES)
def test_running_sums(size: Shape) -> None:
    close(*made("cumsum", {"x": typed(size)}, typed(size)), 2.0**-23)
    numbers = {"x": np.arange(np.prod(size)).reshape(size) * 10**15 - 10**15}
    same(*made("cumsum", {"x": typed(size, I64)}, typed(size, I64), numbers))


BIG = np.array([[-(2**40) - 1, 7, -1], [0, 2**53 + 1, -7]])
WHOLE = {"a": typed((2, 3), I64), "b": typed((3,), I64)}
GIVEN = {"a": BIG, "b": np.array([3, 2**53, -7])}


@pytest.mark.parametrize("function", ["add", "sub", "mul", "maximum", "minimum"])
def test_functions_of_integers(function: str) -> None:
    same(*made("whole", WHOLE, typed((2, 3), I64), GIVEN, function=function))


@pytest.mark.parametrize("relation", ["lt", "le", "eq", "ne", "ge", "gt"])
def test_comparisons_of_integers(relation: str) -> None:
    same(*made("whole_compare", WHOLE, typed((2, 3)), GIVEN, relation=relation))


@pytest.mark.parametrize("rest", [False, True])
@pytest.mark.parametrize("by", [1, 3, 7, -3, 2**40])
def test_division_of_integers(by: int, rest: bool) -> None:
    given, types = {"a": BIG}, {"a": typed((2, 3), I64)}
    same(*made("whole_divided", types, typed((2, 3), I64), given, by=by, rest=rest))


def test_choices_tables_and_kinds_of_numbers() -> None:
    odd = np.array([[np.nan, 0.0, -0.0], [1e-40, np.inf, -2.0]], np.float32)
    types = {"c": typed((2, 3)), **WHOLE}
    same(*made("whole_where", types, typed((2, 3), I64), {"c": odd, **GIVEN}))
    same(*made("whole_table", {}, typed((2, 3), I64), numbers=tuple(map(int, BIG.reshape(-1)))))
    same(*made("to_number", {"n": typed((2, 3), I64)}, typed((2, 3)), {"n": BIG}))
    numbers = np.array([[np.nan, np.inf, -np.inf], [-1.9, 2.9, -3e38]], np.float32)
    same(*made("to_whole", {"x": typed((2, 3))}, typed((2, 3), I64), {"x": numbers}))


@pytest.mark.parametrize("kind", ["permute", "cat", "slice"])
def test_integers_are_moved(kind: str) -> None:
    x = {"x": np.arange(24).reshape(2, 3, 4) - 5}
    shape, attributes = {
        "permute": ((4, 2, 3), {"dims": (2, 0, 1)}),
        "cat": ((2, 3, 4), {"dim": 1}),
        "slice": ((2, 3, 2), {"dim": 2, "start": 1, "step": 2}),
    }[kind]
    same(*made(kind, {"x": typed((2, 3, 4), I64)}, typed(shape, I64), x, **attributes))  # type: ignore[arg-type]

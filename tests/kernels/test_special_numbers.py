"""Every kernel on NaN, infinities, zeros of both signs, subnormals and the largest numbers.

The ops are those that are defined, so that a new one is among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TypeVar

import numpy as np
import pytest

from quatrain.compiler.formats import BF16, F32
from quatrain.compiler.ir import Op, Value
from quatrain.compiler.ir.ops import OPS, Trait, having
from quatrain.compiler.types import Scale, TensorType
from quatrain.targets.cpu.info import CpuInfo
from quatrain.targets.numbers.tensor import Tensor, dtype_of

from ..cases.compiled import chunk, compiled
from ..cases.gemm_case import EACH_CPU, Case
from ..cases.gemm_case import run as run_gemm
from ..cases.machine import machine
from ..cases.one_kernel import Group, pointwise
from ..cases.op_examples import CODED, MADE, OF_ONE_KERNEL, example
from ..cases.special_numbers import (
    EVERY,
    LARGE,
    SIZES,
    TURNS,
    alike,
    kernel_of,
    run,
    special_inputs,
    tolerance,
    variants,
)

pytestmark = pytest.mark.tvm
Item = TypeVar("Item")

# Classes of operands that numbers of a carrier may stand for.
CARRIERS = ("float", "gemm", "scaled", "mask", "number", "plain")
KINDS = sorted(
    kind for kind in OF_ONE_KERNEL if any(o.format_class in CARRIERS for o in OPS[kind].operands)
)


def check(op: Op) -> None:
    """The kernel beside the reference."""
    # A sum in f32 of the largest numbers is infinite where that in f64 is not yet.
    among = [n for n in EVERY if n not in LARGE] if Trait.TAIL in OPS[op.kind].traits else EVERY
    for turn in range(TURNS):
        got, want = run(op, special_inputs(op, turn, among))
        for r in op.results:
            alike(got[r.name], want[r.name], *tolerance(op.kind))


def check_all(item: Item, among: Sequence[Item], ops: Callable[[Item], Iterable[Op]]) -> None:
    """Check the ops of an item; those of its neighbours are compiled with them."""
    mine = list(ops(item))
    kernels = (kernel_of(op) for other in chunk(item, among) for op in ops(other))
    compiled(kernel_of(mine[0]), machine(), lambda: kernels)
    for op in mine:
        check(op)


def varied(kind: str) -> Iterator[Op]:
    """An op of this kind and its variants."""
    return variants(example(kind, SIZES))


@pytest.mark.parametrize("kind", KINDS)
def test_special_numbers(kind: str) -> None:
    check_all(kind, KINDS, varied)


CARRIED = [(kind, pair) for pair in (("f32", "bf16"), ("bf16", "f16")) for kind in KINDS]


def carried(case: tuple[str, tuple[str, str]]) -> list[Op]:
    """The op of a kind, of operands and results in these formats."""
    return [example(case[0], SIZES, case[1])]


@pytest.mark.parametrize("case", CARRIED, ids=lambda c: f"{c[0]}-{'-'.join(c[1])}")
def test_special_numbers_in_16_bits(case: tuple[str, tuple[str, str]]) -> None:
    check_all(case, CARRIED, carried)


def twice() -> list[tuple[str, int, int]]:
    """Each op with two operands of one type; single numbers have ranges of their own."""
    made = []
    for kind in sorted(OF_ONE_KERNEL):
        types = [v.type for v in example(kind, SIZES).inputs]
        pairs = combinations(range(len(types)), 2)
        made += [(kind, i, j) for i, j in pairs if types[i] == types[j] and types[i].shape]
    return made


TWICE = twice()


def doubled(case: tuple[str, int, int]) -> Iterator[Op]:
    """The variants of an op whose operand j is operand i."""
    kind, i, j = case
    for op in varied(kind):
        inputs = list(op.inputs)
        inputs[j] = inputs[i]
        yield replace(op, inputs=tuple(inputs))


@pytest.mark.parametrize("case", TWICE, ids=lambda c: "-".join(map(str, c)))
def test_the_same_operand_twice(case: tuple[str, int, int]) -> None:
    check_all(case, TWICE, doubled)


def hands_on() -> list[str]:
    """Pointwise ops whose result has the type of their first operand; functions make another."""
    kinds = sorted(having(Trait.POINTWISE) - having(Trait.FUNCTION))
    ops = [example(kind, SIZES) for kind in kinds]
    return [op.kind for op in ops if op.inputs and op.inputs[0].type == op.result.type]


@pytest.mark.parametrize("kind", hands_on())
def test_an_op_beside_its_own_operand(kind: str) -> None:
    """An op may hand on the number that it got, which then has one name for two values."""
    group, op = Group(), example(kind, SIZES)
    x = op.inputs[0]
    group.inputs, group.ops = list(op.inputs), [op]
    made = [
        *group.op("sub", (x, op.result), [x.type]),
        *group.op("compare", (op.result, x), [x.type], relation="eq"),
    ]
    for turn in range(TURNS):
        got, want = pointwise(group, made, special_inputs(op, turn))
        for v in made:
            alike(got[v.name], want[v.name])


def test_every_quantizer_is_tried() -> None:
    assert set(MADE) == having(Trait.QUANTIZER) | {"cast"}


@pytest.mark.parametrize("kind", sorted(MADE))
def test_codes_of_special_numbers(kind: str) -> None:
    """In all formats and of two carriers, in one kernel."""
    group, op = Group(), example(kind, SIZES)
    group.inputs = list(op.inputs)
    x, *rest = op.inputs
    (narrow,) = group.op("cast", (x,), [replace(x.type, format=BF16)])
    made = list[Value]()
    for f in MADE[kind]:
        type_ = replace(op.result.type, format=f)
        for source in (x, narrow):
            made += group.op(kind, (source, *rest), [type_], **op.attrs)
    for turn in range(TURNS):
        got, want = pointwise(group, made, special_inputs(op, turn))
        for v in made:
            alike(got[v.name], want[v.name])


def test_numbers_of_special_codes() -> None:
    """Every code, those of infinity and NaN among them."""
    group, inputs, made = Group(), dict[str, Tensor](), list[Value]()
    for f in (f for f in CODED if f.bits <= 8):
        q = group.input(f.name, TensorType((256,), f, Scale.TENSOR))
        codes = np.arange(256) % (1 << f.bits)
        inputs[q.name] = Tensor(q.type, codes.astype(dtype_of(f)), np.asarray(0.75, np.float32))
        made += group.op("dequantize", (q,), [TensorType(q.type.shape, F32)])
    got, want = pointwise(group, made, inputs)
    for v in made:
        alike(got[v.name], want[v.name])


def test_there_are_ops_of_the_same_operand_twice() -> None:
    kinds = {kind for kind, _, _ in TWICE}
    assert {"add", "sub", "mul", "div", "maximum", "minimum", "compare", "where"} <= kinds


INFINITE = [
    Case(
        kind,
        n=3,
        c=channels,
        k=channels + 2,
        size=(3, 5),
        kernel=(side, side),
        padding=(side // 2, side // 2),
        formats=(f, f),
    )
    for kind in ("conv2d", "conv2d_input_grad", "linear", "linear_input_grad")
    for channels in (3, 5, 13, 34)
    for f in (F32, BF16)
    for side in ((1, 3) if kind.startswith("conv2d") else (1,))
]


@EACH_CPU
@pytest.mark.parametrize(
    "case", INFINITE, ids=lambda c: f"{c.kind}-{c.c}-{c.formats[0]}-{c.kernel[0]}"
)
def test_an_infinite_sample_leaves_the_others(case: Case, cpu: CpuInfo) -> None:
    """What a tile reads behind a pixel is multiplied by 0: then it must be finite."""
    got, _, _ = run_gemm(case, cpu, INFINITE, infinite=1)
    finite = [np.isfinite(sample) for sample in got.numbers]
    assert finite[0].all() and not finite[1].any() and finite[2].all()

"""Statistics that a GEMM's blocks leave: to the bit those of ``batch_stats`` alone, on any target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tvm")

from quatrain.compiler.formats import BF16, F16, F32, FP4_EVEN, INT4, INT8
from quatrain.compiler.ir import Op, Value
from quatrain.compiler.types import TensorType
from quatrain.targets.cpu.info import detect
from quatrain.targets.cuda.gemm import frame
from quatrain.targets.cuda.gemm.stats import GemmWithStats, with_stats
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.plan.fuse import Group
from quatrain.targets.plan.kernel import Kernel
from quatrain.targets.plan.layout import Order
from quatrain.targets.plan.plan import PlannedKernel

from ..cases.compiled import chunk, compiled
from ..cases.gemm_case import CANARY, Case, Draw, Drawn, compare, tensor
from ..cases.machine import Cpu, Machine
from ..cuda.emulate import has_compiler
from ..cuda.emulated import EmulatedGpu

pytestmark = [
    pytest.mark.tvm,
    pytest.mark.skipif(not has_compiler(), reason="the emulator needs g++"),
]
FORWARD, DX = "conv2d", "conv2d_input_grad"
ROWS = (Order.ROWS,) * 3
POINT = Case(FORWARD, c=64, k=33, kernel=(1, 1), padding=(0, 0), made=BF16)
GPU, HERE = EmulatedGpu(), Cpu(detect())


Orders = dict[Value, Order]


def apart(case: Case, gpu: EmulatedGpu, only: slice) -> tuple[list[Kernel], Kernel, Orders]:
    """The GEMM and the statistics that read its result, those of a CPU, the order of all values."""
    ops, orders = case.ordered()
    y = ops[-1].result
    moments = tuple(Value(n, TensorType(y.type.shape[1:2], F32)) for n in ("mean", "var"))
    orders |= dict.fromkeys(moments, Order.ROWS)
    stats = Group((Op("batch_stats", (y,), moments),), moments[only], "forward")
    both = [gpu.kernel(Group(ops, (y,), "forward"), orders), gpu.kernel(stats, orders)]
    return both, HERE.kernel(stats, orders), orders


def joined(kernels: Sequence[Kernel]) -> list[Kernel]:
    """Those of a plan of these."""
    return [p.kernel for p in with_stats([PlannedKernel(k, "forward") for k in kernels])]


def check(
    case: Case,
    *,
    beside: Sequence[Case] = (),
    draw: Draw = tensor,
    gpu: EmulatedGpu = GPU,
    only: slice = slice(None),
) -> None:
    """Statistics in four orders of threads beside those that are made of the same result."""
    (gemm, stats), cpu, orders = apart(case, gpu, only)
    (both,) = joined([gemm, stats])
    assert isinstance(both.spec, GemmWithStats)

    def neighbours(machine: Machine) -> Iterator[Kernel]:
        for c in chunk(case, beside or (case,)):
            on_gpu, other, _ = apart(c, gpu, only)
            yield from [*joined(on_gpu), on_gpu[1]] if machine == gpu else [other]

    drawn = Drawn.of(gemm, orders, draw)
    found, alone, there = (
        [np.full(slot.value.type.shape, 5.0, np.float32) for slot in stats.outputs]
        for _ in range(3)
    )
    run = compiled(both, gpu, lambda: neighbours(gpu))
    got = drawn.result(lambda *arrays: run(*arrays, *found))
    if draw is tensor:
        compare(case, gemm, drawn.operands, got)
    y = drawn.out[:-CANARY]
    compiled(stats, gpu)(y, *alone)
    compiled(cpu, HERE, lambda: neighbours(HERE))(y, *there)
    for numbers, *others in zip(found, alone, there, strict=True):
        for other in others:
            np.testing.assert_array_equal(numbers, other)


# Rows that fill no stripe, no tile; channels that fill no tile; pixels that lie apart.
CASES = [
    Case(FORWARD, made=BF16),
    Case(FORWARD, n=1, c=3, k=33, size=(13, 28), kernel=(7, 7), padding=(3, 3), stride=(2, 2)),
    Case(FORWARD, c=24, k=48, groups=2, stride=(2, 1), dilation=(2, 1), padding=(0, 2), made=F16),
    Case(FORWARD, c=13, k=27, size=(3, 9), n=1, orders=ROWS, made=BF16),
    Case(FORWARD, c=13, k=13, size=(11, 3), n=1, made=BF16, bias=F32, out=F16),
    Case("linear", n=1, c=96, k=27, bias=F32, made=BF16, out=BF16),
    Case("linear", n=33, c=96, k=27, made=BF16),
    Case(DX, k=28, c=33, made=BF16, formats=(INT8, INT4)),
    replace(POINT, k=72, n=4),
    replace(POINT, formats=(FP4_EVEN, INT4)),
    Case(FORWARD, c=13, k=27, formats=(BF16, BF16), made=BF16, size=(9, 9)),
    Case(FORWARD, c=5, k=13, formats=(F32, F16)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda x: x.kind)
def test_moments_of_results_are_those_of_the_kernel_that_reads_them(case: Case) -> None:
    check(case, beside=CASES)


@pytest.mark.parametrize(
    "case",
    [
        Case(FORWARD, c=64, k=160, size=(9, 9), made=BF16, bias=F32, out=BF16),
        Case(FORWARD, c=33, k=144, size=(9, 9), formats=(BF16, BF16), made=BF16, orders=ROWS),
    ],
    ids=lambda x: x.kind,
)
def test_large_tiles_leave_them_in_two_parts(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a GPU were filled by a few blocks."""
    monkeypatch.setattr(frame, "MULTIPROCESSORS", 1)
    check(case)


@pytest.mark.parametrize("only", [slice(1), slice(1, 2)], ids=["mean", "var"])
def test_one_of_both(only: slice) -> None:
    check(replace(POINT, k=8), only=only)


def test_nibbles() -> None:
    check(POINT, gpu=EmulatedGpu("sm_80"))


def _infinite(type_: TensorType, rng: np.random.Generator) -> Tensor:
    """Some numbers of the image that no sum holds."""
    made = tensor(type_, rng).numbers.copy()
    if len(type_.shape) == 4 and type_.shape[2] > 3:
        made[0, 0, 2, 3], made[1, 0, 4, 4] = np.inf, -np.inf
    return Tensor.from_numbers(type_, made, None)


def test_infinities() -> None:
    check(replace(CASES[10], n=3), draw=_infinite)


@pytest.mark.parametrize(
    "case",
    [
        Case(FORWARD, c=256, k=16, made=BF16),  # parts of sums are added by another launch
        Case(DX, k=28, c=33, stride=(2, 2)),  # phases of pixels
        Case(FORWARD, k=7),  # no tiles
        Case("conv2d_weight_grad", c=64, k=64),
    ],
    ids=lambda x: x.kind,
)
def test_what_has_no_stripes_of_results_in_a_block(case: Case) -> None:
    kernels, _, _ = apart(case, GPU, slice(None))
    assert joined(kernels) == kernels

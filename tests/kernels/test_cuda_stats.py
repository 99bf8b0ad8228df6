"""Statistics that a GEMM's blocks leave: to the bit those of ``batch_stats`` alone, on any target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tvm")

from quatrain.compiler import parse, verify
from quatrain.compiler.formats import BF16, F16, F32, FP4_EVEN, INT4, INT8
from quatrain.compiler.types import TensorType
from quatrain.targets.cuda.gemm import frame
from quatrain.targets.cuda.gemm.spec import DeviceGemm
from quatrain.targets.cuda.gemm.stats import GemmWithStats
from quatrain.targets.cuda.target import plan_cuda
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.plan.kernel import Kernel
from quatrain.targets.plan.layout import Order
from quatrain.targets.plan.state import state_layout

from ..cases.compiled import chunk, compiled
from ..cases.gemm_case import CANARY, Case, Draw, Drawn, compare, tensor
from ..cases.gemm_stats import HERE, GemmAndMoments
from ..cases.machine import Machine
from ..cases.one_kernel import random_inputs
from ..cuda import emulated
from ..cuda.emulate import has_compiler
from ..cuda.emulated import EmulatedGpu
from ..exactness import compare_on

pytestmark = [
    pytest.mark.tvm,
    pytest.mark.skipif(not has_compiler(), reason="the emulator needs g++"),
]
FORWARD, DX = "conv2d", "conv2d_input_grad"
ROWS = (Order.ROWS,) * 3
POINT = Case(FORWARD, c=64, k=33, kernel=(1, 1), padding=(0, 0), made=BF16)
GPU = EmulatedGpu()


def check(
    case: Case,
    *,
    beside: Sequence[Case] = (),
    draw: Draw = tensor,
    gpu: EmulatedGpu = GPU,
    only: slice = slice(None),
) -> None:
    """Statistics in four orders of threads beside those that are made of the same result."""
    kernels = GemmAndMoments.of(case, gpu, only)
    (both,) = kernels.planned
    assert isinstance(both.spec, GemmWithStats)

    def neighbours(machine: Machine) -> Iterator[Kernel]:
        for c in chunk(case, beside or (case,)):
            other = GemmAndMoments.of(c, gpu, only)
            yield from [*other.planned, other.stats] if machine == gpu else [other.cpu]

    drawn = Drawn.of(kernels.gemm, kernels.orders, draw)
    found, alone, there = (
        [np.full(slot.value.type.shape, 5.0, np.float32) for slot in kernels.stats.outputs]
        for _ in range(3)
    )
    run = compiled(both, gpu, lambda: neighbours(gpu))
    got = drawn.result(lambda *arrays: run(*arrays, *found))
    if draw is tensor:
        compare(case, kernels.gemm, drawn.operands, got)
    y = drawn.out[:-CANARY]
    compiled(kernels.stats, gpu)(y, *alone)
    compiled(kernels.cpu, HERE, lambda: neighbours(HERE))(y, *there)
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
    monkeypatch.setattr(emulated, "MADE", {})
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
    assert len(GemmAndMoments.of(case, GPU).planned) == 2


PROGRAM = """\
program p
input x : bf16[2x8x9x9]
state w : bf16[24x8x3x3]
state b : bf16[24]

forward:
  y = conv2d(x, w) {stride=[1,1], padding=[1,1], dilation=[1,1], groups=1} : bf16[2x24x9x9]
  z = add_bias(y, b) : bf16[2x24x9x9]
  mean, var = batch_stats(z) : f32[24], f32[24]
  u = conv2d(x, w) {stride=[2,2], padding=[1,1], dilation=[1,1], groups=1} : bf16[2x24x5x5]
  r = relu(z) : bf16[2x24x9x9]
backward:
  later, _ = batch_stats(u) : f32[24], f32[24]

return mean, var, r, later
"""


@pytest.mark.usefixtures("emulated")
def test_a_plan_has_them_in_one_kernel_of_a_region() -> None:
    program = verify(parse(PROGRAM))
    plan = plan_cuda(program, state_layout(program), "sm_90")
    found = [[op.kind for op in p.kernel.ops] for p in plan.kernels]
    assert ["conv2d", "add_bias", "batch_stats"] in found
    assert ["conv2d"] in found and ["batch_stats"] in found
    given = random_inputs([*program.inputs, *program.state])
    assert [str(m) for m in compare_on(GPU, program, given)] == []


def test_how_many_launches_there_are() -> None:
    """Of GEMMs with parts of sums, with statistics, with nothing to decode."""
    cases = {
        POINT: 3,
        replace(POINT, k=7): 1,
        Case(FORWARD, c=256, k=16, made=BF16): 3,
        Case("conv2d_weight_grad", c=16, k=16, formats=(BF16, BF16), n=1): 1,
    }
    for case, wanted in cases.items():
        spec = GemmAndMoments.of(case, GPU).planned[0].spec
        assert isinstance(spec, GemmWithStats | DeviceGemm)
        assert spec.launches == len(spec.build()) == wanted

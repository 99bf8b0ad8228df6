"""GEMM kernels against the reference: every kind, formats, awkward shapes, units, thread counts.

Integer units must agree bit for bit. F32 sums run in another order than the reference's, so they
may differ by length * 2^-24 of the sum of magnitudes, plus half a step of the stored format.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np
import pytest

pytest.importorskip("tvm")

from quatrain.compiler.errors import NoKernelError
from quatrain.compiler.formats import (
    BF16,
    F16,
    F32,
    FORMATS,
    FP4_EVEN,
    FP4_ODD,
    FP8_143,
    FP8_152,
    INT4,
    INT4_MIDRISE,
    INT8,
    UINT2,
    UINT4,
    UINT8,
    Format,
)
from quatrain.compiler.ir import Op, Value, attrs
from quatrain.compiler.types import Scale, TensorType
from quatrain.targets.cpu_info import CpuInfo, detect, flags, named
from quatrain.targets.kernel import Kernel, Unit
from quatrain.targets.layout import Layout, Order
from quatrain.targets.packing import from_memory, to_memory
from quatrain.targets.reference_gemm import GEMM
from quatrain.targets.tensor import Tensor
from quatrain.targets.tvm_build import compile_kernel
from quatrain.targets.tvm_gemm import GemmSpec, gemm_kernel
from quatrain.targets.tvm_gemm_numbers import integers
from quatrain.targets.tvm_module import use_threads

pytestmark = pytest.mark.tvm

KINDS = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")
LINEAR = ("linear", "linear_input_grad", "linear_weight_grad")
CANARY = 64
HALF_STEP = {F32: 0.0, F16: 2.0**-11, BF16: 2.0**-8}
Pair = tuple[int, int]


@dataclass(frozen=True)
class Case:
    """One GEMM: sizes N, C, HxW, K, RxS, how they combine, formats, orders in memory."""

    kind: str
    n: int = 2
    c: int = 13
    size: Pair = (7, 9)
    k: int = 28
    kernel: Pair = (3, 3)
    stride: Pair = (1, 1)
    padding: Pair = (1, 1)
    dilation: Pair = (1, 1)
    groups: int = 1
    formats: tuple[Format, Format] = (UINT4, INT4)
    channel_scale: bool = False
    made: Format = F32
    bias: Format | None = None
    out: Format = F32
    orders: tuple[Order, Order, Order] = (Order.PIXELS,) * 3

    def ops(self) -> tuple[Op, ...]:
        """The GEMM, and the bias if there is one."""
        a, b, out = self._shapes()
        scales = [Scale.TENSOR if f.is_coded else Scale.NONE for f in self.formats]
        if self.channel_scale:
            scales[1] = Scale.CHANNEL
        types = [
            TensorType(s, f, scale)
            for s, f, scale in zip((a, b), self.formats, scales, strict=True)
        ]
        options = attrs(
            stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups
        )
        y = Value("y", TensorType(out, self.made))
        values = tuple(Value(name, t) for name, t in zip("ab", types, strict=True))
        gemm = Op(self.kind, values, (y,), options if self.kind in KINDS else attrs())
        if self.bias is None:
            return (gemm,)
        bias = Value("bias", TensorType(out[1:2], self.bias))
        return gemm, Op("add_bias", (y, bias), (Value("z", TensorType(out, self.out)),))

    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        x: tuple[int, ...]
        w: tuple[int, ...]
        y: tuple[int, ...]
        if self.kind in LINEAR:
            x, w, y = (self.n, self.c), (self.k, self.c), (self.n, self.k)
        else:
            places = (
                (size + 2 * p - d * (r - 1) - 1) // s + 1
                for size, p, d, r, s in zip(
                    self.size, self.padding, self.dilation, self.kernel, self.stride, strict=True
                )
            )
            x, y = (self.n, self.c, *self.size), (self.n, self.k, *places)
            w = (self.k, self.c // self.groups, *self.kernel)
        if self.kind.endswith("input_grad"):
            return y, w, x
        return (y, x, w) if self.kind.endswith("weight_grad") else (x, w, y)

    def kernel_on(self, cpu: CpuInfo) -> tuple[Kernel, dict[Value, Order]]:
        """The kernel and the order of every value."""
        ops = self.ops()
        values = (*ops[0].inputs, ops[-1].result)
        orders = dict(zip(values, self.orders, strict=True))
        orders |= {
            v: Order.ROWS for op in ops for v in (*op.inputs, *op.results) if v not in orders
        }
        return gemm_kernel(ops, orders, cpu), orders


def tensor(type_: TensorType, rng: np.random.Generator) -> Tensor:
    """Random numbers over all codes but the special ones, with a scale where one belongs."""
    f = type_.format
    scale = None
    if type_.scale is not Scale.NONE:
        shape = type_.shape[:1] if type_.scale is Scale.CHANNEL else ()
        scale = np.asarray(rng.uniform(0.01, 2.0, shape), np.float32)
    if not f.is_coded:
        return Tensor.from_numbers(type_, rng.standard_normal(type_.shape), scale)
    magnitude = (1 << (f.bits - 1)) - 1
    codes = [c for c in range(1 << f.bits) if not f.specials or c & magnitude not in f.specials]
    return Tensor(type_, rng.choice(np.array(codes, np.uint8), type_.shape), scale)


def run(case: Case, cpu: CpuInfo) -> tuple[Tensor, list[Tensor], Kernel]:
    """The compiled kernel's result and its operands; nothing behind the output is touched."""
    kernel, orders = case.kernel_on(cpu)
    rng = np.random.default_rng(7)
    operands: list[Tensor] = []
    arrays = []
    for slot in kernel.inputs:
        if slot.scale:
            arrays.append(np.atleast_1d(np.asarray(operands[-1].scale)))
            continue
        operands.append(tensor(slot.value.type, rng))
        arrays.append(to_memory(operands[-1], Layout(slot.value.type, orders[slot.value])))
    result = kernel.outputs[0].value
    layout = Layout(result.type, orders[result])
    elements = layout.rows * layout.cell
    out = np.full(elements + CANARY, 77, layout.dtype)
    compile_kernel(kernel, cpu)(*arrays, out)
    assert np.all(out[elements:] == 77), "the kernel wrote behind its result"
    return from_memory(out[:elements], layout), operands, kernel


def expected(case: Case, operands: list[Tensor]) -> Tensor:
    """The reference's result."""
    gemm, *bias = case.ops()
    (y,) = GEMM[gemm.kind](gemm, operands[:2])
    for op in bias:
        column = operands[2].numbers.reshape(1, -1, *(1,) * (len(y.type.shape) - 2))
        y = Tensor.from_numbers(op.result.type, y.numbers + column)
    return y


def bound(case: Case, operands: list[Tensor]) -> np.ndarray:
    """How far an f32 sum may be off, see the top of this file."""
    gemm = case.ops()[0]
    wide = [TensorType(t.type.shape, F32) for t in operands[:2]]
    sizes = [
        Tensor.from_numbers(t, np.abs(x.real())) for t, x in zip(wide, operands[:2], strict=True)
    ]
    plain = replace(case, made=F32, bias=None)
    (total,) = GEMM[gemm.kind](plain.ops()[0], sizes)
    spec = plain.kernel_on(detect())[0].spec
    assert isinstance(spec, GemmSpec)
    last = case.out if case.bias else case.made
    steps = HALF_STEP[case.made] + HALF_STEP[last]
    return np.asarray(total.numbers * ((spec.length + 4) * 2.0**-24 + 2.5 * steps)) + 2.0**-24


def check(case: Case, cpu: CpuInfo, unit: Unit | None = None) -> None:
    """Compare one case with the reference."""
    got, operands, kernel = run(case, cpu)
    want = expected(case, operands)
    if unit is not None:
        assert kernel.unit is unit
    if kernel.unit in FLOAT_UNITS:
        difference = np.abs(got.numbers.astype(np.float64) - want.numbers.astype(np.float64))
        column = operands[2].numbers if case.bias else np.zeros(1)
        assert np.all(difference <= bound(case, operands) + np.abs(column).max() * 2.0**-7)
    else:
        assert np.array_equal(got.numbers, want.numbers)


FLOAT_UNITS = (Unit.F32, Unit.BF16_TILE)
TILES = (Unit.INT8_TILE, Unit.BF16_TILE)
WITHOUT_TILES = replace(detect(), amx=False, extra=())
# What this machine runs: its own kernels and, where those are AMX, what a CPU without it would run.
CPUS = [detect(), WITHOUT_TILES] if detect().amx else [detect()]
EACH_CPU = pytest.mark.parametrize("cpu", CPUS, ids=lambda c: "tiles" if c.amx else "vectors")
PORTABLE = pytest.param(
    "x86-64-v3", marks=pytest.mark.skipif("avx2" not in flags(), reason="no AVX2")
)
DOTS = [
    Case("conv2d", n=3, c=16, size=(8, 8), k=16),
    Case("conv2d", formats=(INT4, INT4)),
    Case("conv2d", formats=(INT4_MIDRISE, INT4_MIDRISE), stride=(2, 2)),
    Case("conv2d", formats=(UINT8, INT8), c=7, k=5, stride=(2, 1), padding=(2, 0), dilation=(1, 2)),
    Case("conv2d", formats=(INT8, UINT8), c=3, k=1),
    Case("conv2d", c=12, k=24, groups=4, bias=F32),
    Case("conv2d", c=33, k=33, groups=33, formats=(UINT4, INT4)),
    Case("conv2d", c=27, k=33, kernel=(1, 1), padding=(0, 0), channel_scale=True),
    Case("conv2d", n=1, c=1, k=1, size=(1, 1), kernel=(1, 1), padding=(0, 0)),
    Case("conv2d", n=1, c=3, k=7, size=(13, 33), kernel=(7, 7), padding=(3, 3), stride=(2, 2)),
    Case("conv2d", formats=(UINT2, INT4), made=BF16, bias=F16, out=BF16),
    Case("conv2d", c=3, orders=(Order.ROWS, Order.ROWS, Order.ROWS)),
    Case("conv2d_input_grad", formats=(FP4_EVEN, INT4), c=16, k=16, size=(8, 8)),
    Case("conv2d_input_grad", formats=(FP4_ODD, INT4_MIDRISE), stride=(2, 2)),
    Case("conv2d_input_grad", formats=(FP4_EVEN, INT4), stride=(3, 2), kernel=(1, 1)),
    Case("conv2d_input_grad", formats=(FP4_EVEN, INT4), stride=(2, 2), dilation=(2, 1)),
    Case("conv2d_input_grad", formats=(INT8, INT4), stride=(2, 2)),
    Case("conv2d_input_grad", formats=(FP4_EVEN, INT4), c=12, k=20, groups=4, stride=(2, 1)),
    Case("conv2d_input_grad", formats=(FP4_EVEN, INT4), c=28, k=28, groups=28),
    Case("conv2d_weight_grad", formats=(FP4_ODD, UINT4), c=16, k=16, size=(8, 8)),
    Case("conv2d_weight_grad", formats=(FP4_ODD, INT4_MIDRISE), stride=(2, 2)),
    Case("conv2d_weight_grad", formats=(FP4_EVEN, UINT4), kernel=(1, 1), padding=(0, 0)),
    Case("conv2d_weight_grad", formats=(FP4_EVEN, INT4), kernel=(1, 1), stride=(2, 2), n=17),
    Case("conv2d_weight_grad", formats=(INT8, UINT8), stride=(2, 1), dilation=(1, 2), c=7, k=5),
    Case("conv2d_weight_grad", formats=(FP4_EVEN, UINT4), c=12, k=24, groups=4),
    Case("conv2d_weight_grad", formats=(FP4_EVEN, UINT4), c=33, k=33, groups=33),
    Case(
        "conv2d_weight_grad",
        formats=(FP4_EVEN, UINT4),
        c=3,
        orders=(Order.PIXELS,) + (Order.ROWS,) * 2,
    ),
    Case("linear", n=5, c=64, k=10, bias=F32),
    Case("linear_input_grad", n=1, c=27, k=10, formats=(FP4_EVEN, INT4)),
    Case("linear_weight_grad", n=7, c=33, k=10, formats=(FP4_ODD, UINT4)),
]


@EACH_CPU
@pytest.mark.parametrize("case", DOTS, ids=lambda c: f"{c.kind}-{DOTS.index(c)}")
def test_integer_gemms_equal_the_reference(case: Case, cpu: CpuInfo) -> None:
    assert case.kernel_on(cpu)[0].unit not in FLOAT_UNITS
    check(case, cpu)


@pytest.mark.parametrize("mcpu", [PORTABLE])
@pytest.mark.parametrize("kind", [*KINDS, *LINEAR])
def test_other_cpus_give_the_same_integers(kind: str, mcpu: str) -> None:
    formats = {"": (INT4, INT4), "input_grad": (FP4_EVEN, INT4), "weight_grad": (FP4_ODD, UINT4)}
    check(Case(kind, formats=formats[kind.partition("_")[2]]), named(mcpu), Unit.INT32)


@EACH_CPU
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("f", [f for f in FORMATS.values() if f.is_coded], ids=lambda f: f.name)
def test_every_format_is_decoded(f: Format, kind: str, cpu: CpuInfo) -> None:
    other = f if integers(f) is None else INT4
    check(Case(kind, formats=(f, other), c=7, k=3, kernel=(1, 1), size=(5, 5)), cpu)


@pytest.mark.parametrize("f", [UINT2, INT4, FP8_143], ids=lambda f: f.name)
def test_groups_are_decoded_in_channel_order(f: Format) -> None:
    for kind in KINDS:
        check(Case(kind, formats=(f, f), c=6, k=10, groups=2, size=(5, 5)), detect())


TILE_FORMATS = {
    "": [(UINT4, INT4), (INT8, UINT8), (BF16, BF16), (UINT8, INT4_MIDRISE), (FP8_143, UINT4)],
    "input_grad": [(FP4_EVEN, INT4), (INT8, INT8), (BF16, BF16), (FP8_152, INT4)],
    "weight_grad": [(FP4_ODD, UINT4), (INT4, INT4), (BF16, BF16), (FP8_152, UINT4)],
}
# Sizes that fill tiles, and that do not: channels, images, rows and columns, phases, blocks.
TILE_SIZES = [
    Case("", n=70, c=32, k=48, size=(8, 8)),
    Case("", n=3, c=64, k=32, size=(16, 16), stride=(2, 2)),
    Case("", n=2, c=96, k=17, size=(5, 33), kernel=(3, 1), padding=(1, 0)),
    Case("", n=17, c=16, k=16, size=(4, 4), dilation=(2, 2), padding=(2, 2)),
    Case("", n=1, c=1, k=1, size=(1, 1), kernel=(1, 1), padding=(0, 0)),
    Case("", n=5, c=128, k=64, size=(9, 7), kernel=(1, 1), padding=(0, 0), stride=(2, 2)),
    Case("", n=33, c=64, k=32, size=(3, 5), kernel=(1, 1), padding=(0, 0)),
    Case("", n=2, c=3, k=20, size=(27, 28), kernel=(7, 7), padding=(3, 3), stride=(2, 2)),
]


@pytest.mark.skipif(not detect().amx, reason="this machine has no AMX")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", TILE_SIZES, ids=lambda c: f"{c.n}x{c.c}x{c.size}->{c.k}")
def test_tiles_of_all_sizes_and_formats(kind: str, size: Case) -> None:
    for formats in TILE_FORMATS[kind.partition("_")[2]]:
        case = replace(size, kind=kind, formats=formats)
        assert case.kernel_on(detect())[0].unit in TILES
        check(case, detect())


FLOATS = [
    Case("conv2d", formats=(F32, F32), orders=(Order.ROWS,) * 3, c=3, k=16),
    Case("conv2d", formats=(F16, BF16), made=BF16, bias=F16, out=F16),
    Case("conv2d", formats=(FP8_143, FP8_152), stride=(2, 2)),
    Case("conv2d", formats=(F32, F32), c=28, k=28, groups=28),
    Case("conv2d_input_grad", formats=(F32, F32), stride=(2, 2)),
    Case("conv2d_input_grad", formats=(FP4_EVEN, INT4), channel_scale=True),
    Case("conv2d_input_grad", formats=(FP8_152, FP8_143), made=BF16),
    Case("conv2d_weight_grad", formats=(F32, F32), n=17),
    Case("conv2d_weight_grad", formats=(BF16, F32), orders=(Order.PIXELS, Order.ROWS, Order.ROWS)),
    Case("conv2d_weight_grad", formats=(FP8_152, FP8_143), c=33, k=33, groups=33),
    Case("linear", formats=(F32, F32), n=13, c=33, k=10, bias=F32),
    Case("linear_input_grad", formats=(F32, F32), n=13, c=33, k=10),
    Case("linear_weight_grad", formats=(F32, F32), n=13, c=33, k=10),
]


@pytest.mark.parametrize("case", FLOATS, ids=lambda c: f"{c.kind}-{FLOATS.index(c)}")
@EACH_CPU
def test_float_gemms_are_near_the_reference(case: Case, cpu: CpuInfo) -> None:
    assert case.kernel_on(cpu)[0].unit in FLOAT_UNITS
    check(case, cpu)


def test_sums_beyond_int32_are_exact() -> None:
    """2 x 36000 pixels of +-4096 times up to 15 do not fit int32, nor does one long row."""
    check(Case("linear_weight_grad", n=36000, c=1, k=2, formats=(FP4_ODD, INT4_MIDRISE)), detect())
    check(Case("linear", n=1, c=36000, k=2, formats=(FP4_ODD, FP4_EVEN)), detect(), Unit.INT32)


@pytest.mark.parametrize("f", [F32, BF16], ids=lambda f: f.name)
@pytest.mark.parametrize("kind", KINDS)
def test_results_do_not_depend_on_threads(kind: str, f: Format) -> None:
    case = Case(kind, n=5, formats=(f, f))
    first, _, _ = run(case, detect())
    use_threads(1)
    try:
        second, _, _ = run(case, detect())
    finally:
        use_threads(len(os.sched_getaffinity(0)))
    assert np.array_equal(first.numbers, second.numbers)


WORDS = {
    Unit.INT8_TILE: "tdpb",
    Unit.BF16_TILE: "tdpbf16ps",
    Unit.INT8_DOT: "vpdpbusd",
    Unit.INT16_DOT: "vpdpwssd",
    Unit.INT32: "vpmulld",
    Unit.F32: "vfmadd",
}


@pytest.mark.parametrize(
    ("kind", "formats", "mcpu", "unit"),
    [
        ("conv2d", (UINT4, INT4), "znver4", Unit.INT8_DOT),
        ("linear", (INT4, INT4), "icelake-server", Unit.INT8_DOT),
        *((kind, (INT4, INT4), "sapphirerapids", Unit.INT8_TILE) for kind in (*KINDS, *LINEAR)),
        *((kind, (BF16, BF16), "sapphirerapids", Unit.BF16_TILE) for kind in (*KINDS, *LINEAR)),
        ("conv2d_input_grad", (FP4_EVEN, INT4), "znver4", Unit.INT16_DOT),
        ("linear_input_grad", (FP4_EVEN, INT4_MIDRISE), "znver4", Unit.INT16_DOT),
        ("conv2d_weight_grad", (FP4_ODD, UINT4), "znver4", Unit.INT16_DOT),
        ("linear_weight_grad", (FP4_ODD, UINT4), "znver4", Unit.INT16_DOT),
        *((kind, (F32, F32), "skylake-avx512", Unit.F32) for kind in (*KINDS, *LINEAR)),
        *((kind, (UINT4, INT4), "x86-64-v3", Unit.INT32) for kind in (*KINDS, *LINEAR)),
    ],
)
def test_the_declared_unit_is_in_the_assembly(
    kind: str, formats: tuple[Format, Format], mcpu: str, unit: Unit
) -> None:
    cpu = named(mcpu)
    kernel, _ = Case(kind, c=32, k=32, formats=formats).kernel_on(cpu)
    assert kernel.unit is unit
    assembly = compile_kernel(kernel, cpu).assembly
    present = {u for u, word in WORDS.items() if word in assembly}
    assert unit in present
    assert not present & ({Unit.INT8_DOT, Unit.INT16_DOT} - {unit})
    assert (unit in TILES) == ("ldtilecfg" in assembly)


def test_a_scale_per_image_is_refused() -> None:
    case = Case("conv2d_weight_grad", formats=(FP4_ODD, UINT4), channel_scale=True)
    with pytest.raises(NoKernelError, match="one scale per tensor"):
        case.kernel_on(detect())


def test_equal_specs_are_equal_and_named_apart() -> None:
    spec, same, other = (
        Case("conv2d", stride=s).kernel_on(detect())[0].spec for s in ((1, 1), (1, 1), (2, 2))
    )
    assert spec == same
    assert repr(spec) == repr(same)
    assert repr(spec) != repr(other)

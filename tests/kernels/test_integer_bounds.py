"""No partial sum of integers exceeds what its unit holds: the bounds, and kernels at the edge."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tvm")

from quatrain.compiler.formats import (
    FP4_EVEN,
    FP5_140,
    INT4,
    INT8,
    INT15,
    INT16,
    LUQ,
    MIDRISE,
    UINT2,
    UINT4,
    UINT8,
    Format,
)
from quatrain.compiler.types import TensorType
from quatrain.targets.cpu.amx.chunks import choose_amx_chunks
from quatrain.targets.cpu.gemm.chunks import choose_chunks
from quatrain.targets.cpu.gemm.finish import sum_type
from quatrain.targets.cpu.gemm.pixels import pixels
from quatrain.targets.cpu.gemm.spec import GemmSpec
from quatrain.targets.cpu.info import CpuInfo, named
from quatrain.targets.numbers.integers import integers, unit_of
from quatrain.targets.numbers.tensor import Tensor, dtype_of
from quatrain.targets.plan.kernel import Unit

from ..cases.gemm_case import EACH_CPU, Case, run

pytestmark = pytest.mark.tvm

END = 1 << 31
CPUS = [named(name) for name in ("sapphirerapids", "znver4", "x86-64-v3")]
FORMATS = [UINT2, INT4, UINT4, INT8, UINT8, MIDRISE[3], MIDRISE[8], LUQ[7], LUQ[8]]
FORMATS += [FP4_EVEN, FP5_140, INT15, INT16]
# A padding, so that pixels stay rows: of g, two columns more.
ROW = Case("conv2d_weight_grad", c=1, k=1, kernel=(1, 1), padding=(0, 1))


@cache
def levels(f: Format) -> list[int]:
    """The numbers of a format as integers."""
    numbers = integers(f)
    assert numbers is not None
    return [int(level / numbers.unit) for level in f.levels()]


@cache
def size(f: Format) -> int:
    """The largest magnitude."""
    return max(map(abs, levels(f)))


def edges(a: Format, b: Format) -> list[int]:
    """Numbers of products just within int32 and just beyond, whatever the unit makes of ``a``."""
    firsts = {size(a), size(a) + 1, 128, -(-size(a) // 256) * 256}
    return sorted({(END - 1) // (n * size(b)) + more for n in firsts for more in (0, 1)} - {0})


def widest(spec: GemmSpec, a: Format) -> int:
    """The largest number that the products of one accumulator have, as its unit takes ``a``."""
    if spec.dot.unit is Unit.INT8_TILE and not set(levels(a)) <= set(range(-128, 128)):
        if min(levels(a)) >= 0 and size(a) < 256:
            return size(a)
        planes = [((n + 128) % 256 - 128, (n + 128) // 256) for n in levels(a)]
        assert all(low + 256 * high == n for (low, high), n in zip(planes, levels(a), strict=True))
        joined = max(256 * abs(high) for _, high in planes)
        return joined if not spec.weight_grad else max(abs(n) for pair in planes for n in pair)
    return max(size(a), spec.dot.zero)


def products(spec: GemmSpec, row_bytes: int) -> int:
    """How many products other than 0 one accumulator adds up, at most."""
    if not spec.weight_grad:
        return spec.length
    if spec.dot.unit is Unit.INT8_TILE:
        chunks = choose_amx_chunks(spec, 64, (1, 1), row_bytes)
        images = min(chunks.blocks * 64, chunks.grid.images)
        return images * chunks.rows * chunks.grid.columns
    cut = choose_chunks(spec, pixels(spec.a, spec.pointwise), row_bytes, row_bytes)
    return cut.images * cut.rows * pixels(spec.a, spec.pointwise).columns


def check(case: Case, cpu: CpuInfo) -> None:
    """All sums of the kernel that a CPU takes for a case."""
    spec = case.kernel_on(cpu)[0].spec
    assert isinstance(spec, GemmSpec)
    a, b = case.formats
    for row_bytes in (1, 64, 1 << 22):
        if spec.dot.acc == "int32":
            assert products(spec, row_bytes) * widest(spec, a) * size(b) < END, spec
        if spec.dot.split:
            # A product may be added alone, and its upper half is one of 2^16 numbers.
            assert 2 * size(a) * size(b) < END, spec
            assert products(spec, row_bytes) * ((1 << 16) - 1) < 1 << 32, spec
            assert products(spec, row_bytes) * (1 << 15) < END, spec
    if spec.weight_grad and sum_type(spec) == "float64":
        assert spec.length * size(a) * size(b) < 1 << 53, spec
    if spec.weight_grad and sum_type(spec) == "int32":
        assert spec.length * size(a) * size(b) < END, spec


@pytest.mark.share(2)
@pytest.mark.parametrize("cpu", CPUS, ids=lambda c: c.mcpu)
@pytest.mark.parametrize("a", FORMATS, ids=str)
def test_sums_of_the_largest_numbers_fit(a: Format, cpu: CpuInfo) -> None:
    for b in FORMATS:
        for n in edges(a, b):
            check(Case("linear", n=1, c=n, k=1, formats=(a, b)), cpu)
            check(Case("linear_input_grad", n=1, c=1, k=n, formats=(a, b)), cpu)
            check(Case("linear_weight_grad", n=n, c=1, k=1, formats=(a, b)), cpu)
            for images in (1, 8, 64, 100):
                columns = n // min(images, 64)
                for size_ in ((1, max(1, columns - 2)), (1, max(1, columns - 1))):
                    check(replace(ROW, n=images, size=size_, formats=(a, b)), cpu)


@settings(max_examples=200, deadline=None)
@given(
    pair=st.tuples(*[st.sampled_from(FORMATS)] * 2),
    images=st.integers(1, 300),
    rows=st.integers(1, 40),
    columns=st.integers(1, 70000),
    kernel=st.sampled_from([(1, 1), (1, 3), (3, 1)]),
    cpu=st.sampled_from(CPUS),
)
def test_sums_of_weight_gradients_fit(
    pair: tuple[Format, Format],
    images: int,
    rows: int,
    columns: int,
    kernel: tuple[int, int],
    cpu: CpuInfo,
) -> None:
    padding = (kernel[0] // 2, kernel[1] // 2)
    case = replace(ROW, n=images, size=(rows, columns), kernel=kernel, padding=padding)
    check(replace(case, formats=pair), cpu)


# At the edges of int32 by what each unit makes of the first operand: itself, itself and its zero,
# two planes put together.
EDGES = [
    *(((INT8, UINT8), n) for n in (66311, 66312)),
    *(((INT8, INT8), n) for n in (132104, 132105, 133144, 133145)),
    *(((MIDRISE[8], INT8), n) for n in (66052, 66053, 66311, 66312)),
    *(((FP4_EVEN, INT4), n) for n in (74898, 74899)),
    # In two parts, whose upper halves end first.
    *(((INT16, INT16), n) for n in (3, 65535, 65536)),
]
EXTREMES = [
    *(Case("linear", n=1, c=n, k=2, formats=pair) for pair, n in EDGES),
    *(Case("linear_weight_grad", n=n, c=1, k=2, formats=pair) for pair, n in EDGES),
    *(
        replace(ROW, n=n, k=2, size=(1, w), formats=pair)
        for pair, n, w in (
            *(((INT8, UINT8), 64, w) for w in (1034, 1035, 2048)),
            ((INT8, UINT8), 100, 2048),
            ((MIDRISE[8], UINT8), 8, 8240),
            ((FP4_EVEN, UINT4), 64, 600),
        )
    ),
]


@EACH_CPU
@pytest.mark.parametrize("case", EXTREMES, ids=lambda c: f"{c.kind}-{EXTREMES.index(c)}")
@pytest.mark.parametrize("end", [0, -1], ids=["least", "largest"])
def test_extreme_operands_give_the_exact_sum(case: Case, end: int, cpu: CpuInfo) -> None:
    """All products are of one size and sign: the sum of each accumulator is as large as can be."""
    ends = iter((end, -1))

    def draw(type_: TensorType, rng: np.random.Generator) -> Tensor:
        f = type_.format
        code = [f.decode(c) for c in range(1 << f.bits)].index(f.levels()[next(ends)])
        data = np.full(type_.shape, code, dtype_of(f))
        return Tensor(type_, data, np.asarray(1, np.float32))

    got, _, kernel = run(case, cpu, EXTREMES, draw=draw)
    a, b = case.formats
    count = {"linear": case.c, "linear_weight_grad": case.n}.get(case.kind, case.n * case.size[1])
    exact = count * levels(a)[end] * levels(b)[-1]
    unit = unit_of(a) * unit_of(b)
    assert np.all(got.numbers == np.float32(exact) * np.float32(unit)), (kernel.unit, exact)

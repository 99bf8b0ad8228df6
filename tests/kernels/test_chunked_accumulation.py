"""Sums in a 16-bit accumulator: rounding, order, chunks; kernels and whole steps bit for bit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from quatrain.compiler.errors import RecipeError, VerifyError
from quatrain.compiler.formats import (
    BF16,
    F16,
    F32,
    FP4_EVEN,
    FP8_143_IBM,
    FP8_152,
    FP8_152_IBM,
    HALF_FLOATS,
    INT4,
    INT4_MIDRISE,
    UINT4,
)
from quatrain.compiler.ir import Op, attrs
from quatrain.compiler.ir.text import parse
from quatrain.compiler.ir.verify import verify
from quatrain.compiler.types import Scale, TensorType
from quatrain.passes import PASSES
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.reference.chunked import rounded
from quatrain.targets.reference.evaluate import apply

Array = Any
EACH = pytest.mark.parametrize("name", HALF_FLOATS)
FORWARD, BACKWARD = (FP8_143_IBM, FP8_143_IBM), (FP8_152_IBM, FP8_143_IBM)


def numbers(name: str) -> Array:
    """All finite numbers of an accumulator, in the order of their codes."""
    held = HALF_FLOATS[name]
    return np.array([held.format.decode(c) for c in range(held.largest + 1)])


@EACH
def test_rounding_is_to_the_nearest_in_the_list_of_numbers(name: str) -> None:
    """All numbers, the middles of neighbours (to the even code) and both sides of each."""
    how, level = HALF_FLOATS[name], numbers(name)
    middle = (level[:-1] + level[1:]) / 2
    even = np.where(np.arange(len(middle)) % 2 == 0, level[:-1], level[1:])
    for sign in (1.0, -1.0):
        assert np.array_equal(rounded(sign * level, how), sign * level)
        assert np.array_equal(rounded(sign * middle, how), sign * even)
        assert np.array_equal(rounded(sign * np.nextafter(middle, 0), how), sign * level[:-1])
        assert np.array_equal(rounded(sign * np.nextafter(middle, np.inf), how), sign * level[1:])


@EACH
def test_beyond_the_top_is_infinity(name: str) -> None:
    how, level = HALF_FLOATS[name], numbers(name)
    half = (level[-1] - level[-2]) / 2
    near, far = how.top + half * 0.99, how.top + half * 1.01
    made = rounded(np.array([near, far, -near, -far, np.inf]), how)
    assert made.tolist() == [how.top, np.inf, -how.top, -np.inf, np.inf]
    assert np.isnan(rounded(np.array([np.nan]), how))


def test_f16_is_that_of_numpy() -> None:
    x = np.random.default_rng(0).standard_normal(20000) * np.exp2(np.arange(20000) % 44 - 28)
    with np.errstate(over="ignore"):
        wanted = x.astype(np.float16).astype(np.float64)
    assert np.array_equal(rounded(x, HALF_FLOATS["f16"]), wanted)


@EACH
def test_an_addition_in_f32_first_changes_nothing(name: str) -> None:
    """Sums of two numbers of the accumulator, many near a middle, at all distances of exponents."""
    how, rng = HALF_FLOATS[name], np.random.default_rng(0)
    mantissas = rng.integers(1 << (how.precision - 1), 1 << how.precision, (2, 40, 5000))
    a = mantissas[0] * 1.0
    b = mantissas[1] * np.exp2(-np.arange(40.0))[:, None] * rng.choice([-1, 1], (40, 5000))
    exact = a + b  # 51 bits at most: exact in float64
    twice = (a.astype(np.float32) + b.astype(np.float32)).astype(np.float64)
    assert not np.array_equal(exact, twice)
    # Integers of few digits lie where both formats have their full precision.
    small = np.float64(2.0**-6)
    assert np.array_equal(rounded(exact * small, how), rounded(twice * small, how))


def ones(shape: tuple[int, ...]) -> Tensor:
    return Tensor.from_numbers(TensorType(shape, FP8_143_IBM, Scale.POW2), np.ones(shape))


STALLS = [
    ("fp16.169", 0, 1024.0),
    ("fp16.169", 64, 4096.0),
    ("f16", 0, 2048.0),
    ("f16", 32, 4096.0),
]


@pytest.mark.parametrize(("name", "chunk", "wanted"), STALLS)
@pytest.mark.parametrize("kind", ["linear", "linear_input_grad", "linear_weight_grad"])
def test_a_long_sum_stalls_without_chunks(name: str, chunk: int, wanted: float, kind: str) -> None:
    """Wang et al. 2018: 1.0 is half of a step at 1024 (2048 in f16), a tie to even."""
    shapes = {"linear": ((1, 4096), (1, 4096)), "linear_input_grad": ((1, 4096), (4096, 1))}
    a, b = shapes.get(kind, ((4096, 1), (4096, 1)))
    result = [TensorType((1, 1), F32)]
    (y,) = apply(kind, [ones(a), ones(b)], result, accumulator=name, chunk=chunk)
    assert y.data.item() == wanted


def plain(products: list[float], chunk: int) -> float:
    """The recipe's loop, in NumPy's own f16."""
    total = np.float16(0)
    for i in range(0, len(products), chunk):
        part = np.float16(0)
        for p in products[i : i + chunk]:
            part = np.float16(np.float64(part) + p)
        total = np.float16(np.float64(total) + np.float64(part))
    return float(total)


def convolution(kind: str, a: Array, b: Array, shape: tuple[int, ...], chunk: int) -> Array:
    """Stride 2, padding 1, no groups, element by element in the order that is written down."""
    out = np.zeros(shape)
    w_shape = shape if kind.endswith("weight_grad") else b.shape
    taps = [(r, s) for r in range(w_shape[2]) for s in range(w_shape[3])]

    def at(x: Array, n: int, c: int, i: int, j: int) -> float:
        inside = 0 <= i < x.shape[2] and 0 <= j < x.shape[3]
        return float(x[n, c, i, j]) if inside else 0.0

    def sent(n: int, k: int, i: int, j: int) -> float:
        return at(a, n, k, i // 2, j // 2) if i % 2 == j % 2 == 0 else 0.0

    for n, c, i, j in np.ndindex(shape):
        if kind == "conv2d":
            terms = [
                at(a, n, k, 2 * i + r - 1, 2 * j + s - 1) * b[c, k, r, s]
                for r, s in taps
                for k in range(b.shape[1])
            ]
        elif kind == "conv2d_input_grad":
            terms = [
                sent(n, k, i + 1 - r, j + 1 - s) * b[k, c, r, s]
                for r, s in taps
                for k in range(b.shape[0])
            ]
        else:
            terms = [
                a[image, n, p, q] * at(b, image, c, 2 * p + i - 1, 2 * q + j - 1)
                for image, p, q in np.ndindex(a.shape[0], *a.shape[2:])
            ]
        out[n, c, i, j] = plain(terms, chunk)
    return out


@pytest.mark.parametrize("kind", ["conv2d", "conv2d_input_grad", "conv2d_weight_grad"])
def test_the_order_of_the_sum_is_the_written_one(kind: str) -> None:
    x, w, y = (2, 3, 5, 4), (5, 3, 3, 2), (2, 5, 3, 3)
    shapes = {"conv2d": (x, w, y), "conv2d_input_grad": (y, w, x), "conv2d_weight_grad": (y, x, w)}
    rng, (a, b, made) = np.random.default_rng(1), shapes[kind]
    first, second = (
        Tensor.from_numbers(TensorType(s, FP8_143_IBM, Scale.POW2), rng.standard_normal(s))
        for s in (a, b)
    )
    options: dict[str, Any] = {"stride": (2, 2), "padding": (1, 1), "dilation": (1, 1), "groups": 1}

    def run(chunk: int) -> Array:
        types = [TensorType(made, F32)]
        how: dict[str, Any] = {"accumulator": "f16", "chunk": chunk}
        return apply(kind, [first, second], types, **options, **how)[0].data

    wanted = convolution(kind, first.numbers, second.numbers, made, 4)
    assert np.array_equal(run(4), wanted)
    assert not np.array_equal(run(0), wanted)


PROGRAM = """program p
input x : {x}
state w : {w}

forward:
  # fc
  y = linear(x, w) {{{attrs}}} : f32[3x5]

return y
"""
CODES = {"x": "fp8.143.ibm*p[3x7]", "w": "fp8.143.ibm*p[5x7]", "attrs": "accumulator=f16, chunk=8"}
REFUSED = [
    ({"attrs": "accumulator=f16"}, "linear has accumulator alone; accumulator and chunk come"),
    ({"attrs": "chunk=8"}, "linear has chunk alone"),
    ({"attrs": "accumulator=f16, chunk=-1"}, "chunk=-1 is not of type int >= 0"),
    ({"attrs": "accumulator=bf16, chunk=8"}, "accumulator=bf16 is none of fp16.169, f16"),
    ({"x": "f16[3x7]"}, "adds products of codes with a factor, not f16"),
    ({"x": "uint8*a[3x7]"}, "adds products of codes with a factor, not uint8"),
    (
        {"x": "uint8*t[3x7]", "w": "int8*t[5x7]"},
        "accumulator=f16 has 11 significant bits; products of uint8 and int8 have 15",
    ),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_what_cannot_be_added_up_so_is_refused(change: dict[str, str], message: str) -> None:
    verify(parse(PROGRAM.format(**CODES)))
    with pytest.raises(VerifyError, match=message):
        verify(parse(PROGRAM.format(**CODES | change)))


def test_a_scale_that_is_summed_over_is_refused() -> None:
    text = PROGRAM.format(**CODES | {"x": "fp8.152*p[3x5]", "w": "int4*c[5x7]"})
    text = text.replace("linear(", "linear_input_grad(").replace("f32[3x5]", "f32[3x7]")
    with pytest.raises(VerifyError, match="cannot sum over the channels of the scale of int4"):
        verify(parse(text))
    verify(parse(PROGRAM.format(**CODES | {"w": "int4*c[5x7]"})))


def test_wrong_options_of_the_pass_are_refused() -> None:
    run = PASSES["chunked_accumulation"]
    text = PROGRAM.replace(" {{{attrs}}}", "")
    wide = verify(parse(text.format(x="uint8*t[3x7]", w="int8*t[5x7]")))
    with pytest.raises(RecipeError, match="chunk=-1 of chunked_accumulation is less than 0"):
        run(wide, chunk=-1)
    with pytest.raises(RecipeError, match="layer fc: accumulator=f16 has 11 significant bits"):
        run(wide, accumulator="f16")
    assert str(run(wide)).replace("after chunked_accumulation\n", "") == str(wide)


# What follows compiles kernels.
pytest.importorskip("tvm")

from quatrain.targets.cpu.info import detect, named  # noqa: E402
from quatrain.targets.plan.kernel import Unit  # noqa: E402
from quatrain.targets.plan.layout import Order  # noqa: E402

from ..cases.gemm_case import (  # noqa: E402
    EACH_CPU,
    KINDS,
    LINEAR,
    MATRICES,
    Case,
    compile_case,
    expected,
    run,
)
from .test_cpus_without_vnni import PORTABLE  # noqa: E402

ROWS = (Order.ROWS,) * 3


@dataclass(frozen=True)
class Chunked(Case):
    """A GEMM with an accumulator."""

    accumulator: str = "fp16.169"
    chunk: int = 8

    def ops(self) -> tuple[Op, ...]:
        """See ``Case``."""
        gemm, *bias = super().ops()
        how = attrs(accumulator=self.accumulator, chunk=self.chunk)
        return replace(gemm, attrs=attrs(**{**gemm.attrs, **how})), *bias


def same(case: Chunked, cpu: Any) -> None:
    """Equal numbers, and zeros of equal sign; a NaN for a NaN."""
    got, operands, kernel = run(case, cpu, CASES if case in CASES else ())
    with np.errstate(all="ignore"):
        want = expected(case, operands).numbers
    assert kernel.unit is Unit.F32
    np.testing.assert_array_equal(got.numbers, want)
    assert np.array_equal(np.signbit(got.numbers)[want == 0], np.signbit(want)[want == 0])


CASES = [
    *(
        case
        for kind in (*KINDS, *LINEAR)
        for pair in [BACKWARD if kind.endswith("grad") else FORWARD]
        for case in (
            Chunked(kind, formats=pair, n=5),
            Chunked(kind, formats=pair, n=33, c=7, k=3, accumulator="f16", chunk=3),
            Chunked(kind, formats=pair, n=1, c=27, k=33, chunk=0),
        )
    ),
    *(
        case
        for kind in KINDS
        for pair in [BACKWARD if kind.endswith("grad") else FORWARD]
        for case in (
            Chunked(kind, formats=pair, c=12, k=24, groups=4, n=3, stride=(2, 1), orders=ROWS),
            Chunked(kind, formats=pair, c=13, k=13, groups=13, stride=(2, 2), n=17),
            Chunked(
                kind, formats=pair, stride=(3, 2), dilation=(2, 1), padding=(2, 0), n=1, chunk=1
            ),
            Chunked(kind, formats=pair, kernel=(1, 1), padding=(0, 0), stride=(2, 2), chunk=64),
            Chunked(kind, formats=pair, kernel=(1, 1), padding=(2, 3), made=F16),
            Chunked(kind, formats=pair, n=1, c=1, k=1, size=(1, 1), kernel=(1, 1), padding=(0, 0)),
            Chunked(kind, formats=(UINT4, INT4), made=BF16, size=(13, 28), n=3),
            Chunked(kind, formats=(FP4_EVEN, INT4_MIDRISE), orders=ROWS, accumulator="f16"),
        )
    ),
    *(
        Chunked(kind, formats=pair, n=3, size=(7, 5), c=13, chunk=chunk)
        for kind in MATRICES
        for pair in [BACKWARD if kind.endswith("grad") else FORWARD]
        for chunk in (0, 3)
    ),
    Chunked("conv2d", formats=FORWARD, made=F16, bias=F16, out=F16),
    Chunked("conv2d", formats=(UINT4, INT4), channel_scale=True, bias=F32),
]


@EACH_CPU
@pytest.mark.tvm
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.kind}-{CASES.index(c)}")
def test_kernels_equal_the_reference(case: Chunked, cpu: Any) -> None:
    same(case, cpu)


@pytest.mark.tvm
@pytest.mark.parametrize("mcpu", [PORTABLE])
@pytest.mark.parametrize("kind", KINDS)
def test_other_cpus_give_the_same_bits(kind: str, mcpu: str) -> None:
    same(Chunked(kind, formats=BACKWARD, n=9), named(mcpu))


def dot(case: Chunked, a: list[int], b: list[int]) -> float:
    """The kernel's only sum over these codes."""
    kernel, _ = case.kernel_on(detect())
    scale, out = np.ones(1, np.float32), np.zeros(1, np.float32)
    first, second = (np.array(codes, np.uint8) for codes in (a, b))
    compile_case(kernel, case, (case,))(first, scale, second, scale, out)
    return float(out.item())


@pytest.mark.tvm
@pytest.mark.parametrize(("name", "chunk", "wanted"), STALLS)
@pytest.mark.parametrize("kind", LINEAR)
def test_kernels_stall_where_the_reference_does(
    kind: str, name: str, chunk: int, wanted: float
) -> None:
    sizes = {"linear": (1, 4096, 1), "linear_input_grad": (1, 1, 4096)}
    n, c, k = sizes.get(kind, (4096, 1, 1))
    case = Chunked(kind, formats=FORWARD, n=n, c=c, k=k, accumulator=name, chunk=chunk)
    one = [int(ones((1,)).data[0])] * 4096
    assert dot(case, one, one) == wanted


@pytest.mark.tvm
@EACH
def test_overflow_is_infinite_and_infinity_minus_infinity_nan(name: str) -> None:
    """Four times 57344^2 is beyond both formats."""
    case = Chunked("linear", formats=(FP8_152,) * 2, n=1, c=8, k=1, accumulator=name, chunk=4)
    top, minus = 0x7B, 0xFB
    assert dot(case, [top] * 8, [top] * 8) == np.inf
    assert dot(case, [top] * 8, [minus] * 8) == -np.inf
    assert np.isnan(dot(case, [top] * 8, [top] * 4 + [minus] * 4))

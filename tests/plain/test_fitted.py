"""f32 scales of blocks, and products that they multiply from outside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from quatrain.compiler.formats import F32, FORMATS
from quatrain.compiler.ir import Program
from quatrain.compiler.ir.verify import read_program
from quatrain.compiler.types import BlockScale, TensorType
from quatrain.targets.numbers.blocks import fit_scale, largest, spread
from quatrain.targets.numbers.rounding import decode, encode
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.plan.blocks import blocks_apart
from quatrain.targets.plan.decode import decode_operands
from quatrain.targets.reference.evaluate import evaluate

SHAPES = [(7, 33), (1, 1), (13, 27), (28, 3)]


def fitted(shape: tuple[int, ...], block: str, f: str) -> Program:
    size = "x".join(map(str, shape))
    return read_program(
        f"program p\ninput x : f32[{size}]\n\nforward:\n"
        f"  s = fit_blocks(x) {{to={f}}} : f32*{block}:f32[{size}]\n"
        f"  q = cast(s) : {f}*{block}:f32[{size}]\n"
        f"  y = dequantize(q) : f32[{size}]\n\nreturn y\n"
    )


def made(program: Program, *arrays: np.ndarray) -> list[np.ndarray]:
    given = {
        v.name: Tensor.from_numbers(v.type, x) for v, x in zip(program.inputs, arrays, strict=True)
    }
    results = evaluate(program, given)
    return [results[v].numbers for v in program.outputs]


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("f", ["fp8.143", "fp8.152", "int8", "fp4.121"])
@pytest.mark.parametrize("block", ["b1x32", "b5x1", "b2x3", "b1x1", "b7x33"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_numbers_are_those_of_the_rule_and_apart_the_same(
    shape: tuple[int, int], block: str, f: str
) -> None:
    x = drawn(*shape)
    x.flat[0] = 0
    program = fitted(shape, block, f)
    (wanted,), (apart,) = made(program, x), made(blocks_apart(program), x)
    np.testing.assert_array_equal(apart, wanted)
    scale = program.region("forward").ops[0].result.type.scale
    assert isinstance(scale, BlockScale)
    top = np.float32(FORMATS[f].max)
    m = largest(x, scale)
    s = spread(np.where(m > 0, m / top, np.float32(1)), scale, shape)
    codes = encode(x / s, FORMATS[f])
    np.testing.assert_array_equal(wanted, decode(codes, FORMATS[f]) * s)
    assert np.abs(wanted).max() == pytest.approx(np.abs(x).max(), rel=2.0**-22)


def test_scales_of_zeros_of_tiny_numbers_and_of_none() -> None:
    tiny = np.float32(2.0**-149)
    m = np.array([0, tiny, 448 * tiny, np.inf, np.nan, 3.4e38], np.float32)
    made_ = fit_scale(m, FORMATS["fp8.143"])
    np.testing.assert_array_equal(made_[:3], np.array([1, 1, tiny], np.float32))
    assert np.isnan(made_[3:5]).all() and made_[5] == np.float32(m[5] / 448)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_block_with_no_number_is_no_number(bad: float) -> None:
    x = drawn(2, 8)
    x[1, 3] = bad
    for program in (p := fitted((2, 8), "b1x4", "fp8.143"), blocks_apart(p)):
        (y,) = made(program, x)
        assert np.isnan(y[1, :4]).all() and np.isfinite(y[0]).all() and np.isfinite(y[1, 4:]).all()


Fitted = tuple[str, str, str, tuple[str, str], Callable[[np.ndarray, np.ndarray], np.ndarray]]
PRODUCTS: dict[str, Fitted] = {
    "linear": ("7x33", "13x33", "7x13", ("b1x33", "b1x33"), lambda a, b: a @ b.T),
    "linear of a tensor": ("7x33", "13x33", "7x13", ("b1x33", "b13x33"), lambda a, b: a @ b.T),
    "linear_input_grad": ("7x13", "13x33", "7x33", ("b1x13", "b13x1"), lambda a, b: a @ b),
    "linear_weight_grad": ("7x13", "7x33", "13x33", ("b7x1", "b7x1"), lambda a, b: a.T @ b),
    "product": ("3x7x5", "3x5x9", "3x7x9", ("b1x1x5", "b1x5x1"), lambda a, b: a @ b),
}


@pytest.mark.parametrize("case", PRODUCTS)
def test_sums_of_one_block_are_exact_integers_times_both_scales(case: str) -> None:
    first, second, result, blocks, product = PRODUCTS[case]
    lines = [
        f"  s{i} = fit_blocks({v}) {{to=int8}} : f32*{b}:f32[{shape}]\n"
        f"  q{i} = cast(s{i}) : int8*{b}:f32[{shape}]\n"
        for i, (v, b, shape) in enumerate(zip("ab", blocks, (first, second), strict=True))
    ]
    program = read_program(
        f"program p\ninput a : f32[{first}]\ninput b : f32[{second}]\n\nforward:\n"
        f"{''.join(lines)}  y = {case.split()[0]}(q0, q1) : f32[{result}]\n\nreturn y\n"
    )
    lowered = blocks_apart(decode_operands(program))
    kinds = [op.kind for _, op in lowered.ops()]
    assert "dequantize" not in kinds and kinds.count("mul") == 2
    arrays = [drawn(*v.type.shape, seed=i).astype(np.float32) for i, v in enumerate(program.inputs)]
    (got,), (real,) = made(lowered, *arrays), made(program, *arrays)
    # Both scales round what is exact before; the reference rounds its own sum of real numbers.
    np.testing.assert_allclose(got, real, rtol=0, atol=4 * 2.0**-24 * np.abs(real).max())
    exact = product(*(x.astype(np.float64) for x in arrays))
    # Half a step of int8 on either side of each of up to 33 products.
    assert np.abs(got - exact).max() < 33 * (2 * 3.5 * 3.5 / 254 + (3.5 / 254) ** 2)


def test_a_part_of_a_sum_has_scales_of_its_own() -> None:
    """Half of the sum in each block: numbers are decoded ahead."""
    program = read_program(
        "program p\ninput a : f32[3x8]\ninput b : f32[5x8]\n\nforward:\n"
        "  s0 = fit_blocks(a) {to=int8} : f32*b1x4:f32[3x8]\n"
        "  q0 = cast(s0) : int8*b1x4:f32[3x8]\n"
        "  s1 = fit_blocks(b) {to=int8} : f32*b1x8:f32[5x8]\n"
        "  q1 = cast(s1) : int8*b1x8:f32[5x8]\n"
        "  y = linear(q0, q1) : f32[3x5]\n\nreturn y\n"
    )
    lowered = blocks_apart(decode_operands(program))
    types = [v.type for _, op in lowered.ops() if op.kind == "linear" for v in op.inputs]
    assert types == [TensorType((3, 8), F32), TensorType((5, 8), F32)]
    assert np.isfinite(made(lowered, drawn(3, 8), drawn(5, 8, seed=1))[0]).all()

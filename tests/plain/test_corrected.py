"""Quartet II's way back: scales that are corrected and rounded by chance, and what has no bias."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from quatrain.compiler.errors import VerifyError
from quatrain.compiler.formats import FP8_143
from quatrain.compiler.ir import Program
from quatrain.compiler.ir.verify import read_program
from quatrain.passes.quartet2_operands import SMALLER, TOP_OF_BACKWARD
from quatrain.targets.numbers.rounding import decode, encode_stochastic
from quatrain.targets.numbers.tensor import Array, Tensor
from quatrain.targets.numbers.threefry import uniform
from quatrain.targets.plan.blocks import blocks_apart
from quatrain.targets.reference.evaluate import evaluate

SALT = 3


def corrected(
    shape: str, block: str = "b1x16", dim: int = 1, group: int = 128, by: str = "real"
) -> Program:
    kind = f"{block}:fp8.143:t[{shape}]"
    how = f"to=fp4.121, top={TOP_OF_BACKWARD / SMALLER}, headroom={SMALLER}, four_over_six=false"
    return read_program(
        f"program p\ninput x : bf16[{shape}]\nstate seed : i64[]\nstate step : i64[]\n\n"
        "forward:\n  m = amax(x) : f32[]\n"
        f"  s = scale_blocks_twice(x, m) {{{how}}} : f32*{kind}\n"
        f"  q = cast(s) : fp4.121*{kind}\n"
        f"  c = correct_scales(q, x, seed, step) {{dim={dim}, group={group}, by={by}, salt={SALT}}}"
        f" : fp4.121*{kind}\n"
        f"  y = dequantize(c) : f32[{shape}]\n  z = dequantize(q) : f32[{shape}]\n\nreturn y, z\n"
    )


def given(program: Program, x: Array, step: int = 0) -> dict[str, Tensor]:
    (v, seed, counter) = (*program.inputs, *program.state)
    numbers = {v: x, seed: 7, counter: step}
    return {k.name: Tensor.from_numbers(k.type, np.asarray(n)) for k, n in numbers.items()}


def run(program: Program, x: Array, step: int = 0) -> Array:
    return evaluate(program, given(program, x, step))[program.outputs[0]].numbers


def numbers(*shape: int) -> Array:
    x = np.random.default_rng(0).standard_normal(shape).astype(ml_dtypes.bfloat16)
    return x.astype(np.float32)


def as_published(x: Array) -> Array:
    """The authors' kernel behind its transform, step by step: rows of 128, blocks of 16."""
    top, s_dec = 6 / SMALLER, np.float32(1)
    s_dec = np.float32(np.abs(x).max() / 255.99 / top)
    blocks = x.reshape(-1, 16)
    s = np.abs(blocks).max(1, keepdims=True) / top / s_dec
    s = s.astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
    scaled = blocks / (s * s_dec)
    codes = np.clip(scaled, -6, 6).astype(ml_dtypes.float4_e2m1fn).astype(np.float32)
    rows, coded = scaled.reshape(-1, 128), codes.reshape(-1, 128)
    factor = (rows * rows).sum(1, keepdims=True) / (rows * coded).sum(1, keepdims=True)
    wanted = (s.reshape(-1, 8) * factor).astype(np.float32)
    u = uniform(7, 0, SALT, wanted.shape)
    made = decode(encode_stochastic(wanted, FP8_143, u), FP8_143)
    return np.asarray(codes.reshape(-1, 8, 16) * made[:, :, None] * s_dec).reshape(x.shape)


def test_numbers_are_those_of_the_published_kernel() -> None:
    """f32 products in another order: codes of scales might turn, and do not for these numbers."""
    x = numbers(8, 256)
    np.testing.assert_allclose(run(corrected("8x256", by="stored"), x), as_published(x), rtol=1e-6)


@pytest.mark.parametrize("by", ["real", "stored"])
@pytest.mark.parametrize(
    ("shape", "block", "dim", "group"),
    [((3, 128), "b1x16", 1, 128), ((40, 5), "b16x1", 0, 32), ((7, 33), "b1x1", 1, 4)],
)
def test_corrected_scales_apart_are_the_same_numbers(
    shape: tuple[int, int], block: str, dim: int, group: int, by: str
) -> None:
    program = corrected("x".join(map(str, shape)), block, dim, group, by)
    x = numbers(*shape)
    x[0] = 0
    apart = blocks_apart(program)
    np.testing.assert_array_equal(run(apart, x), run(program, x))


def test_what_is_no_number_takes_its_row_along() -> None:
    x = numbers(2, 256)
    x[0, 3] = np.nan
    y = run(corrected("2x256"), x)
    assert np.isnan(y[0, :128]).all() and np.isfinite(y[0, 128:]).all() and np.isfinite(y[1]).all()


@pytest.mark.parametrize(
    ("block", "dim", "group"), [("b1x16", 1, 24), ("b1x16", 0, 16), ("b16x16", 1, 128)]
)
def test_groups_that_cut_blocks_are_refused(block: str, dim: int, group: int) -> None:
    with pytest.raises(VerifyError, match=f"no {group} numbers along dimension {dim} are whole"):
        corrected("32x128", block, dim, group)


# -- bias


def along(x: Array, by: str, times: int = 200) -> tuple[float, float]:
    """Of rows x that become y the mean of sum x y - sum x x, and four standard deviations of it."""
    program = corrected("x".join(map(str, x.shape)), by=by)
    left = [float((x * (run(program, x, i).astype(np.float64) - x)).sum()) for i in range(times)]
    return float(np.mean(left)), 4 * float(np.std(left)) / times**0.5


def test_along_a_row_nothing_is_lost_in_the_mean_of_scales() -> None:
    """Under one transform: exact for sums of real numbers; published ones weigh blocks alike."""
    x = numbers(16, 256) * np.linspace(0.2, 2, 256).astype(np.float32)
    x = x.astype(ml_dtypes.bfloat16).astype(np.float32)
    error, bound = along(x, "real")
    assert abs(error) < bound
    error, bound = along(x, "stored")
    assert abs(error) > bound


@pytest.mark.parametrize("corrects", [True, False])
def test_the_mean_over_transforms_is_the_row(corrects: bool) -> None:
    """Along the row, its signs and its magnitudes, within four deviations of 2,000 transforms.

    A transform by signs is no rotation drawn from all: what is left of bias is 0.02 % of the length
    of such a row, too little for as many, and 4 % of that of a row of nearly one number.
    """
    rng, times = np.random.default_rng(0), 2000
    matrix = np.ones((1, 1))
    while len(matrix) < 128:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]]) / np.sqrt(2)
    x = rng.standard_normal(128)
    signs = rng.choice([-1.0, 1.0], (times, 128))
    turned = (signs * x @ matrix).astype(ml_dtypes.bfloat16).astype(np.float32)
    program = corrected(f"{times}x128")
    values = evaluate(program, given(program, turned))
    y = values[program.outputs[0 if corrects else 1]].numbers
    left = (signs * (y @ matrix) - x) @ np.stack([x, np.sign(x), np.abs(x)]).T
    deviations = np.abs(left.mean(0)) / (left.std(0) / np.sqrt(times))
    assert (deviations.max() < 4) == corrects

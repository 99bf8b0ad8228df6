"""Numbers in blocks: element formats, powers of two by the published rules, types, roundings."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from quatrain.compiler.errors import ParseError, VerifyError
from quatrain.compiler.formats import E8M0, F32, FORMATS, FP4_121, FP6_123, FP6_132, FP8_143, Format
from quatrain.compiler.ir.samples import samples_apart
from quatrain.compiler.ir.text import parse_type
from quatrain.compiler.ir.verify import read_program
from quatrain.compiler.types import BlockScale, TensorType
from quatrain.targets.numbers.blocks import (
    inner_factor,
    inner_scale,
    largest,
    outer_encoding,
    power_scale,
    spread,
)
from quatrain.targets.numbers.rounding import decode_table, encode, encode_stochastic
from quatrain.targets.numbers.tensor import Tensor
from quatrain.targets.numbers.threefry import uniform
from quatrain.targets.plan.blocks import blocks_apart
from quatrain.targets.reference.evaluate import evaluate

THEIRS = {
    FP4_121: ml_dtypes.float4_e2m1fn,
    FP6_123: ml_dtypes.float6_e2m3fn,
    FP6_132: ml_dtypes.float6_e3m2fn,
    E8M0: ml_dtypes.float8_e8m0fnu,
}
RULES = ("floor", "ceil", "rceil", "even")
ELEMENTS = [FORMATS[n] for n in ("fp8.143", "fp8.152", "fp6.123", "fp6.132", "fp4.121", "int8")]


@pytest.mark.parametrize("f", THEIRS, ids=str)
def test_codes_are_those_of_ml_dtypes(f: Format) -> None:
    codes = np.arange(1 << f.bits, dtype=np.uint8)
    np.testing.assert_array_equal(decode_table(f), codes.view(THEIRS[f]).astype(np.float32))


@pytest.mark.parametrize("f", [FP4_121, FP6_123, FP6_132], ids=str)
def test_numbers_round_as_in_ml_dtypes(f: Format) -> None:
    levels = np.array(f.levels())
    middles = (levels[1:] + levels[:-1]) / 2
    rng = np.random.default_rng(0)
    x = np.concatenate([levels, middles, rng.uniform(-f.max, f.max, 2000)]).astype(np.float32)
    np.testing.assert_array_equal(
        decode_table(f)[encode(x, f)], x.astype(THEIRS[f]).astype(np.float32)
    )
    assert decode_table(f)[encode(np.array([-1e9, 1e9]), f)].tolist() == [-f.max, f.max]


# In the words of the specification: the turning points of E2M1 and the numbers that they go to.
TURNS = {0.25: 0, 0.75: 1, 1.25: 1, 1.75: 2, 2.5: 2, 3.5: 4, 5: 4, 6.5: 6}


@pytest.mark.parametrize("x", TURNS)
def test_ties_of_four_bits(x: float) -> None:
    assert decode_table(FP4_121)[encode(np.array([x]), FP4_121)].item() == TURNS[x]


def by_bits(m: np.ndarray, to: Format, rule: str) -> np.ndarray:
    """The rules as published code has them, on the bits of f32 (torchao's ``to_mx``, PTX's cvt)."""
    top = {"fp8.143": 8, "fp8.152": 15, "fp6.123": 2, "fp6.132": 4, "fp4.121": 2, "int8": 6}[
        to.name
    ]
    man = {"fp8.143": 3, "fp8.152": 2, "fp6.123": 3, "fp6.132": 2, "fp4.121": 1, "int8": 6}[to.name]
    if rule == "rceil":
        bits = (m * (np.float32(1) / np.float32(to.max))).astype(np.float32).view(np.uint32)
        e, rest = bits >> 23, bits & 0x7FFFFF
        code = e + ((e > 0) & (rest > 0) | (e == 0) & (rest > 0x400000))
        return np.asarray(code, np.int64)
    bits = m.view(np.uint32).astype(np.int64)
    if rule == "even":
        bits += np.where(bits >= 1 << 23, 1 << (22 - man), 0)
    code = (bits >> 23) + ((bits & 0x7FFFFF > 0) if rule == "ceil" else 0)
    return np.asarray(np.maximum(code - top, 0))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("to", ELEMENTS, ids=str)
def test_scales_are_those_of_published_code(to: Format, rule: str) -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 0x7F800000, 4000, np.uint32)
    powers = np.arange(255, dtype=np.uint32) << np.uint32(23)
    near = np.concatenate(
        [powers, powers + 1, powers[1:] - 1, powers | 0x400000, powers | 0x700000]
    )
    m = np.concatenate([bits, near, [1, 0x400000, 0x400001, 0x7FFFFF]]).astype(np.uint32)
    codes = np.minimum(by_bits(m.view(np.float32), to, rule), 254).astype(np.uint8)
    np.testing.assert_array_equal(
        power_scale(m.view(np.float32), to, rule), decode_table(E8M0)[codes]
    )


def test_what_the_largest_number_of_a_block_becomes() -> None:
    """7.9 in E2M1: floor takes a scale of 1 and saturates, rceil takes 2."""
    x = np.array([7.9], np.float32)
    made = {r: power_scale(x, FP4_121, r).item() for r in RULES}
    assert made == {"floor": 1, "ceil": 2, "rceil": 2, "even": 2}
    stored = {r: decode_table(FP4_121)[encode(x / s, FP4_121)].item() * s for r, s in made.items()}
    assert stored == {"floor": 6, "ceil": 8, "rceil": 8, "even": 8}


@pytest.mark.parametrize("rule", RULES)
def test_blocks_of_nothing_and_of_what_is_no_number(rule: str) -> None:
    assert power_scale(np.zeros(1, np.float32), FP8_143, rule).item() == 2.0**-127
    for wrong in (np.inf, np.nan):
        assert np.isnan(power_scale(np.array([wrong], np.float32), FP8_143, rule)).all()


def mean_error(rule: str, x: np.ndarray, times: int) -> tuple[float, float]:
    """Mean of many stochastic roundings less the number, and four standard deviations of that."""
    scale = BlockScale((1, 32), E8M0)
    s = spread(power_scale(largest(x, scale), FP4_121, rule), scale, x.shape)
    total, squares = np.zeros_like(x, np.float64), np.zeros_like(x, np.float64)
    for i in range(times):
        u = uniform(7, i, 3, x.shape)
        made = decode_table(FP4_121)[encode_stochastic(x / s, FP4_121, u)] * s
        total += made
        squares += np.square(made.astype(np.float64) - x)
    deviation = np.sqrt(squares.sum()) / times
    return float((total / times - x).sum()), float(4 * deviation)


def test_stochastic_rounding_is_unbiased_where_nothing_clips() -> None:
    x = np.abs(np.random.default_rng(0).standard_normal((64, 32))).astype(np.float32)
    for rule in ("ceil", "rceil"):
        error, bound = mean_error(rule, x, 200)
        assert abs(error) < bound
    # OCP's own rule lets the largest numbers of a block saturate: they are too small in the mean.
    error, bound = mean_error("floor", x, 200)
    assert error < -bound


# -- types and programs


def test_a_type_reads_as_it_is_written() -> None:
    made = parse_type("fp4.121*b1x32:e8m0[7x40]")
    assert made == TensorType((7, 40), FP4_121, BlockScale((1, 32), E8M0))
    assert str(made) == "fp4.121*b1x32:e8m0[7x40]"
    # 140 bytes of codes; two blocks a row.
    assert made.bytes == 140 + 14


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fp4.121*b32:e8m0[7x40]", "a block of 32 is none of a tensor of 2 dimensions"),
        ("fp4.121*b1x0:e8m0[7x40]", "a block of 1x0 is none"),
        ("fp4.121*b1x32:fp4.even[7x40]", "stored in e8m0 or fp8.143 or f32, not in 'fp4.even'"),
        ("fp4.121*b1x32:[7x40]", "is no type"),
    ],
)
def test_types_that_are_none(text: str, words: str) -> None:
    with pytest.raises(ParseError, match=words):
        parse_type(text)


def quantized(shape: str, block: str, rule: str = "rceil", f: str = "fp8.143") -> str:
    return (
        f"program p\ninput x : f32[{shape}]\n\nforward:\n"
        f"  s = scale_blocks(x) {{to={f}, rule={rule}}} : f32*{block}:e8m0[{shape}]\n"
        f"  q = cast(s) : {f}*{block}:e8m0[{shape}]\n"
        f"  y = dequantize(q) : f32[{shape}]\n\nreturn y\n"
    )


@pytest.mark.parametrize("block", ["b1x32", "b5x1", "b2x3", "b1x1", "b7x33"])
@pytest.mark.parametrize("shape", [(7, 33), (1, 1), (13, 27), (28, 3)], ids=str)
def test_codes_and_scales_apart_are_the_same_numbers(shape: tuple[int, int], block: str) -> None:
    program = read_program(quantized("x".join(map(str, shape)), block))
    apart = blocks_apart(program)
    assert not any(
        isinstance(r.type.scale, BlockScale) for _, op in apart.ops() for r in op.results
    )
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    x.flat[0] = 0
    given = {"x": Tensor.from_numbers(TensorType(shape, F32), x)}
    wanted, made = (evaluate(p, given)[p.outputs[0]].numbers for p in (program, apart))
    np.testing.assert_array_equal(made, wanted)
    # Half a step of three bits of mantissa, of a number below the top.
    assert np.abs(wanted - x).max() <= np.abs(x).max() * 2.0**-4


def test_images_have_blocks_of_channels() -> None:
    program = read_program(quantized("2x7x3x5", "b1x4x1x1", f="fp4.121"))
    x = np.random.default_rng(0).standard_normal((2, 7, 3, 5)).astype(np.float32)
    given = {"x": Tensor.from_numbers(program.inputs[0].type, x)}
    made = evaluate(program, given)[program.outputs[0]].numbers
    for first in (0, 4):
        part = x[:, first : first + 4]
        s = power_scale(np.abs(part).max(1), FP4_121, "rceil")[:, None]
        wanted = decode_table(FP4_121)[encode(part / s, FP4_121)] * s
        np.testing.assert_array_equal(made[:, first : first + 4], wanted)


def test_samples_meet_in_a_block() -> None:
    assert samples_apart(read_program(quantized("6x8", "b1x4")), 6)
    assert not samples_apart(read_program(quantized("6x8", "b2x4")), 6)


def test_a_rounding_keeps_the_blocks() -> None:
    text = quantized("6x8", "b1x4").replace(
        "q = cast(s) : fp8.143*b1x4", "q = cast(s) : fp8.143*b1x8"
    )
    with pytest.raises(VerifyError, match=r"keeps its scale"):
        read_program(text)


def test_blocks_do_not_leave_a_loop() -> None:
    text = (
        "program p\ninput x : f32[6x8]\n\nforward:\n"
        "  t = steps() {count=3, reverse=false} : i64[]\n"
        "  a = rows_of_step(x, t) : f32[2x8]\n"
        "  s = scale_blocks(a) {to=fp8.143, rule=floor} : f32*b2x1:e8m0[2x8]\n"
        "  q = cast(s) : fp8.143*b2x1:e8m0[2x8]\n"
        "  y = all_steps(q, t) : fp8.143*b2x1:e8m0[6x8]\n\nreturn y\n"
    )
    with pytest.raises(VerifyError, match="numbers in blocks stay in a loop"):
        read_program(text)


# -- two scales


def twice(shape: str, block: str = "b1x16", room: float = 1.0, four: str = "false") -> str:
    kind = f"{block}:fp8.143:t[{shape}]"
    return (
        f"program p\ninput x : f32[{shape}]\n\nforward:\n"
        "  m = amax(x) : f32[]\n"
        f"  s = scale_blocks_twice(x, m) {{to=fp4.121, top=448.0, headroom={room}, four_over_six={four}}} : f32*{kind}\n"
        f"  q = cast(s) : fp4.121*{kind}\n"
        f"  y = dequantize(q) : f32[{shape}]\n"
        f"  n = block_numbers(q) : bf16[{shape}]\n"
        "  o = outer_scale(q) : f32[]\n\nreturn y, n, o\n"
    )


def by_hand(x: np.ndarray) -> tuple[np.ndarray, np.float32]:
    """Transformer Engine's reference, line by line: blocks of 16 of one row each."""
    one, most = np.float32(1), np.finfo(np.float32).max
    encode_all = np.float32(min(np.float32(2688) / np.abs(x).max(), most)) if x.any() else one
    out = np.zeros_like(x)
    for row in range(x.shape[0]):
        for first in range(0, x.shape[1], 16):
            part = x[row, first : first + 16]
            wanted = np.float32(np.abs(part).max()) * (encode_all * np.float32(1 / 6))
            s = np.float32(min(wanted, np.float32(448))).astype(ml_dtypes.float8_e4m3fn)
            s = np.float32(s)
            with np.errstate(divide="ignore", over="ignore"):
                factor = np.float32(min(one / (s * (one / encode_all)), most))
                codes = np.clip(part * factor, -6, 6).astype(ml_dtypes.float4_e2m1fn)
            out[row, first : first + 16] = codes.astype(np.float32) * s
    return out, one / encode_all


@pytest.mark.parametrize("size", [1.0, 1e-30, 1e30, 0.0])
def test_two_scales_are_those_of_the_published_reference(size: float) -> None:
    x = (np.random.default_rng(0).standard_normal((7, 40)) * size).astype(np.float32)
    x[3, :16] = 0
    x[4, 16:32] *= 1e-6  # its scale is 0
    program = read_program(twice("7x40"))
    given = {"x": Tensor.from_numbers(program.inputs[0].type, x)}
    y, n, o = (evaluate(program, given)[v].numbers for v in program.outputs)
    numbers, outer = by_hand(x)
    np.testing.assert_array_equal(n, numbers)
    assert o == outer
    np.testing.assert_array_equal(y, numbers * outer)


@pytest.mark.parametrize("block", ["b1x16", "b16x16", "b5x1"])
@pytest.mark.parametrize("shape", [(7, 33), (1, 1), (28, 3)], ids=str)
@pytest.mark.parametrize("four", ["false", "true"])
def test_both_scales_apart_are_the_same_numbers(
    shape: tuple[int, int], block: str, four: str
) -> None:
    program = read_program(twice("x".join(map(str, shape)), block, 17 / 16, four))
    apart = blocks_apart(program)
    assert not any(
        isinstance(r.type.scale, BlockScale) for _, op in apart.ops() for r in op.results
    )
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    given = {"x": Tensor.from_numbers(TensorType(shape, F32), x)}
    for p, r in zip(program.outputs, apart.outputs, strict=True):
        wanted, made = evaluate(program, given)[p], evaluate(apart, given)[r]
        np.testing.assert_array_equal(made.numbers, wanted.numbers)


def test_four_over_six_takes_the_better_scale_of_each_block() -> None:
    """Beside both alone; a block that 6 serves as well keeps it, as one with 4 and 6 exactly."""
    x = np.random.default_rng(0).standard_normal((9, 64)).astype(np.float32)
    x[0, :16] = np.resize([6, 4, 3, 0.5], 16) / 6 * np.abs(x).max()

    def left(four: str, room: float) -> np.ndarray:
        program = read_program(twice("9x64", room=room, four=four))
        given = {"x": Tensor.from_numbers(program.inputs[0].type, x)}
        y = evaluate(program, given)[program.outputs[0]].numbers
        return np.asarray(np.abs(y.astype(np.float64) - x).reshape(9, 4, 16).sum(2))

    six, four, best = left("false", 1.0), left("false", 1.5), left("true", 1.0)
    np.testing.assert_allclose(best, np.minimum(six, four), rtol=1e-6, atol=1e-9)
    assert (four < six).any() and (six < four).any() and best[0, 0] < 1e-5


@pytest.mark.parametrize("wrong", [np.inf, np.nan])
def test_a_block_with_what_is_no_number_is_none(wrong: float) -> None:
    x = np.ones((2, 32), np.float32)
    x[0, 3] = wrong
    program = read_program(twice("2x32"))
    given = {"x": Tensor.from_numbers(program.inputs[0].type, x)}
    y = evaluate(program, given)[program.outputs[0]].numbers
    assert np.isnan(y[0, :16]).all() and np.isfinite(y[0, 16:]).all() and np.isfinite(y[1]).all()


def test_the_clipping_bias_of_nvfp4_and_its_cure() -> None:
    """A scale that FP8 rounds down, by up to 1/16, leaves the largest number of a block beyond 6."""
    x = np.abs(np.random.default_rng(0).standard_normal((64, 32))).astype(np.float32)
    errors = {}
    for room in (1.0, 17 / 16):
        e = outer_encoding(np.abs(x).max(), FP4_121, 448.0)
        scale = BlockScale((1, 16), FP8_143, outer=True)
        s = inner_scale(largest(x, scale), e, FP4_121, room)
        factor, back = (spread(v, scale, x.shape) for v in (inner_factor(s, e), s / e))
        made = [
            decode_table(FP4_121)[encode_stochastic(x * factor, FP4_121, uniform(7, i, 3, x.shape))]
            for i in range(200)
        ]
        each = (np.array(made, np.float64) * back - x).sum((1, 2))
        errors[room] = each.mean() / (each.std() / np.sqrt(len(each)))
    assert errors[1.0] < -4 and abs(errors[17 / 16]) < 4


# -- the transform


@pytest.mark.parametrize("size", [1, 2, 16, 128])
@pytest.mark.parametrize(("shape", "dim"), [((7, 5), 0), ((3, 33), 1), ((2, 19, 3), 1)])
def test_a_transform_is_sylvester_s_matrix(shape: tuple[int, ...], dim: int, size: int) -> None:
    whole = tuple(-(-n // size) * size if d == dim else n for d, n in enumerate(shape))
    given, made = ("x".join(map(str, s)) for s in (shape, whole))
    program = read_program(
        f"program p\ninput x : f32[{given}]\ninput s : f32[{size}]\n\nforward:\n"
        f"  y = hadamard(x, s) {{dim={dim}}} : f32[{made}]\n\nreturn y\n"
    )
    rng = np.random.default_rng(0)
    x, signs = rng.standard_normal(shape), rng.choice([-1.0, 1.0], size)
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    padded = np.pad(x, [(0, n - m) for n, m in zip(whole, shape, strict=True)])
    rows = np.moveaxis(padded, dim, -1)
    turned = (rows.reshape(*rows.shape[:-1], -1, size) * signs) @ matrix.T / np.sqrt(size)
    wanted = np.moveaxis(turned.reshape(rows.shape), -1, dim)
    tensors = {
        v.name: Tensor.from_numbers(v.type, n)
        for v, n in zip(program.inputs, (x, signs), strict=True)
    }
    # Seven additions in f32 of numbers near 1, before they are divided again.
    np.testing.assert_allclose(
        evaluate(program, tensors)[program.outputs[0]].numbers, wanted, atol=1e-5
    )


def test_a_transform_of_other_sizes_is_refused() -> None:
    text = (
        "program p\ninput x : f32[5x6]\ninput s : f32[6]\n\nforward:\n"
        "  y = hadamard(x, s) {dim=1} : f32[5x6]\n\nreturn y\n"
    )
    with pytest.raises(VerifyError, match="of a power of two numbers, not of 6"):
        read_program(text)

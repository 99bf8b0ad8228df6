"""Two scales in blocks: an f32 for each larger block, beside a kernel's text read by hand."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from quatrain.compiler.errors import ParseError, VerifyError
from quatrain.compiler.formats import F32, FP4_121, FP8_143
from quatrain.compiler.ir import Program
from quatrain.compiler.ir.samples import samples_apart
from quatrain.compiler.ir.verify import read_program
from quatrain.compiler.types import BlockScale, TensorType
from quatrain.targets.numbers.blocks import nested_scales
from quatrain.targets.numbers.rounding import decode, encode_stochastic
from quatrain.targets.numbers.tensor import Array, Tensor, scales_of
from quatrain.targets.numbers.threefry import uniform
from quatrain.targets.plan.blocks import blocks_apart
from quatrain.targets.plan.composed import compose
from quatrain.targets.plan.decode import decode_operands
from quatrain.targets.reference.evaluate import evaluate

KIND = "b1x16:fp8.143:b1x128"


def nested(shape: str, kind: str = KIND, room: float = 1.0) -> Program:
    return read_program(
        f"program p\ninput x : f32[{shape}]\n\nforward:\n"
        f"  s = scale_blocks_nested(x) {{to=fp4.121, headroom={room}}} : f32*{kind}[{shape}]\n"
        f"  q = cast(s) : fp4.121*{kind}[{shape}]\n"
        f"  y = dequantize(q) : f32[{shape}]\n"
        f"  a = scale_blocks_nested(q) {{to=fp4.121, headroom={room}}} : f32*{kind}[{shape}]\n"
        f"  r = cast(a) : fp4.121*{kind}[{shape}]\n"
        f"  z = dequantize(r) : f32[{shape}]\n\nreturn y, z\n"
    )


def made(program: Program, x: Array) -> list[Array]:
    given = {"x": Tensor.from_numbers(program.inputs[0].type, x)}
    results = evaluate(program, given)
    return [results[v].numbers for v in program.outputs]


def by_hand(x: Array) -> Array:
    """The authors' kernel, but for the floor of each block's scale and its inverse's rounding."""
    out, f = np.zeros_like(x), np.float32
    for row in range(x.shape[0]):
        for first in range(0, x.shape[1], 128):
            larger = x[row, first : first + 128]
            outer = f(np.abs(larger).max()) / f(448) / f(6)
            outer = f(1) / f(6) if outer == 0 else max(outer, f(2.0**-116))
            for start in range(0, len(larger), 16):
                part = larger[start : start + 16]
                wanted = f(np.abs(part).max()) / outer * f(1 / 6)
                s = f(max(wanted, f(2.0**-9)).astype(ml_dtypes.float8_e4m3fn))
                codes = np.clip(part / (s * outer), -6, 6).astype(ml_dtypes.float4_e2m1fn)
                out[row, first + start :][: len(part)] = codes.astype(f) * s * outer
    return out


@pytest.mark.parametrize("size", [1.0, 1e-20, 1e-37, 1e30, 0.0])
def test_two_scales_are_those_of_the_authors_kernel(size: float) -> None:
    x = (np.random.default_rng(0).standard_normal((5, 300)) * size).astype(np.float32)
    x[3, :16] = 0
    x[4, 16:32] *= np.float32(1e-6)  # its scale is the least one
    y, _ = made(nested("5x300"), x)
    np.testing.assert_array_equal(y, by_hand(x))


@pytest.mark.parametrize("kind", [KIND, "b2x4:fp8.143:b4x8", "b5x1:fp8.143:b10x1"])
@pytest.mark.parametrize("shape", [(7, 133), (1, 1), (28, 3)], ids=str)
def test_all_scales_apart_are_the_same_numbers(shape: tuple[int, int], kind: str) -> None:
    program = nested("x".join(map(str, shape)), kind, 17 / 16)
    apart = blocks_apart(program)
    assert not any(
        isinstance(r.type.scale, BlockScale) for _, op in apart.ops() for r in op.results
    )
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    for one, two in zip(made(program, x), made(apart, x), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("wrong", [np.inf, np.nan])
def test_a_larger_block_with_what_is_no_number_is_none(wrong: float) -> None:
    x = np.ones((2, 256), np.float32)
    x[0, 3] = wrong
    for program in (p := nested("2x256"), blocks_apart(p)):
        y, _ = made(program, x)
        assert np.isnan(y[0, :128]).all() and np.isfinite(y[0, 128:]).all()
        assert np.isfinite(y[1]).all()


def test_a_product_reads_their_numbers_in_f32() -> None:
    """A scale of a part of a sum is no factor of it, and an f32 does not fit bf16."""
    lines = (
        f"  s{v} = scale_blocks_nested({v}) {{to=fp4.121, headroom=1.0}} : f32*{KIND}[{n}x200]\n"
        f"  q{v} = cast(s{v}) : fp4.121*{KIND}[{n}x200]\n"
        for v, n in (("x", 3), ("w", 5))
    )
    program = read_program(
        "program p\ninput x : f32[3x200]\ninput w : f32[5x200]\n\nforward:\n"
        f"{''.join(lines)}  y = linear(qx, qw) : f32[3x5]\n\nreturn y\n"
    )
    lowered = blocks_apart(decode_operands(program))
    read = [v.type for _, op in lowered.ops() if op.kind == "linear" for v in op.inputs]
    assert read == [TensorType((3, 200), F32), TensorType((5, 200), F32)]


def test_samples_meet_in_a_larger_block() -> None:
    assert samples_apart(nested("6x8", "b1x4:fp8.143:b1x8"), 6)
    assert not samples_apart(nested("6x8", "b1x4:fp8.143:b2x4"), 6)


def test_codes_and_all_scales_are_counted() -> None:
    """4 bits, 8 for each 16 and 32 for each 128: 4.75 in all."""
    kind = TensorType((4, 256), FP4_121, BlockScale((1, 16), FP8_143, (1, 128)))
    assert kind.bytes * 8 == 4.75 * kind.elements


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("b1x16:fp8.143:b128", "a block of 128 is none of a tensor of 2 dimensions"),
        ("b1x16:fp8.143:b1x24", "larger blocks of 1x24 hold no whole blocks of 1x16"),
        ("b1x16:fp8.143:b0x16", "a block of 0x16 is none"),
    ],
)
def test_larger_blocks_that_are_none(kind: str, words: str) -> None:
    with pytest.raises(ParseError, match=words):
        nested("7x40", kind)


def test_a_transform_reads_codes_as_their_numbers() -> None:
    """And no float that has a scale, of which it would read the stored numbers."""
    text = (
        f"program p\ninput x : f32[5x20]\ninput s : f32[16]\n\nforward:\n"
        f"  a = scale_blocks_nested(x) {{to=fp4.121, headroom=1.0}} : f32*{KIND}[5x20]\n"
        f"  q = cast(a) : fp4.121*{KIND}[5x20]\n"
        "  r = dequantize(q) : f32[5x20]\n"
        "  y = hadamard(q, s) {dim=1} : f32[5x32]\n"
        "  z = hadamard(r, s) {dim=1} : f32[5x32]\n\nreturn y, z\n"
    )
    program = read_program(text)
    rng = np.random.default_rng(0)
    given = {
        v.name: Tensor.from_numbers(v.type, rng.standard_normal(v.type.shape))
        for v in program.inputs
    }
    for p in (program, blocks_apart(compose(program))):
        y, z = (evaluate(p, given)[v].numbers for v in p.outputs)
        np.testing.assert_array_equal(y, z)
    with pytest.raises(VerifyError, match=r"hadamard reads plain floats or codes, not f32\*b1x16"):
        read_program(text.replace("hadamard(q, s)", "hadamard(a, s)"))


def test_stochastic_rounding_is_unbiased_but_for_clipping() -> None:
    """Scales that FP8 rounds down leave the largest number beyond 6; 17/16 makes room for it.

    Blocks far below their larger block keep the least scale, and no part of them is lost.
    """
    x = np.abs(np.random.default_rng(0).standard_normal((16, 256))).astype(np.float32)
    x[:, 16:32] *= np.float32(2.0**-19)
    kind = TensorType(x.shape, F32, BlockScale((1, 16), FP8_143, (1, 128)))
    errors, small = dict[float, float](), dict[float, float]()
    for room in (1.0, 17 / 16):
        assert isinstance(kind.scale, BlockScale)
        scales = np.concatenate([s.ravel() for s in nested_scales(x, kind.scale, FP4_121, room)])
        both = np.multiply(*scales_of(kind, scales))
        drawn = (uniform(7, i, 3, x.shape) for i in range(200))
        rounded = [decode(encode_stochastic(x / both, FP4_121, u), FP4_121) for u in drawn]
        away = np.array(rounded, np.float64) * both - x
        for part, of in ((errors, away), (small, away[..., 16:32])):
            each = of.sum((1, 2))
            part[room] = each.mean() / (each.std() / np.sqrt(len(each)))
    assert errors[1.0] < -4 and abs(errors[17 / 16]) < 4 and abs(small[17 / 16]) < 4

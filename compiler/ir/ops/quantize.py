"""Quantizers, and what they need: clips, limits, scales of gradients."""

from __future__ import annotations

from ...formats import E8M0, F32, FP8_143
from ...types import BlockScale, Scale
from ..program import Op
from .definition import Extents, OpDef
from .signature import define
from .traits import Trait


def _clip(op: Op, at: Extents) -> str:
    """One clip for the tensor, or one a channel where codes have a scale a channel."""
    clip, q = op.inputs[1].type.shape, op.result.type
    fits = bool(clip) == q.scale.per_channel and q.scale.is_factor
    return "" if fits else f"a clip of shape {clip} gives no {q.short}"


def _affine(op: Op, at: Extents) -> str:
    low, high, bits = (v.type.shape for v in op.inputs[1:4])
    q = op.result.type
    need = at["C"] if q.scale.per_channel else ()
    if not q.scale.is_affine or not low == high == need:
        return f"limits of {q.short} have shape {need}, not {low} and {high}"
    if bits not in ((), need):
        return f"bits are a single number or one for each limit, not {bits}"
    return ""


def _alike(op: Op, at: Extents) -> str:
    shapes = {r.type.shape for r in op.results}
    return "" if len(shapes) == 1 else "both are single numbers, or one a place of dimension 0"


def _squeezed(op: Op, at: Extents) -> str:
    made = op.result.type
    fits = made.scale is Scale.SQUEEZED
    return "" if fits else f"squeeze makes squeezed numbers, not {made.short}"


def _keeps_scale(op: Op, at: Extents) -> str:
    g, q = op.inputs[0].type, op.result.type
    return "" if q.scale == g.scale else f"{g.short} keeps its scale, which {q.short} has not"


def _flag(op: Op, at: Extents) -> str:
    f, bits = op.result.type.format, op.int_attr("bits")
    top = ((1 << (bits - 1)) - 1) << (bits - 1)
    if f.is_integer and f.signed and not f.midrise and f.max >= top:
        return _keeps_scale(op, at)
    return f"round_flag with bits={bits} makes integers up to {top}, which {f} does not hold"


def _cast(op: Op, at: Extents) -> str:
    x, made = op.inputs[0].type, op.result.type
    if made.format.is_index or x.scale.is_affine or x.scale is Scale.SQUEEZED:
        return f"{x.short} is not cast to {made.short}"
    if x.scale is Scale.NONE and made.format.is_coded:
        fits = made.scale in (Scale.NONE, Scale.POW2, Scale.TENSOR)
        return "" if fits else f"a cast to {made.short} would need scales; of a carrier it has 1"
    return _keeps_scale(op, at)


def _rescaled(op: Op, at: Extents) -> str:
    q, made = op.inputs[0].type, op.result.type
    if q.format is made.format and made.scale is Scale.CHANNEL and q.scale.is_factor:
        return ""
    return f"{q} keeps its codes and gets a scale a channel, not {made}"


# Times the scale that takes the largest number of a block to 6: it becomes 4.
FOUR_OVER_SIX = 1.5
# What the scales are stored in, and what has one more: nothing, the tensor, larger blocks.
SCALES_OF = {
    "scale_blocks": (E8M0, None),
    "fit_blocks": (F32, None),
    "scale_blocks_twice": (FP8_143, False),
    "scale_blocks_nested": (FP8_143, True),
}


def _in_blocks(op: Op, at: Extents) -> str:
    scale = op.result.type.scale
    assert isinstance(scale, BlockScale), op
    outer = None if scale.outer is None else bool(scale.outer)
    if (scale.format, outer) != SCALES_OF[op.kind]:
        return f"{op.kind} makes no scales of {scale.value.partition(':')[2]}"
    return _real(op)


def _real(op: Op) -> str:
    """Real numbers are read of plain floats and of codes."""
    x = op.inputs[0].type
    scaled = x.scale is not Scale.NONE and x.format.is_carrier
    return f"{op.kind} reads plain floats or codes, not {x.short}" if scaled else ""


def _corrected(op: Op, at: Extents) -> str:
    """Whole blocks of one row meet in a group."""
    scale, dim, group = op.result.type.scale, op.int_attr("dim"), op.int_attr("group")
    if scale != op.inputs[0].type.scale or op.result.type.format is not op.inputs[0].type.format:
        return f"codes stay {op.inputs[0].type.short}, they do not become {op.result.type.short}"
    assert isinstance(scale, BlockScale), op
    across = any(b > 1 and d != dim for d, b in enumerate(scale.block))
    fits = scale.format is FP8_143 and not across and group % scale.block[dim] == 0
    return (
        ""
        if fits
        else f"no {group} numbers along dimension {dim} are whole blocks of {scale.value}"
    )


def _hadamard(op: Op, at: Extents) -> str:
    (size,), dim = at["L"], op.int_attr("dim")
    if size & (size - 1):
        return f"a transform is of a power of two numbers, not of {size}"
    whole = tuple(-(-n // size) * size if d == dim else n for d, n in enumerate(at["*A"]))
    return _real(op) if whole == at["*B"] else f"y has the shape {whole}, not {at['*B']}"


QUANTIZER, CONVERTS, POINTWISE = Trait.QUANTIZER, Trait.CONVERTS, Trait.POINTWISE
REMADE = Trait.CHEAP_ON_WEIGHTS
DATA, CHEAP, TAIL = Trait.MAKES_CARRIER, Trait.CHEAP, Trait.TAIL
LIMITS = "low: f32[]|[C], high: f32[]|[C], bits: f32[]|[C]"
DRAWN = "seed: int[], step: int[]"

CLIPS: tuple[OpDef, ...] = (
    define(
        "sawb_clip(w: float[C *S]) {c1: float, c2: float} -> clip: f32[]|[C]",
        "c1 sqrt(mean w^2) - c2 mean |w|, max |w| where that is <= 0 or NaN",
        Trait.AVERAGES,
    ),
    define(
        "quantize(x: float[C *S], clip: f32[]|[C]) -> q: integer[C *S]",
        """rint(min(max(x, lo), clip) * (n/clip)), n = top integer, lo = 0 or -clip, with ends
        clip low/high; scale clip/n;
        midrise: code rint((min(max(x, -clip), clip) * (n/clip) + n) * 0.5), n = 2^bits - 1""",
        QUANTIZER, CONVERTS, POINTWISE, REMADE, check=_clip,
    ),
    define(
        "quantize_bits(x: float[C *S], clip: f32[]|[C], bits: f32[]) -> q: integer[C *S]",
        """the same with the n of an integer format of that many bits, at least 1 beside the sign
        and at most those of the result's; midrise: the code is that of the same number,
        (top - n)/2 more""",
        QUANTIZER, CONVERTS, POINTWISE, REMADE, check=_clip,
    ),
    define(
        "extremes(x: float[C *S]) -> low: f32[]|[C], high: f32[]|[C]",
        "least and largest, of the tensor or of each place of dimension 0",
        Trait.AVERAGES, check=_alike,
    ),
    define(
        f"quantize_affine(x: float[C *S], {LIMITS}) -> q: unsigned[C *S]",
        """rint(min(max(z, 0), n)), z = (x - low) / step, step = max((high - low) / n, 1e-8),
        n = 2^bits - 1, bits at least 1 and at most those of q; real numbers are q * step + low;
        each operand one number or one a place of dimension 0""",
        QUANTIZER, CONVERTS, POINTWISE, REMADE, check=_affine,
    ),
    define(
        f"quantize_affine_stochastic(x: float[C *S], {LIMITS}, {DRAWN}) {{salt: int}}"
        " -> q: unsigned[C *S]",
        "the same with z + (u - 1/2), u uniform in [0, 1) as round_stochastic draws it",
        QUANTIZER, CONVERTS, POINTWISE, check=_affine,
    ),
    define(
        "squeeze_stats(x: float[*S]) {degenerate: center|identity} -> alpha: f32[], beta: f32[]",
        """alpha = 15 / (max - mean), beta = -alpha mean of log2 |x|, in f32 as
        targets/numbers/powers.py takes it, over the numbers from 2^-126 on; where
        max - mean < 2^-20: alpha = 1 and beta = -mean (degenerate = center) or 0 (identity); 1 and
        0 where there are none""",
        Trait.AVERAGES,
    ),
    define(
        "squeeze(x: float[*S], alpha: f32[], beta: f32[]) -> q: fp[*S]",
        """2^beta |x|^alpha with the sign of x, in f32 as targets/numbers/powers.py takes it, 0
        below 2^-126, to nearest even; real numbers are (2^-beta |q|)^(1/alpha), in f64 and rounded
        once""",
        QUANTIZER, CONVERTS, POINTWISE, check=_squeezed,
    ),
    define(
        "clip_region(x: float[C *S], clip: f32[]|[C]) {signed: flag} -> m: uint2[C *S]",
        "0: x <= 0 (signed: x < -clip), 1: inside, 2: x > clip",
        POINTWISE, CHEAP,
    ),
    define(
        "pact_grad(g: float[*S], m: uint2[*S]) {signed: flag} -> dx: float[*S], dclip: f32[]",
        """dx = g where m != 2 (signed: m == 1), else 0; dclip = sum of g where m == 2 (signed:
        minus the sum where m == 0)""",
        TAIL, DATA, Trait.ADDS_UP,
    ),
    define(
        "pact_plus_grad(g: float[*S], x: float[*S], clip: f32[]) {top: int >= 1, signed: flag}"
        " -> dx: float[*S], dclip: f32[]",
        "dx as pact_grad; dclip also sums g * (rint(z) - z) / top inside, z = x top/clip",
        TAIL, DATA, Trait.ADDS_UP,
    ),
)  # fmt: skip

SCALES: tuple[OpDef, ...] = (
    define(
        "grad_scale_init(s: f32[], g: float[*S]) {top: float > 0, always: flag} -> s1: f32[]",
        """s, or where s is 0 (or always) 2^floor(log2(top / max |g|)); s (or 1) where g is all
        0""",
        Trait.STARTS_SCALE,
    ),
    define(
        "grad_scale(g: float[*S], s: f32[]) -> gs: scaled[*S]",
        "stored numbers g * s, scale 1/s",
        DATA, POINTWISE,
    ),
    define(
        "normalize(g: float[*S], unit: f32[]) -> gs: scaled[*S]",
        "stored numbers g / unit (0 where unit is 0), scale unit",
        POINTWISE,
    ),
    define(
        "amax(g: gemm[*S]) -> m: f32[]", "largest stored magnitude |g * s|", TAIL, Trait.LARGEST
    ),
    define(
        "amax_first(g: float[*S], s: f32[]) -> m: f32[]",
        "the largest |g| where s is 0, else 0; kernels read g only there",
        TAIL,
    ),
    define(
        "amax_init(m: f32[], g: float[*S]) -> m1: f32[]",
        "m, or where m is 0 the largest |g|",
        Trait.STARTS_SCALE,
    ),
    define(
        "grad_scale_step(s: f32[*S], m: float[*S]) {top: float > 0} -> s1: f32[*S]",
        "s/2 where m > top, 2s where 0 < m <= top/2, else s; kept in 2^-100 .. 2^100, NaN stays",
        Trait.SCALE_STEP,
    ),
    define(
        "channel_scales(s: f32[*S], m: float[*S]) {top: float > 0, always: flag}"
        " -> s1: f32[*S], inverse: f32[*S]",
        """for each number: s, or where s is 0 (or always) 2^floor(log2(top / m)), s (or 1) where m
        is 0; and 1/s1""",
    ),
    define(
        "rescale(q: code[C *S], factor: f32[C]) -> y: code[C *S]",
        "the same codes; for each place of dimension 0 the scale times a power of two",
        POINTWISE, Trait.KEEPS_CODES, check=_rescaled,
    ),
    define(
        "loss_scale_step(s: f32[], good: int[], loss: f32[], x: float[?]...)"
        " {growth: float > 0, backoff: float > 0, interval: int >= 1} -> s1: f32[], good1: int[]",
        """loss not finite: s, good; any x not finite: s * backoff (at least 2^-126), 0; else s,
        good + 1; where that is interval s * growth (s where that is infinite), 0""",
        Trait.SCALE_STEP,
    ),
)  # fmt: skip

# Of OCP's Microscaling Formats int8 stands for MXINT8, whose step is 2^-6 of its scale.
NESTED = "to: fp4.121|fp6.123|fp6.132"
FITTED = "to: format"
SCALE_RULE = f"{FITTED}, rule: floor|ceil|rceil|even"

BLOCKS: tuple[OpDef, ...] = (
    define(
        f"scale_blocks(x: float[*S]) {{{SCALE_RULE}}} -> xs: blocks[*S]",
        """stored numbers x / s, s the power of two that block_scale makes of the largest magnitude
        of each block""",
        Trait.COMPOSED, REMADE, check=_in_blocks,
    ),
    define(
        f"fit_blocks(x: float[*S]) {{{FITTED}}} -> xs: blocks[*S]",
        "stored numbers x / s, s the f32 that fit_scale makes of each block's largest magnitude",
        Trait.COMPOSED, REMADE, check=_in_blocks,
    ),
    define(
        f"fit_scale(m: f32[*S]) {{{FITTED}}} -> s: f32[*S]",
        """m / max, max the largest number of the format: 1 where that is 0, NaN where m is not
        finite""",
        POINTWISE,
    ),
    define(
        "hadamard(x: gemm[*A], signs: f32[L]) {dim: dim of x} -> y: float[*B]",
        """along a dimension, zeros added up to a multiple of L: of each L real numbers the product
        with Sylvester's matrix, after that with signs, and 1/sqrt(L)""",
        Trait.COMPOSED, check=_hadamard,
    ),
    define(
        "scale_blocks_twice(x: float[*S], m: f32[])"
        f" {{{NESTED}, top: float > 0, headroom: float > 0, four_over_six: flag}}"
        " -> xs: blocks[*S]",
        """stored numbers x inner_factor(s, e): e the outer_encoding of m, by which the scale of the
        tensor is 1/e, s the inner_scale of the largest magnitude of each block; with four_over_six
        that of 1.5 headroom where it leaves less of |x - rounded| in all""",
        Trait.COMPOSED, REMADE, check=_in_blocks,
    ),
    define(
        f"scale_blocks_nested(x: gemm[*S]) {{{NESTED}, headroom: float > 0}} -> xs: blocks[*S]",
        """stored numbers x / (s o) of the real x: o of each larger block 2^-116 or more and the
        fit_scale to the format of the fit_scale to fp8.143 of its largest magnitude, s the number
        of fp8.143 nearest to (b/o) (headroom/max), of at least 2^-9 and at most 448, b the largest
        magnitude of each block""",
        Trait.COMPOSED, REMADE, check=_in_blocks,
    ),
    define(
        f"correct_scales(q: nested[*S], x: float[*S], {DRAWN})"
        " {dim: dim of q, group: int >= 1, by: real|stored, salt: int} -> y: nested[*S]",
        """the same codes; of each group of numbers along a dimension the scales of blocks times the
        sum of x x over that of x q, 1 where that is 0, rounded as round_stochastic does; by stored
        numbers: x and q without the scales of their blocks""",
        Trait.COMPOSED, check=_corrected,
    ),
    define(
        f"outer_encoding(m: f32[*S]) {{{NESTED}, top: float > 0}} -> e: f32[*S]",
        """(top max) / m, max the largest number of the format, at most f32's; 1 where m or that is
        not above 0, or m is not finite""",
        POINTWISE,
    ),
    define(
        f"inner_scale(b: f32[*S], e: f32[]) {{{NESTED}, headroom: float > 0}} -> s: f32[*S]",
        """the number of fp8.143 nearest to b (e (headroom/max)), which is at most 448; NaN where b
        is not finite""",
        POINTWISE,
    ),
    define(
        "inner_factor(s: f32[*S], e: f32[]) -> f: f32[*S]",
        "1/(s (1/e)), at most f32's largest number; NaN stays",
        POINTWISE,
    ),
    define(
        "block_numbers(q: nested[*S]) -> x: float[*S]",
        "stored number times the scale of its block, without that of the tensor",
        Trait.COMPOSED,
    ),
    define(
        "outer_scale(q: nested[*S]) -> s: f32[]",
        "the scale of the tensor that those of its blocks are multiplied by",
        Trait.COMPOSED,
    ),
    define(
        f"block_scale(m: f32[*S]) {{{SCALE_RULE}}} -> s: f32[*S]",
        """of the largest magnitude |m| of a block 2^e, e = floor(log2 m) - floor(log2 top), top the
        largest number of the format; ceil: one more unless m is a power of two; rceil: the least
        with m (1/top) <= 2^e; even: floor of m and half a unit of the format's mantissa; -127 <= e
        <= 127, NaN where m is not finite; below 2^-126 log2 m is -127""",
        POINTWISE,
    ),
)  # fmt: skip

ROUNDINGS: tuple[OpDef, ...] = (
    define(
        "round_log(g: scaled[*S]) {up: float > 0, tie: up|down, underflow: uniform|nearest}"
        " -> q: log[*S]",
        """to a radix-r format: up = 1.6 (arithmetic midpoint) etc., tie = up|down, underflow =
        uniform|nearest""",
        QUANTIZER, CONVERTS, POINTWISE, check=_keeps_scale,
    ),
    define(
        f"round_stochastic(g: scaled[*S], {DRAWN}) {{salt: int}} -> q: code[*S]",
        """up with the probability that makes the mean right; Threefry-2x32(seed, step; salt,
        element index)""",
        QUANTIZER, CONVERTS, POINTWISE, check=_keeps_scale,
    ),
    define(
        f"round_float(x: float[*S], {DRAWN}) {{to: f16|fp16.169, salt: int}} -> y: float[*S]",
        """of the numbers of a 16-bit float (fp16.169, f16) on both sides of x one, drawn as
        round_stochastic does; at most its largest, NaN stays""",
        POINTWISE,
    ),
    define(
        "round_flag(g: scaled[*S]) {bits: int 2..8} -> q: code[*S]",
        """integers that round_fixed's bits reach with a flag for the unit, c = 2^(bits - 1):
        rint(|g|) where |g| < c, else c * min(rint(|g| / c), c - 1), with the sign of g""",
        QUANTIZER, CONVERTS, POINTWISE, check=_flag,
    ),
    define(
        "round_fixed(x: float[*S]) {bits: int 1..32} -> y: float[*S]",
        "rint(x * 2^(bits - 1)) * 2^(1 - bits): a multiple of 2^(1 - bits), of any size",
        POINTWISE, CHEAP,
    ),
    define(
        "cast(x: gemm[*S]) -> y: any[*S]",
        """to nearest even, of a list to the upper one, saturating at the top of a coded format;
        keeps the scale""",
        CONVERTS, POINTWISE, CHEAP, Trait.KEEPS_SIGN, check=_cast,
    ),
    define(
        "dequantize(q: coded[*S]) -> x: float[*S]",
        """real values, in f32: stored number * scale, then + offset; squeezed numbers in f64,
        rounded; codes without a scale stand for their levels""",
        CONVERTS, POINTWISE, CHEAP, DATA,
    ),
)  # fmt: skip

QUANTIZE = (*CLIPS, *SCALES, *BLOCKS, *ROUNDINGS)

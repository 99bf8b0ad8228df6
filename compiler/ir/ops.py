"""The op table: for each op its operands with format classes, attributes, results and meaning.

    kind(operand: class, ...) {attribute: type, ...} -> result: class, ...
        -- meaning

An attribute with ``?`` may be absent. A GEMM with an ``accumulator`` adds up as ``accumulation.py``
says.

Format classes: ``float`` a carrier (f32, bf16, f16) without scale; ``scaled`` a carrier with a
scale but no offset; ``code`` a quantized tensor with a scale; ``gemm`` any of these three; ``f32``,
``int`` (i32, i64), ``uint2``, ``where`` (uint8 or i32) exactly that; ``mask`` = float or uint2;
``any`` everything. A last operand with ``...`` repeats. Ops compute in f32 and round once, to
nearest even, to the format of the result. Images are NxCxHxW; channels are dimension 1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SUM = "accumulator?: word, chunk?: int"
CONV = f"{{stride: ints, padding: ints, dilation: ints, groups: int, {SUM}}}"
POOL = "{kernel: ints, stride: ints, padding: ints, dilation: ints}"
AVG = "{kernel: ints, stride: ints, padding: ints, count_include_pad: flag, divisor: int}"

TABLE = f"""
# GEMMs: (sum of products of stored numbers) * (scale of one * scale of the other), rounded once
conv2d(x: gemm, w: gemm) {CONV} -> y: float
    -- cross-correlation, w is KxCxRxS
conv2d_input_grad(g: gemm, w: gemm) {CONV} -> dx: float
    -- dX, shape of x
conv2d_weight_grad(g: gemm, x: gemm) {CONV} -> dw: float
    -- dW, shape of w
conv2d_transpose(x: gemm, w: gemm) {CONV} -> y: float
    -- the dX of a convolution with weights w, KxCxRxS, as a layer from K to C channels
conv2d_transpose_input_grad(g: gemm, w: gemm) {CONV} -> dx: float
conv2d_transpose_weight_grad(g: gemm, x: gemm) {CONV} -> dw: float
linear(x: gemm, w: gemm) {{{SUM}}} -> y: float
    -- x NxI, w OxI: x w^T
linear_input_grad(g: gemm, w: gemm) {{{SUM}}} -> dx: float
    -- g w
linear_weight_grad(g: gemm, x: gemm) {{{SUM}}} -> dw: float
    -- g^T x
matmul(a: float, b: float) -> y: float
    -- BxMxK by BxKxN

# Quantizers
sawb_clip(w: float) {{c1: float, c2: float}} -> clip: f32
    -- c1 sqrt(mean w^2) - c2 mean |w|, max |w| where that is <= 0
quantize(x: float, clip: f32) -> q: code
    -- rint(min(max(x, lo), clip) * (n/clip)), n = top integer, lo = 0 or -clip, with ends
    clip low/high; scale clip/n;
    midrise: code rint((min(max(x, -clip), clip) * (n/clip) + n) * 0.5), n = 2^bits - 1
quantize_bits(x: float, clip: f32, bits: f32) -> q: code
    -- the same with the n of an integer format of that many bits, at most those of the result's;
    midrise: the code is that of the same number, (top - n)/2 more
extremes(x: float) -> low: f32, high: f32
    -- least and largest, of the tensor or of each place of dimension 0
quantize_affine(x: float, low: f32, high: f32, bits: f32) -> q: code
    -- rint(min(max(z, 0), n)), z = (x - low) / step, step = max((high - low) / n, 1e-8), n = 2^bits
    - 1; real numbers are q * step + low; each operand one number or one a place of dimension 0
quantize_affine_stochastic(x: float, low: f32, high: f32, bits: f32, seed: int, step: int)
    {{salt: int}} -> q: code
    -- the same with z + (u - 1/2), u uniform in [0, 1) as round_stochastic draws it
squeeze_stats(x: float) {{degenerate: word}} -> alpha: f32, beta: f32
    -- alpha = 15 / (max - mean), beta = -alpha mean of log2 |x|, in f32 as targets/powers.py takes
    it, over the numbers from 2^-126 on; where max - mean < 2^-20: alpha = 1 and beta = -mean
    (degenerate = center) or 0 (identity); 1 and 0 where there are none
squeeze(x: float, alpha: f32, beta: f32) -> q: code
    -- 2^beta |x|^alpha with the sign of x, in f32 as targets/powers.py takes it, 0 below 2^-126, to
    nearest even; real numbers are (2^-beta |q|)^(1/alpha), in f64 and rounded once
clip_region(x: float, clip: f32) {{signed: flag}} -> m: uint2
    -- 0: x <= 0 (signed: x < -clip), 1: inside, 2: x > clip
pact_grad(g: float, m: uint2) {{signed: flag}} -> dx: float, dclip: f32
    -- dx = g where m != 2 (signed: m == 1), else 0; dclip = sum of g where m == 2 (signed: minus
    the sum where m == 0)
pact_plus_grad(g: float, x: float, clip: f32) {{top: int, signed: flag}} -> dx: float, dclip: f32
    -- dx as pact_grad; dclip also sums g * (rint(z) - z) / top inside, z = x top/clip
grad_scale_init(s: f32, g: float) {{top: float, always: flag}} -> s1: f32
    -- s, or where s is 0 (or always) 2^floor(log2(top / max |g|)); s (or 1) where g is all 0
grad_scale(g: float, s: f32) -> gs: scaled
    -- stored numbers g * s, scale 1/s
normalize(g: float, unit: f32) -> gs: scaled
    -- stored numbers g / unit (0 where unit is 0), scale unit
amax(g: gemm) -> m: f32
    -- largest stored magnitude |g * s|
amax_init(m: f32, g: float) -> m1: f32
    -- m, or where m is 0 the largest |g|
grad_scale_step(s: f32, m: float) {{top: float}} -> s1: f32
    -- s/2 where m > top, 2s where 0 < m <= top/2, else s; kept in 2^-100 .. 2^100
channel_scales(s: f32, m: float) {{top: float, always: flag}} -> s1: f32, inverse: f32
    -- for each number: s, or where s is 0 (or always) 2^floor(log2(top / m)), s (or 1) where m is
    0; and 1/s1
rescale(q: code, factor: f32) -> y: code
    -- the same codes; for each place of dimension 0 the scale times a power of two
loss_scale_step(s: f32, good: int, x: float...) {{growth: float, backoff: float, interval: int}} ->
    s1: f32, good1: int
    -- any x not finite: s * backoff (at least 2^-126), 0; else s, good + 1; where that is interval
    s * growth (s where that is infinite), 0
round_log(g: scaled) {{up: float, tie: word, underflow: word}} -> q: code
    -- to a radix-r format: up = 1.6 (arithmetic midpoint) etc., tie = up|down, underflow =
    uniform|nearest
round_stochastic(g: scaled, seed: int, step: int) {{salt: int}} -> q: code
    -- up with the probability that makes the mean right; Threefry-2x32(seed, step; salt, element
    index)
round_float(x: float, seed: int, step: int) {{to: word, salt: int}} -> y: float
    -- of the numbers of a 16-bit float (fp16.169, f16) on both sides of x one, drawn as
    round_stochastic does; at most its largest, NaN stays
round_flag(g: scaled) {{bits: int}} -> q: code
    -- integers that round_fixed's bits reach with a flag for the unit, c = 2^(bits - 1): rint(|g|)
    where |g| < c, else c * min(rint(|g| / c), c - 1), with the sign of g
round_fixed(x: float) {{bits: int}} -> y: float
    -- rint(x * 2^(bits - 1)) * 2^(1 - bits): a multiple of 2^(1 - bits), of any size
cast(x: gemm) -> y: any
    -- to nearest even, saturating at the top of a coded format; keeps the scale
dequantize(q: code) -> x: float
    -- real values, in f32: stored number * scale, then + offset; squeezed numbers in f64, rounded

# Normalization: statistics apart from what uses them
batch_stats(x: float) -> mean: f32, var: f32
    -- over all but channels; var is biased
batch_norm(x: float, mean: f32, var: f32, gamma: f32, beta: f32) {{eps: float}} -> y: float
    -- x * a + b, a = gamma / sqrt(var + eps), b = beta - mean * a
batch_norm_grad_stats(g: float, x: float, mean: f32, var: f32) {{eps: float}} -> dgamma: f32, dbeta:
    f32
    -- dgamma = sum g * (x - mean) * r, r = 1 / sqrt(var + eps); dbeta = sum g
batch_norm_input_grad(g: float, x: float, mean: f32, var: f32, gamma: f32, dgamma: f32, dbeta: f32)
    {{eps: float}} -> dx: float
    -- g * a + x * b + c, a = gamma * r, b = -a * dgamma * r / P, c = -a * dbeta / P - mean * b, P =
    elements per channel
batch_norm_eval_grad(g: float, var: f32, gamma: f32) {{eps: float}} -> dx: float
    -- g * (gamma / sqrt(var + eps)): the statistics are constants
running_stats(old: f32, new: f32) {{momentum: float, correction: float}} -> next: f32
    -- (1 - momentum) * old + momentum * (new * correction)
running_average(old: f32, new: f32, count: int) {{correction: float}} -> next: f32
    -- the same with momentum 1 / count
increment(n: int) -> next: int
    -- n + 1
tally(n: int, x: float...) -> next: int
    -- n + 1 where any number of any x is infinite or NaN, else n
ratio(n: int) {{by: int}} -> q: int
    -- n / by, rounded down
turn(n: int) {{of: int, at: int}} -> m: f32
    -- 1 where n mod of is at (of = 0: where n is at), else 0

# Bits of quantizers, chosen in the program
cyclic_bits(step: int, total: int, low: f32) {{high: int, cycles: int, iters: int}} -> bits: f32
    -- low + (high - low)/2 (1 - cos(pi r/T)) to nearest even, r = step mod T, T = total / cycles
    rounded down; high from step cycles T on; where low is 0 min(2 + step / iters, high)
range_test(step: int, right: f32, low: f32, hits: f32, before: f32) {{high: int, iters: int, batch:
    int, threshold: float, fallback: int}} -> low1: f32, hits1: f32, before1: f32
    -- while low is 0: hits sums right; each iters steps, of b = min(2 + step / iters, high) bits,
    before1 = hits / (iters * batch), and low1 = b if b > 2 and before1 - before > threshold, else
    fallback if b is high
plateau(loss: f32, s: f32) {{every: int, eps: floats}} -> s1: f32
    -- s = stage, epochs, norm, filled, the last 5 mean losses of every steps, sum, seen; norm: mean
    of the first 10; next stage once no |difference to the last| / norm > eps[stage]
stage_bits(s: f32) {{bits: ints}} -> bits: f32
    -- bits[s[0]], the last one beyond

# Pointwise
relu(x: float) -> y: float
    -- max(x, 0)
relu_grad(g: float, y: mask) -> dx: float
    -- g where y > 0 (a region mask: m != 0), else 0
add(a: float, b: float) -> y: float
sub(a: float, b: float) -> y: float
mul(a: float, b: float) -> y: float
scale(x: float) {{factor: float}} -> y: float
    -- x * factor
add_bias(x: float, b: float) -> y: float
    -- b per channel (dimension 1)
clamp_min(x: float) {{low: float}} -> y: float
clamp_max(x: float) {{high: float}} -> y: float
shift(x: float) {{by: float}} -> y: float
    -- x + by
div(a: float, b: float) -> y: float
maximum(a: float, b: float) -> y: float
    -- a where a > b, else b; NaN if one is
minimum(a: float, b: float) -> y: float
    -- a where a < b, else b; NaN if one is
compare(a: float, b: float) {{relation: word}} -> m: float
    -- 1 where a relation b, else 0; relation = lt|le|eq|ne|ge|gt
compare_to(x: float) {{relation: word, value: float}} -> m: float
where(c: float, a: float, b: float) -> y: float
    -- a where c != 0, else b
masked(c: float, x: float) {{value: float}} -> y: float
    -- value where c != 0, else x
constant() {{value: float}} -> c: f32
    -- value everywhere
initialize(w: f32, seed: int, step: int) {{bound: float, salt: int}} -> w1: f32
    -- at step 0 (modulo 2^32) (u - 1/2) * 2 bound, u in [0, 1) as random_mask draws it; else w
random_mask(seed: int, step: int) {{keep: float, salt: int}} -> m: f32
    -- 1 with probability keep, else 0; Threefry-2x32(seed, step; salt, element index)

# Functions of a number: taken in f64, then rounded; NaN stays
abs(x: float) -> y: float
sign(x: float) -> y: float
    -- 1, 0 (NaN too) or -1
sqrt(x: float) -> y: float
exp(x: float) -> y: float
expm1(x: float) -> y: float
log(x: float) -> y: float
log1p(x: float) -> y: float
tanh(x: float) -> y: float
sigmoid(x: float) -> y: float
erf(x: float) -> y: float
power(x: float) {{exponent: float}} -> y: float
    -- x^exponent; NaN where x < 0 and the exponent is no integer

# Reductions and broadcasts
sum_channels(g: float) -> s: f32
    -- over all but channels
sum(x: float) {{dims: ints, keepdim: flag}} -> y: float
mean(x: float) {{dims: ints, keepdim: flag}} -> y: float
max(x: float) {{dims: ints, keepdim: flag}} -> y: float
broadcast(x: float) {{dims: ints}} -> y: float
    -- repeats along dims; x has them with size 1 or lacks them
iota() {{start: int, step: int}} -> n: int
    -- start, start + step, ...
triangle() {{diagonal: int}} -> m: f32
    -- 1 where column - row <= diagonal, in the last two dimensions, else 0
table() {{numbers: floats}} -> t: f32
    -- these numbers, row by row
hard_choice(x: float) -> m: f32
    -- of NxC: 1 at the first of the largest numbers along dimension 1, else 0
one_hot(target: int) {{ignore_index: int}} -> m: f32
    -- 1 at [target, ...] along a new dimension 1, else 0; all 0 where target is ignore_index
resample(x: float) {{dim: int, starts: ints, index: ints, weights: floats}} -> y: float
    -- along dim, y[i] = sum of weights[k] * x[index[k]] for k = starts[i] .. starts[i + 1] - 1
embedding(w: float, index: int) -> y: float
    -- rows of w
embedding_grad(g: float, index: int) {{padding_index: int}} -> dw: float
    -- row r: sum of g where index is r; 0 at padding_index

# Pooling; ``where`` is the winner's place in its window, row by row (adaptive: in its plane)
max_pool2d(x: float) {POOL} -> y: float, where: where
    -- first of equal maxima; -inf outside
max_pool2d_grad(g: float, where: where) {POOL} -> dx: float
avg_pool2d(x: float) {AVG} -> y: float
    -- divisor 0: the window's size
avg_pool2d_grad(g: float) {AVG} -> dx: float
adaptive_avg_pool2d(x: float) -> y: float
adaptive_avg_pool2d_grad(g: float) -> dx: float
adaptive_max_pool2d(x: float) -> y: float, where: where
adaptive_max_pool2d_grad(g: float, where: where) -> dx: float

# Shape
view(x: any) -> y: any
    -- same elements in row-major order
permute(x: float) {{dims: ints}} -> y: float
cat(x: float...) {{dim: int}} -> y: float
slice(x: float) {{dim: int, start: int, step: int}} -> y: float
    -- start, start + step, ...
slice_grad(g: float) {{dim: int, start: int, step: int}} -> dx: float
    -- zeros elsewhere
pad(x: float) {{before: ints, value: float}} -> y: float
    -- constant border; before[i] >= 0 elements ahead of dimension i

# Losses
log_softmax(x: float) -> y: f32
    -- over dimension 1 of NxC
log_softmax_grad(g: f32, y: f32) -> dx: float
    -- g - exp(y) * sum g
nll_loss(y: f32, target: int) {{reduction: word, ignore_index: int}} -> loss: f32, count: f32
    -- reduction = mean|sum; count of targets not ignored
nll_loss_grad(g: f32, target: int, count: f32) {{reduction: word, ignore_index: int}} -> dy: f32
mse_loss(x: float, y: float) {{reduction: word}} -> loss: f32
mse_loss_grad(g: f32, x: float, y: float) {{reduction: word}} -> dx: float

# Update; the first step (step == 0) takes the gradient undamped, as torch does
sgd(w: f32, dw: float, m: f32, step: int, lr: f32, momentum: f32, dampening: f32, weight_decay: f32)
    {{nesterov: flag, maximize: flag}} -> w1: f32, m1: f32
adam(w: f32, dw: float, m: f32, v: f32, step: int, lr: f32, one_minus_beta1: f32,
    one_minus_beta2: f32, eps: f32, weight_decay: f32)
    {{decoupled_weight_decay: flag, maximize: flag}} -> w1: f32, m1: f32, v1: f32
rmsprop(w: f32, dw: float, s: f32, m: f32, lr: f32, alpha: f32, eps: f32, momentum: f32,
    weight_decay: f32) {{maximize: flag}} -> w1: f32, s1: f32, m1: f32
"""

GEMMS = frozenset(
    f"{kind}{part}"
    for kind in ("conv2d", "conv2d_transpose", "linear")
    for part in ("", "_input_grad", "_weight_grad")
)
FORWARD_GEMMS = frozenset(kind for kind in GEMMS if not kind.endswith("_grad"))
INPUT_GRADS = frozenset(kind for kind in GEMMS if kind.endswith("_input_grad"))
WEIGHT_GRADS = frozenset(kind for kind in GEMMS if kind.endswith("_weight_grad"))
# Products of layers, and those of activations with each other.
PRODUCTS = GEMMS | {"matmul"}


@dataclass(frozen=True, slots=True)
class Operand:
    """A named operand or result and its format class."""

    name: str
    format_class: str
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class OpDef:
    """Signature of one op kind."""

    kind: str
    operands: tuple[Operand, ...]
    attrs: dict[str, str]
    results: tuple[Operand, ...]
    meaning: str
    group: str
    optional: frozenset[str] = frozenset()

    @property
    def required(self) -> frozenset[str]:
        """Attributes that must be there."""
        return frozenset(self.attrs) - self.optional

    @property
    def repeats(self) -> bool:
        """Whether the last operand takes one or more values."""
        return bool(self.operands) and self.operands[-1].repeats

    def __str__(self) -> str:
        def show(operands: tuple[Operand, ...]) -> str:
            dots = ("", "...")
            return ", ".join(f"{o.name}: {o.format_class}{dots[o.repeats]}" for o in operands)

        marks = ("", "?")
        attrs = ", ".join(f"{k}{marks[k in self.optional]}: {v}" for k, v in self.attrs.items())
        middle = f" {{{attrs}}}" if attrs else ""
        return f"{self.kind}({show(self.operands)}){middle} -> {show(self.results)}"


LINE = re.compile(
    r"(?P<kind>\w+)\((?P<operands>[^)]*)\)(?: \{(?P<attrs>[^}]*)\})?"
    r" -> (?P<results>\w+: \w+(?:, \w+: \w+)*)(?: -- (?P<meaning>.*))?"
)


def _operand(text: str) -> Operand:
    name, _, format_class = text.partition(": ")
    return Operand(name, format_class.removesuffix("..."), format_class.endswith("..."))


def _split(text: str | None) -> list[str]:
    return text.split(", ") if text else []


def _read(table: str) -> dict[str, OpDef]:
    ops: dict[str, OpDef] = {}
    group = ""
    for line in table.replace("\n    ", " ").splitlines():
        if line.startswith("# "):
            group = line[2:]
        if not line or line.startswith("# "):
            continue
        m = LINE.fullmatch(line)
        assert m, f"malformed op signature: {line}"
        attrs = dict(a.split(": ") for a in _split(m["attrs"]))
        ops[m["kind"]] = OpDef(
            m["kind"],
            tuple(map(_operand, _split(m["operands"]))),
            {k.removesuffix("?"): v for k, v in attrs.items()},
            tuple(map(_operand, _split(m["results"]))),
            m["meaning"] or "",
            group,
            frozenset(k[:-1] for k in attrs if k.endswith("?")),
        )
    return ops


OPS = _read(TABLE)

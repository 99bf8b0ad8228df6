"""Shape rules: for each op kind the shapes its results must have.

``expected_shapes(op)`` returns one entry per result; ``None`` where the op itself decides (dX takes
the shape of the forward input, a slice its length); the rule has then checked that it fits.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import prod

from ..types import Scale, Shape
from .program import Op

Shapes = tuple[Shape | None, ...]


class ShapeMismatch(Exception):
    """Shapes of an op that do not fit; the verifier adds the place."""


def expected_shapes(op: Op) -> Shapes:
    """Shapes of the results that follow from operands and attributes."""
    return RULES.get(op.kind, _same)(op)


def window(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """Number of places of a window of ``kernel`` taps along ``size`` elements."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def _need(ok: bool, message: str) -> None:
    if not ok:
        raise ShapeMismatch(message)


def _shape(op: Op, i: int) -> Shape:
    return op.inputs[i].type.shape


def _same(op: Op) -> Shapes:
    return (_shape(op, 0),) * len(op.results)


def _alike(op: Op) -> Shapes:
    first = _shape(op, 0)
    for i in range(1, len(op.inputs)):
        _need(_shape(op, i) == first, f"{first} and {_shape(op, i)} differ")
    return (first,)


def conv_output(op: Op, x: Shape, w: Shape) -> Shape:
    """NxKxHxW of a convolution of ``x`` (NxCxHxW) with ``w`` (KxC/groupsxRxS)."""
    _need(len(x) == 4 and len(w) == 4, f"convolution needs two 4-d operands, not {x} and {w}")
    groups = op.int_attr("groups")
    _need(x[1] == w[1] * groups and w[0] % groups == 0, f"channels of {x}, {w}, groups {groups}")
    stride, padding, dilation = (op.ints_attr(k) for k in ("stride", "padding", "dilation"))
    spatial = (window(x[i + 2], w[i + 2], stride[i], padding[i], dilation[i]) for i in range(2))
    return (x[0], w[0], *spatial)


def _conv(op: Op) -> Shapes:
    return (conv_output(op, _shape(op, 0), _shape(op, 1)),)


def _conv_dx(op: Op) -> Shapes:
    made = conv_output(op, op.result.type.shape, _shape(op, 1))
    _need(made == _shape(op, 0), f"the gradient is {_shape(op, 0)}, a forward gives {made}")
    return (None,)


def _conv_dw(op: Op) -> Shapes:
    made = conv_output(op, _shape(op, 1), op.result.type.shape)
    _need(made == _shape(op, 0), f"the gradient is {_shape(op, 0)}, a forward gives {made}")
    return (None,)


def _transposed(op: Op) -> Shapes:
    made = conv_output(op, op.result.type.shape, _shape(op, 1))
    _need(made == _shape(op, 0), f"{op.result.type.shape} is made from {made}, not {_shape(op, 0)}")
    return (None,)


def _transposed_dx(op: Op) -> Shapes:
    return (conv_output(op, _shape(op, 0), _shape(op, 1)),)


def _transposed_dw(op: Op) -> Shapes:
    made = conv_output(op, _shape(op, 0), op.result.type.shape)
    _need(made == _shape(op, 1), f"the input is {_shape(op, 1)}, not {made}")
    return (None,)


def _linear(op: Op) -> Shapes:
    x, w = _shape(op, 0), _shape(op, 1)
    _need(len(x) == len(w) == 2 and x[1] == w[1], f"linear of {x} and {w}")
    return ((x[0], w[0]),)


def _linear_dx(op: Op) -> Shapes:
    g, w = _shape(op, 0), _shape(op, 1)
    _need(len(g) == len(w) == 2 and g[1] == w[0], f"dX of {g} and {w}")
    return ((g[0], w[1]),)


def _linear_dw(op: Op) -> Shapes:
    g, x = _shape(op, 0), _shape(op, 1)
    _need(len(g) == len(x) == 2 and g[0] == x[0], f"dW of {g} and {x}")
    return ((g[1], x[1]),)


def _matmul(op: Op) -> Shapes:
    a, b = _shape(op, 0), _shape(op, 1)
    fits = len(a) == len(b) == 3 and a[0] == b[0] and a[2] == b[1]
    _need(fits, f"matmul of {a} and {b}; both are 3-d: BxMxK by BxKxN")
    return ((*a[:2], b[2]),)


def _channels(op: Op) -> Shapes:
    return ((_shape(op, 0)[1],),) * len(op.results)


def _scalars(op: Op) -> Shapes:
    return ((),) * len(op.results)


def _clip(op: Op) -> Shapes:
    made = op.result.type.shape
    _need(made in ((), _shape(op, 0)[:1]), f"a clip is one number or one a channel, not {made}")
    return (None,)


def _extremes(op: Op) -> Shapes:
    made = op.result.type.shape
    fits = made in ((), _shape(op, 0)[:1])
    _need(fits, f"extremes are single numbers or one a place of dimension 0, not {made}")
    return (None, made)


def _affine(op: Op) -> Shapes:
    x, low, high = (_shape(op, i) for i in range(3))
    per_channel = op.result.type.scale.per_channel
    need = x[:1] if per_channel else ()
    _need(low == high == need, f"limits of {op.result.type.short} have shape {need}, not {low}")
    bits = _shape(op, 3)
    _need(bits in ((), need), f"bits are a single number or one for each limit, not {bits}")
    return (x,)


def _flag(op: Op) -> Shapes:
    f, bits = op.result.type.format, op.int_attr("bits")
    top = ((1 << (bits - 1)) - 1) << (bits - 1)
    fits = f.is_integer and f.signed and not f.midrise and f.max >= top
    _need(fits, f"round_flag with bits={bits} makes integers up to {top}, which {f} does not hold")
    return (_shape(op, 0),)


def _table(op: Op) -> Shapes:
    held, numbers = op.result.type.elements, len(op.floats_attr("numbers"))
    _need(held == numbers, f"a table of {numbers} numbers does not fill {op.result.type.shape}")
    return (None,)


def _hard_choice(op: Op) -> Shapes:
    _need(len(_shape(op, 0)) == 2, f"a choice is made in each row of NxC, not of {_shape(op, 0)}")
    return (_shape(op, 0),)


def _squeeze(op: Op) -> Shapes:
    made = op.result.type
    _need(made.scale is Scale.SQUEEZED, f"squeeze makes squeezed numbers, not {made.short}")
    single = _shape(op, 1) == _shape(op, 2) == ()
    _need(single, f"alpha and beta are single numbers, not {_shape(op, 1)} and {_shape(op, 2)}")
    return (_shape(op, 0),)


def _with_clip_gradient(op: Op) -> Shapes:
    return (_shape(op, 0), ())


def _reduced(op: Op) -> Shapes:
    x, dims = _shape(op, 0), set(op.ints_attr("dims"))
    if op.bool_attr("keepdim"):
        return (tuple(1 if i in dims else d for i, d in enumerate(x)),)
    return (tuple(d for i, d in enumerate(x) if i not in dims),)


def _broadcast(op: Op) -> Shapes:
    made, dims = op.result.type.shape, set(op.ints_attr("dims"))
    kept = tuple(d for i, d in enumerate(made) if i not in dims)
    full = tuple(1 if i in dims else d for i, d in enumerate(made))
    _need(_shape(op, 0) in (kept, full), f"{_shape(op, 0)} does not broadcast to {made}")
    return (None,)


def _pool(op: Op) -> Shapes:
    kernel, stride, padding = (op.ints_attr(k) for k in ("kernel", "stride", "padding"))
    dilation = op.ints_attr("dilation") if "dilation" in op.attrs else (1, 1)
    x, y = _shape(op, 0), op.result.type.shape
    _need(len(x) == len(y) == 4 and x[:2] == y[:2], f"pooling of {x} to {y}")
    for i in range(2):
        least = window(x[i + 2], kernel[i], stride[i], padding[i], dilation[i])
        _need(y[i + 2] in (least, least + 1), f"pooling of {x} gives {least} places, not {y}")
    return (None,) * len(op.results)


def _free(op: Op) -> Shapes:
    return (None,) * len(op.results)


def _view(op: Op) -> Shapes:
    a, b = _shape(op, 0), op.result.type.shape
    _need(prod(a) == prod(b), f"{a} has {prod(a)} elements, {b} has {prod(b)}")
    return (None,)


def _permute(op: Op) -> Shapes:
    return (tuple(_shape(op, 0)[d] for d in op.ints_attr("dims")),)


def _cat(op: Op) -> Shapes:
    dim, first = op.int_attr("dim"), _shape(op, 0)
    total = sum(v.type.shape[dim] for v in op.inputs)
    return ((*first[:dim], total, *first[dim + 1 :]),)


def _sliced(whole: Shape, part: Shape, op: Op) -> None:
    dim, start, step = (op.int_attr(k) for k in ("dim", "start", "step"))
    last = start + (part[dim] - 1) * step
    fits = all(a == b for i, (a, b) in enumerate(zip(whole, part, strict=True)) if i != dim)
    _need(fits and start >= 0 and last < whole[dim], f"{part} is no slice of {whole}")


def _slice(op: Op) -> Shapes:
    _sliced(_shape(op, 0), op.result.type.shape, op)
    return (None,)


def _slice_grad(op: Op) -> Shapes:
    _sliced(op.result.type.shape, _shape(op, 0), op)
    return (None,)


def _pad(op: Op) -> Shapes:
    x, y, before = _shape(op, 0), op.result.type.shape, op.ints_attr("before")
    fits = all(b >= 0 and d + b <= e for d, b, e in zip(x, before, y, strict=True))
    _need(fits, f"{x} does not lie in {y} at {before}")
    return (None,)


def _triangle(op: Op) -> Shapes:
    _need(len(op.result.type.shape) >= 2, "a triangle has at least two dimensions")
    return (None,)


def _one_hot(op: Op) -> Shapes:
    target, made = _shape(op, 0), op.result.type.shape
    fits = len(made) == len(target) + 1 and (*made[:1], *made[2:]) == target
    _need(fits, f"one_hot of {target} has one more dimension, the second, not {made}")
    return (None,)


def _resample(op: Op) -> Shapes:
    x, y, dim = _shape(op, 0), op.result.type.shape, op.int_attr("dim")
    starts, index, weights = (op.attrs[k] for k in ("starts", "index", "weights"))
    assert isinstance(starts, tuple) and isinstance(index, tuple) and isinstance(weights, tuple)
    _need(0 <= dim < len(x) == len(y), f"{x} and {y} have no dimension {dim}")
    fits = all(a == b for i, (a, b) in enumerate(zip(x, y, strict=True)) if i != dim)
    _need(fits, f"{x} and {y} differ in more than dimension {dim}")
    rising = starts[:1] == (0,) and all(a <= b for a, b in pairwise(starts))
    ends = len(starts) == y[dim] + 1 and starts[-1] == len(index) == len(weights)
    inside = all(0 <= i < x[dim] for i in index)
    _need(rising and ends and inside, f"starts, index and weights do not map {x[dim]} to {y[dim]}")
    return (None,)


def _embedding(op: Op) -> Shapes:
    _need(len(_shape(op, 0)) == 2, f"a table of embeddings is 2-d, not {_shape(op, 0)}")
    return ((*_shape(op, 1), _shape(op, 0)[1]),)


def _embedding_grad(op: Op) -> Shapes:
    g, index, made = _shape(op, 0), _shape(op, 1), op.result.type.shape
    _need(g == (*index, made[-1]) and len(made) == 2, f"gradient {g} of rows {index} to {made}")
    return (None,)


def _channel_scales(op: Op) -> Shapes:
    return _alike(op) * 2


def _rescale(op: Op) -> Shapes:
    q, factor = op.inputs[0].type, _shape(op, 1)
    made = op.result.type
    _need(factor == q.shape[:1], f"one factor for each place of dimension 0 of {q}, not {factor}")
    _need(
        q.format is made.format and made.scale is Scale.CHANNEL and q.scale.is_factor,
        f"{q} keeps its codes and gets a scale a channel, not {made}",
    )
    return (q.shape,)


def _update(op: Op) -> Shapes:
    w, kept = _shape(op, 0), len(op.results) - 1
    alike = all(_shape(op, i) == w for i in range(2 + kept))
    _need(alike, "weight, gradient and what the optimizer keeps differ in shape")
    return (w,) * (1 + kept)


RULES: dict[str, Callable[[Op], Shapes]] = {
    "conv2d": _conv,
    "conv2d_input_grad": _conv_dx,
    "conv2d_weight_grad": _conv_dw,
    "conv2d_transpose": _transposed,
    "conv2d_transpose_input_grad": _transposed_dx,
    "conv2d_transpose_weight_grad": _transposed_dw,
    "linear": _linear,
    "linear_input_grad": _linear_dx,
    "linear_weight_grad": _linear_dw,
    "sawb_clip": _clip,
    "extremes": _extremes,
    **dict.fromkeys(("quantize_affine", "quantize_affine_stochastic"), _affine),
    "round_flag": _flag,
    "pact_grad": _with_clip_gradient,
    "pact_plus_grad": _with_clip_gradient,
    "amax": _scalars,
    "amax_init": _scalars,
    "grad_scale_step": _alike,
    "channel_scales": _channel_scales,
    "rescale": _rescale,
    "squeeze_stats": _scalars,
    "squeeze": _squeeze,
    "batch_stats": _channels,
    "batch_norm_grad_stats": _channels,
    "relu_grad": _alike,
    "add": _alike,
    "sub": _alike,
    "mul": _alike,
    **dict.fromkeys(("div", "maximum", "minimum", "compare", "where", "masked"), _alike),
    **dict.fromkeys(("constant", "random_mask"), _free),
    **dict.fromkeys(("turn", "tally", "loss_scale_step"), _scalars),
    **dict.fromkeys(("cyclic_bits", "range_test", "stage_bits"), _scalars),
    "plateau": lambda op: (_shape(op, 1),),
    "matmul": _matmul,
    "iota": _free,
    "triangle": _triangle,
    "one_hot": _one_hot,
    "table": _table,
    "hard_choice": _hard_choice,
    "resample": _resample,
    "embedding": _embedding,
    "embedding_grad": _embedding_grad,
    "max": _reduced,
    "sum_channels": _channels,
    "sum": _reduced,
    "mean": _reduced,
    "broadcast": _broadcast,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    "max_pool2d_grad": _free,
    "avg_pool2d_grad": _free,
    "adaptive_avg_pool2d": _free,
    "adaptive_avg_pool2d_grad": _free,
    "adaptive_max_pool2d": _free,
    "adaptive_max_pool2d_grad": _free,
    "view": _view,
    "permute": _permute,
    "cat": _cat,
    "slice": _slice,
    "slice_grad": _slice_grad,
    "pad": _pad,
    "nll_loss": _scalars,
    "nll_loss_grad": _free,
    "mse_loss": _scalars,
    "mse_loss_grad": lambda op: (_shape(op, 1),),
    **dict.fromkeys(("sgd", "adam", "rmsprop"), _update),
}

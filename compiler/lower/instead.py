"""What to write in place of a torch function that a step lacks, by kinds of functions.

``docs/ops.md`` lists the supported ones, and these kinds with what to write instead.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

PAGE = "docs/ops.md"
CLOSE = 0.75
OUTSIDE = "compute it outside of the step and give it as an input, or keep a constant as a buffer"
FORM = "it is there in its plain form, without the options of this call"

# Functions by regular expressions of their names; the first that fits counts.
INSTEAD: tuple[tuple[str, str], ...] = (
    (r"embedding_renorm\w*", "nn.Embedding is there without max_norm"),
    (
        r"kthvalue|(nan)?median|mode|searchsorted|bucketize|(nan)?quantile|unique\w*|hist\w*"
        r"|bincount",
        "sort, topk, argsort, argmax and max(dim) find places, and one_hot(...).sum(0) counts; the "
        "rest belongs outside of the step, its result given as an input",
    ),
    (
        r"fft\w*|i?stft|\w*complex\w*|polar|angle|conj\w*|imag|real",
        "all numbers of a step are real; transform outside of the step and give real inputs",
    ),
    (
        r"(linalg_)?(inv\w*|pinv\w*|svd\w*|qr|lu\w*|cholesky\w*|det|slogdet|logdet|solve\w*"
        r"|eig\w*|lstsq|matrix_exp\w*|triangular_solve|solve_triangular|ldl\w*|householder\w*)",
        "a step decomposes no matrices; do so outside of it and give the result as an input",
    ),
    (
        r"rand\w*|normal\w*|uniform\w*|multinomial|poisson|log_normal\w*|geometric\w*|cauchy\w*"
        r"|rrelu\w*|\w*alpha_dropout",
        "rand, randn, bernoulli and exponential_ draw inside of a step, as nn.Dropout does; draw "
        "other random numbers outside and give them as an input",
    ),
    (
        r"cumulative_trapezoid|logcumsumexp|cumprod|cummax|cummin",
        "cumsum is there; of positive numbers x.log().cumsum(dim).exp() is the running product; "
        "other running results belong outside of the step",
    ),
    (
        r"gather\w*|scatter\w*|index\w*|take\w*|put\w*|masked_scatter\w*|embedding_bag\w*"
        r"|as_strided_scatter|diagonal_scatter",
        "x[index], x[index] = y, gather, scatter, scatter_add, index_select and index_add are "
        "there, and nn.Embedding for rows of a table; torch.where for a mask",
    ),
    (
        r"tan|asin\w*|acos\w*|atan\w*|arc\w+|sinc|hypot",
        "sin and cos are there, and what does not depend on the batch or a parameter is computed "
        "once at compile; the rest belongs outside of the step",
    ),
    (
        r"frac|remainder|fmod|floor_divide",
        "floor, ceil, trunc and round are there: x - n * floor(x / n) is the remainder",
    ),
    (
        r"cdist\w*|pdist\w*|pairwise_distance",
        "write the distance out: (a.unsqueeze(1) - b).square().sum(-1).sqrt()",
    ),
    (r"erfc", "1 - erf(x) is the same"),
    (r"sinh|cosh", "(x.exp() - (-x).exp()) / 2 and (x.exp() + (-x).exp()) / 2 are the same"),
    (r"prod", "of positive numbers it is x.log().sum().exp()"),
    (r"nansum|nanmean|nan_to_num", "torch.where(x.isnan(), 0.0, x) ahead of it is the same"),
    (
        r"interpolate|\w*upsample\w*|grid_sampl\w*|affine_grid\w*",
        "nn.functional.interpolate does nearest, bilinear and bicubic in one and two dimensions, "
        "without antialias",
    ),
    (
        r"max_unpool\w*",
        "a step finds no positions; nn.Upsample and nn.ConvTranspose2d make images larger without",
    ),
    (
        r"conv\w*3d|\w*pool3d\w*|local_response_norm",
        "layers have one or two dimensions; fold a third one into the batch or the channels",
    ),
    (
        r"ctc_loss|multi_?margin\w*|multilabel_margin\w*",
        "the losses are those of the README; write another one out with the functions of the page",
    ),
    (
        r"empty\w*|new_empty\w*",
        "layers are made in __init__ and not in the forward; torch.zeros and torch.ones make "
        "tensors with numbers in them",
    ),
    (r"\w*cross", "write the products of the components out with slices and torch.stack"),
    (r"fake_quant\w*|quantize\w*|dequantize\w*", "recipes quantize; leave the model in float32"),
)


def instead(names: Collection[str], known: Collection[str]) -> str:
    """What to do without a function: the kind's advice, or the closest ``known`` name.

    ``names`` are those it goes by: what was written, and what torch made of that.
    """
    if advice := advised(names):
        return advice
    for name in names:
        near = difflib.get_close_matches(name, {*known} - {*names}, n=1, cutoff=CLOSE)
        if near and not {*names} & {*known}:
            return f"the closest that there is, is {near[0]}"
    return FORM if {*names} & {*known} else OUTSIDE


def advised(names: Collection[str]) -> str:
    """The advice of the kind that one of ``names`` is of; empty where it is of none."""
    fits = (text for kind, text in INSTEAD if any(re.fullmatch(kind, name) for name in names))
    return next(fits, "")

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
        r"nanmedian|mode|(nan)?quantile|unique\w*|histogram\w*|bincount",
        "sort, topk, kthvalue, argmax and searchsorted find places, and histc and "
        "one_hot(...).sum(0) count; the rest belongs outside of the step, its result given as an "
        "input",
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
        r"|\w*alpha_dropout|fractional_max_pool\w*",
        "rand, randn, bernoulli and exponential_ draw inside of a step, as nn.Dropout does; draw "
        "other random numbers outside and give them as an input",
    ),
    (
        r"cummax|cummin",
        "cumsum, cumprod and logcumsumexp are there; other running results belong outside of the "
        "step",
    ),
    (
        r"gather\w*|scatter\w*|index\w*|take\w*|put\w*|masked_scatter\w*"
        r"|as_strided_scatter|diagonal_scatter",
        "x[index], x[index] = y, gather, scatter, scatter_reduce, index_select and index_add are "
        "there, and nn.Embedding for rows of a table; torch.where for a mask",
    ),
    (
        r"sinc|lgamma|digamma|polygamma|erfinv|i0\w*|special\w*|bessel\w*",
        "what does not depend on the batch or a parameter is computed once at compile; of others "
        "there are the functions of the page, and the rest belongs outside of the step",
    ),
    (
        r"adaptive_max_pool3d\w*|max_pool3d_with_indices\w*",
        "of volumes there are max_pool3d without its places, avg_pool3d and adaptive_avg_pool3d",
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

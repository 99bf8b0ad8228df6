"""Ops that a target makes of others: the step of Muon, a matrix's momentum made orthogonal.

Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); the adjustments of
the rate also from Liu et al., "Muon is scalable for LLM training" (2025). In the order of
torch.optim.Muon, whose matrices X are bf16 with sums in f32:

    m1 = m + (dw - m) (1 - momentum)
    X  = nesterov ? m1 + (dw - m1) (1 - momentum) : m1, transposed where it is tall
    X  = X / max(|X|, eps)
    G  = X X^T, X = a X + (b G + c G G) X        ns_steps times
    w1 = w (1 - lr weight_decay) - lr ratio X
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from ...compiler.formats import BF16
from ...compiler.ir import Op, Program, Region, Value
from ...compiler.types import Shape
from .composition import Composition
from .hadamard import hadamard


def muon(op: Op, taken: set[str]) -> list[Op]:
    """The ops of a ``muon``."""
    w, dw, m, lr, rest, eps, decay = op.inputs
    made, shape = Composition(op, taken), w.type.shape
    share = made.wide("share", rest, shape)
    away = made("mul", "part", made("sub", "away", dw, m, shape=shape), share, shape=shape)
    used = made.into("add", op.results[1], m, away)
    if op.bool_attr("nesterov"):
        left = made("sub", "left", dw, used, shape=shape)
        ahead = made("mul", "ahead", left, share, shape=shape)
        x = made("add", "used", used, ahead, shape=shape, f=BF16)
    else:
        x = made("cast", "used", used, shape=shape, f=BF16)
    turn = _orthogonal(made, op, x, eps)
    shrink = made("mul", "decay", lr, decay, shape=())
    stay = made(
        "shift", "stay", made("scale", "less", shrink, shape=(), factor=-1.0), shape=(), by=1.0
    )
    base = made("mul", "base", w, made.wide("stays", stay, shape), shape=shape)
    rate = made("scale", "rate", lr, shape=(), factor=_ratio(op.word_attr("adjust_lr"), shape))
    moved = made("mul", "moved", turn, made.wide("rates", rate, shape), shape=shape)
    made.into("sub", op.results[0], base, moved)
    return made.made


def _orthogonal(made: Composition, op: Op, x: Value, eps: Value) -> Value:
    """A matrix near U V^T, where x is U S V^T."""
    shape = x.type.shape
    dims = (0, 1)
    square = made("mul", "square", x, x, shape=shape)
    total = made("sum", "squares", square, shape=(), dims=dims, keepdim=False)
    length = made("sqrt", "length", total, shape=(), f=BF16)
    least = made("maximum", "divisor", length, eps, shape=(), f=BF16)
    x = made("div", "unit", x, made.wide("divisors", least, shape), shape=shape, f=BF16)
    tall = shape[0] > shape[1]
    if tall:
        shape = (shape[1], shape[0])
        x = made("permute", "flat", x, shape=shape, f=BF16, dims=(1, 0))
    r, c = shape
    x = made("view", "matrix", x, shape=(1, r, c), f=BF16)
    for _ in range(op.int_attr("ns_steps")):
        x = _iterated(made, op.floats_attr("ns_coefficients"), x)
    x = made("view", "turn", x, shape=shape, f=BF16)
    if tall:
        x = made("permute", "tall", x, shape=(c, r), f=BF16, dims=(1, 0))
    return x


def _iterated(made: Composition, coefficients: tuple[float, ...], x: Value) -> Value:
    """One iteration of Newton and Schulz."""
    a, b, c = coefficients
    _, rows, columns = x.type.shape
    small = (1, rows, rows)
    over = made("permute", "over", x, shape=(1, columns, rows), f=BF16, dims=(0, 2, 1))
    gram = made("matmul", "gram", x, over, shape=small, f=BF16)
    fourth = made("matmul", "fourth", gram, gram, shape=small)
    terms = (("second", gram, b), ("higher", fourth, c))
    sums = (made("scale", part, v, shape=small, factor=k) for part, v, k in terms)
    factor = made("add", "factor", *sums, shape=small, f=BF16)
    bent = made("matmul", "bent", factor, x, shape=x.type.shape)
    first = made("scale", "first", x, shape=x.type.shape, factor=a)
    return made("add", "next", first, bent, shape=x.type.shape, f=BF16)


def _ratio(adjust: str, shape: Shape) -> float:
    """What the rate of a matrix is multiplied by."""
    rows, columns = shape
    if adjust == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1.0, rows / columns))


COMPOSED: Mapping[str, Callable[[Op, set[str]], list[Op]]] = {"muon": muon, "hadamard": hadamard}


def compose(program: Program) -> Program:
    """``program`` with the ops that such an op is made of in its place."""
    if not any(op.kind in COMPOSED for _, op in program.ops()):
        return program
    taken = program.names()

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        return tuple(COMPOSED[op.kind](op, taken)) if op.kind in COMPOSED else None

    return program.rewrite(rule, by="compose")

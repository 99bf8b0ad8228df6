"""GEMMs: (sum of products of stored numbers) * (scale of one * of the other), rounded once."""

from __future__ import annotations

from dataclasses import replace

from ..accumulation import refusal
from ..program import Op
from .definition import Direction, Extents, OpDef
from .signature import define
from .traits import Trait
from .windows import window

SUM = "accumulator?: fp16.169|f16, chunk?: int >= 0"
CONV = (
    f"{{stride: 2 ints >= 1, padding: 2 ints >= 0, dilation: 2 ints >= 1, groups: int >= 1, {SUM}}}"
)
LINEAR = f"{{{SUM}}}"


def _convolution(op: Op, at: Extents) -> str:
    """N C H W, convolved with K D R S, makes N K P Q; in all six ops the symbols are the same."""
    (c,), (d,), (k,), groups = at["C"], at["D"], at["K"], op.int_attr("groups")
    if c != d * groups or k % groups:
        return f"channels of {c} are not {groups} groups of {d}, or {k} is no multiple of {groups}"
    steps = zip(*(op.ints_attr(a) for a in ("stride", "padding", "dilation")), strict=True)
    sizes, taps, made = (at[h] + at[w] for h, w in ("HW", "RS", "PQ"))
    places = tuple(window(n, t, *step) for n, t, step in zip(sizes, taps, steps, strict=True))
    return f"a forward gives {places} places of {sizes}, not {made}" if places != made else ""


def _filled(op: Op, at: Extents) -> str:
    """A sum of no products, or none at all, is no GEMM: nothing has a kernel for it."""
    shapes = (v.type.shape for v in (*op.inputs, *op.results))
    empty = next((s for s in shapes if min(s, default=1) < 1), None)
    return "" if empty is None else f"there is nothing to multiply in {empty}"


def _product(
    signature: str, meaning: str, *traits: Trait, direction: Direction, conv: bool = True
) -> OpDef:
    """A GEMM of codes may have an accumulator; see ``accumulation``."""
    made = define(signature, meaning, *traits, direction=direction)

    def check(op: Op, at: Extents) -> str:
        shapes = _filled(op, at) or (_convolution(op, at) if conv else "")
        return shapes or refusal(op, made.summed)

    return replace(made, check=check)


FORWARD, INPUT_GRAD, WEIGHT_GRAD = Direction
DATA, IMAGE = Trait.MAKES_CARRIER, Trait.IMAGE

GEMM: tuple[OpDef, ...] = (
    _product(
        f"conv2d(x: gemm[N C H W], w: gemm[K D R S]) {CONV} -> y: float[N K P Q]",
        "cross-correlation",
        DATA, IMAGE, direction=FORWARD,
    ),
    _product(
        f"conv2d_input_grad(g: gemm[N K P Q], w: gemm[K D R S]) {CONV} -> dx: float[N C H W]",
        "dX",
        DATA, IMAGE, direction=INPUT_GRAD,
    ),
    _product(
        f"conv2d_weight_grad(g: gemm[N K P Q], x: gemm[N C H W]) {CONV} -> dw: float[K D R S]",
        "dW",
        IMAGE, direction=WEIGHT_GRAD,
    ),
    _product(
        f"conv2d_transpose(x: gemm[N K P Q], w: gemm[K D R S]) {CONV} -> y: float[N C H W]",
        "the dX of a convolution with weights w, as a layer from K to C channels",
        DATA, IMAGE, direction=FORWARD,
    ),
    _product(
        f"conv2d_transpose_input_grad(g: gemm[N C H W], w: gemm[K D R S]) {CONV}"
        " -> dx: float[N K P Q]",
        "dX of that layer: the convolution",
        DATA, IMAGE, direction=INPUT_GRAD,
    ),
    _product(
        f"conv2d_transpose_weight_grad(g: gemm[N C H W], x: gemm[N K P Q]) {CONV}"
        " -> dw: float[K D R S]",
        "dW of that layer",
        IMAGE, direction=WEIGHT_GRAD,
    ),
    _product(
        f"linear(x: gemm[N I], w: gemm[O I]) {LINEAR} -> y: float[N O]",
        "x w^T",
        DATA, direction=FORWARD, conv=False,
    ),
    _product(
        f"linear_input_grad(g: gemm[N O], w: gemm[O I]) {LINEAR} -> dx: float[N I]",
        "g w",
        DATA, direction=INPUT_GRAD, conv=False,
    ),
    _product(
        f"linear_weight_grad(g: gemm[N O], x: gemm[N I]) {LINEAR} -> dw: float[O I]",
        "g^T x",
        direction=WEIGHT_GRAD, conv=False,
    ),
)  # fmt: skip

# Products of activations: b stands where other layers have their weight.
BETWEEN: tuple[OpDef, ...] = (
    _product(
        f"product(a: gemm[B M K], b: gemm[B K N]) {LINEAR} -> y: float[B M N]",
        "a b, the products of a batch of pairs of matrices, as a layer of two activations",
        DATA, Trait.ROW_MAJOR, direction=FORWARD, conv=False,
    ),
    _product(
        f"product_input_grad(g: gemm[B M N], b: gemm[B K N]) {LINEAR} -> da: float[B M K]",
        "g b^T",
        DATA, Trait.ROW_MAJOR, direction=INPUT_GRAD, conv=False,
    ),
    _product(
        f"product_weight_grad(g: gemm[B M N], a: gemm[B M K]) {LINEAR} -> db: float[B K N]",
        "a^T g, an activation's gradient as the one above",
        DATA, Trait.ROW_MAJOR, direction=WEIGHT_GRAD, conv=False,
    ),
)  # fmt: skip

PRODUCT: tuple[OpDef, ...] = (
    define(
        "matmul(a: float[B M K], b: float[B K N]) -> y: float[B M N]",
        "the products of a batch of pairs of matrices, which belong to no layer",
        DATA, Trait.ROW_MAJOR, check=_filled,
    ),
)  # fmt: skip

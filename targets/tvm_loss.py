"""Kernels of the losses: sums, exponentials and logarithms in f64, rounded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx as tir

from .tvm_expr import PARALLEL, SERIAL, Expr, Vectors, i32, load
from .tvm_single_frame import CHUNK, Builder, Frame
from .tvm_single_sums import Total

Cell = Callable[[Expr], Expr]


def _f64(value: float) -> Expr:
    return tir.const(value, "float64")


def _rows(frame: Frame, body: Callable[[Expr, Vectors], None]) -> None:
    """Run ``body`` for each row of NxC, in parallel where there is work for it."""
    rows, classes = frame.inputs[0].type.shape
    kind = PARALLEL if rows * classes > CHUNK else SERIAL
    with frame.code.loop(rows, kind) as n:
        body(n * i32(classes), Vectors(frame.code, 1))


def _fold(frame: Frame, start: float, step: Callable[[Expr, Expr], Expr], cell: Cell) -> Expr:
    """A scalar accumulated in f64 over the classes of a row."""
    code = frame.code
    total = code.local("float64", 1)
    code.store(total, i32(0), _f64(start))
    with code.loop(frame.inputs[0].type.shape[1]) as c:
        code.store(total, i32(0), step(load(total, i32(0)), cell(c)))
    return code.let(load(total, i32(0)), "float64")


def log_softmax(frame: Frame) -> None:
    """x - max - log(sum exp(x - max)) of each row."""

    def row(start: Expr, v: Vectors) -> None:
        def x(c: Expr) -> Expr:
            return tir.Cast("float64", frame.read(v, 0, start + c))

        top = _fold(frame, float("-inf"), tir.max, x)
        total = _fold(frame, 0.0, lambda a, b: a + b, lambda c: tir.exp(x(c) - top))
        log = frame.code.let(tir.log(total), "float64")
        with frame.code.loop(frame.inputs[0].type.shape[1]) as c:
            y = tir.Cast("float32", x(c) - top - log)
            frame.write(v, 0, start + c, v.f(y))

    _rows(frame, row)


def log_softmax_grad(frame: Frame) -> None:
    """g - exp(y) * sum g of each row."""

    def row(start: Expr, v: Vectors) -> None:
        def operand(i: int, c: Expr) -> Expr:
            return tir.Cast("float64", frame.read(v, i, start + c))

        total = _fold(frame, 0.0, lambda a, b: a + b, lambda c: operand(0, c))
        with frame.code.loop(frame.inputs[0].type.shape[1]) as c:
            dx = operand(0, c) - tir.exp(operand(1, c)) * total
            frame.write(v, 0, start + c, v.f(tir.Cast("float32", dx)))

    _rows(frame, row)


def _counts(frame: Frame, label: Expr, classes: int) -> Expr:
    """Whether a label takes part: not ignored, and, for safety, one of the classes."""
    ignored = tir.const(int(frame.number("ignore_index")), "int64")
    inside = tir.all(label >= tir.const(0, "int64"), label < tir.const(classes, "int64"))
    return tir.all(label != ignored, inside)


def _is_mean(frame: Frame) -> bool:
    return frame.attrs["reduction"] == "mean"


def nll_loss(frame: Frame) -> None:
    """Minus the sum of y at the labels, over their number for the mean."""
    code, v = frame.code, Vectors(frame.code, 1)
    rows, classes = frame.inputs[0].type.shape
    total, count = code.local("float64", 1), code.local("float64", 1)
    for buffer in (total, count):
        code.store(buffer, i32(0), _f64(0.0))
    with code.loop(rows) as n:
        label = code.let(load(frame.sources[1], n), "int64")
        with code.when(_counts(frame, label, classes)):
            y = frame.read(v, 0, n * i32(classes) + tir.Cast("int32", label))
            code.store(total, i32(0), load(total, i32(0)) - tir.Cast("float64", y))
            code.store(count, i32(0), load(count, i32(0)) + _f64(1.0))
    loss = load(total, i32(0))
    if _is_mean(frame):
        loss = tir.div(loss, load(count, i32(0)))
    code.store(frame.results[0], i32(0), tir.Cast("float32", loss))
    code.store(frame.results[1], i32(0), tir.Cast("float32", load(count, i32(0))))


def nll_loss_grad(frame: Frame) -> None:
    """-(g / count) at each label that counts, 0 elsewhere."""
    code, v = frame.code, Vectors(frame.code, 1)
    rows, classes = frame.outputs[0].type.shape
    g = frame.scalar(0)
    share = v.div(g, frame.scalar(2)) if _is_mean(frame) else g
    negative = v.f(v.splat(0.0) - share)
    frame.flat(rows * classes, lambda v, first: frame.write(v, 0, first, v.f(v.splat(0.0))))
    with code.loop(rows) as n:
        label = code.let(load(frame.sources[1], n), "int64")
        with code.when(_counts(frame, label, classes)):
            code.store(frame.results[0], n * i32(classes) + tir.Cast("int32", label), negative)


def mse_loss(frame: Frame) -> None:
    """The sum of squared differences, over their number for the mean."""
    size = frame.inputs[0].type.elements

    def terms(v: Vectors, first: Expr) -> list[Expr]:
        d = v.f(frame.read(v, 0, first) - frame.read(v, 1, first))
        return [v.mul(d, d)]

    def use(sums: Sequence[Expr]) -> None:
        loss = sums[0] / _f64(float(size)) if _is_mean(frame) else sums[0]
        frame.code.store(frame.results[0], i32(0), tir.Cast("float32", loss))

    Total(frame, size, 1).run(terms, use)


def mse_loss_grad(frame: Frame) -> None:
    """(2 / elements) * (x - y) * g, with 2 for the sum."""
    size = frame.inputs[1].type.elements
    g = frame.scalar(0)
    factor = 2.0 / size if _is_mean(frame) else 2.0

    def body(v: Vectors, first: Expr) -> None:
        d = v.sub(frame.read(v, 1, first), frame.read(v, 2, first))
        frame.write(v, 0, first, v.mul(v.mul(v.splat(factor), d), v.splat(g)))

    frame.flat(size, body)


LOSS: dict[str, Builder] = {
    "log_softmax": log_softmax,
    "log_softmax_grad": log_softmax_grad,
    "nll_loss": nll_loss,
    "nll_loss_grad": nll_loss_grad,
    "mse_loss": mse_loss,
    "mse_loss_grad": mse_loss_grad,
}

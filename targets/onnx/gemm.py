"""Products in ONNX: of real numbers in f32, or of codes with the scales behind the sum."""

from __future__ import annotations

from ...compiler.ir import Op
from ...compiler.ir.accumulation import accumulation
from .frame import Context, Lower
from .graph import OnnxAttribute


def _operands(c: Context, op: Op, channel: int | None) -> tuple[str, str, str | None]:
    """Both operands, and the factor of their product where it is apart.

    Dimension 0 of the second one is dimension ``channel`` of the result, or is summed over.
    """
    if accumulation(op) is not None:
        how = f"{op.attrs['accumulator']} in chunks of {op.int_attr('chunk')}"
        c.refuse(f"adds in {how}, which ONNX cannot say; compile with accumulator=f32")
    x, w = op.inputs
    a, b = c.held(x), c.held(w)
    apart = a.scale is not None and b.scale is not None and not a.per_channel
    if not apart or (b.per_channel and channel is None):
        return c.real(x), c.real(w), None
    assert a.scale is not None and b.scale is not None
    rank = len(op.result.type.shape)
    scale = b.scale
    if b.per_channel and channel is not None:
        scale = c.shaped(b.scale, (-1, *(1,) * (rank - 1 - channel)))
    return a.numbers, b.numbers, c.g.op("Mul", a.scale, scale)


def _scaled(c: Context, y: str, factor: str | None) -> str:
    return y if factor is None else c.g.op("Mul", y, factor)


def _window(op: Op) -> dict[str, OnnxAttribute]:
    return {
        "strides": op.ints_attr("stride"),
        "pads": (*op.ints_attr("padding"), *op.ints_attr("padding")),
        "dilations": op.ints_attr("dilation"),
        "group": op.int_attr("groups"),
        "kernel_shape": op.inputs[1].type.shape[2:],
    }


def conv2d(c: Context, op: Op) -> str:
    """Conv."""
    x, w, factor = _operands(c, op, 1)
    return _scaled(c, c.g.op("Conv", x, w, **_window(op)), factor)


def conv2d_transpose(c: Context, op: Op) -> str:
    """ConvTranspose; rows and columns that no place reaches are output padding."""
    x, w, factor = _operands(c, op, None)
    taken = zip(
        op.result.type.shape[2:], op.inputs[0].type.shape[2:], op.inputs[1].type.shape[2:],
        op.ints_attr("stride"), op.ints_attr("padding"), op.ints_attr("dilation"), strict=True,
    )  # fmt: skip
    more = tuple(n - ((p - 1) * s - 2 * q + d * (k - 1) + 1) for n, p, k, s, q, d in taken)
    return _scaled(c, c.g.op("ConvTranspose", x, w, output_padding=more, **_window(op)), factor)


def linear(c: Context, op: Op) -> str:
    """Gemm with the second operand transposed."""
    x, w, factor = _operands(c, op, 1)
    return _scaled(c, c.g.op("Gemm", x, w, transB=1), factor)


def matmul(c: Context, op: Op) -> str:
    """Of each pair of matrices; those that all samples share are one."""
    a, b, factor = _operands(c, op, 0)
    if c.axes.get(op.result) == 0 and not all(v in c.axes for v in op.inputs):
        (a, b), factor = (c.beside(op, i) for i in range(2)), None
    return _scaled(c, c.g.op("MatMul", a, b), factor)


GEMM: dict[str, Lower] = {
    "conv2d": conv2d,
    "conv2d_transpose": conv2d_transpose,
    "linear": linear,
    "matmul": matmul,
    "product": matmul,
}

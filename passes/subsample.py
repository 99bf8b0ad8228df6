"""Subsample: a strided 1x1 convolution of floats reads only the elements that it uses.

A projection shortcut (He et al., "Deep Residual Learning", CVPR 2016, section 3.3) skips three of
four pixels; keeping the pixels it reads takes a quarter of the memory from forward to backward.

    before   y = conv2d(x, w) {stride=[2,2]}     dw = conv2d_weight_grad(dy, x) {stride=[2,2]}
    after    xs = x[:, :, ::2, ::2]
             y = conv2d(xs, w) {stride=[1,1]}    dw = conv2d_weight_grad(dy, xs) {stride=[1,1]}
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from ..compiler.ir import Op, Program, Region, Value, attrs, unused
from .parts.names import part
from .parts.order import placed

DIRECTIONS = ("height", "width")


@placed(after=("carrier",))
def subsample(program: Program) -> Program:
    """Cut the data of strided 1x1 convolutions ahead of them; products and sums stay the same."""
    taken = program.names()
    cut: dict[tuple[Value, tuple[int, ...]], Value] = {}

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        data = {"conv2d": 0, "conv2d_weight_grad": 1}.get(op.kind)
        if data is None or not _skips(op):
            return None
        x, stride = op.inputs[data], op.ints_attr("stride")
        ahead: list[Op] = []
        if (x, stride) not in cut:
            ahead = _slices(op, x, stride, taken)
            cut[x, stride] = ahead[-1].result
        inputs = tuple(cut[x, stride] if v is x else v for v in op.inputs)
        dense = MappingProxyType({**op.attrs, "stride": (1, 1)})
        return (*ahead, replace(op, inputs=inputs, attrs=dense))

    return program.rewrite(rule, by="subsample")


def _skips(op: Op) -> bool:
    x, w = (op.inputs[0], op.inputs[1]) if op.kind == "conv2d" else (op.inputs[1], op.result)
    pointwise = w.type.shape[2:] == (1, 1) and op.ints_attr("padding") == (0, 0)
    return pointwise and max(op.ints_attr("stride")) > 1 and x.type.format.is_carrier


def _slices(op: Op, x: Value, stride: tuple[int, ...], taken: set[str]) -> list[Op]:
    ops: list[Op] = []
    for dim, step, name in zip((2, 3), stride, DIRECTIONS, strict=True):
        if step == 1:
            continue
        shape = list(x.type.shape)
        shape[dim] = (shape[dim] - 1) // step + 1
        made = Value(
            unused(part(op.origin, f"x.{name}"), taken), replace(x.type, shape=tuple(shape))
        )
        ops.append(Op("slice", (x,), (made,), attrs(dim=dim, start=0, step=step), op.origin))
        x = made
    return ops

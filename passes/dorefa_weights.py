"""DoReFa's weights: tanh, divided by its largest size, on 2^k levels without a zero.

"DoReFa-Net: Training Low Bitwidth Convolutional Neural Networks with Low Bitwidth Gradients" (Zhou
et al., 2016), section 2.3.

    t = tanh(w)     y = t / max |t|     wq = (2 c - n) / n,  c = rint(n (y + 1) / 2),  n = 2^k - 1
    dw = (1 - t^2) dt,   dt = dy / max |t|, less sign(t) sum(dy y) / max |t| at the largest |t|

The gradient goes through the maximum as well; equal maxima share it. One bit is another quantizer:

    wq = sign(w) mean |w|, sign(0) = 1     dw passes everywhere; the mean counts as a constant
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..compiler.formats import F32, MIDRISE, Format
from ..compiler.ir import Attr, Op, Program, Region, Value, attrs, unused
from ..compiler.ir.ops import READS_WEIGHT, WEIGHT_GRADS
from ..compiler.types import Scale, Shape, TensorType
from .parts.names import part
from .parts.order import Makes, placed
from .parts.select import EXEMPT, layers, quantized

UNTOUCHED = 32
# Keeps weights of zeros at zero.
LEAST = 1e-30


@placed(makes=Makes.CODES)
def dorefa_weights(
    program: Program,
    *,
    w_bits: Literal[1, 2, 3, 4, 5, 6, 7, 8, 32] = 8,
    exempt: str = EXEMPT,
) -> Program:
    """Let the forward and the dX product of each layer read the weight in ``w_bits`` bits.

    32 leaves weights as they are.
    """
    if w_bits == UNTOUCHED:
        return program.done("dorefa_weights")
    chosen, taken = quantized(program, exempt), program.names()
    masters = {name: op.inputs[1] for name, op in layers(program).items() if name in chosen}
    codes: dict[Value, tuple[Value, Value]] = {}

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        w = masters.get(op.origin)
        if w is None or not w.type.format.is_carrier:
            return None
        if op.kind in WEIGHT_GRADS and w in codes and w_bits > 1:
            return _gradient(op, w, codes[w][1], taken)
        if op.kind not in READS_WEIGHT or op.inputs[1] is not w:
            return None
        work = _Ops(op.origin, taken)
        if w not in codes:
            make = _binary if w_bits == 1 else _several
            codes[w] = make(work, w, MIDRISE[w_bits])
        return (*work.ops, replace(op, inputs=(op.inputs[0], codes[w][0])))

    return program.rewrite(rule, by="dorefa_weights")


class _Ops:
    """Ops of one layer under construction."""

    def __init__(self, layer: str, taken: set[str]) -> None:
        self.layer, self.taken, self.ops = layer, taken, list[Op]()

    def op(
        self, kind: str, name: str, *inputs: Value, shape: Shape | None = None, **options: Attr
    ) -> Value:
        """Append an op; its f32 result has the shape of the first operand, or another."""
        type_ = TensorType(inputs[0].type.shape if shape is None else shape, F32)
        made = Value(unused(part(self.layer, name), self.taken), type_)
        self.ops.append(Op(kind, inputs, (made,), attrs(**options), self.layer))
        return made

    def all(self, kind: str, name: str, x: Value) -> Value:
        """A reduction over all elements."""
        dims = tuple(range(len(x.type.shape)))
        return self.op(kind, name, x, shape=(), dims=dims, keepdim=False)

    def wide(self, name: str, number: Value, like: Value) -> Value:
        """A number repeated to the shape of ``like``."""
        dims = tuple(range(len(like.type.shape)))
        return self.op("broadcast", name, number, shape=like.type.shape, dims=dims)

    def unit(self, t: Value, largest: Value, name: str) -> tuple[Value, Value]:
        """t / largest, and the largest in the shape of ``t``."""
        wide = self.wide(f"{name}.max.wide", largest, t)
        return self.op("div", f"{name}.unit", t, wide), wide

    def quantize(self, x: Value, clip: Value, format_: Format) -> Value:
        """Codes of a weight."""
        type_ = TensorType(x.type.shape, format_, Scale.TENSOR)
        made = Value(unused(part(self.layer, "wq"), self.taken), type_)
        self.ops.append(Op("quantize", (x, clip), (made,), origin=self.layer))
        return made


def _several(work: _Ops, w: Value, format_: Format) -> tuple[Value, Value]:
    """Codes of the weight, and the largest |tanh w|."""
    t = work.op("tanh", "wt", w)
    top = work.all("max", "wt.top", work.op("abs", "wt.size", t))
    largest = work.op("clamp_min", "wt.max", top, low=LEAST)
    y, _ = work.unit(t, largest, "wt")
    one = Value(unused(part(work.layer, "wclip"), work.taken), TensorType((), F32))
    work.ops.append(Op("constant", (), (one,), attrs(value=1.0), work.layer))
    return work.quantize(y, one, format_), largest


def _binary(work: _Ops, w: Value, format_: Format) -> tuple[Value, Value]:
    """Codes of the signs, and the mean size."""
    size = work.all("mean", "wmean", work.op("abs", "wsize", w))
    above = work.op("compare_to", "wsign.above", w, relation="ge", value=0.0)
    signs = work.op("shift", "wsign", work.op("scale", "wsign.twice", above, factor=2.0), by=-1.0)
    signed = work.op("mul", "wsigned", signs, work.wide("wmean.wide", size, w))
    return work.quantize(signed, size, format_), size


def _gradient(op: Op, w: Value, largest: Value, taken: set[str]) -> tuple[Op, ...]:
    """The product, and what it means for the weight; readers keep the old name."""
    work, dw = _Ops(op.origin, taken), op.result
    raw = Value(unused(f"{dw.name}q", taken), dw.type)
    work.ops.append(replace(op, results=(raw,)))
    # tanh again, so that of all this a single number is kept from forward to backward.
    t = work.op("tanh", "dwt.t", w)
    y, wide = work.unit(t, largest, "dwt")
    g = work.op("div", "dwt.g", raw, wide)
    total = work.all("sum", "dwt.total", work.op("mul", "dwt.gy", g, y))
    tops = work.op("compare", "dwt.tops", work.op("abs", "dwt.size", t), wide, relation="eq")
    count = work.op("clamp_min", "dwt.count", work.all("sum", "dwt.tops.sum", tops), low=1.0)
    share = work.wide("dwt.share.wide", work.op("div", "dwt.share", total, count), w)
    signs = work.op("mul", "dwt.signs", tops, work.op("sign", "dwt.sign", t))
    dt = work.op("sub", "dwt.dt", g, work.op("mul", "dwt.less", signs, share))
    square = work.op("scale", "dwt.minus", work.op("mul", "dwt.square", t, t), factor=-1.0)
    slope = work.op("shift", "dwt.slope", square, by=1.0)
    made = Value(dw.name, dw.type)
    return (*work.ops, Op("mul", (dt, slope), (made,), origin=op.origin))

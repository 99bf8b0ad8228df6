"""Range BN: batch norm whose deviation is that of a range, with its data in 8-bit codes.

"Scalable Methods for 8-bit Training of Neural Networks" (Banner et al., NeurIPS 2018), section 3;
``code`` and ``chunks`` are those of the authors' program, ``chunks=1`` with ``paper`` is the paper.

    s = C(n) (mean of the chunks' maxima - mean of their minima)          n numbers in a chunk
    y = (x - mean) / sqrt(s^2 + eps) * gamma + beta

    range_bn_const   C(n)                       of normal data of unit deviation, n = 1024
    paper            1 / sqrt(2 ln n)           1.74
    code             0.540208 / sqrt(2 ln n)    0.94

A chunk has at least 16 numbers, where there are as many: of two or three numbers that happen to be
near each other the deviation would be near 0, and y huge.

The gradient flows through the mean and through the first of equal extremes of each chunk. Input and
output gradient are affine codes, the latter rounded stochastically; both are decoded to compute.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from ..compiler.formats import F32, I32
from ..compiler.ir import Attr, Op, Program, Region, Value, attrs
from ..compiler.ir.analysis import is_training
from ..compiler.types import TensorType
from .parts.affine import LEAST_NUMBERS, Quantizers, Ranges, check_momentum
from .parts.draws import seed_and_step, with_seed
from .parts.names import words
from .parts.options import require
from .parts.order import Makes, placed

FORWARD = words("batch_stats batch_norm")
BACKWARD = words("batch_norm_grad_stats batch_norm_input_grad batch_norm_eval_grad")
# Deviation over range of normal numbers, times sqrt(2 ln n).
CODE = 0.5 * 0.35 * (1 + math.sqrt(math.pi * math.log(4)))


def range_factor(constant: str, n: int) -> float:
    """C(n), from the range of ``n`` numbers to their deviation; ``constant`` is paper or code."""
    return (1.0 if constant == "paper" else CODE) / math.sqrt(2 * math.log(n))


@placed(after=("carrier",), before=(Makes.BITS,))
def range_batch_norm(
    program: Program,
    *,
    range_bn: bool = True,
    range_bn_const: Literal["code", "paper"] = "code",
    range_bn_bits: Literal[0, 2, 3, 4, 5, 6, 7, 8] = 8,
    chunks: int = 16,
    range_momentum: float = 0.9,
) -> Program:
    """Rewrite the batch norms of a program; ``range_bn=false`` leaves them alone.

    ``chunks`` is the largest number of chunks: taken is the largest divisor of the numbers of a
    channel up to it that leaves each chunk at least 16, and one chunk of fewer.
    ``range_bn_bits=0`` leaves data and gradients as they are. Running variances become those of
    s^2. The range of an input runs as that of an activation does.
    """
    require(chunks >= 1, f"chunks={chunks} of range_batch_norm is not at least 1")
    check_momentum(range_momentum)
    if not range_bn or not any(op.kind in FORWARD for _, op in program.ops()):
        return program.done("range_batch_norm")
    work = _RangeNorm(program, range_bn_const, range_bn_bits, chunks, range_momentum)
    out = work.ranges.carried(program.rewrite(work.rule, by="range_batch_norm"))
    return with_seed(out, work.gradients.noise, bool(work.gradients.codes))


@dataclass(frozen=True, slots=True)
class _Range:
    """Of one batch norm: s, the poolings that find the maxima and the minima, dS of an extreme."""

    deviation: Value
    poolings: tuple[tuple[Op, ...], ...]
    share: float


class _RangeNorm:
    """The rule of the pass, with the data and the gradients that are quantized already."""

    def __init__(
        self, program: Program, constant: str, bits: int, chunks: int, momentum: float
    ) -> None:
        self.constant, self.chunks, self.bits = constant, chunks, bits
        backward = bits and any(op.kind in BACKWARD for _, op in program.ops())
        drawn = seed_and_step(program, "the rounding of gradients") if backward else ()
        self.data = Quantizers(program, "norms", bits or 8, ())
        self.gradients = Quantizers(program, "norm_gradients", bits or 8, drawn)
        self.gradients.taken = self.data.taken
        self.ranges = Ranges(self.data, is_training(program), True, momentum)
        self.decoded: dict[Value, Value] = {}
        self.found: dict[Value, _Range] = {}

    def rule(self, region: Region, op: Op) -> tuple[Op, ...] | None:
        if op.kind not in FORWARD | BACKWARD:
            if op.kind in ("running_stats", "running_average") and op.inputs[1] in self.found:
                return (replace(op, attrs=attrs(**{**op.attrs, "correction": 1.0})),)
            return None
        ops: list[Op] = []
        x = op.inputs[0]
        if op.kind in BACKWARD:
            g = self.gradient(x, op.origin, ops)
            rest = (self.decoded.get(v, v) for v in op.inputs[1:])
            op = replace(op, inputs=(g, *rest))
        else:
            op = replace(op, inputs=(self.input(x, op.origin, ops), *op.inputs[1:]))
        if op.kind == "batch_stats":
            self.statistics(op, ops)
        elif op.kind == "batch_norm_input_grad" and op.inputs[3] in self.found:
            self.input_gradient(op, ops)
        else:
            ops.append(op)
        return tuple(ops)

    def input(self, x: Value, layer: str, ops: list[Op]) -> Value:
        if not self.bits:
            return x
        if x not in self.decoded:
            found, low, high = self.ranges.of(x, layer)
            ops += (*found, *self.data.quantize(x, "xq", layer, low, high))
            self.decode(x, self.data.codes[x], layer, ops)
        return self.decoded[x]

    def gradient(self, g: Value, layer: str, ops: list[Op]) -> Value:
        if not self.bits:
            return g
        if g not in self.decoded:
            limits = self.gradients.limits(g, "dy", layer)
            ops += (limits, *self.gradients.quantize(g, "dyq", layer, *limits.results))
            self.decode(g, self.gradients.codes[g], layer, ops)
        return self.decoded[g]

    def decode(self, v: Value, codes: Value, layer: str, ops: list[Op]) -> None:
        plain = self.data.new(layer, f"{codes.name.rpartition('.')[2]}.plain", v.type)
        ops.append(Op("dequantize", (codes,), (plain,), origin=layer))
        self.decoded[v] = plain

    def statistics(self, op: Op, ops: list[Op]) -> None:
        """``mean`` and ``var`` by the names that they had, the latter the square of s."""
        x, layer = op.inputs[0], op.origin
        shape = x.type.shape
        channels, rows = shape[1], _chunks(x.type, self.chunks, layer)
        length = x.type.elements // channels // rows
        new = _NormOps(self.data, layer, ops)
        others = tuple(i for i in range(len(shape)) if i != 1)
        per_channel = TensorType((channels,), F32)
        whole = Op("mean", (x,), op.results[:1], attrs(dims=others, keepdim=False), layer)
        ops.append(whole)
        ends, poolings = list[Value](), list[tuple[Op, ...]]()
        for name in ("top", "bottom"):
            side = x if name == "top" else new("scale", "minus", x.type, x, factor=-1.0)
            end, pooled = _extremes(new, name, side, rows)
            table = new("view", f"{name}s", TensorType((channels, rows), x.type.format), end)
            ends.append(new("mean", f"{name}.mean", per_channel, table, dims=(1,), keepdim=False))
            poolings.append(pooled)
        reach = new("add", "range", per_channel, *ends)
        factor = range_factor(self.constant, length)
        s = new("scale", "deviation", per_channel, reach, factor=factor)
        variance = op.results[1]
        ops.append(Op("mul", (s, s), (variance,), origin=layer))
        self.found[variance] = _Range(s, tuple(poolings), factor / rows)

    def input_gradient(self, op: Op, ops: list[Op]) -> None:
        """Through the mean, as batch norm does where dgamma is 0, and through the extremes."""
        g, x, mean, variance, gamma, dgamma, dbeta = op.inputs
        found, layer = self.found[variance], op.origin
        new = _NormOps(self.data, layer, ops)
        per_channel = gamma.type
        none = new("constant", "zero", per_channel, value=0.0)
        inputs = (g, x, mean, variance, gamma, none, dbeta)
        direct = self.data.new(layer, "dx.mean", op.result.type)
        ops.append(replace(op, inputs=inputs, results=(direct,)))
        # dL/ds = -gamma dgamma s / (s^2 + eps)
        slope = new("mul", "slope", per_channel, gamma, dgamma)
        slope = new("mul", "slope", per_channel, slope, found.deviation)
        square = new("shift", "square", per_channel, variance, by=op.float_attr("eps"))
        slope = new("div", "slope", per_channel, slope, square)
        each = new("scale", "share", per_channel, slope, factor=-found.share)
        end = replace(found.poolings[0][-1].result.type, format=F32)
        channels = per_channel.shape[0]
        rows = TensorType((channels, end.elements // channels), F32)
        wide = new("broadcast", "shares", rows, each, dims=(1,))
        shares = new("view", "shares", end, wide)
        top, bottom = (_back(new, shares, pooled, x) for pooled in found.poolings)
        spread = new("sub", "dx.range", TensorType(x.type.shape, F32), top, bottom)
        ops.append(Op("add", (direct, spread), op.results, origin=layer))


class _NormOps:
    """Appends ops of one layer."""

    def __init__(self, names: Quantizers, layer: str, ops: list[Op]) -> None:
        self.names, self.layer, self.ops = names, layer, ops

    def __call__(
        self, kind: str, name: str, type_: TensorType, *inputs: Value, **more: Attr
    ) -> Value:
        made = self.names.new(self.layer, name, type_)
        self.ops.append(Op(kind, inputs, (made,), attrs(**more), self.layer))
        return made


def _extremes(new: _NormOps, name: str, x: Value, rows: int) -> tuple[Value, tuple[Op, ...]]:
    """The largest number of each chunk, and the poolings that find them, the last of them last.

    Where a chunk is whole images, each image is pooled first, without moving its numbers.
    """
    pooled: list[Op] = []
    shape, format_ = x.type.shape, x.type.format
    if len(shape) == 4 and shape[0] % rows == 0:
        pooled.append(_pool(new, f"{name}.image", x))
        x = pooled[0].result
    apart = new("permute", f"{name}.channels", _swapped(x.type), x, dims=_swap(shape))
    count = shape[1] * rows
    flat = TensorType((1, count, 1, x.type.elements // count), format_)
    pooled.append(_pool(new, name, new("view", f"{name}.chunks", flat, apart)))
    return pooled[-1].result, tuple(pooled)


def _pool(new: _NormOps, name: str, x: Value) -> Op:
    end = new.names.new(new.layer, name, TensorType((*x.type.shape[:2], 1, 1), x.type.format))
    where = new.names.new(new.layer, f"{name}.where", TensorType(end.type.shape, I32))
    new.ops.append(Op("adaptive_max_pool2d", (x,), (end, where), origin=new.layer))
    return new.ops[-1]


def _back(new: _NormOps, shares: Value, pooled: tuple[Op, ...], x: Value) -> Value:
    """What reaches ``x`` of the shares of its chunks' extremes."""
    *images, chunks = pooled
    flat = replace(chunks.inputs[0].type, format=F32)
    at = new("adaptive_max_pool2d_grad", "dx.chunks", flat, shares, chunks.results[1])
    each = replace(images[0].result.type if images else x.type, format=F32)
    apart = new("view", "dx.channels", _swapped(each), at)
    made = new("permute", "dx.extremes", each, apart, dims=_swap(each.shape))
    for op in images:
        whole = replace(x.type, format=F32)
        made = new("adaptive_max_pool2d_grad", "dx.images", whole, made, op.results[1])
    return made


def _swap(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Channels ahead of samples, or back."""
    return (1, 0, *range(2, len(shape)))


def _swapped(type_: TensorType) -> TensorType:
    return replace(type_, shape=tuple(type_.shape[i] for i in _swap(type_.shape)))


def _chunks(type_: TensorType, most: int, layer: str) -> int:
    """Into how many chunks a channel is cut, each of enough numbers for a range."""
    count = type_.elements // type_.shape[1]
    require(count > 1, f"{layer}: a range needs more than one number in a channel; it has {count}")
    cuts = (d for d in range(2, most + 1) if count % d == 0 and count // d >= LEAST_NUMBERS)
    return max(cuts, default=1)

"""The channels of activations with the largest norms in FP8, beside all others: OutControl.

"TetraJet-v2: Accurate NVFP4 Training for Large Language Models with Oscillation Suppression and
Outlier Control" (Chen et al., 2025; arXiv 2510.27527), as its authors' program has it: the channels
are chosen once, after some steps, by the sum of their norms in these steps.

    forward   x = others + outliers, others 0 in the chosen channels
              y = others w + q(outliers) q(w of these channels)
    dX        as it was: no channel of it is a part of the sum
    dW        dY others, and q(dY) q(q(outliers)) added to the columns of the chosen channels

q are blocks of 32 in E4M3 along each sum, with powers of two as scales. What a later pass makes of
the products without q, such as FP4, meets no outlier. Until they are chosen there is none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from math import prod

from ..compiler.formats import E8M0, FP8_143, I64
from ..compiler.ir import Op, Program, Region, Value, attrs
from ..compiler.ir.loops import loops
from ..compiler.ir.ops import BETWEEN_ACTIVATIONS, FORWARD_GEMMS, WEIGHT_GRADS
from ..compiler.types import BlockScale
from .parts.appended import Appended
from .parts.blocks import BlockCodes, along, sum_dims
from .parts.channel_choice import Choice, with_choices
from .parts.names import part
from .parts.options import require
from .parts.order import Makes, placed
from .parts.select import quantized

NAME = "outlier_channels"
SIZE = 32
FORWARD = FORWARD_GEMMS - BETWEEN_ACTIVATIONS


@placed(before=(Makes.CODES, "carrier"))
def outlier_channels(
    program: Program,
    *,
    outlier_share: float = 0.1,
    outlier_start: int = 502,
    outlier_steps: int = 50,
    exempt: str = "first,last",
) -> Program:
    """Take ``outlier_share`` of the channels of each layer's data apart, 0 for none.

    They are those with the largest sums of norms over ``outlier_steps`` steps from step
    ``outlier_start`` on; states ``LAYER.outliers`` are 1 for the chosen ones. Layers that share
    their data share the choice. Left alone are products of activations, convolutions in groups,
    layers inside of loops, and those of which the share is less than half a channel. RecipeError
    for numbers that are none.
    """
    require(
        0 <= outlier_share < 1, f"outlier_share={outlier_share:g} must be at least 0 and below 1"
    )
    require(outlier_start >= 0, f"outlier_start={outlier_start} must be at least 0")
    require(outlier_steps >= 1, f"outlier_steps={outlier_steps} must be at least 1")
    work = _Outliers(program, quantized(program, exempt), outlier_share)
    if not work.layers:
        return program.done(NAME)
    out = program.rewrite(work.rule, by=NAME).with_state(dict.fromkeys(work.state, 0.0))
    if not work.choices:
        return out
    return with_choices(out, work.choices, outlier_start, outlier_steps, NAME)


@dataclass(frozen=True, slots=True)
class TakenApart:
    """The data of layers without its outliers, the ``codes`` of those, and others for dW."""

    others: Value
    codes: Value
    again: Value
    places: Value


class _Outliers:
    """The layers of which channels are taken apart, and the ops that do it."""

    def __init__(self, program: Program, chosen: frozenset[str], share: float) -> None:
        self.share, self.taken = share, program.names()
        self.training = bool(program.region("backward").ops)
        self.codes, self.loops = BlockCodes(self.taken, count()), loops(program)
        forward = (op for op in program.region("forward").ops if op.origin in chosen)
        self.layers = {op.origin: op for op in forward if self._fits(op)}
        ops = (op for _, op in program.ops() if op.origin in self.layers)
        self.graded = {op.inputs[1] for op in ops if op.kind in WEIGHT_GRADS}
        self.apart: dict[Value, TakenApart] = {}
        self.state: list[Value] = []
        self.choices: list[Choice] = []

    def _fits(self, op: Op) -> bool:
        """Whether channels of a layer's data can be taken apart."""
        if op.kind not in FORWARD or op.attrs.get("groups", 1) != 1 or op in self.loops.body:
            return False
        return all(v.type.format.is_carrier for v in op.inputs) and self._many(op.inputs[0]) > 0

    def _many(self, x: Value) -> int:
        """How many channels of data are outliers."""
        return min(round(self.share * x.type.shape[1]), x.type.shape[1] - 1)

    def rule(self, region: Region, op: Op) -> tuple[Op, ...] | None:
        """Products of both parts, and their sum."""
        if op.origin not in self.layers:
            return None
        if op.kind in FORWARD:
            return self._forward(op)
        known = op.kind in WEIGHT_GRADS and op.inputs[1] in self.apart
        return self._weight_grad(op) if known else None

    def _forward(self, op: Op) -> tuple[Op, ...]:
        """The product of outliers, and behind it the one that is the layer's own."""
        (x, w), dim, new = op.inputs, sum_dims(op)[1], Appended(self.taken, op.origin)
        if x not in self.apart:
            self.apart[x] = self._taken_apart(op, new)
        apart, y = self.apart[x], op.result
        few = self._rows(new, "w.few", w, dim, apart.places)
        made, others = (new.new(f"{y.name}.{end}", y.type.shape) for end in ("few", "others"))
        inputs = (apart.codes, self._coded(new, op, 1, few, dim, "f8"))
        new.ops += [
            replace(op, inputs=inputs, results=(made,)),
            replace(op, inputs=(apart.others, w), results=(others,)),
            Op("add", (others, made), op.results, origin=op.origin),
        ]
        return tuple(new.ops)

    def _taken_apart(self, op: Op, new: Appended) -> TakenApart:
        """Outliers in FP8, and what is left of the data."""
        x, name = op.inputs[0], part(op.origin, "outliers")
        (channels, *rest), shape = x.type.shape[1:], x.type.shape
        mask = new.new(name, (channels,))
        places = new.new(f"{name}.places", (self._many(x),), I64)
        self.state += [mask, places]
        column = new("view", f"{name}.column", (1, channels, *(1 for _ in rest)), mask)
        chosen = new.repeated(f"{name}.wide", column, shape)
        others = new("masked", f"{name}.others", shape, chosen, x, value=0.0)
        found = self._rows(new, "found", x, 1, places)
        there = new.repeated(
            f"{name}.there", self._rows(new, "gate", column, 1, places), found.type.shape
        )
        few = new("mul", f"{name}.few", found.type.shape, found, there)
        codes = again = self._coded(new, op, 0, few, 1, "f8")
        if x in self.graded:
            real = new("dequantize", f"{name}.real", few.type.shape, codes)
            again = self._coded(new, op, 0, real, 0, "f8b")
        if self.training:
            mean, var = (new.new(f"{name}.{of}", (channels,)) for of in ("mean", "var"))
            new.ops.append(Op("batch_stats", (x,), (mean, var), origin=op.origin))
            self.choices.append(Choice(mask, places, (mean, var)))
        return TakenApart(others, codes, again, places)

    def _weight_grad(self, op: Op) -> tuple[Op, ...]:
        """The gradient of all columns, and that of the outliers added to theirs."""
        (dy, x), dw, new = op.inputs, op.result, Appended(self.taken, op.origin)
        apart, dim = self.apart[x], sum_dims(self.layers[op.origin])[1]
        shape, many = dw.type.shape, self._many(x)
        inputs = (self._coded(new, op, 0, dy, 0, "f8"), apart.again)
        few = new.new(f"{dw.name}.few", (*shape[:dim], many, *shape[dim + 1 :]))
        others = new.new(f"{dw.name}.others", shape)
        new.ops += [
            replace(op, inputs=inputs, results=(few,)),
            replace(op, inputs=(dy, apart.others), results=(others,)),
        ]
        ends = prod(shape[:dim]), prod(shape[dim + 1 :])
        flat = new("view", f"{dw.name}.flat", (ends[0], many, ends[1]), few)
        whole = (ends[0], shape[dim], ends[1])
        spread = new("take_grad", f"{dw.name}.spread", whole, flat, apart.places, wraps=False)
        each = new("view", f"{dw.name}.each", shape, spread)
        new.ops.append(Op("add", (others, each), op.results, origin=op.origin))
        return tuple(new.ops)

    def _rows(self, new: Appended, name: str, v: Value, dim: int, places: Value) -> Value:
        """Those of a dimension at some places."""
        shape, many, name = v.type.shape, places.type.shape, part(new.origin, f"outliers.{name}")
        ends = prod(shape[:dim]), prod(shape[dim + 1 :])
        flat = new("view", f"{name}.flat", (ends[0], shape[dim], ends[1]), v)
        rows = new("take", f"{name}.rows", (ends[0], *many, ends[1]), flat, places, wraps=False)
        return new("view", name, (*shape[:dim], *many, *shape[dim + 1 :]), rows)

    def _coded(self, new: Appended, op: Op, i: int, v: Value, dim: int, ending: str) -> Value:
        """FP8 in blocks along a dimension of ``v``, which stands for an operand."""
        scaling = Op("scale_blocks", (v,), (), attrs(to=FP8_143.name, rule="rceil"), op.origin)
        made = FP8_143, BlockScale(along(v, SIZE, dim), E8M0)
        ops, code = self.codes.of(op, i, ending, made, scaling, ())
        new.ops += ops
        return code

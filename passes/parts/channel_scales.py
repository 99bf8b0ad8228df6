"""GradScale with a power of two for each channel of a gradient instead of one for the layer.

The reviewers of the 4-bit paper asked for it; the paper has one scale a layer. The scales act on dY
ahead of the rounding and leave both products again:

    dW   each output channel is a row of the result, multiplied by its 1/s: exact
    dX   the sum runs over these channels, so 1/s joins the scale of the weight's rows, whose codes
         stay: products are then no integers of one unit, and a CPU multiplies in f32
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...compiler.errors import RecipeError
from ...compiler.formats import F32
from ...compiler.ir import Op, Program, Region, Value, attrs, unused
from ...compiler.ir.ops import BETWEEN_ACTIVATIONS, GRADIENT_PRODUCTS, INPUT_GRADS, TRANSPOSED
from ...compiler.types import Scale, Shape, TensorType
from .names import part


@dataclass(frozen=True, eq=False, slots=True)
class Channels:
    """The values of one layer: its scales from step to step, in this step, and what they make."""

    state: Value
    now: Value
    inverse: Value
    gradient: Value
    largest: Value
    next: Value


class ChannelScales:
    """The rule of ``grad_scale`` for ``per=channel``."""

    def __init__(self, chosen: frozenset[str], top: float, always: bool, taken: set[str]) -> None:
        self.chosen, self.top, self.always, self.taken = chosen, top, always, taken
        self.made: dict[str, Channels] = {}

    def rule(self, region: Region, op: Op) -> tuple[Op, ...] | None:
        if op.origin not in self.chosen or op.kind not in GRADIENT_PRODUCTS:
            return None
        if op.kind in TRANSPOSED:
            raise RecipeError(
                f"per=channel has no rows of the weight of the transposed convolution {op.origin!r}"
                f" to put its scales in; add it to exempt"
            )
        if op.kind in BETWEEN_ACTIVATIONS:
            raise RecipeError(
                f"per=channel has no weight to put its scales in where {op.origin!r} multiplies "
                "activations; set attention=keep, or add it to exempt"
            )
        g, other = op.inputs
        if not g.type.format.is_carrier or g.type.scale is not Scale.NONE:
            return None
        ahead: tuple[Op, ...] = ()
        if op.origin not in self.made:
            ahead = self._scale(op.origin, g)
        it = self.made[op.origin]
        if op.kind in INPUT_GRADS:
            rows = self._value(op.origin, "w.rows", other.type.shape, like=other)
            joined = self._times_rows(op.origin, other, it.inverse, rows)
            return (*ahead, *joined, replace(op, inputs=(it.gradient, rows)))
        # The product with 1/s takes the old name, and with it the readers.
        dw = op.result
        raw = Value(unused(f"{dw.name}s", self.taken), dw.type)
        product = replace(op, inputs=(it.gradient, other), results=(raw,))
        end = self._times_rows(op.origin, raw, it.inverse, Value(dw.name, dw.type))
        return (*ahead, product, *end)

    def finish(self, out: Program, step: bool) -> Program:
        """Add the states and what they become."""
        out = out.with_state({it.state: 0.0 for it in self.made.values()})
        if not step:
            return replace(out, next=(*out.next, *((i.state, i.now) for i in self.made.values())))
        if not any(r.name == "update" for r in out.regions):
            return out
        options = attrs(top=self.top)
        ops = tuple(
            Op("grad_scale_step", (it.now, it.largest), (it.next,), options, layer)
            for layer, it in self.made.items()
        )
        out = out.append("update", ops)
        return replace(out, next=(*out.next, *((i.state, i.next) for i in self.made.values())))

    def _value(self, layer: str, name: str, shape: Shape, like: Value | None = None) -> Value:
        type_ = TensorType(shape, F32)
        if like is not None:
            coded = like.type.format.is_coded
            type_ = replace(like.type, scale=Scale.CHANNEL if coded else like.type.scale)
        return Value(unused(part(layer, name), self.taken), type_)

    def _scale(self, layer: str, g: Value) -> tuple[Op, ...]:
        shape = g.type.shape
        others = tuple(d for d in range(len(shape)) if d != 1)
        vector = shape[1:2]
        names = ("grad_scale", "grad_scale.now", "grad_scale.inverse", "dys.amax")
        state, now, inverse, scaled = (self._value(layer, n, vector) for n in names)
        size, amax = self._value(layer, "dy.size", shape, g), self._value(layer, "dy.amax", vector)
        image, one = self._value(layer, "grad_scale.image", shape), self._value(layer, "one", ())
        leveled = self._value(layer, "dy.leveled", shape, g)
        gradient = Value(unused(part(layer, "dys"), self.taken), replace(g.type, scale=Scale.POW2))
        after = self._value(layer, "grad_scale.next", vector)
        self.made[layer] = Channels(state, now, inverse, gradient, scaled, after)
        options = attrs(top=self.top, always=self.always)
        ops = (
            Op("abs", (g,), (size,), origin=layer),
            Op("max", (size,), (amax,), attrs(dims=others, keepdim=False), layer),
            Op("channel_scales", (state, amax), (now, inverse), options, layer),
            Op("broadcast", (now,), (image,), attrs(dims=others), layer),
            Op("mul", (g, image), (leveled,), origin=layer),
            Op("constant", (), (one,), attrs(value=1.0), layer),
            Op("grad_scale", (leveled, one), (gradient,), origin=layer),
        )
        return ops if self.always else (*ops, Op("mul", (amax, now), (scaled,), origin=layer))

    def _times_rows(self, layer: str, x: Value, factor: Value, made: Value) -> tuple[Op, ...]:
        """Each place of dimension 0 times its factor."""
        if x.type.format.is_coded:
            return (Op("rescale", (x, factor), (made,), origin=layer),)
        rows = self._value(layer, "inverse.rows", x.type.shape)
        dims = attrs(dims=tuple(range(1, len(x.type.shape))))
        return (
            Op("broadcast", (factor,), (rows,), dims, layer),
            Op("mul", (x, rows), (made,), origin=layer),
        )

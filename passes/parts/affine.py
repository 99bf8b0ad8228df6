"""What passes over affine codes share: the number of bits, ranges, the ops of a quantizer.

All quantizers of a pass read their bits from one value, a ``constant`` of the region they are in: a
schedule puts another op in its place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...compiler.formats import F32, UINT16, UINTS, Format
from ...compiler.ir import Op, Program, Value, attrs, unused
from ...compiler.types import SCALAR, Scale, TensorType
from .names import part
from .options import require


def stored(bits: int) -> Format:
    """The format of affine codes of 1 to 16 bits."""
    return UINTS.get(bits, UINT16)


class Quantizers:
    """The affine quantizers of one pass, of one number of bits.

    ``bits`` is the value that they read, once there is one; ``noise`` (seed and step counter) makes
    the rounding stochastic.
    """

    def __init__(self, program: Program, what: str, bits: int, noise: tuple[Value, ...]) -> None:
        self.what, self.number, self.noise = what, bits, noise
        self.taken = program.names()
        self.bits: Value | None = None
        self.codes: dict[Value, Value] = {}
        self.salt = max(
            (op.int_attr("salt") for _, op in program.ops() if "salt" in op.attrs), default=0
        )

    def new(self, layer: str, name: str, type_: TensorType = SCALAR) -> Value:
        """A value of a layer."""
        return Value(unused(part(layer, name), self.taken), type_)

    def limits(self, x: Value, name: str, layer: str, places: int = 0) -> Op:
        """``extremes`` of the tensor, or of each of ``places`` places of dimension 0."""
        type_ = TensorType((places,) if places else (), F32)
        low, high = (self.new(layer, f"{name}.{end}", type_) for end in ("low", "high"))
        return Op("extremes", (x,), (low, high), origin=layer)

    def quantize(self, x: Value, name: str, layer: str, low: Value, high: Value) -> tuple[Op, ...]:
        """The ops that make codes of ``x``, the last of them the quantizer."""
        ahead: tuple[Op, ...] = ()
        if self.bits is None:
            self.bits = Value(unused(f"{self.what}.bits", self.taken), SCALAR)
            ahead = (Op("constant", (), (self.bits,), attrs(value=float(self.number)), layer),)
        scale = Scale.AFFINE_CHANNEL if low.type.shape else Scale.AFFINE
        made = self.new(layer, name, TensorType(x.type.shape, stored(self.number), scale))
        self.codes[x] = made
        inputs = (x, low, high, self.bits)
        if not self.noise:
            return (*ahead, Op("quantize_affine", inputs, (made,), origin=layer))
        self.salt += 1
        kind, salt = "quantize_affine_stochastic", attrs(salt=self.salt)
        return (*ahead, Op(kind, (*inputs, *self.noise), (made,), salt, layer))

    def within_extremes(self, x: Value, name: str, layer: str) -> tuple[Op, ...]:
        """The same between the extremes of the tensor."""
        limits = self.limits(x, name, layer)
        return (limits, *self.quantize(x, f"{name}q", layer, *limits.results))


# Of fewer numbers the extremes say little: the mean range of 16 normal ones leaves 8% of such
# numbers outside, that of 4 leaves 30%, and one number has no range at all.
LEAST_NUMBERS = 16


@dataclass(frozen=True, slots=True)
class _Running:
    """The running range of a layer's data, and the range of this step, each low and high."""

    layer: str
    prefix: str
    kept: tuple[Value, Value]
    now: tuple[Value, Value]


class Ranges:
    """Ranges of activations: those of the batch in training, running ones in evaluation.

    ``per_sample`` takes the means over dimension 0 of each sample's extremes, where a sample has at
    least ``LEAST_NUMBERS``; ``momentum`` is the weight of a step's range in the running one.
    """

    def __init__(
        self, quantizers: Quantizers, training: bool, per_sample: bool, momentum: float
    ) -> None:
        self.quantizers, self.training = quantizers, training
        self.per_sample, self.momentum = per_sample, momentum
        self.running: list[_Running] = []

    def of(self, x: Value, layer: str, prefix: str = "") -> tuple[tuple[Op, ...], Value, Value]:
        """The ops that find the range of ``x``, its lower and its upper end.

        ``prefix`` tells operands of a product of activations apart.
        """
        q = self.quantizers
        kept = q.new(layer, f"{prefix}range.low"), q.new(layer, f"{prefix}range.high")
        ops: tuple[Op, ...] = ()
        now = kept
        many = x.type.elements >= LEAST_NUMBERS * x.type.shape[0]
        if self.training and self.per_sample and len(x.type.shape) > 1 and many:
            each = q.limits(x, f"{prefix}samples", layer, x.type.shape[0])
            now = q.new(layer, f"{prefix}x.low"), q.new(layer, f"{prefix}x.high")
            how = attrs(dims=(0,), keepdim=False)
            pairs = zip(each.results, now, strict=True)
            ops = (each, *(Op("mean", (v,), (m,), how, layer) for v, m in pairs))
        elif self.training:
            whole = q.limits(x, f"{prefix}x", layer)
            ops, now = (whole,), (whole.results[0], whole.results[1])
        self.running.append(_Running(layer, prefix, kept, now))
        return ops, *now

    def carried(self, program: Program) -> Program:
        """``program`` with the running ranges as state and, in training, their next values."""
        out = program.with_state({v: 0.0 for it in self.running for v in it.kept})
        if not self.training or not any(r.name == "update" for r in out.regions):
            return out
        for it in self.running:
            ops = self._next(it)
            pairs = zip(it.kept, (op.result for op in ops[-2:]), strict=True)
            out = replace(out.append("update", ops), next=(*out.next, *pairs))
        return out

    def _next(self, it: _Running) -> tuple[Op, ...]:
        """The first batch starts a range, which is empty before."""
        new = self.quantizers.new
        empty = new(it.layer, f"{it.prefix}range.empty")
        blend = attrs(momentum=float(self.momentum), correction=1.0)
        ops = [Op("compare", it.kept, (empty,), attrs(relation="eq"), it.layer)]
        chosen = []
        for end, old, now in zip(("low", "high"), it.kept, it.now, strict=True):
            mean = new(it.layer, f"{it.prefix}range.{end}.mean")
            ops.append(Op("running_stats", (old, now), (mean,), blend, it.layer))
            after = new(it.layer, f"{it.prefix}range.{end}.next")
            chosen.append(Op("where", (empty, now, mean), (after,), origin=it.layer))
        return (*ops, *chosen)


def check_momentum(momentum: float) -> None:
    """RecipeError where no share of a running range."""
    require(0 < momentum <= 1, f"range_momentum={momentum:g} does not lie above 0 and up to 1")

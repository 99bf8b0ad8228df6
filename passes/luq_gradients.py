"""LUQ: logarithmic unbiased 4-bit gradients, with several samples for the weights.

"Accurate Neural Training with 4-bit Matrix Multiplications at Standard Formats" (Chmiel et al.,
ICLR 2023), equations 11 to 17. Levels are 0 and +-unit 2^k; max |dY| is the top one:

    unit = max |dY| / 2^(levels - 1)

    between two levels      up or down at random, linear in x: the mean of many is x
    below unit              0 or +-unit in the same way (stochastic underflow)
    smp=2                   dW is the mean of two products, each with a sample of its own

    luq_levels   format      source
    5            fp4.luq5    equation 11 with b = 3: max / 16
    7            fp4.r2    what four bits hold: three bits of exponent, zero among them
    8            fp5.luq8    the authors' code: max / 128; 17 values, stored in 8 bits
    9            fp5.luq9    the formula with b = 4: max / 256; stored in 8 bits

``luq_max=signed`` takes the maximum of dY with its sign, as the authors' code does: what is more
negative than that counts as the lowest level, and a gradient without a positive number keeps none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ..compiler.errors import RecipeError
from ..compiler.formats import F32, LUQ, Format
from ..compiler.ir import Op, Program, Region, Value, attrs, unused
from ..compiler.ir.ops import DATA_GRADS
from ..compiler.types import SCALAR, Scale, TensorType
from .parts.draws import seed_and_step, with_seed
from .parts.gradients import plain_gradient
from .parts.names import part, salt_of
from .parts.options import require
from .parts.order import Makes, placed
from .parts.select import EXEMPT, Attention, quantized

# RDNP, equation 13: 2^floor(log2(4x/3)), which turns at 1.5 times the lower level.
NEAREST = attrs(up=4 / 3, tie="up", underflow="uniform")


@dataclass(frozen=True, eq=False, slots=True)
class Sampled:
    """The codes of a layer's gradient, and its largest size: state, new value, this step's."""

    samples: tuple[Value, ...]
    state: Value
    largest: Value
    now: Value


@placed(makes=Makes.CODES)
def luq_gradients(
    program: Program,
    *,
    luq_levels: Literal[5, 7, 8, 9] = 7,
    luq_rounding: Literal["stochastic", "log_nearest"] = "stochastic",
    smp: Literal[1, 2] = 1,
    smp_scope: Literal["dw", "both"] = "dw",
    hindsight: bool = False,
    eta: float = 0.1,
    luq_max: Literal["size", "signed"] = "size",
    exempt: str = EXEMPT,
    attention: Attention = "keep",
) -> Program:
    """Let both gradient products of each layer read dY in logarithmic codes.

    With ``hindsight`` the state ``LAYER.grad_max`` replaces the maximum of this step: the first
    step takes its own; then m' = (1 - eta) max |dY| + eta m. ``smp_scope=both`` averages dX too.
    """
    require(0 <= eta < 1, f"eta={eta:g} must be at least 0 and below 1")
    if smp > 1 and luq_rounding != "stochastic":
        raise RecipeError("smp=2 averages two random samples; log_nearest makes two equal ones")
    if luq_max == "signed" and hindsight:
        raise RecipeError("hindsight=true averages sizes; set luq_max=size")
    draws = (
        seed_and_step(program, "luq_rounding=stochastic") if luq_rounding == "stochastic" else ()
    )
    work = _Luq(program, LUQ[luq_levels], draws, smp, hindsight, luq_max == "signed")
    chosen = quantized(program, exempt, attention)

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        g = plain_gradient(op, chosen)
        if g is None:
            return None
        ahead = work.sample(op.origin, g) if op.origin not in work.made else ()
        samples = work.made[op.origin].samples
        averaged = smp_scope == "both" or op.kind not in DATA_GRADS
        return (*ahead, *_products(op, samples if averaged else samples[:1], work.taken))

    out = with_seed(program.rewrite(rule, by="luq_gradients"), draws, bool(work.made))
    return _remember(out, work, eta) if hindsight else out


class _Luq:
    """What the rule knows: the layers done so far and the names in use."""

    def __init__(
        self,
        program: Program,
        format_: Format,
        draws: tuple[Value, ...],
        samples: int,
        hindsight: bool,
        signed: bool,
    ) -> None:
        self.format, self.draws, self.samples = format_, draws, samples
        self.hindsight, self.signed, self.taken = hindsight, signed, program.names()
        self.made: dict[str, Sampled] = {}

    def new(self, layer: str, name: str, type_: TensorType) -> Value:
        """A value of a layer."""
        return Value(unused(part(layer, name), self.taken), type_)

    def sample(self, layer: str, g: Value) -> tuple[Op, ...]:
        """The unit, the gradient in units, and its samples."""
        names = ("dy.top" if self.signed else "dy.amax"), "dy.unit"
        now, unit = (self.new(layer, name, SCALAR) for name in names)
        ahead, behind = [self.top(layer, g, now)], list[Op]()
        state = largest = now
        if self.hindsight:
            state, largest = (self.new(layer, name, SCALAR) for name in ("grad_max", "dy.max"))
            first = Op("amax_init", (state, g), (largest,), origin=layer)
            ahead, behind = [first], ahead
        # In f32: a quotient by such a unit is no number of a narrow carrier.
        numbers = self.new(layer, "dyn", TensorType(g.type.shape, F32, Scale.TENSOR))
        code = TensorType(g.type.shape, self.format, Scale.TENSOR)
        samples = tuple(self.new(layer, f"dyq{n}", code) for n in ("", ".second")[: self.samples])
        self.made[layer] = Sampled(samples, state, largest, now)
        ahead.append(Op("scale", (largest,), (unit,), attrs(factor=1 / self.format.max), layer))
        ahead.append(Op("normalize", (g, unit), (numbers,), origin=layer))
        return (*ahead, *behind, *(self.round(numbers, q, layer) for q in samples))

    def top(self, layer: str, g: Value, now: Value) -> Op:
        """The largest size, or with the authors' code the largest number."""
        if not self.signed:
            return Op("amax", (g,), (now,), origin=layer)
        unread = self.new(layer, "dy.least", SCALAR)
        return Op("extremes", (g,), (unread, now), origin=layer)

    def round(self, numbers: Value, q: Value, layer: str) -> Op:
        """One sample."""
        if not self.draws:
            return Op("round_log", (numbers,), (q,), NEAREST, layer)
        salt = attrs(salt=salt_of(q.name))
        return Op("round_stochastic", (numbers, *self.draws), (q,), salt, layer)


def _products(op: Op, samples: tuple[Value, ...], taken: set[str]) -> tuple[Op, ...]:
    """``op`` on each sample, and their mean under the old name."""
    if len(samples) == 1:
        return (replace(op, inputs=(samples[0], op.inputs[1])),)
    type_, name = op.result.type, op.result.name
    one, two, total = (
        Value(unused(f"{name}.{end}", taken), type_) for end in ("first", "second", "sum")
    )
    return (
        *(
            replace(op, inputs=(q, op.inputs[1]), results=(r,))
            for q, r in zip(samples, (one, two), strict=True)
        ),
        Op("add", (one, two), (total,), origin=op.origin),
        Op("scale", (total,), (Value(name, type_),), attrs(factor=0.5), op.origin),
    )


def _remember(program: Program, work: _Luq, eta: float) -> Program:
    """Move each largest size towards that of this step."""
    out = program.with_state({it.state: 0.0 for it in work.made.values()})
    if not any(r.name == "update" for r in out.regions):
        return out
    ops, pairs = list[Op](), list[tuple[Value, Value]]()
    how = attrs(momentum=1 - eta, correction=1.0)
    for layer, it in work.made.items():
        after = work.new(layer, "grad_max.next", SCALAR)
        ops.append(Op("running_stats", (it.largest, it.now), (after,), how, layer))
        pairs.append((it.state, after))
    return replace(out.append("update", tuple(ops)), next=(*out.next, *pairs))

"""Loss scaling: gradients that 16 bits would lose are carried times a number, which f32 takes back.

"Mixed Precision Training" (Micikevicius et al., ICLR 2018), section 3.2; the dynamic rule in the
form of torch.amp's GradScaler and NVIDIA's Apex.

    gradient of the loss     times the scale
    weight gradients         times 1/scale, in f32, ahead of clipping and of the optimizer
    dynamic                  after a step with an infinite or NaN gradient: scale times backoff
                             after ``interval`` good steps in a row: scale times growth
                             after a step whose loss is none: as it was, whatever the gradient
    static                   the scale stays

A step with such a gradient changes nothing but the scale; that is what ``skip_nonfinite`` does. The
loss is made of unscaled numbers: where a batch without labels, or an overflow in forward, leaves no
finite one, another scale would not help.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile
from typing import Literal

from ..compiler.errors import RecipeError
from ..compiler.formats import I64
from ..compiler.ir import Op, Program, Region, Value, attrs, unused
from ..compiler.types import SCALAR, TensorType
from .carrier import LOSS
from .parts.finite import watched
from .parts.optimized import gradient, updates, widened, with_gradients
from .parts.options import require
from .parts.order import placed


@placed(after=("carrier",))
def loss_scale(
    program: Program,
    *,
    mode: Literal["dynamic", "static"] = "dynamic",
    init: float = 65536.0,
    growth: float = 2.0,
    backoff: float = 0.5,
    interval: int = 2000,
) -> Program:
    """Multiply the loss's gradient by a scale and divide the weight gradients by it.

    The scale is the state ``loss_scale``, at first ``init``; ``loss_scale.good`` counts good steps.
    """
    require(0 < init < 2.0**127, f"init={init:g} of loss_scale is not above 0 and below 2^127")
    require(growth >= 1, f"growth={growth:g} of loss_scale is less than 1")
    require(0 < backoff < 1, f"backoff={backoff:g} of loss_scale is not between 0 and 1")
    require(interval >= 1, f"interval={interval} of loss_scale is less than 1")
    trained = updates(program, clips=True)
    if not trained:
        return program.done("loss_scale")
    taken = program.names()
    if mode == "static":
        return _scaled(program, trained, init, 1 / init, [], taken).done("loss_scale")
    scale, inverse, one = (_scalar(f"loss_scale{end}", taken) for end in ("", ".inverse", ".one"))
    good = Value(unused("loss_scale.good", taken), TensorType((), I64))
    ahead = [
        Op("constant", (), (one,), attrs(value=1.0), LOSS),
        Op("div", (one, scale), (inverse,), origin=LOSS),
    ]
    out, seen = watched(_scaled(program, trained, scale, inverse, ahead, taken), statistics=False)
    after = (
        _scalar("loss_scale.next", taken),
        Value(unused("loss_scale.good.next", taken), good.type),
    )
    rule = attrs(growth=growth, backoff=backoff, interval=interval)
    step = Op("loss_scale_step", (scale, good, *seen), after, rule, LOSS)
    out = out.append("update", (step,)).with_state({scale: init, good: 0.0})
    pairs = zip((scale, good), after, strict=True)
    return replace(out, next=(*out.next, *pairs)).done("loss_scale")


def _scalar(name: str, taken: set[str]) -> Value:
    return Value(unused(name, taken), SCALAR)


def _scaled(
    program: Program,
    trained: tuple[Op, ...],
    scale: Value | float,
    inverse: Value | float,
    ahead: list[Op],
    taken: set[str],
) -> Program:
    """The loss's gradient times ``scale``, what the updates read times ``inverse``."""
    seeds = {op.result for op in _seeds(program)}

    def rule(region: Region, op: Op) -> tuple[Op, ...] | None:
        if op.result not in seeds:
            return None
        plain = Value(unused(f"{op.result.name}.unscaled", taken), op.result.type)
        return (replace(op, results=(plain,)), *_times(plain, scale, op.result, LOSS, taken))

    ops, made = list(ahead), dict[Value, Value]()
    for update in trained:
        g = gradient(update)
        if g not in made:
            made[g] = Value(unused(f"{g.name}.unscaled", taken), g.type)
            ops += _times(g, inverse, made[g], update.origin, taken)
    changed = {op.result: made[gradient(op)] for op in trained}
    return with_gradients(program.rewrite(rule), changed, ops)


def _seeds(program: Program) -> list[Op]:
    """What backward begins with: the gradient of the loss, or those that come from outside."""
    ops, given = program.region("backward").ops, set(program.inputs)
    if ops and ops[0].kind == "constant" and ops[0].origin == LOSS:
        return [ops[0]]
    outside = takewhile(lambda op: op.origin == LOSS and given.issuperset(op.inputs), ops)
    if not (seeds := list(outside)):
        raise RecipeError(
            "loss_scale finds no gradient of the loss at the start of backward to scale; put it "
            "ahead of passes that move ops there"
        )
    return seeds


def _times(x: Value, by: Value | float, made: Value, origin: str, taken: set[str]) -> list[Op]:
    if isinstance(by, float):
        return [Op("scale", (x,), (made,), attrs(factor=by), origin)]
    wide, widening = widened(by, x, origin, taken)
    return [*widening, Op("mul", (x, wide), (made,), origin=origin)]

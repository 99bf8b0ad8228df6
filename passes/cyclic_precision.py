"""Cyclic precision: the bits of weights and activations rise along half a cosine, and again.

"CPT: Efficient Deep Neural Network Training via Cyclic Precision" (Fu et al., ICLR 2021), section
3; formula and rounding are those of the authors' program.

    T    = total / cycles, rounded down
    bits = rint(low + (high - low)/2 (1 - cos(pi (step mod T)/T)))              half to even
    from step cycles T on, in the rest of a run that is no multiple: high

The precision range test (section 3.3) finds ``low``: in the first cycle the bits go up from 2, one
every ``range_test_iters`` steps, and the first number of at least 3 whose accuracy gains more than
``range_test_threshold`` over the one before is taken. Bits are operands: nothing is compiled again.
"""

from __future__ import annotations

from ..compiler.errors import RecipeError
from ..compiler.ir import Op, Program, Value, attrs, unused
from ..compiler.ir.analysis import is_training
from ..compiler.types import SCALAR
from .parts.options import require
from .parts.order import Makes, placed
from .parts.range_test import with_range_test
from .parts.schedule_length import require_fit
from .parts.schedules import (
    INTEGER,
    NOW,
    SCHEDULE,
    TOTAL,
    check_bits,
    check_quantizers,
    scheduled,
    step_counter,
    with_bits,
    with_next,
)

NAME = "cyclic_precision"


@placed(makes=Makes.BITS, after=(Makes.CODES,))
def cyclic_precision(
    program: Program,
    *,
    low: int = 3,
    high: int = 8,
    cycles: int = 32,
    steps: int = 0,
    gradient_low: int = 0,
    gradient_high: int = 0,
    range_test: bool = False,
    range_test_threshold: float = 0.01,
    range_test_iters: int = 100,
) -> Program:
    """Let forward quantizers read bits that follow from the step counter.

    The state ``schedule.total`` is the number of steps of the run; with 0 the bits stay ``high``.
    ``schedule.bits`` are those of the last step, which evaluation reads. The bits of gradients stay
    unless ``gradient_high`` is given. With ``range_test`` the state ``schedule.low`` is 0 until it
    is found; ``low`` is taken where no number of bits gains enough.
    """
    fewest = {"cycles": (cycles, 1), "range_test_iters": (range_test_iters, 1), "steps": (steps, 0)}
    for option, (n, least) in fewest.items():
        require(n >= least, f"{option}={n} of {NAME} is not at least {least}")
    gain = f"range_test_threshold={range_test_threshold:g}"
    require(range_test_threshold > 0, f"{gain} is not above 0")
    require_fit(steps, cycles=cycles, high=high, test=range_test_iters if range_test else 0)
    if not check_quantizers(program, NAME):
        return program.done(NAME)
    check_bits(program, "forward", low, high, f"low={low} and high={high}")
    now = Value(NOW, SCALAR)
    if not is_training(program):
        out = with_bits(program, now, "forward", ())
        return out.with_state({now: float(high)}).done(NAME)
    work = _Cycles(program, cycles, range_test_iters)
    start: int | Value = low
    if range_test:
        program, start = with_range_test(program, low, high, range_test_iters, range_test_threshold)
    program, bits = work.replaced(program, "forward", start, high)
    program = work.gradients(program, gradient_low, gradient_high)
    return with_next(program.with_state({work.total: float(steps)}), now, bits, high).done(NAME)


class _Cycles:
    """What the schedules of forward and backward share."""

    def __init__(self, program: Program, cycles: int, iters: int) -> None:
        self.step, self.total = step_counter(program, NAME), Value(TOTAL, INTEGER)
        self.cycles, self.iters, self.taken = cycles, iters, program.names()

    def gradients(self, program: Program, low: int, high: int) -> Program:
        """``program`` whose gradients cycle as well; with ``high`` 0 they keep their bits."""
        if not high:
            require(not low, f"gradient_low={low} of {NAME} has no effect without gradient_high")
            return program
        both = f"gradient_low={low} and gradient_high={high}"
        if not scheduled(program, "backward"):
            raise RecipeError(f"{both} have no effect: the base's gradients are no affine codes")
        check_bits(program, "backward", low, high, both)
        return self.replaced(program, "backward", low, high)[0]

    def replaced(
        self, program: Program, region: str, low: int | Value, high: int
    ) -> tuple[Program, Value]:
        """``program`` with the cycle from ``low`` to ``high``, and the value of its bits."""
        bits = Value(unused(f"{SCHEDULE}.{region}", self.taken), SCALAR)
        ops: tuple[Op, ...] = ()
        if isinstance(low, int):
            least = Value(unused(f"{SCHEDULE}.{region}.low", self.taken), SCALAR)
            ops = (Op("constant", (), (least,), attrs(value=float(low)), SCHEDULE),)
        else:
            least = low
        how = attrs(high=high, cycles=self.cycles, iters=self.iters)
        made = Op("cyclic_bits", (self.step, self.total, least), (bits,), how, SCHEDULE)
        return with_bits(program, bits, region, (*ops, made)), bits

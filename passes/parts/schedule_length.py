"""Whether a precision schedule fits a run: whole cycles, and the range test within the first."""

from __future__ import annotations

from ...compiler.ir import Program
from .options import require
from .schedules import LEAST


def misfit(steps: int, *, cycles: int, high: int, test: int = 0) -> str:
    """Why ``steps`` cannot hold so many cycles, in a sentence; empty where they can.

    ``test`` are the steps at each number of bits of a range test up to ``high``; 0: there is none.
    """
    length = steps // cycles
    if length == 0:
        return f"{cycles} cycles do not fit {steps} steps; set cycles to {steps} at most"
    tried = high - LEAST + 1
    if test and tried * test > length:
        return (
            f"a range test of {tried} numbers of bits, range_test_iters={test} steps each, does "
            f"not fit the first of {cycles} cycles, {length} steps; set fewer range_test_iters or "
            "cycles"
        )
    return ""


def misfit_of(program: Program, steps: int) -> str:
    """The same of a program with ``cyclic_bits``; empty for one without."""
    ops = [op for _, op in program.ops()]
    test = max((op.int_attr("iters") for op in ops if op.kind == "range_test"), default=0)
    for op in ops:
        if op.kind == "cyclic_bits":
            cycles, high = op.int_attr("cycles"), op.int_attr("high")
            if why := misfit(steps, cycles=cycles, high=high, test=test):
                return why
    return ""


def require_fit(steps: int, *, cycles: int, high: int, test: int) -> None:
    """RecipeError where a known number of steps cannot hold the cycles."""
    why = misfit(steps, cycles=cycles, high=high, test=test) if steps else ""
    require(not why, why)

"""Random draws of a training program: the seed and the step counter that they follow from."""

from __future__ import annotations

from ...compiler.errors import RecipeError
from ...compiler.formats import I64
from ...compiler.ir import SEED, STEP, Program, Value
from ...compiler.ir.analysis import is_training
from ...compiler.types import TensorType


def seed_and_step(program: Program, option: str) -> tuple[Value, ...]:
    """The seed and the step counter; none in a program that only evaluates.

    RecipeError, naming the ``option`` that wants them, where nothing counts the steps.
    """
    if not is_training(program):
        return ()
    known = {v.name: v for v in program.state}
    if STEP not in known:
        raise RecipeError(f"{option} draws new numbers in each step, but nothing counts the steps")
    return known.get(SEED) or Value(SEED, TensorType((), I64)), known[STEP]


def with_seed(program: Program, seed: tuple[Value, ...], used: bool) -> Program:
    """``program`` with the seed of ``seed_and_step`` among its state, where it is new and used."""
    new = bool(seed) and used and seed[0] not in program.state
    return program.with_state({seed[0]: 0.0}) if new else program
